# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewall that only records: what a replay or a dry run would have in force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Callable, Protocol

from ..firewall.address import Network
from ..firewall.duration import is_longer
from ..firewall.entry import Action, Block, Direction, Entry, Origin
from ..firewall.guards import Guard, Guards
from ..firewall.result import Refusal, Result

_MANY = 50_000


class State(Protocol):
    """What is in force, recorded or in the kernel."""

    def standing(self, block: Block) -> Entry | None: ...

    @property
    def guard(self) -> Callable[[Network], object | None]: ...


class Recorder:
    """Entries by network, action and direction; they end by the times that the caller gives."""

    def __init__(self) -> None:
        self._guards = Guards({}, {})
        self._entries: dict[tuple[Network, Action, Direction], Entry] = {}
        self._limit = _MANY

    def guard_by(self, *, whitelist: Mapping[Network, str], protected: Mapping[Network, str]) -> None:
        """Refuse what these networks cover; each has a comment, of `protected` it is the reason."""
        self._guards = Guards(protected, whitelist)

    def look(self) -> Recorder:
        """What is in force: nobody else writes here."""
        return self

    def standing(self, block: Block) -> Entry | None:
        """The newest entry of that network, action and direction, ended or not."""
        return self._entries.get(block[:3])

    def guard(self, network: Network) -> Guard | None:
        return self._guards.covering(network)

    def guards_near(self, network: Network) -> bool:
        return self._guards.near(network)

    def put(self, block: Block, now: float) -> Entry:
        """Put a block in force from `now` (epoch seconds) on."""
        entry = Entry(block, Origin.WATCHER, now, now + block.duration if block.duration else None)
        self._entries[block[:3]] = entry
        if len(self._entries) > self._limit:
            self._forget(now)
        return entry

    def block(self, blocks: Iterable[Block], state: State, now: float) -> Result:
        """Put blocks in force from `now` (epoch seconds) on, as the kernel would beside that state: one that is guarded
        is refused, one that does not last longer than what is in force changes nothing.
        """
        result = Result()
        for block in blocks:
            guard, present = state.guard(block.network), state.standing(block)
            if guard is not None:
                result.refused.append(Refusal(str(block.network), str(guard)))
            elif present is None or _is_over(present, now):
                result.blocked.append(self.put(block, now))
            elif is_longer(block.duration, present.block.duration):
                result.extended.append(self.put(block, now))
            else:
                result.already.append(block)
        return result

    def take(self, block: Block) -> Entry | None:
        """Forget the entry of that network, action and direction."""
        return self._entries.pop(block[:3], None)

    def shift(self, seconds: float) -> None:
        """The clock was set by so many seconds: all ends are as far away as before."""
        self._entries = {
            key: entry._replace(
                created_at=entry.created_at + seconds,
                expires_at=None if entry.expires_at is None else entry.expires_at + seconds,
            )
            for key, entry in self._entries.items()
        }

    def in_force(self, now: float) -> list[Entry]:
        """The entries that have not ended. A thread may ask while another one puts blocks in force."""
        return [entry for entry in list(self._entries.values()) if not _is_over(entry, now)]

    def _forget(self, now: float) -> None:
        self._entries = {entry.block[:3]: entry for entry in self.in_force(now)}
        self._limit = max(_MANY, 2 * len(self._entries))


def _is_over(entry: Entry, now: float) -> bool:
    return entry.expires_at is not None and entry.expires_at <= now
