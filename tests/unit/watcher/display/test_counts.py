# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ngfw.display.counts import open_counts
from ngfw.firewall.address import Network, parse_network
from ngfw.rules.load import RuleSet, parse_rules
from ngfw.settings.config import Config, LogSource

NOW = 1_756_812_285.0
RULES = parse_rules(
    b"""
rules:
  - {name: SSH brute force, type: ssh, expression: true, threshold: 20, threshold_window: 2m}
  - {name: Network, type: ssh, expression: true, threshold: 50, group_by: [offender/24], threshold_window: 1h}
  - {name: Scan, type: alert, expression: true, threshold: 15, distinct: dest_port, group_by: [offender, dest_ip]}
  - {name: Once, type: alert, expression: true}
""",
    "x.yml",
)


def line(at: float, source: str, event_type: str = "ssh", **changes: Any) -> str:
    stamp = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f+0000")
    record = {"timestamp": stamp, "event_type": event_type, "src_ip": source, "dest_ip": "192.0.2.1", "proto": "TCP"}
    return json.dumps({**record, **changes}, separators=(",", ":")) + "\n"


def counts(
    path: Path, address: str, now: float = NOW, rules: RuleSet = RULES, guarded: tuple[Network, ...] = ()
) -> Any:
    config = replace(Config.default(), sources=(LogSource(str(path)),))
    found = open_counts(config, rules, parse_network(address), host_networks=(), guarded=guarded, now=now)
    return [(each["rule"], each["count"], each["threshold"], each["distinct"], each["left"]) for each in found]


@pytest.mark.feature("U5")
def test_open_counts_are_found_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    text = line(NOW - 300, "203.0.113.7")
    text += "".join(line(NOW - 40 + number, "203.0.113.7") for number in range(12))
    text += "".join(line(NOW - 20, "203.0.113.8") for _ in range(3))
    text += "".join(line(NOW - 10, "203.0.113.7", "alert", dest_port=port) for port in (22, 22, 80))
    text += line(NOW - 5, "198.51.100.1")
    path.write_text(text)
    before = path.stat()
    assert counts(path, "203.0.113.7") == [
        ("SSH brute force", 12, 20, None, 80.0),
        ("Network", 16, 50, None, 3300.0),
        ("Scan", 2, 15, "dest_port", 50.0),
    ]
    assert counts(path, "203.0.113.9") == [("Network", 16, 50, None, 3300.0)]
    assert counts(path, "203.0.113.7", NOW + 85)[0] == ("SSH brute force", 7, 20, None, 0.0)
    assert counts(path, "203.0.113.7", NOW + 7200) == []
    assert counts(path, "192.0.2.99") == []
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.feature("U5", "S2")
def test_what_may_be_forged_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    path.write_text(line(NOW - 9, "203.0.113.7") * 3 + line(NOW - 9, "203.0.113.7", proto="UDP") * 4)
    config = replace(Config.default(), sources=(LogSource(str(path)),))
    found = open_counts(config, RULES, parse_network("203.0.113.7"), host_networks=(), guarded=(), now=NOW)
    assert [(each["count"], each["forgeable"]) for each in found if each["threshold"] == 20] == [(3, False), (4, True)]


@pytest.mark.feature("U5")
def test_a_count_that_reached_its_threshold_has_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    path.write_text("".join(line(NOW - 30 + number, "203.0.113.7") for number in range(22)))
    assert counts(path, "203.0.113.7")[0] == ("SSH brute force", 2, 20, None, 110.0)


@pytest.mark.feature("U5")
def test_an_ipv6_address_is_counted_with_its_network(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    path.write_text("".join(line(NOW - 9, f"2001:db8:7::{number}") for number in range(1, 6)))
    assert counts(path, "2001:db8:7::99")[0] == ("SSH brute force", 5, 20, None, 111.0)
    guarded = (parse_network("2001:db8:7::5"),)
    assert counts(path, "2001:db8:7::1", guarded=guarded)[0] == ("SSH brute force", 1, 20, None, 111.0)
    assert counts(path, "2001:db8:7::99", guarded=guarded) == []


@pytest.mark.feature("U5")
def test_logs_that_are_not_there_or_are_none_count_nothing(tmp_path: Path) -> None:
    assert counts(tmp_path / "none.json", "203.0.113.7") == []
    assert counts(tmp_path, "203.0.113.7") == []
    (tmp_path / "eve.json").write_bytes(b"\xff{]\n" * 50)
    assert counts(tmp_path / "eve.json", "203.0.113.7") == []
