# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of each block that the watcher made: by its time, or lifted, by whomever and with whatever tool."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Protocol

from ..decisions.policy import Sight, is_provisional
from ..effects.wording import Told, told_of_end
from ..firewall.entry import Block, Entry
from ..firewall.errors import FirewallError
from ..metrics import Metrics
from .expiry import Expiries, Key, same_end, shifted

EARLY_SECONDS = 0.3
"""So long before its end a block is looked for: one that is missing then was lifted, and did not expire."""

_ROUNDED = 1.0
"""Seconds that the kernel's end of an entry may differ from the one that was noted."""


class Kernel(Protocol):
    """What has to be asked."""

    def look(self) -> Sight: ...

    def entries(self) -> list[Entry]: ...

    def holds(self, block: Block) -> bool: ...


class Endings:
    """Knows the watcher's blocks in force, and journals each end once. Methods raise FirewallError."""

    def __init__(
        self,
        kernel: Kernel,
        metrics: Metrics,
        *,
        journal: Callable[[list[Told]], None],
        clock: Callable[[], float],
        dry_run: bool = False,
        forgiven: Callable[[Iterable[Entry]], None] = lambda entries: None,
    ) -> None:
        """`forgiven` is told of entries that were lifted before their end: they count as no offence."""
        self._forgiven = forgiven
        self._kernel, self._metrics, self._journal = kernel, metrics, journal
        self._clock, self._dry_run = clock, dry_run
        self._blocks = Expiries()
        self._told: set[Key] | None = set()  # until adopt(): what has ended since the start
        self._ending: list[tuple[float, int, Entry]] = []  # a heap by their ends
        self._serial = 0

    def __len__(self) -> int:
        return len(self._blocks) + len(self._ending)

    def entries(self) -> list[Entry]:
        return [*self._blocks.entries(), *(entry for _end, _serial, entry in self._ending)]

    def add(self, entries: Iterable[Entry]) -> None:
        """Blocks that came, those taken over from others among them, or whose end moved."""
        known = len(self._blocks)
        over = [earlier for earlier, later in self._blocks.add(entries) if _over(earlier, later.created_at)]
        for earlier in over:
            self._to_end(earlier)
        self._metrics.blocks_created += (len(self._blocks) - known + len(over)) * (not self._dry_run)

    def shift(self, seconds: float) -> None:
        """The clock was set by so many seconds, and the kernel ends its entries by another one."""
        self._blocks.shift(seconds)
        self._ending = [(end + seconds, serial, shifted(entry, seconds)) for end, serial, entry in self._ending]

    def next(self) -> float | None:
        """When expire() has something to do (epoch seconds)."""
        moment = self._blocks.next()
        moments = [] if moment is None else [moment - EARLY_SECONDS]
        if self._ending:
            moments.append(self._ending[0][0])
        return min(moments, default=None)

    @property
    def caught_up(self) -> bool:
        """Whether the last run's blocks are known."""
        return self._told is None

    def adopt(self, present: Expiries, gone: Iterable[Entry]) -> None:
        """From now on know these blocks of the last run as well, and journal that those are `gone`.

        This run's own may be among both, for the journal tells of them too: they are followed already.
        """
        now, told = self._clock(), self._told or set()
        own = {entry.block[:3]: entry for entry in self.entries()}
        for key in told:
            present.take(key)
        present.add(own.values())
        self._blocks, self._ending, self._told = present, [], None
        expired: list[Entry] = []
        lifted: list[Entry] = []
        for entry in gone:
            followed = own.get(entry.block[:3])
            if entry.block[:3] not in told and (
                followed is None or not same_end(followed.expires_at, entry.expires_at, _ROUNDED)
            ):
                (expired if _over(entry, now + _ROUNDED) else lifted).append(entry)
        self._tell(expired, lifted)

    def expire(self) -> None:
        """Journal what has ended."""
        now, sight = self._clock(), self._kernel.look()
        lifted = []
        for entry in self._blocks.ended(now + EARLY_SECONDS):
            standing = sight.standing(entry.block)
            if standing is not None and standing.expires_at != entry.expires_at and _outlasts(standing, entry):
                self._blocks.add([entry, standing])  # somebody moved its end
            elif not _over(entry, now) and not self._kernel.holds(entry.block):
                lifted.append(entry)
            else:
                self._to_end(entry)
        expired = []
        while self._ending and self._ending[0][0] <= now:
            end, _serial, entry = heapq.heappop(self._ending)
            newer = self._blocks.get(entry.block)
            if newer is None or newer.created_at >= end:  # else it was extended in its last moment
                expired.append(entry)
        self._tell(expired, lifted)

    def compare(self) -> None:
        """Somebody else wrote, or time has passed without us: journal what is gone."""
        now = self._clock()
        expired: list[Entry] = []
        lifted: list[Entry] = []
        ending = {entry.block[:3]: entry for _end, _serial, entry in self._ending}
        present = [
            entry
            for entry in self._kernel.entries()
            if entry.block[:3] not in ending or _outlasts(entry, ending[entry.block[:3]])
        ]
        for entry in self._blocks.compare(present):
            (expired if _over(entry, now + _ROUNDED) else lifted).append(entry)
        self._tell(expired, lifted)

    def lifted(self, entries: Iterable[Entry], reason: str, *, forgiven: bool = True) -> None:
        """The watcher itself lifted these."""
        known = [entry for entry in entries if self._blocks.take(entry.block[:3]) is not None or not self.caught_up]
        self._tell([], known, reason, forgiven=forgiven)

    def unseen(self, keys: Iterable[Key]) -> dict[Key, Told]:
        """What to tell of blocks that turned out to be lifted: of those of them that were still in force."""
        now, found = self._clock(), {}
        for key, entry in self._blocks.known(keys).items():
            if not _over(entry, now):
                self._blocks.take(key)
                found[key] = self._unblocked(entry)
        return found

    def _unblocked(self, entry: Entry, reason: str | None = None) -> Told:
        """What is told of a block that was lifted."""
        self._metrics.blocks_removed += not self._dry_run
        return told_of_end(
            "unblock", entry, now=self._clock(), reason=reason or self._why(entry), dry_run=self._dry_run
        )

    def _to_end(self, entry: Entry) -> None:
        self._serial += 1
        heapq.heappush(self._ending, (entry.expires_at or 0.0, self._serial, entry))

    def _tell(
        self, expired: list[Entry], lifted: list[Entry], reason: str | None = None, *, forgiven: bool = True
    ) -> None:
        if not expired and not lifted:
            return
        if self._told is not None:
            self._told.update(entry.block[:3] for entry in (*expired, *lifted))
        if forgiven:
            self._forgiven([entry for entry in lifted if not is_provisional(entry.block)])
        ends = [self._unblocked(entry, reason) for entry in lifted]
        for entry in expired:
            self._metrics.blocks_expired += not self._dry_run
            moment = entry.expires_at or self._clock()
            ends.append(told_of_end("expire", entry, now=moment, dry_run=self._dry_run))
        self._journal(ends)

    def _why(self, entry: Entry) -> str:
        try:
            guard = self._kernel.look().guard(entry.block.network)
        except FirewallError:
            guard = None
        if guard is not None and guard.kind != "protected":
            return f"whitelist: {guard.network}"
        return "lifted by hand or by a module"


def _over(entry: Entry, now: float) -> bool:
    return entry.expires_at is not None and entry.expires_at <= now


def _outlasts(first: Entry, second: Entry) -> bool:
    if first.expires_at is None or second.expires_at is None:
        return first.expires_at is None
    return first.expires_at > second.expires_at + _ROUNDED
