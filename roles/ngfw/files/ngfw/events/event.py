# SPDX-License-Identifier: GPL-3.0-or-later
"""What every decoder delivers, and the one error that any of them raises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, TypeVar

Item = TypeVar("Item")

_GROUP = 100


class Event:
    """One line of a log.

    `record` is EVE's JSON object (a fast.log line becomes the alert object of the same meaning), `time` the
    seconds since the epoch or None if the timestamp cannot be read, `type` the record's `event_type`.
    """

    __slots__ = ("record", "time", "type")

    def __init__(self, record: dict[str, Any], time: float | None, event_type: str, /) -> None:
        self.record = record
        self.time = time
        self.type = event_type

    def __repr__(self) -> str:
        return f"Event({self.type!r}, {self.time!r}, {self.record!r})"


class LineError(ValueError):
    """A line that is no event.

    `kind` is a short constant fit for counting: "encoding" (not UTF-8), "json", "shape" (well-formed but
    not a log line), "address". The message is for people and holds nothing of the line's own bytes.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def each(decode: Callable[[Item], Event], items: Iterable[Item]) -> list[Event | LineError]:
    """The events that `decode` makes of the items, or the errors that it raises."""
    found: list[Event | LineError] = []
    for item in items:
        try:
            found.append(decode(item))
        except LineError as error:
            found.append(LineError(error.kind, error.text))  # a new one: a traceback would keep the line, and itself
    return found


def groups(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """The items in some pieces: one step after the other over a piece is faster than all steps for each item, for a
    step's code and the items both stay in the processor's caches.
    """
    return (items[start : start + _GROUP] for start in range(0, len(items), _GROUP))
