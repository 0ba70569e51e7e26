# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel as the watcher uses it, in a dry run as well, and a stand-in for somebody who only looks on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Union

from ..decisions import policy
from ..events.inotify import CLOSE_WRITE, Inotify
from ..firewall import host
from ..firewall.address import Network, parse_network
from ..firewall.entry import Block, Entry, Origin
from ..firewall.errors import FirewallError, SetFull
from ..firewall.firewall import Firewall
from ..firewall.guards import WhitelistItem
from ..firewall.ipset import IpSets
from ..firewall.iptables import Iptables
from ..firewall.layout import Role, parse_set_name
from ..firewall.result import Result
from ..firewall.runner import SystemRunner
from ..firewall.sight import Sight
from ..firewall.watch import CommitWatch, Losses, OutlineWatch, watch
from ..settings.config import Config
from .recorder import Recorder

Alarm = Union[CommitWatch, OutlineWatch]


def inside(config: Config) -> list[Network]:
    """What is inside beside `home_net`: the host's own addresses and, unless it is switched off, its links."""
    own = [network for network, why in host.protected().items() if why == "own address"]
    return [*own, *host.links()] if config.home_links else own


class Enforcement:
    """The chain of the configuration, seen through a mirror that is read once. Methods raise FirewallError."""

    simulated = False
    """Whether blocks are recorded only."""

    def __init__(self, config: Config, *, give_up: Callable[[], bool] = lambda: False) -> None:
        """`give_up` is asked while another writer of the chain is waited for."""
        self._config, self._give_up = config, give_up
        self._firewall = Firewall(
            chain=config.chain,
            families=config.families,
            hooks=config.hooks,
            origin=Origin.WATCHER,
            keep_mirror=True,
            give_up=give_up,
        )
        self._keep_whitelisted()
        self._sets = IpSets()
        self._others: Inotify | None = None
        self._seen: int | None = None
        self.look: Callable[[], policy.Sight] = self._firewall.look

    def prepare(self, earlier: str | None = None) -> list[str]:
        """Make or repair the chain, put the configured whitelist in force; returns what the operator should know.

        `earlier` is the chain of the last run: if it has another name now, what it holds is moved.
        """
        warnings = [*self._firewall.warnings(), *self._firewall.ensure().warnings, *self._whitelist()]
        others = self._firewall.other_chains()
        return warnings + [self._move(chain) if chain == earlier else _beside(chain) for chain in others]

    def _move(self, chain: str) -> str:
        other = self._firewall.beside(chain)
        try:
            moved = len(self._firewall.take_over(other).blocked)
        except FirewallError as error:
            return f"the blocks of chain {chain}, which this watcher had before, stay in force there: {error}"
        finally:
            other.close()
        return f"chain {chain} was removed, after its {moved} blocks had been moved to {self._config.chain}"

    def adopt(self, config: Config) -> list[str]:
        """Put another configuration's whitelist in force, and look for the host's addresses again."""
        self._config = config
        self._keep_whitelisted()
        return [*self._firewall.ensure().warnings, *self._whitelist()]

    def alarm(self) -> Alarm:
        """What notices that somebody changed the rules. Raises OSError where that is not allowed."""
        return watch(Iptables(SystemRunner()).backend(), self.families())

    def repair(self, unused: Collection[str] = ()) -> list[str]:
        """Make chain and guards what they should be, and remove these sets if they are empty; says what was missing."""
        result = self._firewall.ensure(unused=unused)
        found = [
            f"somebody emptied or destroyed the set {name}; its {count} entries are back"
            for name, count in result.revived.items()
        ]
        if result.chain_after or (result.changed and not found):
            found.append("somebody changed our rules or their place; they are as they should be again")
        return found

    def losses(self) -> Losses:
        """What others took out of the sets, without a word to anybody, since the last call."""
        return self._firewall.losses()

    def families(self) -> tuple[str, ...]:
        """The families that can be blocked here."""
        return tuple(each for each in self._config.families if each == "ipv4" or host.has_ipv6())

    def inside(self) -> list[Network]:
        return inside(self._config)

    def entries(self) -> list[Entry]:
        """All blocks in force."""
        return self._firewall.entries()

    def entries_apart(self) -> list[Entry]:
        """The same, through a connection to the kernel of its own: for a thread beside the loop."""
        firewall = Firewall(chain=self._config.chain, families=self._config.families, origin=Origin.WATCHER)
        try:
            return firewall.entries()
        finally:
            firewall.close()

    def holds(self, block: Block) -> bool:
        """Whether the kernel itself holds that entry now."""
        return self._firewall.holds(block)

    def watch_others(self) -> int:
        """A descriptor that becomes readable when another writer of the chain has finished. Raises OSError."""
        self._others = Inotify()
        self._others.add(str(self._firewall.lock_path), CLOSE_WRITE)
        self._seen = self._firewall.changes_by_others()
        return self._others.fileno()

    def lock_was_removed(self) -> bool:
        """Whether somebody removed the lock's file: then watch_others() has to be called again."""
        if not self._firewall.follow_lock():
            return False
        if self._others is not None:
            self._others.close()
            self._others = None
        return True

    def others_wrote(self) -> bool:
        """Whether others changed something under the lock since the last call."""
        if self._others is not None:
            self._others.read()
        before, self._seen = self._seen, self._firewall.changes_by_others()
        return self._seen != before

    def save(self, path: Path) -> None:
        """Write what the sets hold to a file, through a connection to the kernel of its own. Raises OSError too."""
        firewall = Firewall(chain=self._config.chain, families=self._config.families, origin=Origin.WATCHER)
        try:
            firewall.save(path)
        finally:
            firewall.close()

    def active(self) -> int:
        """How many blocks are in force, as the kernel counts them: one that has just ended may be among them."""
        found = 0
        for header in self._sets.headers().values():
            spec = parse_set_name(self._config.chain, header.name)
            if spec is not None and spec.role is Role.BLOCK:
                found += header.elements
        return found

    def apply(self, blocks: Iterable[Block]) -> Result:
        """Put blocks in force in one pass; those that a full set does not take are refused."""
        try:
            return self._firewall.block(blocks, allow_wide=True)
        except SetFull as error:
            result: Result = error.result
            return result

    def lift(self, block: Block) -> list[Entry]:
        """Lift the entry of that network, action and direction; returns what was in force."""
        result = self._firewall.unblock([block.network], action=block.action, directions=(block.direction,))
        return list(result.unblocked)

    def lift_own(self) -> list[Entry]:
        """Lift the blocks that the watcher made, and no others; returns them."""
        forms: dict[tuple[object, ...], list[Block]] = {}
        for entry in self._firewall.entries():
            if entry.origin is Origin.WATCHER:
                forms.setdefault(entry.block[1:3], []).append(entry.block)
        lifted: list[Entry] = []
        for blocks in forms.values():
            first = blocks[0]
            networks = [block.network for block in blocks]
            result = self._firewall.unblock(networks, action=first.action, directions=(first.direction,))
            lifted += result.unblocked
        return lifted

    def clock_was_set(self, seconds: float) -> None:
        """The kernel ends entries by a clock of its own, and the library knows."""

    def close(self) -> None:
        if self._others is not None:
            self._others.close()
        self._sets.close()
        self._firewall.close()

    def _items(self) -> list[WhitelistItem]:
        families = self.families()
        return [WhitelistItem(*each) for each in self._config.guarded.items() if each[0].family in families]

    def _keep_whitelisted(self) -> None:
        self._firewall.keep_whitelisted(self._items())

    def _whitelist(self) -> list[str]:
        config = self._config
        configured = Firewall(
            chain=config.chain,
            families=self.families(),
            hooks=config.hooks,
            origin=Origin.CONFIG,
            give_up=self._give_up,
        )
        try:
            return configured.whitelist(self._items(), state="exact").warnings
        finally:
            configured.close()


def _beside(chain: str) -> str:
    return f"another chain of ours, {chain}, is in force too; 'ngfw explain' shows its blocks, 'ngfw check' what to do"


class _Overlay:
    """The kernel's state with recorded blocks on top."""

    def __init__(self, sight: Sight, recorder: Recorder, clock: Callable[[], float]) -> None:
        self._sight, self._recorder, self._clock = sight, recorder, clock
        self.guard, self.guards_near = sight.guard, sight.guards_near

    def standing(self, block: Block) -> Entry | None:
        recorded, present = self._recorder.standing(block), self._sight.standing(block)
        if recorded is None or (recorded.expires_at is not None and recorded.expires_at <= self._clock()):
            return present or recorded
        return recorded


class DryRun(Enforcement):
    """The chain with its whitelist, protected addresses and blocks of others, kept as always; own blocks are recorded,
    and never given to the kernel.
    """

    simulated = True

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = time.time,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(config, give_up=give_up)
        self._clock, self._recorder = clock, Recorder()
        self.look = self._look

    def entries(self) -> list[Entry]:
        """The own blocks that would be in force; those that were whitelisted meanwhile are lifted."""
        guard = self._firewall.look().guard
        for each in self._recorder.in_force(self._clock()):
            cover = guard(each.block.network)
            if cover is not None and cover.kind != "protected":
                self._recorder.take(each.block)
        return self._recorder.in_force(self._clock())

    def entries_apart(self) -> list[Entry]:
        return self._recorder.in_force(self._clock())

    def holds(self, block: Block) -> bool:
        return self._recorder.standing(block) is not None

    def apply(self, blocks: Iterable[Block]) -> Result:
        return self._recorder.block(blocks, self._look(), self._clock())

    def lift(self, block: Block) -> list[Entry]:
        entry = self._recorder.take(block)
        return [] if entry is None else [entry]

    def lift_own(self) -> list[Entry]:
        return []

    def clock_was_set(self, seconds: float) -> None:
        super().clock_was_set(seconds)
        self._recorder.shift(seconds)

    def _look(self) -> _Overlay:
        return _Overlay(self._firewall.look(), self._recorder, self._clock)


class Rehearsal(Recorder):
    """For somebody who only looks on: the kernel is read, where that is allowed, and never changed."""

    simulated = True

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._config = clock, config
        super().__init__()
        self._guard_by_host()

    def prepare(self, earlier: str | None = None) -> list[str]:
        return []

    def adopt(self, config: Config) -> list[str]:
        self._config = config
        self._guard_by_host()
        return []

    def alarm(self) -> Alarm | None:
        return None

    def repair(self, unused: Collection[str] = ()) -> list[str]:
        self._guard_by_host()
        return []

    def losses(self) -> Losses:
        return Losses()

    def clock_was_set(self, seconds: float) -> None:
        self.shift(seconds)

    def families(self) -> tuple[str, ...]:
        return self._config.families

    def inside(self) -> list[Network]:
        return inside(self._config)

    def entries(self) -> list[Entry]:
        return self.in_force(self._clock())

    def entries_apart(self) -> list[Entry]:
        return self.entries()

    def holds(self, block: Block) -> bool:
        return True

    def lift(self, block: Block) -> list[Entry]:
        entry = self.take(block)
        return [] if entry is None else [entry]

    def lift_own(self) -> list[Entry]:
        return []

    def close(self) -> None:
        """There is nothing to close."""

    def apply(self, blocks: Iterable[Block]) -> Result:
        """Record the blocks as if they were in force from now on."""
        return self.block(blocks, self, self._clock())

    def active(self) -> int:
        return len(self.entries())

    def _guard_by_host(self) -> None:
        config = self._config
        self.guard_by(whitelist={**config.guarded, **_kernel_whitelist(config)}, protected=host.protected())


def _kernel_whitelist(config: Config) -> dict[Network, str]:
    """What is whitelisted in the kernel, as far as this user may look."""
    firewall = Firewall(chain=config.chain, families=config.families, origin=Origin.WATCHER)
    try:
        items = firewall.info(("whitelist",)).whitelist_dict()
        wanted = [item for item in items if item["origin"] != Origin.PROTECTED.value]
        return {parse_network(item["address"]): item["comment"] for item in wanted}
    except FirewallError:
        return {}
    finally:
        firewall.close()
