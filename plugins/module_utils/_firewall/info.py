# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in force, in the form that modules return and the command prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from .address import Network
from .entry import Action, Direction, Entry
from .guards import guard_comment
from .layout import Role, SetSpec, allow_set, own_set
from .state import State, as_entry

GATHER = ("chain", "blocks", "whitelist", "blocklists", "stats")


class Listing(NamedTuple):
    """A network that a blocklist drops, as the narrowest of its networks that covers it."""

    network: Network
    name: str
    direction: Direction
    cover: Network

    def __str__(self) -> str:
        return f"{self.network} is dropped by blocklist {self.name} ({self.direction.value}) as {self.cover}"


@dataclass(frozen=True)
class Info:
    """A state of the kernel at one moment (`now`, seconds since the epoch)."""

    chain: str
    families: Sequence[str]
    backend: str
    state: State
    now: float
    gather: tuple[str, ...] = GATHER

    def to_dict(self) -> dict[str, Any]:
        """The parts asked for, as `ngfw_info` documents them."""
        return {part: getattr(self, part + "_dict")() for part in GATHER if part in self.gather}

    def entries(self) -> list[Entry]:
        """All blocks in force, IPv4 first, sorted by address."""
        found = [
            as_entry(spec, network, held)
            for spec in self._sets(Role.BLOCK)
            for network, held in self.state.live(spec.name, self.now)
        ]
        return sorted(found, key=lambda entry: (len(entry.block.network.packed), entry.block[:3]))

    def chain_dict(self) -> dict[str, Any]:
        present = {family: self.state.chains[family] for family in self.families}
        families = [family for family, chain in present.items() if chain.exists]
        hooks = {hook for family in families for hook in present[family].jumps}
        return {
            "present": bool(families),
            "hooks": sorted(hooks, key=("INPUT", "FORWARD", "OUTPUT").index),
            "backend": self.backend,
            "families": families,
        }

    def blocks_dict(self) -> list[dict[str, Any]]:
        return [block_dict(entry, self.now) for entry in self.entries()]

    def whitelist_dict(self) -> list[dict[str, Any]]:
        found = []
        for family in self.families:
            for name in (allow_set(self.chain, family).name, own_set(self.chain, family).name):
                for network, held in sorted(self.state.live(name, self.now)):
                    origin, comment = guard_comment(held.comment)
                    found.append(
                        {"address": str(network), "family": family, "comment": comment, "origin": origin.value}
                    )
        return found

    def blocklists_dict(self) -> list[dict[str, Any]]:
        return [
            {
                "name": spec.label,
                "family": spec.family,
                "target": spec.direction.value,
                "count": self.state.sizes.get(spec.name, 0),
            }
            for spec in self._sets(Role.LIST)
        ]

    def stats_dict(self) -> dict[str, int]:
        entries = self.entries()
        return {
            "blocks": len(entries),
            "whitelist": sum(1 for item in self.whitelist_dict() if item["origin"] != "protected"),
            "blocklists": len({item["name"] for item in self.blocklists_dict()}),
            "packets": sum(entry.packets for entry in entries),
            "bytes": sum(entry.bytes for entry in entries),
        }

    def _sets(self, role: Role) -> list[SetSpec]:
        return sorted(
            (s for s in self.state.sets.values() if s.role is role and s.family in self.families),
            key=lambda spec: spec.name,
        )


def block_dict(entry: Entry, now: float) -> dict[str, Any]:
    """One block as `ngfw_info.blocks` has it; times are ISO 8601 in UTC, `remaining` is in seconds."""
    block = entry.block
    limited = block.action is Action.RATE_LIMIT
    return {
        "address": str(block.network),
        "family": block.network.family,
        "action": block.action.value,
        "target": block.direction.value,
        "rule_name": block.rule_name,
        "reason": block.reason,
        "origin": entry.origin.value,
        "created_at": _iso(entry.created_at) if entry.created_at else None,
        "expires_at": None if entry.expires_at is None else _iso(entry.expires_at),
        "remaining": None if entry.expires_at is None else max(0, int(entry.expires_at - now)),
        "packets": entry.packets,
        "bytes": entry.bytes,
        "rate": block.rate if limited else None,
        "burst": block.burst if limited else None,
        "log_prefix": block.log_prefix if block.action is Action.LOG else None,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
