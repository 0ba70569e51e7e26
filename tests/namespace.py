# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces for tests. They have no names: they live as long as this process holds them, so nothing is left
behind, even after a kill -9. A socket belongs to the namespace it was made in."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_FREEBIND = {socket.AF_INET: (socket.SOL_IP, 15), socket.AF_INET6: (41, 78)}  # in.h, in6.h
_LIBC = ctypes.CDLL(None, use_errno=True)


def wait_until(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Return as soon as the condition holds; fail if it does not in time, which is long for the slowest machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def shared(seconds: float) -> float:
    """How long so many seconds become where others have their share of the processors, as they have it now."""
    start, used = time.monotonic(), time.process_time()
    while time.process_time() - used < 0.03:
        pass
    return seconds * max(1.0, (time.monotonic() - start) / (time.process_time() - used))


class Namespace:
    """A network namespace; inside its `with` block this process is in it, and so is what it starts."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are values of files below /proc/sys/net."""
        self._outer: list[int] = []
        before = _here()
        try:
            _call("unshare", _CLONE_NEWNET)
            self.descriptor = _here()
            for name, value in {"ipv6/conf/default/accept_dad": "0", **(settings or {})}.items():
                Path("/proc/sys/net", name).write_text(value, encoding="ascii")
        finally:
            _call("setns", before, _CLONE_NEWNET)
            os.close(before)
        self.path = f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def __enter__(self) -> Namespace:
        self._outer.append(_here())
        _call("setns", self.descriptor, _CLONE_NEWNET)
        return self

    def __exit__(self, *_error: object) -> None:
        outer = self._outer.pop()
        _call("setns", outer, _CLONE_NEWNET)
        os.close(outer)

    def run(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        with self:
            return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=60)

    def ip(self, *lines: str) -> None:
        """Run `ip` with these lines; all must succeed."""
        done = self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
        assert done.returncode == 0, f"{lines}: {done.stderr}"

    def socket(self, address: str, port: int = 0, *, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> socket.socket:
        """A new socket of this namespace, bound to an address that need not be an interface's."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self:
            made = socket.socket(family, kind, protocol)
        made.setsockopt(*_FREEBIND[family], 1)
        made.bind((address, port))
        return made

    def close(self) -> None:
        # Before it is gone: the next one anywhere may get its number.
        for lock in Path("/run/ngfw").glob(f"*-{os.fstat(self.descriptor).st_ino}.lock"):
            lock.unlink()
        os.close(self.descriptor)


def _here() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _call(name: str, *arguments: int) -> None:
    if getattr(_LIBC, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}; these tests need root")
