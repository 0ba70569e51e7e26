# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a rotated log went: the files beside a path that carry its name with a number or a date."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from typing import NamedTuple

from .logfile import LogFile, Mark, alike

_FINISHED_KEPT = 64


class Candidate(NamedTuple):
    """A regular file as it was seen; `changed` is its mtime in nanoseconds."""

    path: str
    device: int
    inode: int
    size: int
    changed: int

    @property
    def key(self) -> tuple[int, int]:
        return self.device, self.inode


class Ledger:
    """What all followers of one Tail know together, so that no file is read twice under two names.

    `open` are the files being read, `followed` the paths that have a follower of their own. Finished files are
    remembered as long as they lie in their directory.
    """

    def __init__(self) -> None:
        self.open: dict[tuple[int, int], LogFile] = {}
        self.followed: set[str] = set()
        self._finished: dict[str, dict[int, Mark]] = {}

    def finish(self, file: LogFile) -> None:
        """Remember that `file` is read to its end, what is torn there included."""
        mark = file.mark()._replace(offset=file.size())
        if mark.length:
            self.remember(os.path.dirname(file.path), mark)

    def remember(self, directory: str, mark: Mark) -> None:
        marks = self._finished.setdefault(directory, {})
        marks[mark.inode] = mark
        if len(marks) > _FINISHED_KEPT:
            present = {candidate.inode for candidate in _regular_files(directory, "")}
            self._finished[directory] = {inode: mark for inode, mark in marks.items() if inode in present}

    def finished(self) -> dict[str, list[Mark]]:
        return {directory: list(marks.values()) for directory, marks in self._finished.items()}

    def done_with(self, candidate: Candidate) -> int | None:
        """How many bytes of it have been read in an earlier turn, or None if it is a new file."""
        mark = self._finished.get(os.path.dirname(candidate.path), {}).get(candidate.inode)
        return mark.offset if mark is not None and same_file(candidate, mark) else None

    def is_copy(self, file: Candidate, place: Candidate | None = None) -> bool:
        """Whether it begins like a file that is or was read, or like `place`: copytruncate copies before it cuts."""
        head = read_head(file)
        heads = [opened.head for opened in self.open.values() if opened.key != file.key]
        if place is not None and place.key != file.key:
            heads.append(read_head(place))
        return any(alike(head, other) for other in heads) or any(
            mark.distinctive and mark.key != file.key and mark.matches(head)
            for finished in self._finished.values()
            for mark in finished.values()
        )


def candidate(path: str) -> Candidate | None:
    """The file at `path` (links followed), or None if there is none; other errors are raised."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Candidate(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def rotated(path: str) -> list[Candidate]:
    """Earlier files of `path`, the one written to longest ago first: eve.json.1, eve.json-20261124, eve-20261124.json.

    Compressed ones are not among them. Where times are equal, the higher number or the earlier date is older.
    """
    found: dict[tuple[int, int], Candidate] = {}
    for place in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        directory, name = os.path.split(place)
        stem, suffix = os.path.splitext(name)
        shape = re.compile(
            rf"{re.escape(stem)}(?:{re.escape(suffix)})?[-._]?(\d[\d:T._-]*?)(?:{re.escape(suffix)})?(?:\.old)?",
            re.ASCII,
        )
        for file in _regular_files(directory, stem):
            if file.path != place and shape.fullmatch(os.path.basename(file.path)):
                found[file.key] = file
    return sorted(found.values(), key=lambda file: (file.changed, _age(file.path)))


def find(mark: Mark, path: str) -> Candidate | None:
    """The marked file, under `path` or a name beside it that starts alike."""
    places = [candidate(path)]
    for place in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        directory, name = os.path.split(place)
        places.extend(_regular_files(directory, os.path.splitext(name)[0]))
    return next((place for place in places if place is not None and same_file(place, mark)), None)


def find_copy(mark: Mark, path: str, skip: Callable[[Candidate], bool]) -> Candidate | None:
    """The copy that copytruncate made of the marked file before it was cut: another file with its head."""
    if not mark.distinctive:
        return None
    copies = [c for c in rotated(path) if c.inode != mark.inode and not skip(c) and mark.matches(read_head(c))]
    return max(copies, key=lambda copy: copy.changed, default=None)


def same_file(file: Candidate, mark: Mark) -> bool:
    """Whether `file` is the marked one, not cut since. The device's number may change when the host starts anew."""
    if file.inode != mark.inode or file.size < mark.offset:
        return False
    if file.device != mark.device and not mark.distinctive:
        return False
    return mark.matches(read_head(file))


def read_head(file: Candidate) -> bytes:
    """The start of a file; nothing if it is not there any more."""
    try:
        opened = LogFile(file.path)
    except OSError:
        return b""
    opened.close()
    return opened.head if opened.key == file.key else b""


def _regular_files(directory: str, start: str) -> list[Candidate]:
    try:
        names = [name for name in os.listdir(directory) if name.startswith(start)]
    except OSError:
        return []
    files = []
    for name in names:
        path = os.path.join(directory, name)
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            files.append(Candidate(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return files


def _age(path: str) -> tuple[int, str]:
    number = path.rpartition(".")[2]
    return (-int(number), "") if number.isdigit() and len(number) < 5 else (0, path)
