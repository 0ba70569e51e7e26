# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import json
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ngfw.firewall import listformat
from ngfw.firewall.address import parse_host
from ngfw.intel import netsets as subject
from ngfw.intel.download import DownloadError
from ngfw.intel.mailbox import Mailbox, Said
from ngfw.intel.netsets import Netsets
from ngfw.intel.ranges import read_ranges
from ngfw.intel.upkeep import Upkeep
from ngfw.intel.verdict import State
from ngfw.intel.web import Web
from ngfw.settings.config import Netset

BAD, GOOD = parse_host("5.5.5.5"), parse_host("8.8.8.8")


class Lists:
    """Netsets, and what they reported."""

    def __init__(self, *settings: Netset) -> None:
        self.said: list[str] = []
        self.netsets = Netsets(settings, report=lambda text, problem: self.said.append(text))

    def states(self, address: str = "5.5.5.5") -> list[State]:
        return [verdict.state for verdict in self.netsets.verdicts(parse_host(address))]

    def fetch(self, now: float) -> None:
        """Fetch what is due, here and now."""
        for which, job in self.netsets.fetches(now):
            self.netsets.fetched(which, job(Web("test"), lambda: None), now)


def write(path: Path, text: str) -> None:
    """Replace a file, as a tool that takes care does."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    os.replace(fresh, path)


def test_several_lists_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("5.5.5.5\n")
    (tmp_path / "b").write_text("5.5.0.0/16\n2001:db8::/32\n")
    lists = Lists(*(Netset(f"list_{name}", str(tmp_path / name)) for name in "abc"))
    assert lists.states() == [State.LIST_MISSING] * 3
    lists.netsets.load(100.0)
    assert lists.states("5.5.5.5") == [State.LISTED, State.LISTED, State.LIST_MISSING]
    assert lists.states("5.5.6.6") == [State.CLEAN, State.LISTED, State.LIST_MISSING]
    assert lists.states("2001:db8::7") == [State.CLEAN, State.LISTED, State.LIST_MISSING]
    verdicts = lists.netsets.verdicts(BAD)
    assert [verdict.provider for verdict in verdicts] == ["list_a", "list_b", "list_c"]
    assert [verdict.score for verdict in verdicts] == [None] * 3
    assert verdicts[0].at == 100.0
    assert str(tmp_path / "c") in verdicts[2].detail
    assert lists.said[0] == "netset list_a: 1 entries"
    assert lists.said[2] == f"netset list_c: cannot read {tmp_path / 'c'} (No such file or directory); without it"
    assert lists.netsets.files() == [tmp_path / name for name in "abc"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("5.5.5.5\n")
    lists = Lists(Netset("list", str(path)))
    assert lists.netsets.changed()
    lists.netsets.load(1.0)
    assert not lists.netsets.changed()
    write(path, "6.6.6.6\n")
    assert lists.netsets.changed()
    lists.netsets.load(2.0)
    assert lists.states("5.5.5.5") == [State.CLEAN]
    assert lists.states("6.6.6.6") == [State.LISTED]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it holds no usable address"),
        ("# nothing yet\n", "it holds no usable address"),
        ("<!DOCTYPE html>\n<p>5.5.5.5", "line 1, '<!DOCTYPE html>', looks like a page of HTML; what is read"),
        ("  <HTML>5.5.5.5", "line 1, '<HTML>5.5.5.5', looks like a page of HTML; what is read"),
        ("10.0.0.0/8\n127.0.0.1\n", "it holds no usable address; the first line left out: 10.0.0.0/8"),
        ("7.7.7.7\nnot\nan\naddress\n", "3 of its 4 entries are no addresses; the first: 'not'"),
        ("\n".join(f"{octet}.0.0.0/8" for octet in range(20, 53)), "it covers 13% of all IPv4 addresses"),
        (
            "\n".join(f"{n:x}:{m:x}::/19" for n in range(0x2000, 0x3001) for m in (0, 0x2000)),
            "it covers 13% of 2000::/3",
        ),
    ],
)
def test_a_bad_file_leaves_the_last_good_list(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "list"
    path.write_text("5.5.5.5\n")
    lists = Lists(Netset("list", str(path)))
    lists.netsets.load(1.0)
    write(path, content)
    lists.netsets.load(2.0)
    assert lists.states() == [State.LISTED]
    (said,) = lists.said[1:]
    assert said.startswith(f"netset list: {path}: {reason}")
    assert said.endswith("; the last good list (1) stays")
    fresh = Lists(Netset("list", str(path)))
    fresh.netsets.load(3.0)
    assert fresh.states() == [State.LIST_MISSING]
    assert reason in fresh.netsets.verdicts(BAD)[0].detail


def test_huge_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list"
    path.write_text("5.5.5.5\n6.6.6.6\n")
    monkeypatch.setattr(subject, "read_ranges", partial(read_ranges, most=1))
    lists = Lists(Netset("list", str(path)))
    lists.netsets.load(1.0)
    assert lists.states() == [State.LIST_MISSING]
    assert "more than 1 entries" in lists.said[0]
    monkeypatch.setattr(listformat, "MAX_BYTES", 10)
    write(path, "5.5.5.5\n# and more\n")
    lists.netsets.load(2.0)
    assert "huge: more than 10 bytes" in lists.said[1]


def test_a_file_that_is_gone_leaves_the_last_good_list(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("5.5.5.5\n")
    lists = Lists(Netset("list", str(path)))
    lists.netsets.load(1.0)
    path.unlink()
    for now in (2.0, 3.0):
        lists.netsets.load(now)
    assert lists.states() == [State.LISTED]
    assert len(lists.said) == 2


def test_lines_left_out_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("10.0.0.0/8\n5.5.5.5\n6.6.6.6\n")
    lists = Lists(Netset("list", str(path)))
    lists.netsets.load(1.0)
    assert lists.said[0].startswith("netset list: 2 entries; 1 lines left out, the first: 10.0.0.0/8 (not public")


def test_a_list_is_fetched_and_then_only_if_it_changed(tmp_path: Path, server: Any, helper: Any) -> None:
    path = tmp_path / "list"
    lists = Lists(Netset("list", str(path), server.url, 3600))
    lists.netsets.load(1000.0)
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.behave = lambda request: helper.http(200, "5.5.5.5\n", ETag='"one"', Last_Modified=date)
    lists.fetch(1000.0)
    assert lists.states() == [State.LISTED]
    assert path.read_text() == "5.5.5.5\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert server.url not in (tmp_path / "list.http").read_text(), "it may hold a secret"
    assert "if-none-match" not in server.requests[0].headers
    assert not lists.netsets.changed()

    assert lists.netsets.due(1000.0) == 3600
    lists.fetch(4599.0)
    assert len(server.requests) == 1
    server.behave = lambda request: helper.http(304)
    lists.fetch(4600.0)
    assert server.requests[1].headers["if-none-match"] == '"one"'
    assert server.requests[1].headers["if-modified-since"] == date
    assert lists.states() == [State.LISTED]
    assert lists.netsets.due(4600.0) == 3600

    # The validators and the time of the last look survive a restart.
    again = Lists(Netset("list", str(path), server.url, 3600))
    again.netsets.load(5000.0)
    assert again.netsets.due(5000.0) == 3200
    again.fetch(8200.0)
    assert server.requests[2].headers["if-none-match"] == '"one"'


def test_validators_count_only_for_the_file_and_the_address_they_came_with(
    tmp_path: Path, server: Any, helper: Any
) -> None:
    path = tmp_path / "list"
    server.behave = lambda request: helper.http(200, "5.5.5.5\n", ETag='"one"')
    lists = Lists(Netset("list", str(path), server.url))
    lists.fetch(1000.0)
    for change in ("file", "address", "validators"):
        url = server.url
        if change == "file":
            write(path, "6.6.6.6\n")
        elif change == "address":
            url = server.url + "/other"
        else:
            (tmp_path / "list.http").write_text('{"source": 1}')
        again = Lists(Netset("list", str(path), url))
        again.netsets.load(2000.0)
        assert again.netsets.due(2000.0) == 0
        again.fetch(2000.0)
        assert "if-none-match" not in server.requests[-1].headers
        assert again.states() == [State.LISTED]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, "", "it holds no usable address"),
        (200, "<!doctype html>sorry", "line 1, '<!doctype html>sorry', looks like a page of HTML; what is read"),
        (200, "sorry\n", "line 1, 'sorry', looks like no address; what is read"),
        (
            200,
            "".join(f"5.5.5.{number}\n" for number in range(99)),
            "it shrank from 200 to 99 entries; if that is meant, remove the file in force first",
        ),
        (404, "5.5.5.5\n", "HTTP 404 (Not Found)"),
        (503, "", "HTTP 503 (Service Unavailable)"),
        (304, "", "HTTP 304 (Not Modified)"),
        (206, "5.5.5.5\n", "HTTP 206 (Partial Content)"),
    ],
)
def test_a_bad_download_leaves_the_last_good_list(
    tmp_path: Path, server: Any, helper: Any, status: int, body: str, reason: str
) -> None:
    path = tmp_path / "list"
    good = "5.5.5.5\n" + "".join(f"20.0.{number}.0\n" for number in range(199))
    path.write_text(good)
    lists = Lists(Netset("list", str(path), server.url, 3600))
    lists.netsets.load(1000.0)
    server.behave = lambda request: helper.http(status, body)
    for now in (1000.0, 1060.0):
        lists.fetch(now)
    assert lists.states() == [State.LISTED]
    assert path.read_text() == good
    assert sorted(each.name for each in tmp_path.iterdir()) == ["list"]
    # Said once, not at every attempt; and tried again after growing pauses.
    (said,) = lists.said[1:]
    assert said.startswith(f"netset list: {server.url} was not taken: {reason}")
    assert said.endswith("; the last good list (200) stays")
    assert lists.netsets.due(1060.0) == 120
    server.behave = lambda request: helper.http(200, good + "6.6.6.6\n")
    lists.fetch(1180.0)
    assert lists.states("6.6.6.6") == [State.LISTED]


@pytest.mark.feature("S12")
def test_no_secret_of_its_address_is_said(tmp_path: Path) -> None:
    secret = "http://joe:hunter2@127.0.0.1:9/list?key=s3cr3t"
    lists = Lists(Netset("list", str(tmp_path / "list"), secret, 3600))
    lists.fetch(1000.0)
    (which,) = lists.netsets._lists
    error = DownloadError(f"an error of this program, ValueError: {secret} and /list?key=s3cr3t")
    lists.netsets.fetched(which, error, 1e9)
    said = [*lists.said, *(health["detail"] for health in lists.netsets.health())]
    said += [verdict.detail for verdict in lists.netsets.verdicts(BAD)]
    assert any("http://***@127.0.0.1:9/list?key=*** was not taken" in text for text in said)
    assert not any(part in text for text in said for part in ("hunter2", "s3cr3t", "joe"))


def test_a_list_that_shrank_is_taken_where_the_file_was_removed(tmp_path: Path, server: Any, helper: Any) -> None:
    path = tmp_path / "list"
    path.write_text("".join(f"20.0.{number}.0\n" for number in range(200)))
    lists = Lists(Netset("list", str(path), server.url, 3600))
    lists.netsets.load(1000.0)
    server.behave = lambda request: helper.http(200, "5.5.5.5\n")
    lists.fetch(1000.0)
    assert lists.states() == [State.CLEAN]
    path.unlink()
    lists.netsets.load(1010.0)
    lists.fetch(1100.0)
    assert lists.states() == [State.LISTED]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("closed", "connection: closed without an answer"),
        ("refused", "connection: refused"),
        ("short", "cut short"),
        ("huge", "huge: more than 10000 bytes"),
        ("silent", "timeout: no answer within 0.2 s"),
        ("drip", "timeout: the answer did not end in time"),
        ("dripping header", "timeout: the answer did not end in time"),
        ("redirects", "redirect: more than 5"),
    ],
)
def test_broken_servers(
    tmp_path: Path, server: Any, helper: Any, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    from ngfw.intel import download

    monkeypatch.setattr(download, "MAX_BYTES", 10000)
    monkeypatch.setattr(download, "_TIMEOUT", 0.2)
    monkeypatch.setattr(download, "_WITHIN", 0.5)
    path = tmp_path / "list"
    lists = Lists(Netset("list", str(path), server.url))

    def cut(_request: Any) -> Any:
        yield helper.http(200, "5.5.5.5\n" * 20)[:-30]
        server.close()

    server.behave = {
        "closed": lambda request: None,
        "refused": server.hang,
        "short": cut,
        "huge": lambda request: helper.http(200, "5.5.5.5\n" * 2000),
        "silent": server.hang,
        "drip": server.drip(helper.http(200, "5.5.5.5\n" * 1000), 0.0005),
        "dripping header": server.drip(b"HTTP/1.1 200 Fine\r\nX: " + b"x" * 60_000, 0.02),
        "redirects": lambda request: helper.http(302, Location=server.url),
    }[kind]
    if kind == "refused":
        server.close()
    lists.fetch(1000.0)
    assert len(lists.said) == 1
    assert reason in lists.said[0]
    assert lists.states() == [State.LIST_MISSING]
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_is_followed_for_lists(tmp_path: Path, server: Any, helper: Any) -> None:
    lists = Lists(Netset("list", str(tmp_path / "list"), server.url + "?old=1"))
    server.behave = lambda request: (
        helper.http(301, Location=server.url) if request.query else helper.http(200, "5.5.5.5\n")
    )
    lists.fetch(1000.0)
    assert lists.states() == [State.LISTED]


@pytest.mark.feature("S4")
@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/list", "http://["])
def test_a_redirect_elsewhere_is_not_followed(tmp_path: Path, server: Any, helper: Any, location: str) -> None:
    lists = Lists(Netset("list", str(tmp_path / "list"), server.url))
    server.behave = lambda request: helper.http(302, Location=location)
    lists.fetch(1000.0)
    assert "redirect: a redirect to no http or https address" in lists.said[0]
    assert len(server.requests) == 1


@pytest.mark.feature("S4")
def test_a_redirect_with_a_body_without_end_is_not_read_to_it(tmp_path: Path, server: Any, helper: Any) -> None:
    sent = []

    def behave(request: Any) -> Any:
        if request.query:
            return helper.http(200, "5.5.5.5\n")
        return endless()

    def endless() -> Any:
        yield b"HTTP/1.1 302 Found\r\nLocation: " + server.url.encode() + b"?new=1\r\n\r\n"
        for _piece in range(1000):
            sent.append(1)
            yield bytes(1 << 20)

    server.behave = behave
    lists = Lists(Netset("list", str(tmp_path / "list"), server.url))
    lists.fetch(1000.0)
    assert lists.states() == [State.LISTED]
    assert len(sent) < 100


@pytest.mark.feature("S4")
def test_a_file_that_shrank_is_taken_once_it_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("".join(f"20.0.{number}.0\n" for number in range(200)))
    lists = Lists(Netset("list", str(path)))
    lists.netsets.load(1.0)
    write(path, "5.5.5.5\n")
    lists.netsets.load(2.0)
    assert lists.states() == [State.CLEAN]
    assert "it shrank from 200 to 1 entries" in lists.said[1]
    path.unlink()
    lists.netsets.load(3.0)
    write(path, "5.5.5.5\n")
    lists.netsets.load(4.0)
    assert lists.states() == [State.LISTED]


@pytest.mark.feature("S11")
def test_a_packed_list_of_another_form(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(gzip.compress(b"; DROP\r\n5.5.0.0/16 ; SBL1\r\n"))
    lists = Lists(Netset("list", str(path)))
    lists.netsets.load(1.0)
    assert lists.states() == [State.LISTED]
    assert lists.said == ["netset list: 1 entries"]


def test_a_directory_that_cannot_be_written(tmp_path: Path, server: Any, helper: Any) -> None:
    server.behave = lambda request: helper.http(200, "5.5.5.5\n")
    lists = Lists(Netset("list", str(tmp_path / "missing" / "list"), server.url))
    lists.fetch(1000.0)
    assert "cannot write" in lists.said[0]
    assert "let the watcher's user write there" in lists.said[0]


def test_hostile_validators_are_not_kept(tmp_path: Path, server: Any, helper: Any) -> None:
    server.behave = lambda request: helper.http(200, "5.5.5.5\n", ETag="x" * 5000)
    lists = Lists(Netset("list", str(tmp_path / "list"), server.url, 60))
    lists.fetch(1000.0)
    assert json.loads((tmp_path / "list.http").read_text())["etag"] is None


def test_a_clock_set_back_does_not_stop_refreshing(tmp_path: Path, server: Any, helper: Any) -> None:
    server.behave = lambda request: helper.http(200, "5.5.5.5\n")
    settings = Netset("list", str(tmp_path / "list"), server.url, 3600)
    lists = Lists(settings)
    lists.fetch(9_000_000.0)
    assert lists.netsets.due(1000.0) == 3600
    assert Lists(settings).netsets.due(1000.0) == 0


def test_another_configuration_keeps_the_lists_that_stay(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text("5.5.5.5\n")
    lists = Lists(Netset("a", str(tmp_path / "a")))
    lists.netsets.load(1.0)
    lists.netsets.adopt([Netset("b", str(tmp_path / "b")), Netset("a", str(tmp_path / "a"), "http://127.0.0.1/", 60)])
    assert lists.states() == [State.LIST_MISSING, State.LISTED]
    lists.netsets.load(2.0)
    assert lists.states() == [State.LISTED, State.LISTED]
    assert len(lists.said) == 2


def test_the_upkeep_reads_and_fetches_beside_the_loop(tmp_path: Path, server: Any, helper: Any) -> None:
    local, remote, hanging = tmp_path / "local", tmp_path / "remote", tmp_path / "hanging"
    server.behave = lambda request: server.hang(request) if request.query else helper.http(200, "5.5.5.5\n")
    settings = (
        Netset("local", str(local)),
        Netset("hanging", str(hanging), server.url + "?hang=1"),
        Netset("remote", str(remote), server.url),
    )
    mailbox = Mailbox()
    netsets = Netsets(settings, report=lambda text, problem: mailbox.put(Said(text, problem)))
    upkeep = Upkeep(netsets, mailbox, clock=lambda: 1000.0)

    def states() -> list[State]:
        return [verdict.state for verdict in netsets.verdicts(BAD)]

    upkeep.start()
    helper.until(lambda: states()[2] is State.LISTED)
    write(local, "5.5.5.5\n")
    upkeep.look()
    helper.until(lambda: states()[0] is State.LISTED)
    assert states()[1] is State.LIST_MISSING
    assert helper.readable(mailbox.fileno())
    assert "netset local: 1 entries" in [mail.text for mail in mailbox.take() if isinstance(mail, Said)]
    assert upkeep.close(1.0)


@pytest.mark.feature("B4")
def test_a_file_that_was_missing_is_looked_for_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper: Any
) -> None:
    monkeypatch.setattr("ngfw.intel.upkeep.MISSING_SECONDS", 0.05)
    settings = (Netset("first", str(tmp_path / "first")), Netset("second", str(tmp_path / "second")))
    write(tmp_path / "first", "9.9.9.9\n")
    netsets = Netsets(settings, report=lambda text, problem: None)
    upkeep = Upkeep(netsets, Mailbox(), clock=lambda: 1000.0)
    upkeep.start()
    helper.until(lambda: [verdict.state for verdict in netsets.verdicts(BAD)] == [State.CLEAN, State.LIST_MISSING])
    write(tmp_path / "second", "5.5.5.5\n")
    helper.until(lambda: [verdict.state for verdict in netsets.verdicts(BAD)] == [State.CLEAN, State.LISTED])
    assert upkeep.close(1.0)


def test_upkeep_ends_in_the_middle_of_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list"
    path.write_text("".join(f"20.{a}.{b}.0\n" for a in range(100) for b in range(100)))
    netsets = Netsets([Netset("list", str(path))])
    upkeep = Upkeep(netsets, Mailbox(), clock=lambda: 1000.0)
    reading, go_on = threading.Event(), threading.Event()
    breathe = upkeep._breathe

    def slowly() -> None:
        reading.set()
        go_on.wait(10)
        breathe()

    monkeypatch.setattr(upkeep, "_breathe", slowly)
    upkeep.start()
    assert reading.wait(10)
    threading.Timer(0.05, go_on.set).start()
    assert upkeep.close(5.0)
    assert netsets.verdicts(BAD)[0].state is State.LIST_MISSING
