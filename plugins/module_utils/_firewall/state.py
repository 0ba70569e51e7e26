# SPDX-License-Identifier: GPL-3.0-or-later
"""What is present in the kernel, and the operations that change it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .address import Key, Network
from .entry import Action, Block, Entry, decode_comment
from .iptables import ChainState
from .layout import SetSpec, label_of


class Held(NamedTuple):
    """An entry as a set holds it; `expires_at` in seconds since the epoch, None for permanent."""

    expires_at: float | None
    comment: str
    packets: int = 0
    bytes: int = 0


Entries = dict[Network, Held]


@dataclass
class State:
    """What is present: the chain by family, the sets of this chain, and the entries of those that were read.

    `sizes` has the number of entries of each set, those that ran out and are not yet swept included.
    `parameters` has `RATE/BURST` or the prefix of each log and rate set that has entries; `siblings` are other chains
    of ours on the host; `settled` tells that rules and jumps were found to be, or have been made, as these sets need
    them.
    """

    chains: dict[str, ChainState] = field(default_factory=dict)
    sets: dict[str, SetSpec] = field(default_factory=dict)
    entries: dict[str, Entries] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    siblings: frozenset[str] = frozenset()
    settled: bool = False

    def is_empty(self, families: Collection[str]) -> bool:
        """Whether there is neither a chain nor a set in these families."""
        sets = any(spec.family in families for spec in self.sets.values())
        return not sets and not any(chain.exists for chain in self.chains.values())

    def live(self, name: str, now: float) -> Iterator[tuple[Network, Held]]:
        """The entries of a set that have not run out."""
        for network, held in self.entries.get(name, {}).items():
            if held.expires_at is None or held.expires_at > now:
                yield network, held

    def held(self, name: str, network: Network, now: float) -> Held | None:
        """One entry, if it is there and has not run out."""
        held = self.entries.get(name, {}).get(network)
        return held if held is not None and (held.expires_at is None or held.expires_at > now) else None

    def elsewhere(self, spec: SetSpec, network: Network, now: float) -> tuple[SetSpec, Held] | None:
        """The entry of the same action and direction with another rate or prefix, and its set."""
        if not spec.label:
            return None
        for other in self.sets.values():
            if other.is_like(spec) and other.name != spec.name:
                held = self.held(other.name, network, now)
                if held is not None:
                    return other, held
        return None


@dataclass
class Plan:
    """Operations on the kernel, in the order of these fields; `renew` and `expire` concern protected addresses only."""

    create: list[SetSpec] = field(default_factory=list)
    fill: dict[SetSpec, set[Key]] = field(default_factory=dict)
    renew: dict[str, Entries] = field(default_factory=dict)
    add: dict[str, Entries] = field(default_factory=dict)
    restore: dict[str, str] = field(default_factory=dict)
    delete: dict[str, list[Network]] = field(default_factory=dict)
    expire: dict[str, list[Network]] = field(default_factory=dict)
    destroy: list[SetSpec] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        """Whether carrying it out would change anything but the upkeep of protected addresses."""
        return bool(self.create or self.fill or self.add or self.restore or self.delete or self.destroy)

    @property
    def operations(self) -> bool:
        """Whether there is anything to carry out at all."""
        return self.changes or bool(self.renew or self.expire)


def shared_parameters(spec: SetSpec, comments: Iterable[str]) -> str | None:
    """`RATE/BURST` or the prefix that all entries of a log or rate set have in common; None if no comment tells.

    Others may have written comments into the set, too: the set's name proves which are ours.
    """
    if not spec.label:
        return None
    parameters = (decode_comment(comment).parameters for comment in comments)
    return next((found for found in parameters if label_of(found) == spec.label), None)


def as_entry(spec: SetSpec, network: Network, held: Held) -> Entry:
    """What an entry of a block set means."""
    note = decode_comment(held.comment)
    block = Block(network, spec.action, spec.direction, note.duration, note.rule_name, note.reason)
    parameters = shared_parameters(spec, (held.comment,))
    if parameters is not None and spec.action is Action.LOG:
        block = block._replace(log_prefix=parameters)
    elif parameters is not None and spec.action is Action.RATE_LIMIT:
        rate, _slash, burst = parameters.rpartition("/")
        block = block._replace(rate=rate, burst=int(burst))
    return Entry(block, note.origin, float(note.created_at), held.expires_at, held.packets, held.bytes)
