# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd wants to hear of a service (sd_notify(3)); silent where nobody listens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

_PATIENCE_SECONDS = 1.0
"""A manager that does not read stops nobody."""

_START_SECONDS = 60
"""What a start asks for, each time that it has come further."""


class Notifier:
    """Sends states to the socket that the service manager named in the environment."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            self._socket.settimeout(_PATIENCE_SECONDS)
        self.watchdog_seconds = self._watchdog(environment)
        """How often alive() must be called at the least, None for never; a third of what the manager waits for."""
        self._pause = self.watchdog_seconds or _START_SECONDS / 3
        self._due = 0.0
        self._starting = True

    def ready(self, status: str) -> None:
        self._starting, self._due = False, 0.0
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Tell that work goes on, where it is due. Costs nothing else, so long work may call it all the time."""
        if self._socket is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._pause / 2
        if self._starting:
            self._send(f"EXTEND_TIMEOUT_USEC={_START_SECONDS * 1_000_000}")
        elif self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if self._socket is None:
            return
        with suppress(OSError):  # the manager is being restarted
            self._socket.sendto(state.encode(), self._address)

    @staticmethod
    def _watchdog(environment: Mapping[str, str]) -> float | None:
        microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        if not microseconds.isdigit() or int(microseconds) == 0 or (pid and pid != str(os.getpid())):
            return None
        return int(microseconds) / 3_000_000
