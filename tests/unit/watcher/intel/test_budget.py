# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ngfw.firewall.address import parse_host
from ngfw.intel.budget import DAY, Budget, subject

MIDNIGHT = 20_000 * DAY
HOST = parse_host("203.0.113.7")
SITE = [parse_host(f"2001:db8:7:{number:x}::1") for number in range(100)]


def test_any_sixty_seconds_hold_so_many() -> None:
    budget = Budget(3, 1000)
    for second in (0.0, 10.0, 20.0):
        assert budget.wait(1000.0 + second) == 0
        budget.spend(HOST, 1000.0 + second)
    assert budget.wait(1030.0) == 30
    assert budget.wait(1059.9) == pytest.approx(0.1)
    assert budget.wait(1060.0) == 0
    budget.spend(HOST, 1060.0)
    assert budget.wait(1060.0) == 10


def test_a_day_ends_at_midnight_of_utc() -> None:
    budget = Budget(1000, 2)
    budget.spend(HOST, MIDNIGHT - 200.0)
    budget.spend(HOST, MIDNIGHT - 100.0)
    assert budget.wait(MIDNIGHT - 100.0) == 100
    assert budget.wait(MIDNIGHT) == 0


def test_it_goes_on_where_it_was() -> None:
    budget = Budget(2, 3)
    budget.restore([MIDNIGHT + 1.0, MIDNIGHT + 5.0], 20_000, 2)
    assert budget.wait(MIDNIGHT + 6.0) == 55
    budget.spend(HOST, MIDNIGHT + 70.0)
    assert budget.wait(MIDNIGHT + 140.0) == DAY - 140
    budget = Budget(2, 3)
    budget.restore([], 19_999, 3)
    assert budget.wait(MIDNIGHT) == 0


def test_what_was_never_sent_is_given_back() -> None:
    budget = Budget(1, 1)
    budget.spend(HOST, MIDNIGHT)
    budget.refund()
    assert budget.wait(MIDNIGHT) == 0
    budget.refund()
    assert budget.used == 0


def test_other_limits_count_what_was_used() -> None:
    budget = Budget(10, 100)
    for _each in range(5):
        budget.spend(HOST, MIDNIGHT)
    budget.limit(5, 100)
    assert budget.wait(MIDNIGHT) == 60
    budget.limit(6, 5)
    assert budget.wait(MIDNIGHT) == DAY


def test_a_clock_set_back_gives_no_second_day() -> None:
    budget = Budget(10, 3)
    for _each in range(3):
        budget.spend(HOST, MIDNIGHT)
    assert budget.wait(MIDNIGHT - 3600.0) == 3600
    assert budget.used == 3
    budget = Budget(1, 100)
    budget.spend(HOST, MIDNIGHT)
    assert budget.wait(MIDNIGHT - 3600.0) == 0


@pytest.mark.feature("S4")
def test_a_site_has_a_quarter_of_the_minute_and_of_the_day() -> None:
    budget = Budget(8, 16)
    for number in range(4):
        at = MIDNIGHT + 60.0 * (number // 2)
        assert budget.share_wait(SITE[number], at) == 0
        budget.spend(SITE[number], at)
        assert budget.wait(at) == 0
        if number == 1:
            assert budget.share_wait(SITE[9], at + 10) == 50
    later = MIDNIGHT + 1000.0
    assert budget.share_wait(SITE[9], later) == DAY - 1000
    assert budget.share_wait(parse_host("2001:db8:8::1"), later) == 0
    assert budget.share_wait(HOST, later) == 0
    assert budget.share_wait(SITE[9], MIDNIGHT + DAY) == 0


@pytest.mark.feature("S4")
def test_what_was_never_sent_is_given_back_to_its_site() -> None:
    budget = Budget(4, 100)
    budget.spend(SITE[0], MIDNIGHT)
    assert budget.share_wait(SITE[0], MIDNIGHT) == 60
    budget.refund()
    assert budget.share_wait(SITE[0], MIDNIGHT) == 0


def test_an_answer_is_about_the_host_or_its_ipv6_network() -> None:
    assert subject(HOST) == HOST
    assert str(subject(parse_host("2001:db8:7:1::9"))) == "2001:db8:7:1::/64"
