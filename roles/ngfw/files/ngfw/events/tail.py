# SPDX-License-Identifier: GPL-3.0-or-later
"""All sources together: whole lines in bounded steps, woken by the kernel, resumable from a JSON-able cursor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import PurePath
from typing import Any, NamedTuple

from .follower import Follower
from .logfile import Mark
from .rotation import Ledger, candidate, packed_since
from .sources import matching
from .watches import Watches

_VERSION = 1
_LOOK_SECONDS = 1.0
_OPEN_OF_GLOBS = 64


class Source(NamedTuple):
    """`path` may be a glob, `format` is "eve" or "fast"."""

    path: str
    format: str


class Chunk(NamedTuple):
    """Whole lines of one file: `data` ends with a newline, or is empty if what was read completes none.

    `discarded` counts the lines over 1 MiB, runs of NUL padding and torn ends of finished files that were left out.
    """

    format: str
    path: str
    data: bytes
    discarded: int


class Tail:
    """Follows log files; single-threaded, to be driven by poll() on fileno() or by a timer.

    `positions` is what positions() gave to an earlier run, None at the first start. A source that an earlier run did
    not have begins at `start_at`; a file that appears later under a known source is read from its beginning.
    `report` gets a sentence for people whenever something out of the ordinary is seen.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        positions: Mapping[str, Any] | None,
        start_at: str,
        *,
        report: Callable[[str], None],
    ) -> None:
        if start_at not in ("end", "beginning"):
            raise ValueError(f"start_at is '{start_at}'; it must be 'end' or 'beginning'")
        self._sources = tuple(sources)
        self._report = report
        self._ledger = Ledger()
        self._watches = Watches(report)
        self._followers: dict[str, Follower] = {}
        self._source_of: dict[str, Source] = {}
        self._turn = 0
        self._stale = True
        self._drained = False
        self._looked = 0.0
        self._watches.watch_lookups(source.path for source in self._sources)
        self._begin(positions, at_end=start_at == "end")
        self._look()

    def fileno(self) -> int:
        """What becomes readable when there is something to read; -1 where only polling sees it.

        It can become -1 later, when a source turns out to lie on a network file system.
        """
        return self._watches.fileno()

    def drain_events(self) -> None:
        """Take the kernel's events, so that fileno() is not readable any more; else the next read() does so."""
        if self._watches.drain():
            self._stale = True
        self._drained = True

    def read(self, limit: int = 1 << 20) -> list[Chunk]:
        """The next whole lines of all sources from at most `limit` further bytes of them; [] when there is nothing.

        If none was completed by these, what is returned holds none: the rest comes with the next calls.
        """
        if not self._drained:
            self.drain_events()
        self._drained = False
        if self._stale or self._watches.polling or time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._look()
        chunks: list[Chunk] = []
        room = max(1, limit)
        for follower in self._in_turn():
            while follower.busy and room > 0:
                lines = follower.read(room)
                follower.busy = lines.more
                room -= lines.taken
                if lines.data or lines.discarded or room <= 0:
                    chunks.append(Chunk(follower.format, follower.path, lines.data, lines.discarded))
        return chunks

    def positions(self) -> dict[str, Any]:
        """A cursor for JSON that matches exactly the whole lines that read() has returned so far."""
        followers = self._followers.items()
        return {
            "version": _VERSION,
            "sources": [source.path for source in self._sources],
            "files": {path: mark.to_json() for path, each in followers if (mark := each.mark()) is not None},
            "late": {
                path: [mark.to_json() for mark in late] for path, each in followers if (late := each.late_marks())
            },
            "finished": {
                directory: [mark.to_json() for mark in finished]
                for directory, finished in self._ledger.finished().items()
            },
        }

    def before(self, limit: int) -> Iterator[Chunk]:
        """The whole lines that precede the cursor, oldest first of each file, from at most `limit` bytes of all."""
        for follower in self._followers.values():
            for data in follower.before(limit // len(self._followers)):
                yield Chunk(follower.format, follower.path, data, 0)

    def lag(self) -> dict[Source, int]:
        """Bytes that are in the files of each source but have not been returned."""
        lag = dict.fromkeys(self._sources, 0)
        for follower in self._followers.values():
            lag[self.source_of(follower.path)] += follower.lag()
        return lag

    def source_of(self, path: str) -> Source:
        """The source that a followed path belongs to."""
        return self._source_of[path]

    def complaints(self) -> dict[Source, str]:
        """What keeps files of a source from being read, and was reported."""
        followers = self._followers.values()
        return {self.source_of(each.path): each.complaint for each in followers if each.complaint}

    def close(self) -> None:
        for follower in self._followers.values():
            follower.close()
        self._followers.clear()
        self._watches.close()

    def _begin(self, positions: Mapping[str, Any] | None, *, at_end: bool) -> None:
        marks, late, known = self._earlier(positions)
        paths = {source.path: source for source in self._sources if not has_magic(source.path)}
        for source in self._sources:
            paths.update({path: source for path in marks if _leads_to(source.path, path)})
            if source.path not in known:
                paths.update({path: source for path in matching(source.path) if path not in paths})
        for path, source in paths.items():
            self._follow(path, source)
        for path, mark in marks.items():
            if path in paths:
                self._followers[path].resume_late(late.get(path, ()))
                self._followers[path].resume(mark)
        for path, source in paths.items():
            if path not in marks and source.path not in known:
                self._followers[path].start(at_end=at_end)
        for source in self._sources:
            seen = [mark.changed for path, mark in marks.items() if _leads_to(source.path, path)]
            if has_magic(source.path) and seen:
                for path in packed_since(source.path, max(seen)):
                    if path not in self._followers:
                        self._follow(path, source).expect(max(seen))

    def _earlier(self, positions: Mapping[str, Any] | None) -> tuple[dict[str, Mark], dict[str, list[Mark]], set[str]]:
        """The marks of an earlier run, of late files too, and the sources it had; the ledger gets what it finished."""
        if positions is None:
            return {}, {}, set()
        files, sources = positions.get("files"), positions.get("sources")
        if positions.get("version") != _VERSION or not isinstance(files, Mapping) or not isinstance(sources, list):
            self._report("the stored positions cannot be understood; all sources begin anew")
            return {}, {}, set()
        for directory, finished in _lists_of_marks(positions.get("finished")).items():
            for mark in finished:
                self._ledger.remember(directory, mark)
        marks = {str(path): Mark.from_json(value) for path, value in files.items()}
        late = _lists_of_marks(positions.get("late"))
        return {path: mark for path, mark in marks.items() if mark is not None}, late, set(map(str, sources))

    def _look(self) -> None:
        """Take notice of every change of names."""
        self._stale = False
        self._looked = time.monotonic()
        self._watches.watch_lookups(source.path for source in self._sources)
        for follower in self._followers.values():
            follower.look()
            follower.busy = True
        for source in self._sources:
            if not has_magic(source.path):
                continue
            for path in matching(source.path):
                if path not in self._followers and self._is_new(path):
                    self._follow(path, source).look()
            self._thin_out(source)

    def _is_new(self, path: str) -> bool:
        """Whether the file is neither read already under another name nor a copy of one that is."""
        try:
            file = candidate(path)
        except OSError:
            return False
        if file is None or file.key in self._ledger.open or self._ledger.done_with(file) is not None:
            return False
        return not self._ledger.is_copy(file)

    def _thin_out(self, source: Source) -> None:
        """Let go of files that a glob matched once: removed ones, and where there are many, quiet ones."""
        followers = [f for path, f in self._followers.items() if _leads_to(source.path, path)]
        for follower in followers:
            if follower.gone():
                follower.close()
                del self._followers[follower.path], self._source_of[follower.path]
                self._ledger.followed.discard(follower.path)
            elif len(followers) > _OPEN_OF_GLOBS:
                follower.sleep()

    def _follow(self, path: str, source: Source) -> Follower:
        follower = Follower(path, source.format, self._ledger, self._watches, self._report)
        self._followers[path], self._source_of[path] = follower, source
        self._ledger.followed.add(path)
        return follower

    def _in_turn(self) -> list[Follower]:
        """All followers, another one first each time, so that a flood in one file does not starve the others."""
        followers = list(self._followers.values())
        self._turn = (self._turn + 1) % max(1, len(followers))
        return followers[self._turn :] + followers[: self._turn]


def _lists_of_marks(stored: object) -> dict[str, list[Mark]]:
    """What can be understood of them."""
    items = stored.items() if isinstance(stored, Mapping) else ()
    return {
        str(path): [mark for value in values if (mark := Mark.from_json(value)) is not None]
        for path, values in items
        if isinstance(values, list)
    }


def _leads_to(pattern: str, path: str) -> bool:
    """Whether glob(pattern) would find `path` if it existed."""
    if pattern == path:
        return True
    names, wanted = PurePath(path).parts, PurePath(pattern).parts
    return has_magic(pattern) and len(names) == len(wanted) and all(map(fnmatchcase, names, wanted))
