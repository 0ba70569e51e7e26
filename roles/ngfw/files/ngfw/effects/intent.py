# SPDX-License-Identifier: GPL-3.0-or-later
"""What a batch is going to do, as it is announced before it has any effect.

Format: a line of JSON for each batch, {version, written_at, settled, positions, marks, done, lookups, alerts, kinds,
items}. An item is [ip, ts, of_record's fields, the number of its kind], and a kind what many items have in common: [the
block without its network, offence, the rest of what is told]. A last line that was cut off is of a batch that had no
effect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from ..decisions.decision import What
from ..firewall.address import parse_network
from ..firewall.entry import Action, Block, Direction
from .journal import Mark
from .wording import Told

VERSION = 1

_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

Lookup = tuple[str, str, str]
"""An answer that a decision hangs on: address, key and text of its case."""


class Item(NamedTuple):
    """One decision of a batch: the block it wants (None for a skip), and what is told of it if the kernel takes it.

    What is told names the block's network. `offence`: the next block of that network is longer because of this one.
    """

    block: Block | None
    told: Told
    offence: bool = False


@dataclass(frozen=True)
class Intent:
    """A batch that is decided: where reading goes on after it, and all its effects.

    `alerts` is the text for alert.log, which does not depend on the kernel. `marks` says where each journal ended
    before; None: it could not be written. `written_at` is in epoch seconds. `settled`: the kernel has answered, and
    what is told is what it did. `done` counts the lines of each journal that stand before its mark already.
    """

    positions: dict[str, Any]
    alerts: str
    items: list[Item]
    marks: dict[str, Mark | None]
    written_at: float
    settled: bool = False
    lookups: tuple[Lookup, ...] = ()
    done: Mapping[str, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        kinds: dict[tuple[Any, ...], int] = {}
        items = []
        for block, told, offence in self.items:
            kind = (None if block is None else block[1:], offence, told[3:])
            items.append((*told[:2], *told.of_record, kinds.setdefault(kind, len(kinds))))
        fields = {
            "version": VERSION,
            "written_at": self.written_at,
            "settled": self.settled,
            "positions": self.positions,
            "marks": self.marks,
            "done": self.done,
            "lookups": self.lookups,
            "alerts": self.alerts,
            "kinds": list(kinds),
            "items": items,
        }
        return _json(fields).encode() + b"\n"


def merged(intents: Sequence[Intent]) -> Intent:
    """Batches that were announced one after the other, as one."""
    first, last = intents[0], intents[-1]
    if first is last:
        return first
    return Intent(
        last.positions,
        "".join(intent.alerts for intent in intents),
        [item for intent in intents for item in intent.items],
        first.marks,
        first.written_at,
        all(intent.settled for intent in intents),
        tuple(chain.from_iterable(intent.lookups for intent in intents)),
        first.done,
    )


def decode(data: bytes) -> Intent | None:
    """The batches in a file, as one; None if it holds no whole one. Raises ValueError, KeyError or TypeError for
    anything that is not encode()'s.
    """
    intents = [_intent(_object(line)) for line in _lines(data)]
    return merged(intents) if intents else None


def decode_positions(data: bytes) -> dict[str, Any]:
    """Where reading goes on after the last batch in a file; raises as decode() does, IndexError if there is none."""
    return _positions(_object(_lines(data)[-1]))


def decode_lookups(data: bytes) -> tuple[Lookup, ...]:
    """What the batches in a file left to answers; raises as decode() does."""
    return tuple(lookup for line in _lines(data) for lookup in _lookups(_object(line)))


def encode_positions(positions: dict[str, Any]) -> bytes:
    """What decode_positions() reads, of no batch."""
    return json.dumps({"version": VERSION, "positions": positions}).encode() + b"\n"


def block_fields(block: Block) -> list[Any]:
    """A block as JSON keeps it."""
    return [str(block.network), *block[1:]]


def block_of(fields: list[Any]) -> Block:
    """The block that block_fields() turned into this. Raises ValueError or TypeError."""
    network, action, direction, duration, rule_name, reason, rate, burst, log_prefix = fields
    return Block(
        parse_network(network),
        Action(action),
        Direction(direction),
        int(duration),
        str(rule_name),
        str(reason),
        str(rate),
        int(burst),
        str(log_prefix),
    )


def _lines(data: bytes) -> list[bytes]:
    """The whole lines of a file."""
    return data.split(b"\n")[:-1]


def _intent(fields: dict[str, Any]) -> Intent:
    return Intent(
        positions=_positions(fields),
        alerts=str(fields["alerts"]),
        items=[_item(item, *fields["kinds"][item[-1]]) for item in fields["items"]],
        marks={name: None if mark is None else Mark(*map(int, mark)) for name, mark in fields["marks"].items()},
        written_at=float(fields["written_at"]),
        settled=bool(fields["settled"]),
        lookups=_lookups(fields),
        done={name: int(count) for name, count in fields["done"].items()},
    )


def _item(own: list[Any], block: list[Any] | None, offence: object, common: list[Any]) -> Item:
    ip, ts, *of_record, _kind = own
    at, action, (*what, sources), *others = common
    told = Told(ip, ts, tuple(of_record), at, action, What._make((*what, tuple(sources))), *others)
    return Item(None if block is None else block_of([told.ip, *block]), told, bool(offence))


def _object(line: bytes) -> dict[str, Any]:
    fields = json.loads(line.decode())
    if not isinstance(fields, dict):
        raise TypeError("not an object")
    if fields["version"] != VERSION:
        raise ValueError(f"version {fields['version']!r}, this program writes {VERSION}")
    return fields


def _positions(fields: dict[str, Any]) -> dict[str, Any]:
    positions = fields["positions"]
    if not isinstance(positions, dict):
        raise TypeError("positions: not an object")
    return positions


def _lookups(fields: dict[str, Any]) -> tuple[Lookup, ...]:
    return tuple((str(address), str(key), str(text)) for address, key, text in fields.get("lookups", ()))
