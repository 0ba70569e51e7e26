# SPDX-License-Identifier: GPL-3.0-or-later
"""The log files (docs/interface.md, section 5): alert.log, blocks.log, daemon.log for people, alerts.json for SIEMs."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..events.packed import is_packed
from ..firewall.errors import UnsafeFile
from ..firewall.files import open_descriptor, open_for_reading
from ..firewall.text import masked, quoted
from ..terminal import complain
from .wording import local_time

ALERT_LOG = "alert.log"
BLOCKS_LOG = "blocks.log"
DAEMON_LOG = "daemon.log"
ALERTS_JSON = "alerts.json"
DECISION_LOGS = (ALERT_LOG, BLOCKS_LOG, ALERTS_JSON)
"""The files that a batch of decisions is written to; daemon.log stands beside them."""


MAX_HELD_BYTES = 4 << 20
"""What is kept of each file while it cannot be written."""


GROWTH_BURST, GROWTH_PER_SECOND = 256 << 20, 64 << 10
"""Bytes of lines about what blocks nobody, at once and in the long run: 5 GB a day."""


class Growth:
    """How much the journals may grow by lines that whoever forges packets has written as often as he likes."""

    def __init__(self, burst: float = GROWTH_BURST, per_second: float = GROWTH_PER_SECOND) -> None:
        self._left = self._burst = burst
        self._per_second = per_second
        self._at = 0.0
        self.left_out = 0
        """Lines since there was room last."""

    def admits(self, size: int, now: float) -> bool:
        """Whether there is room for so many bytes at this time (epoch seconds)."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_second)
        self._at = now
        if max(size, self.left_out and self._burst / 16) > self._left:  # not now and then a line, each time with a word
            return False
        self._left -= size
        return True


class Mark(NamedTuple):
    """Where a file ends: its inode and its size in bytes."""

    inode: int
    size: int


def encoded(text: str) -> bytes:
    """The bytes of a log's text; never raises, for whatever was in a message."""
    return text.encode("utf-8", "backslashreplace")


def found(wanted: bytes, present: bytes) -> int:
    """How many of the lines `wanted` stand in `present`, where they were written in order, others between them."""
    lines = _lines(wanted)
    count = 0
    for line in _lines(present):
        if count < len(lines) and line == lines[count]:
            count += 1
    return count


def missing(wanted: bytes, present: bytes) -> bytes:
    """What of the lines `wanted` does not stand in `present`; a last line of it that was cut off is completed."""
    lines = _lines(wanted)
    count = found(wanted, present)
    fragment = present[present.rfind(b"\n") + 1 :]
    if not fragment:
        return b"".join(lines[count:])
    if count < len(lines) and lines[count].startswith(fragment):
        return b"".join(lines[count:])[len(fragment) :]
    return b"\n" + b"".join(lines[count:])


def _lines(data: bytes) -> list[bytes]:
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _rest(stream: BinaryIO, without: bytes) -> bytes:
    return b"".join(line for line in stream if without not in line) if without else stream.read()


def _siblings(path: Path) -> list[Path]:
    try:
        return sorted(path.parent.glob(f"{path.name}*"))
    except OSError:
        return []


class _LogFile:
    """One file that is appended to with whole lines; what cannot be written is held and tried again."""

    def __init__(self, path: Path, tell: Callable[[str, str], None]) -> None:
        """`tell` is given a text and its level."""
        self.path = path
        self._tell = tell
        self._descriptor = -1
        self._held = b""
        self._lost = 0
        self._failing = False

    @property
    def held(self) -> int:
        """Bytes that wait to be written, or were dropped meanwhile."""
        return len(self._held) + self._lost

    def reopen(self) -> None:
        self.close()
        self.append(b"")

    def look(self) -> None:
        """Open the file anew if there is another of its name, or none."""
        if self._descriptor < 0:
            return
        try:
            same = os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._descriptor))
        except OSError:
            same = False
        if not same:
            self.reopen()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def append(self, data: bytes) -> None:
        data = self._held + data
        try:
            if self._descriptor < 0:
                self._descriptor = open_log(self.path)
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self._keep(data)
            if not self._failing:
                self._failing = True
                text = f"cannot write {self.path}: {error.strerror}; {_remedy(error)}; blocking goes on"
                self._tell(text, "ERROR")
            return
        self._held = b""
        if self._failing:
            self._failing = False
            missing = f"; {self._lost} bytes were dropped" if self._lost else ""
            self._lost = 0
            self._tell(f"{self.path} is written again{missing}", "INFO")

    def mend(self) -> None:
        """End a last line that was cut off."""
        with suppress(OSError), open_for_reading(self.path) as stream:
            size = stream.seek(0, os.SEEK_END)
            if size and os.pread(stream.fileno(), 1, size - 1) != b"\n":
                self.append(b"\n")

    def mark(self) -> Mark | None:
        """The end of the file, None while it cannot be written."""
        if self._descriptor < 0 or self._held:
            self.append(b"")
        if self._descriptor < 0 or self._held:
            return None
        status = os.fstat(self._descriptor)
        return Mark(status.st_ino, status.st_size)

    def _keep(self, data: bytes) -> None:
        if len(data) > MAX_HELD_BYTES:
            kept = data.rfind(b"\n", 0, MAX_HELD_BYTES) + 1
            self._lost += len(data) - kept
            data = data[:kept]
        self._held = data


def open_log(path: Path) -> int:
    """A descriptor that appends to `path`, made with mode 0640 if it is not there. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        return open_descriptor(path, flags)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return open_descriptor(path, flags)


def _remedy(error: OSError) -> str:
    if isinstance(error, UnsafeFile):
        return "remove it"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on that file system"
    return "let the watcher's user write there"


class Journal:
    """The files of one log directory. No method raises for a log that cannot be written."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float] = time.time,
        echo: Callable[[str], None] | None = None,
        held: Callable[[int], None] = lambda count: None,
    ) -> None:
        """`echo` is given every message of daemon.log as well; by default it goes to standard error. `held` is told
        how many bytes of the files of decisions wait to be written, when that changes.
        """
        self._clock = clock
        self._tell_held, self._held = held, 0
        self._echo = echo or _to_stderr
        self._files = {name: _LogFile(directory / name, self._tell) for name in DECISION_LOGS}
        self._daemon = _LogFile(directory / DAEMON_LOG, lambda text, level: self._echo(text))

    def say(self, text: str, *, level: str = "INFO") -> None:
        """One line of daemon.log, and to standard error."""
        line = quoted(masked(text))
        self._echo(line)
        stamp = local_time(self._clock())
        self._daemon.append(f"{stamp} {level} {line}\n".encode())

    def marks(self) -> dict[str, Mark | None]:
        """Where the files of decisions end now."""
        return {name: file.mark() for name, file in self._files.items()}

    def append(self, texts: Mapping[str, str]) -> None:
        """Add whole lines to the files named."""
        for name, text in texts.items():
            self.append_bytes(name, encoded(text))

    def append_bytes(self, name: str, data: bytes) -> None:
        """Add bytes that end a line to one file."""
        if data:
            self._files[name].append(data)
        held = sum(file.held for file in self._files.values())
        if held != self._held:
            self._held = held
            self._tell_held(held)

    def mark(self, name: str) -> Mark | None:
        """Where one file ends now; None while it cannot be written."""
        return self._files[name].mark()

    def since(self, name: str, mark: Mark | None, *, without: bytes = b"") -> tuple[bytes, bool]:
        """What was added to a file after `mark`, and whether it is still the file of that name, not rotated or lost.

        Lines that hold the text `without` are left out.
        """
        path = self._files[name].path
        if mark is None:
            return b"", False
        for candidate in (path, *_siblings(path)):
            try:
                with open_for_reading(candidate) as stream:
                    status = os.fstat(stream.fileno())
                    if status.st_ino == mark.inode and status.st_size >= mark.size:
                        stream.seek(mark.size)
                        return _rest(stream, without), candidate == path
            except OSError:
                continue
        return b"", False

    def after(self, name: str, mark: Mark, *, without: bytes = b"") -> bytes:
        """All that was added to a log after `mark`, in the files that it was rotated to as well.

        Lines that hold the text `without` are left out. Any thread may ask.
        """
        data, same = self.since(name, mark, without=without)
        path = self._files[name].path
        if same or not path.exists():
            return data
        found = [(each.lstat(), each) for each in _siblings(path) if not is_packed(each.name)]
        files = sorted((status.st_mtime_ns, status.st_ino, each) for status, each in found)
        known = next((moment for moment, inode, _each in files if inode == mark.inode), 0)
        for moment, inode, each in files:
            if moment >= known and inode != mark.inode:
                with suppress(UnsafeFile), open_for_reading(each) as stream:
                    data += _rest(stream, without)
        return data

    def mend(self) -> None:
        """End lines that a kill on a full disk has cut off, once nothing more can be added to them."""
        for file in (*self._files.values(), self._daemon):
            file.mend()

    def look(self) -> None:
        """Make again what somebody removed: what is written to a removed file is lost."""
        for file in (*self._files.values(), self._daemon):
            file.look()

    def reopen(self) -> None:
        """Open all files anew, as after a rotation."""
        for file in (*self._files.values(), self._daemon):
            file.reopen()

    def close(self) -> None:
        for name, file in self._files.items():
            file.append(b"")
            self.append_bytes(name, b"")
            file.close()
        self._daemon.append(b"")
        self._daemon.close()

    def _tell(self, text: str, level: str) -> None:
        self.say(text, level=level)


def _to_stderr(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads it: the files are the record
        complain(text)
