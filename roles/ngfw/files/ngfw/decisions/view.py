# SPDX-License-Identifier: GPL-3.0-or-later
"""What decisions look at: the state in force with a batch's own blocks on top, the past, and what providers say."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..firewall.address import Network
from ..firewall.entry import Action, Block, Direction, Entry, Origin
from ..intel.mailbox import Case
from ..intel.verdict import OPEN_STATES, Verdict
from .cases import Hung, encode
from .history import History, earliest_beginning
from .policy import REORDERED, Guard, Sight

Ask = Callable[[Network, Case], Iterable[Verdict]]
"""What providers say about an address; the case comes back with the answer of one that has to be waited for."""

_Key = tuple[Network, Action, Direction]


class View:
    """policy.Knowledge for one batch after the other."""

    def __init__(
        self,
        look: Callable[[], Sight],
        ask: Ask | None,
        history: History | None,
        memory: float,
        high_alert: Callable[[float], bool],
    ) -> None:
        """`look` says what is in force; it is asked at a batch's first question about that."""
        self._look = look
        self._sight: Sight | None = None
        self._ask, self._history, self._memory = ask, history, memory
        self.high_alert = high_alert
        self._fresh: dict[_Key, tuple[Block, Origin, float, float | None]] = {}  # an Entry's fields
        self._offences: dict[_Key, list[float]] = {}
        self._are_offences: dict[_Key, bool] = {}  # entries in force: each further hit on one asks again
        self._repeated: set[_Key] = set()
        self._lookups: list[tuple[Network, Case]] = []

    def begin(self) -> list[tuple[Network, Case]]:
        """A batch begins; what it asks, and may be answered later, will be in the list that is returned."""
        self._fresh.clear()
        self._offences.clear()
        self._are_offences.clear()
        self._repeated.clear()
        self._lookups = []
        self._sight = None
        return self._lookups

    def standing(self, block: Block) -> Entry | None:
        fresh = self._fresh.get(block[:3])
        return (self._sight or self._seen()).standing(block) if fresh is None else Entry(*fresh)

    def guard(self, network: Network) -> Guard | None:
        return (self._sight or self._seen()).guard(network)

    def guards_near(self, network: Network) -> bool:
        return (self._sight or self._seen()).guards_near(network)

    def earlier(self, block: Block, now: float) -> int:
        if self._history is None:
            return 0
        since, until = now - self._memory, now + REORDERED
        found = self._history.earlier(block, since, until)
        # One of this batch may have ended: a recorded hour may be one batch.
        fresh = self._offences.get(block[:3])
        return found if fresh is None else found + sum(since < at <= until for at in fresh)

    def is_offence(self, entry: Entry) -> bool:
        key = entry.block[:3]
        known = self._are_offences.get(key)
        if known is None:
            known = self._are_offences[key] = self._began_as_offence(entry)
        return known

    def _began_as_offence(self, entry: Entry) -> bool:
        since = earliest_beginning(entry)
        if any(at > since for at in self._offences.get(entry.block[:3], ())):
            return True
        return self._history is not None and self._history.earlier(entry.block, since) > 0

    def verdicts(self, address: Network, hung: Hung) -> Iterable[Verdict]:
        if self._ask is None:
            return ()
        case = encode(hung)
        verdicts = tuple(self._ask(address, case))
        if any(verdict.state in OPEN_STATES for verdict in verdicts):
            self._lookups.append((address, case))
        return verdicts

    def put(self, block: Block, now: float, *, offence: bool) -> None:
        """The batch puts this block in force from `now` on; the history learns of an offence after the batch."""
        end = now + block.duration if block.duration else None
        key = block[:3]
        self._fresh[key] = (block, Origin.WATCHER, now, end)
        self._are_offences.pop(key, None)
        if offence:
            self._offences.setdefault(key, []).append(now)

    def is_repeated(self, block: Block) -> bool:
        key = block[:3]
        return key in self._fresh or key in self._repeated

    def repeat(self, block: Block) -> None:
        """The batch has hit an entry that stood before it."""
        self._repeated.add(block[:3])

    def _seen(self) -> Sight:
        self._sight = self._look()
        return self._sight
