# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts of events in a sliding window, one for each group, in bounded memory.

The clock is the events' own. Events may arrive out of order. One that is older than the whole window of its group has
another clock, or the clock was set back: it counts in a second window of the group, with those that are as old. So
neither a single wrong time nor a sensor whose clock is behind empties a window or stops it, and a clock that jumps
forward ages all. Whoever knows that the clock was set back says forget_after().
Each operation takes constant time, or amortised constant time, whatever the number of groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from itertools import islice, takewhile
from typing import Any, Union

MAX_GROUPS = 200_000
MAX_MARKS = 1_000_000
MAX_VALUES = 200_000

Marks = Union[float, "array[float]"]

_PAST_SHARE = 8
"""Of what a window may hold, the part that the second windows may hold beside it."""


class _Window(ABC):
    """The groups of a window, and the second windows of those that have one."""

    _groups: OrderedDict[Hashable, Any]
    _past: _Window | None

    def __len__(self) -> int:
        return len(self._groups)

    def groups(self) -> Iterable[Hashable]:
        """Those with an event that may still count."""
        return self._groups

    def forget_after(self, time: float) -> None:
        """The clock was set back to that time."""
        for group in list(self._groups):
            self._forget_after(group, time)
        if self._past is not None:
            self._past.forget_after(time)

    @abstractmethod
    def _forget_after(self, group: Hashable, time: float) -> None:
        """Forget what is later in that group."""


class Counter(_Window):
    """Counts events of each group. ``evicted`` says how many groups were forgotten for lack of room."""

    _past: Counter | None

    def __init__(
        self,
        threshold: int,
        window: int,
        max_groups: int = MAX_GROUPS,
        max_marks: int = MAX_MARKS,
        *,
        has_past: bool = True,
    ) -> None:
        self.evicted = 0
        self._threshold = threshold
        self._window = window
        self._max_groups = max_groups
        self._max_marks = max_marks
        self._marks = 0
        # Most groups of a flood have a single event: a float costs a fifth of an array.
        self._groups: OrderedDict[Hashable, Marks] = OrderedDict()
        share = max(1, max_groups // _PAST_SHARE), max(threshold, max_marks // _PAST_SHARE)
        self._past = Counter(threshold, window, *share, has_past=False) if has_past else None

    def add(self, group: Hashable, time: float) -> int:
        """Count an event; returns the count of the group's window, which is cleared when it reaches the threshold."""
        groups = self._groups
        marks = groups.get(group)
        if marks is None:
            groups[group] = float(time)
            self._marks += 1
            self._make_room(time)
            return 1
        groups.move_to_end(group)
        if isinstance(marks, float):
            marks = groups[group] = array("d", (marks,))
        newest = marks[-1]
        if time >= newest:
            marks.append(time)
            self._marks += 1
            self._expire(marks, time - self._window)
        elif time >= newest - self._window:
            insort(marks, time)
            self._marks += 1
        elif self._past is not None:
            return self._past.add(group, time)
        else:
            self._marks -= len(marks) - 1
            groups[group] = float(time)
            return 1
        count = len(marks)
        if count >= self._threshold:
            del groups[group]
            self._marks -= count
        elif self._marks > self._max_marks:
            self._make_room(time)
        return count

    def _forget_after(self, group: Hashable, time: float) -> None:
        marks = self._groups[group]
        kept = array("d", (marks,) if isinstance(marks, float) else marks)
        del kept[bisect_right(kept, time) :]
        self._marks -= (1 if isinstance(marks, float) else len(marks)) - len(kept)
        if not kept:
            del self._groups[group]
        elif not isinstance(marks, float):
            self._groups[group] = kept

    def open(self, group: Hashable, time: float) -> tuple[int, float]:
        """How many events the group's window has at that time, and until when the oldest of them counts."""
        marks = self._groups.get(group, ())
        counted = [mark for mark in ((marks,) if isinstance(marks, float) else marks) if mark >= time - self._window]
        return len(counted), counted[0] + self._window if counted else time

    def _expire(self, marks: array[float], oldest: float) -> None:
        expired = 0
        while marks[expired] < oldest:
            expired += 1
        if expired:
            del marks[:expired]
            self._marks -= expired

    def _make_room(self, time: float) -> None:
        groups = self._groups
        # Two go for one that comes, so that what has expired is gone soon after a flood.
        for _oldest in range(2):
            marks = groups[next(iter(groups))]
            if (marks if isinstance(marks, float) else marks[-1]) >= time - self._window:
                break
            self._drop_oldest()
        while len(groups) > self._max_groups or self._marks > self._max_marks:
            self._drop_oldest()
            self.evicted += 1

    def _drop_oldest(self) -> None:
        _group, marks = self._groups.popitem(last=False)
        self._marks -= 1 if isinstance(marks, float) else len(marks)


class DistinctCounter(_Window):
    """Counts different values in each group; a value that comes again counts from its last time."""

    _past: DistinctCounter | None

    def __init__(
        self,
        threshold: int,
        window: int,
        max_groups: int = MAX_GROUPS,
        max_values: int = MAX_VALUES,
        *,
        has_past: bool = True,
    ) -> None:
        self.evicted = 0
        self._threshold = threshold
        self._window = window
        self._max_groups = max_groups
        self._max_values = max_values
        self._count = 0
        # A group with a single value is a pair; with more, the values by their last time, oldest first.
        self._groups: OrderedDict[Hashable, tuple[Hashable, float] | OrderedDict[Hashable, float]] = OrderedDict()
        share = max(1, max_groups // _PAST_SHARE), max(threshold, max_values // _PAST_SHARE)
        self._past = DistinctCounter(threshold, window, *share, has_past=False) if has_past else None

    def add(self, group: Hashable, value: Hashable, time: float) -> int:
        """Count a value; returns how many the group has, which are cleared when they reach the threshold."""
        groups = self._groups
        values = groups.get(group)
        if values is None:
            groups[group] = (value, time)
            self._count += 1
            self._make_room(time)
            return 1
        groups.move_to_end(group)
        if isinstance(values, tuple):
            if values[0] == value and (time >= values[1] - self._window or self._past is None):
                groups[group] = (value, max(time, values[1]) if time >= values[1] - self._window else time)
                return 1
            values = groups[group] = OrderedDict((values,))
        newest = values[next(reversed(values))]
        if time < newest - self._window:
            if self._past is not None:
                return self._past.add(group, value, time)
            self._count -= len(values) - 1
            groups[group] = (value, time)
            return 1
        if value not in values:
            self._count += 1
        values[value] = max(time, values.get(value, time))
        values.move_to_end(value)
        if values[value] < newest:
            _put_in_order(values, value)
        oldest = values[next(reversed(values))] - self._window
        while values[next(iter(values))] < oldest:
            values.popitem(last=False)
            self._count -= 1
        count = len(values)
        if count >= self._threshold:
            del groups[group]
            self._count -= count
        elif self._count > self._max_values:
            self._make_room(time)
        return count

    def _forget_after(self, group: Hashable, time: float) -> None:
        values = self._groups[group]
        known = dict((values,)) if isinstance(values, tuple) else values
        kept = OrderedDict((value, last) for value, last in known.items() if last <= time)
        self._count -= len(known) - len(kept)
        if not kept:
            del self._groups[group]
        elif not isinstance(values, tuple):
            self._groups[group] = kept

    def open(self, group: Hashable, time: float) -> tuple[int, float]:
        """How many values the group has at that time, and until when the oldest of them counts."""
        values = self._groups.get(group, OrderedDict())
        known = (values[1],) if isinstance(values, tuple) else values.values()
        counted = [last for last in known if last >= time - self._window]
        return len(counted), counted[0] + self._window if counted else time

    def _make_room(self, time: float) -> None:
        groups = self._groups
        for _oldest in range(2):
            values = groups[next(iter(groups))]
            newest = values[1] if isinstance(values, tuple) else values[next(reversed(values))]
            if newest >= time - self._window:
                break
            self._drop_oldest()
        while len(groups) > self._max_groups or self._count > self._max_values:
            self._drop_oldest()
            self.evicted += 1

    def _drop_oldest(self) -> None:
        _group, values = self._groups.popitem(last=False)
        self._count -= 1 if isinstance(values, tuple) else len(values)


def _put_in_order(values: OrderedDict[Hashable, float], late: Hashable) -> None:
    """Move what is newer than the last one, which came late, behind it: mostly that is not much."""
    time = values[late]
    newer = list(takewhile(lambda each: values[each] > time, islice(reversed(values), 1, None)))
    for each in reversed(newer):
        values.move_to_end(each)


class Memory:
    """When each group was last hit, for the rules that wait for it. ``evicted`` counts what was forgotten early."""

    def __init__(self, within: int, max_groups: int = MAX_GROUPS) -> None:
        self.evicted = 0
        self._within = within
        self._max_groups = max_groups
        self._hits: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hits)

    def note(self, group: Hashable, time: float) -> None:
        """A hit of the group."""
        hits = self._hits
        last = hits.get(group)
        if last is None or not last - self._within <= time < last:  # a late one hides no newer one
            hits[group] = time
        hits.move_to_end(group)
        for _oldest in range(2):
            if hits[next(iter(hits))] >= time - self._within:
                break
            hits.popitem(last=False)
        if len(hits) > self._max_groups:
            hits.popitem(last=False)
            self.evicted += 1

    def recalls(self, group: Hashable, time: float, within: int) -> bool:
        """Whether the group was hit at most that many seconds before."""
        hit = self._hits.get(group)
        return hit is not None and 0 <= time - hit <= within

    def forget_after(self, time: float) -> None:
        """The clock was set back to that time."""
        for group in [group for group, hit in self._hits.items() if hit > time]:
            del self._hits[group]
