# SPDX-License-Identifier: GPL-3.0-or-later
"""A request as one transaction: under the lock from what is present to a plan, and that into the kernel."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Callable, TypeVar

from . import host
from .address import FAMILIES, IPV4, Key, Network
from .entry import Entry, Origin
from .errors import InvalidInput, SetFull
from .guards import Guards, WhitelistItem
from .info import Listing
from .ipset import IpSets, Rejected
from .iptables import Iptables
from .kernel import Kernel
from .layout import (
    HOOKS,
    Role,
    SetSpec,
    allow_set,
    block_set,
    own_set,
    valid_chain,
)
from .lock import RUN_DIRECTORY, Lock
from .plan import Planner
from .result import Refusal, Result
from .runner import Runner, SystemRunner
from .state import Entries, State
from .watch import LossWatch

_T = TypeVar("_T")
NO_IPV6 = "this kernel has no IPv6"
_NAMED = 200


class Transactions:
    """One chain and its sets in this network namespace, and how a request changes them: planned and applied as one
    transaction under the lock.
    """

    def __init__(
        self,
        *,
        chain: str = "NGFW",
        families: Sequence[str] = FAMILIES,
        hooks: Sequence[str] | None = None,
        usual_hooks: Sequence[str] = HOOKS,
        origin: Origin,
        runner: Runner | None = None,
        run_directory: Path = RUN_DIRECTORY,
        keep_mirror: bool = False,
        clock: Callable[[], float] = time.time,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """`give_up` is asked while another writer is waited for; if it is true, LockTimeout is raised at once."""
        self._chain = valid_chain(chain)
        self._asked_families = in_order(families, FAMILIES, "families")
        self._hooks = None if hooks is None else in_order(hooks, HOOKS, "hooks")
        self._usual_hooks = usual_hooks
        self._families = [f for f in self._asked_families if f == IPV4 or host.has_ipv6()]
        if not self._families:
            raise InvalidInput("families is [ipv6], but this kernel has no IPv6; use [ipv4]")
        self._origin = origin
        self._clock = clock
        self._keep_mirror = keep_mirror
        self._sets = IpSets()
        self._tables = Iptables(runner or SystemRunner())
        self._lock = Lock(run_directory, chain, give_up=give_up)
        self._kernel = Kernel(
            chain,
            self._families,
            sets=self._sets,
            tables=self._tables,
            lock=self._lock,
            clock=clock,
            keep_mirror=keep_mirror,
        )
        self._protected: dict[Network, str] = {}
        self._guards: tuple[State, Guards] | None = None
        self._whitelisted: tuple[WhitelistItem, ...] = ()
        self._losses = LossWatch(self._sets)

    @contextmanager
    def _planning(
        self,
        dry_run: bool,
        *,
        prepare: bool = True,
        only_lifts: bool = False,
        look_again: bool = False,
        unused: Collection[str] = (),
    ) -> Iterator[Planner]:
        """One transaction: the caller plans inside, what comes out is applied.

        `prepare` makes sure of the sets that guard, of the protected addresses, and of the chain; what `only_lifts`
        makes nothing where there is nothing of the chain. `look_again` believes no mirror of the chain and of which
        sets there are. Sets of rates and prefixes that are empty afterwards go; where a mirror is kept, which makes
        many blocks a day, only those named `unused`.
        """
        with nullcontext() if dry_run else self._lock:
            now = self._clock()
            state, lost = self._kernel.look_again() if look_again else (self._kernel.state(), {})
            planner = Planner(self._chain, self._families, state, self._origin, now, self._usual_hooks)
            prepare = prepare and not (only_lifts and state.is_empty(self._families))
            if prepare and not state.settled:
                planner.revive(lost)
                planner.guard_sets()
                self._protect(planner)
                if self._whitelisted:
                    self._read_whitelist(state)
                    planner.keep_whitelisted(self._whitelisted)
            yield planner
            if prepare:
                planner.chain(self._hooks)
            self._kernel.refuse_used(state, planner.plan.destroy)
            planner.result.changed |= planner.plan.changes
            if dry_run:
                return
            if prepare and (unused or not self._keep_mirror):
                empty = self._kernel.unused(state, planner.plan, unused if self._keep_mirror else None)
                planner.tidy(empty, self._hooks)
            rejected = self._kernel.apply(planner.plan, now)
            state.settled = prepare
            if planner.touches_guards():
                self._guards = None
            if rejected:
                self._refuse(planner.result, rejected)
                raise SetFull(_left_out(rejected), planner.result)

    def _refuse(self, result: Result, rejected: Sequence[Rejected]) -> None:
        """What was left out of its set is refused, whatever was planned."""
        left_out = {(each.name, each.network) for each in rejected}
        for entries in (result.blocked, result.extended):
            entries[:] = [
                entry
                for entry in entries
                if (block_set(self._chain, entry.block).name, entry.block.network) not in left_out
            ]
        result.refused += [Refusal(str(each.network), each.reason) for each in rejected]

    def _claim_again(self, planner: Planner) -> None:
        """Blocks that the mirror holds, but that somebody lifted beside the lock, are new ones."""
        result, already = planner.result, planner.result.already
        if not already:
            return
        specs = [block_set(self._chain, block) for block in already]
        wanted: dict[SetSpec, Entries] = {}
        for spec, block in zip(specs, already):
            wanted.setdefault(spec, {})[block.network] = planner.fresh(block)
        added = {spec: self._kernel.claim(spec, entries, planner.now) for spec, entries in wanted.items()}
        result.already = []
        for spec, block in zip(specs, already):
            if block.network in added[spec]:
                end = wanted[spec][block.network].expires_at
                result.blocked.append(Entry(block, self._origin, planner.now, end))
                result.changed = True
            else:
                result.already.append(block)

    def _protect(self, planner: Planner) -> None:
        """Look for protected addresses: each time, or where a mirror is kept once until the next `ensure`."""
        self._kernel.read(planner.state, (own_set(self._chain, family).name for family in self._families))
        if self._protected and self._keep_mirror:
            return
        self._protected = host.protected()
        peer = host.ssh_peer()
        passing = {} if peer is None or peer in self._protected else {peer: host.SSH_PEER_SECONDS}
        self._guards = None
        planner.protect(self._protected, passing, self._hooks)
        self._protected.update((network, "SSH peer") for network in passing)

    def _current_guards(self, state: State, leaving: Collection[Network] = ()) -> Guards:
        """The guards of a state: with the protected addresses about to be added to it, without those about to leave."""
        if self._guards is None or self._guards[0] is not state:
            for family in self._families:
                self._kernel.read(state, (allow_set(self._chain, family).name, own_set(self._chain, family).name))
            guards = Guards.of_state(self._chain, self._families, state, self._protected, self._clock(), leaving)
            self._guards = (state, guards)
        return self._guards[1]

    def _listings(self, state: State, networks: Iterable[Network], most: int | None) -> list[Listing]:
        wanted = list(dict.fromkeys(networks))
        found = []
        for spec in state.sets.values():
            if spec.role is Role.LIST and spec.family in self._families:
                for network, cover in self._listed(spec.name, [n for n in wanted if n.family == spec.family], most):
                    found.append(Listing(network, spec.label, spec.direction, cover))
        return found

    def _listed(self, name: str, networks: list[Network], most: int | None) -> Iterator[tuple[Network, Network]]:
        """Those of the networks that a set covers, each with the narrowest network that does."""
        matched = self._sets.matches(name, networks)
        # The kernel tells of a host that some network around it is there, of a network only whether it is there itself.
        candidates = [n for n, match in zip(networks, matched) if match or not n.is_host]
        for network in candidates[:most]:
            around = [network.widened(prefix) for prefix in range(network.prefix - network.is_host, 0, -1)]
            cover = next((wide for wide, there in zip(around, self._sets.matches(name, around)) if there), None)
            if cover is not None or network.is_host:
                yield network, cover or network

    def _list_members(self, state: State, name: str = "") -> dict[SetSpec, set[Key]]:
        """What the sets of one blocklist, or of all, hold."""
        return {
            spec: self._kernel.members(state, spec)
            for spec in state.sets.values()
            if spec.role is Role.LIST and spec.family in self._families and name in ("", spec.label)
        }

    def _read_whitelist(self, state: State) -> None:
        self._kernel.read(state, (allow_set(self._chain, family).name for family in self._families))

    def _read_blocks(self, state: State) -> None:
        self._kernel.read(state, (spec.name for spec in state.sets.values() if spec.role is Role.BLOCK))

    def _sift(self, items: Iterable[_T], network_of: Callable[[_T], Network]) -> tuple[list[_T], list[Refusal]]:
        """The items that this kernel can have, and refusals of the others; InvalidInput for a family left out."""
        managed = set(self._families)
        if len(managed) == len(FAMILIES):
            return list(items), []
        kept, refused = [], {}
        for item in items:
            network = network_of(item)
            if network.family in managed:
                kept.append(item)
            elif network.family in self._asked_families:
                refused[network] = Refusal(str(network), NO_IPV6)
            else:
                raise InvalidInput(
                    f"{network} is {network.family}, but families is [{', '.join(self._asked_families)}]; add the "
                    "family, or leave the address out"
                )
        return kept, list(refused.values())


def in_order(given: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """The names that are given, in the order of those known; raises InvalidInput for another one, or none."""
    for name in given:
        if name not in known:
            raise InvalidInput(f"{what}: '{name}' is none of {', '.join(known)}")
    if not given:
        raise InvalidInput(f"{what} is empty; name at least one of {', '.join(known)}")
    return [name for name in known if name in given]


def _left_out(rejected: Sequence[Rejected]) -> str:
    names = ", ".join(str(entry.network) for entry in rejected[:_NAMED])
    more = f" and {len(rejected) - _NAMED} more" if len(rejected) > _NAMED else ""
    return f"{rejected[0].reason}; left out: {names}{more}. All other entries are in; lift some, then run again"
