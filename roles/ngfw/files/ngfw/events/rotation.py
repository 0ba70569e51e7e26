# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a rotated log went: the files beside a path that carry its name with a number or a date.

They may be packed, and lie in a directory below (logrotate's `olddir`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from glob import glob
from typing import NamedTuple

from .logfile import LogFile, Mark, alike
from .packed import ENDINGS, is_packed, open_log

_FINISHED_KEPT = 64
_DIRECTORIES = 64


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

    @property
    def packed(self) -> bool:
        """Whether `size` is not that of the text in it."""
        return is_packed(self.path)


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
        mark = file.mark()
        with suppress(OSError):  # of a network file system that went away
            mark = mark._replace(offset=file.size())
        if mark.length:
            self.remember(os.path.dirname(file.path), mark)

    def remember(self, directory: str, mark: Mark) -> None:
        marks = self._finished.setdefault(directory, {})
        marks.pop(mark.inode, None)
        marks[mark.inode] = mark
        if len(marks) > 2 * _FINISHED_KEPT:
            # Of a file that is gone a packed copy may be there, so the last ones are kept as well.
            kept = {candidate.inode for candidate in _regular_files(directory, "")}
            kept.update(list(marks)[-_FINISHED_KEPT:])
            self._finished[directory] = {inode: mark for inode, mark in marks.items() if inode in kept}

    def finished(self) -> dict[str, list[Mark]]:
        return {directory: list(marks.values()) for directory, marks in self._finished.items()}

    def done_with(self, candidate: Candidate) -> int | None:
        """How many bytes of it have been read in an earlier turn, or None if it is a new file."""
        for marks in self._finished.values():  # by all directories: a file can be moved to another one
            mark = marks.get(candidate.inode)
            if mark is not None and same_file(candidate, mark):
                return mark.offset
        return None

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


def directory_changed(path: str) -> int:
    """When a name beside it last came or went (mtime in nanoseconds); 0 where there is no directory."""
    changed = 0
    for place in _places(path):
        with suppress(OSError):
            changed = max(changed, os.stat(os.path.dirname(place)).st_mtime_ns)
    return changed


def rotated(path: str) -> list[Candidate]:
    """Earlier files of `path`, the one written to longest ago first: eve.json.1, eve.json-20261124, old/eve.json.2.gz.

    Where times are equal, the higher number or the earlier date is older.
    """
    found: dict[tuple[int, int], Candidate] = {}
    for place in _places(path):
        name = os.path.basename(place)
        stem, suffix = os.path.splitext(name)
        shape = re.compile(
            rf"{re.escape(stem)}(?:{re.escape(suffix)})?[-._]?(\d[\d:T._-]*?)(?:{re.escape(suffix)})?(?:\.old)?",
            re.ASCII,
        )
        for file in _files_around(place):
            plain = _plain(os.path.basename(file.path))
            if file.path != place and (shape.fullmatch(plain) or (plain == name and file.packed)):
                found[file.key] = file
    return sorted(found.values(), key=lambda file: (file.changed, _age(_plain(file.path))))


def packed_since(pattern: str, since: int) -> list[str]:
    """The paths that match a glob and of which only a packed file is there, written to since then (nanoseconds)."""
    found = [candidate(path) for ending in ENDINGS for path in glob(pattern + ending)]
    plain = {_plain(file.path) for file in found if file is not None and file.changed > since}
    return sorted(path for path in plain if not os.path.exists(path))


def find(mark: Mark, path: str) -> Candidate | None:
    """The marked file, under `path` or a name beside it that starts alike."""
    places = [candidate(path)]
    for place in _places(path):
        places.extend(_files_around(place))
    return next((place for place in places if place is not None and same_file(place, mark)), None)


def find_copy(mark: Mark, path: str, skip: Callable[[Candidate], bool]) -> Candidate | None:
    """The copy that copytruncate or a packer made of the marked file: another file with its head."""
    if not mark.distinctive:
        return None
    copies = [
        copy
        for copy in rotated(path)
        if copy.inode != mark.inode
        and (not copy.packed or copy.changed >= mark.changed)
        and not skip(copy)
        and mark.matches(read_head(copy))
    ]
    return max(copies, key=lambda copy: copy.changed, default=None)


def same_file(file: Candidate, mark: Mark) -> bool:
    """Whether `file` is the marked one, not cut since. The device's number may change when the host starts anew."""
    if file.inode != mark.inode or (file.size < mark.offset and not file.packed):
        return False
    if file.device != mark.device and not mark.distinctive:
        return False
    return mark.matches(read_head(file))


def read_head(file: Candidate) -> bytes:
    """The start of a file; nothing if it is not there any more."""
    try:
        opened = open_log(file.path)
    except OSError:
        return b""
    opened.close()
    return opened.head if opened.key == file.key else b""


def _places(path: str) -> tuple[str, ...]:
    """The path, and what it leads to."""
    return tuple(dict.fromkeys((os.path.abspath(path), os.path.realpath(path))))


def _plain(name: str) -> str:
    """A name without the ending that packing gave it."""
    return next((name[: -len(ending)] for ending in ENDINGS if name.endswith(ending)), name)


def _files_around(place: str) -> list[Candidate]:
    """The regular files beside it, and in directories below, whose names start like its own.

    A directory below with a file of the very same name is another log's.
    """
    directory, name = os.path.split(place)
    start = os.path.splitext(name)[0]
    files = _regular_files(directory, start)
    try:
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)][:_DIRECTORIES]
    except OSError:
        return files
    for each in below:
        if not os.path.lexists(os.path.join(each, name)):
            files += _regular_files(each, start)
    return files


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
