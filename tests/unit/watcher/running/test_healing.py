# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from ngfw.firewall.errors import KernelError
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
        self.healing = Healing(
            loop, self.repair, healed=lambda: self.healed.append(time.monotonic()), failed=self.said.append
        )
        self.healing.watch(self.alarm)

    def repair(self) -> bool:
        if self.broken:
            raise KernelError("no")
        missing, self.alarm.rules = self.alarm.rules != "ours", "ours"
        return missing

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
