# SPDX-License-Identifier: GPL-3.0-or-later
"""What the threads of reputation leave for the loop, and a descriptor that wakes it."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from typing import NamedTuple, Union

from ..firewall.address import Network
from .verdict import Verdict


class Case(NamedTuple):
    """What an answer is wanted for: `text` is kept with the lookup and comes back with its answer, once per `key`."""

    key: str
    text: str


class News(NamedTuple):
    """What became of a lookup at a provider. If `final`, it is closed; `id` is 0 if it was never open."""

    id: int
    address: Network
    verdict: Verdict
    cases: dict[str, str]
    final: bool


class Answer(NamedTuple):
    """What is known now about an address that was pending; if not `final`, more is to come.

    `cases` are the texts that it was asked for, by key. `id` is for Desk.done() only.
    """

    id: int
    address: Network
    verdicts: tuple[Verdict, ...]
    cases: dict[str, str]
    final: bool


class Said(NamedTuple):
    """Something for the daemon's log; `problem` if it is more than a notice."""

    text: str
    problem: bool


class Counted(NamedTuple):
    """A request to a provider that came to a result."""

    provider: str
    result: str


Mail = Union[News, Said, Counted]


class Mailbox:
    """Many threads put, one takes."""

    def __init__(self) -> None:
        self._items: deque[Mail] = deque()
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Readable while something may be there to take."""
        return self._reader

    def put(self, item: Mail) -> None:
        self._items.append(item)
        with suppress(BlockingIOError, OSError):  # a full pipe wakes as well; a closed one has nobody to wake
            os.write(self._writer, b"\0")

    def take(self) -> list[Mail]:
        """All that is there."""
        with suppress(BlockingIOError):
            while len(os.read(self._reader, 4096)) == 4096:
                pass
        items: list[Mail] = []
        with suppress(IndexError):
            while True:
                items.append(self._items.popleft())
        return items

    def close(self) -> None:
        """No more waking; what is put from now on is lost."""
        reader, writer, self._reader, self._writer = self._reader, self._writer, -1, -1
        for descriptor in (reader, writer):
            if descriptor >= 0:
                os.close(descriptor)
