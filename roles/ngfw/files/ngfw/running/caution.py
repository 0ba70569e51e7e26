# SPDX-License-Identifier: GPL-3.0-or-later
"""After a run that died: what it may have died at is noted before it is done, and what two runs died at is set aside.

A line is tried by a child first, if an earlier run died at it: whoever was killed for another reason loses no line.
The note is written without being flushed to the disk: it has to survive the process, not the host.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from typing import Any, Callable, NamedTuple

from ..effects.state import State
from ..events.tail import Chunk

POISON, TRIED = "poison", "tried"

STEP_BYTES = 16 << 10
"""What is read and put in force at once meanwhile."""

LINE_BYTES = 512
"""The same where a run has died at something already."""

_MOST_BYTES = 64 << 20
"""A run is never further ahead of its cursor."""

_SURE = 3
"""So many runs that died at something are proof enough, whatever a child says."""

_KEPT_LINES, _KEPT_BYTES = 64, 64 << 10
_CHILD_SECONDS = 5
_LOOK_SECONDS = 0.01


class Note(NamedTuple):
    """What was begun, and how many runs died at it before."""

    digest: str
    deaths: int


class Poison(NamedTuple):
    """A line that was set aside: its SHA-256, the time (epoch seconds), its file, length in bytes and beginning."""

    digest: str
    at: float
    path: str
    size: int
    line: str


class Caution:
    """What a watcher does not try for ever."""

    def __init__(
        self,
        state: State,
        rehearse: Callable[[Chunk], None],
        *,
        report: Callable[[str], None],
        alive: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`rehearse` decides lines without any effect, in a child; `report` is told what was set aside; `alive` is
        called all the while.
        """
        self._state, self._rehearse = state, rehearse
        self._report, self._alive, self._clock = report, alive, clock
        self._poison: list[Poison] = []
        self._before: Note | None = None
        self._file = -1
        self._left = 0
        self.on = False

    @property
    def count(self) -> int:
        """How many lines are set aside in the file; older ones beyond its limit are forgotten."""
        return len(self._poison)

    def begin(self) -> None:
        """Read what earlier runs left; be careful if the last one died."""
        self._poison = self._state.load(POISON, _decode_poison) or []
        if not self._state.died:
            self._state.forget(TRIED)
            return
        self._before = self._state.load(TRIED, _decode_note)
        with suppress(OSError):
            self._file = self._state.note(TRIED)
            self._note(*(self._before or ("", 0)))
        self.on, self._left = self._file >= 0, _MOST_BYTES

    @property
    def step(self) -> int | None:
        """How many bytes to read at once, if that matters; where a run died at something already, line by line."""
        if not self.on:
            return None
        return STEP_BYTES if self._before is None else LINE_BYTES

    def end(self) -> None:
        """What an earlier run died at lies behind."""
        self.on, self._before = False, None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._state.forget(TRIED)

    def deadly(self, what: str, data: bytes = b"") -> bool:
        """Note that this is begun; whether so many runs died at it that it should be left out."""
        return self.on and self._begin(_digest(what.encode() + data)) >= _SURE

    def guarded(self, chunks: list[Chunk]) -> Iterable[Chunk]:
        """The chunks as they should be decided: as they are, or line by line, without what is set aside."""
        return self._each(self._admitted(chunks)) if self.on else chunks

    def _admitted(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        found: list[Chunk] = []
        for chunk in chunks:
            self._left -= len(chunk.data)
            singles = [chunk._replace(data=line + b"\n", discarded=0) for line in chunk.data.split(b"\n")[:-1]]
            found += [each for each in singles if self._is_safe(each)]
            if chunk.discarded:
                found.append(chunk._replace(data=b""))
        if self._left < 0:
            self.end()
        return found

    def _each(self, chunks: list[Chunk]) -> Iterator[Chunk]:
        """The chunks, each noted before it is decided. Of several, none is blamed for a death at their effects."""
        for chunk in chunks:
            self._begin(_digest(chunk.data))
            yield chunk
        if len(chunks) > 1:
            self._note("", 0)

    def without_poison(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Chunks that were read before, without the lines that have been set aside."""
        digests = {each.digest for each in self._poison}
        for chunk in chunks:
            if digests:
                lines = [line + b"\n" for line in chunk.data.split(b"\n")[:-1]]
                chunk = chunk._replace(data=b"".join(line for line in lines if _digest(line) not in digests))
            yield chunk

    def _is_safe(self, chunk: Chunk) -> bool:
        digest = _digest(chunk.data)
        deaths = self._deaths(digest)
        if all(each.digest != digest for each in self._poison):
            if not deaths or (deaths < _SURE and self._survives(chunk)):
                return True
            self._keep(chunk)
        self._report(
            f"{chunk.path}: a line of {len(chunk.data)} bytes at which earlier runs died is left out, and kept in "
            f"{self._state.directory / POISON}; please report it as a fault of this program"
        )
        return False

    def _keep(self, chunk: Chunk) -> None:
        line = chunk.data[:_KEPT_BYTES].decode("utf-8", "backslashreplace")
        poison = Poison(_digest(chunk.data), self._clock(), chunk.path, len(chunk.data), line)
        self._poison = [*self._poison, poison][-_KEPT_LINES:]
        with suppress(OSError):
            data = b"".join(json.dumps(each._asdict()).encode() + b"\n" for each in self._poison)
            self._state.keep(POISON, data)

    def _deaths(self, digest: str) -> int:
        return self._before.deaths + 1 if self._before is not None and self._before.digest == digest else 0

    def _begin(self, digest: str) -> int:
        deaths = self._deaths(digest)
        self._note(digest, deaths)
        return deaths

    def _note(self, digest: str, deaths: int) -> None:
        if self._file >= 0:
            with suppress(OSError):
                os.pwrite(self._file, f'["{digest}",{deaths}]'.ljust(128).encode(), 0)

    def _survives(self, chunk: Chunk) -> bool:
        """Whether a child can decide the line."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(2 * _CHILD_SECONDS)  # it may outlive us
                self._state.unlock()
                self._rehearse(chunk)
                code = 0
            finally:
                os._exit(code)
        deadline = time.monotonic() + _CHILD_SECONDS
        try:
            while time.monotonic() < deadline:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    child = 0
                    return status == 0
                self._alive()
                time.sleep(_LOOK_SECONDS)
            return False
        finally:
            if child:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _decode_note(data: bytes) -> Note | None:
    """Raises ValueError or TypeError for anything that is no note."""
    if not data.strip(b" \0"):
        return None
    digest, deaths = json.loads(data)
    return Note(str(digest), int(deaths))


def _decode_poison(data: bytes) -> list[Poison]:
    """Raises ValueError or TypeError for anything else."""
    found: list[dict[str, Any]] = [json.loads(line) for line in data.splitlines()]
    return [Poison(**each) for each in found][-_KEPT_LINES:]
