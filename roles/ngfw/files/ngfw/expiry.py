# SPDX-License-Identifier: GPL-3.0-or-later
"""When the watcher's own blocks end, so that their end can be told: the kernel ends them without a word."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from .firewall.entry import Entry, Origin


class Expiries:
    """The entries that end by themselves, earliest first."""

    def __init__(self) -> None:
        self._entries: dict[tuple[Any, ...], Entry] = {}
        self._heap: list[tuple[float, int, tuple[Any, ...]]] = []
        self._serial = 0

    def add(self, entries: Iterable[Entry]) -> None:
        """Note the present end of these entries, in place of an earlier one; only the watcher's own count."""
        for entry in entries:
            if entry.origin is not Origin.WATCHER:
                continue
            key = entry.block[:3]
            self._entries[key] = entry
            if entry.expires_at is not None:
                self._serial += 1
                heapq.heappush(self._heap, (entry.expires_at, self._serial, key))

    def next(self) -> float | None:
        """When the next entry ends (epoch seconds), None if none does."""
        while self._heap:
            expires_at, _serial, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and entry.expires_at == expires_at:
                return expires_at
            heapq.heappop(self._heap)
        return None

    def ended(self, now: float) -> list[Entry]:
        """Take out the entries that ended by `now`."""
        found: list[Entry] = []
        while True:
            moment = self.next()
            if moment is None or moment > now:
                return found
            found.append(self._entries.pop(heapq.heappop(self._heap)[2]))

    def __len__(self) -> int:
        return len(self._entries)
