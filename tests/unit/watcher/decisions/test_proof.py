# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not proven blocks for as long as its rule says, and makes no other block longer, or shorter."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ngfw.decisions.decision import Decision, Lift, Outcome
from ngfw.decisions.history import History
from ngfw.decisions.pipeline import Pipeline
from ngfw.effects.recorder import Recorder
from ngfw.events.tail import Chunk
from ngfw.firewall.address import Network, parse_network
from ngfw.firewall.entry import Action, Block, Direction
from ngfw.intel.mailbox import Answer, Case
from ngfw.intel.verdict import State, Verdict, rated
from ngfw.rules.load import parse_rules
from ngfw.settings.config import CircuitBreaker, Config

NOW = 1_756_812_285.0
DURATIONS = {"Forged": 600, "Long": 7200, "Brief": 30, "Asked": 1800, "Provisional": 1800, "Wants proof": 1200}
RULES = parse_rules(
    b"""
rules:
  - {name: Forged, type: alert, expression: alert.signature_id == 1, severity: low, spoofable: true,
     actions: [{type: iptables_block, config: {duration: 10m}}]}
  - {name: Long, type: alert, expression: alert.signature_id == 2, severity: low, spoofable: true, threshold: 2,
     actions: [{type: iptables_block, config: {duration: 2h}}]}
  - {name: Brief, type: alert, expression: "alert.signature_id in [2, 3]", severity: low, spoofable: true,
     actions: [{type: iptables_block, config: {duration: 30s}}]}
  - {name: Asked, type: alert, expression: "alert.signature_id in [3, 6]", severity: low, spoofable: true,
     intel: require, actions: [{type: iptables_block, config: {duration: 30m}}]}
  - {name: Provisional, type: alert, expression: alert.signature_id == 4, severity: low, spoofable: true,
     intel: confirm, actions: [{type: iptables_block, config: {duration: 30m}}]}
  - {name: Wants proof, type: alert, expression: "alert.signature_id in [1, 5]", severity: low,
     actions: [{type: iptables_block, config: {duration: 20m}}]}
""",
    "test.yml",
)
THEM = "203.0.113.7"
FLOW = {"pkts_toserver": 9, "pkts_toclient": 9, "src_ip": THEM, "dest_ip": "192.0.2.1"}
UNPROVEN: list[dict[str, Any]] = [
    {"proto": "UDP"},
    {"proto": "ICMP"},
    {"flow": FLOW},
    {"flow": FLOW, "app_proto": "failed"},
    {"flow": FLOW, "app_proto": "http", "metadata": {"flowbits": ["ngfw.syn"]}},
    {"flow": {**FLOW, "pkts_toclient": 0}, "app_proto": "http"},
    {},
    {"flow": FLOW, "app_proto": "http", "tunnel": {"src_ip": "203.0.113.99"}},
    {"flow": FLOW, "app_proto": "http", "xff": THEM},
]
PROVEN: dict[str, Any] = {"flow": FLOW, "app_proto": "http", "metadata": {"flowbits": ["ngfw.syn", "ngfw.established"]}}
PENDING = Verdict("abuseipdb", State.PENDING)
ANSWERS = [rated("abuseipdb", 95, 70, NOW), rated("abuseipdb", 3, 70, NOW), Verdict("abuseipdb", State.ERROR)]


def line(sid: int, at: float, evidence: dict[str, Any]) -> bytes:
    record = {
        "timestamp": datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f+0000"),
        "event_type": "alert",
        "src_ip": THEM,
        "src_port": 40000,
        "dest_ip": "192.0.2.1",
        "dest_port": 80,
        "proto": "TCP",
        "alert": {"gid": 1, "signature_id": sid, "signature": "Something", "severity": 1},
    }
    return json.dumps({**record, **evidence}).encode() + b"\n"


def chunk(data: bytes) -> Chunk:
    return Chunk("eve", "eve.json", data, 0)


class Watched:
    """A watcher without files: what it decides is in force, and its history lasts over restarts."""

    def __init__(self, **config: Any) -> None:
        self.config = replace(Config.default(), **config)
        self.recorder = Recorder()
        self.history = History(None, report=lambda text, problem: None)
        self.history.open()
        self.open: list[tuple[Network, Case]] = []
        self.now = NOW
        self.lines: list[bytes] = []
        self.decisions: list[Decision] = []
        self.start()

    def start(self) -> None:
        self.pipeline = Pipeline(self.config, RULES, self.recorder.look, ask=self.ask, history=self.history)
        self.pipeline.recall([chunk(b"".join(self.lines))])

    def ask(self, address: Network, case: Case) -> tuple[Verdict, ...]:
        return (PENDING,)

    def feed(self, sid: int, evidence: dict[str, Any]) -> list[Decision]:
        self.lines.append(line(sid, self.now, evidence))
        batch = self.pipeline.process([chunk(self.lines[-1])], now=self.now)
        self.open += batch.lookups
        return self.carry_out([*batch.decisions, *batch.repeats])

    def answer(self, verdict: Verdict) -> list[Decision]:
        cases: dict[str, str] = {}
        for _address, case in self.open:
            cases.setdefault(case.key, case.text)
        self.open = []
        answer = Answer(1, parse_network(THEM), (verdict,), cases, True)
        batch, lifts = self.pipeline.answered([answer], now=self.now)
        for lift in lifts:
            self.lift(lift)
        return self.carry_out(batch.decisions)

    def lift(self, lift: Lift) -> None:
        self.recorder.take(lift.block)

    def carry_out(self, decisions: list[Decision]) -> list[Decision]:
        made = [decision for decision in decisions if decision.block is not None]
        for decision in made:
            assert decision.block is not None
            standing = self.recorder.standing(decision.block)
            if decision.outcome is Outcome.ACTIVE and standing and (standing.expires_at or 0) > self.now:
                continue
            self.recorder.put(decision.block, self.now)
            if decision.offence:
                self.history.add([decision.block], self.now, 0)
        self.decisions += made
        return made

    def unblock(self) -> None:
        """An administrator does, and the watcher is told."""
        for entry in self.recorder.in_force(self.now):
            self.recorder.take(entry.block)
            self.history.forgive([entry])


STEPS = st.one_of(
    st.tuples(st.just("event"), st.integers(1, 6), st.sampled_from(UNPROVEN)),
    st.tuples(st.just("answer"), st.sampled_from(ANSWERS)),
    st.tuples(st.just("wait"), st.sampled_from([1, 29, 61, 599, 1801, 7300])),
    st.tuples(st.just("restart")),
    st.tuples(st.just("unblock")),
)


@pytest.mark.feature("S2")
@given(st.lists(STEPS, max_size=40), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_sequence_of_unproven_events_makes_a_block_longer_than_its_rule_says(
    steps: list[tuple[Any, ...]], guard: bool
) -> None:
    watched = Watched(spoof_guard=guard)
    for word, *arguments in steps:
        if word == "wait":
            watched.now += arguments[0]
        elif word == "restart":
            watched.start()
        elif word == "unblock":
            watched.unblock()
        else:
            watched.feed(*arguments) if word == "event" else watched.answer(*arguments)
    for decision in watched.decisions:
        block = decision.block
        assert block is not None
        assert 0 < block.duration <= DURATIONS[decision.what.rule]
        assert not decision.offence
    assert watched.history.earlier(Block(parse_network(THEM), Action.DROP, Direction.SOURCE), 0) == 0
    watched.now += 7300
    proven = watched.feed(5, PROVEN)
    assert [(each.what.rule, each.what.duration, each.offence) for each in proven] == [("Wants proof", 1200, True)]


@pytest.mark.feature("S2", "D5")
def test_fourteen_rounds_of_forged_packets_block_for_the_rules_duration_each() -> None:
    watched = Watched()
    for _round in range(14):
        [made] = watched.feed(1, {"flow": FLOW})
        assert (made.what.rule, made.what.duration) == ("Forged", 600)
        watched.now += 601


@pytest.mark.feature("S2", "D5")
def test_a_forged_block_does_not_use_up_what_a_repeat_offender_has_coming() -> None:
    watched = Watched()
    for expected in (1200, 2400, 4800):
        assert [each.what.duration for each in watched.feed(5, PROVEN)] == [expected]
        watched.now += expected + 1
    assert [each.what.duration for each in watched.feed(1, UNPROVEN[0])] == [600]
    watched.now += 10
    [made] = watched.feed(5, PROVEN)
    assert (made.outcome, made.what.duration, made.offence) == (Outcome.EXTENDED, 9600, True)
    watched.now += 10
    assert watched.feed(5, PROVEN)[0].outcome is Outcome.ACTIVE, "and it counts once"
    assert [each.what.rule for each in watched.feed(2, UNPROVEN[0])] == ["Brief"], "nor is it made longer"


@pytest.mark.feature("S2", "D5")
def test_unblocking_what_was_not_proven_forgives_no_offence() -> None:
    watched = Watched()
    watched.feed(5, PROVEN)
    watched.now += 3600
    watched.feed(1, UNPROVEN[0])
    watched.unblock()
    assert [each.what.duration for each in watched.feed(5, PROVEN)] == [2400]


@pytest.mark.feature("S2", "B7")
@pytest.mark.parametrize("first", [UNPROVEN[0], PROVEN])
def test_an_answer_that_a_proven_hit_waits_for_escalates_whatever_else_waits_for_it(first: dict[str, Any]) -> None:
    watched = Watched()
    watched.history.add([Block(parse_network(THEM))], NOW - 86_400, 0)
    for evidence in (first, UNPROVEN[1], PROVEN):
        watched.feed(6, evidence)
        watched.now += 1
    [made] = watched.answer(ANSWERS[0])
    assert (made.what.rule, made.what.duration, made.offence) == ("Asked", 3600, True)


@pytest.mark.feature("S2", "F9")
def test_what_is_not_proven_falls_under_the_breaker_for_what_can_be_forged() -> None:
    for evidence, blocks in ((UNPROVEN[2], 2), (UNPROVEN[6], 2), (PROVEN, 8)):
        watched = Watched(circuit_breaker=CircuitBreaker(blocks=2, window=60))
        text = line(1, NOW, evidence)
        many = b"".join(text.replace(THEM.encode(), f"198.51.100.{n}".encode()) for n in range(1, 10))
        batch = watched.pipeline.process([chunk(many)], now=NOW)
        made = [each for each in batch.decisions if each.block is not None and each.what.rule == "Forged"]
        assert len(made) == blocks


@pytest.mark.feature("S5", "C4")
@pytest.mark.parametrize("target", ["offender", "source", "destination"])
@pytest.mark.parametrize("kind", ["alert", "flow", "http", "ssh"])
def test_a_trusted_proxy_is_never_blocked(target: str, kind: str) -> None:
    rules = parse_rules(
        f"""
rules:
  - {{name: Any, type: {kind}, expression: "proto != ''", severity: low, spoofable: true,
     actions: [{{type: iptables_block, config: {{target: {target}}}}}]}}
""".encode(),
        "test.yml",
    )
    config = replace(Config.default(), trusted_proxies=(parse_network("198.51.100.0/24"),))
    recorder = Recorder()
    recorder.guard_by(whitelist=config.guarded, protected={})
    pipeline = Pipeline(config, rules, recorder.look)
    at_proxy = {"src_ip": "198.51.100.40", "dest_ip": "198.51.100.41", "event_type": kind, "flow": {"pkts_toserver": 5}}
    batch = pipeline.process([chunk(line(1, NOW, {**PROVEN, **at_proxy}))], now=NOW)
    reason = "outbound: NO ADDRESS" if target == "offender" else "whitelist: 198.51.100.0/24 (trusted proxy)"
    assert [(each.action, each.what.reason) for each in batch.decisions] == [("skip", reason)]


@pytest.mark.feature("S5", "C9")
def test_an_offender_is_not_blocked_with_the_network_of_a_trusted_proxy() -> None:
    config = replace(Config.default(), trusted_proxies=(parse_network("2001:db8:1:2::80"),))
    recorder = Recorder()
    recorder.guard_by(whitelist=config.guarded, protected={})
    pipeline = Pipeline(config, RULES, recorder.look)
    text = line(5, NOW, {**PROVEN, "src_ip": "2001:db8:1:2::9", "flow": {**FLOW, "src_ip": "2001:db8:1:2::9"}})
    batch = pipeline.process([chunk(text)], now=NOW)
    assert [each.ip for each in batch.decisions] == ["2001:db8:1:2::9"]


@pytest.mark.feature("S2", "B7")
def test_a_provisional_block_makes_no_other_rules_unproven_block_longer() -> None:
    watched = Watched()
    assert [each.what.duration for each in watched.feed(4, UNPROVEN[0])] == [60]
    assert [each.outcome for each in watched.feed(2, UNPROVEN[0])] == [Outcome.ACTIVE]
    assert watched.feed(3, PROVEN)[0].what.duration == 61, "as proven ones are"


@pytest.mark.feature("S2", "D5")
def test_an_unproven_hit_puts_back_no_more_than_its_own_rules_length() -> None:
    watched = Watched()
    watched.history.add([Block(parse_network(THEM))], NOW - 86_400, 0)
    watched.feed(6, PROVEN)
    assert [each.what.duration for each in watched.answer(ANSWERS[0])] == [3600]
    again = watched.pipeline.process([chunk(line(6, NOW, UNPROVEN[0]))], now=NOW).repeats
    assert [each.block.duration for each in again if each.block is not None] == [1800]
    again = watched.pipeline.process([chunk(line(6, NOW, PROVEN))], now=NOW).repeats
    assert [each.block.duration for each in again if each.block is not None] == [3600]


def counting(**changes: Any) -> Pipeline:
    text = """
rules:
  - {name: Three, type: alert, expression: "true", severity: low, threshold: 3, spoofable: SPOOFABLE,
     actions: [{type: iptables_block, config: {duration: 10m}}]}
"""
    rules = parse_rules(text.replace("SPOOFABLE", str(changes.pop("spoofable", False)).lower()).encode(), "test.yml")
    return Pipeline(replace(Config.default(), **changes), rules, Recorder().look)


def reasons(pipeline: Pipeline, *evidence: dict[str, Any]) -> list[str]:
    found = []
    for number, each in enumerate(evidence):
        batch = pipeline.process([chunk(line(number, NOW + number, each))], now=NOW + number)
        found += [decision.what.reason for decision in batch.decisions]
    return found


@pytest.mark.feature("S2")
@pytest.mark.parametrize("forged", UNPROVEN[:6])
def test_forged_events_neither_fill_nor_empty_the_window_of_somebody_who_spoke_with_us(forged: dict[str, Any]) -> None:
    assert reasons(counting(), forged, forged, PROVEN, PROVEN) == []
    assert reasons(counting(), PROVEN, PROVEN, forged, PROVEN) == ["RULE Three"]
    assert reasons(counting(), PROVEN, PROVEN, forged, forged, forged) == ["spoofable"], "and they are not passed over"


@pytest.mark.feature("S2")
def test_where_no_proof_is_wanted_all_events_count_together() -> None:
    assert reasons(counting(spoofable=True), PROVEN, UNPROVEN[0], PROVEN) == ["RULE Three"]
    assert reasons(counting(spoof_guard=False), PROVEN, UNPROVEN[0], PROVEN) == ["RULE Three"]


@pytest.mark.feature("S2", "A2")
def test_counts_that_outlive_a_restart_are_apart_as_well() -> None:
    pipeline = counting()
    pipeline.recall([chunk(line(1, NOW, PROVEN) + line(2, NOW + 1, UNPROVEN[0]) + line(3, NOW + 2, PROVEN))])
    assert reasons(pipeline, UNPROVEN[0], PROVEN) == ["RULE Three"]
    assert len(pipeline.counts(parse_network(THEM), NOW + 3)) == 1, "what may be forged is shown as well"
