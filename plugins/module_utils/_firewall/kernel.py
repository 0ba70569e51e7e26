# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's state under the lock: read what is touched, carry out a plan, keep a mirror where one is wanted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from typing import Callable

from .address import Key, Network
from .entry import Block, decode_comment
from .errors import InvalidInput, KernelError, SetMissing
from .ipset import IpSets, Rejected, SetEntry
from .iptables import Iptables
from .layout import GUARDING, Role, SetSpec, filling, parse_set_name, sibling_chains
from .lock import Lock
from .state import Entries, Held, Plan, State, shared_parameters

_RELEASE_SECONDS = 2.0
_STEP_SECONDS = 1.0


class Kernel:
    """The chain and sets of one name in this network namespace.

    With `keep_mirror` a state that was read stays valid while the lock's generation is the one of our own last write;
    else every session reads anew.
    """

    def __init__(
        self,
        chain: str,
        families: Sequence[str],
        *,
        sets: IpSets,
        tables: Iptables,
        lock: Lock,
        clock: Callable[[], float],
        keep_mirror: bool = False,
    ) -> None:
        self._chain = chain
        self._families = families
        self._sets = sets
        self._tables = tables
        self._lock = lock
        self._clock = clock
        self._keep_mirror = keep_mirror
        self._generation: int | None = None
        self._state: State | None = None
        self._clock_is_at = clock() - time.monotonic()

    def state(self) -> State:
        """The chains and the names of the sets, read anew unless the mirror holds them; entries come by `read`."""
        self._follow_clock()
        generation = self._lock.generation()
        if not self._keep_mirror or self._state is None or generation is None or generation != self._generation:
            self._state = self._read_state()
            self._generation = generation
        return self._state

    def _follow_clock(self) -> None:
        """If the clock was set since the last call, move the ends that the mirror knows: the kernel has another one."""
        step = self._clock() - time.monotonic() - self._clock_is_at
        if abs(step) < _STEP_SECONDS:
            return
        self._clock_is_at += step
        for entries in () if self._state is None else self._state.entries.values():
            for network, held in entries.items():
                if held.expires_at is not None:
                    entries[network] = held._replace(expires_at=held.expires_at + step)

    def forget(self) -> None:
        """Read everything anew next time."""
        self._state = None

    def look_again(self) -> tuple[State, dict[SetSpec, Entries]]:
        """Read chains and sets anew, for somebody may have changed them beside the lock; to be called by its holder.

        Returns the state, and what the mirror knows of sets that were destroyed, and of those that guard and were
        emptied. A set of blocks that was emptied is empty: that is the operator's will. Whitelist and protected
        addresses are few, and are read anew, too.
        """
        self._follow_clock()
        known, generation = self._state, self._generation
        self._state = None
        state = self.state()
        if known is None or generation is None or self._lock.generation() != generation:
            return state, {}
        state.entries = {
            name: entries if state.sizes[name] else {}
            for name, entries in known.entries.items()
            if name in state.sets and state.sets[name].role is Role.BLOCK
        }
        lost = {
            spec: known.entries[name]
            for name, spec in known.sets.items()
            if name in known.entries and (name not in state.sets or (spec.role in GUARDING and not state.sizes[name]))
        }
        return state, lost

    def claim(self, spec: SetSpec, entries: Entries, now: float) -> set[Network]:
        """Add the entries, which the mirror believes to be there, that are not; returns those that were added.

        Tools such as `ipset del` leave no trace in the lock's generation. SetMissing if the whole set is gone.
        """
        added = self._sets.add_absent(spec.name, _timed(entries, now))
        claimed = {network: held for (network, held), new in zip(entries.items(), added) if new}
        if claimed and self._state is not None:
            self._state.entries.setdefault(spec.name, {}).update(claimed)
        return set(claimed)

    def read(self, state: State, names: Iterable[str]) -> None:
        """Add the entries of those of these sets that exist and are not read yet.

        None of a set that is gone since: who only looks holds no lock, and a set goes when it has no entries.
        """
        for name in names:
            if name in state.sets and name not in state.entries:
                now = self._clock()
                found: Entries = {}
                with suppress(SetMissing):
                    found = {
                        entry.network: Held(end_of(entry, now), entry.comment, entry.packets, entry.bytes)
                        for entry in self._sets.entries(name)
                    }
                state.entries[name] = found

    def read_for(self, state: State, blocks: Iterable[Block]) -> None:
        """Read the sets that may hold entries of the same action, direction and family as these blocks."""
        unread = [s for s in state.sets.values() if s.role is Role.BLOCK and s.name not in state.entries]
        if unread:
            kinds = {(block.action, block.direction, block.network.family) for block in blocks}
            self.read(state, [spec.name for spec in unread if (spec.action, spec.direction, spec.family) in kinds])

    def refuse_used(self, state: State, unwanted: Sequence[SetSpec]) -> None:
        """Raise KernelError, before anything is changed, if rules that are not ours use a set that is to be destroyed.

        Rules that were just replaced hold their sets for a moment longer.
        """
        if not unwanted:
            return
        ours = _references(state)
        deadline = time.monotonic() + _RELEASE_SECONDS
        while True:
            headers = self._sets.headers()
            used = [s.name for s in unwanted if s.name in headers and headers[s.name].references > ours[s.name]]
            if not used:
                return
            if time.monotonic() > deadline:
                raise KernelError(
                    f"the set {used[0]} is in use by a rule that is not from here; remove that, then run again. "
                    "Nothing was changed"
                )
            time.sleep(0.02)

    def unused(self, state: State, plan: Plan, names: Container[str] | None) -> list[SetSpec]:
        """Sets of a rate or log prefix that are going to be empty, and that no rule of others uses; only of these
        `names`, if any. There may be many; the few of other actions stay: making one costs the next block 10 ms.
        """
        ours, kept = _references(state), {*plan.add, *(spec.name for spec in (*plan.create, *plan.destroy))}
        found = []
        for name, spec in state.sets.items():
            if spec.role is Role.BLOCK and spec.label and spec.family in self._families and name not in kept:
                leaving = len(set(plan.delete.get(name, ())))
                header = self._sets.header(name) if names is None or name in names else None
                if header is not None and header.elements == leaving and header.references <= ours[name]:
                    found.append(spec)
        return found

    def apply(self, plan: Plan, now: float) -> list[Rejected]:
        """Carry out a plan that was made from the present state at `now`; returns what did not fit into its set.

        To be called by the holder of the lock. SetMissing if somebody destroyed a set that it needs: `look_again` then
        tells what that held.
        """
        if not plan.operations:
            return []
        state, self._state = self._state, None  # not to be believed if a step fails
        self._generation = self._lock.advance()
        try:
            rejected = self._carry_out(plan, state, now)
        except SetMissing:
            self._state = state
            raise
        if state is not None and self._keep_mirror and not plan.fill:
            self._follow(state, plan)
            for left_out in rejected:
                state.entries.get(left_out.name, {}).pop(left_out.network, None)
            self._state = state
        return rejected

    def _carry_out(self, plan: Plan, state: State | None, now: float) -> list[Rejected]:
        """Sets come before the rules that need them, and go after them."""
        rejected = []
        for spec in plan.create:
            self._sets.create(spec.name, spec.family)
        for spec, members in plan.fill.items():
            rejected += self._replace(spec, members, state.sets if state is not None else ())
        for wanted in (plan.renew, plan.add):
            for name, entries in wanted.items():
                rejected += self._sets.add(name, _timed(entries, now))
        restored: set[str] = set()
        for family, text in plan.restore.items():
            try:
                self._tables.restore(family, text)
            except KernelError:
                self._take_back(spec for spec in plan.create if spec.family not in restored)
                raise
            restored.add(family)
        for unwanted in (plan.delete, plan.expire):
            for name, networks in unwanted.items():
                self._sets.delete(name, networks)
        for spec in plan.destroy:
            self._sets.destroy(spec.name)
        return rejected

    def _take_back(self, created: Iterable[SetSpec]) -> None:
        """Remove sets that have no rule: the next plan would want the rule again that the kernel refuses."""
        for spec in created:
            with suppress(KernelError):
                self._sets.destroy(spec.name)

    def members(self, state: State, spec: SetSpec) -> set[Key]:
        """What a blocklist's set holds; nothing if it does not exist."""
        return self._sets.members(spec.name) if spec.name in state.sets else set()

    def _replace(self, spec: SetSpec, members: set[Key], present: Container[str]) -> list[Rejected]:
        """Give a blocklist's set other members, all at once."""
        beside = filling(spec).name
        if beside in present:
            self._sets.destroy(beside)  # left by a writer that was killed
        self._sets.create(beside, spec.family, plain=True, elements=len(members))
        rejected = self._sets.fill(beside, members)
        if spec.name not in present:
            self._sets.create(spec.name, spec.family, plain=True, elements=len(members))
        self._sets.swap(beside, spec.name)
        self._sets.destroy(beside)
        return rejected

    def _read_state(self) -> State:
        state = State()
        headers = self._sets.headers()
        for name, header in headers.items():
            spec = parse_set_name(self._chain, name)
            if spec is None:
                continue
            odd = ""
            if header.type != "hash:net" or header.family != spec.family:
                odd = f"is a {header.type} of {header.family}"
            elif not (header.full or spec.role in (Role.LIST, Role.FILLING)):
                odd = "has no time-outs, counters and comments"
            if odd:
                raise InvalidInput(
                    f"the set {name} has the name of one of ours, but {odd}; remove or rename it, or choose another "
                    "chain name"
                )
            state.sets[name] = spec
            state.sizes[name] = header.elements
        state.siblings = sibling_chains(headers) - {self._chain}
        state.chains = {family: self._tables.state(family, self._chain, state.siblings) for family in self._families}
        for spec in state.sets.values():
            if spec.label and spec.role is Role.BLOCK:
                self._read_parameters(state, spec)
        return state

    def _read_parameters(self, state: State, spec: SetSpec) -> None:
        """All entries of a log or rate set were made with the same parameters; the first of ours tells them."""
        comments: list[str] = []
        with suppress(SetMissing):  # as in `read`
            comments = [entry.comment for entry in self._sets.first_entries(spec.name)]
        parameters = shared_parameters(spec, comments)
        if parameters is not None:
            state.parameters[spec.name] = parameters

    def _follow(self, state: State, plan: Plan) -> None:
        """Make the mirror what the kernel is after the plan."""
        for spec in plan.create:
            state.sets[spec.name] = spec
            state.entries[spec.name] = {}
        for wanted in (plan.renew, plan.add):
            for name, entries in wanted.items():
                if name in state.entries:
                    state.entries[name].update(entries)
                parameters = shared_parameters(state.sets[name], (held.comment for held in entries.values()))
                if parameters is not None:
                    state.parameters[name] = parameters
        for unwanted in (plan.delete, plan.expire):
            for name, networks in unwanted.items():
                for network in networks:
                    state.entries.get(name, {}).pop(network, None)
        for spec in plan.destroy:
            for kept in (state.sets, state.entries, state.sizes, state.parameters):
                kept.pop(spec.name, None)
        for family in plan.restore:
            state.chains[family] = self._tables.state(family, self._chain, state.siblings)


def _references(state: State) -> Counter[str]:
    """How many matches of our own rules use each set."""
    rules = [rule for chain in state.chains.values() for rule in chain.rules]
    return Counter(name for rule in rules for word, name in zip(rule, rule[1:]) if word == "--match-set")


def end_of(entry: SetEntry, now: float) -> float | None:
    """When an entry ends. The kernel tells whole seconds that remain; its note knows the moment exactly."""
    if entry.timeout == 0:
        return None
    note = decode_comment(entry.comment)
    exact = note.created_at + note.duration
    return float(exact) if abs(exact - (now + entry.timeout)) < 2 else now + entry.timeout


def _timed(entries: Entries, now: float) -> list[tuple[Network, int, str]]:
    return [
        (network, 0 if held.expires_at is None else max(1, round(held.expires_at - now)), held.comment)
        for network, held in entries.items()
    ]
