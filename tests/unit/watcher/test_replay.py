# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ngfw.commands import SHIPPED_RULES
from ngfw.decisions.decision import Decision
from ngfw.events.eve import parse_time
from ngfw.events.tail import Chunk
from ngfw.firewall.address import NetworkSet, parse_host, parse_network
from ngfw.replay import MAX_LINE, Summary, chunks, replay, summary_lines, to_dict, to_text
from ngfw.rules.load import load_rules, parse_rules
from ngfw.settings.config import Config, Escalation

RULES = b"""
rules:
  - name: High
    type: alert
    expression: alert.severity == 1
    severity: high
    actions:
      - {type: iptables_block, config: {duration: 30m}}
"""
ANY = RULES.replace(b"alert.severity == 1", b"alert.severity <= 255").replace(
    b"    actions:", b"    spoofable: true\n    actions:"
)

_DATA = Path(os.environ.get("NGFW_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


def alert(second: int, source: str = "203.0.113.7", **changes: Any) -> bytes:
    record = {
        "timestamp": f"2025-09-02T11:{second // 60:02d}:{second % 60:02d}.000000+0000",
        "event_type": "alert",
        "src_ip": source,
        "dest_ip": "192.0.2.1",
        "proto": "TCP",
        "app_proto": "http",
        "alert": {"gid": 1, "signature_id": 7, "signature": 'Some\n"thing"', "severity": 1},
        "flow": {"pkts_toserver": 4, "pkts_toclient": 3, "src_ip": source, "dest_ip": "192.0.2.1"},
    }
    return json.dumps({**record, **changes}, separators=(",", ":")).encode() + b"\n"


def run(
    paths: Iterable[Path], config: Config | None = None, rules: bytes = RULES, **options: str
) -> tuple[list[Decision], Summary]:
    decisions: list[Decision] = []
    said: list[str] = []
    summary = replay(
        list(paths),
        config or Config.default(),
        parse_rules(rules, "test.yml"),
        on_decision=decisions.append,
        report=said.append,
        **options,
    )
    return decisions, summary


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "eve.json"


def test_blocks_end_by_the_events_own_clock(log: Path) -> None:
    log.write_bytes(alert(0) + alert(1799) + alert(1800) + alert(1801, "203.0.113.8"))
    decisions, summary = run([log])
    assert [(decision.ip, decision.time % 3600) for decision in decisions] == [
        ("203.0.113.7", 11 * 3600 % 3600),
        ("203.0.113.7", 1800),
        ("203.0.113.8", 1801),
    ]
    assert summary.metrics.duplicates_skip == 1


def test_a_packed_log_is_unpacked_and_a_damaged_one_is_named(log: Path) -> None:
    packed = log.with_name("eve.json.1.gz")
    packed.write_bytes(gzip.compress(alert(0)))
    decisions, _summary = run([packed])
    assert [decision.ip for decision in decisions] == ["203.0.113.7"]
    for damaged in (packed.read_bytes()[:-12], b"\x1f\x8b" + bytes(30), alert(0)):
        packed.write_bytes(damaged)
        with pytest.raises(OSError, match=f"cannot be unpacked: .*{packed}"):
            run([packed])


def test_a_json_line_has_the_fields_of_the_contract(log: Path) -> None:
    log.write_bytes(alert(0) + alert(1, "10.0.0.1"))
    decisions, _summary = run([log])
    block, skip = (to_dict(decision) for decision in decisions)
    assert " ".join(block) == "ts action ip target rule reason duration sid msg score sources"
    assert block["ts"] == "2025-09-02T11:00:00.000Z"
    assert (block["action"], block["duration"], block["sid"]) == ("block", 1800, 7)
    assert (skip["action"], skip["reason"]) == ("skip", "outbound: INTERNAL/PRIVATE (skipped)")


def test_people_get_one_line_a_decision_and_a_summary(log: Path) -> None:
    log.write_bytes(alert(0) + alert(1) + alert(600, "203.0.113.8") + alert(2, "10.0.0.1") + b"nonsense\n")
    decisions, summary = run([log])
    lines = [to_text(decision) for decision in decisions]
    assert lines[0] == (
        '2025-09-02T11:00:00.000Z would block 203.0.113.7 for 30m [RULE High] by High SID=7 "Some\\x0a\\"thing\\""'
    )
    text = "\n".join(summary_lines(summary))
    assert "4 events, 1 invalid lines, 4 hits of rules, 2 blocks and other actions that would have been taken" in text
    assert "refused: 1 outbound" in text
    assert text.count("#") > 2
    assert "2025-09-02T11:00:00.000Z      1 " in text


def test_an_empty_log_has_a_summary(log: Path) -> None:
    log.write_bytes(b"")
    decisions, summary = run([log])
    assert decisions == []
    assert "0 events" in "\n".join(summary_lines(summary))


def test_special_networks_are_protected_and_the_host_is_not_looked_at(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket
    import subprocess

    def forbidden(*_args: object, **_more: object) -> None:
        raise AssertionError("a replay must not look at the machine")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(subprocess, "run", forbidden)
    log.write_bytes(alert(0, "127.0.0.1") + alert(1, "224.0.0.5") + alert(2, "fe80::1"))
    decisions, _summary = run([log])
    assert [decision.what.reason.partition(":")[0] for decision in decisions] == ["protected"] * 3


def test_the_whitelist_of_the_configuration_counts(log: Path) -> None:
    log.write_bytes(alert(0))
    decisions, _summary = run([log], replace(Config.default(), whitelist={parse_network("203.0.113.0/24"): ""}))
    assert decisions[0].what.reason == "whitelist: 203.0.113.0/24"


def test_the_format_is_seen_in_the_file(tmp_path: Path) -> None:
    fast = tmp_path / "fast.log"
    fast.write_text(
        "09/02/2025-11:24:45.000001  [**] [1:7:1] TEST [**] [Classification: x] [Priority: 1] "
        "{TCP} 203.0.113.7:40000 -> 192.0.2.1:80\n"
    )
    eve = tmp_path / "eve.json"
    eve.write_bytes(b'torn"}\n\n' + alert(0, "203.0.113.8"))
    decisions, _summary = run([fast, eve])
    assert [decision.ip for decision in decisions] == ["203.0.113.7", "203.0.113.8"]
    decisions, summary = run([fast], log_format="eve")
    assert (decisions, summary.metrics.lines_invalid) == ([], 1)


@pytest.mark.feature("A10")
@pytest.mark.parametrize("prefix", [b"@cee: ", b"suricata: ", b"Nov 28 20:00:00 host suricata[12]: ", b"\xef\xbb\xbf"])
def test_eve_with_a_prefix_is_seen_as_such(log: Path, prefix: bytes) -> None:
    log.write_bytes(prefix + alert(0, "203.0.113.8"))
    decisions, _summary = run([log])
    assert [decision.ip for decision in decisions] == ["203.0.113.8"]


@pytest.mark.feature("A4", "F8")
def test_a_run_of_nuls_ends_a_line_as_it_does_live(log: Path) -> None:
    first, second, third = (alert(0, f"203.0.113.{last}") for last in (1, 2, 3))
    log.write_bytes(first + second[:40] + b"\0" * 5000 + second + third)
    decisions, summary = run([log])
    assert [decision.ip for decision in decisions] == ["203.0.113.1", "203.0.113.2", "203.0.113.3"]
    assert summary.metrics.lines_invalid == 2


def reference(data: bytes) -> tuple[bytes, int]:
    kept, dropped = io.BytesIO(), 0
    for line in data.split(b"\n"):
        if len(line) + 1 > MAX_LINE:
            dropped += 1
        elif line:
            kept.write(line + b"\n")
    return kept.getvalue(), dropped


@pytest.mark.feature("A4")
@pytest.mark.parametrize(
    "data",
    [
        b"{}\n" * 10,
        b"{}\n" * 400_000,
        b"{}\n{}",
        b"{" + b"x" * (3 << 20),
        b"{" + b"x" * (3 << 20) + b"\n{}\n",
        b"{}\n" + b"x" * (1 << 20) + b"\n{}\n" + b"y" * (5 << 20) + b"\n{}\n{}",
        (b"{" + b"x" * 700_000 + b"\n") * 7,
        b"{" + b"x" * ((1 << 20) - 2) + b"\n{}\n",
    ],
    ids=["short", "long", "torn end", "one giant", "giant first", "giants between", "large lines", "just fits"],
)
def test_lines_survive_the_cuts_between_steps(log: Path, data: bytes) -> None:
    log.write_bytes(data)
    found: list[Chunk] = list(chunks(log))
    assert all(chunk.data == b"" or chunk.data.endswith(b"\n") for chunk in found)
    assert all(len(chunk.data) <= 2 * MAX_LINE + 1 for chunk in found)
    assert (b"".join(chunk.data for chunk in found), sum(chunk.discarded for chunk in found)) == reference(data)


@pytest.mark.feature("A7")
@pytest.mark.parametrize("rules", ["shipped", "any alert"])
def test_the_corpus_leads_to_no_wrong_block(rules: str) -> None:
    files = sorted((_DATA / "suricata").glob("*/eve.json"))
    if not files:
        pytest.skip(f"no recorded Suricata output in {_DATA}")
    decisions: list[Decision] = []
    records: dict[tuple[object, ...], dict[str, Any]] = {}
    chosen = load_rules([SHIPPED_RULES]) if rules == "shipped" else parse_rules(ANY, "any.yml")
    for path in files:
        for record in map(json.loads, path.read_text().splitlines()):
            if record["event_type"] == "alert":
                records[parse_time(record["timestamp"]), record["alert"]["signature_id"], record.get("src_ip")] = record
        replay([path], Config.default(), chosen, on_decision=decisions.append, report=lambda text: None)
    counts = Counter(decision.action for decision in decisions)
    assert counts["block"] >= (4 if rules == "shipped" else 20)
    inside = NetworkSet(Config.default().home_net)
    for decision in decisions:
        if decision.action == "skip":
            continue
        assert decision.block is not None
        address = decision.block.network
        assert inside.covering(address) is None
        record = records[decision.time, decision.what.sid, decision.of_record[1]]
        alert_ = record["alert"]
        initiator = record.get("flow", {}).get("src_ip", record["src_ip"])
        named = alert_.get("source", {}).get("ip")
        assert address.contains(parse_host(named or initiator))
        assert not 2200000 <= alert_["signature_id"] < 2300000 or alert_["gid"] != 1


@pytest.mark.feature("A6")
def test_fast_log_of_the_corpus_agrees_with_eve_on_who_is_blocked() -> None:
    folders = [path.parent for path in sorted((_DATA / "suricata").glob("*/fast.log"))]
    if not folders:
        pytest.skip(f"no recorded Suricata output in {_DATA}")
    for folder in folders:
        if folder.name.endswith(("@xffow", "@own")):
            continue  # EVE was overwritten by a header; only EVE has the side that a signature names
        decisions, _summary = run([folder / "fast.log"])
        wanted, _summary = run([folder / "eve.json"])
        guessed = {decision.ip for decision in decisions if decision.action != "skip"}
        known = {decision.ip for decision in wanted if decision.ip}
        assert guessed <= known


@pytest.mark.feature("D5", "F8")
def test_an_offender_that_comes_back_is_blocked_for_longer_wherever_the_file_is_cut(log: Path) -> None:
    config = replace(Config.default(), escalation=Escalation(factor=2, max=86_400, memory=2000))
    brief = RULES.replace(b"30m", b"10s")
    log.write_bytes(alert(0) + alert(11) + alert(32) + alert(2600))
    decisions, _summary = run([log], config, brief)
    assert [decision.what.duration for decision in decisions] == [10, 20, 40, 10]
