# SPDX-License-Identifier: GPL-3.0-or-later
"""The logs in the watcher's loop: woken by what is written to them, and the cursor that says how far they were read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ..decisions.past import last_time
from ..effects.state import State
from ..events.sources import examine
from ..events.tail import Chunk, Source, Tail
from ..settings.config import Config
from .loop import Loop

STEP_BYTES = 1 << 20
"""The most that is read, decided and committed in one go."""

RECALL_BYTES = 8 << 20
"""The most that is read again of all logs together, so that thresholds go on counting after a restart."""

_POLL = "poll"


class Reader:
    """The logs of a configuration; open() comes first, close() last."""

    def __init__(self, loop: Loop, state: State, config: Config, *, report: Callable[[str], None]) -> None:
        self._loop, self._state, self._config, self._report = loop, state, config, report
        self._tail: Tail | None = None
        self._watched = -1
        self._poll_seconds = config.poll_interval
        self._due = False  # whether lines were read that no stored cursor covers
        self._stored: dict[str, Any] = {}
        self._stays = False
        self._newest: dict[Source, Chunk] = {}  # looked into when somebody asks
        self._last_events: dict[Source, float] = {}

    @property
    def is_open(self) -> bool:
        return self._tail is not None

    def open(self, positions: dict[str, Any] | None) -> None:
        """Go on from these positions, None at the first start."""
        sources = [Source(source.path, source.format) for source in self._config.sources]
        self._tail = Tail(sources, positions, self._config.start_at, report=self._report)
        self._listen(self._tail)
        self._report_sources(sources, self._tail.complaints())
        self._stored = positions or {}
        if positions is None:
            self.move()  # a kill from here on must not make the next start skip to the end again

    def adopt(self, config: Config) -> None:
        """Follow another configuration's logs; those that stay are read on where they are."""
        moved = (config.sources, config.poll_interval) != (self._config.sources, self._config.poll_interval)
        self._config, self._poll_seconds = config, config.poll_interval
        if moved and self._tail is not None:
            positions = self._tail.positions()
            self.close()
            self.open(positions)

    def poll_every(self, seconds: float) -> None:
        """Where the kernel does not tell of new lines, look for them that often."""
        seconds = min(seconds, self._config.poll_interval)
        if seconds != self._poll_seconds:
            self._poll_seconds = seconds
            self._loop.cancel(_POLL)
            if self._tail is not None:
                self._listen(self._tail)

    def read(self, step: int | None = None) -> list[Chunk]:
        """The next new lines, of STEP_BYTES by default; if there are none, the loop is woken when there are.

        With a `step` they are read with care, as an earlier run may have died at one: nothing else looks into them.
        """
        if self._tail is None:
            return []
        chunks = self._tail.read(step or STEP_BYTES)
        if chunks:
            self._due = True
        else:
            self._listen(self._tail)
        if step is None:
            self._newest.update((self._tail.source_of(chunk.path), chunk) for chunk in chunks)
        return chunks

    def before(self) -> Iterator[Chunk]:
        """The lines before the cursor, as far as they may matter to thresholds."""
        return iter(()) if self._tail is None else self._tail.before(RECALL_BYTES)

    def positions(self) -> dict[str, Any]:
        """How far was read, for the cursor, which the caller stores."""
        if self._tail is not None and not self._stays:
            self._due, self._stored = False, self._tail.positions()
        return self._stored

    def lag(self) -> int:
        """Bytes that wait to be read."""
        return 0 if self._tail is None else sum(self._tail.lag().values())

    def sources(self) -> list[dict[str, Any]]:
        """Of each source what only its reader knows, for the status."""
        if self._tail is None:
            return []
        for source, chunk in self._newest.items():
            last = last_time(chunk)
            if last is not None:
                self._last_events[source] = last
        self._newest.clear()
        complaints = self._tail.complaints()
        return [
            {
                "path": source.path,
                "format": source.format,
                "lag": lag,
                "last_event": self._last_events.get(source),
                "problem": complaints.get(source, ""),
            }
            for source, lag in self._tail.lag().items()
        ]

    def move_later(self) -> None:
        """The cursor is to be written once more, by the next move_if_due()."""
        self._due = True

    def stay(self) -> None:
        """From now on the cursor stays: what was read last could not be decided, so the next start has to read it."""
        self._stays = True

    def move_if_due(self) -> None:
        """Keep how far was read, if no batch has taken that along."""
        if self._due:
            self.move()

    def move(self) -> None:
        """Keep how far was read, where no line had an effect; lines read twice after a kill have none either."""
        if self._tail is None:
            return
        with suppress(OSError):  # the next batch with an effect reports it
            self._state.move(self.positions())

    def close(self) -> None:
        if self._tail is not None:
            self._unlisten()
            self._loop.cancel(_POLL)
            self._tail.close()
            self._tail = None

    def _report_sources(self, sources: list[Source], complaints: dict[Source, str]) -> None:
        """Say once what is wrong with them, where nobody has."""
        for source in sources:
            found = examine(*source)
            if found.problem and source not in complaints:
                self._report(f"source {source.path}: {found.problem}")

    def _listen(self, tail: Tail) -> None:
        """Be woken by the tail's descriptor, or by a timer where it has none (any more)."""
        descriptor = tail.fileno()
        if descriptor != self._watched:
            self._unlisten()
            if descriptor >= 0:
                self._loop.watch(descriptor, tail.drain_events)
                self._watched = descriptor
        if descriptor < 0 and not self._loop.has_timer(_POLL):
            self._loop.after(_POLL, self._poll_seconds, _nothing)

    def _unlisten(self) -> None:
        if self._watched >= 0:
            self._loop.unwatch(self._watched)
            self._watched = -1


def _nothing() -> None:
    """To be woken is enough: the loop's owner then reads."""
