# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from ngfw import database
from ngfw.decisions.history import History
from ngfw.display import explain, journals
from ngfw.display.explain import alerts, explained_lines, history, touching
from ngfw.firewall.address import parse_network, to_key
from ngfw.firewall.entry import Block
from ngfw.intel import cache

ADDRESS = parse_network("203.0.113.7")


REPORT = pytest.fail


def decision(number: int, ip: str = "203.0.113.7") -> str:
    fields = {"ts": f"2025-09-02T11:24:{number % 60:02d}.000Z", "ip": ip, "action": "block", "sid": number, "msg": "x"}
    return json.dumps(fields, separators=(",", ":")) + "\n"


def alert(sid: object, msg: str, ip: str = "203.0.113.7", second: int = 45) -> str:
    return f'2025-09-02 11:24:{second} ALERT {ip} (REPUTATION SCORE: -) [RULE High] SID={sid} MSG="{msg}"\n'


@pytest.mark.feature("E5")
def test_the_history_is_found_in_rotated_and_compressed_journals(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "alerts.json.2.gz", "wt") as stream:
        stream.write(decision(1) + decision(2, "203.0.113.77"))
    (tmp_path / "alerts.json.1").write_text(decision(3) + '{"ip":"203.0.113.7",torn\n')
    (tmp_path / "alerts.json").write_text(decision(4) + decision(5, "203.0.113.0/24"))
    for name, moment in (("alerts.json.2.gz", 1), ("alerts.json.1", 2), ("alerts.json", 3)):
        os.utime(tmp_path / name, (moment, moment))
    assert [item["sid"] for item in history(tmp_path, [ADDRESS], REPORT)] == [1, 3, 4]
    assert [item["sid"] for item in history(tmp_path, [parse_network("203.0.113.0/24")], REPORT)] == [5]
    assert history(tmp_path / "none", [ADDRESS], REPORT) == []


@pytest.mark.feature("S1")
def test_what_is_no_journal_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "alerts.json").write_text("[" * 100_000 + '"ip":"203.0.113.7"\n["ip":"203.0.113.7"]\n' + decision(1))
    os.mkfifo(tmp_path / "alerts.json.1")
    (tmp_path / "alerts.json.2").symlink_to("/dev/zero")
    (tmp_path / "alerts.json.3").mkdir()
    (tmp_path / "alerts.json.4.gz").write_bytes(gzip.compress(decision(2).encode() * 9)[:-8])
    said: list[str] = []
    assert [item["sid"] for item in history(tmp_path, [ADDRESS], said.append)][-1] == 1
    assert sorted(text.partition(" ")[2] for text in said) == [
        "cannot be unpacked: Compressed file ended before the end-of-stream marker was reached",
        "is a FIFO, not a regular file; remove it",
        "is a directory, not a regular file; remove it",
        "is a symbolic link, not a regular file; remove it",
    ]


@pytest.mark.feature("S1")
def test_of_huge_journals_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "MAX_BYTES", 8 << 20)
    with (tmp_path / "alerts.json").open("wb") as stream:
        stream.write(decision(1).encode())
        stream.truncate(1 << 40)
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n" + decision(2).encode() + b"\n" + decision(3).encode())
    said: list[str] = []
    assert [item["sid"] for item in history(tmp_path, [ADDRESS], said.append)] == [2, 3]
    assert said == [f"only the newest 8 MiB of {tmp_path / 'alerts.json'} and its rotated files were read"]


@pytest.mark.feature("S1")
def test_a_packed_journal_is_unpacked_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "MAX_BYTES", 2 << 20)
    (tmp_path / "alerts.json.1.gz").write_bytes(gzip.compress(decision(1).encode() + b"\0" * (100 << 20)))
    read = 0

    class Counted(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal read
            data = super().read(size)
            read += len(data)
            return data

    monkeypatch.setattr(journals.gzip, "open", lambda stream: Counted(fileobj=stream))
    history(tmp_path, [ADDRESS], lambda text: None)
    assert 0 < read <= 2 << 20


@pytest.mark.feature("S1")
@pytest.mark.parametrize(
    "view",
    [
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n WHERE i < 0",
        "SELECT {} FROM (SELECT randomblob(900000000) AS {})",
        "SELECT 'text' AS {}",
        "SELECT 9e99 AS {}",
    ],
)
def test_a_database_that_is_a_trap_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str) -> None:
    monkeypatch.setattr(database, "_LOOK_SECONDS", 0.2)
    key, at = f"x'{to_key(ADDRESS).hex()}'", view.replace("{}", "at")
    with sqlite3.connect(tmp_path / "history.sqlite") as made:
        made.executescript(f"CREATE VIEW offences AS SELECT {key} AS network, at FROM ({at})")
    with sqlite3.connect(tmp_path / "intel.sqlite") as made:
        made.executescript(
            f"CREATE TABLE lookups (address, asked_at); CREATE VIEW results AS SELECT {key} AS address, "
            f"7 AS score, at FROM ({at})"
        )
    assert explain.offences(tmp_path, [ADDRESS], REPORT) == []
    assert cache.look(tmp_path / "intel.sqlite", ADDRESS) == (None, None)


@pytest.mark.feature("S1")
def test_databases_are_seen_while_their_owner_works_and_left_alone(tmp_path: Path) -> None:
    past = History(tmp_path / "history.sqlite", report=lambda text, problem: pytest.fail(text))
    past.open()
    now = time.time()
    past.add([Block(ADDRESS)], now, 0.0)
    before = {path.name: path.stat() for path in tmp_path.iterdir()}
    assert "history.sqlite-wal" in before
    assert len(explain.offences(tmp_path, [ADDRESS], REPORT)) == 1
    assert {path.name: path.stat()[:9] for path in tmp_path.iterdir()} == {
        name: status[:9] for name, status in before.items()
    }
    past.close()
    assert explain.offences(tmp_path / "none", [ADDRESS], REPORT) == []
    (tmp_path / "history.sqlite").unlink()
    os.mkfifo(tmp_path / "history.sqlite")
    said: list[str] = []
    assert explain.offences(tmp_path, [ADDRESS], said.append) == []
    assert said == [f"{tmp_path / 'history.sqlite'} is a FIFO, not a regular file; remove it"]


@pytest.mark.feature("S12")
@pytest.mark.parametrize("sid", ["\u00b2", "\u0665", "9" * 5000])
def test_a_line_with_a_signature_that_is_no_number_stops_nothing(tmp_path: Path, sid: str) -> None:
    (tmp_path / "alert.log").write_text(alert(sid, "x"))
    assert [item["sid"] for item in alerts(tmp_path, ADDRESS, REPORT)] == [None]


@pytest.mark.feature("A8")
def test_further_signatures_are_counted_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "MAX_ALERTS", 3)
    monkeypatch.setattr(explain, "MAX_HISTORY", 2)
    forged = alert(9, 'y" ALERT 203.0.113.7 (', ip="203.0.113.8")
    (tmp_path / "alert.log").write_text(
        alert(1, "first", second=10) + alert(2, 'a \\"quoted\\" one') * 3 + forged + alert("-", "") + alert(4, "much")
    )
    (tmp_path / "alerts.json").write_text("".join(map(decision, range(5))))
    found = alerts(tmp_path, ADDRESS, REPORT)
    assert [(item["sid"], item["count"], item["msg"]) for item in found] == [
        (2, 3, 'a "quoted" one'),
        (1, 1, "first"),
        (None, 1, ""),
    ]
    assert found[1]["first"] == found[1]["last"]
    assert [item["sid"] for item in history(tmp_path, [ADDRESS], REPORT)] == [3, 4]


def test_networks_around_and_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"address": text} for text in ("203.0.113.0/24", "203.0.113.7", "203.0.113.8", "2001:db8::/64")]
    assert [item["address"] for item in touching(items, ADDRESS)] == ["203.0.113.0/24", "203.0.113.7"]
    assert len(touching(items, parse_network("203.0.0.0/16"))) == 3


def test_what_people_read() -> None:
    kinds = ("blocks", "whitelist", "reputation", "offences", "blocklists", "other_chains", "history", "alerts")
    nothing: dict[str, Any] = {kind: [] for kind in kinds}
    assert explained_lines({"address": "203.0.113.7", **nothing}) == ["203.0.113.7", "  not blocked"]
    block = {
        "address": "203.0.113.0/24",
        "action": "drop",
        "target": "source",
        "rule_name": "High",
        "reason": 'a "reason"',
        "remaining": 90,
        "expires_at": "2025-09-02T11:26:15Z",
        "packets": 3,
    }
    item = {"address": "203.0.113.7", "origin": "config", "comment": "office"}
    guarded = [item, {**item, "origin": "protected", "comment": ""}]
    rating = {"provider": "abuseipdb", "state": "listed", "score": 90, "detail": "score 90", "at": None}
    listed = {"name": "bad", "target": "source", "network": "203.0.0.0/16"}
    told = {"sid": 7, "msg": "x", "count": 2, "first": "2025-09-02T11:24:45Z", "last": "2025-09-02T11:24:45Z"}
    past = {"ts": "2025-09-02T11:24:45.000Z", "action": "block", "ip": "203.0.113.7", "rule": "High", "reason": "r"}
    lines = "\n".join(
        explained_lines(
            {
                "address": "203.0.113.7",
                "blocks": [block],
                "whitelist": guarded,
                "reputation": [rating],
                "offences": ["2025-09-02T10:24:45Z", "2025-09-02T11:24:45Z"],
                "blocklists": [listed],
                "other_chains": [],
                "history": [{**past, "sid": 7, "msg": "one\ntwo"}],
                "alerts": [told],
            }
        )
    )
    assert (
        '  drop by source as 203.0.113.0/24: rule High [a \\"reason\\"], 1m30s left, until 2025-09-02T11:26:15Z'
        in lines
    )
    assert "abuseipdb: listed (score 90)" in lines
    assert "blocked 2 times that are remembered, last 2025-09-02T11:24:45Z" in lines
    assert "whitelisted (config) by 203.0.113.7 (office)" in lines
    assert "protected by 203.0.113.7: " in lines
    assert "  on blocklist bad (source) as 203.0.0.0/16" in lines
    assert "one\\x0atwo" in lines


@pytest.mark.feature("S1")
@pytest.mark.parametrize("action", [["block"], {}, 7, None])
def test_a_decision_of_another_form_is_none(tmp_path: Path, action: object) -> None:
    fields = {"ip": "203.0.113.7", "action": action, "dry_run": True, "reason": "x", "rule": "x"}
    (tmp_path / "alerts.json").write_text(json.dumps(fields, separators=(",", ":")) + "\n" + decision(2))
    assert [item["sid"] for item in history(tmp_path, [ADDRESS], REPORT)] == [2]
