# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in force at one moment, for many questions in a row."""

from __future__ import annotations

from .entry import Block, Entry
from .guards import Guards
from .kernel import Kernel
from .layout import block_set
from .state import State, as_entry


class Sight:
    """Blocks and guards as they were at `now`: nobody is asked who else has written since.

    What is decided by it, such as a batch, is planned anew under the lock.
    """

    def __init__(self, chain: str, kernel: Kernel, state: State, guards: Guards, now: float) -> None:
        self._chain, self._kernel, self._state, self._now = chain, kernel, state, now
        self.guard = guards.covering
        """The protected or whitelisted network that wholly covers this one, or None."""
        self.guards_near = guards.near
        """Whether a protected or whitelisted address lies inside this network, or around it."""

    def standing(self, block: Block) -> Entry | None:
        """The entry of that network, action and direction, whatever its rate or prefix.

        One that was made by a clock that has been set back since began now at the latest.
        """
        state, spec, network = self._state, block_set(self._chain, block), block.network
        if spec.label:
            self._kernel.read_for(state, (block,))
        elif spec.name not in state.entries:
            self._kernel.read(state, (spec.name,))
        held = state.held(spec.name, network, self._now)
        found = state.elsewhere(spec, network, self._now) if held is None else (spec, held)
        if found is None:
            return None
        entry = as_entry(found[0], network, found[1])
        return entry if entry.created_at <= self._now else entry._replace(created_at=self._now)
