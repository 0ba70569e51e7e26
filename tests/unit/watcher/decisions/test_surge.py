# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ngfw.decisions.surge import MEANING, Surge, Surges
from ngfw.settings.config import CircuitBreaker, HighAlert


def add(alert: Surge, count: int, now: float) -> None:
    for _ in range(count):
        alert.add(now)


def test_many_blocks_switch_it_on_and_quiet_off() -> None:
    alert = Surge(blocks=50, window=60)
    for second in range(49):
        alert.add(1000.0 + second)
    assert not alert.active(1049.0)
    alert.add(1049.0)
    assert alert.active(1049.0)
    assert alert.active(1065.0)  # 44 are left, more than half
    assert not alert.active(1106.0)


def test_silence_ends_it_too() -> None:
    alert = Surge(blocks=10, window=60)
    add(alert, 10, 1000.5)
    assert alert.active(1000.5)
    left = alert.next_change(1010.0)
    assert left is not None
    assert alert.active(1010.0 + left - 0.1)
    assert not alert.active(1010.0 + left)
    assert alert.next_change(1100.0) is None


def test_slow_blocks_never_switch_it_on() -> None:
    alert = Surge(blocks=3, window=60)
    for minute in range(100):
        alert.add(60.0 * minute)
        assert not alert.active(60.0 * minute)


def test_a_flood_costs_no_memory() -> None:
    alert = Surge(blocks=3, window=60)
    for number in range(100_000):
        alert.add(1000.0 + number / 10_000)
    assert len(alert._counts) <= 11
    assert alert.active(1010.0)


def test_a_clock_that_jumps() -> None:
    alert = Surge(blocks=5, window=60)
    add(alert, 5, 4_000_000_000.0)
    assert alert.active(4_000_000_000.0)
    assert not alert.active(1000.0)
    add(alert, 4, 1000.0)
    assert not alert.active(1000.0)
    alert.add(999.0)  # a little back is only counted later
    assert alert.active(1000.0)
    assert not alert.active(5000.0)


@pytest.mark.feature("S7")
def test_blocks_in_the_future_of_a_clock_that_was_set_back_do_not_count() -> None:
    surges = Surges(HighAlert(blocks=3, window=60), CircuitBreaker(blocks=5, window=60))
    assert [surges.refusal(False, 1000.0 + second) for second in range(5)] == [None] * 5
    surges.forget_after(1001.5)
    assert [surges.refusal(False, 1001.5) for _ in range(4)][:3] == [None] * 3
    assert surges.modes(1062.0) == {}


def test_nothing_is_nothing() -> None:
    alert = Surge(blocks=1, window=1)
    assert not alert.active(10.0)
    assert alert.next_change(10.0) is None


@pytest.mark.feature("F9")
def test_two_breakers_count_apart_and_recover() -> None:
    surges = Surges(HighAlert(blocks=3, window=60), CircuitBreaker(blocks=5, window=60))
    forgeable = [surges.refusal(False, 0.0) for _ in range(7)]
    assert forgeable[:5] == [None] * 5
    assert forgeable[5:] == ["breaker: 5 blocks in 60 s on evidence that can be forged"] * 2
    established = [surges.refusal(True, 1.0) for _ in range(21)]
    assert established[:20] == [None] * 20
    assert established[20] == "breaker: 20 blocks in 60 s on completed handshakes"
    assert surges.high_alert(1.0)
    modes = surges.modes(1.0)
    assert modes.keys() == MEANING.keys()
    assert max(modes.values()) <= 60
    assert surges.modes(30.0).keys() == MEANING.keys()
    assert surges.refusal(False, 60.5) is None
    assert not surges.modes(62.0)
