# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as Suricata 7.0.10 and 8.0.8 wrote them for a bridge (br0) and its port (b0), shortened."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.events.eve import parse_time
from ngfw.rules import doubles
from ngfw.rules.doubles import Doubles
from ngfw.rules.engine import Engine
from ngfw.rules.load import parse_rules

T = 1_756_812_246.0
DATA = Path(__file__).parents[3] / "data/eve"


def packet(sid: int = 1000001, *, interface: str | None = "b0", flow: int = 746544275650381, **changes: Any) -> Any:
    record = {
        "flow_id": flow,
        "in_iface": interface,
        "event_type": "alert",
        "src_ip": "198.51.100.7",
        "src_port": 53824,
        "dest_ip": "192.0.2.2",
        "dest_port": 80,
        "alert": {"signature_id": sid},
        **changes,
    }
    return {name: value for name, value in record.items() if value is not None}


def seen(*records: tuple[float, dict[str, Any]]) -> list[bool]:
    found = Doubles()
    return [found.is_double(record["event_type"], record, T + time) for time, record in records]


@pytest.mark.feature("S5")
@pytest.mark.parametrize("flow", [746544275650381, 746574256304703])
def test_a_packet_on_two_interfaces_is_one_whatever_its_flow_is_called(flow: int) -> None:
    assert seen((0.304890, packet()), (0.304897, packet(interface="br0", flow=flow))) == [False, True]
    assert seen((0.304897, packet(interface="br0", flow=flow)), (0.304890, packet())) == [False, True]
    assert seen((0, packet()), (0.9, packet(interface="br0"))) == [False, True]
    assert seen((0, packet()), (1.1, packet(interface="br0"))) == [False, False]


@pytest.mark.feature("S5")
def test_a_packet_in_two_threads_of_one_interface_is_one() -> None:
    assert seen((0.486075, packet()), (0.486075, packet())) == [False, True]
    assert seen((0.897514, packet()), (0.897513, packet())) == [False, True]


@pytest.mark.feature("S5")
@pytest.mark.parametrize("interfaces", [["b0"], ["b0", "br0"], ["br0", "b0", "b1"]])
def test_attempts_over_one_connection_count_each_on_any_number_of_interfaces(interfaces: list[str]) -> None:
    records = [
        (second, packet(interface=interface)) for second in (0.1, 0.2, 0.25, 0.4, 0.95) for interface in interfaces
    ]
    assert seen(*records) == ([False] + [True] * (len(interfaces) - 1)) * 5
    late = sorted(records, key=lambda each: interfaces.index(each[1]["in_iface"]))
    assert seen(*late).count(False) == 5


@pytest.mark.feature("S5")
def test_requests_in_one_packet_are_told_apart_by_their_transaction() -> None:
    requests = [(0.310088, packet(tx_id=number)) for number in (2, 1, 0)]
    assert seen(*requests) == [False] * 3
    again = [(0.310091, packet(tx_id=number, interface="br0")) for number in (2, 1, 0)]
    assert seen(*requests, *again) == [False] * 3 + [True] * 3


@pytest.mark.feature("S5")
@pytest.mark.parametrize(
    "changes",
    [{"sid": 1000003}, {"src_port": 53825}, {"src_ip": "198.51.100.8"}, {"dest_port": 81}, {"event_type": "http"}],
)
def test_what_differs_is_another_packet(changes: dict[str, Any]) -> None:
    assert seen((0, packet()), (0, packet(interface="br0", **changes))) == [False, False]


@pytest.mark.feature("S5")
def test_records_of_other_types_are_told_by_what_they_say() -> None:
    smb = [packet(event_type="smb", smb={"id": number}) for number in (22, 23)]
    assert seen(*((0.5, each) for each in smb)) == [False, False]
    assert seen((0.5, smb[0]), (0.5, dict(smb[0], in_iface="br0"))) == [False, True]
    flows = [packet(event_type="flow", flow={"start": start}, interface=start) for start in ("b0", "br0")]
    assert seen((0.473717, flows[0]), (0.474696, flows[1])) == [False, True]


@pytest.mark.feature("S5")
def test_without_a_flow_id_and_with_nonsense_everything_counts() -> None:
    line = packet()
    del line["flow_id"]
    assert seen((0, line), (0, line)) == [False, False]
    odd = packet(src_ip=["198.51.100.7"], alert=[7])
    assert seen((0, odd), (0, odd)) == [False, False]


@pytest.mark.feature("S5", "F3")
def test_a_flood_is_remembered_in_bounded_memory() -> None:
    found = Doubles()
    for number in range(20_000):
        record = packet(src_ip=f"10.{number >> 8}.{number & 255}.1")
        assert not found.is_double("alert", record, T + number / 50_000)
        assert found.is_double("alert", dict(record, in_iface="br0"), T + number / 50_000 + 0.001)
    assert len(found._young) + len(found._old) <= 2 * doubles._MANY


@pytest.mark.feature("S5")
@given(st.lists(st.integers(1, 990_000), min_size=1, max_size=30, unique=True), st.booleans())
def test_two_interfaces_never_count_less_than_one(microseconds: list[int], one_after_the_other: bool) -> None:
    times = sorted(number / 1e6 for number in microseconds)
    alone = seen(*((time, packet()) for time in times)).count(False)
    both = [(time + lag, packet(interface=name)) for time in times for name, lag in (("b0", 0.0), ("br0", 3e-5))]
    if one_after_the_other:
        both.sort(key=lambda each: each[1]["in_iface"])
    assert alone <= seen(*both).count(False) <= len(times)


BRUTE = (
    b"rules:\n"
    b"  - {name: brute, type: alert, expression: alert.signature_id == 1000001, threshold: 3}\n"
    b"  - {name: ways, type: alert, expression: alert.signature_id == 1000001, threshold: 3, distinct: flow_id}\n"
    b"  - {name: first, type: alert, expression: alert.signature_id == 1000002}\n"
    b"  - {name: then, type: alert, expression: alert.signature_id == 1000002, sequence: {after: first, within: 9}}\n"
)


@pytest.mark.feature("S5", "F3")
def test_no_rule_counts_a_packet_twice_and_each_rule_counts_it_once() -> None:
    engine = Engine(parse_rules(BRUTE, "x.yml"))
    names = []
    for number in range(6):
        for interface, flow in (("b0", 2 * number), ("br0", 2 * number + 1)):
            hits = engine.feed("alert", packet(interface=interface, flow=flow), T + number / 10)
            names.append([hit.rule.name for hit in hits])
    assert names == [[], [], [], [], ["brute", "ways"], []] * 2


@pytest.mark.feature("S5", "F4")
def test_the_second_record_of_a_packet_does_not_follow_the_first() -> None:
    engine = Engine(parse_rules(BRUTE, "x.yml"))
    hits = [engine.feed("alert", packet(1000002, interface=name), T + lag) for name, lag in (("b0", 0), ("br0", 3e-5))]
    assert [[hit.rule.name for hit in each] for each in hits] == [["first"], ["first"]]
    assert [hit.rule.name for hit in engine.feed("alert", packet(1000002), T + 0.5)] == ["first", "then"]


@pytest.mark.feature("S5", "S8")
@pytest.mark.parametrize("version", [7, 8])
def test_live_recordings_of_a_bridge_and_its_port_count_as_one_interface_does(version: int) -> None:
    records = [json.loads(line) for line in (DATA / f"twice-suricata{version}.json").read_text().splitlines()]
    found = Doubles()
    kept, alone = [
        Counter((each["event_type"], each.get("alert", {}).get("signature_id")) for each in some)
        for some in (
            [each for each in records if not found.is_double(each["event_type"], each, parse_time(each["timestamp"]))],
            [each for each in records if each["in_iface"] == "b0"],
        )
    ]
    assert {each["in_iface"] for each in records} == {"b0", "br0"}
    assert kept == alone
    assert alone["alert", 1000001] == alone["http", None] == 6
