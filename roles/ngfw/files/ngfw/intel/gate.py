# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a provider may be asked now: the budget, what the provider itself demanded, and rests after failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from ..firewall.address import Network
from ..settings.config import AbuseIPDB
from .abuseipdb import MAX_PAUSE, NAME, Result
from .budget import MINUTE, Budget, site
from .cache import Fact, Kept, Store
from .verdict import State, Verdict

MAX_HANGING = 4
"""So many requests may be given up without having ended; more would be threads without end."""

_HOUR = 3600.0


class Pause(NamedTuple):
    """Nobody is asked until then (epoch seconds), and this is what lookups come to meanwhile."""

    state: State
    detail: str
    until: float

    def verdict(self, now: float) -> Verdict:
        return Verdict(NAME, self.state, None, self.detail, now)


class Gate:
    """The budget and the pauses of one provider; what must survive a restart is written to the store."""

    def __init__(
        self, settings: AbuseIPDB, store: Store, *, say: Callable[[str], None], failures: int, rest: float
    ) -> None:
        """After `failures` outages in a row nobody is asked for `rest` seconds. `say` is told what is for the log."""
        self._settings, self._store, self._say = settings, store, say
        self._enough_failures, self._rest = failures, rest
        self._budget = Budget(settings.per_minute, settings.per_day)
        self._pause: Pause | None = None
        self._failures = 0
        self._no_key = ""
        self._said_at: dict[str, float] = {}
        self.hanging = 0

    def restore(self, kept: Kept, now: float) -> None:
        """Go on where an earlier run ended."""
        day = kept.facts.get("day", Fact(0.0, "0"))
        self._budget.restore(kept.spent, int(day.text) if day.text.isdecimal() else 0, int(day.number))
        pause = kept.facts.get("pause")
        if pause is not None and now < pause.number:
            self._pause = Pause(State.OVER_BUDGET, pause.text, pause.number)

    def adopt(self, settings: AbuseIPDB) -> None:
        """Take other limits, and another key: what was wrong with the last one says nothing."""
        self._settings = settings
        self._budget.limit(settings.per_minute, settings.per_day)
        if self._pause is not None and self._pause.state is not State.OVER_BUDGET:
            self._pause = None

    @property
    def has_no_key(self) -> bool:
        """Whether there was no key the last time that one was needed. For any thread."""
        return bool(self._no_key)

    def pause(self, now: float) -> Pause | None:
        """The pause that is kept at present, not counting the budget. For any thread."""
        pause = self._pause
        # One that lasts longer than any was made with a clock that has been set back since.
        return pause if pause is not None and now < pause.until <= now + MAX_PAUSE else None

    def obstacle(self, now: float) -> Pause | None:
        """Why nobody can be asked now; None if somebody can."""
        pause = self.pause(now)
        if pause is not None:
            return pause
        if self.hanging >= MAX_HANGING:
            return Pause(State.ERROR, f"{self.hanging} requests hang", now + self._rest)
        settings = self._settings
        wait = self._budget.wait(now)
        if not wait or not (settings.per_minute and settings.per_day):
            return None
        used_up = f"{settings.per_minute} a minute" if wait <= MINUTE else f"{settings.per_day} a day"
        detail = f"the budget of {used_up} is used up"
        self.say_seldom(f"{NAME}: {detail}; addresses beyond it are looked up later")
        return Pause(State.OVER_BUDGET, detail, now + wait)

    def share(self, address: Network, now: float) -> Pause | None:
        """Why nobody asks about this host's site now; None if its share of the budget is not used up."""
        wait = self._budget.share_wait(address, now)
        if not wait:
            return None
        detail = f"the share of {site(address)} in the budget is used up"
        return Pause(State.OVER_BUDGET, detail, now + wait)

    def spend(self, address: Network, now: float) -> None:
        """A request is about to be sent: from here on it is used, also if the process is killed."""
        self._no_key = ""
        self._budget.spend(address, now)
        self._store.put_spent(now, now - MINUTE)
        self._keep_day()
        self._store.commit()

    def refund(self, at: float) -> None:
        """The request of that time never reached the server."""
        self._budget.refund()
        self._store.drop_spent(at)
        self._keep_day()

    def answered(self) -> None:
        """The provider works."""
        self._failures = 0

    def failed(self, detail: str, now: float) -> None:
        """The provider did not work; after some times in a row it is left alone for a while."""
        self._failures += 1
        if self._failures >= self._enough_failures:
            detail = f"{self._failures} requests in a row failed, the last: {detail}"
            self.close(Result(State.ERROR, None, detail, self._rest), now)

    def close(self, result: Result, now: float) -> None:
        """Ask nobody for as long as this result says."""
        self._pause = Pause(result.state, result.detail, now + result.pause)
        if result.state is State.OVER_BUDGET:
            self._store.put_fact("pause", Fact(now + result.pause, result.detail))
        if result.state is not State.UNKNOWN:
            self._say(f"{NAME}: not asked for {result.pause:.0f} s: {result.detail}")
        elif result.detail != self._no_key:
            self._no_key = result.detail
            self._say(f"{NAME} is not asked: {result.detail}")

    def say_seldom(self, text: str) -> None:
        """Say the same at most once an hour."""
        now = time.monotonic()
        last = self._said_at.get(text)
        if last is None or now - last >= _HOUR:
            self._said_at[text] = now
            self._say(text)

    def _keep_day(self) -> None:
        self._store.put_fact("day", Fact(self._budget.used, str(self._budget.day)))
