# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ngfw.decisions.decision import Decision, Outcome
from ngfw.effects.wording import alert_line, block_line, iso_time, json_line, local_time, told_of, told_of_end
from ngfw.firewall.address import parse_network
from ngfw.firewall.entry import Action, Block, Entry, Origin

from .conftest import decision

STAMP = "2025-09-02 11:24:45"
NOW = 1756812285.0


@pytest.mark.feature("E1")
def test_a_line_has_the_form_of_the_contract() -> None:
    known = decision(score=0, reason="REPUTATION BLOCK (source=firehol)", ip="10.0.0.1")
    assert block_line(told_of(known, now=NOW, dry_run=False)) == (
        f"{local_time(NOW)} BLOCKED 10.0.0.1 (REPUTATION SCORE: 0) [REPUTATION BLOCK (source=firehol)] "
        'SID=2000004 MSG="TEST ICMP Ping Detected"\n'
    )
    bare = decision(sid=None, msg=None, ip="")
    assert alert_line(bare, STAMP) == ('2025-09-02 11:24:45 ALERT - (REPUTATION SCORE: -) [RULE Ping] SID=- MSG=""\n')


@pytest.mark.feature("E2")
def test_alerts_json_has_the_fields_of_the_contract() -> None:
    fields = json.loads(json_line(told_of(decision(), now=NOW + 5, dry_run=False)))
    text = (
        "ts ip action target rule reason score sources sid msg duration expires_at event_type src_ip src_port "
        "dest_ip dest_port proto dry_run"
    )
    assert " ".join(fields) == text
    assert fields["ts"] == "2025-09-02T11:24:45.500Z"
    assert fields["expires_at"] == "2025-09-02T11:54:50.000Z"
    assert (fields["action"], fields["duration"], fields["src_port"]) == ("block", 1800, 40000)


@pytest.mark.feature("E2")
def test_verbs_follow_the_outcome() -> None:
    longer = decision(outcome=Outcome.EXTENDED)
    skipped = decision(outcome=Outcome.SKIPPED, block=None, action="skip", reason="outbound", duration=None)
    limit = decision(action="rate_limit", block=Block(parse_network("203.0.113.7"), Action.RATE_LIMIT))
    permanent = decision(block=Block(parse_network("203.0.113.7"), duration=0), duration=0)

    def tell(value: Decision) -> tuple[str, dict[str, Any]]:
        """The line of blocks.log, if there is one, and the fields of alerts.json."""
        found = told_of(value, now=0.0, dry_run=False)
        return block_line(found) if found.cut_off else "", json.loads(json_line(found))

    text, fields = tell(longer)
    assert " EXTENDED 203.0.113.7 " in text
    assert fields["action"] == "extend"
    text, fields = tell(skipped)
    assert text == ""
    assert fields["expires_at"] is None
    assert tell(limit)[0] == ""
    assert tell(permanent)[1]["expires_at"] is None
    refused = told_of(longer, now=0.0, dry_run=False).refused("whitelist: 203.0.113.0/24")
    assert not refused.cut_off
    fields = json.loads(json_line(refused))
    assert (fields["action"], fields["reason"]) == ("skip", "whitelist: 203.0.113.0/24")
    assert (fields["duration"], fields["expires_at"]) == (None, None)


@pytest.mark.feature("C12")
def test_a_dry_run_is_no_line_of_blocks_log() -> None:
    found = told_of(decision(), now=0.0, dry_run=True)
    assert not found.cut_off
    assert json.loads(json_line(found))["dry_run"] is True


@pytest.mark.feature("D1", "E2")
def test_ends_of_blocks() -> None:
    entry = Entry(Block(parse_network("2001:db8::/64"), reason="RULE Ping"), Origin.WATCHER, 0.0, 1800.0)
    expired = told_of_end("expire", entry, now=1800.0)
    assert " EXPIRED 2001:db8::/64 (REPUTATION SCORE: -) [RULE Ping] SID=- " in block_line(expired)
    assert json.loads(json_line(expired))["action"] == "expire"
    lifted = told_of_end("unblock", entry, now=5.0, reason="on_stop: flush")
    assert " UNBLOCKED 2001:db8::/64 (REPUTATION SCORE: -) [on_stop: flush]" in block_line(lifted)


def test_hostile_values_of_a_record_stay_json() -> None:
    of_record = ("a\nlert", "y" * 1_000_000, True, None, 10**40, "")
    fields = json.loads(json_line(told_of(decision(of_record=of_record), now=1e300, dry_run=True)))
    assert fields["dest_port"] == 10**40
    assert len(fields["src_ip"]) <= 1024
    assert fields["dry_run"] is True


@pytest.mark.parametrize("moment", [float("inf"), -1e18, 1e18])
def test_impossible_times_are_no_crash(moment: float) -> None:
    assert iso_time(moment).endswith("Z")
