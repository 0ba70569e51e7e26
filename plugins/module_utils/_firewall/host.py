# SPDX-License-Identifier: GPL-3.0-or-later
"""What must never be cut off: the host's own addresses, gateways and resolvers, the SSH peer, and special networks.

Formats: rtnetlink(7), resolv.conf(5), proc(5); SSH_CONNECTION: ssh(1).
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

from .address import Network, NetworkSet, parse_host, parse_network
from .errors import AddressError
from .netlink import ROUTE, Netlink, attributes

SSH_PEER_SECONDS = 86400

_GET_ADDRESS, _GET_ROUTE = 22, 26
_ADDRESS_BODY, _ROUTE_BODY = 8, 12  # struct ifaddrmsg, struct rtmsg
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index of the link
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_LINK, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 4, 5, 9, 18
_NEXT_HOP = struct.Struct("=HBBI")  # struct rtnexthop
RESOLVER_FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
SPECIAL = {
    parse_network(text): why
    for text, why in (
        ("0.0.0.0", "unspecified"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255", "limited broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
}
"""Networks that are protected on every host, with the reason."""


def protected() -> dict[Network, str]:
    """Every network that may never be blocked, with the reason; without the SSH peer, whose protection ends."""
    found = dict(SPECIAL)
    route = Netlink(ROUTE)
    try:
        for network in _own_addresses(route):
            found.setdefault(network, "own address")
        for network in _gateways(route):
            found.setdefault(network, "default gateway")
    finally:
        route.close()
    for network in _resolvers():
        found.setdefault(network, "resolver")
    return found


def links() -> list[Network]:
    """The networks that the host's links are in, but for the links that a default route leads over."""
    route = Netlink(ROUTE)
    try:
        outside = {link for _hop, link in _default_hops(route)}
        found = []
        for message in route.dump(_GET_ADDRESS, bytes(_ADDRESS_BODY)):
            _family, prefix, _flags, _scope, link = _ADDRESS.unpack_from(message)
            fields = attributes(message, _ADDRESS_BODY)
            packed = fields.get(_IFA_ADDRESS) or fields.get(_IFA_LOCAL)  # over a point-to-point link the peer's
            if packed and prefix and link not in outside:
                found.append(Network(packed, len(packed) * 8).widened(prefix))
    finally:
        route.close()
    special = NetworkSet(SPECIAL)
    return sorted({network for network in found if special.covering(network) is None})


def ssh_peer() -> Network | None:
    """The address that the SSH connection we run in comes from.

    It is found also where sudo took the variable away (an ancestor has it), and where such a process went on in the
    background (systemd knows its login session).
    """
    pid = os.getpid()
    for _generation in range(32):
        connection = _connection_of(pid)
        if connection is not None:
            return next(iter(_host(connection.partition(" ")[0])), None)
        pid = _parent_of(pid)
        if pid <= 1:
            break
    return _session_peer()


def has_ipv6() -> bool:
    """Whether this kernel speaks IPv6."""
    return Path("/proc/self/net/if_inet6").exists()


def _own_addresses(route: Netlink) -> list[Network]:
    found = []
    for message in route.dump(_GET_ADDRESS, bytes(_ADDRESS_BODY)):
        fields = attributes(message, _ADDRESS_BODY)
        packed = fields.get(_IFA_LOCAL) or fields.get(_IFA_ADDRESS)
        if packed:
            found.append(Network(packed, len(packed) * 8))
    return found


def _gateways(route: Netlink) -> list[Network]:
    return [gateway for hop, _link in _default_hops(route) for gateway in _hop(hop)]


def _default_hops(route: Netlink) -> list[tuple[dict[int, bytes], int]]:
    """The hops of all default routes: attributes, and the index of the link that they are on (0: not said)."""
    found = []
    for message in route.dump(_GET_ROUTE, bytes(_ROUTE_BODY)):
        if message[1] != 0:  # the length of the destination: 0 is the default route
            continue
        fields = attributes(message, _ROUTE_BODY)
        found.append((fields, int.from_bytes(fields.get(_RTA_LINK, b""), sys.byteorder)))
        hops = fields.get(_RTA_MULTIPATH, b"")
        while len(hops) >= _NEXT_HOP.size:
            length, _flags, _hops, link = _NEXT_HOP.unpack_from(hops)
            size = max(length, _NEXT_HOP.size)
            found.append((attributes(hops, _NEXT_HOP.size, size), link))
            hops = hops[(size + 3) & ~3 :]
    return found


def _hop(fields: dict[int, bytes]) -> list[Network]:
    packed = fields.get(_RTA_GATEWAY) or fields.get(_RTA_VIA, b"")[2:]
    return [Network(packed, len(packed) * 8)] if len(packed) in (4, 16) else []


def _resolvers() -> list[Network]:
    found = []
    for name in RESOLVER_FILES:
        try:
            lines = Path(name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver":
                found += _host(words[1])
    return found


def _host(text: str) -> list[Network]:
    """The address in a text that may carry an interface; nothing if there is none."""
    try:
        return [parse_host(text.partition("%")[0])]
    except AddressError:
        return []


def _connection_of(pid: int) -> str | None:
    """The variable SSH_CONNECTION that a process was started with."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    for variable in environment.split(b"\0"):
        if variable.startswith(b"SSH_CONNECTION="):
            return variable[15:].decode("ascii", "replace")
    return None


def _session_peer() -> Network | None:
    """Where the login session that we belong to comes from: sd_pid_get_session(3), sd_session_get_remote_host(3)."""
    import ctypes  # seldom needed, and not for nothing

    session, peer = ctypes.c_char_p(), ctypes.c_char_p()
    try:
        systemd = ctypes.CDLL("libsystemd.so.0")
    except OSError:
        return None
    if (
        systemd.sd_pid_get_session(0, ctypes.byref(session)) < 0
        or systemd.sd_session_get_remote_host(session, ctypes.byref(peer)) < 0
    ):
        return None
    return next(iter(_host((peer.value or b"").decode("ascii", "replace"))), None)


def _parent_of(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(status.rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
