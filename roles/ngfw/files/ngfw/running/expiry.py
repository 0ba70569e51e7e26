# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher's own blocks in force, so that the end of each can be told: the kernel ends them without a word."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..effects.intent import VERSION, block_fields, block_of
from ..effects.journal import Mark
from ..firewall.address import Network, parse_network
from ..firewall.entry import Action, Block, Direction, Entry, Origin

Key = tuple[Any, ...]
Row = tuple[list[Any], float, Any]

_ACTIONS = {
    "block": Action.DROP,
    "reject": Action.REJECT,
    "log": Action.LOG,
    "rate_limit": Action.RATE_LIMIT,
}
_SAME_MOMENT = 0.002
"""Seconds; journals keep milliseconds."""


class Expiries:
    """Entries by network, action and direction, and the order in which they end by themselves."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self._ends: list[float] = []  # a heap
        self._by_end: dict[float, list[Key]] = {}  # at each of the ends; who has another by now does not count

    def add(self, entries: Iterable[Entry]) -> list[tuple[Entry, Entry]]:
        """Note the present end of these entries, of unknown ones the watcher's own; returns the earlier and the later
        form of those that were known.
        """
        replaced = []
        for entry in entries:
            key = entry.block[:3]
            earlier = self._entries.get(key)
            if earlier is not None:
                replaced.append((earlier, entry))
            elif entry.origin is not Origin.WATCHER:
                continue
            self._keep(entry)
        return replaced

    def _keep(self, entry: Entry) -> None:
        key, end = entry.block[:3], entry.expires_at
        self._entries[key] = entry
        if end is None:
            return
        keys = self._by_end.get(end)
        if keys is None:
            heapq.heappush(self._ends, end)
            keys = self._by_end[end] = []
        keys.append(key)

    def shift(self, seconds: float) -> None:
        """The clock was set by so many seconds: all ends are as far away as before."""
        entries = list(self._entries.values())
        self._entries, self._ends, self._by_end = {}, [], {}
        for entry in entries:
            self._keep(shifted(entry, seconds))

    def get(self, block: Block) -> Entry | None:
        """The entry of that network, action and direction."""
        return self._entries.get(block[:3])

    def known(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        """The entries among those with these first fields of their blocks."""
        return {key: self._entries[key] for key in keys if key in self._entries}

    def take(self, key: Key) -> Entry | None:
        """The entry with these first fields of its block, which is forgotten."""
        return self._entries.pop(key, None)

    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def next(self) -> float | None:
        """When the next entry ends (epoch seconds), None if none does."""
        while self._ends:
            end = self._ends[0]
            keys = self._by_end[end]
            while keys and not self._ends_at(keys[-1], end):
                keys.pop()
            if keys:
                return end
            del self._by_end[heapq.heappop(self._ends)]
        return None

    def ended(self, now: float) -> list[Entry]:
        """Take out the entries that ended by `now`."""
        found: list[Entry] = []
        while self._ends and self._ends[0] <= now:
            end = heapq.heappop(self._ends)
            found += [self._entries.pop(key) for key in self._by_end.pop(end) if self._ends_at(key, end)]
        return found

    def _ends_at(self, key: Key, end: float) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.expires_at == end

    def compare(self, present: Iterable[Entry]) -> list[Entry]:
        """Follow what the kernel holds; takes out, and returns, what it does not hold any more."""
        held = {entry.block[:3]: entry for entry in present}
        gone = [entry for key, entry in self._entries.items() if key not in held]
        for entry in gone:
            del self._entries[entry.block[:3]]
        for key, entry in held.items():
            known = self._entries.get(key)
            if known is None or known.expires_at != entry.expires_at:
                self.add((entry,))
        return gone

    def __len__(self) -> int:
        return len(self._entries)


def encode(entries: Iterable[Entry], mark: Mark | None) -> bytes:
    """The entries that are in force when alerts.json ends at `mark`."""
    blocks = [[block_fields(entry.block), entry.created_at, entry.expires_at] for entry in entries]
    return json.dumps({"version": VERSION, "mark": mark, "blocks": blocks}, separators=(",", ":")).encode()


def decode(data: bytes) -> tuple[list[Row], Mark | None]:
    """What entries_of() makes entries of, and the mark. Raises ValueError, KeyError or TypeError for anything else."""
    fields = json.loads(data)
    if fields["version"] != VERSION:
        raise ValueError(f"version {fields['version']!r}, this program writes {VERSION}")
    mark = None if fields["mark"] is None else Mark(*map(int, fields["mark"]))
    return [(list(block), float(created), end) for block, created, end in fields["blocks"]], mark


def entries_of(rows: Iterable[Row]) -> Iterator[Entry]:
    """The entries that encode() was given. Raises ValueError or TypeError for others."""
    for block, created, end in rows:
        yield Entry(block_of(block), Origin.WATCHER, created, None if end is None else float(end))


def follow(entries: Iterable[Entry], lines: bytes) -> tuple[list[Entry], list[Entry]]:
    """What is in force after these lines of alerts.json, if `entries` were before them, and what has ended untold.

    A block that is made where one stood tells that the latter has ended, but not whether that was told.
    """
    followed = _Followed(entries)
    for line in lines.split(b"\n"):
        try:
            fields = json.loads(line) if line else {}
            if fields and not fields["dry_run"]:
                followed.take(fields)
        except (ValueError, KeyError, TypeError):
            continue  # torn, or not ours
    return followed.held(), followed.replaced()


class _Followed:
    """Entries by network and direction, as journal lines name them, and those whose ends were not told."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._held: dict[tuple[Network, Direction], list[Entry]] = {}
        self._replaced: dict[tuple[Network, Direction], list[Entry]] = {}
        for entry in entries:
            self._at(entry.block).append(entry)

    def held(self) -> list[Entry]:
        return [entry for entries in self._held.values() for entry in entries]

    def replaced(self) -> list[Entry]:
        return [entry for entries in self._replaced.values() for entry in entries]

    def take(self, fields: dict[str, Any]) -> None:
        """Follow one line. Raises ValueError, KeyError or TypeError for one that is not ours."""
        word = fields["action"]
        if word == "skip":
            return
        network, direction = parse_network(fields["ip"]), Direction(fields["target"])
        end = None if fields["expires_at"] is None else _moment(fields["expires_at"])
        if word in _ACTIONS:
            block = Block(network, _ACTIONS[word], direction, fields["duration"], fields["rule"], fields["reason"])
            self._make(Entry(block, Origin.WATCHER, _moment(fields["ts"]), end))
            return
        here = self._held.get((network, direction), [])
        if word == "extend":
            here[:1] = [entry._replace(expires_at=end) for entry in here[:1]]
            return
        late = self._replaced.get((network, direction), [])
        if not _remove(late, [entry for entry in late if same_end(entry.expires_at, end)]):
            _remove(here, [entry for entry in here if same_end(entry.expires_at, end)] or here)

    def _make(self, entry: Entry) -> None:
        here = self._at(entry.block)
        same = [each for each in here if each.block.action is entry.block.action]
        if _remove(here, same):
            self._replaced.setdefault((entry.block.network, entry.block.direction), []).append(same[0])
        here.append(entry)

    def _at(self, block: Block) -> list[Entry]:
        return self._held.setdefault((block.network, block.direction), [])


def _remove(entries: list[Entry], found: list[Entry]) -> bool:
    """Take out the first of those that were found; whether there was one."""
    if found:
        entries.remove(found[0])
    return bool(found)


def shifted(entry: Entry, seconds: float) -> Entry:
    """The entry by a clock that has been set by so many seconds."""
    end = None if entry.expires_at is None else entry.expires_at + seconds
    return entry._replace(created_at=entry.created_at + seconds, expires_at=end)


def same_end(first: float | None, second: float | None, within: float = _SAME_MOMENT) -> bool:
    """Whether two ends are less than `within` seconds apart, or there is none on either side."""
    return first is second if first is None or second is None else abs(first - second) < within


def _moment(text: str) -> float:
    from datetime import datetime  # what only a start after a kill needs

    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
