# SPDX-License-Identifier: GPL-3.0-or-later
"""One open log file: whole lines from a position on, bounded in memory, and whether it is still the same file."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

MAX_LINE = 1 << 20
"""Bytes of the longest line that is delivered, its newline included."""

HEAD = 1024
"""Bytes at the start of a file that tell it from another one: EVE and fast.log begin with a time in microseconds."""

_AT_ONCE = 120 << 10  # what is larger costs malloc() new pages each time
_DISTINCTIVE = 32  # the time, and in EVE the start of the flow id
_NUL_RUN = re.compile(rb"\0+")
_BLANK_LINES = re.compile(rb"\n\n+")


class TruncatedError(Exception):
    """The file holds other content than was read: it was cut, and perhaps has grown again."""


class Lines(NamedTuple):
    """`data` ends with a newline or is empty; `taken` bytes were read for it; `more`: not yet at the end."""

    data: bytes
    discarded: int
    taken: int
    more: bool


class Mark(NamedTuple):
    """How far a file has been delivered, in a form that outlives the process.

    `offset` is the start of the first line not delivered, `changed` the file's mtime in nanoseconds when that was
    noted, `head` the SHA-256 (hex) of the file's first `length` bytes, which may not have been delivered yet.
    """

    device: int
    inode: int
    offset: int
    changed: int
    length: int
    head: str

    def to_json(self) -> dict[str, Any]:
        return self._asdict()

    @classmethod
    def from_json(cls, value: object) -> Mark | None:
        """The mark of to_json(), or None for anything else."""
        if not isinstance(value, Mapping):
            return None
        numbers = [number for number in map(value.get, cls._fields[:-1]) if isinstance(number, int) and number >= 0]
        head = value.get("head")
        if len(numbers) != len(cls._fields) - 1 or not isinstance(head, str):
            return None
        device, inode, offset, changed, length = numbers
        mark = cls(device, inode, offset, changed, length, head)
        return mark if mark.length <= HEAD else None

    @property
    def key(self) -> tuple[int, int]:
        return self.device, self.inode

    @property
    def distinctive(self) -> bool:
        """Whether the head alone is enough to recognise the file, whatever its device and inode."""
        return self.length >= _DISTINCTIVE

    def matches(self, head: bytes) -> bool:
        """Whether a file with that head begins like the marked one."""
        return len(head) >= self.length and _digest(head[: self.length]) == self.head


class LogFile:
    """An open regular file; raises OSError if it cannot be opened or is of another kind."""

    packed = False
    problem = ""
    """What was found wrong while it was read, for people."""

    def __init__(self, path: str, offset: int = 0) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            self.look_again()
        except BaseException:
            os.close(self._fd)
            raise
        self.device, self.inode, self.changed = status.st_dev, status.st_ino, status.st_mtime_ns
        self.offset = self._scanned = offset
        self._torn = b""
        self._skipping = False
        self._padding = False
        self._discarded = 0
        self._digest = (-1, "")

    @property
    def key(self) -> tuple[int, int]:
        return self.device, self.inode

    @property
    def blank(self) -> bool:
        """Whether nothing has been delivered of it, and too little seen to tell it from another file."""
        return not self.offset and len(self.head) < _DISTINCTIVE

    @property
    def torn(self) -> bool:
        """Whether a line without its end was read."""
        return self._skipping or bool(self._torn)

    def fileno(self) -> int:
        return self._fd

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def holds(self, offset: int) -> bool:
        """Whether that position is in it."""
        return self.size() >= offset

    def lag(self) -> int:
        """Bytes that are there and not delivered."""
        return max(0, self.size() - self.offset)

    def links(self) -> int:
        return os.fstat(self._fd).st_nlink

    def look_again(self) -> None:
        """Take notice of the head as it is now; NULs at its end may yet be filled."""
        self.head = os.pread(self._fd, HEAD, 0).rstrip(b"\0")

    def seek(self, offset: int) -> None:
        """Go on from `offset`, the start of a line."""
        self.look_again()
        self.offset = self._scanned = offset
        self._torn, self._skipping, self._padding = b"", False, False

    def seek_last_line(self) -> None:
        """Go to the end, or to the start of a last line that has no end yet."""
        size = self.size()
        start = max(0, size - MAX_LINE)
        newline = os.pread(self._fd, size - start, start).rfind(b"\n")
        self.seek(start + newline + 1 if newline >= 0 or not start else size)

    def read(self, limit: int) -> Lines:
        """The next whole lines, from at most `limit` further bytes of the file.

        Raises TruncatedError if the file is another one now; nothing of it has been delivered then.
        """
        asked = min(limit, _AT_ONCE)
        block = self._block(asked)
        # In this order: if the head still stands after the block was read, the block is of the same file.
        if not self._is_same():
            raise TruncatedError
        if not block:
            return self._at_end()
        self._note_head(block)
        self._scanned += len(block)
        data = self._whole_lines(block)
        if self._padding:
            self._skip_hole()
        discarded, self._discarded = self._discarded, 0
        more = len(block) == asked or self._padding
        if not more:
            self.changed = os.fstat(self._fd).st_mtime_ns
            self._leave_unwritten()
        return Lines(data, discarded, len(block), more)

    def before(self, limit: int) -> Iterator[bytes]:
        """The whole lines that precede the position, from at most `limit` bytes, in blocks of about 1 MiB."""
        at = max(0, self.offset - limit)
        rest = b""
        if at:
            at -= 1
            skipped = os.pread(self._fd, MAX_LINE, at).find(b"\n") + 1
            at = at + skipped if skipped else self.offset
        while at < self.offset:
            block = os.pread(self._fd, min(MAX_LINE, self.offset - at), at)
            if not block:
                return
            at += len(block)
            block = rest + block
            cut = block.rfind(b"\n") + 1
            rest = block[cut:] if len(block) - cut < MAX_LINE else b""
            if cut:
                yield block[:cut]

    def mark(self) -> Mark:
        if self._digest[0] != len(self.head):
            self._digest = (len(self.head), _digest(self.head))
        return Mark(self.device, self.inode, self.offset, self.changed, *self._digest)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _block(self, size: int) -> bytes:
        return os.pread(self._fd, size, self._scanned)

    def _is_same(self) -> bool:
        return not self.head or os.pread(self._fd, len(self.head), 0) == self.head

    def _at_end(self) -> Lines:
        status = os.fstat(self._fd)
        if status.st_size < self._scanned:
            raise TruncatedError
        self.changed = status.st_mtime_ns
        if self._padding:
            self._scanned, self._padding = self.offset, False  # as _leave_unwritten() does
        return Lines(b"", 0, 0, False)

    def _leave_unwritten(self) -> None:
        """Look again later at NULs at the very end: on a network file system they can be a write yet to arrive."""
        kept = self._torn.rstrip(b"\0")
        self._scanned -= len(self._torn) - len(kept)
        self._torn = kept

    def _note_head(self, block: bytes) -> None:
        known = len(self.head)
        if known < HEAD and self._scanned <= known:
            start = known - self._scanned
            self.head += block[start : start + HEAD - known].rstrip(b"\0")

    def _whole_lines(self, block: bytes) -> bytes:
        """What of `block`, which ends at `_scanned`, completes lines; the rest is kept for the next time."""
        if self._skipping:
            end = block.find(b"\n") + 1
            if not end:
                return b""
            self._skipping = False
            self._discarded += 1
            block = block[end:]
            self.offset = self._scanned - len(block)
        if not self._torn:
            block = self._without_padding(block)
        cut = block.rfind(b"\n") + 1
        if not cut:
            self._keep(self._torn + block)
            return b""
        first = block.find(b"\n") + 1
        if len(self._torn) + first > MAX_LINE:
            self._discarded += 1
            data = block[first:cut]
        else:
            data = b"".join((self._torn, memoryview(block)[:cut]))
        self.offset = self._scanned - (len(block) - cut)
        self._keep(self._without_padding(block[cut:]))
        data, runs = without_nul_runs(data)
        self._discarded += runs
        return data

    def _keep(self, text: bytes) -> None:
        if len(text) >= MAX_LINE:
            padding = text.find(b"\0")
            if padding >= 0:
                # A line cut by a crash, and the padding behind it: only the line is lost.
                self._discarded += 1
                self.offset += padding
                text = self._without_padding(text[padding:])
            if len(text) >= MAX_LINE:
                self._skipping, text = True, b""
        self._torn = text

    def _without_padding(self, text: bytes) -> bytes:
        """`text`, which starts a line and ends at `_scanned`, without NULs at its start; their run counts once."""
        kept = text.lstrip(b"\0")
        if kept and (self._padding or len(kept) < len(text)):
            self._discarded += 1
            self._padding = False
            self.offset = self._scanned - len(kept)
        elif text and not kept:
            self._padding = True
        return kept

    def _skip_hole(self) -> None:
        """A writer without O_APPEND leaves a hole as long as the file was before its truncation."""
        try:
            self._scanned = max(self._scanned, os.lseek(self._fd, self._scanned, os.SEEK_DATA))
        except OSError:
            self._scanned = max(self._scanned, self.size())


def without_nul_runs(data: bytes) -> tuple[bytes, int]:
    """Lines without the runs of NULs among them, each of which ends a line, and the number of these."""
    if b"\0" not in data:
        return data, 0
    data, runs = _NUL_RUN.subn(b"\n", data)
    return _BLANK_LINES.sub(b"\n", data).lstrip(b"\n"), runs


def alike(one: bytes, other: bytes) -> bool:
    """Whether two heads are of one file and its copy, which may be unfinished."""
    length = min(len(one), len(other))
    return length >= _DISTINCTIVE and one[:length] == other[:length]


def _digest(head: bytes) -> str:
    return sha256(head).hexdigest()
