# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotated files whose successor is being read already, and that may yet get lines.

Suricata writes to the old inode until it is told to reopen its logs, and its threads do not reopen them at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .logfile import Lines, LogFile, Mark, TruncatedError

LATE_SECONDS = 30.0
"""How long a rotated file has to be quiet until it is let go."""

LATE_FILES = 4
"""How many rotated files of one path are followed at most; of more the oldest are let go."""


class LateFiles:
    """The rotated files of one path that are still followed; `finish` is called with each that is let go."""

    def __init__(self, finish: Callable[[LogFile], None], report: Callable[[str], None]) -> None:
        self._finish = finish
        self._report = report
        self._last_change: dict[LogFile, float] = {}

    def add(self, file: LogFile) -> None:
        self._last_change[file] = time.monotonic()

    def read(self, limit: int) -> Lines | None:
        """The next late lines, None if there are none; lets go of what is quiet, or too much."""
        for file in list(self._last_change):
            lines = self._read_one(file, limit)
            if lines is not None:
                return lines
        return None

    def marks(self) -> list[Mark]:
        return [file.mark() for file in self._last_change]

    def lag(self) -> int:
        return sum(file.lag() for file in self._last_change)

    def take_all(self) -> list[LogFile]:
        """The files that are followed, which are the caller's from now on."""
        files = list(self._last_change)
        self._last_change.clear()
        return files

    def _read_one(self, file: LogFile, limit: int) -> Lines | None:
        try:
            lines = file.read(limit)
        except (TruncatedError, OSError):
            self._let_go(file)
            return None
        if file.problem:
            self._report(f"{file.path}: {file.problem}")
            file.problem = ""
        if lines.taken:
            self._last_change[file] = time.monotonic()
            return lines._replace(more=True)
        if file.packed:
            self._let_go(file)
            return None
        quiet = time.monotonic() - self._last_change[file]
        if quiet < LATE_SECONDS and len(self._last_change) <= LATE_FILES:
            return None
        torn = file.torn
        self._let_go(file)
        if not torn:
            return None
        self._report(f"{file.path}: ends in the middle of a line, which is left out")
        return Lines(b"", 1, 0, True)

    def _let_go(self, file: LogFile) -> None:
        del self._last_change[file]
        self._finish(file)
