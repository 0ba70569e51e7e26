# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of a journal and its rotated files, for people: bounded in time and memory, whatever its owner put there."""

from __future__ import annotations

import gzip
import heapq
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..events.logfile import MAX_LINE
from ..events.packed import ENDINGS
from ..firewall.errors import UnsafeFile
from ..firewall.files import open_for_reading

MAX_BYTES = 512 << 20
"""At most this much is read of all files of a journal, unpacked: the newest."""

_MAX_FILES = 100
_BLOCK = 1 << 20
_MOST_PACKED = 20  # bytes that one byte of a packed journal becomes
_UNREADABLE = tuple(ending for ending in ENDINGS if ending != ".gz")


class _Part(NamedTuple):
    """A file of which at most `size` bytes are read, unpacked; of one that is not packed the last ones."""

    path: Path
    size: int


def lines_with(directory: Path, name: str, marks: Sequence[bytes], report: Callable[[str], None]) -> Iterator[bytes]:
    """The lines that hold one of `marks`, oldest file first; `report` is told what was not read. Raises OSError."""
    parts, cut = _newest(directory, name)
    if cut:
        report(f"only the newest {MAX_BYTES >> 20} MiB of {directory / name} and its rotated files were read")
    for part in parts:
        try:
            with open_for_reading(part.path) as stream:
                for block in _whole_lines(_blocks(stream, part)):
                    if any(mark in block for mark in marks):
                        yield from (line for line in block.split(b"\n") if any(mark in line for mark in marks))
        except FileNotFoundError:
            continue  # rotated meanwhile
        except UnsafeFile as error:
            report(str(error))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            report(f"{part.path} cannot be unpacked: {error}")


def _newest(directory: Path, name: str) -> tuple[list[_Part], bool]:
    """What is read of which files, oldest first, and whether some of them is left out."""
    try:
        with os.scandir(directory) as entries:
            found = heapq.nlargest(_MAX_FILES, _files(entries, name))
    except FileNotFoundError:
        return [], False
    left, parts = MAX_BYTES, []
    for _moment, path, size in found:
        whole = size * _MOST_PACKED if path.endswith(".gz") else size
        if left > 0:
            parts.append(_Part(Path(path), min(whole, left)))
        left -= whole
    return parts[::-1], left < 0


def _files(entries: Iterator[os.DirEntry[str]], name: str) -> Iterator[tuple[int, str, int]]:
    for entry in entries:
        if entry.name.startswith(name) and not entry.name.endswith(_UNREADABLE):
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                yield status.st_mtime_ns, entry.path, status.st_size


def _blocks(stream: BinaryIO, part: _Part) -> Iterator[bytes]:
    if part.path.suffix == ".gz":
        with gzip.open(stream) as unpacked:
            yield from _up_to(part.size, unpacked)
    else:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - part.size))
        yield from _up_to(part.size, stream)


def _up_to(size: int, stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while size > 0:
        block = stream.read(min(_BLOCK, size))
        if not block:
            return
        size -= len(block)
        yield block


def _whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut at the ends of lines; what is longer than any line of ours is left out."""
    rest = b""
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end] if len(rest) < MAX_LINE else block[:end]
            rest = b""
        if len(rest) < MAX_LINE:
            rest += block[end:]
    yield rest
