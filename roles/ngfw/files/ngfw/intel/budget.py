# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests are left: in any sixty seconds, and in a day of UTC, as AbuseIPDB counts them. No clock here.

Whoever has an IPv6 address has a /64 of them, and with little effort a /48: the former is asked about once, and the
latter has a share of the budget.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from ..firewall.address import Network

MINUTE = 60.0
DAY = 86400
SHARE = 4
"""One site may use up this part of a budget: a quarter."""

_SITE, _SUBNET = 48, 64


def subject(address: Network) -> Network:
    """Whom an answer about this host is about: an IPv6 host is as good as its /64."""
    return address if len(address.packed) == 4 else address.widened(_SUBNET)


def site(address: Network) -> Network | None:
    """The network that has one share of the budget; None for an IPv4 host, which is nobody's to choose."""
    return None if len(address.packed) == 4 else address.widened(_SITE)


class Budget:
    """Times are epoch seconds. What was used before is given back in by restore()."""

    def __init__(self, per_minute: int, per_day: int) -> None:
        self._per_minute, self._per_day = per_minute, per_day
        self._recent: deque[tuple[float, Network | None]] = deque()
        self._sites: Counter[Network] = Counter()  # how often each was asked about today
        self.day = 0
        self.used = 0

    def limit(self, per_minute: int, per_day: int) -> None:
        """Change the limits; what is used stays used."""
        self._per_minute, self._per_day = per_minute, per_day

    def restore(self, recent: Iterable[float], day: int, used: int) -> None:
        """Go on where an earlier run ended: its last requests, and how many there were on that day (since 1970).

        Shares begin anew: a restart is nobody's to cause.
        """
        self._recent = deque((at, None) for at in sorted(recent))
        self.day, self.used = day, used

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent; 0 if now."""
        self._turn(now)
        if self.used >= self._per_day:
            return (self.day + 1) * DAY - now
        if len(self._recent) >= self._per_minute:
            return max(0.001, self._recent[-self._per_minute][0] + MINUTE - now) if self._per_minute else MINUTE
        return 0.0

    def share_wait(self, address: Network, now: float) -> float:
        """Seconds until the share of this host's site is not used up; 0 if it is not."""
        place = site(address)
        if place is None:
            return 0.0
        self._turn(now)
        if self._sites[place] >= max(1, self._per_day // SHARE):
            return (self.day + 1) * DAY - now
        most = max(1, self._per_minute // SHARE)
        recent = [at for at, of in self._recent if of == place]
        return max(0.001, recent[-most] + MINUTE - now) if len(recent) >= most else 0.0

    def spend(self, address: Network, now: float) -> None:
        """A request about this host is sent."""
        self._turn(now)
        place = site(address)
        self._recent.append((now, place))
        self.used += 1
        if place is not None:
            self._sites[place] += 1

    def refund(self) -> None:
        """The last request never reached the server."""
        if self._recent:
            _at, place = self._recent.pop()
            self.used = max(0, self.used - 1)
            if place is not None:
                self._sites[place] -= 1

    def _turn(self, now: float) -> None:
        recent = self._recent
        while recent and recent[-1][0] > now:
            recent.pop()  # the clock was set back; the day's count still holds them
        while recent and recent[0][0] <= now - MINUTE:
            recent.popleft()
        today = int(now // DAY)
        if today > self.day:
            self.used = 0
            self._sites.clear()
        self.day = today
