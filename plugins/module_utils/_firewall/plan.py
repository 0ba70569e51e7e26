# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is present and what is asked for to the operations between them. Pure: no kernel, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from .address import Key, Network, NetworkSet, merge
from .duration import is_longer
from .entry import Action, Block, Direction, Entry, Note, Origin, decode_comment, encode_comment
from .guards import Guards, WhitelistEntry, WhitelistItem, guard_comment, guard_note, guard_text
from .layout import Role, SetSpec, allow_set, block_set, filling
from .netset import Netset
from .result import Refusal
from .sanity import refuse_wide, shares
from .state import Held, as_entry
from .text import shown
from .upkeep import Upkeep

_WARNED = 20
_NAMED_RULES = 10


class Planner(Upkeep):
    """Fills one plan and its result for one request."""

    @cached_property
    def _alike(self) -> dict[tuple[object, ...], Held]:
        """What sets hold of the blocks so far; those that differ by their address only hold the same."""
        return {}

    def fresh(self, block: Block) -> Held:
        """A block as its set holds it, if it begins now."""
        return self._held(block, None if block.duration == 0 else self.now + block.duration)

    # --- blocks ------------------------------------------------------------------------------------------------

    def block(
        self, blocks: Iterable[Block], guards: Guards, *, refresh: bool = False, purge: str = "", later: bool = False
    ) -> None:
        """Plan entries for blocks; those wholly inside a guard are refused.

        `refresh` restarts the clock of those in force, `later` moves an end only if that makes it later, `purge` is
        the name of the rule whose other entries are lifted.
        """
        unique: dict[tuple[Network, Action, Direction], Block] = {}
        for block in blocks:
            other = unique.setdefault(block[:3], block)
            if other is not block and is_longer(block.duration, other.duration):
                unique[block[:3]] = block
        refused: dict[Network, Refusal] = {}
        for block in unique.values():
            guard = guards.covering(block.network)
            if guard is not None:
                refused[block.network] = Refusal(str(block.network), str(guard))
                continue
            self._block(block_set(self._chain, block), block, refresh, later)
        self.result.refused += refused.values()
        if purge:
            for spec, network, held in self._block_entries():
                note = decode_comment(held.comment)
                if note.rule_name == purge and (network, spec.action, spec.direction) not in unique:
                    self._lift(spec, network, held)

    def refuse_wide(self, blocks: Iterable[Block], purge: str) -> None:
        """Raise InvalidInput if these blocks make those of one action and direction cover too much.

        Those of the rule `purge` are on their way out.
        """
        kinds: dict[tuple[Action, Direction], list[Network]] = {}
        for block in blocks:
            kinds.setdefault((block.action, block.direction), []).append(block.network)
        for kind, wanted in kinds.items():
            specs = [spec for spec in self._block_sets() if (spec.action, spec.direction) == kind]
            present = [
                network
                for spec in specs
                for network, held in self.state.live(spec.name, self.now)
                if not purge or decode_comment(held.comment).rule_name != purge
            ]
            refuse_wide(wanted, present)

    def unblock(self, networks: Iterable[Network], action: Action | None, directions: Iterable[Direction]) -> None:
        """Plan the end of exactly these entries, in every form asked for; warns of networks around them that stay."""
        directions = tuple(directions)
        specs = [s for s in self._block_sets() if action in (None, s.action) and s.direction in directions]
        wanted = dict.fromkeys(networks)
        for network in wanted:
            found = False
            for spec in specs:
                held = self.state.held(spec.name, network, self.now)
                if held is not None:
                    found = True
                    self._lift(spec, network, held)
            if not found:
                self.result.already.append(Block(network))
        gone = {(name, network) for name, networks in self.plan.delete.items() for network in networks}
        wide = NetworkSet(
            network
            for spec, network, _held in self._block_entries()
            if spec.action.stops_packets and not network.is_host and (spec.name, network) not in gone
        )
        inside = [(network, other) for network in wanted if (other := wide.covering(network)) not in (None, network)]
        self.result.warnings += [
            f"{network} is still inside the blocked network {other}; unblock that, or whitelist {network}"
            for network, other in inside[:_WARNED]
        ]
        if len(inside) > _WARNED:
            self.result.warnings.append(f"{len(inside) - _WARNED} more addresses are still inside blocked networks")

    def lift_whitelisted(self) -> None:
        """Plan the end of all blocks that lie wholly inside an entry of the whitelist, as it is going to be."""
        guards = NetworkSet(merge(self._whitelist_to_be()))
        for spec, network, held in self._block_entries():
            if guards.covering(network) is not None:
                self._lift(spec, network, held)

    def flush_blocks(self, rule_name: str | None) -> None:
        """Plan the end of all blocks, or of those of one rule; warns if that rule has none."""
        others: Counter[str] = Counter()
        for spec, network, held in self._block_entries():
            name = decode_comment(held.comment).rule_name
            if rule_name is None or name == rule_name:
                self._lift(spec, network, held)
            else:
                others[name] += 1
        if rule_name is not None and not self.result.unblocked:
            self.result.warnings.append(_no_block_of(rule_name, others))

    def adopt(self, entries: Iterable[tuple[SetSpec, Network, Held]], lists: Mapping[SetSpec, set[Key]]) -> None:
        """Plan what another chain holds, under the names of this one: ends, rules, reasons and origins stay.

        Of an entry that is in both the later end counts. What blocklists hold here already stays. Which addresses are
        protected for good is looked up anew; an SSH peer is seen by its own session only.
        """
        for spec, network, held in entries:
            if spec.role is Role.OWN and held.expires_at is None:
                continue
            present = self.plan.renew.get(spec.name, {}).get(network) or self.state.held(spec.name, network, self.now)
            elsewhere = self.state.elsewhere(spec, network, self.now)
            present = elsewhere[1] if present is None and elsewhere else present
            if present is not None and (present.expires_at is None or not _outlasts(held, present)):
                continue
            if elsewhere:
                self.plan.delete.setdefault(elsewhere[0].name, []).append(network)
            self._need(spec)
            self.plan.add.setdefault(spec.name, {})[network] = held
            if spec.role is Role.BLOCK:
                self.result.blocked.append(as_entry(spec, network, held))
        self.plan.fill.update((spec, members) for spec, members in lists.items() if spec.name not in self.state.sets)

    # --- whitelist ---------------------------------------------------------------------------------------------

    def whitelist_add(self, items: Iterable[WhitelistItem]) -> None:
        """Plan whitelist entries; a new comment replaces the old one, the last of an address counts.

        What is in the configuration belongs to it, whoever added it first.
        """
        for item in {item.network: item for item in items}.values():
            network = item.network
            name = allow_set(self._chain, network.family).name
            wanted = WhitelistEntry(network, guard_text(item.comment), self._origin)
            held = self.state.held(name, network, self.now)
            if held is not None:
                origin, comment = guard_comment(held.comment)
                present = WhitelistEntry(network, comment, origin)
                owner = Origin.CONFIG if Origin.CONFIG in (origin, self._origin) else origin
                wanted = WhitelistEntry(network, wanted.comment or comment, owner)
                if wanted == present:
                    self.result.kept.append(item)
                    continue
                self.result.removed.append(present)
            self.plan.add.setdefault(name, {})[network] = Held(None, guard_note(wanted.origin, wanted.comment))
            self.result.added.append(wanted)

    def whitelist_remove(self, networks: Iterable[Network]) -> None:
        """Plan the end of exactly these whitelist entries."""
        for network in dict.fromkeys(networks):
            name = allow_set(self._chain, network.family).name
            held = self.state.held(name, network, self.now)
            if held is None:
                self.result.kept.append(WhitelistItem(network))
                continue
            self._unlist(name, network, held)

    def whitelist_keep_only(self, networks: Iterable[Network]) -> None:
        """Plan the end of all other entries of the same kind of writer: of the configuration's, or of the rest."""
        keep = set(networks)
        for family in self._families:
            name = allow_set(self._chain, family).name
            for network, held in self.state.live(name, self.now):
                from_config = guard_comment(held.comment)[0] is Origin.CONFIG
                if network not in keep and from_config == (self._origin is Origin.CONFIG):
                    self._unlist(name, network, held)

    def blocklist(self, name: str, members: Mapping[SetSpec, set[Key]], present: Mapping[SetSpec, set[Key]]) -> None:
        """Plan a blocklist's sets to hold exactly these; sets of that name in another direction go."""
        for spec, wanted in members.items():
            held = present.get(spec, set())
            self._count_list(spec, wanted - held, held - wanted, wanted & held)
            if wanted != held or spec.name not in self.state.sets:
                self.plan.fill[spec] = wanted
        in_use = {*members, *map(filling, self.plan.fill)}
        for spec in self.state.sets.values():
            of_list = spec.role in (Role.LIST, Role.FILLING) and spec.label == name and spec.family in self._families
            if of_list and spec not in in_use:
                self._count_list(spec, set(), present.get(spec, set()), set())
                self.plan.destroy.append(spec)

    def refuse_entries(self, netset: Netset) -> None:
        """Name what was left out of a list as it was read."""
        self.result.refused += [Refusal(each.entry, each.reason) for each in netset.refused]
        self.result.unnamed += netset.refusals - len(netset.refused)
        if netset.refused:
            first = netset.refused[0]
            self.result.warnings.append(
                f"{netset.refusals} entries of the list were left out, the first: '{first.entry}': {first.reason}"
            )

    def flush_blocklists(self, present: Mapping[SetSpec, set[Key]]) -> None:
        """Plan all blocklists to be empty."""
        for spec, held in present.items():
            if held:
                self._count_list(spec, set(), held, set())
                self.plan.fill[spec] = set()

    def warn_of_wide_whitelist(self) -> None:
        """Say so if the whitelist, as it is going to be, is much of the address space."""
        excess = shares(self._whitelist_to_be()).excess()
        if excess and self.result.added:
            self.result.warnings.append(f"the whitelist covers {excess}; no block of these has an effect")

    def flush_whitelist(self) -> None:
        """Plan the end of the whole whitelist."""
        for family in self._families:
            name = allow_set(self._chain, family).name
            for network, held in self.state.live(name, self.now):
                self._unlist(name, network, held)

    # --- inner steps -------------------------------------------------------------------------------------------

    def _whitelist_to_be(self) -> list[Network]:
        found: list[Network] = []
        for family in self._families:
            name = allow_set(self._chain, family).name
            gone = set(self.plan.delete.get(name, ()))
            found += (network for network, _held in self.state.live(name, self.now) if network not in gone)
            found += self.plan.add.get(name, ())
        return found

    def _block_sets(self) -> list[SetSpec]:
        return [s for s in self.state.sets.values() if s.role is Role.BLOCK and s.family in self._families]

    def _block_entries(self) -> Iterator[tuple[SetSpec, Network, Held]]:
        for spec in self._block_sets():
            for network, held in list(self.state.live(spec.name, self.now)):
                yield spec, network, held

    def _block(self, spec: SetSpec, block: Block, refresh: bool, later: bool) -> None:
        now = self.now
        held = self.state.held(spec.name, block.network, now)
        elsewhere = None if held is not None else self.state.elsewhere(spec, block.network, now)
        present = held if elsewhere is None else elsewhere[1]
        end = None if block.duration == 0 else now + block.duration
        if present is None:
            self._put(spec, block, end)
            self.result.blocked.append(Entry(block, self._origin, now, end))
            return
        note = decode_comment(present.comment)
        if later or (not note.duration and present.expires_at is not None):
            extends = present.expires_at is not None and (end is None or end > present.expires_at)
        else:
            extends = is_longer(block.duration, note.duration if present.expires_at is not None else 0)
        if not (extends or refresh or elsewhere):
            self.result.already.append(block)
            return
        if not (extends or refresh):  # only the parameters are new
            block = block._replace(duration=note.duration, rule_name=note.rule_name, reason=note.reason)
            end = present.expires_at
        self.result.replaced.append(as_entry(elsewhere[0] if elsewhere else spec, block.network, present))
        if elsewhere is not None:
            self.plan.delete.setdefault(elsewhere[0].name, []).append(block.network)
        self._put(spec, block, end)
        self.result.extended.append(Entry(block, self._origin, now, end))

    def _put(self, spec: SetSpec, block: Block, end: float | None) -> None:
        self._need(spec)
        self.plan.add.setdefault(spec.name, {})[block.network] = self._held(block, end)

    def _held(self, block: Block, end: float | None) -> Held:
        """What a set holds of a block: the same for all that differ by their address only."""
        kind = (end, block[1:])
        held = self._alike.get(kind)
        if held is None:
            note = Note(self._origin, int(self.now), block.duration, block.rule_name, block.parameters, block.reason)
            held = self._alike[kind] = Held(end, encode_comment(note))
        return held

    def _lift(self, spec: SetSpec, network: Network, held: Held) -> None:
        self.plan.delete.setdefault(spec.name, []).append(network)
        self.result.unblocked.append(as_entry(spec, network, held))

    def _count_list(self, spec: SetSpec, added: set[Key], removed: set[Key], kept: set[Key]) -> None:
        for counted, members in (
            (self.result.listed, added),
            (self.result.unlisted, removed),
            (self.result.same, kept),
        ):
            counted.append((spec, members))

    def _unlist(self, name: str, network: Network, held: Held) -> None:
        origin, comment = guard_comment(held.comment)
        self.plan.delete.setdefault(name, []).append(network)
        self.result.removed.append(WhitelistEntry(network, comment, origin))


def _no_block_of(rule_name: str, others: Mapping[str, int]) -> str:
    """That a rule has no block in force, and which rules have."""
    import difflib  # most runs need none of it

    near = difflib.get_close_matches(rule_name, others, n=1)
    hint = f"; did you mean '{shown(near[0])}'?" if near else ""
    named = ", ".join(f"'{shown(name)}' ({others[name]})" for name in sorted(others)[:_NAMED_RULES])
    more = f" and {len(others) - _NAMED_RULES} more" if len(others) > _NAMED_RULES else ""
    return f"rule '{rule_name}' has no block in force{hint}; those in force are of {named or 'no rule'}{more}"


def _outlasts(first: Held, second: Held) -> bool:
    return first.expires_at is None or (second.expires_at is not None and first.expires_at > second.expires_at)
