# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's bridges, and whether the packets between their ports meet the chain.

Formats: rtnetlink(7), <linux/if_link.h>; the switches: Documentation/networking/ip-sysctl.rst, /proc/sys/net/bridge.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from .netlink import ROUTE, Netlink, attributes

SWITCHES = {"ipv4": "bridge-nf-call-iptables", "ipv6": "bridge-nf-call-ip6tables"}
"""Of all bridges, below /proc/sys/net/bridge, which is there if the module br_netfilter is loaded."""

_SETTINGS = Path("/proc/sys/net/bridge")
_GET_LINK = 18
_BODY = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_IFLA_NAME, _IFLA_MASTER, _IFLA_LINKINFO = 3, 10, 18
_INFO_KIND, _INFO_DATA = 1, 2
_CALLS = {"ipv4": 36, "ipv6": 37}  # IFLA_BR_NF_CALL_IPTABLES and ..._IP6TABLES: of this bridge alone


class Bridge(NamedTuple):
    """`filtered` are the families whose packets meet the chain on their way from port to port."""

    name: str
    ports: tuple[str, ...]
    filtered: frozenset[str]


def bridges() -> list[Bridge]:
    """All bridges of this network namespace, by name. Raises OSError."""
    names: dict[int, str] = {}
    ports: dict[int, list[str]] = {}
    found: dict[int, bytes] = {}
    route = Netlink(ROUTE)
    try:
        for message in route.dump(_GET_LINK, bytes(_BODY.size)):
            index = _BODY.unpack_from(message)[2]
            fields = attributes(message, _BODY.size)
            names[index] = fields.get(_IFLA_NAME, b"").rstrip(b"\0").decode("ascii", "replace")
            if _IFLA_MASTER in fields:
                ports.setdefault(struct.unpack("=I", fields[_IFLA_MASTER])[0], []).append(names[index])
            info = attributes(fields.get(_IFLA_LINKINFO, b""))
            if info.get(_INFO_KIND, b"").rstrip(b"\0") == b"bridge":
                found[index] = info.get(_INFO_DATA, b"")
    finally:
        route.close()
    switched = _switched_on()
    return sorted(
        Bridge(names[index], tuple(sorted(ports.get(index, ()))), _filtered(data, switched))
        for index, data in found.items()
    )


def _filtered(data: bytes, switched: dict[str, bool]) -> frozenset[str]:
    options = attributes(data)
    return frozenset(family for family, on in switched.items() if on or options.get(_CALLS[family]) == b"\1")


def _switched_on() -> dict[str, bool]:
    """Of each family whether it is on for all bridges; nothing if no bridge can call the chain."""
    found = {}
    for family, name in SWITCHES.items():
        try:
            found[family] = (_SETTINGS / name).read_text(encoding="ascii").strip() == "1"
        except OSError:
            continue
    return found
