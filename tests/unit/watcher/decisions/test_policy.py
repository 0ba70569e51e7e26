# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ngfw.decisions.cases import Hung
from ngfw.decisions.decision import MAX_MESSAGE, Decision, Lift, Outcome
from ngfw.decisions.policy import OF_ANY_ZONE, Terms, decide, reconsider
from ngfw.effects.recorder import Recorder
from ngfw.events.offender import Resolution, proof
from ngfw.firewall.address import Network, NetworkSet, parse_host, parse_network
from ngfw.firewall.entry import Action, Block, Direction, Entry
from ngfw.intel.verdict import State, Verdict, rated
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


class Known:
    """What a decision may ask: a recorder's state, and what the test says of the past and of providers."""

    def __init__(
        self,
        enforcer: Recorder,
        verdicts: tuple[Verdict, ...],
        earlier: int,
        high_alert: bool,
        offended: bool = True,
    ) -> None:
        self.standing, self.guard, self.guards_near = enforcer.standing, enforcer.guard, enforcer.guards_near
        self._verdicts, self._earlier, self._high_alert = verdicts, earlier, high_alert
        self._offended = offended
        self.asked: list[tuple[Network, Hung]] = []

    def earlier(self, block: Block, now: float) -> int:
        return self._earlier

    def is_offence(self, entry: Entry) -> bool:
        return self._offended

    def is_repeated(self, block: Block) -> bool:
        return False

    def verdicts(self, address: Network, hung: Hung) -> tuple[Verdict, ...]:
        self.asked.append((address, hung))
        return self._verdicts

    def high_alert(self, now: float) -> bool:
        return self._high_alert


def judge(
    *,
    of: Rule | None = None,
    event: dict[str, Any] | None = None,
    action: RuleAction = DROP,
    resolution: Resolution = OFFENDER,
    enforcer: Recorder | None = None,
    terms: Terms = TERMS,
    age: float = 0.0,
    slack: float | None = 0.0,
    verdicts: tuple[Verdict, ...] = (),
    earlier: int = 0,
    high_alert: bool = False,
    offended: bool = True,
) -> Decision:
    hit = Hit(of or rule(), event or record(), NOW - age, 1)
    known = Known(enforcer or Recorder(), verdicts, earlier, high_alert, offended)
    shown = proof(hit.record, resolution, NetworkSet())
    return decide(hit, action, resolution, shown, known, terms, now=NOW, slack=slack)


def judge_again(
    verdicts: tuple[Verdict, ...],
    *,
    of: Rule,
    enforcer: Recorder,
    terms: Terms = TERMS,
    earlier: int = 0,
    proven: bool = True,
) -> Decision | Lift | None:
    """Decide again when this answer has come, a minute after the hit."""
    address = parse_host("203.0.113.7")
    hung = Hung(Hit(of, record(), NOW, 1), DROP, address, proven)
    return reconsider(hung, address, verdicts, Known(enforcer, (), earlier, False), terms, now=NOW + 30)


def guarded(whitelist: str = "", protected: str = "") -> Recorder:
    enforcer = Recorder()
    enforcer.guard_by(
        whitelist={parse_network(text): "" for text in whitelist.split()},
        protected={parse_network(text): "own address" for text in protected.split()},
    )
    return enforcer


def test_a_hit_blocks_its_offender() -> None:
    decision = judge()
    assert decision.outcome is Outcome.NEW
    assert (decision.action, decision.ip, decision.what.target, decision.what.rule) == (
        "block",
        "203.0.113.7",
        "source",
        "Probe",
    )
    assert (decision.what.reason, decision.what.duration) == ("RULE Probe", 1800)
    assert (decision.what.sid, decision.what.msg, decision.what.score, decision.what.sources) == (
        2000004,
        "Ping",
        None,
        (),
    )
    assert decision.block is not None
    assert decision.block.rule_name == "Probe"
    assert decision.block.reason == "RULE Probe"


@pytest.mark.feature("A7")
def test_an_outbound_event_blocks_nobody() -> None:
    decision = judge(resolution=Resolution(parse_host("10.0.0.5"), True), enforcer=guarded(protected="10.0.0.5"))
    assert decision.what.reason == "outbound: INTERNAL/PRIVATE (skipped)"
    assert (decision.action, decision.ip, decision.what.duration, decision.block) == ("skip", "10.0.0.5", None, None)


def test_without_an_address_nobody_is_blocked() -> None:
    decision = judge(resolution=Resolution(None, False))
    assert (decision.what.reason, decision.ip) == ("outbound: NO ADDRESS", "")


@pytest.mark.feature("C4", "C5")
def test_guards_refuse_in_their_order() -> None:
    both = guarded(whitelist="203.0.113.0/24", protected="203.0.113.7")
    assert judge(enforcer=both).what.reason == "protected: 203.0.113.7 (own address)"
    assert judge(enforcer=guarded(whitelist="203.0.113.0/24")).what.reason == "whitelist: 203.0.113.0/24"
    # The whitelist speaks before age and forgery do.
    assert judge(enforcer=both, age=9999, event=record(proto="UDP")).what.reason.startswith("protected")
    assert judge(enforcer=guarded(whitelist="203.0.113.7"), age=9999).what.reason == "whitelist: 203.0.113.7"
    assert judge(age=9999, event=record(proto="UDP")).what.reason == "stale: 9999 s old"


@pytest.mark.parametrize(("age", "stale"), [(1800, False), (1801, True), (-50, False)])
def test_an_old_event_blocks_nobody(age: float, stale: bool) -> None:
    assert judge(age=age).what.reason.startswith("stale") is stale


def test_a_permanent_block_is_never_stale() -> None:
    assert judge(age=9e6, action=RuleAction(Action.DROP, "offender", 0)).outcome is Outcome.NEW


@pytest.mark.feature("S7")
def test_a_line_of_an_unknown_zone_is_stale_only_where_it_is_in_every_zone() -> None:
    assert judge(age=26 * 3600 + 1800, slack=OF_ANY_ZONE).outcome is Outcome.NEW
    assert judge(age=26 * 3600 + 1801, slack=OF_ANY_ZONE).what.reason == "stale: 95401 s old"


@pytest.mark.feature("S7")
def test_what_has_no_time_where_there_is_no_clock_blocks_nobody() -> None:
    forever = RuleAction(Action.DROP, "offender", 0)
    assert judge(slack=None).what.reason == judge(slack=None, action=forever).what.reason == "stale: no time"
    assert judge(slack=None, event=record(proto="UDP")).what.reason == "stale: no time"


@pytest.mark.feature("S7")
def test_each_action_is_stale_by_its_own_duration() -> None:
    short, long = (RuleAction(Action.DROP, "offender", seconds) for seconds in (60, 3600))
    assert judge(age=61, action=short).what.reason == "stale: 61 s old"
    assert judge(age=61, action=long).outcome is Outcome.NEW


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
    assert decision.what.reason == (reason or "RULE Probe")
    assert (decision.block is None) is (reason is not None)


@pytest.mark.feature("A7")
def test_the_engines_own_events_block_only_where_a_rule_names_them() -> None:
    event = record(alert={"gid": 1, "signature_id": 2210045, "signature": "SURICATA STREAM", "severity": 3})
    assert judge(event=event, of=rule(spoofable=True)).what.reason.startswith("spoofable: ENGINE EVENT")
    naming = compile_expression("alert.signature_id == 2210045", event_type="alert")
    assert judge(event=event, of=rule(expression=naming)).outcome is Outcome.NEW


def test_unknown_reputation_follows_the_fail_policy() -> None:
    allowed = judge(of=rule(intel="require"))
    assert allowed.what.reason == "reputation: REPUTATION UNKNOWN (fail-open: all TI providers failed)"
    assert allowed.block is None
    blocked = judge(of=rule(intel="confirm"), terms=Terms(fail_closed=True))
    assert blocked.what.reason == "REPUTATION UNKNOWN (fail-closed: all TI providers failed)"
    assert blocked.block is not None
    assert judge(of=rule(intel="require"), event=record(proto="UDP")).what.reason == "spoofable"


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
    assert judge(enforcer=enforcer, event=record(proto="UDP"), action=longer).what.reason == "spoofable"


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
    assert (decision.ip, decision.what.target, decision.block.direction) == (ip, direction.value, direction)


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
    assert (
        judge(resolution=six, terms=Terms(families=("ipv4",))).what.reason
        == "protected: ipv6 is not among the families"
    )


def test_hostile_alerts_are_no_crash() -> None:
    for alert in (None, [], "x", {"signature_id": "7", "signature": 5}, {"signature_id": True}):
        decision = judge(event=record(alert=alert))
        assert (decision.what.sid, decision.what.msg) == (None, None)
    long = judge(event=record(alert={"signature": "x" * 1_000_000}))
    assert long.what.msg is not None
    assert len(long.what.msg) == MAX_MESSAGE
    values = {"src_port": float("nan"), "proto": ["x"], "dest_port": 10**40, "dest_ip": {}}
    assert judge(event=record(**values)).of_record == ("alert", "203.0.113.7", None, None, 10**40, None)
    for value in (None, 5, [], "nonsense", "203.0.113.0/24"):
        decision = judge(event=record(src_ip=value), action=RuleAction(Action.DROP, "source", 60))
        assert decision.what.reason == "outbound: NO ADDRESS"


PENDING = Verdict("abuseipdb", State.PENDING)
LATER = Verdict("abuseipdb", State.OVER_BUDGET)
LISTED, CLEAN = Verdict("firehol_level1", State.LISTED), Verdict("firehol_level1", State.CLEAN)
BAD, GOOD = rated("abuseipdb", 90, 70, NOW), rated("abuseipdb", 12, 70, NOW)
FAILED = Verdict("abuseipdb", State.ERROR)
ASKED = "REPUTATION PENDING (abuseipdb: asked)"
NOBODY_OPEN = "REPUTATION UNKNOWN (fail-open: all TI providers failed)"
NOBODY_CLOSED = "REPUTATION UNKNOWN (fail-closed: all TI providers failed)"


@pytest.mark.feature("B6", "E5")
@pytest.mark.parametrize(
    ("verdicts", "reason", "score", "sources"),
    [
        ((LISTED, BAD), "REPUTATION BLOCK (source=firehol)", 90, ("firehol_level1", "abuseipdb")),
        ((LISTED,), "REPUTATION BLOCK (source=firehol)", None, ("firehol_level1",)),
        ((CLEAN, BAD), "REPUTATION BLOCK (source=abuseipdb,score=90)", 90, ("abuseipdb",)),
    ],
)
@pytest.mark.parametrize("mode", ["require", "confirm"])
def test_what_is_known_to_be_bad_is_blocked(
    mode: str, verdicts: tuple[Verdict, ...], reason: str, score: int | None, sources: tuple[str, ...]
) -> None:
    decision = judge(of=rule(intel=mode), verdicts=verdicts)
    assert (decision.outcome, decision.what.reason, decision.what.duration) == (Outcome.NEW, reason, 1800)
    assert (decision.what.score, decision.what.sources) == (score, sources)
    assert decision.block is not None
    assert decision.block.reason == reason
    assert decision.offence


@pytest.mark.feature("B6")
@pytest.mark.parametrize("mode", ["require", "confirm"])
def test_what_is_known_to_be_clean_is_not(mode: str) -> None:
    decision = judge(of=rule(intel=mode), verdicts=(CLEAN, GOOD))
    assert (decision.action, decision.block) == ("skip", None)
    assert decision.what.reason == "reputation: REPUTATION CLEAN (source=firehol+abuseipdb,score=12)"
    assert (decision.what.score, decision.ip) == (12, "203.0.113.7")


@pytest.mark.feature("B7", "B9")
@pytest.mark.parametrize(
    ("mode", "high_alert", "verdict", "blocks"),
    [
        ("require", False, PENDING, False),
        ("confirm", False, PENDING, True),
        ("require", True, PENDING, True),
        ("confirm", False, LATER, True),
        ("require", False, LATER, False),
    ],
)
def test_an_answer_is_waited_for(mode: str, high_alert: bool, verdict: Verdict, blocks: bool) -> None:
    decision = judge(of=rule(intel=mode), verdicts=(verdict,), high_alert=high_alert)
    assert (decision.block is not None) == blocks
    assert decision.what.duration == (60 if blocks else None)
    assert not decision.offence, "a block that may be lifted is none"
    if verdict is PENDING:
        assert decision.what.reason == (ASKED if blocks else f"reputation: {ASKED}")


def test_a_provisional_block_is_never_longer_than_the_rule_wants() -> None:
    action = RuleAction(Action.DROP, "offender", 20)
    assert judge(of=rule(intel="confirm", actions=(action,)), action=action, verdicts=(PENDING,)).what.duration == 20
    permanent = RuleAction(Action.DROP, "offender", 0)
    assert (
        judge(of=rule(intel="confirm", actions=(permanent,)), action=permanent, verdicts=(PENDING,)).what.duration == 60
    )


@pytest.mark.feature("B8")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"proto": "UDP"}, "spoofable"), ({}, "stale: 1900 s old")],
)
def test_nobody_is_asked_about_what_is_refused_anyway(changes: dict[str, Any], reason: str) -> None:
    known = Known(Recorder(), (BAD,), 0, False)
    hit = Hit(rule(intel="require"), record(**changes), NOW - (1900 if "stale" in reason else 0), 1)
    shown = proof(hit.record, OFFENDER, NetworkSet())
    assert decide(hit, DROP, OFFENDER, shown, known, TERMS, now=NOW).what.reason == reason
    assert known.asked == []


@pytest.mark.feature("B7")
def test_a_hit_on_a_provisional_block_waits_like_the_first() -> None:
    enforcer = Recorder()
    confirm = rule(intel="confirm")
    first = judge(of=confirm, enforcer=enforcer, verdicts=(PENDING,))
    assert first.block is not None
    enforcer.put(first.block, NOW)
    again = judge(of=confirm, enforcer=enforcer, verdicts=(PENDING,))
    assert (again.outcome, again.block) == (Outcome.ACTIVE, None)
    skipping = judge(of=rule(name="Other"), enforcer=enforcer)
    assert (skipping.outcome, skipping.what.duration, skipping.offence) == (Outcome.EXTENDED, 1800, True)
    listed = judge(of=confirm, enforcer=enforcer, verdicts=(LISTED,))
    assert (listed.outcome, listed.what.duration, listed.offence) == (Outcome.EXTENDED, 1800, True)
    clean = judge(of=confirm, enforcer=enforcer, verdicts=(GOOD,))
    assert clean.outcome is Outcome.ACTIVE, "the answer itself lifts it"


@pytest.mark.feature("B7")
@pytest.mark.parametrize(
    ("verdicts", "closed", "expected"),
    [
        ((BAD,), False, ("extended", 1800, "REPUTATION BLOCK (source=abuseipdb,score=90)")),
        ((CLEAN, GOOD), False, ("lift", None, "REPUTATION CLEAN (source=firehol+abuseipdb,score=12)")),
        ((FAILED,), False, ("lift", None, NOBODY_OPEN)),
        ((FAILED,), True, ("extended", 1800, NOBODY_CLOSED)),
        ((LATER,), False, None),
        ((LATER,), True, None),
    ],
)
def test_the_answer_decides_about_a_provisional_block(
    verdicts: tuple[Verdict, ...], closed: bool, expected: tuple[str, int | None, str] | None
) -> None:
    enforcer = Recorder()
    confirm = rule(intel="confirm")
    first = judge(of=confirm, enforcer=enforcer, verdicts=(PENDING,))
    assert first.block is not None
    enforcer.put(first.block, NOW)
    decision = judge_again(verdicts, of=confirm, enforcer=enforcer, terms=Terms(fail_closed=closed))
    if expected is None:
        assert decision is None
        return
    word, duration, reason = expected
    if isinstance(decision, Lift):
        assert (word, decision.block, decision.reason) == ("lift", first.block, reason)
    else:
        assert decision is not None
        assert (decision.outcome.value, decision.what.duration, decision.what.reason) == (word, duration, reason)


@pytest.mark.feature("B2", "B5")
@pytest.mark.parametrize(
    ("verdicts", "closed", "outcome", "reason"),
    [
        ((BAD,), False, Outcome.NEW, "REPUTATION BLOCK (source=abuseipdb,score=90)"),
        ((GOOD,), False, Outcome.SKIPPED, "reputation: REPUTATION CLEAN (source=abuseipdb,score=12)"),
        ((FAILED,), False, Outcome.SKIPPED, f"reputation: {NOBODY_OPEN}"),
        ((FAILED,), True, Outcome.NEW, NOBODY_CLOSED),
    ],
)
def test_the_answer_decides_where_nothing_is_in_force(
    verdicts: tuple[Verdict, ...], closed: bool, outcome: Outcome, reason: str
) -> None:
    terms = Terms(fail_closed=closed)
    decision = judge_again(verdicts, of=rule(intel="require"), enforcer=Recorder(), terms=terms)
    assert isinstance(decision, Decision)
    assert (decision.outcome, decision.what.reason) == (outcome, reason)


def test_an_answer_touches_no_block_of_another_rule() -> None:
    enforcer = Recorder()
    other = judge(of=rule(name="Other"), enforcer=enforcer)
    assert other.block is not None
    enforcer.put(other.block, NOW)
    waiting = rule(intel="confirm")
    assert judge_again((BAD,), of=waiting, enforcer=enforcer) is None
    clean = judge_again((GOOD,), of=waiting, enforcer=enforcer)
    assert isinstance(clean, Decision)
    assert clean.outcome is Outcome.SKIPPED


@pytest.mark.feature("B7", "C4")
def test_an_address_whitelisted_meanwhile_is_not_blocked_by_the_answer() -> None:
    decision = judge_again((BAD,), of=rule(intel="require"), enforcer=guarded(whitelist="203.0.113.0/24"))
    assert isinstance(decision, Decision)
    assert (decision.outcome, decision.what.reason) == (Outcome.SKIPPED, "whitelist: 203.0.113.0/24")


def test_a_block_on_failure_is_lifted_by_a_clean_answer_and_kept_by_a_bad_one() -> None:
    enforcer = Recorder()
    require, terms = rule(intel="require"), Terms(fail_closed=True)
    first = judge(of=require, enforcer=enforcer, terms=terms, verdicts=(FAILED,))
    assert first.block is not None
    assert first.offence
    enforcer.put(first.block, NOW)
    assert judge_again((BAD,), of=require, enforcer=enforcer, terms=terms) is None
    assert isinstance(judge_again((GOOD,), of=require, enforcer=enforcer, terms=terms), Lift)


def test_an_entry_that_somebody_lifted_unseen_is_put_back_with_the_reputation_it_had() -> None:
    enforcer = Recorder()
    require = rule(intel="require")
    first = judge(of=require, enforcer=enforcer, verdicts=(LISTED,))
    assert first.block is not None
    enforcer.put(first.block, NOW)
    again = judge(of=require, enforcer=enforcer, verdicts=(GOOD,))
    assert (again.outcome, again.block) == (Outcome.ACTIVE, first.block)
    assert judge(of=require, event=record(proto="UDP"), enforcer=enforcer).block is None


@pytest.mark.feature("D5")
@pytest.mark.parametrize(
    ("duration", "earlier", "terms", "expected"),
    [
        (1800, 0, Terms(), 1800),
        (1800, 1, Terms(), 3600),
        (1800, 3, Terms(), 14400),
        (1800, 50, Terms(), 604_800),
        (1800, 1, Terms(factor=1), 1800),
        (1800, 1, Terms(factor=1.5), 2700),
        (1800, 10**6, Terms(factor=1000), 604_800),
        (864_000, 5, Terms(), 864_000),
        (0, 5, Terms(), 0),
    ],
)
def test_a_repeat_offender_is_blocked_for_longer(duration: int, earlier: int, terms: Terms, expected: int) -> None:
    action = RuleAction(Action.DROP, "offender", duration)
    decision = judge(of=rule(actions=(action,)), action=action, terms=terms, earlier=earlier)
    assert (decision.what.duration, decision.offence) == (expected, True)
    assert decision.block is not None
    assert decision.block.duration == expected


@pytest.mark.feature("D5")
def test_only_the_beginning_of_a_block_is_an_offence() -> None:
    enforcer = Recorder()
    first = judge(enforcer=enforcer)
    assert first.block is not None
    enforcer.put(first.block, NOW)
    longer = RuleAction(Action.DROP, "offender", 7200)
    extended = judge(of=rule(actions=(longer,)), action=longer, enforcer=enforcer, earlier=1)
    assert (extended.outcome, extended.what.duration, extended.offence) == (Outcome.EXTENDED, 7200, False)
    assert not judge(enforcer=enforcer, earlier=1).offence
