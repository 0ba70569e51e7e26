# SPDX-License-Identifier: GPL-3.0-or-later
"""One path followed through all that rotation does to it.

Suricata reopens its logs on SIGHUP only and writes to the old inode until then. So a successor is taken up only once it
holds something, and the old file is read to its end after that was seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from ..events import rotation
from .logfile import Lines, LogFile, Mark, TruncatedError
from .rotation import Candidate, Ledger

_NOTHING = Lines(b"", 0, 0, False)
_QUIET_SECONDS = 3600
_CLOCK_SLACK = 1_000_000_000  # nanoseconds: a file's times come from a coarser clock
_LOOKS = 3  # a rotation while a file is looked for by its names hides it from that look


class Watcher(Protocol):
    """Told which open files a follower waits for."""

    def watch(self, file: LogFile, follower: Follower) -> None: ...

    def unwatch(self, file: LogFile) -> None: ...


class Follower:
    """Reads `path` and, where it was rotated, what came before it, each byte once.

    Exactly one of start(), resume() or nothing (a path that appears later) comes before look() and read().
    """

    def __init__(
        self, path: str, log_format: str, ledger: Ledger, watcher: Watcher, report: Callable[[str], None]
    ) -> None:
        self.path = path
        self.format = log_format
        self.busy = True
        self._ledger = ledger
        self._watcher = watcher
        self._report = report
        self._current: LogFile | None = None
        self._next: LogFile | None = None
        self._mark: Mark | None = None
        self._asleep = False
        self._complaint = ""

    def start(self, *, at_end: bool) -> None:
        """Begin for the first time; what was rotated away before is of no interest."""
        for file in rotation.rotated(self.path):
            if file.key not in self._ledger.open and file.path not in self._ledger.followed:
                self._remember_whole(file)
        self._mark = Mark(0, 0, 0, time.time_ns() - _CLOCK_SLACK, 0, "")
        place = self._place()
        if place is not None and self._unread(place):
            self._current = self._open(place)
            if self._current is not None and at_end:
                self._current.seek_last_line()

    def resume(self, mark: Mark) -> None:
        """Go on where an earlier run stopped, in the marked file whatever its name is now."""
        self._mark = mark
        if not mark.offset and not mark.distinctive:
            return  # nothing of it was delivered: whatever is there and newer is read by look()
        if not self._readable(mark):
            self._asleep = True
            return
        for _look in range(_LOOKS):
            if self._go_on_in_file(mark):
                return
            if self._go_on_in_copy(mark):
                self._report(f"{self.path}: was copied and truncated meanwhile; the copy is read to its end first")
                return
        self._report(
            f"{self.path}: what was read last is gone (truncated, removed or compressed); lines may be missing"
        )

    def look(self) -> None:
        """Find the file that comes next; to be called whenever names may have changed."""
        place = self._place()
        if self._asleep and self._mark is not None:
            if place is None or (place.key == self._mark.key and place.size == self._mark.offset):
                return
            self._asleep = False
            self.resume(self._mark)
        if self._current is not None and self._current.blank:
            self._go_back(self._current, place)
        if self._next is not None and self._next.size() < len(self._next.head):
            self._replace_next(None)  # truncated before its turn came: its copy goes first
        current = self._current
        if current is not None and place is not None and place.key == current.key:
            self._replace_next(None)
        elif self._next is None or not self._next.size():
            self._replace_next(self._successor(place))
        if self._current is None and self._next is not None:
            self._current, self._next = self._next, None
            self.look()

    def read(self, limit: int) -> Lines:
        """The next whole lines, from at most `limit` bytes; `more` is false when all has been read."""
        while True:
            current = self._current
            if current is None:
                return _NOTHING
            try:
                # Before the read, so that its finding no more is later than the successor's first bytes.
                superseded = self._next is not None and self._next.size() > 0
                lines = current.read(limit)
            except TruncatedError:
                self._truncated(current)
                continue
            except OSError as error:
                self._failed(current, error)
                return _NOTHING
            if lines.more or not superseded:
                return lines
            if lines.taken:
                return lines._replace(more=True)
            torn = current.torn
            self._ledger.finish(current)
            self._release(current)
            self._current, self._next = self._next, None
            self.look()
            if torn:
                self._report(f"{current.path}: ends in the middle of a line, which is left out")
                return Lines(b"", 1, 0, True)

    def before(self, limit: int) -> Iterator[bytes]:
        """Whole lines that precede the position in the current file."""
        return self._current.before(limit) if self._current is not None else iter(())

    def mark(self) -> Mark | None:
        """How far all that read() returned reaches; None if there never was a file."""
        if self._current is not None:
            self._mark = self._current.mark()
        return self._mark

    def lag(self) -> int:
        """Bytes that are there but not delivered."""
        lag = 0
        if self._current is not None:
            lag += max(0, self._current.size() - self._current.offset)
        if self._next is not None:
            lag += self._next.size()
        return lag

    def gone(self) -> bool:
        """Whether the path leads nowhere and nobody can write to what it led to."""
        if self._place() is not None or self._next is not None:
            return False
        return self._current is None or (self._current.links() == 0 and not self._is_fresh(self._current.changed))

    def sleep(self) -> None:
        """Close a file that is read to its end and has been quiet for an hour; look() wakes it when it changes."""
        current = self._current
        if current is None or self._next is not None or self._is_fresh(current.changed):
            return
        if current.size() == current.offset:
            self._mark = current.mark()
            self._ledger.finish(current)
            self._release(current)
            self._current, self._asleep = None, True

    def close(self) -> None:
        for file in (self._current, self._next):
            if file is not None:
                self._release(file)
        self._current = self._next = None

    def _readable(self, mark: Mark) -> bool:
        """Whether it can be seen what the path holds: a marked file without permission is not a file that is gone."""
        place = self._place()
        try:
            if place is not None and place.inode == mark.inode:
                LogFile(place.path).close()
        except OSError as error:
            self._complain(error)
            return False
        return True

    def _place(self) -> Candidate | None:
        """What the path leads to now."""
        try:
            return rotation.candidate(self.path)
        except OSError as error:
            self._complain(error)
            return None

    def _successor(self, place: Candidate | None) -> Candidate | None:
        """The oldest unread file since the current one; at last what the path leads to, even if still empty."""
        for file in self._around(place)[1]:
            if self._worth_reading(file, place):
                return file
        return place if place is not None and self._unread(place) else None

    def _go_back(self, current: LogFile, place: Candidate | None) -> None:
        """Before the first line of a file: read first what was rotated away between two looks, if anything was."""
        current.look_again()  # so that its own copy is known as such
        for file in self._around(place)[0]:
            if self._worth_reading(file, place):
                opened = self._open(file)
                if opened is not None:
                    self._release(current)
                    self._replace_next(None)
                    self._current = opened
                return

    def _around(self, place: Candidate | None) -> tuple[list[Candidate], list[Candidate]]:
        """The rotated files before and after the current one, oldest first, that were written to since it was."""
        known = self._current or self._mark
        if known is None:
            return [], []
        files = [file for file in rotation.rotated(self.path) if place is None or file.key != place.key]
        recent = [file for file in files if file.changed >= known.changed]
        if self._current is not None and place is not None and place.key == known.key:
            return recent, []
        at = next((at for at, file in enumerate(files) if file.key == known.key), None)
        if self._current is None or at is None:
            return [], recent
        return [file for file in files[:at] if file in recent], files[at + 1 :]

    def _worth_reading(self, file: Candidate, place: Candidate | None) -> bool:
        return file.size > 0 and self._unread(file) and not self._ledger.is_copy(file, place)

    def _unread(self, file: Candidate) -> bool:
        """Whether nobody reads it now and it holds more than was read of it before."""
        if file.key in self._ledger.open or (file.path != self.path and file.path in self._ledger.followed):
            return self._next is not None and file.key == self._next.key
        done = self._ledger.done_with(file)
        return done is None or file.size > done

    def _replace_next(self, file: Candidate | None) -> None:
        if self._next is not None:
            if file is not None and file.key == self._next.key:
                return
            self._release(self._next)
            self._next = None
        if file is not None:
            self._next = self._open(file, self._ledger.done_with(file) or 0)
            self.busy = True

    def _truncated(self, file: LogFile) -> None:
        mark = file.mark()
        self._release(file)
        self._replace_next(None)  # the truncated file itself may have to be read before it
        self._current, self._mark = None, mark
        if any(self._go_on_in_copy(mark) for _look in range(_LOOKS)):
            self._report(f"{self.path}: was copied and truncated; the copy is read to its end first")
        else:
            self._report(f"{self.path}: was truncated; it is read from its beginning")
        self.look()

    def _go_on_in_file(self, mark: Mark) -> bool:
        """Open the marked file where it was left, unless it is cut between being found and being opened."""
        file = rotation.find(mark, self.path)
        opened = None if file is None else self._open(file, mark.offset)
        if opened is None:
            return False
        if mark.matches(opened.head) and opened.size() >= mark.offset:
            self._current = opened
            return True
        self._release(opened)
        return False

    def _go_on_in_copy(self, mark: Mark) -> bool:
        copy = rotation.find_copy(mark, self.path, lambda file: not self._unread(file))
        if copy is not None:
            self._current = self._open(copy, min(mark.offset, copy.size))
        return self._current is not None

    def _failed(self, file: LogFile, error: OSError) -> None:
        """A read error, as of a network file system that went away: try again with the next look."""
        self._mark = file.mark()
        self._release(file)
        self._replace_next(None)
        self._current, self._asleep = None, True
        self._complain(error)

    def _open(self, file: Candidate, offset: int = 0) -> LogFile | None:
        try:
            opened = LogFile(file.path, offset)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain(error)
            return None
        if opened.key != file.key:
            opened.close()
            return None
        self._complaint = ""
        self._ledger.open[opened.key] = opened
        self._watcher.watch(opened, self)
        return opened

    def _release(self, file: LogFile) -> None:
        self._ledger.open.pop(file.key, None)
        self._watcher.unwatch(file)
        file.close()

    def _remember_whole(self, file: Candidate) -> None:
        try:
            opened = LogFile(file.path, file.size)
        except OSError:
            return
        if opened.key == file.key:
            self._ledger.finish(opened)
        opened.close()

    def _is_fresh(self, changed: int) -> bool:
        return time.time() - changed / 1e9 < _QUIET_SECONDS

    def _complain(self, error: OSError) -> None:
        text = f"{self.path}: {error.strerror or error}"
        if text != self._complaint:
            self._complaint = text
            self._report(text)
