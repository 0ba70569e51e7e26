# SPDX-License-Identifier: GPL-3.0-or-later
"""The one lock of all writers of a chain, and the counter that tells whether anybody wrote."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from .errors import FirewallError, LockTimeout, NotPermitted, UnsafeFile
from .files import open_descriptor

RUN_DIRECTORY = Path("/run/ngfw")
"""Where the locks are; its group may use them."""

_CONTENT = struct.Struct("=QI")  # generation, pid of the last holder
_PID = struct.Struct("=I")
_GENERATIONS = 1 << 64
_POLL_SECONDS = 0.005


class Lock:
    """An exclusive lock on `DIRECTORY/CHAIN-NETNS.lock`, held while inside its `with` block.

    The file is never removed, for a waiter may have it open. Its descriptor is inherited by the tools that are
    started, so after a kill -9 the lock lasts exactly until the last of them has ended.
    """

    def __init__(
        self, directory: Path, chain: str, *, timeout: float = 30.0, give_up: Callable[[], bool] = lambda: False
    ) -> None:
        """`give_up` is asked while waiting; if it is true, that is as if the time were over."""
        namespace = os.stat("/proc/self/ns/net").st_ino
        self.path = directory / f"{chain}-{namespace}.lock"
        self._timeout, self._give_up = timeout, give_up
        self._advanced = 0
        self._descriptor = -1
        self._name, self._identity = str(self.path), (-1, -1)  # it is looked at each time the lock is taken

    def __enter__(self) -> Lock:
        """Raises LockTimeout after the time-out (seconds), NotPermitted or FirewallError if it cannot be opened."""
        start = time.monotonic()
        while True:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self._replaced():
                    break
                self.close()
                if time.monotonic() > start + self._timeout:
                    raise LockTimeout(f"{self.path} is replaced all the time; see who does that, and run again")
            except BlockingIOError:
                if self._give_up() or time.monotonic() > start + self._timeout:
                    holder = _holder(descriptor) or self._read(descriptor)[1]
                    seconds = time.monotonic() - start
                    raise LockTimeout(
                        f"process {holder} has held {self.path} for over {seconds:.0f} s; see what it does, "
                        "and run again when it has ended"
                    ) from None
                time.sleep(_POLL_SECONDS)
        os.pwrite(descriptor, _PID.pack(os.getpid()), _CONTENT.size - _PID.size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def generation(self) -> int | None:
        """How many changes were made so far under this lock, by anybody; None if that cannot be told."""
        if self._descriptor < 0:
            try:
                self._opened(open_descriptor(self.path, os.O_RDWR))
            except OSError:
                return None
        return self._read(self._descriptor)[0]

    def advance(self) -> int:
        """Count one more change; to be called by the holder before it changes anything."""
        generation = (self._read(self._descriptor)[0] + 1) % _GENERATIONS
        os.pwrite(self._descriptor, _CONTENT.pack(generation, os.getpid()), 0)
        self._advanced += 1
        return generation

    def changes_by_others(self) -> int | None:
        """A number that moves when others make changes, but not with our own; None if that cannot be told."""
        generation = self.generation()
        return None if generation is None else generation - self._advanced

    def follow(self) -> bool:
        """Use the file that others find, or make one, if somebody removed the one that is open here; whether so.

        Raises as __enter__ does where none can be made; the one that is open stays in use then.
        """
        if self._descriptor < 0 or not (self._replaced() or not os.path.lexists(self.path)):
            return False
        removed, self._descriptor = (self._descriptor, self._identity), -1
        try:
            self._open()
        except BaseException:
            self.close()
            self._descriptor, self._identity = removed
            raise
        os.close(removed[0])
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        if self._descriptor < 0:
            try:
                self.path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
                self._opened(open_descriptor(self.path, os.O_RDWR | os.O_CREAT, 0o660))
            except UnsafeFile:
                raise
            except PermissionError as error:
                raise NotPermitted(f"cannot open {self.path} ({error.strerror}); run as root") from None
            except OSError as error:
                kind = NotPermitted if error.errno == errno.EROFS else FirewallError
                raise kind(
                    f"cannot open {self.path} ({error.strerror}); remove what stands in its place, or make room"
                ) from None
            self._share()
        return self._descriptor

    def _opened(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, True)
        status = os.fstat(descriptor)
        self._descriptor, self._identity = descriptor, (status.st_dev, status.st_ino)

    def _share(self) -> None:
        """Give the file its directory's group, so that the watcher's user and root can both lock it."""
        group, status = self.path.parent.stat().st_gid, os.fstat(self._descriptor)
        if status.st_uid != os.geteuid():
            return  # whoever made it has seen to that, and root gives away nothing of others
        if status.st_uid == 0 and status.st_gid != group:
            os.fchown(self._descriptor, -1, group)
        os.fchmod(self._descriptor, 0o660)

    def _replaced(self) -> bool:
        """Whether others find another file at the path; where there is none, this one is as good."""
        try:
            found = os.lstat(self._name)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) != self._identity

    @staticmethod
    def _read(descriptor: int) -> tuple[int, int]:
        content = os.pread(descriptor, _CONTENT.size, 0)
        if len(content) < _CONTENT.size:
            return 0, 0
        generation, pid = _CONTENT.unpack(content)
        return generation, pid


def _holder(descriptor: int) -> int:
    """The process that holds the lock by the kernel's word, a stranger too; 0 if it does not tell: proc_locks(5)."""
    file = os.fstat(descriptor)
    place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = (line.split() for line in lines)
    return next((int(words[4]) for words in found if words[1] == "FLOCK" and words[5] == place), 0)
