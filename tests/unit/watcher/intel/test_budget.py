# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ngfw.intel.budget import DAY, Budget

MIDNIGHT = 20_000 * DAY


def test_any_sixty_seconds_hold_so_many() -> None:
    budget = Budget(3, 1000)
    for second in (0.0, 10.0, 20.0):
        assert budget.wait(1000.0 + second) == 0
        budget.spend(1000.0 + second)
    assert budget.wait(1030.0) == 30
    assert budget.wait(1059.9) == pytest.approx(0.1)
    assert budget.wait(1060.0) == 0
    budget.spend(1060.0)
    assert budget.wait(1060.0) == 10


def test_a_day_ends_at_midnight_of_utc() -> None:
    budget = Budget(1000, 2)
    budget.spend(MIDNIGHT - 200.0)
    budget.spend(MIDNIGHT - 100.0)
    assert budget.wait(MIDNIGHT - 100.0) == 100
    assert budget.wait(MIDNIGHT) == 0


def test_it_goes_on_where_it_was() -> None:
    budget = Budget(2, 3)
    budget.restore([MIDNIGHT + 1.0, MIDNIGHT + 5.0], 20_000, 2)
    assert budget.wait(MIDNIGHT + 6.0) == 55
    budget.spend(MIDNIGHT + 70.0)
    assert budget.wait(MIDNIGHT + 140.0) == DAY - 140
    budget = Budget(2, 3)
    budget.restore([], 19_999, 3)
    assert budget.wait(MIDNIGHT) == 0


def test_what_was_never_sent_is_given_back() -> None:
    budget = Budget(1, 1)
    budget.spend(MIDNIGHT)
    budget.refund()
    assert budget.wait(MIDNIGHT) == 0
    budget.refund()
    assert budget.used == 0


def test_other_limits_count_what_was_used() -> None:
    budget = Budget(10, 100)
    for _each in range(5):
        budget.spend(MIDNIGHT)
    budget.limit(5, 100)
    assert budget.wait(MIDNIGHT) == 60
    budget.limit(6, 5)
    assert budget.wait(MIDNIGHT) == DAY


def test_a_clock_set_back_gives_no_second_day() -> None:
    budget = Budget(10, 3)
    for _each in range(3):
        budget.spend(MIDNIGHT)
    assert budget.wait(MIDNIGHT - 3600.0) == 3600
    assert budget.used == 3
    budget = Budget(1, 100)
    budget.spend(MIDNIGHT)
    assert budget.wait(MIDNIGHT - 3600.0) == 0
