# SPDX-License-Identifier: GPL-3.0-or-later
"""What the watcher keeps between two runs: how far it has read, and the batch it is working on.

A batch is announced in `pending` before it has any effect; when all effects are there, `pending` becomes `cursor` by
rename, and a blank one takes its place. `pending` can grow by further batches; one that was cut off counts as not
announced, and another text for what was announced replaces it by rename, so a reader finds the old or the new one,
never a part. Their format is intent.py's; of a cursor only `positions` and `lookups` matter.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ..firewall.errors import UnsafeFile
from ..firewall.files import open_descriptor, put_aside, read_bytes
from ..firewall.lock import RUN_DIRECTORY
from . import intent
from .intent import Intent, Lookup

Content = TypeVar("Content")

LOCK, CURSOR, PENDING, IN_FORCE, SETS = "lock", "cursor", "pending", "in_force", "sets"

MAX_BYTES = 512 << 20
"""Of a file that is read: some million blocks in force."""

_BLANK = b" " * 4096
_SIGNATURE = 40
_MAX_CURSOR_BYTES = 1 << 20

_DAMAGE = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError)

_WITHOUT = {
    CURSOR: "reading begins where start_at says; 'ngfw replay' tells what lines written since the last run would do",
    PENDING: "the batch that it announced is read again",
}


class StateError(Exception):
    """The state directory cannot be used; the text says what to do."""


class StateForbidden(StateError):
    """This user may not use it."""


class State:
    """The state directory of one watcher."""

    def __init__(self, directory: Path, *, report: Callable[[str], None], run_directory: Path = RUN_DIRECTORY) -> None:
        """`report` is told about files that were put aside. The lock has a second file in `run_directory`, where this
        user may write there: nobody works beside a watcher whose directory was removed.
        """
        self.directory = directory
        self._announced, self._cursor = directory / PENDING, directory / CURSOR
        self._report = report
        self.died = False
        """Whether the last run did not end in order."""
        self.lost = 0
        """How many bytes of journals the last run could not write before its end."""
        self._held = 0
        self._lock = self._guard = -1
        self._blank = -1
        self._pending, self._size = -1, 0
        self._written: Sequence[Intent] = ()
        self._had: set[str] = set()
        name = hashlib.sha256(os.fsencode(os.path.realpath(directory))).hexdigest()[:16]
        self._beside = run_directory / f"watcher-{name}"

    def lock(self) -> None:
        """Make this the only watcher on the directory until the process ends. Raises StateError."""
        self._lock_beside()
        words = self._lock_directory()
        self.died = words[:1] not in ([], ["-"])
        self.lost = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0

    def look(self) -> bool:
        """Lock again what somebody removed; whether a file is missing that was there before. Raises StateError."""
        if self._guard >= 0 and not _is_at(self._guard, self._beside.with_suffix(".lock")):
            os.close(self._guard)
            self._guard = -1
            self._lock_beside()
        if not _is_at(self._lock, self.directory / LOCK):
            for descriptor in (self._blank, self._pending, self._lock):
                if descriptor >= 0:
                    os.close(descriptor)
            self._blank = self._pending = self._lock = -1
            self._lock_directory()
        there = {name for name in (CURSOR, IN_FORCE, SETS) if os.path.lexists(self.directory / name)}
        missing = bool(self._had - there)
        self._had = there | self._had - {IN_FORCE}  # which a dry run does not make again
        return missing

    def _lock_beside(self) -> None:
        with suppress(OSError):
            descriptor = _open_shared(self._beside.with_suffix(".lock"))
            self._take(descriptor)
            self._guard = descriptor
            os.pwrite(descriptor, _signed(str(os.getpid())), 0)

    def _lock_directory(self) -> list[str]:
        """What the last holder has written into the lock's file. Raises StateError."""
        path = self.directory / LOCK
        try:
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            refuse_as_root(self.directory)
            descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT)
        except UnsafeFile as error:
            raise StateError(str(error)) from None
        except OSError as error:
            kind = StateForbidden if isinstance(error, PermissionError) else StateError
            raise kind(
                f"cannot use the state directory {self.directory} ({error.strerror}); "
                "run as root, or set state_directory in ngfw.yml to a directory that can be written"
            ) from None
        words = self._take(descriptor)
        self._lock = descriptor
        self._sign(f"{os.getpid()} {self._held}" if self._held else str(os.getpid()))
        return words

    def _take(self, descriptor: int) -> list[str]:
        """Lock a file; what its last holder has written into it. Raises StateError if somebody else has locked it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = _signature(descriptor) or ["unknown"]
            os.close(descriptor)
            raise StateError(
                f"another watcher (process {words[0]}) already works on {self.directory}; "
                "stop it first (systemctl stop ngfw-watcher), or set another state_directory"
            ) from None
        return _signature(descriptor)

    def hold(self, count: int) -> None:
        """So many bytes of journals wait in memory to be written: the next start tells if they did not get there."""
        self._held = count
        self._sign(f"{os.getpid()} {count}")

    def ended(self) -> None:
        """This run ends in order."""
        self._sign(f"- {self._held}" if self._held else "")
        if self._guard >= 0:
            with suppress(OSError):
                os.unlink(self._beside.with_suffix(".lock"))

    def _sign(self, text: str) -> None:
        """Say in the lock's file how this run is; written over what is there, it needs no room on the disk."""
        if self._lock >= 0:
            with suppress(OSError):
                os.pwrite(self._lock, _signed(text), 0)

    def unlock(self) -> None:
        for descriptor in (self._blank, self._pending, self._lock, self._guard):
            if descriptor >= 0:
                os.close(descriptor)
        self._blank = self._pending = self._lock = self._guard = -1

    def positions(self) -> dict[str, Any] | None:
        """Where reading goes on, None at the first start. A file that is not readable as such is put aside."""
        left = self._beside.with_suffix(".cursor")
        with suppress(OSError, *_DAMAGE):
            positions = intent.decode_positions(read_bytes(left, _MAX_CURSOR_BYTES))
            self.move(positions)
            os.unlink(left)
        return self.load(CURSOR, intent.decode_positions)

    def leave(self, positions: dict[str, Any]) -> None:
        """Keep for the next run how far was read, outside the directory, which is lost. Raises OSError."""
        os.close(_replaced(self._beside.with_suffix(".cursor"), intent.encode_positions(positions)))

    def lookups(self) -> tuple[Lookup, ...]:
        """What the last batches left to answers: the only place where a kill may leave them."""
        return self.load(CURSOR, intent.decode_lookups) or ()

    def pending(self) -> Intent | None:
        """What an earlier run announced and did not finish, if there is something; several batches as one."""
        return self.load(PENDING, intent.decode)

    def announce(self, intents: Sequence[Intent], *, anew: bool = True) -> None:
        """Write `pending`, `anew` or adding to what was announced since the last commit. Raises OSError."""
        data = b"".join([each.encode() for each in intents])
        self._written = intents if anew else [*self._written, *intents]
        if anew:
            self._close_pending()
            self._pending, self._blank, self._size = self._blank, -1, 0
        if self._pending >= 0:
            self._add(data)
        else:
            self._pending, self._size = _replaced(self._announced, data), len(data)

    def commit(self) -> None:
        """All effects of the announced batches are there: reading goes on after them. Raises OSError."""
        self._close_pending()
        try:
            os.replace(self._announced, self._cursor)
        except FileNotFoundError:  # somebody removed it
            self.keep(CURSOR, b"".join([each.encode() for each in self._written]))
        self._prepare()

    def move(self, positions: dict[str, Any]) -> None:
        """Move the cursor over lines that had no effect. Raises OSError."""
        self.keep(CURSOR, intent.encode_positions(positions))

    def keep(self, name: str, data: bytes) -> None:
        """Write another file of this directory. Raises OSError."""
        os.close(_replaced(self.directory / name, data))

    def note(self, name: str) -> int:
        """A descriptor of another file of this directory, new and empty. Raises OSError."""
        return _create(self.directory / name)

    def forget(self, name: str) -> None:
        """Remove another file of this directory, if it is there."""
        with suppress(OSError):
            os.unlink(self.directory / name)

    def load(self, name: str, decode: Callable[[bytes], Content]) -> Content | None:
        """What `decode` makes of a file, None without one; a file that it refuses is put aside. Raises StateError."""
        path = self.directory / name
        try:
            return decode(read_bytes(path, MAX_BYTES))
        except FileNotFoundError:
            return None
        except UnsafeFile as error:
            problem = error.strerror
        except OSError as error:
            raise StateError(f"cannot read {path} ({error.strerror}); let the watcher's user read it") from None
        except _DAMAGE as error:
            problem = f"is damaged ({type(error).__name__}: {error})"
        try:
            aside = self.put_aside(name)
        except OSError as error:
            raise StateError(f"{path} {problem} and cannot be put aside ({error}); remove it") from None
        self._report(
            f"{path} {problem} and was put aside as {aside}; "
            f"blocks in the kernel stay, {_WITHOUT.get(name, 'work goes on without it')}"
        )
        return None

    def give_up(self) -> Path:
        """Put aside what is announced, and go on after it; returns what its file is called now. Raises OSError.

        It is put aside first: runs may have died at reading it.
        """
        aside = self.put_aside(PENDING)
        with suppress(*_DAMAGE):
            self.move(intent.decode_positions(read_bytes(aside, MAX_BYTES)))
        return aside

    def put_aside(self, name: str) -> Path:
        """Rename a file of this directory; returns what it is called now. Raises OSError."""
        return put_aside(self.directory / name)

    def _prepare(self) -> None:
        """Make the file of the next announcement, where nobody waits for it: to write over a page takes no time."""
        with suppress(OSError):
            self._blank = _create(self._announced)
            _write(self._blank, _BLANK, 0)

    def _add(self, data: bytes) -> None:
        try:
            _write(self._pending, data, self._size)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._pending, self._size)
            raise
        self._size += len(data)

    def _close_pending(self) -> None:
        if self._pending >= 0:
            os.close(self._pending)
            self._pending = -1


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has that path."""
    try:
        return descriptor >= 0 and os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except OSError:
        return False


def _open_shared(path: Path) -> int:
    """A file that both root and the directory's group may lock. Raises OSError."""
    path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
    descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT, 0o660)
    if os.geteuid() == os.fstat(descriptor).st_uid:
        if os.geteuid() == 0:
            os.fchown(descriptor, -1, path.parent.stat().st_gid)
        os.fchmod(descriptor, 0o660)
    return descriptor


def _replaced(path: Path, data: bytes) -> int:
    """Replace a file as a whole; its descriptor. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    descriptor = _create(fresh)
    try:
        _write(descriptor, data, 0)
        os.replace(fresh, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _create(path: Path) -> int:
    """A new file, whatever lies there: only that name of it goes."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o640)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, 0o640)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _signed(text: str) -> bytes:
    return text.ljust(_SIGNATURE - 1).encode() + b"\n"


def _signature(descriptor: int) -> list[str]:
    """What the lock's file says: the process, or - after an orderly end, and how many bytes it still held, if any."""
    return os.pread(descriptor, _SIGNATURE, 0).decode("ascii", "replace").split()


def refuse_as_root(directory: Path) -> None:
    """Raises StateError where root would work in a directory of the service's user, who could lead it astray."""
    try:
        owner = directory.stat().st_uid
    except FileNotFoundError:
        return
    if os.geteuid() == 0 and owner != 0:
        raise StateError(
            f"{directory} belongs to user {owner}, and root does not write there; start the service "
            "(systemctl start ngfw-watcher), or name directories of root's in ngfw.yml"
        )


def holder(directory: Path) -> int | None:
    """The process id of the watcher that works on a state directory, None if none does.

    Raises UnsafeFile and PermissionError.
    """
    try:
        descriptor = open_descriptor(directory / LOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        words = _signature(descriptor)
        return int(words[0]) if words and words[0].isdigit() else 0
    finally:
        os.close(descriptor)
    return None
