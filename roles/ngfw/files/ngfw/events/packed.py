# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotated logs that were packed before they were read to their end: gzip, bzip2, xz, and zstd where Python has it.

Positions in them are of the unpacked text, so that reading goes on where it was left in the plain file. They are read
in bounded steps and memory, and not beyond a size that no log reaches.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from .logfile import HEAD, Lines, LogFile

ENDINGS = (".gz", ".bz2", ".xz", ".zst")

MOST_RATIO = 500
"""How many times its size a log may unpack to; EVE comes to some 20, and what unpacks to more is no log."""

_MOST_MEMORY = 128 << 20
_STEP = 1 << 16


class Unpacker(Protocol):
    """Unpacked bytes in their order; b"" at the end. Raises whatever the format's module raises for damaged data."""

    def read(self, size: int, /) -> bytes: ...


def is_packed(path: str) -> bool:
    return path.endswith(ENDINGS)


def open_log(path: str, offset: int = 0) -> LogFile:
    """Open a log, packed or not; raises OSError if it cannot be opened, is of another kind or cannot be unpacked."""
    return PackedLog(path, offset) if is_packed(path) else LogFile(path, offset)


class PackedLog(LogFile):
    """An open packed log; nobody writes to it any more."""

    packed = True

    def __init__(self, path: str, offset: int = 0) -> None:
        self._at = 0  # in the unpacked text
        self._ended = False
        super().__init__(path, offset)

    def size(self) -> int:
        """What is known of the unpacked size; there always is something in it."""
        return max(self._at, self.offset, len(self.head), 1)

    def holds(self, offset: int) -> bool:
        return True

    def lag(self) -> int:
        """In packed bytes: how many there are unpacked is seen at the end."""
        return 0 if self._ended else max(0, os.fstat(self._fd).st_size - os.lseek(self._fd, 0, os.SEEK_CUR))

    def look_again(self) -> None:
        """Read the head, and begin anew."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._unpacker = _unpacker(self.path, os.fdopen(os.dup(self._fd), "rb"))
        self._at, self._ended, self._ahead = 0, False, b""
        self._ahead = self._unpack(HEAD)
        self.head = self._ahead.rstrip(b"\0")

    def read(self, limit: int) -> Lines:
        """As for any log; what precedes the position is skipped in steps, whose lines are empty."""
        skipped = 0
        while self._at < self._scanned and skipped < limit:
            block = self._next(min(_STEP, self._scanned - self._at))
            if not block:
                return Lines(b"", 0, skipped, False)
            skipped += len(block)
        return Lines(b"", 0, skipped, True) if skipped else super().read(limit)

    def before(self, limit: int) -> Iterator[bytes]:
        """None: to read again what lies before would be to unpack all of it again."""
        return iter(())

    def _block(self, size: int) -> bytes:
        return self._next(size)

    def _is_same(self) -> bool:
        return True

    def _at_end(self) -> Lines:
        return Lines(b"", 0, 0, False)

    def _leave_unwritten(self) -> None:
        """What is there will not be filled."""

    def _skip_hole(self) -> None:
        """There is none in what is unpacked."""

    def _next(self, size: int) -> bytes:
        block = self._ahead[:size]
        self._ahead = self._ahead[size:]
        if not block:
            block = self._unpack(size)
        self._at += len(block)
        return block

    def _unpack(self, size: int) -> bytes:
        if self._ended:
            return b""
        if self._at > MOST_RATIO * max(_STEP, os.fstat(self._fd).st_size):
            return self._end(f"unpacks to more than {MOST_RATIO} times its size; the rest is left out")
        try:
            block = self._unpacker.read(size)
        except Exception as error:  # each format has its own for damaged data, and zlib's is no other's
            return self._end(f"is damaged ({error}); the rest is left out")
        self._ended = not block
        return block

    def _end(self, problem: str) -> bytes:
        self.problem, self._ended = problem, True
        return b""


class _Xz:
    """An xz file, with a limit to the memory that it may ask for, which lzma.LZMAFile has not."""

    def __init__(self, file: BinaryIO) -> None:
        import lzma

        self._file = file
        self._unpacker = lzma.LZMADecompressor(memlimit=_MOST_MEMORY)

    def read(self, size: int, /) -> bytes:
        while not self._unpacker.eof:
            if not self._unpacker.needs_input:
                packed = b""
            else:
                packed = self._file.read(_STEP)
                if not packed:
                    raise EOFError("it ends in the middle")
            block = self._unpacker.decompress(packed, size)
            if block:
                return block
        return b""


def _unpacker(path: str, file: BinaryIO) -> Unpacker:
    """What unpacks the file; the formats' modules are only loaded where there is such a file."""
    if path.endswith(".gz"):
        import gzip

        return gzip.GzipFile(fileobj=file)
    if path.endswith(".bz2"):
        import bz2

        return bz2.BZ2File(file)
    if path.endswith(".xz"):
        return _Xz(file)
    try:
        import zstandard
    except ImportError:
        raise OSError(0, "it is packed with zstd, which needs the package python3-zstandard") from None
    return zstandard.ZstdDecompressor(max_window_size=_MOST_MEMORY).stream_reader(file, read_across_frames=True)
