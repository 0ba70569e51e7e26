# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, in few kinds; every message says what to do next."""

from __future__ import annotations

import errno
import os
from typing import Any


class FirewallError(Exception):
    """Base of all errors of this library; its text is meant for people."""


class InvalidInput(FirewallError, ValueError):
    """Something given by the caller is not acceptable; nothing was changed."""


class AddressError(InvalidInput):
    """A text is not an address or network that can be acted on."""


class DurationError(InvalidInput):
    """A text is not a duration, or it is out of range."""


class MissingTool(FirewallError):
    """A program or kernel module that is needed is not there."""


class NotPermitted(FirewallError):
    """The kernel refused for lack of privileges."""


class UnsafeFile(FirewallError, OSError):
    """What lies at a path that others may write is not opened: a link, a FIFO, somebody else's file, too large."""

    def __init__(self, path: str | os.PathLike[str], what: str, remedy: str = "remove it") -> None:
        """`what` goes on after the path; it is also the error's `strerror`."""
        super().__init__(errno.EPERM, what, os.fspath(path))
        self._remedy = remedy

    def __str__(self) -> str:
        return f"{self.filename} {self.strerror}; {self._remedy}"


class LockTimeout(FirewallError):
    """Another writer held the lock for too long."""


class KernelError(FirewallError):
    """The kernel or one of its tools refused a change."""


class SetMissing(KernelError):
    """A set that was there is gone: somebody destroyed it beside the lock."""


class SetFull(KernelError):
    """A set took no more; all else is in force. `result` is what came of the request, a Result."""

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result
