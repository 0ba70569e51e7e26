# SPDX-License-Identifier: GPL-3.0-or-later
"""What a batch is going to do, as it is announced before it has any effect.

Format: a line of JSON, {version, written_at, settled, positions, marks, lookups, alerts, items, size}, and `size` bytes
of UTF-8 after it: the alerts' text, then of each item its text and its record. The line has their lengths in
characters: `alerts`, and [block, offence, length of text, length of record] of each item. Several batches stand one
behind the other; a last one that was cut off had no effect yet.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from typing import Any, NamedTuple

from ..firewall.address import parse_network
from ..firewall.entry import Action, Block, Direction
from .journal import Mark
from .wording import Lines

VERSION = 1

_json = json.JSONEncoder(separators=(",", ":")).encode

Lookup = tuple[str, str, str]
"""An answer that a decision hangs on: address, key and text of its case."""


class Item(NamedTuple):
    """One decision of a batch: the block it wants (None for a skip) and its lines if the kernel takes it.

    `offence`: the next block of that network is longer because of this one.
    """

    block: Block | None
    lines: Lines
    offence: bool = False


@dataclass(frozen=True)
class Intent:
    """A batch that is decided: where reading goes on after it, and all its effects.

    `alerts` is the text for alert.log, which does not depend on the kernel. `marks` says where each journal ended
    before; None: it could not be written. `written_at` is in epoch seconds. `settled`: the kernel has answered, and
    the lines say what it did.
    """

    positions: dict[str, Any]
    alerts: str
    items: list[Item]
    marks: dict[str, Mark | None]
    written_at: float
    settled: bool = False
    lookups: tuple[Lookup, ...] = ()

    def encode(self) -> bytes:
        texts = [self.alerts]
        items = []
        for block, (text, record), offence in self.items:
            texts += (text, record)
            items.append((None if block is None else block_fields(block), offence, len(text), len(record)))
        body = "".join(texts).encode("utf-8", "surrogatepass")
        head = {
            "version": VERSION,
            "written_at": self.written_at,
            "settled": self.settled,
            "positions": self.positions,
            "marks": self.marks,
            "lookups": self.lookups,
            "alerts": len(self.alerts),
            "items": items,
            "size": len(body),
        }
        return _json(head).encode() + b"\n" + body


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
    )


def decode(data: bytes) -> Intent:
    """The batches in a file, as one. Raises ValueError, KeyError or TypeError for anything that is not encode()'s."""
    return merged([_intent(fields, body) for fields, body in _records(data)])


def decode_positions(data: bytes) -> dict[str, Any]:
    """Where reading goes on after the last batch in a file; raises as decode() does."""
    return _positions(_records(data)[-1][0])


def decode_lookups(data: bytes) -> tuple[Lookup, ...]:
    """What the batches in a file left to answers; raises as decode() does."""
    return tuple(lookup for fields, _body in _records(data) for lookup in _lookups(fields))


def encode_positions(positions: dict[str, Any]) -> bytes:
    """What decode_positions() reads, of no batch."""
    return json.dumps({"version": VERSION, "positions": positions, "size": 0}).encode() + b"\n"


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


def _records(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """The line of each batch in a file, and the bytes that belong to it; there is at least one."""
    found: list[tuple[dict[str, Any], bytes]] = []
    at = 0
    while at < len(data) or not found:
        end = data.find(b"\n", at)
        whole = end >= 0
        if whole:
            fields = _object(data[at:end])
            at = end + 1 + int(fields["size"])
            whole = at <= len(data)
        if not whole:
            if found:
                break
            raise ValueError("it was cut off")
        found.append((fields, data[end + 1 : at]))
    return found


def _intent(fields: dict[str, Any], body: bytes) -> Intent:
    text = StringIO(body.decode("utf-8", "surrogatepass"), newline="")
    alerts = text.read(int(fields["alerts"]))
    items = [
        Item(
            None if block is None else block_of(block),
            Lines(text.read(int(line)), text.read(int(record))),
            bool(offence),
        )
        for block, offence, line, record in fields["items"]
    ]
    marks = {name: None if mark is None else Mark(*map(int, mark)) for name, mark in fields["marks"].items()}
    moment, settled = float(fields["written_at"]), bool(fields["settled"])
    return Intent(_positions(fields), alerts, items, marks, moment, settled, _lookups(fields))


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
