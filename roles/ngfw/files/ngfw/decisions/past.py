# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the lines that an earlier run has decided still matter to thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..events import eve, fastlog
from ..events.event import Event, LineError
from ..events.tail import Chunk

_DISORDER = 60.0
"""Seconds that lines of one log may be out of order."""


def worth_reading(chunks: Iterable[Chunk], window: float, now: float) -> Iterator[tuple[Chunk, float, float]]:
    """The chunks that may hold such lines, and between what times (epoch seconds) their events must lie.

    Of each file only what lies within the `window` (seconds) before its last line matters. What is later than that, or
    than `now`, was written before the clock was set back.
    """
    files: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        files.setdefault(chunk.path, []).append(chunk)
    for parts in files.values():
        ends = [last_time(chunk) for chunk in parts]
        last = next((end for end in reversed(ends) if end is not None), 0.0)
        since, until = last - window, min(last + _DISORDER, now)
        for chunk, end in zip(parts, ends):
            if end is None or end >= since:
                yield chunk, since, until


def last_time(chunk: Chunk) -> float | None:
    """The time of the last line that has one."""
    end = len(chunk.data)
    while end > 0:
        start = chunk.data.rfind(b"\n", 0, end - 1) + 1
        event = decoded(chunk.format, chunk.data[start:end])
        if event is not None and event.time is not None:
            return event.time
        end = start
    return None


def decoded(log_format: str, line: bytes) -> Event | None:
    """The event of a line, None if it is no event; that was reported when it was decided."""
    try:
        return fastlog.decode(line) if log_format == "fast" else eve.decode(line)
    except LineError:
        return None
