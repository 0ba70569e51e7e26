# SPDX-License-Identifier: GPL-3.0-or-later
"""One path followed through all that rotation does to it.

Suricata reopens its logs on SIGHUP only and writes to the old inode until then. So a successor is taken up only once it
holds something, the old file is read to its end after that was seen, and followed beside it until it is quiet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from ..events import rotation
from .late import LateFiles
from .logfile import Lines, LogFile, Mark, TruncatedError
from .packed import open_log
from .rotation import Candidate, Ledger

_NOTHING, _MORE = Lines(b"", 0, 0, False), Lines(b"", 0, 0, True)
_QUIET_SECONDS = 3600
_CLOCK_SLACK = 1_000_000_000  # nanoseconds: a file's times come from a coarser clock
_LOOKS = 3  # a rotation while a file is looked for by its names hides it from that look


class Watcher(Protocol):
    """Told which open files a follower waits for."""

    def watch(self, file: LogFile, follower: Follower) -> None: ...

    def unwatch(self, file: LogFile) -> None: ...


class Follower:
    """Reads `path` and, where it was rotated, what came before it, each byte once.

    One of start(), resume(), expect() or nothing (a path that appears later) comes before look() and read(), and
    resume_late() before resume().
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
        self._late = LateFiles(self._finish, report)
        self._mark: Mark | None = None
        self._since: int | None = None  # what was last written to before this (mtime, ns) is of no interest
        self._catching_up = False  # whether files can have been packed before they were read
        self._behind = False  # whether there may be more files that come before the current one
        self._searched = 0  # when the directory had last changed as all in it was read
        self._asleep = False
        self.complaint = ""  # why the path cannot be read, as it was reported

    def start(self, *, at_end: bool) -> None:
        """Begin for the first time; what was rotated away before is of no interest."""
        self._since = time.time_ns() - _CLOCK_SLACK
        for file in rotation.rotated(self.path):
            if not file.packed and file.key not in self._ledger.open and file.path not in self._ledger.followed:
                self._remember_whole(file)
        self._mark = Mark(0, 0, 0, self._since, 0, "")
        place = self._place()
        if place is not None and self._unread(place):
            self._current = self._open(place)
            if self._current is not None and at_end:
                self._current.seek_last_line()

    def expect(self, since: int) -> None:
        """Begin with what was written since then (nanoseconds): the path came and went while nobody looked."""
        self._since, self._catching_up = since, True

    def resume_late(self, marks: Iterable[Mark]) -> None:
        """Go on following what an earlier run followed beside the marked file."""
        for mark in marks:
            file = self._reopen(mark) or self._reopen_copy(mark)
            if file is not None:
                self._late.add(file)

    def resume(self, mark: Mark) -> None:
        """Go on where an earlier run stopped, in the marked file whatever its name is now."""
        self._mark, self._since, self._catching_up = mark, mark.changed, True
        if not mark.offset and not mark.distinctive:
            return  # nothing of it was delivered: whatever is there and newer is read by look()
        if not self._readable(mark):
            self._asleep = True
            return
        for _look in range(_LOOKS):
            self._current = self._reopen(mark)
            if self._current is not None:
                return
            self._current = self._reopen_copy(mark)
            if self._current is not None:
                self._report(f"{self.path}: was copied or packed meanwhile; the copy is read to its end first")
                return
        self._report(f"{self.path}: what was read last is gone (truncated, removed or packed); lines may be missing")
        for file in rotation.rotated(self.path):
            if file.packed and file.changed >= mark.changed:
                opened = self._open(file)  # which says why one cannot be unpacked
                if opened is not None:
                    self._release(opened)

    def look(self) -> None:
        """Find the file that comes next; to be called whenever names may have changed."""
        place = self._place()
        if self._asleep and self._mark is not None:
            if place is None or (place.key == self._mark.key and place.size == self._mark.offset):
                return
            self._asleep = False
            self.resume(self._mark)
        if self._current is not None and self._current.blank:
            self._current.look_again()  # so that its own copy is known as such
        if self._next is not None and self._next.size() < len(self._next.head):
            self._replace_next(None)  # truncated before its turn came: its copy goes first
        current = self._current
        if current is not None and place is not None and place.key == current.key:
            self._replace_next(None)
            self._follow_beside(current, place)
        elif self._next is None or not self._next.size():
            self._replace_next(self._successor(place))
        if self._current is None and self._next is not None:
            self._current, self._next = self._next, None
            self.look()

    def read(self, limit: int) -> Lines:
        """The next whole lines, from at most `limit` bytes; `more` is false when all has been read."""
        late = self._late.read(limit)
        if late is not None:
            return late
        if self._behind:
            self._behind = False
            self.look()
            return _MORE
        current = self._current
        if current is None:
            return _NOTHING
        try:
            # Before the read, so that its finding no more is later than the successor's first bytes.
            superseded = self._next is not None and self._next.size() > 0
            lines = current.read(limit)
        except TruncatedError:
            self._truncated(current)
            return _MORE
        except OSError as error:
            self._failed(current, error)
            return _NOTHING
        if current.problem:
            self._report(f"{current.path}: {current.problem}")
            current.problem = ""
        if lines.more or not superseded:
            return lines
        if lines.taken:
            return lines._replace(more=True)
        self._late.add(current)
        self._current, self._next = self._next, None
        self.look()
        return _MORE

    def before(self, limit: int) -> Iterator[bytes]:
        """Whole lines that precede the position in the current file."""
        return self._current.before(limit) if self._current is not None else iter(())

    def mark(self) -> Mark | None:
        """How far all that read() returned reaches; None if there never was a file."""
        if self._current is not None:
            mark = self._current.mark()
            self._mark = mark if self._since is None else mark._replace(changed=self._since)
        return self._mark

    def late_marks(self) -> list[Mark]:
        """The same of the rotated files that are still followed beside it."""
        return self._late.marks()

    def lag(self) -> int:
        """Bytes that are there but not delivered."""
        lag = self._late.lag()
        if self._current is not None:
            lag += self._current.lag()
        if self._next is not None:
            lag += self._next.lag()
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
            self._finish(current)
            self._current, self._asleep = None, True

    def close(self) -> None:
        for file in (self._current, self._next, *self._late.take_all()):
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
        """The oldest unread file; at last what the path leads to, even if still empty."""
        unread = self._unread_beside(place)
        if unread:
            return unread[0]
        return place if place is not None and self._unread(place) else None

    def _follow_beside(self, current: LogFile, place: Candidate) -> None:
        """Read, one after the other, what was rotated away unseen between two looks."""
        changed = rotation.directory_changed(self.path)
        if changed == self._searched and changed < time.time_ns() - _CLOCK_SLACK:
            return
        unread = self._unread_beside(place)
        opened = self._open(unread[0], self._ledger.done_with(unread[0]) or 0) if unread else None
        if opened is not None:
            self._late.add(opened)
            self._behind = True
        if not unread:
            self._since, self._searched, self._catching_up = current.changed, changed, False

    def _unread_beside(self, place: Candidate | None) -> list[Candidate]:
        """The rotated files that are worth reading, the one written to longest ago first."""
        since = self._current.changed if self._since is None and self._current is not None else self._since
        if since is None:
            return []
        return [
            file
            for file in rotation.rotated(self.path)
            if file.changed >= since and (self._catching_up or not file.packed) and self._worth_reading(file, place)
        ]

    def _worth_reading(self, file: Candidate, place: Candidate | None) -> bool:
        """Lines that came to a finished file are no concern: it was followed until it was quiet."""
        known = self._ledger.done_with(file) is not None or (place is not None and file.key == place.key)
        if file.packed and not rotation.read_head(file):
            return False  # nothing can be unpacked of it
        return file.size > 0 and not known and self._unread(file) and not self._ledger.is_copy(file, place)

    def _unread(self, file: Candidate) -> bool:
        """Whether nobody reads it now and it holds more than was read of it before."""
        if file.key in self._ledger.open or (file.path != self.path and file.path in self._ledger.followed):
            return self._next is not None and file.key == self._next.key
        done = self._ledger.done_with(file)
        return done is None or (file.size > done and not file.packed)

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
        for _look in range(_LOOKS):
            self._current = self._current or self._reopen_copy(mark)
        if self._current is not None:
            self._report(f"{self.path}: was copied and truncated; the copy is read to its end first")
        else:
            self._report(f"{self.path}: was truncated; it is read from its beginning")
        self.look()

    def _reopen(self, mark: Mark) -> LogFile | None:
        """The marked file, where it was left, unless it is cut between being found and being opened."""
        file = rotation.find(mark, self.path)
        opened = None if file is None else self._open(file, mark.offset)
        if opened is None:
            return None
        if mark.matches(opened.head) and opened.holds(mark.offset):
            return opened
        self._release(opened)
        return None

    def _reopen_copy(self, mark: Mark) -> LogFile | None:
        copy = rotation.find_copy(mark, self.path, lambda file: not self._unread(file))
        if copy is None:
            return None
        return self._open(copy, mark.offset if copy.packed else min(mark.offset, copy.size))

    def _failed(self, file: LogFile, error: OSError) -> None:
        """A read error, as of a network file system that went away: try again with the next look."""
        self._mark = file.mark()
        self._release(file)
        self._replace_next(None)
        self._current, self._asleep = None, True
        self._complain(error)

    def _open(self, file: Candidate, offset: int = 0) -> LogFile | None:
        try:
            opened = open_log(file.path, offset)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain(error)
            return None
        if opened.key != file.key:
            opened.close()
            return None
        self.complaint = ""
        self._ledger.open[opened.key] = opened
        self._watcher.watch(opened, self)
        return opened

    def _finish(self, file: LogFile) -> None:
        self._ledger.finish(file)
        self._release(file)

    def _release(self, file: LogFile) -> None:
        self._ledger.open.pop(file.key, None)
        self._watcher.unwatch(file)
        file.close()

    def _remember_whole(self, file: Candidate) -> None:
        try:
            opened = open_log(file.path, file.size)
        except OSError:
            return
        if opened.key == file.key:
            self._ledger.finish(opened)
        opened.close()

    def _is_fresh(self, changed: int) -> bool:
        return time.time() - changed / 1e9 < _QUIET_SECONDS

    def _complain(self, error: OSError) -> None:
        text = f"{self.path}: {error.strerror or error}"
        if text != self.complaint:
            self.complaint = text
            self._report(text)
