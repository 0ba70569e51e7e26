# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest
from ngfw.effects.intent import Intent, Item, decode, decode_lookups, decode_positions, encode_positions, merged
from ngfw.effects.journal import Mark
from ngfw.effects.wording import told_of
from ngfw.firewall.address import parse_network
from ngfw.firewall.entry import Action, Block, Direction

from .conftest import decision, end

BLOCK = Block(
    parse_network("2001:db8::/64"),
    Action.RATE_LIMIT,
    Direction.DESTINATION,
    60,
    "Regel ä",
    "warum?",
    "5/second",
    7,
    "P: ",
)
FIRST = Intent(
    positions={"/var/log/eve.json": {"inode": 5, "offset": 10}},
    alerts="alert \ud800 line\n",
    items=[
        Item(
            BLOCK,
            told_of(decision(ip="2001:db8::/64", msg="ä\r\n\ud800", sources=("one", "two")), now=1.5, dry_run=False),
            offence=True,
        ),
        Item(None, end("203.0.113.7")),
    ],
    marks={"blocks.log": Mark(1, 2), "alerts.json": None},
    written_at=1756812285.25,
    lookups=(("203.0.113.7", "High\n0", "{}"),),
)
SECOND = replace(
    FIRST,
    positions={"/var/log/eve.json": {"inode": 5, "offset": 20}},
    alerts="",
    items=[Item(None, end("203.0.113.8"))],
    written_at=1756812285.5,
    settled=True,
    lookups=(),
    done={"blocks.log": 7},
)


@pytest.mark.parametrize("intent", [FIRST, SECOND])
def test_an_intent_survives_its_encoding(intent: Intent) -> None:
    assert decode(intent.encode()) == intent


def test_batches_one_behind_the_other_are_one() -> None:
    whole = decode(FIRST.encode() + SECOND.encode())
    assert whole == merged([FIRST, SECOND])
    assert whole.positions == SECOND.positions
    assert (whole.alerts, whole.items) == (FIRST.alerts, FIRST.items + SECOND.items)
    assert (whole.marks, whole.written_at, whole.settled) == (FIRST.marks, FIRST.written_at, False)
    assert decode_positions(FIRST.encode() + SECOND.encode()) == SECOND.positions
    assert decode_lookups(FIRST.encode() + SECOND.encode()) == FIRST.lookups


@pytest.mark.feature("A2")
def test_a_batch_that_was_cut_off_was_not_announced() -> None:
    first, second = FIRST.encode(), SECOND.encode()
    for size in range(len(first)):
        assert decode(first[:size]) is None
    for size in range(len(second)):
        assert decode(first + second[:size]) == FIRST
        assert decode_positions(first + second[:size]) == FIRST.positions


def test_positions_alone() -> None:
    assert decode_positions(encode_positions({"a": 1})) == {"a": 1}
    assert decode_lookups(encode_positions({"a": 1})) == ()
