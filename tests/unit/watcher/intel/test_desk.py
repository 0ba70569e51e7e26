# SPDX-License-Identifier: GPL-3.0-or-later
"""The desk as the loop uses it, against a server that behaves in every way there is."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ngfw.firewall.address import Network, parse_host
from ngfw.intel import budget as budget_module
from ngfw.intel import gate as gate_module
from ngfw.intel import lookups as lookups_module
from ngfw.intel.cache import FILE, look
from ngfw.intel.desk import Answer, Desk
from ngfw.intel.mailbox import Case
from ngfw.intel.verdict import PRIVATE_SPACE, State
from ngfw.intel.waiting import Pace
from ngfw.settings.config import AbuseIPDB, Intel, Netset

ONE, TWO, THREE = (parse_host(f"203.0.113.{number}") for number in (1, 2, 3))
PACE = Pace(retry=0.05, retry_most=0.2, failing=0.2)


class Office:
    """A desk, what it said, and the answers that came."""

    def __init__(self, settings: Intel, directory: Path, clock: Callable[[], float], pace: Pace, helper: Any) -> None:
        self.said: list[str] = []
        self.desk = Desk(
            settings, directory, report=lambda text, problem: self.said.append(text), clock=clock, pace=pace
        )
        self.desk.start()
        self.answers: list[Answer] = []
        self._helper = helper

    def state(self, address: Network, case: Case | None = None) -> State:
        """What AbuseIPDB's verdict is when the desk is asked now."""
        return self.desk.ask(address, case)[-1].state

    def collect(self) -> list[Answer]:
        self.answers += self.desk.collect()
        return self.answers

    def answer(self, address: Network, state: State, *, final: bool = True) -> Answer:
        """Wait for an answer of that kind."""

        def found() -> Answer | None:
            for answer in self.collect():
                if (answer.address, answer.verdicts[-1].state, answer.final) == (address, state, final):
                    return answer
            return None

        answer = self._helper.until(found)
        assert isinstance(answer, Answer)
        return answer


@pytest.fixture(name="office")
def _office(tmp_path: Path, abuseipdb: AbuseIPDB, helper: Any) -> Iterator[Callable[..., Office]]:
    """Open a desk; further ones find what the earlier left. Keywords change AbuseIPDB's settings."""
    desks: list[Desk] = []

    def open_desk(
        clock: Callable[[], float] = time.time,
        pace: Pace = PACE,
        netsets: tuple[Netset, ...] = (),
        **settings: Any,
    ) -> Office:
        intel = Intel(netsets=netsets, abuseipdb=replace(abuseipdb, **settings))
        office = Office(intel, tmp_path, clock, pace, helper)
        desks.append(office.desk)
        return office

    yield open_desk
    for desk in desks:
        desk.close()


def test_a_question_is_answered_later(office: Callable[..., Office], server: Any, helper: Any) -> None:
    here = office()
    server.behave = helper.scored(90)
    assert here.state(ONE, Case("rule", "what for")) is State.PENDING
    assert helper.readable(here.desk.fileno())
    answer = here.answer(ONE, State.LISTED)
    assert answer.verdicts[-1].score == 90
    assert answer.cases == {"rule": "what for"}
    assert here.state(ONE) is State.LISTED
    assert here.desk.lookups == {("abuseipdb", "listed"): 1, ("abuseipdb", "cached"): 1}
    here.collect()
    assert not helper.readable(here.desk.fileno(), 0)


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "127.0.0.1", "192.168.0.1", "100.64.0.1", "fd00::1", "fe80::1", "224.0.0.1"]
)
def test_private_addresses_are_never_sent(
    office: Callable[..., Office], server: Any, tmp_path: Path, address: str
) -> None:
    (tmp_path / "list").write_text("10.0.0.0/8\n127.0.0.0/8\n8.8.8.8\n")
    here = office(netsets=(Netset("list", str(tmp_path / "list")),))
    assert here.desk.ask(parse_host(address), Case("a", "b")) == PRIVATE_SPACE
    here.state(TWO)
    here.answer(TWO, State.CLEAN)
    assert [request.query["ipAddress"] for request in server.requests] == [str(TWO)]


def test_a_list_hit_costs_no_request(office: Callable[..., Office], server: Any, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{ONE}\n")
    here = office(netsets=(Netset("firehol_level1", str(tmp_path / "list")), Netset("gone", str(tmp_path / "gone"))))
    assert [verdict.state for verdict in here.desk.ask(ONE)] == [State.LISTED, State.LIST_MISSING]
    assert [verdict.state for verdict in here.desk.ask(TWO)] == [State.CLEAN, State.LIST_MISSING, State.PENDING]
    answer = here.answer(TWO, State.CLEAN)
    assert [verdict.state for verdict in answer.verdicts] == [State.CLEAN, State.LIST_MISSING, State.CLEAN]
    assert len(server.requests) == 1
    assert any("gone: cannot read" in text for text in here.said)
    assert here.desk.files() == [tmp_path / "list", tmp_path / "gone"]
    assert not here.desk.lists_changed()


def test_answers_are_kept_over_a_restart_and_for_their_time(
    office: Callable[..., Office], server: Any, clock: Any
) -> None:
    first = office(clock)
    first.state(ONE)
    first.answer(ONE, State.CLEAN)
    first.desk.close()
    clock.now += 1799
    second = office(clock)
    assert second.state(ONE) is State.CLEAN
    clock.now += 2
    assert second.state(ONE) is State.PENDING
    second.answer(ONE, State.CLEAN)
    assert len(server.requests) == 2


def test_answers_kept_are_bounded(office: Callable[..., Office], tmp_path: Path) -> None:
    here = office(pace=PACE._replace(most_results=2))
    for address in (ONE, TWO, THREE):
        here.state(address)
        here.answer(address, State.CLEAN)
    assert here.state(ONE) is State.PENDING
    assert here.state(THREE) is State.CLEAN
    here.answer(ONE, State.CLEAN)
    here.desk.close()
    with sqlite3.connect(tmp_path / FILE) as database:
        assert database.execute("SELECT count(*) FROM results").fetchone() == (2,)
    database.close()


def test_a_flood_of_one_address_is_one_request(office: Callable[..., Office], server: Any) -> None:
    here = office()
    for _each in range(5000):
        here.state(ONE, Case("rule", "the first text counts"))
    answer = here.answer(ONE, State.CLEAN)
    assert answer.cases == {"rule": "the first text counts"}
    assert len(server.requests) == 1


def test_over_budget_addresses_are_looked_up_later(
    office: Callable[..., Office], server: Any, helper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (budget_module, gate_module):
        monkeypatch.setattr(module, "MINUTE", 0.5)
    server.behave = helper.scored(0)
    here = office(per_minute=2)
    addresses = [parse_host(f"198.51.100.{number}") for number in range(5)]
    for address in addresses:
        assert here.state(address, Case("rule", str(address))) is State.PENDING
    for address in addresses:
        assert here.answer(address, State.CLEAN).cases == {"rule": str(address)}
    over = {answer.address for answer in here.answers if answer.verdicts[-1].state is State.OVER_BUDGET}
    assert len(over) == 3
    assert here.desk.lookups["abuseipdb", "clean"] == 5
    # Said once, not each time.
    assert [text for text in here.said if "used up" in text] == [
        "abuseipdb: the budget of 2 a minute is used up; addresses beyond it are looked up later"
    ]


@pytest.mark.feature("S4", "B2")
def test_all_addresses_of_an_ipv6_network_are_asked_about_once(
    office: Callable[..., Office], server: Any, helper: Any, clock: Any, tmp_path: Path
) -> None:
    addresses = [parse_host(f"2001:db8:7:1::{number:x}") for number in range(1, 301)]
    server.behave = helper.scored(90)
    first = office(clock)
    for address in addresses:
        assert first.state(address, Case(f"rule {address.packed[-1] % 3}", f"for {address}")) is State.PENDING
    answers = {str(first.answer(address, State.LISTED).address) for address in addresses[:3]}
    assert answers == {"2001:db8:7:1::1", "2001:db8:7:1::2", "2001:db8:7:1::3"}
    assert [list(answer.cases.values()) for answer in first.answers] == [
        [f"for 2001:db8:7:1::{number}"] for number in (1, 2, 3)
    ]
    assert [bool(answer.id) for answer in first.answers] == [False, False, True]
    assert {first.state(address) for address in addresses} == {State.LISTED}
    assert len(server.requests) == 1
    first.desk.close()
    assert look(tmp_path / FILE, addresses[-1]).known == (90, clock())

    second = office(clock)
    assert {second.state(address) for address in addresses} == {State.LISTED}
    assert len(server.requests) == 1


@pytest.mark.feature("S4", "B2")
def test_a_site_cannot_use_up_the_budget_of_others(
    office: Callable[..., Office], server: Any, helper: Any, tmp_path: Path
) -> None:
    here = office(per_day=40, per_minute=40)
    hostile = [parse_host(f"2001:db8:7:{number:x}::1") for number in range(300)]
    for address in hostile:
        here.state(address, Case("rule", "x"))
    helper.until(lambda: sum(answer.verdicts[-1].state is State.OVER_BUDGET for answer in here.collect()) == 290)
    for address in (ONE, parse_host("2001:db8:8::1")):
        here.state(address)
        here.answer(address, State.CLEAN)
    assert len(server.requests) == 12
    (detail,) = {a.verdicts[-1].detail for a in here.answers if a.verdicts[-1].state is State.OVER_BUDGET}
    assert detail == "the share of 2001:db8:7::/48 in the budget is used up"


@pytest.mark.feature("U5")
def test_that_there_is_no_key_stays_known_while_one_is_looked_for(
    office: Callable[..., Office], clock: Any, abuseipdb: AbuseIPDB, helper: Any
) -> None:
    key = Path(abuseipdb.key_file)
    text = key.read_text()
    key.unlink()
    here = office(clock)
    here.state(ONE, Case("rule", "x"))
    here.answer(ONE, State.UNKNOWN)
    assert not here.desk.knows_anything()
    clock.now += 31
    assert not here.desk.knows_anything()
    key.write_text(text)
    here.state(TWO, Case("rule", "x"))
    here.answer(TWO, State.CLEAN)
    assert here.desk.knows_anything()


@pytest.mark.feature("S4", "B2")
def test_what_was_put_off_for_its_site_is_asked_when_there_is_a_share_again(
    office: Callable[..., Office], server: Any, monkeypatch: pytest.MonkeyPatch, helper: Any
) -> None:
    monkeypatch.setattr(budget_module, "MINUTE", 0.3)
    here = office(per_minute=4, per_day=400)
    site = [parse_host(f"2001:db8:7:{number:x}::1") for number in range(4)]
    for address in site:
        here.state(address, Case("rule", "x"))
    helper.until(lambda: {each.address for each in here.collect() if each.final} == set(site))
    assert len(server.requests) == len(site)


@pytest.mark.feature("S4")
def test_a_site_drops_only_its_own_open_lookups(office: Callable[..., Office], server: Any, helper: Any) -> None:
    server.behave = server.hang
    here = office(timeout=5.0, pace=Pace(most_open=40))
    here.state(ONE, Case("rule", "x"))
    helper.until(lambda: server.requests)
    here.state(TWO, Case("rule", "x"))
    for number in range(100):
        here.state(parse_host(f"2001:db8:7:{number:x}::1"), Case("rule", "x"))
    helper.until(lambda: len(here.collect()) == 90)
    assert TWO not in {answer.address for answer in here.answers}
    assert here.answers[-1].verdicts[-1].detail == "too many open lookups"


def test_budgets_and_open_lookups_survive_a_kill(
    office: Callable[..., Office], server: Any, clock: Any, tmp_path: Path, helper: Any
) -> None:
    first = office(clock, per_day=1)
    first.state(ONE)
    first.answer(ONE, State.CLEAN)
    for number in range(3):
        first.state(TWO, Case(f"rule {number}", "what for"))
    first.answer(TWO, State.OVER_BUDGET, final=False)
    helper.until(lambda: len(_lookups_in(tmp_path)) == 1)

    # Whoever is killed closes nothing: the next one opens the same file beside it.
    second = office(clock, per_day=1)
    answer = second.answer(TWO, State.OVER_BUDGET, final=False)
    assert sorted(answer.cases) == ["rule 0", "rule 1", "rule 2"]
    assert len(server.requests) == 1
    second.desk.close()
    clock.now += 86400
    third = office(clock, per_day=1)
    answer = third.answer(TWO, State.CLEAN)
    assert answer.cases["rule 1"] == "what for"
    assert len(server.requests) == 2
    third.desk.close()

    # The answer had no effect before that run ended, so it is given again, from memory.
    fourth = office(clock, per_day=1)
    answer = fourth.answer(TWO, State.CLEAN)
    fourth.desk.done(answer)
    fourth.desk.close()
    fifth = office(clock, per_day=1)
    assert _lookups_in(tmp_path) == []
    assert fifth.state(TWO) is State.CLEAN
    assert len(server.requests) == 2


def _lookups_in(directory: Path) -> list[Any]:
    with sqlite3.connect(directory / FILE) as database:
        rows = database.execute("SELECT * FROM lookups").fetchall()
    database.close()
    return rows


def test_429_is_honoured_over_a_restart(office: Callable[..., Office], server: Any, clock: Any, helper: Any) -> None:
    server.behave = lambda request: helper.http(429, Retry_After="120")
    first = office(clock)
    first.state(ONE, Case("rule", "x"))
    answer = first.answer(ONE, State.OVER_BUDGET, final=False)
    assert "again in 120 s" in answer.verdicts[-1].detail
    assert first.state(ONE) is State.OVER_BUDGET
    assert any("HTTP 429 (Too Many Requests): again in 120 s" in text for text in first.said)
    first.desk.close()
    server.behave = helper.scored(3)
    clock.now += 119
    second = office(clock)
    second.answer(ONE, State.OVER_BUDGET, final=False)
    assert len(server.requests) == 1
    second.desk.close()
    clock.now += 2
    third = office(clock)
    third.answer(ONE, State.CLEAN)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("silent", "timeout: no answer within 0.1 s"),
        ("refusing", "connection: refused"),
        ("broken", "HTTP 500 (Internal Server Error)"),
        ("lying", "HTML instead of JSON"),
        ("redirecting", "redirect: HTTP 302 (Found), which is not followed"),
        ("huge", "huge: more than 65536 bytes"),
        ("garbled", "bad JSON"),
        ("scoreless", "no score in the answer"),
    ],
)
def test_errors_are_named_kept_briefly_and_tried_again(
    office: Callable[..., Office], server: Any, helper: Any, kind: str, text: str
) -> None:
    server.behave = {
        "silent": server.hang,
        "refusing": None,
        "broken": lambda request: helper.http(500),
        "lying": lambda request: helper.http(200, "<html>"),
        "redirecting": lambda request: helper.http(302, Location=server.url),
        "huge": lambda request: helper.http(200, "x" * 100_000),
        "garbled": lambda request: helper.http(200, "{"),
        "scoreless": lambda request: helper.http(200, "{}"),
    }[kind]
    if kind == "refusing":
        server.close()
    here = office(timeout=0.1)
    here.state(ONE, Case("rule", "x"))
    answer = here.answer(ONE, State.ERROR, final=False)
    assert answer.verdicts[-1].detail == text
    assert f"abuseipdb: {ONE}: {text}" in here.said
    assert here.state(ONE) is State.ERROR
    if kind != "refusing":
        server.behave = helper.scored(80)
        assert here.answer(ONE, State.LISTED).cases == {"rule": "x"}
        assert here.state(ONE) is State.LISTED


def test_errors_end_some_time(office: Callable[..., Office], server: Any, helper: Any) -> None:
    server.behave = lambda request: helper.http(500)
    here = office(pace=PACE._replace(attempts=2))
    here.state(ONE, Case("rule", "x"))
    here.answer(ONE, State.ERROR, final=True)
    assert len(server.requests) == 2
    assert here.state(ONE) is State.PENDING  # a new hit asks anew


def test_a_connection_closed_in_between_is_tried_once_more_at_once(
    office: Callable[..., Office], server: Any, helper: Any
) -> None:
    answers = iter([None, helper.scored(80)])

    def behave(request: Any) -> Any:
        answer = next(answers)
        return answer and answer(request)

    server.behave = behave
    here = office(pace=Pace(retry=1000.0))
    here.state(ONE)
    here.answer(ONE, State.LISTED)
    assert len(server.requests) == 2


def test_a_provider_that_fails_again_and_again_is_left_alone_for_a_while(
    office: Callable[..., Office], server: Any, helper: Any
) -> None:
    server.behave = lambda request: helper.http(500)
    here = office(pace=Pace(retry=1000.0, failing=1000.0))
    for number in range(6):
        here.state(parse_host(f"198.51.100.{number}"))
    helper.until(lambda: len([each for each in here.collect() if each.verdicts[-1].state is State.ERROR]) == 6)
    assert len(server.requests) == 3
    details = {answer.verdicts[-1].detail for answer in here.answers}
    assert details == {
        "HTTP 500 (Internal Server Error)",
        "3 requests in a row failed, the last: HTTP 500 (Internal Server Error)",
    }


def test_answers_that_say_nothing_are_no_reason_to_leave_the_provider_alone(
    office: Callable[..., Office], server: Any, helper: Any
) -> None:
    answers = iter([(422, ""), (404, ""), (200, "x"), (200, "{}"), (200, "<html>"), (200, '{"data": {}}')])
    server.behave = lambda request: helper.http(*next(answers))
    here = office(pace=Pace(retry=1000.0, failing=1000.0))
    for number in range(6):
        here.state(parse_host(f"198.51.100.{number}"))
    helper.until(lambda: len([each for each in here.collect() if each.verdicts[-1].state is State.ERROR]) == 6)
    assert len(server.requests) == 6


def test_without_a_key_the_state_is_unknown_and_said_once(
    office: Callable[..., Office], server: Any, abuseipdb: AbuseIPDB, clock: Any
) -> None:
    key = Path(abuseipdb.key_file)
    key.rename(key.with_name("away"))
    here = office(clock)
    here.state(ONE, Case("rule", "x"))
    here.answer(ONE, State.UNKNOWN)
    assert here.state(TWO) is State.UNKNOWN
    clock.now += 31
    here.state(TWO)
    here.answer(TWO, State.UNKNOWN)
    assert here.said == [f"abuseipdb is not asked: no key: {key} is not there"]
    key.with_name("away").rename(key)
    clock.now += 31
    assert here.state(TWO) is State.PENDING
    here.answer(TWO, State.CLEAN)
    assert len(server.requests) == 1


def test_servers_that_drip_for_ever_hold_up_nobody_else(
    office: Callable[..., Office], server: Any, helper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups_module, "_IMPORT_SECONDS", 0.5)
    dripping = server.drip(b"HTTP/1.1 200 Fine\r\nX: " + b"x" * 60_000, 0.02)
    server.behave = lambda request: (
        dripping(request) if request.query["ipAddress"] == str(ONE) else helper.scored(75)(request)
    )
    here = office(timeout=0.1, pace=Pace(retry=1000.0))
    here.state(ONE)
    answer = here.answer(ONE, State.ERROR, final=False)
    assert answer.verdicts[-1].detail == "timeout: the answer did not end in time"
    here.state(TWO)
    here.answer(TWO, State.LISTED)


def test_requests_that_never_end_are_bounded(
    office: Callable[..., Office], server: Any, helper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups_module, "_IMPORT_SECONDS", 0.2)
    monkeypatch.setattr(gate_module, "MAX_HANGING", 2)
    asked = []

    def resolve(*arguments: Any, **_more: Any) -> list[Any]:
        """A resolver that never answers, which is all that a request cannot be cut off from."""
        asked.append(arguments)
        server.ended.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    here = office(timeout=0.05, pace=Pace(retry=1000.0, failures=100, failing=1000.0))
    for number in range(5):
        here.state(parse_host(f"198.51.100.{number}"))
    helper.until(lambda: len([each for each in here.collect() if each.verdicts[-1].state is State.ERROR]) == 5)
    assert len(asked) == 2
    assert sum(thread.name == "ngfw-request" for thread in threading.enumerate()) <= 2
    assert {answer.verdicts[-1].detail for answer in here.answers} >= {"2 requests hang"}


def test_the_loop_waits_for_no_server_and_no_disk(
    office: Callable[..., Office], server: Any, helper: Any, tmp_path: Path
) -> None:
    server.behave = server.hang
    here = office(timeout=30.0)
    here.state(ONE)
    helper.until(lambda: server.requests)
    holder = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for number in range(2000):
        address = Network((0xC6336400 + number).to_bytes(4, "big"), 32)
        assert here.state(address, Case("rule", "x")) is State.PENDING
    # All that was asked and told while the first request was not answered, and nobody could write the file.
    assert here.desk.collect() == []
    assert len(server.requests) == 1
    holder.execute("ROLLBACK")
    holder.close()


def test_too_many_open_lookups_drop_the_oldest(office: Callable[..., Office], server: Any) -> None:
    server.behave = server.hang
    here = office(timeout=5.0, pace=Pace(most_open=2))
    for address in (ONE, TWO, THREE):
        here.state(address, Case("rule", "x"))
    answer = here.answer(ONE, State.OVER_BUDGET)
    assert answer.verdicts[-1].detail == "too many open lookups"
    assert any("more than 2 lookups are open" in text for text in here.said)


def test_the_newest_goes_first(office: Callable[..., Office], server: Any, clock: Any, helper: Any) -> None:
    first = office(clock, per_minute=1)
    first.state(ONE)
    first.answer(ONE, State.CLEAN)
    for address in (TWO, THREE):
        first.state(address)
        first.answer(address, State.OVER_BUDGET, final=False)
    first.desk.close()
    clock.now += 61
    second = office(clock, per_minute=1)
    second.answer(THREE, State.CLEAN)
    second.answer(TWO, State.OVER_BUDGET, final=False)


def test_a_late_case_gets_an_answer_too(office: Callable[..., Office], server: Any, clock: Any) -> None:
    here = office(clock, per_minute=1)
    here.state(ONE)
    here.answer(ONE, State.CLEAN)
    here.state(TWO, Case("first", "1"))
    here.state(TWO, Case("second", "2"))
    deadline = time.monotonic() + 10
    seen: dict[str, str] = {}
    while len(seen) < 2 and time.monotonic() < deadline:
        for answer in here.desk.collect():
            assert answer.verdicts[-1].state is State.OVER_BUDGET
            seen.update(answer.cases)
        time.sleep(0.005)
    assert seen == {"first": "1", "second": "2"}


@pytest.mark.parametrize("kind", ["silent", "dripping", "idle"])
def test_it_closes_within_a_second(office: Callable[..., Office], server: Any, helper: Any, kind: str) -> None:
    if kind == "silent":
        server.behave = server.hang
    elif kind == "dripping":
        server.behave = server.drip(b"HTTP/1.1 200 Fine\r\nX: " + b"x" * 60_000, 0.02)
    here = office(timeout=30.0)
    if kind != "idle":
        here.state(ONE)
        helper.until(lambda: server.requests)
    began = time.monotonic()
    here.desk.close()
    assert time.monotonic() - began < 5.0


def test_another_configuration(office: Callable[..., Office], server: Any, tmp_path: Path, helper: Any) -> None:
    (tmp_path / "list").write_text(f"{ONE}\n")
    here = office()
    server.behave = helper.scored(60)
    here.state(TWO)
    here.answer(TWO, State.CLEAN)
    other = Intel(
        threshold=50, netsets=(Netset("list", str(tmp_path / "list")),), abuseipdb=here.desk._lookups._settings
    )
    here.desk.adopt(other)
    helper.until(lambda: here.desk.ask(ONE)[0].state is State.LISTED)
    helper.until(lambda: here.state(TWO) is State.LISTED)


def test_a_list_that_changed_is_read(office: Callable[..., Office], tmp_path: Path, helper: Any) -> None:
    path = tmp_path / "list"
    path.write_text("9.9.9.9\n")
    here = office(netsets=(Netset("list", str(path)),))
    assert here.desk.ask(ONE)[0].state is State.CLEAN
    (tmp_path / "fresh").write_text(f"{ONE}\n")
    os.replace(tmp_path / "fresh", path)
    here.desk.read_lists()
    helper.until(lambda: here.desk.ask(ONE)[0].state is State.LISTED)


def test_a_damaged_file_costs_only_what_was_in_it(office: Callable[..., Office], tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"garbage" * 1000)
    here = office()
    here.state(ONE)
    here.answer(ONE, State.CLEAN)
    assert any("was put aside" in text for text in here.said)


@pytest.mark.feature("U7")
def test_health_names_a_key_that_is_missing(office: Callable[..., Office], tmp_path: Path) -> None:
    assert office().desk.health()[-1]["state"] == "ok"
    without = office(key_file=str(tmp_path / "nowhere")).desk.health()[-1]
    assert (without["state"], without["detail"]) == ("no key", f"no key: {tmp_path}/nowhere is not there")
    (tmp_path / "empty").write_text("\n")
    assert office(key_file=str(tmp_path / "empty")).desk.health()[-1]["state"] == "no key"
    assert office(per_day=0).desk.health()[-1]["state"] == "off"


def test_a_case_is_bounded(office: Callable[..., Office]) -> None:
    here = office()
    with pytest.raises(ValueError, match="more than 8192"):
        here.desk.ask(ONE, Case("rule", "x" * 9000))


def test_importing_it_does_not_import_requests() -> None:
    import subprocess
    import sys

    code = "import sys, ngfw.intel.desk; sys.exit('requests' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(lookups_module.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.feature("U5")
def test_it_says_whether_anybody_can_be_of_bad_reputation(
    office: Callable[..., Office], tmp_path: Path, helper: Any
) -> None:
    nowhere, path = str(tmp_path / "nowhere"), tmp_path / "list"
    here = office(key_file=nowhere, netsets=(Netset("list", str(path)),))
    here.state(ONE)
    helper.until(lambda: not here.desk.knows_anything())
    path.write_text("203.0.113.0/24\n")
    here.desk.read_lists()
    helper.until(here.desk.knows_anything)
    assert office().desk.knows_anything()  # with a key
