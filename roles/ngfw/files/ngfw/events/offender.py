# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is behind an event, and whether that can be believed. Pure functions over EVE records.

`src_ip` alone is not the answer: it is the sender of one packet, and a quarter of real alerts fire on the answer
of a server. In doubt nobody is named, since a wrong block hurts more than a missing one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ..firewall.address import Network, NetworkSet, parse_host
from ..firewall.errors import AddressError

_ENGINE_SIDS = range(2200000, 2300000)
_FIRST_UNPRIVILEGED_PORT = 1024
# Suricata writes records of these protocols with the addresses of the packet that completed the message, often the
# other side's acknowledgement; their servers' ports are above 1023.
_SERVER_PORTS = {"mqtt": 1883, "pgsql": 5432, "rdp": 3389, "rfb": 5900}
_PACKETS_OF_A_CONVERSATION = 3
_NO_PROTOCOL = frozenset(("", "failed", "unknown"))
_UNSPECIFIED = frozenset((Network(bytes(4), 32), Network(bytes(16), 128)))


class Resolution(NamedTuple):
    """Who started it.

    `address` is None if that cannot be told. `outbound`: the address lies inside, so the event is outbound or
    internal and blocks nobody. `proxied`: a trusted proxy named the address in `alert.xff`.
    """

    address: Network | None
    outbound: bool
    proxied: bool = False


_NOBODY = Resolution(None, False)
_NOTHING: dict[str, Any] = {}


def resolve(record: Mapping[str, Any], inside: NetworkSet, trusted_proxies: NetworkSet) -> Resolution:
    """The offender: `alert.source`, else the flow's initiator; behind a trusted proxy the client that it names.

    `inside` is the home net together with the host's own addresses. Never raises, whatever the record holds.
    """
    alert = _object(record, "alert")
    address = _initiator(record, alert)
    proxied = False
    if address is not None and "xff" in alert and trusted_proxies.covering(address) is not None:
        address = _client(alert["xff"], trusted_proxies)
        proxied = True
    if address is None or address in _UNSPECIFIED or _wrote_to_itself(record, address):
        return _NOBODY
    return Resolution(address, inside.covering(address) is not None, proxied)


def may_be_forged(record: Mapping[str, Any], resolution: Resolution) -> bool:
    """Whether there is no sign that the address really spoke with us.

    The sign is TCP and, where the record has a flow, packets both ways with either three to the server or a
    recognised protocol: a forged SYN is answered too. A tunnel's inner source is whatever the outer one wrote, and an
    `alert.xff` equal to the address means that Suricata overwrote it with a header's text (xff mode `overwrite`).
    """
    if record.get("proto") != "TCP":
        return True
    if "tunnel" in record:
        outer = _host(_object(record, "tunnel").get("src_ip"))
        if outer is None or outer != _host(record.get("src_ip")):
            return True
    alert = _object(record, "alert")
    if "xff" in alert and not resolution.proxied and resolution.address in _forwarded(alert["xff"]):
        return True
    if "flow" not in record:
        return False
    flow = _object(record, "flow")
    to_server, to_client = _count(flow.get("pkts_toserver")), _count(flow.get("pkts_toclient"))
    if not to_server or not to_client:
        return True
    protocol = record.get("app_proto")
    recognised = isinstance(protocol, str) and protocol not in _NO_PROTOCOL
    return to_server < _PACKETS_OF_A_CONVERSATION and not recognised


def is_established(record: Mapping[str, Any], resolution: Resolution) -> bool:
    """Whether the record's flow itself shows that the address spoke with us; nothing is taken on trust."""
    return "flow" in record and not may_be_forged(record, resolution)


def engine_event(record: Mapping[str, Any]) -> bool:
    """Whether the alert is one of the engine's own decoder and stream events (rules/decoder-events.rules and the like).

    These fire on checksum offload and broken stacks rather than on attacks.
    """
    alert = _object(record, "alert")
    sid = alert.get("signature_id")
    return isinstance(sid, int) and sid in _ENGINE_SIDS and alert.get("gid") == 1


def _initiator(record: Mapping[str, Any], alert: Mapping[str, Any]) -> Network | None:
    if "source" in alert:
        named = _object(alert, "source")
        if "ip" in named:
            return _host(named["ip"])
    flow = _object(record, "flow")
    if "src_ip" in flow:
        return _host(flow["src_ip"])
    direction = record.get("direction")
    if direction == "to_client" or (direction != "to_server" and _is_answer(record)):
        return _host(record.get("dest_ip"))
    return _host(record.get("src_ip"))


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


def _client(value: object, trusted_proxies: NetworkSet) -> Network | None:
    """The last address that is no trusted proxy; what stands left of something unreadable is not believed."""
    for address in reversed(_forwarded(value)):
        if address is None:
            return None
        if trusted_proxies.covering(address) is None:
            return address
    return None


def _forwarded(value: object) -> list[Network | None]:
    """The addresses of an X-Forwarded-For text, in its order; None where one cannot be read."""
    if isinstance(value, list):
        return [address for item in value for address in _forwarded(item)]
    if not isinstance(value, str):
        return [None]
    return [_host(_without_port(item.strip())) for item in value.split(",")]


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _host(value: object) -> Network | None:
    return _parsed(value) if isinstance(value, str) else None


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
