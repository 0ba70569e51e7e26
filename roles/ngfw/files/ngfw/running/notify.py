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
        """How often watchdog() must be called at the least, None for never; half of what the manager waits for."""

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def watchdog(self) -> None:
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
        return int(microseconds) / 2_000_000
