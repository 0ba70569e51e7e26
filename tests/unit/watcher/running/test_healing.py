# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal
import time
from collections.abc import Collection, Iterator

import pytest
from ngfw.firewall.errors import KernelError
from ngfw.firewall.watch import Losses
from ngfw.running import healing
from ngfw.running.healing import Healing
from ngfw.running.loop import Loop


class Alarm:
    """Has to be asked, as with legacy iptables."""

    def __init__(self) -> None:
        self.rules, self.seen = "ours", "ours"

    def fileno(self) -> int:
        return -1

    def changed(self) -> bool:
        before, self.seen = self.seen, self.rules
        return self.seen != before

    def close(self) -> None:
        self.rules = "closed"


class Setup:
    def __init__(self, loop: Loop) -> None:
        self.loop, self.alarm = loop, Alarm()
        self.healed: list[float] = []
        self.said: list[str] = []
        self.broken = False
        self.losses = Losses()
        self.lifted: list[str] = []
        self.healing = Healing(
            loop,
            self.repair,
            self.look,
            healed=lambda missing: self.healed.append(time.monotonic()),
            lifted=self.lifted.extend,
            failed=self.said.append,
        )
        self.healing.watch(self.alarm)
        self.glance()

    def glance(self) -> None:
        self.loop.after("glance", 0.02, self.glance)
        self.healing.glance()

    def repair(self, unused: Collection[str]) -> list[str]:
        if self.broken:
            raise KernelError("no")
        missing = ["rules"] * (self.alarm.rules != "ours") + ["sets"] * bool(self.losses.sets)
        self.removed = [*unused]
        self.alarm.rules, self.losses = "ours", Losses()
        return missing

    def look(self) -> Losses:
        if self.broken:
            raise KernelError("no")
        found, self.losses = self.losses, self.losses._replace(blocks=())
        return found

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.loop.after("end", seconds, lambda: None)
        while time.monotonic() < end:
            self.loop.wait()


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    monkeypatch.setattr(healing, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(healing, "PAUSE_SECONDS", 0.2)
    with Loop((signal.SIGUSR1,)) as loop:
        yield Setup(loop)


@pytest.mark.feature("C10")
def test_repairs_are_paced(setup: Setup) -> None:
    for _ in range(50):
        setup.alarm.rules = "theirs"
        setup.run(0.01)
    assert 2 <= len(setup.healed) <= 4
    assert min(b - a for a, b in zip(setup.healed, setup.healed[1:])) > 0.15


def test_what_undoes_our_own_change_between_two_looks_is_seen(setup: Setup) -> None:
    setup.alarm.seen = "before ours"
    setup.healing.written()
    setup.alarm.rules = "before ours"
    setup.run(0.1)
    assert len(setup.healed) == 1


def test_a_repair_that_fails_is_told_once_and_tried_again(setup: Setup) -> None:
    setup.broken = True
    setup.alarm.rules = "theirs"
    setup.run(0.5)
    assert len(setup.said) == 1
    setup.broken = False
    setup.run(0.3)
    assert len(setup.healed) == 1
    setup.healing.close()
    assert setup.alarm.rules == "closed"


@pytest.mark.feature("S6")
def test_a_guard_that_lost_entries_is_repaired_though_no_rule_changed(setup: Setup) -> None:
    setup.losses = Losses(sets=("NGFW-allow4",))
    setup.run(0.3)
    assert len(setup.healed) == 1
    assert setup.lifted == []


@pytest.mark.feature("S6")
def test_lifted_blocks_are_told_and_not_repaired(setup: Setup) -> None:
    setup.losses = Losses(blocks=("NGFW-drop-src4",))
    setup.run(0.3)
    assert setup.lifted == ["NGFW-drop-src4"]
    assert setup.healed == []


@pytest.mark.feature("S6")
def test_a_set_that_nobody_uses_is_named_to_the_repair(setup: Setup) -> None:
    setup.losses = Losses(unused=("NGFW-drop-dst4",))
    setup.run(0.3)
    assert setup.removed == ["NGFW-drop-dst4"]
    assert setup.healed == []


def test_where_the_sets_cannot_be_read_that_is_said_once(setup: Setup) -> None:
    setup.broken = True
    setup.run(0.5)
    assert len(setup.said) == 1
    assert setup.said[0].startswith("the chain could not be repaired: no")
