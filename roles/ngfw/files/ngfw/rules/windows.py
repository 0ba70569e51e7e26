# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts of events in a sliding window, one for each group, in bounded memory.

The clock is the events' own. Events may arrive out of order; one that is older than the whole window of its group does
not count, unless the event before it was as old: then the clock was set back, and the group begins anew.
Each operation takes constant time, or amortised constant time, whatever the number of groups.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections import OrderedDict
from collections.abc import Hashable
from operator import itemgetter
from typing import Union

MAX_GROUPS = 200_000
MAX_MARKS = 1_000_000
MAX_VALUES = 200_000

Marks = Union[float, "array[float]"]


class Counter:
    """Counts events of each group. ``evicted`` says how many groups were forgotten for lack of room."""

    def __init__(self, threshold: int, window: int, max_groups: int = MAX_GROUPS, max_marks: int = MAX_MARKS) -> None:
        self.evicted = 0
        self._threshold = threshold
        self._window = window
        self._max_groups = max_groups
        self._max_marks = max_marks
        self._marks = 0
        self._previous = 0.0
        # Most groups of a flood have a single event: a float costs a fifth of an array.
        self._groups: OrderedDict[Hashable, Marks] = OrderedDict()

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, group: Hashable, time: float) -> int:
        """Count an event; returns the count of the group's window, which is cleared when it reaches the threshold."""
        previous, self._previous = self._previous, time
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
        elif previous < newest - self._window:
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


class DistinctCounter:
    """Counts different values in each group; a value that comes again counts from its last time."""

    def __init__(self, threshold: int, window: int, max_groups: int = MAX_GROUPS, max_values: int = MAX_VALUES) -> None:
        self.evicted = 0
        self._threshold = threshold
        self._window = window
        self._max_groups = max_groups
        self._max_values = max_values
        self._count = 0
        self._previous = 0.0
        # A group with a single value is a pair; with more, the values by their last time, oldest first.
        self._groups: OrderedDict[Hashable, tuple[Hashable, float] | OrderedDict[Hashable, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, group: Hashable, value: Hashable, time: float) -> int:
        """Count a value; returns how many the group has, which are cleared when they reach the threshold."""
        previous, self._previous = self._previous, time
        groups = self._groups
        values = groups.get(group)
        if values is None:
            groups[group] = (value, time)
            self._count += 1
            self._make_room(time)
            return 1
        groups.move_to_end(group)
        if isinstance(values, tuple):
            if values[0] == value:
                groups[group] = (value, max(time, values[1]))
                return 1
            values = groups[group] = OrderedDict((values,))
        newest = values[next(reversed(values))]
        if time < newest - self._window:
            if previous >= newest - self._window:
                return len(values)
            self._count -= len(values)
            values.clear()
        if value not in values:
            self._count += 1
        values[value] = max(time, values.get(value, time))
        values.move_to_end(value)
        if values[value] < newest:  # it comes late
            values = groups[group] = OrderedDict(sorted(values.items(), key=itemgetter(1)))
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
