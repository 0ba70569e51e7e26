# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.events.offender import Resolution, engine_event, may_be_forged, resolve
from ngfw.firewall.address import NetworkSet, parse_network

INSIDE = NetworkSet(map(parse_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
PROXIES = NetworkSet(map(parse_network, ("198.51.100.0/24", "10.0.0.7", "2001:db8:aaaa::/48")))
NOBODY = NetworkSet(())

RECORDINGS = Path(__file__).resolve().parents[3] / "data" / "eve"

OUR = "10.0.0.1"
THEM = "192.0.2.66"


def record(src: object = THEM, dest: object = OUR, **more: Any) -> dict[str, Any]:
    """A TCP alert from 40000 to 80, as Suricata writes it."""
    base = {
        "event_type": "alert",
        "src_ip": src,
        "src_port": 40000,
        "dest_ip": dest,
        "dest_port": 80,
        "proto": "TCP",
        "alert": {"gid": 1, "signature_id": 7},
    }
    return {key: value for key, value in {**base, **more}.items() if value is not None}


def rdp(src: str, src_port: int, dest: str, dest_port: int, **more: Any) -> dict[str, Any]:
    return record(src, dest, event_type="rdp", src_port=src_port, dest_port=dest_port, alert=None, **more)


def flow(src: str, dest: str, to_server: object = 5, to_client: object = 4) -> dict[str, Any]:
    return {"src_ip": src, "dest_ip": dest, "pkts_toserver": to_server, "pkts_toclient": to_client}


def named(source: object, target: object = OUR) -> dict[str, Any]:
    return {"gid": 1, "signature_id": 7, "source": {"ip": source}, "target": {"ip": target}}


def answer(event: dict[str, Any], proxies: NetworkSet = NOBODY, inside: NetworkSet = INSIDE) -> tuple[str | None, bool]:
    resolution = resolve(event, inside, proxies)
    return (None if resolution.address is None else str(resolution.address)), resolution.outbound


INITIATOR = [
    pytest.param(record(), (THEM, False), id="no flow, no direction: the source"),
    pytest.param(record(flow=flow(THEM, OUR)), (THEM, False), id="the flow's initiator"),
    pytest.param(
        record(OUR, THEM, flow=flow(THEM, OUR), direction="to_client"), (THEM, False), id="our answer: who provoked it"
    ),
    pytest.param(
        record(THEM, OUR, flow=flow(OUR, THEM), direction="to_client"), (OUR, True), id="we fetched a page: outbound"
    ),
    pytest.param(
        record(OUR, THEM, flow=flow(OUR, THEM), direction="to_server"), (OUR, True), id="our own request: outbound"
    ),
    pytest.param(record(THEM, OUR, direction="to_server"), (THEM, False), id="to_server: the source"),
    pytest.param(record(OUR, THEM, direction="to_client"), (THEM, False), id="to_client: the destination"),
    pytest.param(
        record(THEM, OUR, direction="to_server", src_port=80, dest_port=40000),
        (THEM, False),
        id="the direction counts more than ports",
    ),
    pytest.param(
        record(THEM, OUR, direction="to_client", flow={"pkts_toserver": 1}), (OUR, True), id="a flow without addresses"
    ),
    pytest.param(record(OUR, THEM, src_port=80, dest_port=40000), (THEM, False), id="from port 80: an answer"),
    pytest.param(record(THEM, OUR, src_port=1023, dest_port=1024), (OUR, True), id="1023 to 1024: an answer"),
    pytest.param(record(THEM, OUR, src_port=1024, dest_port=1024), (THEM, False), id="1024 to 1024: a request"),
    pytest.param(record(THEM, OUR, src_port=1023, dest_port=1023), (THEM, False), id="1023 to 1023: a request"),
    pytest.param(record(OUR, THEM, proto="UDP", src_port=53, dest_port=5353), (THEM, False), id="UDP answers too"),
    pytest.param(
        record(THEM, OUR, proto="SCTP", src_port=80, dest_port=40000), (THEM, False), id="other protocols not"
    ),
    pytest.param(record(THEM, OUR, proto="ICMP", src_port=None, dest_port=None), (THEM, False), id="no ports"),
    pytest.param(record(THEM, OUR, src_port="80", dest_port=40000), (THEM, False), id="a port that is no number"),
    pytest.param(rdp(OUR, 3389, THEM, 40000), (THEM, False), id="our RDP server: who asked it"),
    pytest.param(rdp(THEM, 40000, OUR, 3389), (THEM, False), id="a client of our RDP server"),
    pytest.param(rdp(THEM, 3389, OUR, 40000), (OUR, True), id="the RDP server that our client asked"),
    pytest.param(rdp(THEM, 3390, OUR, 40000), (THEM, False), id="RDP on a port of its own: the source"),
    pytest.param(rdp(THEM, 3389, OUR, 3389), (THEM, False), id="RDP from its port to its port: the source"),
    pytest.param(rdp(THEM, 3389, OUR, 40000, direction="to_server"), (THEM, False), id="RDP: a direction counts more"),
    pytest.param(record(THEM, OUR, src_port=3389), (THEM, False), id="3389 is nothing without RDP"),
    pytest.param(record(OUR, "10.9.9.9"), (OUR, True), id="internal"),
    pytest.param(record("10.9.9.9", OUR), ("10.9.9.9", True), id="internal, the other way"),
]

NAMED = [
    pytest.param(record(OUR, THEM, alert=named(THEM)), (THEM, False), id="the signature names the destination"),
    pytest.param(record(THEM, OUR, flow=flow(THEM, OUR), alert=named(OUR)), (OUR, True), id="more than the flow"),
    pytest.param(record(alert=named("no address")), (None, False), id="garbage is nobody"),
    pytest.param(record(alert=named(["192.0.2.1"])), (None, False), id="a list is nobody"),
    pytest.param(record(alert={"source": "192.0.2.1"}), (THEM, False), id="no object: as if absent"),
    pytest.param(record(alert={"source": {"port": 5}}), (THEM, False), id="no address in it: as if absent"),
    pytest.param(record(alert={"target": {"ip": OUR}}), (THEM, False), id="the target alone says nothing"),
]

GARBAGE = [
    pytest.param({}, (None, False), id="empty"),
    pytest.param(record(None, None), (None, False), id="no addresses"),
    pytest.param(record("0.0.0.0", "255.255.255.255"), (None, False), id="unspecified"),
    pytest.param(record("::", "ff02::1"), (None, False), id="unspecified IPv6"),
    pytest.param(record("230.47.210.140", OUR), ("230.47.210.140", False), id="multicast: refused as protected later"),
    pytest.param(record(THEM, THEM), (None, False), id="source is destination"),
    pytest.param(record("::ffff:192.0.2.66", THEM), (None, False), id="source is destination, written otherwise"),
    pytest.param(record("192.0.2.66/32", OUR), (THEM, False), id="a full prefix is a host"),
    pytest.param(record("192.0.2.0/24", OUR), (None, False), id="a network"),
    pytest.param(record("192.0.2.066", OUR), (None, False), id="octal"),
    pytest.param(record("evil.example", OUR), (None, False), id="a name"),
    pytest.param(record("", OUR), (None, False), id="nothing"),
    pytest.param(record("fe80::1%eth0", OUR), (None, False), id="a zone"),
    pytest.param(record(3232235777, OUR), (None, False), id="a number"),
    pytest.param(record([THEM], OUR), (None, False), id="a list"),
    pytest.param(record({"ip": THEM}, OUR), (None, False), id="an object"),
    pytest.param(record(THEM, OUR, flow="none"), (THEM, False), id="a flow that is none"),
    pytest.param(record(THEM, OUR, flow={"src_ip": 5}), (None, False), id="a flow with garbage"),
    pytest.param(record(THEM, OUR, alert=[1]), (THEM, False), id="an alert that is none"),
    pytest.param(record(THEM, OUR, direction=["to_client"]), (THEM, False), id="a direction that is none"),
    pytest.param(record("::ffff:5.6.7.8", OUR), ("5.6.7.8", False), id="v4-mapped"),
    pytest.param(
        record("0000:0000:0000:0000:0000:ffff:0a00:0005", "2001:db8::1"), ("10.0.0.5", True), id="v4-mapped and inside"
    ),
    pytest.param(
        record("2001:0db8:0002:0000:0000:0000:0000:0002", "fc00::1"), ("2001:db8:2::2", False), id="uncompressed"
    ),
]


@pytest.mark.parametrize(("event", "expected"), INITIATOR + NAMED + GARBAGE)
@pytest.mark.feature("A7")
def test_who_started_it(event: dict[str, Any], expected: tuple[str | None, bool]) -> None:
    assert answer(event) == expected


def behind(xff: object, src: str = "198.51.100.9", **more: Any) -> dict[str, Any]:
    return record(src, OUR, alert={"gid": 1, "signature_id": 7, "xff": xff}, **more)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(behind("203.0.113.9"), ("203.0.113.9", False), id="one client"),
        pytest.param(behind("203.0.113.8, 203.0.113.9"), ("203.0.113.9", False), id="the last of a list"),
        pytest.param(behind("203.0.113.9,198.51.100.3"), ("203.0.113.9", False), id="proxies at the end are skipped"),
        pytest.param(behind(["203.0.113.8", "203.0.113.9, 10.0.0.7"]), ("203.0.113.9", False), id="a JSON list"),
        pytest.param(behind(" 203.0.113.9:4711 "), ("203.0.113.9", False), id="with a port"),
        pytest.param(behind("[2001:db8::9]:4711"), ("2001:db8::9", False), id="IPv6 with a port"),
        pytest.param(behind("2001:db8::9"), ("2001:db8::9", False), id="IPv6"),
        pytest.param(behind("::ffff:203.0.113.9"), ("203.0.113.9", False), id="v4-mapped"),
        pytest.param(behind("10.1.2.3"), ("10.1.2.3", True), id="a client of ours"),
        pytest.param(behind("203.0.113.9", src="10.0.0.7"), ("203.0.113.9", False), id="a proxy inside"),
        pytest.param(
            record(OUR, "198.51.100.9", direction="to_client", alert={"xff": "203.0.113.9"}),
            ("203.0.113.9", False),
            id="an answer through the proxy",
        ),
        pytest.param(behind("203.0.113.9, unknown"), (None, False), id="behind garbage nothing is believed"),
        pytest.param(behind("unknown"), (None, False), id="garbage"),
        pytest.param(behind(""), (None, False), id="empty"),
        pytest.param(behind("198.51.100.3"), (None, False), id="proxies only"),
        pytest.param(behind(17), (None, False), id="no text"),
        pytest.param(behind([]), (None, False), id="an empty list"),
        pytest.param(behind("0.0.0.0"), (None, False), id="unspecified"),
        pytest.param(behind("203.0.113.9", src=THEM), (THEM, False), id="a stranger's header is not believed"),
        pytest.param(record("198.51.100.9", OUR), ("198.51.100.9", False), id="a proxy without the header"),
    ],
)
@pytest.mark.feature("A7", "A10")
def test_clients_behind_a_trusted_proxy(event: dict[str, Any], expected: tuple[str | None, bool]) -> None:
    assert answer(event, PROXIES) == expected


@pytest.mark.feature("A7")
def test_a_record_from_an_address_to_itself_names_whom_it_names_and_nobody_else() -> None:
    loopback = "127.0.0.1"
    proxy = NetworkSet([parse_network(loopback)])
    event = {**behind("203.0.113.9", loopback), "dest_ip": loopback}
    assert answer(event, proxy) == ("203.0.113.9", False), "the proxy runs on the host that it serves"
    assert answer(record(OUR, OUR, alert=named(THEM))) == (THEM, False)
    assert answer(record(THEM, THEM)) == (None, False)


@pytest.mark.feature("A7")
def test_without_trusted_proxies_no_header_is_believed() -> None:
    assert answer(behind("203.0.113.9")) == ("198.51.100.9", False)


@pytest.mark.feature("A7")
def test_without_a_home_net_only_the_hosts_own_addresses_are_inside() -> None:
    own = NetworkSet([parse_network(OUR)])
    assert answer(record("10.9.9.9", OUR), inside=own) == ("10.9.9.9", False)
    assert answer(record(OUR, THEM), inside=own) == (OUR, True)


@pytest.mark.parametrize(
    ("event", "forged"),
    [
        pytest.param(record(flow=flow(THEM, OUR, 3, 1)), False, id="three packets and an answer"),
        pytest.param(record(flow=flow(THEM, OUR, 2, 1)), True, id="two packets"),
        pytest.param(record(flow=flow(THEM, OUR, 2, 1), app_proto="http"), False, id="two, but a protocol"),
        pytest.param(record(flow=flow(THEM, OUR, 1, 1), app_proto="failed"), True, id="no protocol recognised"),
        pytest.param(record(flow=flow(THEM, OUR, 1, 1), app_proto=["http"]), True, id="no protocol at all"),
        pytest.param(record(flow=flow(THEM, OUR, 9, 0), app_proto="http"), True, id="no answer"),
        pytest.param(record(flow=flow(THEM, OUR, 0, 9), app_proto="http"), True, id="answers only"),
        pytest.param(record(flow=flow(THEM, OUR, "9", "9")), True, id="counts that are none"),
        pytest.param(record(flow={}), True, id="a flow without counts"),
        pytest.param(record(flow=None), False, id="without a flow TCP is taken on trust"),
        pytest.param(record(flow=flow(THEM, OUR), proto="UDP"), True, id="UDP"),
        pytest.param(record(proto="ICMP"), True, id="ICMP"),
        pytest.param(record(proto=None), True, id="no protocol named"),
        pytest.param(record(flow=flow(THEM, OUR), tunnel={"src_ip": "2.2.2.2"}), True, id="from another's tunnel"),
        pytest.param(record(flow=flow(THEM, OUR), tunnel={"src_ip": THEM}), False, id="its own tunnel: fragments"),
        pytest.param(record(flow=flow(THEM, OUR), tunnel={}), True, id="a tunnel from nowhere"),
        pytest.param(record(tunnel={"src_ip": "2.2.2.2"}), True, id="a tunnel without a flow"),
        pytest.param(behind(THEM, src=THEM, flow=flow(THEM, OUR)), True, id="xff mode overwrite"),
        pytest.param(behind("::ffff:" + THEM, src=THEM, flow=flow(THEM, OUR)), True, id="overwritten, other form"),
        pytest.param(behind("203.0.113.9", src=THEM, flow=flow(THEM, OUR)), False, id="a header beside the address"),
        pytest.param(behind("203.0.113.9", flow=flow("198.51.100.9", OUR)), False, id="a trusted proxy's header"),
    ],
)
@pytest.mark.feature("A7")
def test_signs_that_the_source_spoke_with_us(event: dict[str, Any], forged: bool) -> None:
    assert may_be_forged(event, resolve(event, INSIDE, PROXIES)) is forged


@pytest.mark.parametrize(
    ("alert", "expected"),
    [
        ({"gid": 1, "signature_id": 2200000}, True),
        ({"gid": 1, "signature_id": 2299999}, True),
        ({"gid": 1, "signature_id": 2199999}, False),
        ({"gid": 1, "signature_id": 2300000}, False),
        ({"gid": 3, "signature_id": 2210000}, False),
        ({"gid": 1, "signature_id": "2210000"}, False),
        ({"gid": 1, "signature_id": 2210000.5}, False),
        ({"signature_id": 2210000}, False),
        ({}, False),
        (None, False),
        ([], False),
    ],
)
@pytest.mark.feature("A7")
def test_events_of_the_engine_itself(alert: object, expected: bool) -> None:
    assert engine_event(record(alert=alert)) is expected


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.ip_addresses().map(str),
        st.sampled_from(["TCP", "to_client", "to_server", "198.51.100.9", "0.0.0.0", "1.2.3.4, x"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["src_ip", "ip", "xff", "source", "pkts_toserver", "pkts_toclient"]), inner),
    ),
    max_leaves=6,
)
KEYS = ("src_ip", "dest_ip", "src_port", "dest_port", "proto", "direction", "flow", "alert", "tunnel", "app_proto")


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
@pytest.mark.feature("A7")
def test_no_record_raises_and_what_is_named_stands_in_it(event: dict[str, Any]) -> None:
    resolution = resolve(event, INSIDE, PROXIES)
    may_be_forged(event, resolution)
    engine_event(event)
    if resolution.address is None:
        assert not resolution.outbound
    else:
        assert resolution.outbound == (INSIDE.covering(resolution.address) is not None)


def plain(text: object) -> str | None:
    """Another way to a canonical address, to compare with."""
    if not isinstance(text, str):
        return None
    address = ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def expected_of(event: dict[str, Any]) -> str | None:
    """CONTRACT.md section 7, told again in the shortest way; all addresses of the corpus are well-formed."""
    alert, flow = event.get("alert", {}), event.get("flow", {})
    if "source" in alert:
        started = alert["source"]["ip"]
    elif "src_ip" in flow:
        started = flow["src_ip"]
    elif "direction" in event:
        started = event.get("src_ip" if event["direction"] == "to_server" else "dest_ip")
    elif event.get("proto") in ("TCP", "UDP") and event["src_port"] < 1024 <= event["dest_port"]:
        started = event.get("dest_ip")
    else:
        started = event.get("src_ip")
    if started is None or event.get("src_ip") == event.get("dest_ip"):
        return None
    return None if ip_address(started).is_unspecified else plain(started)


@pytest.mark.feature("A7", "A10")
def test_recorded_events(corpus_folder: Path) -> None:
    for text in (corpus_folder / "eve.json").read_bytes().splitlines():
        event = json.loads(text)
        resolution = resolve(event, INSIDE, NOBODY)
        assert answer(event) == (expected_of(event), resolution.outbound)
        if resolution.address is not None and not resolution.outbound:
            assert str(resolution.address) not in inside_addresses(event)
        if event.get("proto") in ("UDP", "ICMP", "IPv6-ICMP"):
            assert may_be_forged(event, resolution)
        if event.get("alert", {}).get("signature", "").startswith("SURICATA IPv4"):
            assert engine_event(event)


def inside_addresses(event: dict[str, Any]) -> set[str]:
    addresses = {plain(event.get(key)) for key in ("src_ip", "dest_ip")}
    return {a for a in addresses if a is not None and INSIDE.covering(parse_network(a)) is not None}


RECORDED = {
    # folder: {(sid, src_ip): (offender, outbound, may be forged)}
    "alert-testmyids-frames": {(2100498, "82.165.177.154"): ("10.16.1.11", True, False)},
    "http-missing-protocol": {(10003658, "192.168.140.10"): ("192.168.140.10", True, False)},
    "http-missing-protocol@own": {(9900001, "192.168.140.10"): ("5.8.88.25", False, False)},
    "bug-7414-decoder-event-01": {(2200005, None): (None, False, True)},
    "http-xff-eve-reverse-extra-data": {(1, "82.165.177.154"): ("10.16.1.11", True, False)},
    "http-xff-eve-reverse-extra-data@xffow": {(1, "82.165.177.154"): ("10.3.3.3", True, True)},
    "decode-erspan-typeII-01": {
        (2, "23.0.0.2"): ("23.0.0.2", False, True),
        (1, "23.0.0.3"): ("23.0.0.2", False, True),
    },
    "dhcp-option-52-overload-both@builtin": {(2227001, "0.0.0.0"): (None, False, True)},
    "firewall__tcp-session-syn-flood-drop-precedence@own": {(9900009, "192.0.2.10"): ("192.0.2.10", False, True)},
    "issue-4280-iprep": {
        (2402000, "192.168.0.13"): ("192.168.0.13", True, True),
        (2402000, "8.8.8.8"): ("8.8.8.8", False, True),
    },
    "bug-5437-02": {(2030092, "41.108.52.138"): ("41.108.52.138", False, False)},
    "http-close-headers": {(1, "100.64.0.200"): ("100.64.0.14", False, False)},
}


@pytest.mark.feature("A7")
def test_recorded_alerts_with_a_known_answer(corpus_folder: Path) -> None:
    expected = RECORDED.get(corpus_folder.name, {})
    seen = set()
    for text in (corpus_folder / "eve.json").read_bytes().splitlines():
        event = json.loads(text)
        key = (event.get("alert", {}).get("signature_id"), event.get("src_ip"))
        if event["event_type"] == "alert" and key in expected:
            resolution = resolve(event, INSIDE, NOBODY)
            assert (*answer(event), may_be_forged(event, resolution)) == expected[key]
            seen.add(key)
    assert seen == set(expected)


@pytest.mark.feature("A7")
def test_recorded_rdp_names_the_client_whichever_packet_completed_a_message() -> None:
    events = [json.loads(line) for line in (RECORDINGS / "rdp.json").read_bytes().splitlines()]
    recorded = [event for event in events if event["event_type"] == "rdp"]
    assert {event["src_port"] == 3389 for event in recorded} == {True, False}
    assert {answer(event) for event in recorded} == {("198.51.100.66", False)}


def test_resolution_by_default_is_not_proxied() -> None:
    assert Resolution(None, False) == (None, False, False)
