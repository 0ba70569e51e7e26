# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ngfw.decisions.decision import Decision, Outcome
from ngfw.effects.wording import Lines, alert_line, decision_lines, ending_lines, iso_time, refused_lines
from ngfw.firewall.address import parse_network
from ngfw.firewall.entry import Action, Block, Entry, Origin

from .conftest import decision

STAMP = "2025-09-02 11:24:45"


@pytest.mark.feature("E1")
def test_a_line_has_the_form_of_the_contract() -> None:
    known = decision(score=0, reason="REPUTATION BLOCK (source=firehol)", ip="10.0.0.1")
    assert decision_lines(known, now=1756812285.0, stamp=STAMP, dry_run=False).text == (
        "2025-09-02 11:24:45 BLOCKED 10.0.0.1 (REPUTATION SCORE: 0) [REPUTATION BLOCK (source=firehol)] "
        'SID=2000004 MSG="TEST ICMP Ping Detected"\n'
    )
    bare = decision(sid=None, msg=None, ip="")
    assert alert_line(bare, STAMP) == ('2025-09-02 11:24:45 ALERT - (REPUTATION SCORE: -) [RULE Ping] SID=- MSG=""\n')


@pytest.mark.feature("E2")
def test_alerts_json_has_the_fields_of_the_contract() -> None:
    lines = decision_lines(decision(), now=1756812290.0, stamp=STAMP, dry_run=False)
    text = (
        "ts ip action target rule reason score sources sid msg duration expires_at event_type src_ip src_port "
        "dest_ip dest_port proto dry_run"
    )
    assert " ".join(json.loads(lines.record)) == text
    fields = json.loads(lines.record)
    assert fields["ts"] == "2025-09-02T11:24:45.500Z"
    assert fields["expires_at"] == "2025-09-02T11:54:50.000Z"
    assert (fields["action"], fields["duration"], fields["src_port"]) == ("block", 1800, 40000)


@pytest.mark.feature("E2")
def test_verbs_follow_the_outcome() -> None:
    longer = decision(outcome=Outcome.EXTENDED)
    skipped = decision(outcome=Outcome.SKIPPED, block=None, action="skip", reason="outbound", duration=None)
    limit = decision(action="rate_limit", block=Block(parse_network("203.0.113.7"), Action.RATE_LIMIT))
    permanent = decision(block=Block(parse_network("203.0.113.7"), duration=0), duration=0)

    def lines(value: Decision) -> Lines:
        return decision_lines(value, now=0.0, stamp=STAMP, dry_run=False)

    assert " EXTENDED 203.0.113.7 " in lines(longer).text
    assert json.loads(lines(longer).record)["action"] == "extend"
    assert lines(skipped).text == ""
    assert json.loads(lines(skipped).record)["expires_at"] is None
    assert lines(limit).text == ""
    assert json.loads(lines(permanent).record)["expires_at"] is None
    refused = refused_lines(lines(longer), "whitelist: 203.0.113.0/24")
    assert refused.text == ""
    assert json.loads(refused.record)["action"] == "skip"
    assert json.loads(refused.record)["reason"] == "whitelist: 203.0.113.0/24"


@pytest.mark.feature("D1", "E2")
def test_ends_of_blocks() -> None:
    entry = Entry(Block(parse_network("2001:db8::/64"), reason="RULE Ping"), Origin.WATCHER, 0.0, 1800.0)
    expired = ending_lines("expire", entry, now=1800.0)
    assert " EXPIRED 2001:db8::/64 (REPUTATION SCORE: -) [RULE Ping] SID=- " in expired.text
    assert json.loads(expired.record)["action"] == "expire"
    lifted = ending_lines("unblock", entry, now=5.0, reason="on_stop: flush")
    assert " UNBLOCKED 2001:db8::/64 (REPUTATION SCORE: -) [on_stop: flush]" in lifted.text


def test_hostile_values_of_a_record_stay_json() -> None:
    record = {"src_port": float("nan"), "proto": ["x"], "src_ip": "y" * 1_000_000, "dest_port": 10**40}
    fields = json.loads(decision_lines(decision(record=record), now=1e300, stamp=STAMP, dry_run=True).record)
    assert fields["src_port"] is None
    assert fields["proto"] is None
    assert len(fields["src_ip"]) <= 1024
    assert fields["dry_run"] is True


@pytest.mark.parametrize("moment", [float("inf"), -1e18, 1e18])
def test_impossible_times_are_no_crash(moment: float) -> None:
    assert iso_time(moment).endswith("Z")
