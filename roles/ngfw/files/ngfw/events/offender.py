# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is behind an event, and whether that can be believed. Pure functions over EVE records.

`src_ip` alone is not the answer: it is the sender of one packet, and a quarter of real alerts fire on the answer
of a server. In doubt nobody is named, since a wrong block hurts more than a missing one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from ..firewall.address import Network, NetworkSet, parse_host
from ..firewall.errors import AddressError

_ESTABLISHED = "ngfw.established"  # set by the role's signatures, see files/suricata/ngfw.rules
_SYN = "ngfw.syn"
_LONGEST_ADDRESS = 64
_ENGINE_SIDS = range(2200000, 2300000)
_FIRST_UNPRIVILEGED_PORT = 1024
# Suricata writes records of these protocols with the addresses of the packet that completed the message, often the
# other side's acknowledgement; their servers' ports are above 1023.
_SERVER_PORTS = {"mqtt": 1883, "pgsql": 5432, "rdp": 3389, "rfb": 5900}
_HIGH_SERVER_PORTS = frozenset(_SERVER_PORTS.values()).union(
    (1433, 1521, 2049, 2375, 3306, 5060, 5061, 5984, 6379, 7001, 8000, 8080, 8443, 8883, 9200, 11211, 27017)
)
_NO_PROTOCOL = frozenset(("", "failed", "unknown"))
_STATES = frozenset(
    ("established", "fin_wait1", "fin_wait2", "closing", "time_wait", "close_wait", "last_ack", "closed")
)
_FIN_OR_PUSH = 0x01 | 0x08
_UNSPECIFIED = frozenset((Network(bytes(4), 32), Network(bytes(16), 128)))


class Resolution(NamedTuple):
    """Who started it.

    `address` is None if that cannot be told. `outbound`: the address lies inside, so the event is outbound or
    internal and blocks nobody. `proxied`: a trusted proxy named the address as its client's.
    """

    address: Network | None
    outbound: bool
    proxied: bool = False


class Proof(IntEnum):
    """What shows that the address really spoke with us."""

    NONE = 0
    TRUST = 1  # nothing, but the record tells too little to hold that against it
    HANDSHAKE = 2


_NOBODY = Resolution(None, False)
_NOTHING: dict[str, Any] = {}
_NO_BITS: frozenset[object] = frozenset()


def resolve(record: Mapping[str, Any], inside: NetworkSet, trusted_proxies: NetworkSet | None) -> Resolution:
    """The offender: `alert.source`, else the flow's initiator; behind a trusted proxy the client that it names.

    `inside` is the home net together with the host's own addresses and links. Never raises, whatever the record holds.
    """
    address, proxied = _initiator(record), False
    if trusted_proxies is not None and address is not None and trusted_proxies.covering(address) is not None:
        address, proxied = _client(record, trusted_proxies), True
    if address is None or address in _UNSPECIFIED or _wrote_to_itself(record, address):
        return _NOBODY
    return Resolution(address, inside.covering(address) is not None, proxied)


def proof(record: Mapping[str, Any], resolution: Resolution, trusted_tunnels: NetworkSet) -> Proof:
    """Whether the address completed a handshake with us, so that nobody else can have forged what is recorded.

    Numbers of packets prove nothing: a forged SYN is answered by ourselves, and each copy of it too. What the inside
    of a tunnel says is whatever the outer source wrote.
    """
    if record.get("proto") != "TCP" or ("tunnel" in record and _in_a_strangers_tunnel(record, trusted_tunnels)):
        return Proof.NONE
    if not resolution.proxied and _may_be_overwritten(record, resolution.address):
        return Proof.NONE
    bits = _flowbits(record)
    established = _ESTABLISHED in bits
    if _SYN in bits and not established:
        return Proof.NONE  # seen from the start: a protocol is recognised in forged data too, behind a forged FIN
    if "flow" not in record:
        return Proof.HANDSHAKE if established else Proof.TRUST
    flow = _object(record, "flow")
    if not _count(flow.get("pkts_toserver")) or not _count(flow.get("pkts_toclient")):
        return Proof.NONE
    shown = established or _is_recognised(record) or (record.get("event_type") == "flow" and _was_served(record))
    return Proof.HANDSHAKE if shown else Proof.NONE


def is_marked(record: Mapping[str, Any]) -> bool:
    """Whether Suricata has the signatures that set our flowbits."""
    return not _flowbits(record).isdisjoint((_SYN, _ESTABLISHED))


def engine_event(record: Mapping[str, Any]) -> bool:
    """Whether the alert is one of the engine's own decoder and stream events (rules/decoder-events.rules and the like).

    These fire on checksum offload and broken stacks rather than on attacks.
    """
    alert = _object(record, "alert")
    sid = alert.get("signature_id")
    return isinstance(sid, int) and sid in _ENGINE_SIDS and alert.get("gid") == 1


def _initiator(record: Mapping[str, Any]) -> Network | None:
    alert = _object(record, "alert")
    if "source" in alert and "ip" in (named := _object(alert, "source")):
        return _host(named["ip"])
    flow = _object(record, "flow")
    source = record.get("src_ip")
    if "src_ip" in flow:
        text = flow["src_ip"]
    else:
        direction = record.get("direction")
        if direction not in ("to_server", "to_client"):
            return _host(record.get("dest_ip") if _is_answer(record) else source)
        text = source if direction == "to_server" else record.get("dest_ip")
    begun = _host(text)
    port, other = record.get("src_port"), record.get("dest_port")
    # Nearly always the same text: to look no further is a tenth of the time of a line.
    if text != source and begun == _host(record.get("dest_ip")) != _host(source):
        port, other = other, port
    return None if _is_server_port(port) and _was_picked_up_midway(record, other) else begun


def _was_picked_up_midway(record: Mapping[str, Any], other: object) -> bool:
    """Whether the first packet that Suricata saw of a connection may have been the server's: it came from such a port.

    Then it takes the server for the one who began, and recognises no protocol. The flowbits tell that it saw the SYN.
    `other` is the port that the packet went to.
    """
    is_to_client = isinstance(other, int) and not _is_server_port(other)
    return is_to_client and not _is_recognised(record) and not is_marked(record)


def _is_server_port(port: object) -> bool:
    return isinstance(port, int) and (port < _FIRST_UNPRIVILEGED_PORT or port in _HIGH_SERVER_PORTS)


def _is_recognised(record: Mapping[str, Any]) -> bool:
    """Whether Suricata found a protocol that it knows in what was said."""
    protocol = record.get("app_proto")
    return isinstance(protocol, str) and protocol not in _NO_PROTOCOL


def _was_served(record: Mapping[str, Any]) -> bool:
    """Whether a flow record shows that our server took the connection for established: it sent data, or a FIN.

    Where the record has no flags, its state has to do: a forged FIN, a RST, or our own answer to a segment out of the
    window leads Suricata to "close_wait", "closed" and "established" (seen with 7.0.10 and 8.0.8).
    """
    tcp = _object(record, "tcp")
    flags = tcp.get("tcp_flags_tc")
    if flags is None:
        return tcp.get("state") in _STATES
    try:
        return bool(int(flags, 16) & _FIN_OR_PUSH)
    except (TypeError, ValueError):
        return False


def _in_a_strangers_tunnel(record: Mapping[str, Any], trusted: NetworkSet) -> bool:
    outer = _host(_object(record, "tunnel").get("src_ip"))
    return outer is None or (outer != _host(record.get("src_ip")) and trusted.covering(outer) is None)


def _flowbits(record: Mapping[str, Any]) -> frozenset[object]:
    bits = _object(record, "metadata").get("flowbits")
    return frozenset([bit for bit in bits if isinstance(bit, str)]) if isinstance(bits, list) else _NO_BITS


def _wrote_to_itself(record: Mapping[str, Any], address: Network) -> bool:
    return _host(record.get("dest_ip")) == address and _host(record.get("src_ip")) == address


def _is_answer(record: Mapping[str, Any]) -> bool:
    if record.get("proto") not in ("TCP", "UDP"):
        return False
    source, destination = record.get("src_port"), record.get("dest_port")
    if not isinstance(source, int) or not isinstance(destination, int):
        return False
    server = _SERVER_PORTS.get(str(record.get("event_type")))
    if server is not None and (source == server) != (destination == server):
        return source == server
    return source < _FIRST_UNPRIVILEGED_PORT <= destination


def _client(record: Mapping[str, Any], trusted_proxies: NetworkSet) -> Network | None:
    """The last address that is no trusted proxy; what stands left of something unreadable is not believed."""
    for text in _forwarded(record):
        for address in reversed(_addresses(text)):
            if address is None:
                break
            if trusted_proxies.covering(address) is None:
                return address
    return None


def _forwarded(record: Mapping[str, Any]) -> list[object]:
    """What the record has of the header X-Forwarded-For: alerts in `alert.xff`, http records at the top, and whole."""
    found: list[object] = []
    for holder in (_object(record, "alert"), record, _object(record, "http")):
        if "xff" in holder:
            found.append(holder["xff"])
    return found


def _may_be_overwritten(record: Mapping[str, Any], address: Network | None) -> bool:
    """Whether Suricata may have put a header's text in the place of the address (xff mode `overwrite`).

    It has written no `xff` at the top of http records then (seen with 7.0.10), so one that has it names the true source
    also where that sends its own address in the header.
    """
    forwarded = _forwarded(record)
    if not forwarded or (record.get("event_type") == "http" and "xff" in record):
        return False
    return any(address in _addresses(text) for text in forwarded)


def _addresses(value: object) -> list[Network | None]:
    """The addresses of an X-Forwarded-For text, in its order; None where one cannot be read."""
    if isinstance(value, list):
        return [address for item in value for address in _addresses(item)]
    if not isinstance(value, str):
        return [None]
    return [_host(_without_port(item.strip())) for item in value.split(",")]


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _host(value: object) -> Network | None:
    return _parsed(value) if isinstance(value, str) and len(value) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Network | None:
    try:
        return parse_host(text)
    except AddressError:
        return None


def _object(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if value.__class__ is dict else _NOTHING


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
