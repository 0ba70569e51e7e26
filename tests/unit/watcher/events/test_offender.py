# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.events.offender import Proof, Resolution, engine_event, proof, resolve
from ngfw.firewall.address import NetworkSet, parse_network

INSIDE = NetworkSet(map(parse_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
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


def reply(src: str, dest: str, **more: Any) -> dict[str, Any]:
    """A packet of the server's."""
    return record(src, dest, src_port=80, dest_port=40000, direction="to_client", **more)


def named(source: object, target: object = OUR) -> dict[str, Any]:
    return {"gid": 1, "signature_id": 7, "source": {"ip": source}, "target": {"ip": target}}


SPOKEN = {"flow": flow(THEM, OUR), "app_proto": "http"}
TUNNELS = NetworkSet([parse_network("203.0.113.200")])


def tunnelled(outer: str | None, **more: Any) -> dict[str, Any]:
    return record(**SPOKEN, tunnel={} if outer is None else {"src_ip": outer}, **more)


def answer(event: dict[str, Any], proxies: NetworkSet = NOBODY, inside: NetworkSet = INSIDE) -> tuple[str | None, bool]:
    resolution = resolve(event, inside, proxies)
    return (None if resolution.address is None else str(resolution.address)), resolution.outbound


INITIATOR = [
    pytest.param(record(), (THEM, False), id="no flow, no direction: the source"),
    pytest.param(record(flow=flow(THEM, OUR)), (THEM, False), id="the flow's initiator"),
    pytest.param(reply(OUR, THEM, flow=flow(THEM, OUR)), (THEM, False), id="our answer: who provoked it"),
    pytest.param(reply(THEM, OUR, flow=flow(OUR, THEM)), (OUR, True), id="we fetched a page: outbound"),
    pytest.param(
        record(OUR, THEM, flow=flow(OUR, THEM), direction="to_server"), (OUR, True), id="our own request: outbound"
    ),
    pytest.param(record(THEM, OUR, direction="to_server"), (THEM, False), id="to_server: the source"),
    pytest.param(reply(OUR, THEM), (THEM, False), id="to_client: the destination"),
    pytest.param(
        record(THEM, OUR, direction="to_server", src_port=80, dest_port=40000, app_proto="http"),
        (THEM, False),
        id="the direction counts more than ports",
    ),
    pytest.param(reply(THEM, OUR, flow={"pkts_toserver": 1}), (OUR, True), id="a flow without addresses"),
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
    pytest.param(
        rdp(THEM, 3389, OUR, 40000, direction="to_server", app_proto="rdp"),
        (THEM, False),
        id="RDP: a direction counts more",
    ),
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


def http(more: dict[str, Any], src: str = "198.51.100.9", **fields: Any) -> dict[str, Any]:
    """A record of type http, which has neither flow nor direction."""
    return record(src, OUR, event_type="http", alert=None, http={"url": "/", **fields}, **more)


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
            reply(OUR, "198.51.100.9", alert={"xff": "203.0.113.9"}),
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
        pytest.param(record("198.51.100.9", OUR), (None, False), id="a proxy without the header"),
        pytest.param(record("198.51.100.9", OUR, app_proto="tls"), (None, False), id="a proxy's TLS has none"),
        pytest.param(record("198.51.100.9", OUR, proto="UDP", alert=None), (None, False), id="a proxy's UDP"),
        pytest.param(record(alert=named("198.51.100.9")), (None, False), id="a proxy that the signature names"),
        pytest.param(http({"xff": "203.0.113.9"}), ("203.0.113.9", False), id="http: at the top"),
        pytest.param(http({}, xff="203.0.113.8, 203.0.113.9"), ("203.0.113.9", False), id="http: the whole header"),
        pytest.param(
            http({"xff": "198.51.100.3"}, xff="203.0.113.9, 198.51.100.3"),
            ("203.0.113.9", False),
            id="http: a second proxy before the first, so Suricata's one address is a proxy's",
        ),
        pytest.param(http({}), (None, False), id="http: no header"),
        pytest.param(http({"xff": "203.0.113.9"}, src=THEM), (THEM, False), id="http: a stranger's header"),
    ],
)
@pytest.mark.feature("A7", "A10", "S5")
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


SERVER_BEGAN = {"direction": "to_server", "flow": flow(THEM, OUR), "src_port": 443, "dest_port": 51234}
BITS = {"flowbits": ["ngfw.syn", "ngfw.established"]}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(record(**SERVER_BEGAN), None, id="the server's packet came first"),
        pytest.param(record(**SERVER_BEGAN, app_proto="failed"), None, id="its protocol is not recognised"),
        pytest.param(record(**SERVER_BEGAN, proto="UDP"), None, id="UDP"),
        pytest.param(
            record(OUR, THEM, **{**SERVER_BEGAN, "direction": "to_client", "src_port": 51234, "dest_port": 443}),
            None,
            id="our client's packet",
        ),
        pytest.param(record(**{**SERVER_BEGAN, "src_port": 3306}), None, id="a server's port above 1023"),
        pytest.param(record(**{**SERVER_BEGAN, "flow": None}), None, id="only a direction"),
        pytest.param(record(**SERVER_BEGAN, app_proto="tls"), THEM, id="a protocol"),
        pytest.param(record(**SERVER_BEGAN, metadata=BITS), THEM, id="Suricata saw the handshake"),
        pytest.param(record(**SERVER_BEGAN, metadata={"flowbits": ["ngfw.syn"]}), THEM, id="Suricata saw the SYN"),
        pytest.param(record(**SERVER_BEGAN, metadata={"flowbits": ["other"]}), None, id="a flowbit of others"),
        pytest.param(record(**{**SERVER_BEGAN, "dest_port": 22}), THEM, id="from a server's port to another"),
        pytest.param(record(**{**SERVER_BEGAN, "dest_port": None}), THEM, id="no port"),
        pytest.param(record(**{**SERVER_BEGAN, "alert": named(THEM)}), THEM, id="the signature names it"),
    ],
)
@pytest.mark.feature("A7", "S5")
def test_who_began_a_connection_picked_up_midway_cannot_be_told(event: dict[str, Any], expected: str | None) -> None:
    assert answer(event)[0] == expected


def ended(state: str, server: str | None = None, **more: Any) -> dict[str, Any]:
    """A flow record as Suricata writes it; `server` are the flags of all packets of the server's."""
    tcp = {"state": state} if server is None else {"state": state, "tcp_flags_tc": server}
    counts = {"pkts_toserver": 4, "pkts_toclient": 3}
    return record(event_type="flow", alert=None, flow=counts, tcp=tcp, **more)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(record(flow=flow(THEM, OUR, 9, 9)), Proof.NONE, id="any number of packets"),
        pytest.param(record(flow=flow(THEM, OUR), app_proto="http"), Proof.HANDSHAKE, id="a protocol"),
        pytest.param(record(flow=flow(THEM, OUR), app_proto="failed"), Proof.NONE, id="no protocol recognised"),
        pytest.param(record(flow=flow(THEM, OUR), app_proto="unknown"), Proof.NONE, id="an unknown protocol"),
        pytest.param(record(flow=flow(THEM, OUR), app_proto=["http"]), Proof.NONE, id="no protocol at all"),
        pytest.param(record(flow=flow(THEM, OUR, 9, 0), app_proto="http"), Proof.NONE, id="no answer"),
        pytest.param(record(flow=flow(THEM, OUR, 0, 9), app_proto="http"), Proof.NONE, id="answers only"),
        pytest.param(record(flow=flow(THEM, OUR, "9", "9"), metadata=BITS), Proof.NONE, id="counts that are none"),
        pytest.param(record(flow={}, app_proto="http"), Proof.NONE, id="a flow without counts"),
        pytest.param(record(flow=flow(THEM, OUR), metadata=BITS), Proof.HANDSHAKE, id="the flowbit"),
        pytest.param(record(flow=flow(THEM, OUR, 9, 0), metadata=BITS), Proof.NONE, id="the flowbit, no answer"),
        pytest.param(
            record(flow=flow(THEM, OUR), app_proto="http", metadata={"flowbits": ["ngfw.syn"]}),
            Proof.NONE,
            id="a protocol in what was forged: the signatures saw it from its SYN on, and no handshake",
        ),
        pytest.param(
            record(flow=flow(THEM, OUR), app_proto="http", metadata={"flowbits": ["other"]}),
            Proof.HANDSHAKE,
            id="flowbits of others",
        ),
        pytest.param(record(flow=flow(THEM, OUR), metadata={"flowbits": "ngfw.established"}), Proof.NONE, id="a text"),
        pytest.param(record(flow=flow(THEM, OUR), metadata=["ngfw.established"]), Proof.NONE, id="no object"),
        pytest.param(record(flow=flow(THEM, OUR), metadata={"flowbits": [["x"], 5]}), Proof.NONE, id="no texts"),
        pytest.param(record(), Proof.TRUST, id="without a flow TCP is taken on trust"),
        pytest.param(record(app_proto="http"), Proof.TRUST, id="a protocol alone does not say that both spoke"),
        pytest.param(record(metadata=BITS), Proof.HANDSHAKE, id="without a flow, but the flowbit"),
        pytest.param(record(metadata={"flowbits": ["ngfw.syn"]}), Proof.NONE, id="without a flow, and no handshake"),
        pytest.param(ended("syn_recv", "12"), Proof.NONE, id="flow: a SYN, answered"),
        pytest.param(ended("established", "12"), Proof.NONE, id="flow: our challenge ACK made it established"),
        pytest.param(ended("close_wait", "12"), Proof.NONE, id="flow: a forged FIN"),
        pytest.param(ended("closed", "16"), Proof.NONE, id="flow: a RST"),
        pytest.param(ended("closed", "1b"), Proof.HANDSHAKE, id="flow: the server spoke"),
        pytest.param(ended("closed", "13"), Proof.HANDSHAKE, id="flow: the server ended it"),
        pytest.param(ended("closed", "no number"), Proof.NONE, id="flow: garbage"),
        pytest.param(ended("closed", "1b", proto="UDP"), Proof.NONE, id="flow: UDP"),
        pytest.param(ended("established"), Proof.HANDSHAKE, id="flow: no flags, but a state"),
        pytest.param(ended("syn_sent"), Proof.NONE, id="flow: no flags, and a state before"),
        pytest.param({**ended("closed", "1b"), "event_type": "alert"}, Proof.NONE, id="no record of a flow"),
        pytest.param(record(flow=flow(THEM, OUR), metadata=BITS, proto="UDP"), Proof.NONE, id="UDP"),
        pytest.param(record(proto="ICMP"), Proof.NONE, id="ICMP"),
        pytest.param(record(proto=None), Proof.NONE, id="no protocol named"),
        pytest.param(tunnelled("203.0.113.1"), Proof.NONE, id="from another's tunnel"),
        pytest.param(tunnelled("203.0.113.1", alert={"xff": "1.2.3.4"}), Proof.NONE, id="from another's tunnel, xff"),
        pytest.param(tunnelled("203.0.113.200"), Proof.HANDSHAKE, id="from a trusted tunnel"),
        pytest.param(tunnelled(THEM), Proof.HANDSHAKE, id="its own tunnel: fragments"),
        pytest.param(tunnelled(None), Proof.NONE, id="a tunnel from nowhere"),
        pytest.param(record(tunnel={"src_ip": "2.2.2.2"}), Proof.NONE, id="a tunnel without a flow"),
        pytest.param(behind(THEM, src=THEM, **SPOKEN), Proof.NONE, id="xff mode overwrite"),
        pytest.param(behind("::ffff:" + THEM, src=THEM, **SPOKEN), Proof.NONE, id="overwritten, other form"),
        pytest.param(http({}, src=THEM, xff=THEM), Proof.NONE, id="overwritten, http"),
        pytest.param(http({"xff": THEM}, src=THEM, xff=THEM), Proof.TRUST, id="its own address in the header, http"),
        pytest.param(behind("203.0.113.9", src=THEM, **SPOKEN), Proof.HANDSHAKE, id="a header beside the address"),
        pytest.param(
            behind("203.0.113.9", flow=flow("198.51.100.9", OUR), app_proto="http"),
            Proof.HANDSHAKE,
            id="a trusted proxy's header",
        ),
    ],
)
@pytest.mark.feature("A7", "S2", "S5")
def test_what_shows_that_the_source_spoke_with_us(event: dict[str, Any], expected: Proof) -> None:
    assert proof(event, resolve(event, INSIDE, PROXIES), TUNNELS) is expected


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
        st.sampled_from(["TCP", "to_client", "198.51.100.9", "0.0.0.0", "1.2.3.4, x", "flow", "ngfw.syn", "1b"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["src_ip", "ip", "xff", "source", "pkts_toserver", "flowbits", "tcp_flags_tc"]), inner
        ),
    ),
    max_leaves=6,
)
KEYS = ("src_ip", "dest_ip", "src_port", "dest_port", "proto", "direction", "flow", "alert", "tunnel", "app_proto")
KEYS += ("event_type", "metadata", "tcp", "http", "xff")


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
@pytest.mark.feature("A7")
def test_no_record_raises_and_what_is_named_stands_in_it(event: dict[str, Any]) -> None:
    resolution = resolve(event, INSIDE, PROXIES)
    proof(event, resolution, NOBODY)
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
    """docs/interface.md, section 7, told again in the shortest way; all addresses of the corpus are well-formed."""
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
    directed = "direction" in event or "src_ip" in flow
    if directed and "source" not in alert and event.get("app_proto", "failed") in ("failed", "unknown"):
        ports = event.get("src_port", 0), event.get("dest_port", 0)
        begun, other = ports if started == event.get("src_ip") else ports[::-1]
        if 0 < begun <= 1023 < other not in (3306, 5060, 5061, 5432, 8080):
            return None
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
            assert proof(event, resolution, NOBODY) is Proof.NONE
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
    "http-close-headers": {(1, "100.64.0.200"): ("100.64.0.14", True, False)},
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
            assert (*answer(event), proof(event, resolution, NOBODY) is Proof.NONE) == expected[key]
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
