# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.rules.windows import Counter, DistinctCounter, Memory


@pytest.mark.feature("F3")
def test_the_threshold_is_reached_within_the_window_only() -> None:
    counter = Counter(3, 60)
    assert [counter.add("a", time) for time in (0, 30, 61)] == [1, 2, 2]
    assert counter.add("a", 89) == 3


@pytest.mark.feature("F3")
def test_an_event_exactly_a_window_old_still_counts() -> None:
    counter = Counter(2, 60)
    counter.add("a", 100)
    assert counter.add("a", 160) == 2


@pytest.mark.feature("F3")
def test_a_hit_clears_the_window_of_its_group_alone() -> None:
    counter = Counter(2, 60)
    assert [counter.add(group, 0) for group in "abaab"] == [1, 1, 2, 1, 2]


@pytest.mark.feature("F3")
def test_fifty_groups_do_not_add_up() -> None:
    counter = Counter(10, 300)
    assert all(counter.add(group, group) == 1 for group in range(50))


def test_events_out_of_order_count_all_the_same() -> None:
    counter = Counter(4, 60)
    assert [counter.add("a", time) for time in (100, 90, 95, 50)] == [1, 2, 3, 4]


def test_an_event_older_than_the_window_does_not_count() -> None:
    counter = Counter(3, 60)
    counter.add("a", 1000)
    counter.add("b", 1000)
    assert counter.add("a", 900) == 1
    assert counter.add("a", 1001) == 2


def test_a_single_date_in_the_future_does_not_blind_a_group() -> None:
    counter = Counter(3, 60)
    counter.add("a", 4e9)
    assert [counter.add("a", 100 + n) for n in range(4)] == [1, 1, 2, 3]


def test_a_clock_set_back_begins_anew() -> None:
    counter = Counter(3, 60)
    assert [counter.add("a", time) for time in (5000, 5001, 0, 1, 2)] == [1, 2, 2, 1, 2]


@pytest.mark.feature("F3")
def test_the_number_of_groups_is_bounded_and_the_longest_untouched_goes_first() -> None:
    counter = Counter(5, 60, max_groups=3)
    for group in "abcad":
        counter.add(group, 0)
    assert counter.evicted == 1
    assert len(counter) == 3
    assert counter.add("a", 0) == 3
    assert counter.add("b", 0) == 1


@pytest.mark.feature("F3")
def test_the_number_of_marks_is_bounded() -> None:
    counter = Counter(1000, 60, max_marks=50)
    for time in range(2000):
        counter.add(time % 5, time / 100)
        assert counter._marks <= 50
        assert counter._marks == sum(
            1 if isinstance(marks, float) else len(marks) for marks in counter._groups.values()
        )
    assert counter.evicted


@pytest.mark.feature("F3")
def test_groups_that_have_expired_make_room_unasked() -> None:
    counter = Counter(5, 60)
    for group in range(1000):
        counter.add(group, 0)
    for group in range(1000, 1600):
        counter.add(group, 100)
    assert len(counter) == 600
    assert counter.evicted == 0


@pytest.mark.feature("F4")
def test_distinct_values_are_counted_once() -> None:
    counter = DistinctCounter(3, 60)
    assert [counter.add("a", value, 0) for value in (1, 1, 2, 1, 2, 3)] == [1, 1, 2, 2, 2, 3]
    assert counter.add("a", 1, 0) == 1


@pytest.mark.feature("F4")
def test_a_value_counts_from_its_last_time() -> None:
    counter = DistinctCounter(3, 60)
    for value, time in ((1, 0), (2, 10), (1, 50), (2, 55)):
        counter.add("a", value, time)
    assert counter.add("a", 3, 109) == 3


@pytest.mark.feature("F4")
def test_values_outside_the_window_are_forgotten() -> None:
    counter = DistinctCounter(3, 60)
    assert [counter.add("a", value, time) for value, time in ((1, 0), (2, 10), (3, 61), (4, 71))] == [1, 2, 2, 2]


def test_distinct_values_survive_disorder_and_a_clock_set_back() -> None:
    counter = DistinctCounter(4, 60)
    assert [counter.add("a", n, time) for n, time in enumerate((100, 90, 95))] == [1, 2, 3]
    assert counter.add("a", 9, 0) == 3
    assert counter.add("a", 9, 1) == 1


@pytest.mark.feature("F4")
def test_values_that_come_late_are_not_taken_for_the_newest() -> None:
    counter = DistinctCounter(3, 60)
    assert [counter.add("a", value, time) for value, time in ((1, 100), (2, 50), (3, 115))] == [1, 2, 2]
    assert counter.add("a", 4, 100) == 3


@pytest.mark.feature("F3", "F4")
def test_groups_and_values_are_bounded() -> None:
    counter = DistinctCounter(1000, 60, max_groups=3, max_values=20)
    for n in range(500):
        counter.add(n % 5, n, n / 100)
        assert len(counter) <= 3
        values = sum(1 if isinstance(each, tuple) else len(each) for each in counter._groups.values())
        assert counter._count == values <= 20
    assert counter.evicted


@pytest.mark.feature("F4")
def test_memory_recalls_hits_for_a_while() -> None:
    memory = Memory(60, max_groups=2)
    memory.note("a", 100)
    assert memory.recalls("a", 160, 60)
    assert not memory.recalls("a", 161, 60)
    assert not memory.recalls("a", 99, 60)
    assert not memory.recalls("b", 100, 60)
    memory.note("b", 101)
    memory.note("c", 102)
    assert not memory.recalls("a", 102, 60)
    assert (len(memory), memory.evicted) == (2, 1)
    memory.note("d", 1000)
    assert (len(memory), memory.evicted) == (1, 1)


@pytest.mark.feature("F4")
def test_a_hit_that_comes_late_hides_no_newer_one_but_a_clock_set_back_counts() -> None:
    memory = Memory(60)
    memory.note("a", 1000)
    memory.note("a", 950)
    assert memory.recalls("a", 1055, 60)
    memory.note("a", 100)
    assert memory.recalls("a", 155, 60)


TIMES = st.lists(st.integers(0, 100), min_size=1, max_size=60)


@pytest.mark.feature("F3")
@given(TIMES, st.integers(2, 6), st.integers(1, 40))
def test_events_in_order_hit_as_a_plain_reading_says(times: list[int], threshold: int, window: int) -> None:
    counter = Counter(threshold, window)
    plain: list[int] = []
    for time in sorted(times):
        plain = [each for each in plain if each >= time - window] + [time]
        expected = len(plain)
        if expected == threshold:
            plain = []
        assert counter.add("a", time) == expected


@given(TIMES, st.integers(2, 6), st.integers(1, 40))
def test_events_in_any_order_never_hit_too_early(times: list[int], threshold: int, window: int) -> None:
    counter = Counter(threshold, window)
    since: list[int] = []
    for time in times:
        since.append(time)
        if counter.add("a", time) >= threshold:
            best = max(sum(1 for each in since if end - window <= each <= end) for end in since)
            assert best >= threshold
            since = []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), max_size=60), st.integers(2, 5), st.integers(1, 40))
def test_distinct_values_in_order_hit_as_a_plain_reading_says(
    events: list[tuple[int, int]], threshold: int, window: int
) -> None:
    counter = DistinctCounter(threshold, window)
    plain: dict[int, int] = {}
    for value, time in sorted(events, key=lambda event: event[1]):
        plain[value] = time
        plain = {each: last for each, last in plain.items() if last >= time - window}
        expected = len(plain)
        if expected >= threshold:
            plain = {}
        assert counter.add("a", value, time) == expected
