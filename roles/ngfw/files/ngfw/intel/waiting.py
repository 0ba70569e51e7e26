# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookups that are open: which is next, which comes later, which is dropped when there are too many.

The newest goes first: when the budget is short, who attacks now matters more than who did hours ago. There is one for
all hosts of an IPv6 /64, and a /48 may have a share of them open.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import NamedTuple

from ..firewall.address import Network
from .budget import SHARE, site, subject
from .verdict import Verdict

MAX_CASES = 16


class Pace(NamedTuple):
    """How patient lookups are; all in seconds but the counts."""

    retry: float = 30.0  # after an error, doubled each time
    retry_most: float = 3600.0
    attempts: int = 8
    keep: float = 2 * 86400.0  # so that every lookup sees a new day's budget
    failures: int = 3  # so many outages in a row, and nobody is asked for `failing`
    failing: float = 15.0
    most_open: int = 10_000
    most_results: int = 20_000


class Lookup:
    """One address that is to be looked up, and what its answer is wanted for (`cases`, texts of the caller's)."""

    __slots__ = ("address", "asked_at", "attempts", "cases", "due", "id", "retried", "verdict")

    def __init__(self, number: int, address: Network, asked_at: float, verdict: Verdict) -> None:
        self.id = number
        self.address = address
        self.asked_at = asked_at
        self.verdict = verdict
        self.cases: dict[str, str] = {}
        self.attempts = 0
        self.retried = False
        self.due = 0.0


class Waiting:
    """At most `most` lookups; times are of the monotonic clock. get() may be called by any thread, the rest by one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: OrderedDict[Network, Lookup] = OrderedDict()  # by the subject of each
        self._sites: dict[Network, dict[Network, Lookup]] = {}
        self._ready: OrderedDict[Network, Lookup] = OrderedDict()
        self._later: list[tuple[float, int, Lookup]] = []
        self._untold: dict[Network, Lookup] = {}

    def __len__(self) -> int:
        return len(self._open)

    def get(self, address: Network) -> Lookup | None:
        """The lookup whose answer is about this host, too."""
        return self._open.get(subject(address))

    def add(self, lookup: Lookup) -> Lookup | None:
        """Open a lookup; returns the oldest, of its site or of all, which had to give way, if there were too many."""
        place, dropped = site(lookup.address), None
        neighbours = {} if place is None else self._sites.setdefault(place, {})
        if len(neighbours) >= max(1, self._most // SHARE):
            dropped = next(iter(neighbours.values()))
        elif len(self._open) >= self._most:
            dropped = next(iter(self._open.values()))
        if dropped is not None:
            self.remove(dropped)
        about = subject(lookup.address)
        self._open[about] = lookup
        if place is not None:
            self._sites.setdefault(place, {})[about] = lookup
        self.make_ready(lookup)
        return dropped

    def remove(self, lookup: Lookup) -> None:
        about, place = subject(lookup.address), site(lookup.address)
        if self._open.get(about) is not lookup:
            return
        del self._open[about]
        self._set_aside(lookup)
        if place is not None:
            del self._sites[place][about]
            if not self._sites[place]:
                del self._sites[place]

    def make_ready(self, lookup: Lookup) -> None:
        """It can be asked as soon as anything can."""
        if self.get(lookup.address) is lookup:
            self._ready[lookup.address] = lookup
            self._untold[lookup.address] = lookup

    def put_off(self, lookup: Lookup, due: float) -> None:
        """It is asked again at that time."""
        if self.get(lookup.address) is lookup:
            self._set_aside(lookup)
            lookup.due = due
            heapq.heappush(self._later, (due, lookup.id, lookup))

    def wake(self, now: float) -> None:
        """Make ready what is due."""
        later = self._later
        while later and later[0][0] <= now:
            due, _id, lookup = heapq.heappop(later)
            if due == lookup.due and lookup.address not in self._ready:
                self.make_ready(lookup)

    def next_due(self) -> float | None:
        return self._later[0][0] if self._later else None

    def any_ready(self) -> bool:
        return bool(self._ready)

    def pop_newest(self) -> Lookup:
        """Take the lookup that goes first; it stays open."""
        lookup = next(reversed(self._ready.values()))
        self._set_aside(lookup)
        return lookup

    def take_untold(self) -> list[Lookup]:
        """Those that became ready since the last call, and are."""
        untold, self._untold = self._untold, {}
        return list(untold.values())

    def _set_aside(self, lookup: Lookup) -> None:
        self._ready.pop(lookup.address, None)
        self._untold.pop(lookup.address, None)
