# SPDX-License-Identifier: GPL-3.0-or-later
"""Which refusals have a line of their own: repeats of a minute and those of idle rules are only counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..metrics import Metrics
from .decision import Decision

REPEAT_SECONDS = 60.0
"""A skip of the same address, rule and reason is one line in this time."""

_OF_EVIDENCE = frozenset(("spoofable", "reputation"))
"""What a rule that can act on nobody would refuse nearly everybody for."""

_MANY = 65_536


class Skips:
    """Counts refusals, and remembers which were told."""

    def __init__(
        self, metrics: Metrics, asking: Iterable[str], knows: Callable[[], bool] | None, report: Callable[[str], None]
    ) -> None:
        """`asking` are the rules that block nobody of whom nothing is known; `knows` says whether anything is known of
        anybody now, by default always. `report` is told when one of them turns out to be idle.
        """
        self._metrics, self._knows, self._report = metrics, knows, report
        self._asking = frozenset(asking)
        self._idle: set[str] = set()  # those of them that were said to be
        self._repeats = _Repeats()

    def is_told(self, decision: Decision) -> bool:
        """Whether the refusal is a line in the journals; it counts in any case."""
        what = decision.what
        word = what.reason.partition(":")[0]
        self._metrics.skips[word] += 1
        if word == "whitelist":
            self._metrics.whitelist_skip += 1
        if word in _OF_EVIDENCE and what.rule in self._asking and self._is_said_idle(what.rule):
            return False
        # How old a stale event is differs from line to line; the rest of a reason is what makes it another one.
        reason = word if word == "stale" else what.reason
        return self._repeats.is_new((decision.ip, what.rule, reason), decision.time)

    def idle_rules(self) -> list[str]:
        """The rules that act on nobody since nothing is known of anybody's reputation, as far as they were hit."""
        if self._idle and (self._knows is None or self._knows()):
            self._idle.clear()
        return sorted(self._idle)

    def forget(self) -> None:
        """The clock was set back: the times of lines say nothing any more."""
        self._repeats = _Repeats()

    def _is_said_idle(self, rule: str) -> bool:
        """Whether a rule that asks for reputation can act on nobody, and this was said before; else it is now."""
        if self._knows is None or self._knows():
            self._idle.clear()
            return False
        if rule in self._idle:
            return True
        self._idle.add(rule)
        self._report(
            f"rule '{rule}' asks for reputation, and there is no list and no key of a provider, so it acts on nobody; "
            "what it refuses is only counted until there is one (intel in ngfw.yml)"
        )
        return False


class _Repeats:
    """Which skips had a line less than a minute ago; two generations, so it never holds much more than that."""

    def __init__(self) -> None:
        self._young: dict[tuple[Any, ...], float] = {}
        self._old: dict[tuple[Any, ...], float] = {}
        self._since = 0.0

    def is_new(self, key: tuple[Any, ...], now: float) -> bool:
        if now - self._since >= REPEAT_SECONDS or len(self._young) >= _MANY:
            self._old, self._young, self._since = self._young, {}, now
        last = self._young.get(key)
        if last is None:
            last = self._old.get(key)
        if last is not None and abs(now - last) < REPEAT_SECONDS:
            return False
        self._young[key] = now
        return True
