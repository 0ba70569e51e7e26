# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's addresses, gateways and resolvers change while the watcher runs: what is protected follows them, and what
counts as inside.

Groups of rtnetlink: RTMGRP_IPV4_IFADDR and so on in the kernel's include/uapi/linux/rtnetlink.h.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from ..events.inotify import FileWatch
from ..firewall import host
from ..firewall.address import Network
from ..firewall.netlink import ROUTE
from .loop import Loop

_IPV4_ADDRESS, _IPV4_ROUTE, _IPV6_ADDRESS, _IPV6_ROUTE = 0x10, 0x40, 0x100, 0x400
_GROUPS = _IPV4_ADDRESS | _IPV4_ROUTE | _IPV6_ADDRESS | _IPV6_ROUTE
_SETTLE_SECONDS = 0.3
_TIMER = "surroundings"


class Surroundings:
    """Calls `changed` a moment after there were other addresses to protect, or other networks on the links."""

    def __init__(self, loop: Loop, changed: Callable[[], None]) -> None:
        self._loop, self._changed = loop, changed
        self._socket: socket.socket | None = None
        self._resolvers: FileWatch | None = None
        self._seen: tuple[dict[Network, str], list[Network]] | None = None

    def watch(self) -> None:
        """Begin. Raises OSError where the kernel does not let this user listen."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, ROUTE)
        self._socket.bind((0, _GROUPS))
        self._loop.watch(self._socket.fileno(), self._heard)
        self._resolvers = FileWatch(host.RESOLVER_FILES)
        self._loop.watch(self._resolvers.fileno(), self._rewritten)
        self._seen = host.protected(), host.links()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._resolvers is not None:
            self._resolvers.close()

    def _heard(self) -> None:
        with suppress(OSError):  # nothing more, or more than the socket could hold
            while self._socket is not None and self._socket.recv(65536):
                pass
        self._soon()

    def _rewritten(self) -> None:
        if self._resolvers is not None:
            self._resolvers.again()
        self._soon()

    def _soon(self) -> None:
        if not self._loop.has_timer(_TIMER):
            self._loop.after(_TIMER, _SETTLE_SECONDS, self._look)

    def _look(self) -> None:
        found = host.protected(), host.links()
        if found != self._seen:
            self._seen = found
            self._changed()
