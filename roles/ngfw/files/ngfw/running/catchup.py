# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of the last run's blocks, found out by a thread: with 100,000 of them that takes seconds.

Meanwhile the loop blocks new offenders; it gets the result as a whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from threading import Thread
from typing import NamedTuple

from ..firewall.entry import Entry
from .expiry import Expiries
from .loop import Loop

_SWITCH_SECONDS = 0.0005
"""How long the loop waits at most for its turn; Python's own 5 ms would make it ten times slower meanwhile."""


class Past(NamedTuple):
    """The blocks that are still in force, and those of the last run that have ended."""

    present: Expiries
    gone: list[Entry]


def compare(known: Iterable[Entry], held: Iterable[Entry]) -> Past:
    """`known` are the blocks when the last run ended, `held` those that the kernel holds now."""
    holds = {entry.block[:3]: entry for entry in held}
    gone: list[Entry] = []
    present = Expiries()
    for entry in known:
        now = holds.get(entry.block[:3])
        if now is None or (entry.expires_at is not None and entry.expires_at <= now.created_at):
            gone.append(entry)  # what stands there now is another block
        else:
            present.add((entry,))
    present.add(holds.values())
    return Past(present, gone)


class CatchUp:
    """Calls `find` in a thread and `done` in the loop; an error goes to `failed`, in place of a result."""

    def __init__(
        self,
        loop: Loop,
        find: Callable[[], Past],
        *,
        done: Callable[[Past], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._loop, self._find, self._done, self._failed = loop, find, done, failed
        self._result: Past | Exception | None = None
        self._reader, writer = os.pipe2(os.O_CLOEXEC)
        loop.watch(self._reader, self._finish)
        self._thread = Thread(target=self._run, args=(writer,), daemon=True, name="catch-up")
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Let it finish here and now, if it does in time."""
        self._thread.join(seconds)
        if not self._thread.is_alive():
            self._finish()

    def _run(self, writer: int) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        try:
            self._result = self._find()
        except Exception as error:  # the loop's owner says what it means
            self._result = error
        finally:
            sys.setswitchinterval(interval)
            os.close(writer)

    def _finish(self) -> None:
        if self._reader < 0:
            return
        self._loop.unwatch(self._reader)
        os.close(self._reader)
        self._reader = -1
        if isinstance(self._result, Past):
            self._done(self._result)
        elif self._result is not None:
            self._failed(self._result)
