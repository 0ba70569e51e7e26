# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether there are unusually many new blocks: what high-alert mode and the circuit breaker go by. No clock here."""

from __future__ import annotations

from collections import deque

from ..settings.config import CircuitBreaker, HighAlert

HIGH_ALERT = "high-alert mode"
_BREAKERS = {
    False: "circuit breaker for evidence that can be forged",
    True: "circuit breaker for completed handshakes",
}
MEANING = {
    HIGH_ALERT: "rules with 'intel: require' block at once and lift later, as 'confirm' does",
    _BREAKERS[False]: "there are more new blocks than circuit_breaker allows; those after a completed handshake go on",
    _BREAKERS[True]: "there are four times more new blocks than circuit_breaker allows; is somebody replaying traffic?",
}
"""What it means that a mode is on."""

_ESTABLISHED_FACTOR = 4


class Surge:
    """On when `blocks` new blocks were made within `window` seconds; off when it is less than half as many.

    The time is always an argument, in seconds of any clock. It is counted by the second, so a flood costs no memory.
    """

    def __init__(self, blocks: int, window: float) -> None:
        self._enough, self._window = blocks, window
        self._counts: deque[list[int]] = deque()  # a second, and how many blocks it saw
        self._total = 0
        self._on = False

    def add(self, now: float) -> None:
        """Say that a new block was made."""
        counts, second = self._counts, int(now)
        if counts and counts[-1][0] >= second:
            counts[-1][1] += 1
        else:
            counts.append([second, 1])
        self._total += 1

    def active(self, now: float) -> bool:
        """Whether the mode is on at this moment, whatever happened or did not happen since."""
        counts = self._counts
        if counts and now < counts[-1][0] - self._window:
            counts.clear()  # a recording that jumps back: those times say nothing any more
            self._total = 0
        while counts and counts[0][0] + self._window <= now:
            self._total -= counts.popleft()[1]
        self._on = self._total >= self._enough or (self._on and self._total * 2 >= self._enough)
        return self._on

    def forget_after(self, now: float) -> None:
        """The clock was set back to that moment."""
        while self._counts and self._counts[-1][0] > now:
            self._total -= self._counts.pop()[1]

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


class Surges:
    """High-alert mode and the circuit breaker: one for what can be forged or is taken on trust, and one for the rest.

    Times are those of the decisions, in epoch seconds.
    """

    def __init__(self, high_alert: HighAlert, breaker: CircuitBreaker) -> None:
        self._limits = {False: breaker.blocks, True: _ESTABLISHED_FACTOR * breaker.blocks}
        self._window = breaker.window
        self._high_alert = Surge(high_alert.blocks, high_alert.window)
        self._breakers = {established: Surge(limit, breaker.window) for established, limit in self._limits.items()}

    def refusal(self, established: bool, now: float) -> str | None:
        """Why a new block has to be refused; None if it may be made, and then it counts."""
        breaker = self._breakers[established]
        if breaker.active(now):
            kind = "completed handshakes" if established else "evidence that can be forged"
            return f"breaker: {self._limits[established]} blocks in {self._window} s on {kind}"
        breaker.add(now)
        self._high_alert.add(now)
        return None

    def high_alert(self, now: float) -> bool:
        """Whether high-alert mode is on."""
        return self._high_alert.active(now)

    def forget_after(self, now: float) -> None:
        """The clock was set back to that moment: the blocks of its future count no more."""
        for surge in (self._high_alert, *self._breakers.values()):
            surge.forget_after(now)

    def modes(self, now: float) -> dict[str, float]:
        """What is on, with the seconds until silence alone ends it."""
        surges = {HIGH_ALERT: self._high_alert}
        surges.update((name, self._breakers[established]) for established, name in _BREAKERS.items())
        ends = {name: surge.next_change(now) for name, surge in surges.items()}
        return {name: seconds for name, seconds in ends.items() if seconds is not None}
