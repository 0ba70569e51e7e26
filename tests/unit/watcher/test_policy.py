# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ngfw.events.offender import Resolution
from ngfw.firewall.address import parse_host, parse_network
from ngfw.firewall.entry import Action, Direction
from ngfw.policy import MAX_MESSAGE, Decision, Outcome, Terms, decide
from ngfw.recorder import Recorder
from ngfw.rules.engine import Hit
from ngfw.rules.expression import compile_expression
from ngfw.rules.model import Rule, RuleAction

NOW = 1_756_812_285.0
OFFENDER = Resolution(parse_host("203.0.113.7"), False)
TERMS = Terms()
DROP = RuleAction(Action.DROP, "offender", 1800)


def rule(**changes: Any) -> Rule:
    values: dict[str, Any] = {
        "name": "Probe",
        "description": "",
        "type": "alert",
        "expression": compile_expression("alert.severity <= 3", event_type="alert"),
        "severity": "high",
        "threshold": 1,
        "window": 60,
        "group_by": ("offender",),
        "distinct": None,
        "sequence": None,
        "intel": "skip",
        "spoofable": False,
        "actions": (DROP,),
        "enabled": True,
        "mitre": (),
        "tags": (),
        "path": "test.yml",
        "line": 1,
    }
    return Rule(**{**values, **changes})


def record(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "event_type": "alert",
        "src_ip": "203.0.113.7",
        "dest_ip": "192.0.2.1",
        "proto": "TCP",
        "app_proto": "http",
        "flow": {"pkts_toserver": 4, "pkts_toclient": 3},
        "alert": {"gid": 1, "signature_id": 2000004, "signature": "Ping", "severity": 1},
    }
    return {**values, **changes}


def judge(
    *,
    of: Rule | None = None,
    event: dict[str, Any] | None = None,
    action: RuleAction = DROP,
    resolution: Resolution = OFFENDER,
    enforcer: Recorder | None = None,
    terms: Terms = TERMS,
    age: float = 0.0,
    stamped: bool = True,
) -> Decision:
    hit = Hit(of or rule(), event or record(), NOW - age, 1)
    return decide(hit, action, resolution, enforcer or Recorder(), terms, now=NOW, stamped=stamped)


def guarded(whitelist: str = "", protected: str = "") -> Recorder:
    enforcer = Recorder()
    enforcer.guard_by(
        whitelist=[parse_network(text) for text in whitelist.split()],
        protected={parse_network(text): "own address" for text in protected.split()},
    )
    return enforcer


def test_a_hit_blocks_its_offender() -> None:
    decision = judge()
    assert decision.outcome is Outcome.NEW
    assert (decision.action, decision.ip, decision.target, decision.rule) == ("block", "203.0.113.7", "source", "Probe")
    assert (decision.reason, decision.duration) == ("RULE Probe", 1800)
    assert (decision.sid, decision.msg, decision.score, decision.sources) == (2000004, "Ping", None, ())
    assert decision.block is not None
    assert decision.block.rule_name == "Probe"
    assert decision.block.reason == "RULE Probe"


@pytest.mark.feature("A7")
def test_an_outbound_event_blocks_nobody() -> None:
    decision = judge(resolution=Resolution(parse_host("10.0.0.5"), True), enforcer=guarded(protected="10.0.0.5"))
    assert decision.reason == "outbound: INTERNAL/PRIVATE (skipped)"
    assert (decision.action, decision.ip, decision.duration, decision.block) == ("skip", "10.0.0.5", None, None)


def test_without_an_address_nobody_is_blocked() -> None:
    decision = judge(resolution=Resolution(None, False))
    assert (decision.reason, decision.ip) == ("outbound: NO ADDRESS", "")


@pytest.mark.feature("C4", "C5")
def test_guards_refuse_in_their_order() -> None:
    both = guarded(whitelist="203.0.113.0/24", protected="203.0.113.7")
    assert judge(enforcer=both).reason == "protected: 203.0.113.7 (own address)"
    assert judge(enforcer=guarded(whitelist="203.0.113.0/24")).reason == "whitelist: 203.0.113.0/24"
    # The whitelist speaks before age and forgery do.
    assert judge(enforcer=both, age=9999, event=record(proto="UDP")).reason.startswith("protected")
    assert judge(enforcer=guarded(whitelist="203.0.113.7"), age=9999).reason == "whitelist: 203.0.113.7"
    assert judge(age=9999, event=record(proto="UDP")).reason == "stale: 9999 s old"


@pytest.mark.parametrize(("age", "stale"), [(1800, False), (1801, True), (-50, False)])
def test_an_old_event_blocks_nobody(age: float, stale: bool) -> None:
    assert judge(age=age).reason.startswith("stale") is stale


def test_a_permanent_block_and_a_fast_log_line_are_never_stale() -> None:
    assert judge(age=9e6, action=RuleAction(Action.DROP, "offender", 0)).outcome is Outcome.NEW
    assert judge(age=9e6, stamped=False).outcome is Outcome.NEW


@pytest.mark.parametrize(
    ("changes", "of", "terms", "reason"),
    [
        ({"proto": "UDP"}, rule(), Terms(), "spoofable"),
        ({"proto": "ICMP"}, rule(spoofable=True), Terms(), None),
        ({"proto": "ICMP"}, rule(), Terms(spoof_guard=False), None),
        ({"flow": {"pkts_toserver": 1, "pkts_toclient": 0}}, rule(), Terms(), "spoofable"),
        ({"flow": {"pkts_toserver": 1, "pkts_toclient": 1}, "app_proto": "failed"}, rule(), Terms(), "spoofable"),
    ],
)
def test_what_can_be_forged(changes: dict[str, Any], of: Rule, terms: Terms, reason: str | None) -> None:
    decision = judge(event=record(**changes), of=of, terms=terms)
    assert decision.reason == (reason or "RULE Probe")
    assert (decision.block is None) is (reason is not None)


@pytest.mark.feature("A7")
def test_the_engines_own_events_block_only_where_a_rule_names_them() -> None:
    event = record(alert={"gid": 1, "signature_id": 2210045, "signature": "SURICATA STREAM", "severity": 3})
    assert judge(event=event, of=rule(spoofable=True)).reason.startswith("spoofable: ENGINE EVENT")
    naming = compile_expression("alert.signature_id == 2210045", event_type="alert")
    assert judge(event=event, of=rule(expression=naming)).outcome is Outcome.NEW


def test_unknown_reputation_follows_the_fail_policy() -> None:
    allowed = judge(of=rule(intel="require"))
    assert allowed.reason == "reputation: REPUTATION UNKNOWN (fail-open: all TI providers failed)"
    assert allowed.block is None
    blocked = judge(of=rule(intel="confirm"), terms=Terms(fail_closed=True))
    assert blocked.reason == "REPUTATION UNKNOWN (fail-closed: all TI providers failed)"
    assert blocked.block is not None
    assert judge(of=rule(intel="require"), event=record(proto="UDP")).reason == "spoofable"


@pytest.mark.feature("C6")
@pytest.mark.parametrize(
    ("standing", "wanted", "outcome"),
    [
        (1800, 1800, Outcome.ACTIVE),
        (1800, 60, Outcome.ACTIVE),
        (1800, 3600, Outcome.EXTENDED),
        (1800, 0, Outcome.EXTENDED),
        (0, 3600, Outcome.ACTIVE),
        (0, 0, Outcome.ACTIVE),
    ],
)
def test_an_entry_in_force_is_only_extended(standing: int, wanted: int, outcome: Outcome) -> None:
    enforcer = Recorder()
    first = judge(action=RuleAction(Action.DROP, "offender", standing), enforcer=enforcer)
    assert first.block is not None
    enforcer.put(first.block, NOW - 10)
    assert judge(action=RuleAction(Action.DROP, "offender", wanted), enforcer=enforcer).outcome is outcome


def test_an_entry_that_ended_counts_no_more() -> None:
    enforcer = Recorder()
    block = judge().block
    assert block is not None
    enforcer.put(block, NOW - 1800)
    assert judge(enforcer=enforcer).outcome is Outcome.NEW
    enforcer.put(block, NOW + 3600)  # a recording that jumps back
    assert judge(enforcer=enforcer).outcome is Outcome.NEW


def test_a_hit_on_an_active_block_is_counted_even_if_it_could_be_forged_or_is_old() -> None:
    enforcer = Recorder()
    block = judge().block
    assert block is not None
    enforcer.put(block, NOW - 10)
    for refused in (judge(enforcer=enforcer, event=record(proto="UDP")), judge(enforcer=enforcer, age=9999)):
        assert refused.outcome is Outcome.ACTIVE
        assert refused.block is None, "it would be made again if an operator had lifted it"
    longer = RuleAction(Action.DROP, "offender", 7200)
    assert judge(enforcer=enforcer, event=record(proto="UDP"), action=longer).reason == "spoofable"


@pytest.mark.feature("C6")
def test_other_actions_of_one_address_stand_beside_each_other() -> None:
    enforcer = Recorder()
    for kind, name in (
        (Action.DROP, "block"),
        (Action.REJECT, "reject"),
        (Action.LOG, "log"),
        (Action.RATE_LIMIT, "rate_limit"),
    ):
        decision = judge(action=RuleAction(kind, "offender", 1800), enforcer=enforcer)
        assert (decision.action, decision.outcome) == (name, Outcome.NEW)
        assert decision.block is not None
        enforcer.put(decision.block, NOW)


@pytest.mark.parametrize(
    ("target", "ip", "direction"),
    [("source", "203.0.113.7", Direction.SOURCE), ("destination", "192.0.2.1", Direction.DESTINATION)],
)
def test_targets_other_than_the_offender(target: str, ip: str, direction: Direction) -> None:
    decision = judge(action=RuleAction(Action.DROP, target, 60), resolution=Resolution(parse_host("10.0.0.1"), True))
    assert decision.block is not None
    assert (decision.ip, decision.target, decision.block.direction) == (ip, direction.value, direction)


@pytest.mark.feature("C9")
def test_an_ipv6_offender_is_blocked_with_its_network() -> None:
    six = Resolution(parse_host("2001:db8:0:1::5"), False)
    assert judge(resolution=six).ip == "2001:db8:0:1::/64"
    assert judge(resolution=six, terms=Terms(ipv6_prefix=56)).ip == "2001:db8::/56"
    assert judge(resolution=six, terms=Terms(ipv6_prefix=128)).ip == "2001:db8:0:1::5"


@pytest.mark.feature("C9", "C4", "C5")
@pytest.mark.parametrize("guards", [{"whitelist": "2001:db8:0:1::9"}, {"protected": "2001:db8:0:1::1"}])
def test_an_ipv6_network_with_one_of_ours_in_it_is_not_widened_to(guards: dict[str, str]) -> None:
    six = Resolution(parse_host("2001:db8:0:1::5"), False)
    assert judge(resolution=six, enforcer=guarded(**guards)).ip == "2001:db8:0:1::5"


def test_a_family_that_is_not_managed_is_left_alone() -> None:
    six = Resolution(parse_host("2001:db8::5"), False)
    assert judge(resolution=six, terms=Terms(families=("ipv4",))).reason == "protected: ipv6 is not among the families"


def test_hostile_alerts_are_no_crash() -> None:
    for alert in (None, [], "x", {"signature_id": "7", "signature": 5}, {"signature_id": True}):
        decision = judge(event=record(alert=alert))
        assert (decision.sid, decision.msg) == (None, None)
    long = judge(event=record(alert={"signature": "x" * 1_000_000}))
    assert long.msg is not None
    assert len(long.msg) == MAX_MESSAGE
    for value in (None, 5, [], "nonsense", "203.0.113.0/24"):
        decision = judge(event=record(src_ip=value), action=RuleAction(Action.DROP, "source", 60))
        assert decision.reason == "outbound: NO ADDRESS"
