# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from ngfw.decisions import pipeline
from ngfw.decisions.decision import Lift, Outcome
from ngfw.decisions.history import History
from ngfw.decisions.pipeline import Batch, Pipeline
from ngfw.effects.recorder import Recorder
from ngfw.effects.wording import alert_line, block_line, json_line, told_of
from ngfw.events.tail import Chunk
from ngfw.firewall.address import Network, parse_network
from ngfw.firewall.errors import AddressError
from ngfw.intel import mailbox as intel
from ngfw.intel.desk import MAX_TEXT
from ngfw.intel.verdict import State, Verdict, rated
from ngfw.metrics import Metrics
from ngfw.rules.load import parse_rules
from ngfw.settings.config import CircuitBreaker, Config, Escalation, HighAlert, Intel

NOW = 1_756_812_285.0
RULES = """
rules:
  - name: High
    type: alert
    expression: alert.severity == 1
    severity: high
    actions:
      - {type: iptables_block, config: {duration: 30m}}
"""
LONGER = """
  - name: Worse
    type: alert
    expression: alert.signature_id == 7
    severity: critical
    actions:
      - {type: iptables_block, config: {duration: 2h}}
      - {type: iptables_log, config: {prefix: "SEEN: "}}
"""
SLOW = """
  - name: Slow
    type: ssh
    expression: dest_port == 22
    severity: high
    threshold: 3
    threshold_window: 60
    actions:
      - {type: iptables_block, config: {duration: 30m}}
"""


def stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f+0000")


def alert(source: str = "203.0.113.7", *, at: float = NOW, sid: int = 1, **changes: Any) -> bytes:
    record = {
        "timestamp": stamp(at),
        "event_type": "alert",
        "src_ip": source,
        "src_port": 40000,
        "dest_ip": "192.0.2.1",
        "dest_port": 80,
        "proto": "TCP",
        "app_proto": "http",
        "alert": {"gid": 1, "signature_id": sid, "signature": "Something", "severity": 1},
        "flow": {"pkts_toserver": 4, "pkts_toclient": 3, "src_ip": source, "dest_ip": "192.0.2.1"},
    }
    return json.dumps({**record, **changes}, separators=(",", ":")).encode() + b"\n"


class Setup:
    """A pipeline over a recorder that is told of every block."""

    def __init__(self, rules: str = RULES, config: Config | None = None, whitelist: str = "") -> None:
        self.metrics = Metrics()
        self.said: list[str] = []
        self.recorder = Recorder()
        self.recorder.guard_by(whitelist={parse_network(text): "" for text in whitelist.split()}, protected={})
        self.config = config or Config.default()
        self.rules = parse_rules(rules.encode(), "test.yml")
        self.pipeline = Pipeline(
            self.config,
            self.rules,
            self.recorder.look,
            metrics=self.metrics,
            report=self.said.append,
        )

    def feed(
        self,
        *data: bytes,
        now: float | None = NOW,
        format: str = "eve",  # noqa: A002
        discarded: int = 0,
        goes_on: bool = False,
    ) -> Batch:
        chunks = [Chunk(format, "eve.json", each, discarded) for each in data]
        batch = self.pipeline.process(chunks, now=now, goes_on=goes_on)
        for decision in batch.decisions:
            if decision.block is not None:
                self.recorder.put(decision.block, decision.time if now is None else now)
        return batch


@pytest.fixture
def setup() -> Setup:
    return Setup()


def outcomes(batch: Batch) -> list[tuple[str, str, str]]:
    return [(decision.outcome.value, decision.action, decision.ip) for decision in batch.decisions]


@pytest.mark.feature("E1")
def test_a_hit_of_a_rule_without_actions_is_a_line_about_its_alert_and_nothing_else() -> None:
    setup = Setup(RULES[: RULES.index("    actions:")] + "    actions: []\n")
    batch = setup.feed(alert())
    assert outcomes(batch) == []
    (told,) = batch.alerts
    assert alert_line(told, "2026-11-24 17:00:00") == (
        '2026-11-24 17:00:00 ALERT 203.0.113.7 (REPUTATION SCORE: -) [RULE High] SID=1 MSG="Something"\n'
    )
    assert setup.metrics.rule_hits == {"High": 1}


@pytest.mark.feature("S5")
def test_addresses_of_a_network_that_are_counted_together_are_blocked_one_by_one() -> None:
    setup = Setup(RULES.replace("severity: high", "severity: high\n    group_by: [offender/24]\n    threshold: 20"))
    lines = [alert(f"203.0.113.{n}", at=NOW + n) for n in range(1, 51)]
    assert outcomes(setup.feed(*lines, now=NOW + 60)) == [("new", "block", f"203.0.113.{n}") for n in (20, 40)]
    apart = [alert(f"198.51.{n}.1", at=NOW + n) for n in range(1, 51)]
    assert outcomes(setup.feed(*apart, now=NOW + 60)) == []


@pytest.mark.feature("S5", "S7")
@pytest.mark.parametrize("ahead", [0.0, 30.0])
def test_events_of_one_flow_count_one_by_one_also_from_a_sensor_whose_clock_is_ahead(ahead: float) -> None:
    setup = Setup(RULES.replace("severity: high", "severity: high\n    threshold: 3"))
    lines = [alert(at=NOW + ahead + n, flow_id=7, in_iface="eth0") for n in range(3)]
    assert outcomes(setup.feed(b"".join(lines), now=NOW + 3)) == [("new", "block", "203.0.113.7")]


@pytest.mark.feature("S5", "S7")
def test_events_of_one_flow_count_one_by_one_also_without_a_readable_time() -> None:
    setup = Setup(RULES.replace("severity: high", "severity: high\n    threshold: 3"))
    lines = [alert(timestamp="?", flow_id=7, in_iface="eth0") for _n in range(3)]
    assert outcomes(setup.feed(b"".join(lines), now=NOW + 3)) == [("new", "block", "203.0.113.7")]


def test_a_line_becomes_a_decision(setup: Setup) -> None:
    batch = setup.feed(alert())
    assert outcomes(batch) == [("new", "block", "203.0.113.7")]
    assert len(batch.alerts) == 1
    assert batch.repeats == []
    assert setup.metrics.events == {"alert": 1}
    assert setup.metrics.rule_hits == {"High": 1}
    assert setup.pipeline.last_event() == NOW


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_many_hits_are_one_decision_wherever_batches_are_cut(size: int) -> None:
    setup = Setup(RULES + LONGER)
    lines = [alert(sid=sid) for sid in (1, 2, 1, 3, 7, 1, 7, 2, 1, 7)]
    found: list[tuple[str, str, str]] = []
    alerts = 0
    for start in range(0, len(lines), size):
        batch = setup.feed(b"".join(lines[start : start + size]))
        found += outcomes(batch)
        alerts += len(batch.alerts)
    assert found == [
        ("new", "block", "203.0.113.7"),
        ("extended", "block", "203.0.113.7"),
        ("new", "log", "203.0.113.7"),
    ]
    assert alerts == len(lines)
    assert sum(setup.metrics.rule_hits.values()) == 13
    assert setup.metrics.duplicates_skip == 10 + 6 - 3


@pytest.mark.feature("E1", "D5")
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("source", ["203.0.113.7", "2001:db8:0:1::7"])
def test_lines_about_alerts_name_the_host_wherever_batches_are_cut(source: str, live: bool) -> None:
    def told(size: int) -> list[str]:
        setup = Setup(RULES + LONGER)
        lines = [alert(source, sid=sid) for sid in (1, 2, 1, 7, 2, 7, 1)]
        cuts = [b"".join(lines[start : start + size]) for start in range(0, len(lines), size)]
        batches = [setup.feed(each, now=NOW if live else None) for each in cuts]
        return [alert_line(decision, "2026-11-24 17:00:00") for batch in batches for decision in batch.alerts]

    assert told(1) == told(3) == told(7)
    assert all(f" ALERT {source} (" in line for line in told(7))


def test_the_first_hit_on_an_older_entry_is_named_once_a_batch(setup: Setup) -> None:
    setup.feed(alert())
    batch = setup.feed(alert() * 5 + alert("198.51.100.9") * 2, now=NOW + 1)
    assert [decision.ip for decision in batch.repeats] == ["203.0.113.7"]
    assert outcomes(batch) == [("new", "block", "198.51.100.9")]


@pytest.mark.feature("A6", "D5")
def test_parts_of_one_moment_are_decided_as_one_batch() -> None:
    lines = [alert("203.0.113.8"), alert(), alert("203.0.113.8", sid=7), alert(sid=7), alert() * 2, alert("10.0.0.1")]

    def decided(parts: int) -> tuple[list[str], list[str], list[tuple[str, str, str]]]:
        setup = Setup(RULES + LONGER)
        setup.feed(alert(at=NOW - 9), now=NOW - 9)
        size = -(-len(lines) // parts)
        cuts = [b"".join(lines[start : start + size]) for start in range(0, len(lines), size)]
        batches = [setup.feed(cut, goes_on=part > 0) for part, cut in enumerate(cuts)]
        told = [alert_line(each, "2026-11-24 17:00:00") for batch in batches for each in batch.alerts]
        repeats = [each.ip for batch in batches for each in batch.repeats]
        return told, repeats, [outcome for batch in batches for outcome in outcomes(batch)]

    told, repeats, found = decided(1)
    assert repeats == ["203.0.113.7"]
    assert decided(2) == decided(3) == decided(6) == (told, repeats, found)


def test_each_target_of_an_offender_is_another_block() -> None:
    setup = Setup(RULES.replace("{duration: 30m}", "{duration: 30m, target: destination}"))
    batch = setup.feed(alert(dest_ip="192.0.2.1") + alert(dest_ip="192.0.2.2") + alert(dest_ip="192.0.2.1"))
    assert outcomes(batch) == [("new", "block", "192.0.2.1"), ("new", "block", "192.0.2.2")]


def test_a_block_that_ended_in_the_recording_is_made_again(setup: Setup) -> None:
    batch = setup.feed(*(alert(at=NOW + second) for second in (0, 1, 1799, 1800, 1801)), now=None)
    assert [decision.time for decision in batch.decisions] == [NOW, NOW + 1800]


def test_a_block_that_ended_is_made_again(setup: Setup) -> None:
    setup.feed(alert())
    assert outcomes(setup.feed(alert(at=NOW + 1799), now=NOW + 1799)) == []
    assert outcomes(setup.feed(alert(at=NOW + 1800), now=NOW + 1800)) == [("new", "block", "203.0.113.7")]


@pytest.mark.parametrize("live", [True, False])
def test_a_skip_is_one_line_a_minute(live: bool) -> None:
    setup = Setup(whitelist="203.0.113.0/24 198.51.100.1")
    lines = 0
    for second in range(0, 181, 10):
        moment = NOW + second
        batch = setup.feed(alert(at=moment) * 3, now=moment if live else None)
        assert all(decision.outcome is Outcome.SKIPPED for decision in batch.decisions)
        assert len(batch.alerts) == 3
        lines += len(batch.decisions)
    assert lines == 4
    assert setup.metrics.skips == {"whitelist": 57}
    assert setup.metrics.whitelist_skip == 57
    assert len(setup.feed(alert("198.51.100.1")).decisions) == 1


@pytest.mark.feature("F8")
@pytest.mark.parametrize("live", [True, False])
def test_a_skip_is_one_line_in_a_minute_of_the_events_whenever_they_are_read(live: bool) -> None:
    setup = Setup(whitelist="203.0.113.0/24")
    lines = b"".join(alert(at=NOW - 150 + second) for second in (0, 30, 61, 95, 125))
    assert len(setup.feed(lines, now=NOW if live else None).decisions) == 3


def test_skips_of_logs_with_other_clocks_are_told_apart_by_their_own() -> None:
    setup = Setup(whitelist="203.0.113.0/24 198.51.100.1")
    lines = 0
    for second in range(60):
        batch = setup.feed(alert(at=NOW + second) + alert("198.51.100.1", at=NOW + 7200 + second), now=None)
        lines += len(batch.decisions)
    assert lines == 2


def test_stale_events_of_one_address_are_one_line(setup: Setup) -> None:
    batch = setup.feed(b"".join(alert(at=NOW - 4000 - second) for second in range(5)))
    assert [decision.what.reason for decision in batch.decisions] == ["stale: 4000 s old"]


def test_only_types_that_a_rule_wants_are_decoded(setup: Setup) -> None:
    broken = b'{"timestamp":"x","event_type":"flow","flow":{"broken\n'
    batch = setup.feed(broken * 3 + alert() + b'{"event_type":"http"}\n')
    assert len(batch.decisions) == 1
    assert setup.metrics.events == {"flow": 3, "http": 1, "alert": 1}
    assert setup.metrics.lines_invalid == 0


@pytest.mark.feature("A4")
def test_lines_that_fail_are_counted_and_the_first_of_a_kind_is_said(setup: Setup) -> None:
    bad = b'{"event_type":"alert","x":\n' * 3 + b'\xff\xfe{"event_type":"alert"}\n' * 2 + b"[]\n" + b"nonsense\n"
    batch = setup.feed(bad + alert(), discarded=4)
    assert len(batch.decisions) == 1
    assert setup.metrics.lines_invalid == 11
    assert 3 <= len(setup.said) <= 4
    assert all("a line was skipped" in text for text in setup.said)
    assert setup.feed(bad).decisions == []
    assert 3 <= len(setup.said) <= 4


def test_other_types_count_to_a_threshold_and_leave_no_alert_line() -> None:
    setup = Setup(RULES + SLOW)
    ssh = alert(event_type="ssh", dest_port=22, alert=None)
    assert setup.feed(ssh * 2).decisions == []
    batch = setup.feed(ssh)
    assert outcomes(batch) == [("new", "block", "203.0.113.7")]
    assert batch.alerts == []
    assert batch.decisions[0].what.sid is None


@pytest.mark.feature("A7")
def test_the_hosts_own_addresses_are_inside(setup: Setup) -> None:
    assert outcomes(setup.feed(alert("198.51.100.1"))) == [("new", "block", "198.51.100.1")]
    setup.pipeline.host_networks = [parse_network("198.51.100.2")]
    batch = setup.feed(alert("198.51.100.2") + alert("10.0.0.1"))
    assert [decision.what.reason for decision in batch.decisions] == ["outbound: INTERNAL/PRIVATE (skipped)"] * 2


@pytest.mark.feature("G9")
def test_lab_mode_blocks_private_addresses() -> None:
    setup = Setup(config=replace(Config.default(), home_net=()))
    assert outcomes(setup.feed(alert("10.0.0.1"))) == [("new", "block", "10.0.0.1")]


def test_an_offender_that_a_record_claims_is_not_believed(setup: Setup) -> None:
    batch = setup.feed(alert("192.0.2.1", offender="198.51.100.77", flow={}))
    assert [decision.ip for decision in batch.decisions] == [""]


@pytest.mark.feature("A6")
def test_fast_log(setup: Setup) -> None:
    line = (
        b"09/02/2025-11:24:45.000001  [**] [1:2000004:1] TEST [**] [Classification: x] [Priority: 1] "
        b"{TCP} 203.0.113.7:40000 -> 192.0.2.1:80\n"
    )
    batch = setup.feed(line + b"nonsense\n", format="fast", now=NOW + 25 * 3600)
    assert outcomes(batch) == [("new", "block", "203.0.113.7")]
    assert setup.metrics.lines_invalid == 1


@pytest.mark.feature("S7")
@pytest.mark.parametrize(
    "changes", [{"timestamp": "never"}, {"timestamp": None}, {"timestamp": "2025-02-30T00:00:00Z"}]
)
def test_unreadable_times_take_the_present_where_there_is_one(changes: dict[str, Any]) -> None:
    setup = Setup(RULES + SLOW)
    batch = setup.feed(alert(**changes))
    assert [(each.time, each.action) for each in batch.decisions] == [(NOW, "block")]
    ssh = alert("198.51.100.9", event_type="ssh", dest_port=22, **changes)
    assert outcomes(setup.feed(ssh * 3)) == [("new", "block", "198.51.100.9")]
    # A recording has no present: such an event blocks nobody, and counts for nothing.
    replay = Setup(RULES + SLOW)
    replay.feed(alert("198.51.100.8"), now=None)
    batch = replay.feed(alert(**changes), now=None)
    assert [(each.time, each.action, each.what.reason) for each in batch.decisions] == [(NOW, "skip", "stale: no time")]
    assert replay.feed(ssh * 9, now=None).decisions == []
    dated = alert("198.51.100.9", event_type="ssh", dest_port=22)
    assert replay.feed(dated * 2, now=None).decisions == []
    assert outcomes(replay.feed(dated, now=None)) == [("new", "block", "198.51.100.9")]


def login(at: float, source: str = "203.0.113.7") -> bytes:
    return alert(source, event_type="ssh", dest_port=22, at=at)


@pytest.mark.feature("S7", "F3")
def test_events_of_a_clock_that_is_ahead_count_as_of_now_and_keep_their_time() -> None:
    setup = Setup(SLOW.join(("rules:", "")))
    assert setup.feed(login(NOW + 900) + login(NOW + 4e6), now=NOW).decisions == []
    (decision,) = setup.feed(login(NOW + 901), now=NOW + 1).decisions
    assert (decision.action, decision.time) == ("block", NOW + 901)
    # Those in the future have not pushed out what is counted now.
    setup.feed(login(NOW + 10, "203.0.113.8") + login(4e9, "203.0.113.9"), now=NOW + 10)
    assert outcomes(setup.feed(login(NOW + 11, "203.0.113.8") * 2, now=NOW + 11)) == [("new", "block", "203.0.113.8")]


@pytest.mark.feature("S7", "F3", "F9")
def test_a_clock_set_back_forgets_what_lies_in_its_future_in_every_window() -> None:
    config = replace(Config.default(), high_alert=HighAlert(blocks=2, window=60))
    setup = Setup(RULES + SLOW, config)
    setup.feed(alert("198.51.100.1") + alert("198.51.100.2"), login(NOW) * 2, now=NOW)
    assert setup.pipeline.modes(NOW)
    back = NOW - 20
    assert not setup.pipeline.modes(back)
    assert setup.feed(login(back) * 2, now=back).decisions == []
    assert outcomes(setup.feed(login(back + 1), now=back + 1)) == [("new", "block", "203.0.113.7")]


@pytest.mark.feature("S7", "D5")
def test_an_offence_in_the_future_of_a_clock_that_was_set_back_makes_no_block_longer() -> None:
    history = History(None, report=lambda text, problem: None)
    history.open()
    setup = Setup()
    setup.pipeline = Pipeline(setup.config, setup.rules, setup.recorder.look, history=history)
    (wrong,) = setup.feed(alert(at=NOW + 4e8), now=NOW + 4e8).decisions
    assert wrong.block is not None
    history.add([wrong.block], NOW + 4e8, 0.0)
    setup.recorder.take(wrong.block)
    (right,) = setup.feed(alert(), now=NOW).decisions
    assert (right.what.duration, right.offence) == (1800, True)
    history.add([wrong.block], NOW, 0.0)
    (again,) = setup.feed(alert(at=NOW + 1801), now=NOW + 1801).decisions
    assert again.what.duration == 3600


@pytest.mark.feature("S7", "F3")
def test_a_clock_corrected_by_less_than_a_second_forgets_nothing() -> None:
    setup = Setup(RULES + SLOW)
    setup.feed(login(NOW) * 2, now=NOW)
    assert outcomes(setup.feed(login(NOW - 0.5), now=NOW - 0.5)) == [("new", "block", "203.0.113.7")]


@pytest.mark.feature("S7", "F3")
def test_a_clock_that_jumps_forward_ages_all() -> None:
    setup = Setup(RULES + SLOW)
    setup.feed(login(NOW) * 2, now=NOW)
    later = NOW + 86_400
    assert setup.feed(login(later), now=later).decisions == []
    assert outcomes(setup.feed(login(later + 1) * 2, now=later + 1)) == [("new", "block", "203.0.113.7")]


@pytest.mark.feature("S7", "A2")
def test_lines_from_before_the_clock_was_set_back_are_not_recalled() -> None:
    lines = login(NOW + 3600) * 2 + login(NOW, "198.51.100.9") + login(NOW)
    for now, hit in ((NOW, "198.51.100.9"), (NOW - 60, None)):
        setup = Setup(RULES + SLOW)
        setup.pipeline.recall([Chunk("eve", "eve.json", lines, 0)], now=now)
        assert setup.feed(login(NOW), now=NOW).decisions == []
        assert bool(setup.feed(login(NOW, "198.51.100.9") * 2, now=NOW).decisions) is (hit is not None)


@pytest.mark.feature("S7", "F4")
def test_an_event_without_a_time_in_a_recording_begins_no_sequence() -> None:
    then = RULES + "  - {name: Then, type: ssh, expression: true, sequence: {after: High, within: 3600}}\n"
    for timestamp, hits in (("never", 0), (stamp(NOW), 1)):
        setup = Setup(then)
        setup.feed(alert(timestamp=timestamp) + alert(event_type="ssh", at=NOW + 1), now=None)
        assert setup.metrics.rule_hits["Then"] == hits


def test_names_of_types_do_not_fill_memory(setup: Setup) -> None:
    setup.feed(b"".join(b'{"event_type":"t%d"}\n' % number for number in range(1000)))
    assert len(setup.metrics.events) <= 65
    assert sum(setup.metrics.events.values()) == 1000


MUTATIONS = int(os.environ.get("NGFW_MUTATIONS", "20000"))  # 1000000 is the long form
SAMPLES = (
    alert(msg='"\\ud800 "event_type":"flow"'),
    alert("2001:db8::7", alert={"gid": 1, "signature_id": 4, "signature": 'a "quoted\\" \u2028one', "severity": 1}),
    alert(event_type="ssh", dest_port=22),
)
FAST = (
    b"11/24/2026-17:00:00.123456  [**] [1:2019284:3] ET X -> Y 10.0.0.1:80 [**] [Classification: Bad] [Priority: 1] "
    b"{TCP} 203.0.113.7:40000 -> 192.0.2.1:80\n"
)


def mutated(line: bytes, random_: random.Random) -> bytes:
    """Bit flips, cuts, and pieces of itself; still one line."""
    found = bytearray(line)
    for _ in range(random_.randint(1, 6)):
        at = random_.randrange(max(1, len(found) - 1))
        choice = random_.random()
        if choice < 0.5:
            found[at] ^= 1 << random_.randrange(8)
        elif choice < 0.8:
            del found[at : at + random_.randint(1, 40)]
        else:
            found[at:at] = found[random_.randrange(len(found)) :][:30]
        found = found or bytearray(b" ")
    return bytes(found).replace(b"\n", b" ") + b"\n"


def parsed(address: object) -> list[Network]:
    try:
        return [parse_network(address)] if isinstance(address, str) else []
    except AddressError:
        return []


@pytest.mark.feature("E1", "A4")
def test_mutated_lines_raise_nothing_forge_no_line_and_block_nobody_else() -> None:
    setup = Setup(RULES + SLOW, replace(Config.default(), home_net=(parse_network("192.0.2.0/24"),)))
    seed = int(os.environ.get("NGFW_SEED", "7"))
    random_ = random.Random(seed)
    print(f"NGFW_SEED={seed}")
    for _ in range(MUTATIONS):
        sample = random_.choice((*SAMPLES, FAST))
        line = mutated(sample, random_)
        batch = setup.feed(line, format="fast" if sample is FAST else "eve")
        for decision in batch.decisions:
            found = told_of(decision, now=NOW, dry_run=False)
            assert found.cut_off == (decision.block is not None)
            assert block_line(found).count("\n") == 1
            assert json_line(found).count("\n") == 1
            fields = json.loads(json_line(found))
            assert fields["ip"] == decision.ip
            if decision.block is not None and sample is not FAST:
                strict = json.loads(line)
                flow = strict.get("flow")
                named = [strict.get("src_ip"), strict.get("dest_ip")]
                named.append(flow.get("src_ip") if type(flow) is dict else None)
                hosts = [host for each in named for host in parsed(each)]
                assert any(decision.block.network.contains(host) for host in hosts)
                assert strict["alert"]["severity"] == 1 or strict["event_type"] == "ssh"
        for decision in batch.alerts:
            assert alert_line(decision, "2026-11-24 17:00:00").count("\n") == 1
    assert not any("an error of this program" in text for text in setup.said)


def test_an_error_of_our_own_costs_one_line_only(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pipeline.resolve

    def fail_once(record: dict[str, Any], *more: Any) -> Any:
        if record["src_ip"] == "203.0.113.66":
            raise KeyError("oops")
        return real(record, *more)

    monkeypatch.setattr(pipeline, "resolve", fail_once)
    batch = setup.feed(alert("203.0.113.1") + alert("203.0.113.66") + alert("203.0.113.2"))
    assert [decision.ip for decision in batch.decisions] == ["203.0.113.1", "203.0.113.2"]
    assert setup.metrics.lines_invalid == 1
    assert "KeyError" in setup.said[0]


def ssh(source: str, at: float) -> bytes:
    return alert(source, at=at, event_type="ssh", dest_port=22)


@pytest.mark.feature("F3")
def test_what_was_counted_before_a_restart_counts_again_without_effect() -> None:
    setup = Setup(RULES + SLOW)
    before = ssh("203.0.113.7", NOW - 500) * 2 + ssh("203.0.113.8", NOW - 9) * 2 + alert("203.0.113.9", at=NOW - 8)
    setup.pipeline.recall([Chunk("eve", "eve.json", before + b"torn\n", 0)])
    assert setup.metrics.to_dict() == Metrics().to_dict()
    assert setup.said == []
    assert outcomes(setup.feed(ssh("203.0.113.7", NOW))) == []
    assert outcomes(setup.feed(ssh("203.0.113.8", NOW))) == [("new", "block", "203.0.113.8")]


def test_a_window_is_cleared_by_the_hit_of_the_run_before() -> None:
    setup = Setup(RULES + SLOW)
    setup.pipeline.recall([Chunk("eve", "eve.json", ssh("203.0.113.8", NOW - 9) * 3, 0)])
    assert outcomes(setup.feed(ssh("203.0.113.8", NOW))) == []


@pytest.mark.feature("F3")
def test_addresses_of_one_ipv6_network_are_counted_as_one_source() -> None:
    setup = Setup(RULES + SLOW, whitelist="2001:db8:b::99")
    rotating = b"".join(ssh(f"2001:db8:a::{number}", NOW) for number in range(1, 4))
    assert outcomes(setup.feed(rotating)) == [("new", "block", "2001:db8:a::/64")]
    apart = b"".join(ssh(f"2001:db8:a:{number}::1", NOW) for number in range(1, 4))
    assert outcomes(setup.feed(apart)) == []
    # Where a whole network would not be blocked, its hosts are sources of their own.
    neighbours = b"".join(ssh(f"2001:db8:b::{number}", NOW) for number in range(1, 4))
    assert outcomes(setup.feed(neighbours)) == []


# -- many blocks, repeat offenders


def flood(count: int, first: int = 0, **changes: Any) -> bytes:
    return b"".join(alert(f"203.0.{number // 250}.{number % 250 + 1}", **changes) for number in range(first, count))


UDP: dict[str, Any] = {"proto": "UDP", "app_proto": "dns", "flow": {"pkts_toserver": 1, "pkts_toclient": 0}}
SPOOFABLE = RULES.replace("    severity: high\n", "    severity: high\n    spoofable: true\n")


@pytest.mark.feature("F9", "C5")
def test_a_flood_with_forged_sources_trips_its_own_breaker_only() -> None:
    setup = Setup(SPOOFABLE, whitelist="203.0.0.1")
    setup.recorder.guard_by(
        whitelist={parse_network("203.0.0.1"): ""},
        protected={parse_network("203.0.0.2"): "default gateway", parse_network("203.0.0.3"): "resolver"},
    )
    batch = setup.feed(flood(10_000, **UDP))
    blocked = {decision.ip for decision in batch.decisions if decision.block is not None}
    assert len(blocked) == 5000
    assert not blocked & {"203.0.0.1", "203.0.0.2", "203.0.0.3"}
    assert setup.metrics.skips == {"whitelist": 1, "protected": 2, "breaker": 4997}
    refused = batch.decisions[-1]
    assert (refused.action, refused.what.reason, refused.block) == (
        "skip",
        "breaker: 5000 blocks in 60 s on evidence that can be forged",
        None,
    )
    assert [name.startswith("circuit breaker for evidence") for name in setup.pipeline.modes(NOW)].count(True) == 1
    tcp = setup.feed(flood(100).replace(b"203.0.", b"198.51."))
    assert [decision.outcome for decision in tcp.decisions] == [Outcome.NEW] * 100
    later = setup.feed(alert("192.88.99.1", at=NOW + 61, **UDP), now=NOW + 61)
    assert later.decisions[0].outcome is Outcome.NEW, "a minute of silence and it works again"
    assert not setup.pipeline.modes(NOW + 200)


@pytest.mark.feature("F6")
def test_no_action_is_suppressed_because_alerts_are_many(setup: Setup) -> None:
    batches = [setup.feed(flood(3000), flood(3000)) for _time in range(3)]
    blocked = [decision.ip for batch in batches for decision in batch.decisions if decision.block is not None]
    assert len(blocked) == len(set(blocked)) == 3000
    assert sum(len(batch.alerts) for batch in batches) == 18_000
    assert not setup.metrics.skips
    [last] = setup.feed(alert("198.51.100.1")).decisions
    assert last.outcome is Outcome.NEW


@pytest.mark.feature("F9")
def test_under_any_other_rule_a_forged_flood_is_refused_as_such() -> None:
    setup = Setup()
    setup.feed(flood(10_000, **UDP))
    assert setup.metrics.skips == {"spoofable": 10_000}
    assert not setup.pipeline.modes(NOW)


ASKS = RULES.replace("severity: high", "severity: high\n    intel: require").replace("High", "Asks")


@pytest.mark.feature("U5", "B5")
def test_a_rule_that_asks_for_reputation_where_there_is_none_fills_no_history() -> None:
    setup, informed = Setup(ASKS), False
    setup.pipeline = Pipeline(
        setup.config,
        setup.rules,
        setup.recorder.look,
        ask=lambda address, case: [Verdict("firehol_level1", State.LIST_MISSING)],
        knows=lambda: informed,
        metrics=setup.metrics,
        report=setup.said.append,
    )
    assert setup.pipeline.idle_rules() == []
    lines = [alert(f"203.0.113.{n}") + alert(f"198.51.100.{n}", proto="UDP") for n in range(1, 51)]
    batch = setup.feed(*lines)
    assert [each.what.reason for each in batch.decisions] == [
        "reputation: REPUTATION UNKNOWN (fail-open: all TI providers failed)"
    ]
    assert len(batch.alerts) == 100
    assert setup.metrics.skips == {"reputation": 50, "spoofable": 50}
    assert setup.pipeline.idle_rules() == ["Asks"]
    (said,) = setup.said
    assert said.startswith("rule 'Asks' asks for reputation, and there is no list and no key")
    informed = True
    assert setup.pipeline.idle_rules() == []
    assert len(setup.feed(alert("203.0.113.77") + alert("203.0.113.78")).decisions) == 2
    informed = False
    assert len(setup.feed(alert("203.0.113.79") + alert("203.0.113.80")).decisions) == 1
    assert len(setup.said) == 2


@pytest.mark.feature("U5")
def test_a_rule_that_asks_and_blocks_where_nobody_knows_is_not_idle() -> None:
    setup = Setup(ASKS, replace(Config.default(), intel=Intel(fail_policy="closed")))
    setup.pipeline = Pipeline(setup.config, setup.rules, setup.recorder.look, knows=lambda: False)
    assert [each.action for each in setup.feed(alert() + alert("203.0.113.8")).decisions] == ["block"] * 2
    skips = setup.feed(alert("203.0.113.9", proto="UDP") + alert("203.0.113.10", proto="UDP")).decisions
    assert [each.what.reason for each in skips] == ["spoofable"] * 2


@pytest.mark.feature("F9", "F6")
@pytest.mark.parametrize("kind", ["iptables_log", "iptables_rate_limit"])
def test_the_breaker_and_high_alert_count_and_refuse_only_what_stops_packets(kind: str) -> None:
    config = replace(Config.default(), circuit_breaker=CircuitBreaker(5, 60), high_alert=HighAlert(blocks=3))
    both = RULES.replace("type: iptables_block, config", f"type: {kind}, config")
    blocks = RULES.replace("rules:\n", "").replace("name: High", "name: Cut off").replace("== 1", "== 2")
    setup = Setup(both + blocks, config)
    assert len(setup.feed(flood(50)).decisions) == 50
    assert not setup.pipeline.modes(NOW)
    record = json.loads(alert())["alert"]
    worse = b"".join(alert(f"198.51.100.{n}", alert={**record, "severity": 2}) for n in range(1, 31))
    assert setup.feed(worse).decisions
    assert setup.metrics.skips == {"breaker": 10}
    assert len(setup.pipeline.modes(NOW)) == 2
    assert [each.outcome for each in setup.feed(alert("203.0.113.200")).decisions] == [Outcome.NEW]


@pytest.mark.feature("F9")
def test_what_is_taken_on_trust_counts_with_what_can_be_forged() -> None:
    record = json.loads(alert())
    del record["flow"]
    trusted = [json.dumps({**record, "src_ip": f"203.0.113.{number}"}).encode() + b"\n" for number in range(1, 8)]
    config = replace(Config.default(), circuit_breaker=CircuitBreaker(blocks=5, window=60))
    setup = Setup(config=config)
    batch = setup.feed(*trusted)
    assert [decision.outcome is Outcome.NEW for decision in batch.decisions] == [True] * 5 + [False] * 2
    assert len(setup.feed(flood(21)).decisions) == 21
    assert setup.metrics.skips == {"breaker": 3}


@pytest.mark.feature("D5", "F8")
def test_an_offender_that_comes_back_is_blocked_for_longer_until_it_is_forgotten() -> None:
    history = History(None, report=lambda text, problem: None)
    history.open()
    setup = Setup(config=replace(Config.default(), escalation=Escalation(factor=2, max=4 * 3600, memory=86_400)))
    setup.pipeline = Pipeline(setup.config, setup.rules, setup.recorder.look, history=history)
    found = []
    moment = NOW
    for _time in range(6):
        batch = setup.feed(alert(at=moment), now=moment)
        [decision] = batch.decisions
        assert decision.block is not None
        history.add([decision.block], moment, moment - 86_400)
        found.append(decision.what.duration)
        moment += decision.block.duration + 1
    assert found == [1800, 3600, 7200, 14400, 14400, 14400]
    [decision] = setup.feed(alert(at=moment + 90_000), now=moment + 90_000).decisions
    assert decision.what.duration == 1800


# -- answers that come later

CONFIRM = RULES.replace("    severity: high\n", "    severity: high\n    intel: confirm\n")
REQUIRE = RULES.replace("    severity: high\n", "    severity: high\n    intel: require\n")
PENDING, CLEAN = Verdict("abuseipdb", State.PENDING), rated("abuseipdb", 5, 70, NOW)
BAD = rated("abuseipdb", 95, 70, NOW)


class Asking(Setup):
    """A pipeline whose one provider has not answered yet."""

    def __init__(self, rules: str) -> None:
        super().__init__(rules)
        self.says: tuple[Verdict, ...] = (PENDING,)
        self.asked: list[tuple[Network, intel.Case]] = []
        self.pipeline = Pipeline(self.config, self.rules, self.recorder.look, ask=self.ask, metrics=self.metrics)

    def ask(self, address: Network, case: intel.Case) -> tuple[Verdict, ...]:
        self.asked.append((address, case))
        return self.says

    def answer(self, verdict: Verdict) -> tuple[Batch, list[Lift]]:
        cases = {case.key: case.text for _address, case in self.asked}
        answers = [intel.Answer(1, self.asked[0][0], (verdict,), cases, True)]
        return self.pipeline.answered(answers, now=NOW + 2)


@pytest.mark.feature("B7")
@pytest.mark.parametrize("source", ["203.0.113.7", "2001:db8::5"])
def test_confirm_blocks_at_once_and_the_answer_decides(source: str) -> None:
    setup = Asking(CONFIRM)
    batch = setup.feed(alert(source, sid=7))
    [first] = batch.decisions
    assert (first.outcome, first.what.duration, first.offence) == (Outcome.NEW, 60, False)
    assert batch.lookups == setup.asked
    assert str(setup.asked[0][0]) == source
    bad, lifts = setup.answer(BAD)
    assert lifts == []
    [longer] = bad.decisions
    assert (longer.outcome, longer.what.duration, longer.ip) == (Outcome.EXTENDED, 1800, first.ip)
    assert (longer.what.reason, longer.what.score) == ("REPUTATION BLOCK (source=abuseipdb,score=95)", 95)
    assert (longer.time, longer.what.sid, longer.what.msg) == (first.time, 7, "Something")
    assert longer.of_record[1] == source
    assert longer.offence
    clean, lifts = setup.answer(CLEAN)
    assert clean.decisions == []
    assert [(str(lift.block.network), lift.reason) for lift in lifts] == [
        (first.ip, "REPUTATION CLEAN (source=abuseipdb,score=5)")
    ]


@pytest.mark.feature("B7")
@pytest.mark.parametrize(("seconds", "blocked_for"), [("45s", 61), ("60s", 61), ("2h", 7200)])
def test_a_block_that_asks_nobody_stays_whatever_the_answer_to_another_rule(seconds: str, blocked_for: int) -> None:
    sure = RULES.partition("rules:\n")[2].replace("High", "Sure").replace("30m", seconds)
    setup = Asking(CONFIRM + sure)
    provisional, lasting = setup.feed(alert()).decisions
    assert (provisional.what.rule, provisional.what.duration) == ("High", 60)
    assert (lasting.outcome, lasting.what.rule, lasting.what.reason) == (Outcome.EXTENDED, "Sure", "RULE Sure")
    assert lasting.what.duration == blocked_for
    batch, lifts = setup.answer(CLEAN)
    assert lifts == []
    assert [decision.action for decision in batch.decisions] == ["skip"]


@pytest.mark.feature("B2")
def test_an_answer_that_is_there_at_the_next_hit_counts() -> None:
    setup = Asking(CONFIRM)
    setup.feed(alert())
    setup.says = (BAD,)
    assert outcomes(setup.feed(alert(), goes_on=True)) == [("extended", "block", "203.0.113.7")]


def test_require_waits_for_the_answer() -> None:
    setup = Asking(REQUIRE)
    batch = setup.feed(alert())
    [first] = batch.decisions
    assert (first.action, first.what.reason) == ("skip", "reputation: REPUTATION PENDING (abuseipdb: asked)")
    assert len(batch.alerts) == len(batch.lookups) == 1
    again = setup.feed(alert())
    assert again.decisions == []
    assert again.has_effect, "its alert has a line"
    bad, _lifts = setup.answer(BAD)
    assert outcomes(bad) == [("new", "block", "203.0.113.7")]
    clean, _lifts = setup.answer(CLEAN)
    assert clean.decisions[0].what.reason == "reputation: REPUTATION CLEAN (source=abuseipdb,score=5)"


def test_an_answer_for_a_rule_that_is_gone_or_a_text_of_others_does_nothing() -> None:
    setup = Asking(REQUIRE)
    setup.feed(alert())
    address, case = setup.asked[0]
    other = Pipeline(
        setup.config, parse_rules(LONGER.replace("  -", "rules:\n  -", 1).encode(), "x"), setup.recorder.look
    )
    for text in (case.text, "", "[]", "{}", '{"rule":7}', case.text.replace('"action":0', '"action":9')):
        pipeline_of = other if text == case.text else setup.pipeline
        answers = [intel.Answer(1, address, (BAD,), {"key": text}, True)]
        assert pipeline_of.answered(answers, now=NOW) == (Batch([], [], [], []), [])


def test_what_is_kept_for_an_answer_is_bounded() -> None:
    setup = Asking(REQUIRE)
    long = "\U0001f600" * 5000
    event = json.loads(alert())
    event["alert"]["signature"] = event["proto_text"] = event["event_type_"] = long
    event.update(app_proto=long, src_port=10**4000)
    setup.feed(json.dumps(event).encode() + b"\n")
    [(_address, case)] = setup.asked
    assert len(case.text) < MAX_TEXT
    bad, _lifts = setup.answer(BAD)
    assert bad.decisions[0].what.msg == "\U0001f600" * 128


@pytest.mark.feature("B9")
def test_high_alert_makes_require_block_before_the_answer() -> None:
    setup = Asking(REQUIRE + SPOOFABLE.replace("rules:", "").replace("High", "Worse").replace("== 1", "== 2"))
    many = b"".join(
        alert(f"198.51.100.{number}", alert={"gid": 1, "signature_id": 1, "signature": "x", "severity": 2})
        for number in range(1, 51)
    )
    assert setup.feed(alert()).decisions[0].action == "skip"
    assert len(setup.feed(many).decisions) == 50
    assert list(setup.pipeline.modes(NOW)) == ["high-alert mode"]
    assert setup.feed(alert("203.0.113.9")).decisions[0].what.duration == 60
    assert setup.feed(alert("203.0.113.10", at=NOW + 61), now=NOW + 61).decisions[0].action == "skip"


@pytest.mark.feature("S3")
def test_searches_that_are_cut_off_are_counted_and_each_regex_is_named_once() -> None:
    setup = Setup(
        "rules:\n"
        "  - {name: Slow, type: alert, expression: 'matches(alert.signature, \"(?:ab?)+c\") or alert.severity == 3'}\n"
    )
    hostile = alert(alert={"gid": 1, "signature_id": 1, "signature": "a" * 8000 + "!c", "severity": 3})
    assert setup.feed(hostile * 3).decisions, "the rest of the expression still counts"
    setup.feed(hostile)
    assert setup.metrics.errors == 4
    (said,) = setup.said
    assert said.startswith("rule 'Slow': searching for the regex '(?:ab?)+c' took too long")
