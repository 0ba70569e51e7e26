# SPDX-License-Identifier: GPL-3.0-or-later
"""The blocks in force, as the running watcher follows them: their ends, other hands, the next start and boot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from ..decisions.decision import Lift
from ..decisions.history import History
from ..effects.enforcement import Enforcement, Rehearsal
from ..effects.journal import ALERTS_JSON, Journal
from ..effects.state import IN_FORCE, SETS, State
from ..effects.wording import Told
from ..firewall.entry import Entry
from ..firewall.errors import FirewallError
from ..metrics import Metrics
from . import expiry
from .catchup import CatchUp, Past, compare
from .endings import Endings
from .expiry import Key
from .loop import Loop
from .saver import Saver

_CATCH_UP_SECONDS = 0.5
_STOP_SECONDS = 0.5
"""What a stop waits for: what has ended is then told by the next start, and what is being saved still gets saved."""

_CATCH_UP, _ENDINGS = "catch up", "endings"

_NO_BLOCK = b'"action":"skip"'
"""What a line of alerts.json holds that tells of no block: there may be gigabytes of them."""


class Blocks:
    """Tells of each end once, keeps what the next start and boot need, and lifts what turned out wrong."""

    def __init__(
        self,
        loop: Loop,
        enforcement: Enforcement | Rehearsal,
        state: State,
        journal: Journal,
        metrics: Metrics,
        history: History,
        *,
        note: Callable[[list[Told]], None],
        changed: Callable[[], None],
        failed: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """`note` journals ends, `changed` is called when there are other blocks, `failed` with what went wrong."""
        self._loop, self._enforcement, self._state, self._journal = loop, enforcement, state, journal
        self._changed, self._failed, self._clock = changed, failed, clock
        self._real = not enforcement.simulated
        self._endings = Endings(
            enforcement,
            metrics,
            journal=note,
            clock=clock,
            dry_run=not self._real,
            forgiven=history.forgive,
        )
        self._saver = Saver(loop, self._prepare_save, in_child=state.unlock, failed=failed)
        self._others_wrote = False
        self._watched = -1
        self._catching: CatchUp | None = None

    def start(self) -> None:
        """Begin to follow. New offenders come first: what has ended meanwhile is told when they are blocked.

        Raises OSError if what other writers do cannot be noticed.
        """
        if self._real and not (self._state.directory / IN_FORCE).exists():
            with suppress(OSError):  # the saver reports it
                self._state.keep(IN_FORCE, expiry.encode((), self._journal.mark(ALERTS_JSON)))
        self._loop.after(_CATCH_UP, _CATCH_UP_SECONDS, self._catch_up)
        self._saver.changed()
        if isinstance(self._enforcement, Enforcement):
            self._watch_others(self._enforcement)

    def entered(self, entries: Iterable[Entry]) -> None:
        """Blocks that came, or whose end moved."""
        self._endings.add(entries)
        self._saver.changed()

    def unseen(self, keys: Iterable[Key]) -> dict[Key, Told]:
        """What to tell of known blocks, by network, action and direction, that somebody lifted unseen."""
        return self._endings.unseen(keys)

    def arm(self) -> None:
        """Be woken at the next end."""
        moment = self._endings.next()
        if moment is None:
            self._loop.cancel(_ENDINGS)
        else:
            self._loop.after(_ENDINGS, moment - self._clock() + 0.01, self._expire)

    def lift(self, lift: Lift) -> None:
        """Lift what an answer has shown to be wrong."""
        try:
            lifted = self._enforcement.lift(lift.block)
        except FirewallError as error:
            self._failed(f"{lift.block.network} was found clean, but cannot be unblocked: {error}")
            return
        self._endings.lifted(lifted, lift.reason)
        self.touch()

    def touch(self) -> None:
        """Something else changed what is in force."""
        self._saver.changed()
        self._changed()

    def look_after_lock(self) -> None:
        """Go on with another lock if somebody removed that of all writers: else what these do is not seen any more.

        Raises FirewallError, and OSError as start() does.
        """
        if isinstance(self._enforcement, Enforcement) and self._enforcement.lock_was_removed():
            self._loop.unwatch(self._watched)
            self._watch_others(self._enforcement)
            self.others_lifted()

    def _watch_others(self, enforcement: Enforcement) -> None:
        self._watched = enforcement.watch_others()
        self._loop.watch(self._watched, self._follow_others)

    def clock_was_set(self, seconds: float) -> None:
        """The clock was moved by so many seconds."""
        self._endings.shift(seconds)
        self.arm()
        self._saver.changed()

    def others_lifted(self) -> None:
        """Somebody lifted blocks with a tool that tells nobody."""
        self._others_wrote = True
        self._compare()
        self.touch()

    def stop(self, *, flush: bool) -> None:
        """Tell of ends up to now, lift the watcher's own blocks if asked to, and save for the next boot, in time."""
        if self._catching is None:
            self._catch_up()
        if self._catching is not None:
            self._catching.wait(_STOP_SECONDS)
        if flush and self._real:
            self._flush()
        self._saver.finish(_STOP_SECONDS)

    def _flush(self) -> None:
        try:
            lifted = self._enforcement.lift_own()
        except FirewallError as error:
            self._failed(f"on_stop: flush failed: {error}")
            return
        self._endings.lifted(lifted, "on_stop: flush", forgiven=False)

    def _expire(self) -> None:
        try:
            self._endings.expire()
        except FirewallError as error:
            self._failed(f"cannot see which blocks have ended: {error}")
        self.arm()
        self._changed()

    def _follow_others(self) -> None:
        if isinstance(self._enforcement, Enforcement) and self._enforcement.others_wrote():
            self.others_lifted()

    def _compare(self) -> None:
        """Tell what others lifted; before the last run's blocks are known that has to wait."""
        if not self._others_wrote or not self._endings.caught_up:
            return
        self._others_wrote = False
        try:
            self._endings.compare()
        except FirewallError as error:
            self._failed(f"cannot see what others changed: {error}")
        self.arm()

    def _catch_up(self) -> None:
        """Find out which blocks were in force when the last run ended, and what became of them."""
        enforcement = self._enforcement
        kept = self._state.load(IN_FORCE, expiry.decode) if self._real else None
        rows, mark = ([], None) if kept is None else kept

        def find() -> Past:
            lines = b"" if mark is None else self._journal.after(ALERTS_JSON, mark, without=_NO_BLOCK)
            known, ended = expiry.follow(expiry.entries_of(rows), lines)
            past = compare(known, enforcement.entries_apart())
            return past._replace(gone=[*ended, *past.gone])

        self._loop.cancel(_CATCH_UP)
        self._catching = CatchUp(self._loop, find, done=self._caught_up, failed=self._not_caught_up)

    def _caught_up(self, past: Past) -> None:
        self._endings.adopt(*past)
        self._compare()
        self.arm()
        self.touch()

    def _not_caught_up(self, error: Exception) -> None:
        self._failed(f"cannot see which blocks of the last run have ended: {error}")
        self._caught_up(Past(expiry.Expiries(), []))

    def _prepare_save(self) -> Callable[[], None]:
        """What the child has to write; what can change meanwhile is taken now.

        Until the last run's blocks are known, what it left of them stays: the journal has what happened since.
        """
        enforcement = self._enforcement
        if not isinstance(enforcement, Enforcement):
            return _nothing
        known = self._endings.caught_up
        entries, mark = self._endings.entries(), self._journal.mark(ALERTS_JSON)

        def save() -> None:
            enforcement.save(self._state.directory / SETS)
            if known and self._real:
                self._state.keep(IN_FORCE, expiry.encode(entries, mark))

        return save


def _nothing() -> None:
    """A rehearsal leaves nothing to save."""
