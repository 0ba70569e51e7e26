# SPDX-License-Identifier: GPL-3.0-or-later
"""The facade: what modules, command and watcher ask of the kernel, each as one transaction under the lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import boot, saved
from .address import IPV6, Key, Network, from_key
from .entry import Action, Block, Direction, Entry, valid_rule_name
from .errors import InvalidInput, SetMissing
from .guards import WhitelistItem
from .info import GATHER, Info, Listing
from .layout import (
    GUARDING,
    Role,
    SetSpec,
    block_set,
    list_set,
    renamed,
    sibling_chains,
    valid_list_name,
)
from .netset import Netset
from .result import Refusal, Result
from .sanity import contents, objection
from .sight import Sight
from .state import as_entry
from .transaction import NO_IPV6, Transactions, in_order
from .watch import Losses

_SCOPES = ("blocks", "blocklists", "whitelist")
_WARNED = 20


class Firewall(Transactions):
    """One chain and its sets, in this network namespace.

    All methods that change something take `dry_run`: then nothing is touched, and the result is what would come.
    They raise InvalidInput (nothing was changed), NotPermitted, MissingTool, LockTimeout or KernelError; one of its
    kinds, SetFull, when all is done but for what a full set did not take.
    Without `hooks` those remembered in the kernel stay; where there are none `usual_hooks` are chosen.
    With `keep_mirror` (for a process that stays) sets are read once and kept while nobody else writes; look-ups and
    blocks then take microseconds.
    """

    # --- looking -----------------------------------------------------------------------------------------------

    def info(self, gather: Sequence[str] = GATHER) -> Info:
        """What is in force now, counters included."""
        self.forget()
        state = self._kernel.state()
        if set(gather) != {"chain"}:
            lists = (Role.LIST, Role.FILLING)
            self._kernel.read(state, (spec.name for spec in state.sets.values() if spec.role not in lists))
        return Info(self._chain, self._families, self._tables.backend(), state, self._clock(), tuple(gather))

    def entries(self) -> list[Entry]:
        """All blocks in force."""
        state = self._kernel.state()
        self._read_blocks(state)
        now = self._clock()
        return [
            as_entry(spec, network, held)
            for spec in state.sets.values()
            if spec.role is Role.BLOCK and spec.family in self._families
            for network, held in state.live(spec.name, now)
        ]

    def look(self) -> Sight:
        """What is in force now."""
        state = self._kernel.state()
        return Sight(self._chain, self._kernel, state, self._current_guards(state), self._clock())

    def holds(self, block: Block) -> bool:
        """Whether the kernel holds the entry of that network, action, direction (and rate or prefix) at this moment.

        The kernel itself is asked, whatever a mirror says. For a host a network around it counts as well.
        """
        try:
            return self._sets.matches(block_set(self._chain, block).name, (block.network,))[0]
        except SetMissing:
            return False

    def listings(self, networks: Iterable[Network], *, most: int | None = None) -> list[Listing]:
        """Which blocklists cover these networks, by the kernel's own word; at most the first `most` of each list."""
        return self._listings(self._kernel.state(), networks, most)

    def losses(self) -> Losses:
        """What others took out of the sets beside the lock since the last call, as far as a glance of some
        microseconds a set tells. For a process that stays."""
        state, now = self._kernel.state(), self._clock()
        self._current_guards(state)  # what they should hold has to be known
        found = self._losses.look(state, now)
        for name in found.blocks:
            state.entries.pop(name, None)
        return found

    def follow_lock(self) -> bool:
        """Use the lock's file that others find, if somebody removed the one that is open here; whether that was so."""
        if not self._lock.follow():
            return False
        self.forget()
        return True

    @property
    def lock_path(self) -> Path:
        """The file that everybody who changed something has had open for writing."""
        return self._lock.path

    def changes_by_others(self) -> int | None:
        """A number that moves when others change something under the lock; None if that cannot be told."""
        return self._lock.changes_by_others()

    def warnings(self) -> list[str]:
        """What the operator should know about this host, if anything."""
        found = []
        if IPV6 in self._asked_families and IPV6 not in self._families:
            found.append(f"{NO_IPV6}; only IPv4 is managed")
        other = self._tables.other_backend_in_use()
        if other:
            found.append(
                f"iptables here is {self._tables.backend()}, but there are rules in iptables-{other} too; packets pass "
                "both. Choose one with update-alternatives, and move its rules"
            )
        return found + boot.warnings(self._chain, self.other_chains())

    def other_chains(self) -> list[str]:
        """Other chains of ours on this host, on purpose or left from another configuration."""
        return sorted(sibling_chains(self._sets.headers()) - {self._chain})

    def beside(self, chain: str) -> Firewall:
        """Another chain on this host, to be closed as this one."""
        return Firewall(
            chain=chain,
            families=self._asked_families,
            origin=self._origin,
            runner=self._tables.runner,
            run_directory=self._lock.path.parent,
            clock=self._clock,
        )

    def forget(self) -> None:
        """Believe nothing that was read before: somebody changed the kernel beside the lock."""
        self._kernel.forget()

    def close(self) -> None:
        self._sets.close()
        self._lock.close()

    # --- changing ----------------------------------------------------------------------------------------------

    def ensure(self, *, unused: Collection[str] = (), dry_run: bool = False) -> Result:
        """Chain, jumps and guards as they should be; repairs what others did beside the lock.

        Where a mirror is kept, sets that were destroyed are made again from it, and so is what the whitelist held if
        it was emptied; of the sets of rates and prefixes only those named `unused` go if they are empty, else all.
        """
        self._protected = {}
        with self._planning(dry_run, look_again=True, unused=unused) as planner:
            pass
        return planner.result

    def keep_whitelisted(self, items: Iterable[WhitelistItem]) -> None:
        """From now on `ensure` puts these back where they are missing, as entries of the configuration."""
        self._whitelisted = tuple(item for item in items if item.network.family in self._families)

    def block(
        self,
        blocks: Iterable[Block],
        *,
        refresh: bool = False,
        later: bool = False,
        purge: str = "",
        on_protected: str = "skip",
        allow_wide: bool = False,
        dry_run: bool = False,
    ) -> Result:
        """Put blocks in force: new ones, longer ones; the same or a shorter one leaves what is there.

        `refresh` restarts the clock of those in force; `later` compares ends, not durations; `purge` is the name of
        the rule whose other entries are lifted. With `on_protected="fail"` a block of a protected or whitelisted
        address is InvalidInput, else it is refused. So is, without `allow_wide`, what makes blocks of one action and
        direction cover more of the address space than sanity.MOST. What does not fit into a full set is SetFull at the
        end.
        """
        wanted, refused = self._sift(blocks, lambda block: block.network)
        options = {"refresh": refresh, "later": later, "purge": purge}
        try:
            result = self._block(wanted, options, on_protected, allow_wide, dry_run)
        except SetMissing:
            self.ensure(dry_run=dry_run)
            result = self._block(wanted, options, on_protected, allow_wide, dry_run)
        result.refused += refused
        return result

    def _block(
        self, wanted: list[Block], options: Mapping[str, Any], on_protected: str, allow_wide: bool, dry_run: bool
    ) -> Result:
        with self._planning(dry_run) as planner:
            if options["purge"]:
                self._read_blocks(planner.state)
            else:
                self._kernel.read_for(planner.state, wanted)
            if not allow_wide:
                planner.refuse_wide(wanted, options["purge"])
            leaving = {network for networks in planner.plan.expire.values() for network in networks}
            planner.block(wanted, self._current_guards(planner.state, leaving), **options)
            if on_protected == "fail" and planner.result.refused:
                raise InvalidInput(_not_to_be_blocked(planner.result.refused))
            if self._keep_mirror and not dry_run:
                self._claim_again(planner)
        return planner.result

    def unblock(
        self,
        networks: Iterable[Network],
        *,
        action: Action | None = None,
        directions: Iterable[Direction] = tuple(Direction),
        dry_run: bool = False,
    ) -> Result:
        """Lift exactly these entries, of whatever rule, in every form that is asked for."""
        wanted, refused = self._sift(networks, lambda network: network)
        with self._planning(dry_run, only_lifts=True) as planner:
            planner.result.refused += refused
            self._read_blocks(planner.state)
            planner.unblock(wanted, action, directions)
            guards = self._current_guards(planner.state)
            listed = self._listings(planner.state, (n for n in wanted if guards.covering(n) is None), _WARNED)
            planner.result.warnings += [f"{listing}; whitelist it, or take it out of the list" for listing in listed]
        return planner.result

    def whitelist(
        self, items: Iterable[WhitelistItem], *, state: str = "present", lift: bool = True, dry_run: bool = False
    ) -> Result:
        """Add (`present`), remove (`absent`) or set (`exact`) whitelist entries.

        `exact` leaves what another kind of writer made: the configuration's entries, or all but those. With `lift`
        blocks wholly inside an entry end.
        """
        wanted, refused = self._sift(items, lambda item: item.network)
        networks = [item.network for item in wanted]
        with self._planning(dry_run, only_lifts=state == "absent") as planner:
            planner.result.refused += refused
            self._read_whitelist(planner.state)
            if state == "absent":
                planner.whitelist_remove(networks)
                return planner.result
            planner.whitelist_add(wanted)
            if state == "exact":
                planner.whitelist_keep_only(networks)
            planner.warn_of_wide_whitelist()
            if lift and wanted:
                self._read_blocks(planner.state)
                planner.lift_whitelisted()
        return planner.result

    def blocklist(
        self,
        name: str,
        netset: Netset,
        directions: Iterable[Direction],
        *,
        sanity: bool = True,
        dry_run: bool = False,
    ) -> Result:
        """Make a blocklist hold exactly these networks, without a gap; what was refused before stays out.

        With `sanity` a list that looks like a mistake or an attack is InvalidInput; an empty one is the caller's will.
        """
        valid_list_name(name)
        with self._planning(dry_run) as planner:
            present = self._list_members(planner.state, name)
            if sanity and netset:
                _refuse_insane(netset, present)
            wanted = {}
            for direction in directions:
                for family in self._families:
                    spec = list_set(self._chain, name, family, direction)
                    members = netset.members[family]
                    if members or spec.name in planner.state.sets or (not netset and family == self._families[0]):
                        wanted[spec] = members
            planner.refuse_entries(netset)
            if IPV6 not in self._families:
                planner.result.refused += [Refusal(str(from_key(key)), NO_IPV6) for key in netset.members[IPV6]]
            planner.blocklist(name, wanted, present)
        return planner.result

    def blocklist_members(self, name: str) -> dict[str, set[Key]]:
        """The networks that the kernel holds for a blocklist, by the name of their set."""
        valid_list_name(name)
        return {spec.name: found for spec, found in self._list_members(self._kernel.state(), name).items()}

    def remove_blocklist(self, name: str, *, dry_run: bool = False) -> Result:
        """Remove a blocklist and its rule."""
        valid_list_name(name)
        with self._planning(dry_run, only_lifts=True) as planner:
            planner.blocklist(name, {}, self._list_members(planner.state, name))
        return planner.result

    def flush(
        self, *, scope: Sequence[str] = ("blocks",), rule_name: str | None = None, dry_run: bool = False
    ) -> Result:
        """Lift all blocks, or those of one rule, and empty whatever else is in `scope`; chain and jumps stay."""
        in_order(scope, _SCOPES, "scope")
        if rule_name is not None:
            valid_rule_name(rule_name)
            if "blocks" not in scope:
                raise InvalidInput(f"rule_name '{rule_name}' names blocks only; add blocks to scope, or leave it out")
        with self._planning(dry_run, only_lifts=True) as planner:
            if "blocks" in scope:
                self._read_blocks(planner.state)
                planner.flush_blocks(rule_name)
            if "whitelist" in scope and rule_name is None:
                self._read_whitelist(planner.state)
                planner.flush_whitelist()
            if "blocklists" in scope and rule_name is None:
                planner.flush_blocklists(self._list_members(planner.state))
        return planner.result

    def take_over(self, other: Firewall) -> Result:
        """Move all that another chain holds into this one, then remove that; no packet of a block passes meanwhile.

        KernelError if rules of others use its sets: then the blocks are in force by both chains.
        """
        with other._lock:
            state = other._kernel.state()
            entries = (Role.BLOCK, *GUARDING)
            other._kernel.read(state, (spec.name for spec in state.sets.values() if spec.role in entries))
            now = self._clock()
            moving = [
                (renamed(spec, self._chain), network, held)
                for spec in state.sets.values()
                if spec.role in entries and spec.family in self._families
                for network, held in state.live(spec.name, now)
            ]
            lists = {renamed(spec, self._chain): found for spec, found in other._list_members(state).items()}
            with self._planning(False, look_again=True) as planner:
                sets = planner.state.sets.values()
                self._kernel.read(planner.state, [spec.name for spec in sets if spec.role in entries])
                planner.adopt(moving, lists)
            other.remove()
        return planner.result

    def remove(self, *, dry_run: bool = False) -> Result:
        """Remove jumps, chain and all sets, and nothing else."""
        with self._planning(dry_run, prepare=False) as planner:
            planner.remove()
        return planner.result

    # --- for the next boot -------------------------------------------------------------------------------------

    def save(self, path: Path) -> int:
        """Write what the sets hold to a file; returns the number of entries. Raises OSError too.

        Without the lock, so that nobody waits: an entry that comes or goes meanwhile is in the file or is not.
        """
        return saved.write(path, self._chain, self._sets, self._clock())

    def restore_sets(self, path: Path, rules: Iterable[Path] = boot.SAVED_RULES) -> int:
        """Make the sets what the file says, less what has run out; returns the number of entries. Raises OSError too.

        Other sets that these saved rules name are made, too, and first. The chain is not touched; `ensure` makes it,
        with the hooks that are remembered in the sets.
        """
        with self._lock:
            self._lock.advance()
            self.forget()
            boot.make_named(rules, self._chain, self._sets)
            return saved.restore(path, self._chain, self._sets, self._clock())


def _refuse_insane(netset: Netset, present: Mapping[SetSpec, set[Key]]) -> None:
    """Raise InvalidInput if a list must not replace what its sets hold in either direction."""
    sizes = Counter[Direction]()
    for spec, members in present.items():
        sizes[spec.direction] += len(members)
    why = objection(contents(netset), max(sizes.values(), default=0))
    if why:
        raise InvalidInput(f"{why}; the old list stays. Look at it, and set sanity to false if that is meant")


def _not_to_be_blocked(refused: Sequence[Refusal]) -> str:
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    return (
        f"{refused[0].address} may not be blocked: {refused[0].reason}{more}; leave it out, or set on_protected to skip"
    )
