# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .address import Key, Network
from .entry import Block, Entry
from .guards import WhitelistEntry, WhitelistItem
from .layout import SetSpec


class Refusal(NamedTuple):
    """An address that was left alone, and why."""

    address: str
    reason: str


@dataclass
class Result:
    """What a request came to.

    `blocked` are new entries, `extended` those whose end or parameters moved (`replaced` has their old forms),
    `unblocked` those lifted, `already` those left as they are; `added`, `removed`, `kept` are the whitelist's,
    `listed`, `unlisted`, `same` a blocklist's, by its sets. `unnamed` counts refusals that are not in `refused`.
    `chain_before` and `chain_after` are lines about the chain itself, `revived` is how many entries were put back into
    sets that somebody had emptied or destroyed, by the names of these.
    """

    blocked: list[Entry] = field(default_factory=list)
    extended: list[Entry] = field(default_factory=list)
    replaced: list[Entry] = field(default_factory=list)
    unblocked: list[Entry] = field(default_factory=list)
    already: list[Block] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    unnamed: int = 0
    added: list[WhitelistEntry] = field(default_factory=list)
    removed: list[WhitelistEntry] = field(default_factory=list)
    kept: list[WhitelistItem] = field(default_factory=list)
    listed: list[tuple[SetSpec, set[Key]]] = field(default_factory=list)
    unlisted: list[tuple[SetSpec, set[Key]]] = field(default_factory=list)
    same: list[tuple[SetSpec, set[Key]]] = field(default_factory=list)
    chain_before: list[str] = field(default_factory=list)
    chain_after: list[str] = field(default_factory=list)
    revived: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    changed: bool = False

    def networks(self) -> dict[str, list[Network]]:
        """The networks by what became of them, each once: blocked, unblocked, added, removed, already.

        Those of blocklists are not among them.
        """
        added = {item.network for item in self.added}
        found: dict[str, Iterable[Network]] = {
            "blocked": (entry.block.network for entry in (*self.blocked, *self.extended)),
            "unblocked": (entry.block.network for entry in self.unblocked),
            "added": (item.network for item in self.added),
            "removed": (item.network for item in self.removed if item.network not in added),
            "already": [*(block.network for block in self.already), *(item.network for item in self.kept)],
        }
        return {kind: list(dict.fromkeys(networks)) for kind, networks in found.items()}
