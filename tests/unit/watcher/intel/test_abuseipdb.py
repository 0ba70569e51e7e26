# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from ngfw.firewall.address import parse_host
from ngfw.intel.abuseipdb import Client, Result, read_key
from ngfw.intel.verdict import State
from ngfw.settings.config import AbuseIPDB

ADDRESS = parse_host("203.0.113.7")


def check(settings: AbuseIPDB, clock: Any, address: str = "203.0.113.7") -> Result:
    return Client(settings, clock=clock).check(parse_host(address), "sesame")


def test_the_question_and_the_answer(server: Any, abuseipdb: AbuseIPDB, clock: Any, helper: Any) -> None:
    server.behave = helper.scored(90)
    assert check(abuseipdb, clock) == Result(State.CLEAN, 90)
    request = server.requests[0]
    assert request.path == "/api/v2/check"
    assert request.query == {"ipAddress": "203.0.113.7", "maxAgeInDays": "90"}
    assert request.headers["key"] == "sesame"
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("reflex.ngfw/")
    assert check(abuseipdb, clock, "2001:db8::7").score == 90
    assert server.requests[1].query["ipAddress"] == "2001:db8::7"


def body(**fields: Any) -> str:
    return json.dumps({"data": {"ipAddress": "203.0.113.7", **fields}})


def about(address: Any) -> str:
    return json.dumps({"data": {"ipAddress": address, "abuseConfidenceScore": 5}})


@pytest.mark.parametrize(
    ("status", "content", "detail"),
    [
        (200, "{", "bad JSON"),
        (200, "", "bad JSON"),
        (200, "[" * 60000, "bad JSON"),
        (200, "<html>hello</html>", "HTML instead of JSON"),
        (200, "[]", "no score in the answer"),
        (200, '{"data": []}', "no score in the answer"),
        (200, body(), "no score in the answer"),
        (200, '{"errors": [{"detail": "no"}]}', "no score in the answer"),
        (200, body(abuseConfidenceScore="90"), "the score is not a number from 0 to 100"),
        (200, body(abuseConfidenceScore=True), "the score is not a number from 0 to 100"),
        (200, body(abuseConfidenceScore=101), "the score is not a number from 0 to 100"),
        (200, body(abuseConfidenceScore=-1), "the score is not a number from 0 to 100"),
        (200, body(abuseConfidenceScore=1e400), "the score is not a number from 0 to 100"),
        (200, body(abuseConfidenceScore=None), "the score is not a number from 0 to 100"),
        (200, about("8.8.8.8"), "the answer is about another address"),
        (200, about(7), "the answer is about another address"),
        (200, " " * 70000, "huge: more than 65536 bytes"),
        (204, "", "HTTP 204 (No Content)"),
        (404, "", "HTTP 404 (Not Found)"),
        (422, body(abuseConfidenceScore=90), "HTTP 422 (Unprocessable Entity)"),
        (500, "", "HTTP 500 (Internal Server Error)"),
        (503, "<html>", "HTTP 503 (Service Unavailable)"),
        (599, "", "HTTP 599"),
    ],
)
def test_every_bad_answer_has_its_own_result(
    server: Any, abuseipdb: AbuseIPDB, clock: Any, helper: Any, status: int, content: str, detail: str
) -> None:
    server.behave = lambda request: helper.http(status, content)
    result = check(abuseipdb, clock)
    assert result.state is State.ERROR
    assert result.detail in (detail, detail.replace("Entity", "Content"))
    assert result.score is None
    assert result.sent
    assert not result.pause


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_does_not_travel(server: Any, abuseipdb: AbuseIPDB, clock: Any, helper: Any, status: int) -> None:
    server.behave = lambda request: helper.http(status, Location=server.url + "/elsewhere")
    result = check(abuseipdb, clock)
    assert result.state is State.ERROR
    assert result.detail.startswith(f"redirect: HTTP {status}")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_accepted(server: Any, abuseipdb: AbuseIPDB, clock: Any, helper: Any, status: int) -> None:
    server.behave = lambda request: helper.http(status)
    result = check(abuseipdb, clock)
    assert result.state is State.ERROR
    assert f"the key in {abuseipdb.key_file} was not accepted" in result.detail
    assert "sesame" not in result.detail
    assert result.pause == 300


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ({"Retry_After": "120"}, 120),
        ({"Retry_After": "0"}, 1),
        ({"Retry_After": "999999999"}, 86400),
        ({"Retry_After": "-5"}, 60),
        ({"Retry_After": "soon"}, 60),
        ({}, 60),
        ({"Retry_After": formatdate(1_800_000_300, usegmt=True)}, 300),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1),
    ],
)
def test_too_many_requests(
    server: Any, abuseipdb: AbuseIPDB, clock: Any, helper: Any, header: dict[str, str], pause: float
) -> None:
    server.behave = lambda request: helper.http(429, **header)
    result = check(abuseipdb, clock)
    assert (result.state, result.pause) == (State.OVER_BUDGET, pause)
    assert result.detail == f"HTTP 429 (Too Many Requests): again in {pause} s"


def test_a_server_that_is_not_there(server: Any, abuseipdb: AbuseIPDB, clock: Any) -> None:
    server.close()
    assert check(abuseipdb, clock) == Result(State.ERROR, None, "connection: refused", sent=False, outage=True)
    nowhere = replace(abuseipdb, url="http://host.invalid/check")
    result = check(nowhere, clock)
    assert result.detail.startswith(("connection: failed", "connection: the proxy"))
    assert not result.sent


def test_a_server_that_is_silent(server: Any, abuseipdb: AbuseIPDB, clock: Any) -> None:
    server.behave = server.hang
    began = time.monotonic()
    assert check(abuseipdb, clock) == Result(State.ERROR, None, "timeout: no answer within 0.3 s", outage=True)
    assert time.monotonic() - began < 5


def test_a_server_that_drips(server: Any, abuseipdb: AbuseIPDB, clock: Any, helper: Any) -> None:
    server.behave = server.drip(helper.http(200, body(abuseConfidenceScore=90) + " " * 5000), 0.0005)
    result = check(abuseipdb, clock)
    assert result.state is State.ERROR
    assert result.detail == "timeout: the answer did not end in time"


def test_a_server_that_hangs_up(server: Any, abuseipdb: AbuseIPDB, clock: Any, helper: Any) -> None:
    server.behave = lambda request: None
    assert check(abuseipdb, clock) == Result(
        State.ERROR, None, "connection: closed without an answer", again=True, outage=True
    )
    whole = helper.http(200, body(abuseConfidenceScore=90))

    def cut(_request: Any) -> Any:
        yield whole[:-10]
        server.close()

    server.behave = cut
    assert check(abuseipdb, clock).detail.startswith("cut short")


def test_one_connection_for_many_questions(server: Any, abuseipdb: AbuseIPDB, clock: Any) -> None:
    client = Client(abuseipdb, clock=clock)
    for _each in range(3):
        assert client.check(ADDRESS, "sesame").score == 0
    assert len(server._sockets) == 1


def test_a_netrc_is_not_looked_at(
    server: Any, abuseipdb: AbuseIPDB, clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    check(abuseipdb, clock)
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (None, "no key: PATH is not there"),
        ("", "no key: PATH does not hold one"),
        ("two words", "no key: PATH does not hold one"),
        ("caf\u00e9", "no key: PATH does not hold one"),
        ("x" * 300, "no key: PATH does not hold one"),
    ],
)
def test_the_key_file(abuseipdb: AbuseIPDB, content: str | None, detail: str) -> None:
    path = Path(abuseipdb.key_file)
    assert read_key(abuseipdb) == "sesame"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    result = read_key(abuseipdb)
    assert isinstance(result, Result)
    assert result.state is State.UNKNOWN
    assert result.detail == detail.replace("PATH", str(path))
    assert not result.sent


def test_a_key_file_that_cannot_be_read(abuseipdb: AbuseIPDB, tmp_path: Path) -> None:
    result = read_key(replace(abuseipdb, key_file=str(tmp_path)))
    assert isinstance(result, Result)
    assert result.detail == f"no key: cannot read {tmp_path} (is a directory, not a regular file)"


@pytest.mark.parametrize("budget", [{"per_minute": 0}, {"per_day": 0}])
def test_a_budget_of_nothing_switches_it_off(abuseipdb: AbuseIPDB, budget: dict[str, int]) -> None:
    result = read_key(replace(abuseipdb, **budget))
    assert isinstance(result, Result)
    assert result.state is State.UNKNOWN
