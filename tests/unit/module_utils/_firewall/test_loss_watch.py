# SPDX-License-Identifier: GPL-3.0-or-later
"""What shrank by others' hands is told from what ran out."""

from __future__ import annotations

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import IPV4, Network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Block, Direction
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.ipset import SetHeader
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.layout import allow_set, block_set
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.state import Held, State
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.watch import UNUSED_SECONDS, Losses, LossWatch

NOW = 1_700_000_000.0
ALLOW = allow_set("NGFW", IPV4)
DROP = block_set("NGFW", Block(Network(bytes(4), 32), direction=Direction.SOURCE))
RATE = block_set("NGFW", Block(Network(bytes(4), 32), Action.RATE_LIMIT))

pytestmark = pytest.mark.feature("S6")


class Sets:
    """Sizes as a test sets them; None for a set that is gone."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = {ALLOW.name: sizes.get("allow"), DROP.name: sizes.get("drop"), RATE.name: 1}

    def header(self, name: str) -> SetHeader | None:
        size = self.sizes[name]
        return None if size is None else SetHeader(name, "hash:net", IPV4, True, size, 1)


def addresses(count: int) -> list[Network]:
    return [Network(number.to_bytes(4, "big"), 32) for number in range(1, count + 1)]


class Desk:
    def __init__(self, *, allow: int, drop: int, ends: float | None = None) -> None:
        self.sets, self.monotonic = Sets(allow=allow, drop=drop), 0.0
        self.watch = LossWatch(self.sets, clock=lambda: self.monotonic)
        self.state = State(
            sets={ALLOW.name: ALLOW, DROP.name: DROP, RATE.name: RATE},
            entries={
                RATE.name: {},
                ALLOW.name: {network: Held(None, "") for network in addresses(allow)},
                DROP.name: {network: Held(ends, "") for network in addresses(drop)},
            },
        )

    def look(self, now: float = NOW) -> Losses:
        return self.watch.look(self.state, now)


def test_nothing_is_missing_while_nothing_changes() -> None:
    desk = Desk(allow=2, drop=3)
    assert desk.look() == desk.look() == Losses()


@pytest.mark.parametrize("left", [0, 1, None])
def test_a_guard_is_missed_at_once(left: int | None) -> None:
    desk = Desk(allow=2, drop=3)
    desk.sets.sizes[ALLOW.name] = left
    assert desk.look() == Losses(sets=(ALLOW.name,))


def test_an_empty_whitelist_is_no_loss() -> None:
    assert Desk(allow=0, drop=3).look() == Losses()


@pytest.mark.parametrize(
    ("count", "left", "lost"), [(3, 0, True), (3, 2, True), (2000, 1999, False), (2000, 900, True)]
)
def test_blocks_taken_out_before_their_time_are_seen(count: int, left: int, lost: bool) -> None:
    desk = Desk(allow=0, drop=count, ends=NOW + 600)
    desk.look()
    desk.sets.sizes[DROP.name] = left
    assert desk.look().blocks == ((DROP.name,) if lost else ())


@pytest.mark.parametrize("count", [3, 2000])
def test_blocks_that_ran_out_are_no_loss(count: int) -> None:
    desk = Desk(allow=0, drop=count, ends=NOW + 1)
    desk.look()
    desk.sets.sizes[DROP.name] = 0
    assert desk.look(NOW + 2).blocks == ()


def test_a_set_that_is_gone_has_to_be_made_again() -> None:
    desk = Desk(allow=0, drop=3)
    desk.sets.sizes[DROP.name] = None
    assert desk.look() == Losses(sets=(DROP.name,))


def test_a_rate_is_unused_after_its_set_was_empty_for_long() -> None:
    desk = Desk(allow=0, drop=0)  # nothing is dropped either, but that set stays
    desk.sets.sizes[RATE.name] = 0
    assert desk.look() == Losses()
    desk.monotonic = UNUSED_SECONDS - 1
    assert desk.look() == Losses()
    desk.sets.sizes[RATE.name] = 1
    desk.look()
    desk.sets.sizes[RATE.name] = 0
    desk.monotonic = UNUSED_SECONDS + 1
    assert desk.look() == Losses()
    desk.monotonic = 2 * UNUSED_SECONDS + 1
    assert desk.look() == Losses(unused=(RATE.name,))


@pytest.mark.feature("S6")
def test_an_unused_set_that_stays_is_not_named_each_second() -> None:
    """A rule of somebody else's uses it: each attempt to remove it reads all rules anew."""
    desk = Desk(allow=0, drop=0)
    desk.sets.sizes[RATE.name] = 0
    named = 0
    for second in range(3 * int(UNUSED_SECONDS)):
        desk.monotonic = second
        named += bool(desk.look().unused)
    assert named == 2
