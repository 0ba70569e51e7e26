# SPDX-License-Identifier: GPL-3.0-or-later
"""Noticing that somebody set the clock: what ends by the kernel's own does not end sooner or later for that."""

from __future__ import annotations

import time
from collections.abc import Callable

from .loop import Loop

STEP_SECONDS = 0.1
"""Smaller steps, and a clock that is slewed, count once they add up to this."""


class ClockWatch:
    """Calls `was_set` with the seconds that the clock was moved by, before anybody compares a time with it."""

    def __init__(
        self,
        loop: Loop,
        was_set: Callable[[float], None],
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop, self._was_set = loop, was_set
        self._clock, self._monotonic = clock, monotonic
        self._is_at = clock() - monotonic()

    def start(self) -> None:
        """From now on look whenever the loop wakes."""
        self._loop.first(self._look)

    def _look(self) -> None:
        before, now = self._is_at, self._clock() - self._monotonic()
        if abs(now - before) >= STEP_SECONDS:
            self._is_at = now
            self._was_set(now - before)
