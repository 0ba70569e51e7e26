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


@pytest.mark.feature("S7")
def test_an_event_older_than_the_window_does_not_count_with_newer_ones() -> None:
    counter = Counter(3, 60)
    assert [counter.add("a", time) for time in (1000, 900, 1001, 1002)] == [1, 1, 2, 3]


@pytest.mark.feature("S7")
@pytest.mark.parametrize("wrong", [4e9, 0.0])
def test_a_single_wrong_date_does_not_blind_a_group(wrong: float) -> None:
    counter = Counter(3, 60)
    counter.add("a", wrong)
    assert [counter.add("a", 5000 + n) for n in range(4)] == [1, 2, 3, 1]


@pytest.mark.feature("S7")
def test_a_wrong_date_in_the_past_takes_nothing_from_a_group() -> None:
    counter = Counter(3, 60)
    assert [counter.add("a", time) for time in (5000, 5001, 0, 5002)] == [1, 2, 1, 3]


@pytest.mark.feature("S7")
def test_a_clock_set_back_begins_anew() -> None:
    counter = Counter(3, 60)
    assert [counter.add("a", time) for time in (5000, 5001, 0, 1, 2)] == [1, 2, 1, 2, 3]


@pytest.mark.feature("S7")
def test_two_clocks_are_counted_apart() -> None:
    counter = Counter(4, 60)
    found = [counter.add("a", time) for second in range(4) for time in (5000 + second, 1000 + second)]
    assert found[:7] == [1, 1, 2, 2, 3, 3, 4]
    values = DistinctCounter(4, 60)
    assert [values.add("a", n, (n + 1) % 2 * 4000 + n) for n in range(7)] == [1, 1, 2, 2, 3, 3, 4]


@pytest.mark.feature("S7")
def test_what_lies_in_the_future_of_a_clock_that_was_set_back_is_forgotten() -> None:
    counter, values, memory = Counter(9, 600), DistinctCounter(9, 600), Memory(600)
    for number, time in enumerate((100, 150, 200, 250)):
        counter.add("a", time)
        values.add("a", number, time)
    counter.add("b", 300)
    values.add("b", 1, 300)
    memory.note("a", 100)
    memory.note("b", 200)
    for part in (counter, values, memory):
        part.forget_after(175)
    assert (len(counter), len(values), len(memory)) == (1, 1, 1)
    assert (counter.add("a", 176), values.add("a", 9, 176)) == (3, 3)
    assert counter.add("b", 176) == values.add("b", 9, 176) == 1
    assert (memory.recalls("a", 176, 600), memory.recalls("b", 260, 600)) == (True, False)
    assert (counter._marks, values._count) == (4, 4)


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
    assert [counter.add("a", n, time) for n, time in enumerate((0, 1, 2, 3))] == [1, 2, 3, 4]


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
    hits = 0
    for number, time in enumerate(times, 1):
        if counter.add("a", time) >= threshold:
            hits += 1
            assert max(sum(1 for each in times[:number] if end - window <= each <= end) for end in times) >= threshold
            assert hits * threshold <= number


TIME = st.one_of(st.integers(0, 300), st.integers(0, 4_000_000_000))
JUMPS = st.lists(st.tuples(st.sampled_from("ab"), TIME), max_size=60)


@pytest.mark.feature("S7")
@given(JUMPS, st.integers(2, 5), st.integers(1, 100), st.integers(0, 4_000_000_000))
def test_whatever_the_clocks_did_before_an_attack_is_seen(
    before: list[tuple[str, int]], threshold: int, window: int, start: int
) -> None:
    counter, values = Counter(threshold, window), DistinctCounter(threshold, window)
    for group, time in before:
        counter.add(group, time)
        values.add(group, time, time)
    attack = [start + number / threshold for number in range(threshold)]
    assert max(counter.add("a", time) for time in attack) == threshold
    assert max(values.add("a", -time - 1, time) for time in attack) == threshold


@pytest.mark.feature("S7")
@given(JUMPS, st.integers(2, 5), st.integers(1, 100), st.integers(0, 4_000_000_000))
def test_a_clock_set_back_keeps_nothing_of_its_future(
    before: list[tuple[str, int]], threshold: int, window: int, now: int
) -> None:
    counter, values, memory = Counter(threshold, window), DistinctCounter(threshold, window), Memory(window)
    for group, time in before:
        counter.add(group, time)
        values.add(group, time, time)
        memory.note(group, time)
    for part in (counter, values, memory):
        part.forget_after(now)
    kept = [*memory._hits.values()]
    for marks in (*counter._groups.values(), *counter._past._groups.values()):
        kept += [marks] if isinstance(marks, float) else marks
    for each in (*values._groups.values(), *values._past._groups.values()):
        kept += each[1:] if isinstance(each, tuple) else each.values()
    assert max(kept, default=0) <= now
    assert counter._marks == sum(1 if isinstance(each, float) else len(each) for each in counter._groups.values())
    assert values._count == sum(1 if isinstance(each, tuple) else len(each) for each in values._groups.values())


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
