# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import time
from typing import Any

import pytest
from ngfw.effects.journal import Mark
from ngfw.effects.wording import Told
from ngfw.firewall.address import Network, parse_network
from ngfw.firewall.entry import Action, Block, Entry, Origin
from ngfw.firewall.guards import Guard
from ngfw.metrics import Metrics
from ngfw.running import expiry
from ngfw.running.catchup import compare
from ngfw.running.endings import EARLY_SECONDS, Endings
from ngfw.running.expiry import Expiries

NOW = 1_756_812_285.0
A, B = "203.0.113.1", "203.0.113.2"


def entry(address: str, ends: float | None = NOW + 60, origin: Origin = Origin.WATCHER, **changes: Any) -> Entry:
    block = Block(parse_network(address), **{"duration": 60, "rule_name": "High", "reason": "RULE High", **changes})
    return Entry(block, origin, NOW, ends)


class Kernel:
    """What the kernel holds by its mirror, what of it was lifted unseen, and who is whitelisted."""

    def __init__(self) -> None:
        self.held: dict[Any, Entry] = {}
        self.unseen: set[Any] = set()
        self.allowed: set[Network] = set()

    def put(self, *entries: Entry) -> None:
        self.held.update({each.block[:3]: each for each in entries})

    def look(self) -> Kernel:
        """What is held changes between two calls only."""
        return self

    def entries(self) -> list[Entry]:
        return list(self.held.values())

    def holds(self, block: Block) -> bool:
        return block[:3] in self.held and block[:3] not in self.unseen

    def standing(self, block: Block) -> Entry | None:
        return self.held.get(block[:3])

    def guard(self, network: Network) -> Guard | None:
        return Guard("whitelisted", network, "") if network in self.allowed else None


class Setup:
    def __init__(self) -> None:
        self.now = NOW
        self.kernel, self.metrics = Kernel(), Metrics()
        self.ends: list[Told] = []
        self.endings = Endings(self.kernel, self.metrics, journal=self.ends.extend, clock=lambda: self.now)

    def block(self, *entries: Entry) -> None:
        self.kernel.put(*entries)
        self.endings.add(entries)

    def pass_time(self, to: float) -> None:
        """As the loop does: be called when there is something to do, and not otherwise."""
        while (moment := self.endings.next()) is not None and moment <= to:
            self.now = max(self.now, moment)
            for key, held in list(self.kernel.held.items()):
                if held.expires_at is not None and held.expires_at <= self.now:
                    del self.kernel.held[key]
            self.endings.expire()
        self.now = to

    def told(self) -> list[tuple[str, str, str]]:
        return [(each.action, each.ip, each.what.reason) for each in self.ends]


@pytest.fixture
def setup() -> Setup:
    return Setup()


@pytest.mark.feature("D1")
def test_a_block_expires_once(setup: Setup) -> None:
    setup.block(entry(A), entry(B, None, duration=0))
    setup.pass_time(NOW + 59.9)
    assert setup.told() == []
    assert len(setup.endings) == 2
    setup.pass_time(NOW + 100)
    assert setup.told() == [("expire", A, "RULE High")]
    assert len(setup.endings) == 1
    assert setup.metrics.blocks_expired == 1


@pytest.mark.feature("S7")
@pytest.mark.parametrize("step", [-86400.0, -30.0, 30.0, 10 * 365 * 86400.0])
def test_a_block_ends_when_the_kernel_ends_it_whatever_the_clock_says(setup: Setup, step: float) -> None:
    setup.block(entry(A), entry(B, NOW + 90))
    setup.pass_time(NOW + 20)
    setup.now += step
    setup.kernel.held = {
        key: held._replace(expires_at=held.expires_at + step) for key, held in setup.kernel.held.items()
    }
    setup.endings.shift(step)
    setup.pass_time(NOW + step + 59.9)
    assert setup.told() == []
    setup.pass_time(NOW + step + 60.1)
    assert setup.told() == [("expire", A, "RULE High")]
    setup.pass_time(NOW + step + 100)
    assert setup.told() == [("expire", A, "RULE High"), ("expire", B, "RULE High")]
    assert setup.metrics.blocks_removed == 0


@pytest.mark.feature("S7")
def test_a_block_that_is_about_to_end_ends_after_the_clock_was_set(setup: Setup) -> None:
    setup.block(entry(A))
    setup.pass_time(NOW + 60 - EARLY_SECONDS / 2)
    setup.now -= 3600
    setup.endings.shift(-3600)
    setup.pass_time(NOW - 3600 + 60.1)
    assert setup.told() == [("expire", A, "RULE High")]


def test_a_block_that_was_lifted_unseen_does_not_expire(setup: Setup) -> None:
    setup.block(entry(A))
    setup.kernel.unseen.add(entry(A).block[:3])
    setup.pass_time(NOW + 60 - EARLY_SECONDS / 2)
    assert setup.told() == [("unblock", A, "lifted by hand or by a module")]
    assert (setup.metrics.blocks_removed, setup.metrics.blocks_expired) == (1, 0)


def test_the_end_of_a_block_that_turns_out_to_be_gone_is_told_once(setup: Setup) -> None:
    setup.block(entry(A), entry(B, NOW + 5))
    setup.now = NOW + 6
    first, second = (entry(address).block[:3] for address in (A, B))
    found = setup.endings.unseen([first, second])
    assert list(found) == [first], "the other has expired, which is told elsewhere"
    assert found[first].action == "unblock"
    assert setup.endings.unseen([first, second]) == {}


def test_what_others_lift_prolong_or_take_over(setup: Setup) -> None:
    setup.block(entry(A), entry(B), entry("203.0.113.3"), entry("203.0.113.4", NOW + 0.5))
    setup.kernel.allowed.add(parse_network(A))
    setup.kernel.held.clear()
    setup.kernel.put(entry(B, NOW + 90, Origin.MODULE), entry("203.0.113.9", origin=Origin.MODULE))
    setup.endings.compare()
    assert setup.told() == [
        ("unblock", A, f"whitelist: {A}"),
        ("unblock", "203.0.113.3", "lifted by hand or by a module"),
        ("expire", "203.0.113.4", "RULE High"),
    ]
    setup.pass_time(NOW + 80)
    assert len(setup.ends) == 3
    setup.pass_time(NOW + 200)
    assert setup.told()[3:] == [("expire", B, "RULE High")]


def test_an_end_that_moves_in_the_last_moment(setup: Setup) -> None:
    setup.block(entry(A))
    setup.pass_time(NOW + 60 - EARLY_SECONDS / 2)
    setup.block(entry(A, NOW + 120))
    setup.pass_time(NOW + 119)
    assert setup.told() == []
    # What is blocked anew after its end has ended before.
    again = entry(A, NOW + 300)._replace(created_at=NOW + 121)
    setup.block(again)
    setup.pass_time(NOW + 299)
    assert setup.told() == [("expire", A, "RULE High")]


def test_what_the_mirror_knows_of_a_later_end_counts(setup: Setup) -> None:
    setup.block(entry(A))
    setup.kernel.put(entry(A, NOW + 120))
    setup.pass_time(NOW + 100)
    assert setup.told() == []
    setup.pass_time(NOW + 130)
    assert setup.told() == [("expire", A, "RULE High")]


def test_what_the_watcher_lifts_itself(setup: Setup) -> None:
    setup.endings.adopt(Expiries(), [])
    setup.block(entry(A), entry(B))
    setup.endings.lifted([entry(A), entry("203.0.113.9")], "on_stop: flush")
    assert setup.told() == [("unblock", A, "on_stop: flush")]
    (told,) = setup.endings.unseen([entry(address).block[:3] for address in ("203.0.113.9", B)]).values()
    assert (told.action, told.ip) == ("unblock", B)
    assert len(setup.endings) == 0


def test_what_is_in_force_is_kept_and_followed_through_the_journal(setup: Setup) -> None:
    blocks = Expiries()
    blocks.add([entry(A), entry(A, action=Action.LOG, log_prefix="X: "), entry(B, None, duration=0)])
    rows, mark = expiry.decode(expiry.encode(blocks.entries(), Mark(7, 9)))
    entries = list(expiry.entries_of(rows))
    assert (entries, mark) == (blocks.entries(), Mark(7, 9))
    assert expiry.decode(expiry.encode([], None)) == ([], None)

    def line(action: str, ip: str, ends: float | None = NOW + 60, **changes: Any) -> bytes:
        moment = None if ends is None else f"2025-09-02T11:{24 + int(ends - NOW) // 60}:45.000Z"
        fields = {"ts": "2025-09-02T11:24:45.000Z", "action": action, "ip": ip, "target": "source", "rule": "High"}
        fields.update({"reason": "RULE High", "duration": 60, "expires_at": moment, "dry_run": False, **changes})
        return json.dumps(fields).encode() + b"\n"

    after, ended = expiry.follow(
        entries,
        line("block", "203.0.113.3")
        + line("expire", A)
        + line("unblock", B, None)
        + line("skip", "", duration=None)
        + line("block", "203.0.113.4")
        + line("extend", "203.0.113.4", NOW + 120)
        + line("block", "203.0.113.5", dry_run=True)
        + line("block", "203.0.113.6", NOW + 60)
        + line("block", "203.0.113.6", NOW + 120)
        + line("block", "203.0.113.7", NOW + 60)
        + line("block", "203.0.113.7", NOW + 120)
        + line("expire", "203.0.113.7", NOW + 60)
        + b'{"action":"block"}\n[]\n{torn',
    )
    assert [(str(each.block.network), each.block.action, each.expires_at) for each in after] == [
        (A, Action.LOG, NOW + 60),
        ("203.0.113.3", Action.DROP, NOW + 60),
        ("203.0.113.4", Action.DROP, NOW + 120),
        ("203.0.113.6", Action.DROP, NOW + 120),
        ("203.0.113.7", Action.DROP, NOW + 120),
    ]
    assert [(str(each.block.network), each.expires_at) for each in ended] == [("203.0.113.6", NOW + 60)]
    for bad in (b"{", b"[]", b'{"version":9}', b'{"version":1,"mark":null,"blocks":[[1]]}'):
        with pytest.raises((ValueError, KeyError, TypeError)):
            expiry.decode(bad)


@pytest.mark.feature("D1")
def test_what_the_journal_tells_of_this_run_is_no_other_runs_block(setup: Setup) -> None:
    setup.block(entry(A), entry(B))
    del setup.kernel.held[entry(A).block[:3]]  # lifted before the last run's blocks are known
    setup.endings.adopt(*compare([entry(A), entry(B)], setup.kernel.entries()))
    setup.endings.compare()
    setup.pass_time(NOW + 61)
    assert setup.told() == [("unblock", A, "lifted by hand or by a module"), ("expire", B, "RULE High")]


@pytest.mark.feature("D1")
def test_the_last_runs_blocks_become_known_while_new_ones_come_and_go(setup: Setup) -> None:
    gone, lifted, again, stays = (entry(f"203.0.113.{number}", NOW + 60) for number in (10, 11, 12, 13))
    over = entry("203.0.113.14", NOW - 5)
    new, told = entry(A, NOW + 60), entry(B, NOW + 1)
    # The thread's look at the kernel, and what the loop does before it hears of it.
    held = [stays, new, told, again._replace(created_at=NOW + 61, expires_at=NOW + 300)]
    found = compare([over, gone, lifted, again, stays], held)
    setup.block(new, told)
    setup.pass_time(NOW + 1.1)
    assert setup.told() == [("expire", B, "RULE High")]
    setup.endings.lifted([lifted], "REPUTATION CLEAN")
    setup.endings.adopt(*found)
    assert sorted(setup.told()[1:]) == [
        ("expire", "203.0.113.14", "RULE High"),
        ("unblock", "203.0.113.10", "lifted by hand or by a module"),
        ("unblock", "203.0.113.11", "REPUTATION CLEAN"),
        ("unblock", "203.0.113.12", "lifted by hand or by a module"),
    ]
    assert {str(each.block.network) for each in setup.endings.entries()} == {A, "203.0.113.12", "203.0.113.13"}


@pytest.mark.feature("D1")
def test_what_another_writer_does_just_before_an_end_tells_of_no_second_one(setup: Setup) -> None:
    setup.block(entry(A, NOW + 60.4))
    setup.pass_time(NOW + 60.2)  # it is about to end, but the kernel still holds it, rounded
    setup.kernel.put(entry(A, NOW + 60))
    setup.endings.compare()
    setup.pass_time(NOW + 62)
    assert setup.told() == [("expire", A, "RULE High")]


@pytest.mark.feature("E4")
def test_what_was_created_is_what_is_in_force_or_has_ended(setup: Setup) -> None:
    setup.endings.adopt(Expiries(), [])
    setup.block(entry(A), entry(B), entry("203.0.113.3", origin=Origin.MODULE))
    setup.block(entry(A, NOW + 120))  # extended: the same block
    setup.block(entry("203.0.113.3"))  # another's, taken over by an extension
    setup.pass_time(NOW + 70)
    setup.block(entry(B, NOW + 130)._replace(created_at=NOW + 70))
    setup.endings.lifted([entry(A, NOW + 120)], "on_stop: flush")
    metrics = setup.metrics
    assert (metrics.blocks_created, metrics.blocks_removed, metrics.blocks_expired) == (4, 1, 2)
    assert len(setup.endings) == 1


@pytest.mark.feature("S3", "D1")
def test_following_a_long_journal_takes_time_in_proportion_to_it() -> None:
    """With a look at all blocks for each line this would take minutes."""
    count = 20_000
    entries = [
        Entry(Block(Network(number.to_bytes(4, "big"), 32), duration=60), Origin.WATCHER, 1_000.0, 1_060.0)
        for number in range(0x0B000000, 0x0B000000 + count)
    ]
    lines = "".join(
        json.dumps(
            {
                "action": "expire",
                "ip": str(entry.block.network),
                "target": "source",
                "expires_at": "1970-01-01T00:17:40.000Z",
                "dry_run": False,
            }
        )
        + "\n"
        for entry in entries[::2]
    )
    start = time.thread_time()
    held, untold = expiry.follow(entries, lines.encode())
    assert time.thread_time() - start < 10
    assert (len(held), untold) == (count // 2, [])
