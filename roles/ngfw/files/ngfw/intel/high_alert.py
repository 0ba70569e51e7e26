# SPDX-License-Identifier: GPL-3.0-or-later
"""High-alert mode: on while many new blocks are made, off again by quiet. No clock of its own."""

from __future__ import annotations

from collections import deque


class HighAlert:
    """On when `blocks` new blocks were made within `window` seconds; off when it is less than half as many.

    The time is always an argument, in seconds of any clock. It is counted by the second, so a flood costs no memory.
    """

    def __init__(self, blocks: int, window: float) -> None:
        self._enough, self._window = blocks, window
        self._counts: deque[tuple[float, int]] = deque()
        self._total = 0
        self._on = False

    def add(self, count: int, now: float) -> None:
        """Say that `count` new blocks were made."""
        self._forget(now)
        if count <= 0:
            return
        second = float(int(now))
        if self._counts and self._counts[-1][0] >= second:
            second, before = self._counts.pop()
            count, self._total = count + before, self._total - before
        self._counts.append((second, count))
        self._total += count

    def active(self, now: float) -> bool:
        """Whether the mode is on at this moment, whatever happened or did not happen since."""
        self._forget(now)
        self._on = self._total >= self._enough or (self._on and self._total * 2 >= self._enough)
        return self._on

    def next_change(self, now: float) -> float | None:
        """Seconds until the mode could end by silence alone; None if it is off."""
        if not self.active(now):
            return None
        rest = self._total
        for second, count in self._counts:
            rest -= count
            if rest * 2 < self._enough:
                return max(0.0, second + self._window - now)
        return 0.0

    def _forget(self, now: float) -> None:
        counts = self._counts
        if counts and now < counts[-1][0] - self._window:
            counts.clear()  # the clock was set back: those times say nothing any more
            self._total = 0
        while counts and counts[0][0] + self._window <= now:
            self._total -= counts.popleft()[1]
