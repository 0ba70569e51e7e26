# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that somebody flushed or moved, and guards that somebody emptied, are put back: at once, but never more than
once a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Protocol

from ..firewall.errors import FirewallError
from ..firewall.watch import LOOK_SECONDS, Losses
from .loop import Loop

PAUSE_SECONDS = 1.0
"""Between two repairs: a tool that insists on its order is not fought with."""

_SETTLE_SECONDS = 0.02
"""A tool that changes rule after rule is let finish."""

_TIMER, _LOOK = "repair", "look"


class Alarm(Protocol):
    """Notices that somebody changed the rules; without a descriptor it has to be asked every LOOK_SECONDS."""

    def fileno(self) -> int: ...

    def changed(self) -> bool: ...

    def close(self) -> None: ...


class Healing:
    """Repairs after each alarm, and when a glance at the sets shows that one of them lost what it held."""

    def __init__(
        self,
        loop: Loop,
        repair: Callable[[Collection[str]], list[str]],
        losses: Callable[[], Losses],
        *,
        healed: Callable[[list[str]], None],
        lifted: Callable[[Collection[str]], None],
        failed: Callable[[str], None],
    ) -> None:
        """`repair` takes the names of sets that may go, and says what was missing; it and `losses` raise FirewallError.
        `healed` is told that, `lifted` the sets of blocks that somebody took entries out of.
        """
        self._loop, self._repair_rules, self._losses = loop, repair, losses
        self._healed, self._lifted, self._failed = healed, lifted, failed
        self._alarm: Alarm | None = None
        self._unused: Collection[str] = ()
        self._repaired_at = float("-inf")
        self._failing = False

    def watch(self, alarm: Alarm) -> None:
        """From now on this is the alarm."""
        self._alarm = alarm
        if alarm.fileno() >= 0:
            self._loop.watch(alarm.fileno(), self._look)
        else:
            self._loop.after(_LOOK, LOOK_SECONDS, self._look)

    def glance(self) -> None:
        """Look at the sets, for the kernel tells nothing of them; to be called every LOOK_SECONDS."""
        try:
            losses = self._losses()
        except FirewallError:  # what keeps us from looking keeps us from repairing, and that is said
            self._soon()
            return
        self._unused = losses.unused or self._unused
        if losses.sets or losses.unused:
            self._soon()
        if losses.blocks:
            self._lifted(losses.blocks)

    def written(self) -> None:
        """We may have changed the rules ourselves: what others do from now on has to differ from this.

        Else a change of ours that somebody undoes between two looks would not be seen.
        """
        if self._alarm is not None and self._alarm.fileno() < 0:
            self._check(self._alarm)

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None

    def _look(self) -> None:
        if self._alarm is None:
            return
        if self._alarm.fileno() < 0:
            self._loop.after(_LOOK, LOOK_SECONDS, self._look)
        self._check(self._alarm)

    def _check(self, alarm: Alarm) -> None:
        if alarm.changed():
            self._soon()

    def _soon(self) -> None:
        if not self._loop.has_timer(_TIMER):
            since = time.monotonic() - self._repaired_at
            self._loop.after(_TIMER, max(_SETTLE_SECONDS, PAUSE_SECONDS - since), self._repair)

    def _repair(self) -> None:
        try:
            missing = self._repair_rules(self._unused)
        except FirewallError as error:
            if not self._failing:
                self._failing = True
                self._failed(f"the chain could not be repaired: {error}; trying again until it works")
            self._loop.after(_TIMER, PAUSE_SECONDS, self._repair)
            return
        self._failing, self._unused = False, ()
        if missing:
            self._repaired_at = time.monotonic()
            self._healed(missing)
            self.written()
