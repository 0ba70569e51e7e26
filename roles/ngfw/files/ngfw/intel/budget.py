# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests are left: in any sixty seconds, and in a day of UTC, as AbuseIPDB counts them. No clock here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

MINUTE = 60.0
DAY = 86400


class Budget:
    """Times are epoch seconds. What was used before is given back in by restore()."""

    def __init__(self, per_minute: int, per_day: int) -> None:
        self._per_minute, self._per_day = per_minute, per_day
        self._recent: deque[float] = deque()
        self.day = 0
        self.used = 0

    def limit(self, per_minute: int, per_day: int) -> None:
        """Change the limits; what is used stays used."""
        self._per_minute, self._per_day = per_minute, per_day

    def restore(self, recent: Iterable[float], day: int, used: int) -> None:
        """Go on where an earlier run ended: its last requests, and how many there were on that day (since 1970)."""
        self._recent = deque(sorted(recent))
        self.day, self.used = day, used

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent; 0 if now."""
        self._turn(now)
        if self.used >= self._per_day:
            return (self.day + 1) * DAY - now
        if len(self._recent) >= self._per_minute:
            return max(0.001, self._recent[-self._per_minute] + MINUTE - now) if self._per_minute else MINUTE
        return 0.0

    def spend(self, now: float) -> None:
        """A request is sent."""
        self._turn(now)
        self._recent.append(now)
        self.used += 1

    def refund(self) -> None:
        """The last request never reached the server."""
        if self._recent:
            self._recent.pop()
            self.used = max(0, self.used - 1)

    def _turn(self, now: float) -> None:
        recent = self._recent
        while recent and recent[-1] > now:
            recent.pop()  # the clock was set back; the day's count still holds them
        while recent and recent[0] <= now - MINUTE:
            recent.popleft()
        today = int(now // DAY)
        if today > self.day:
            self.used = 0
        self.day = today
