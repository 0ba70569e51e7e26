# SPDX-License-Identifier: GPL-3.0-or-later
"""Saving for the next boot, in a child process: the loop goes on blocking meanwhile."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from .loop import Loop

DELAY_SECONDS = 5.0
"""From a change to the start of its saving, so that many changes are saved together."""

_TIMER = "save"


class Saver:
    """Calls `prepare` here and what that returns in a child, some seconds after changed()."""

    def __init__(
        self,
        loop: Loop,
        prepare: Callable[[], Callable[[], None]],
        *,
        in_child: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        """`in_child` lets go of what only this process may hold; `failed` is told why nothing was saved."""
        self._loop, self._prepare = loop, prepare
        self._in_child, self._failed = in_child, failed
        self._child = -1
        self._watched = -1
        self._failing = False
        self._unsaved = False

    def changed(self) -> None:
        """There is something new to save."""
        self._unsaved = True
        if not self._loop.has_timer(_TIMER):
            self._loop.after(_TIMER, DELAY_SECONDS, self._start)

    def finish(self, seconds: float) -> None:
        """Save what is not saved yet: the process ends. A child that needs longer than that finishes by itself."""
        self._loop.cancel(_TIMER)
        deadline = time.monotonic() + seconds
        if self._child >= 0:
            self._wait_until(deadline)
        if self._unsaved and self._child < 0:
            try:
                self._start()
            except Exception as error:  # whatever it is, it must not keep the process from ending in order
                self._tell(error)
            else:
                self._wait_until(deadline)

    def _wait_until(self, deadline: float) -> None:
        poll = select.poll()  # select() takes no descriptor from 1024 on
        poll.register(self._watched, select.POLLIN)
        if poll.poll(1000 * max(0.0, deadline - time.monotonic())):
            self._ended()

    def _start(self) -> None:
        if self._child >= 0:
            self.changed()
            return
        save = self._prepare()
        self._unsaved = False
        reader, writer = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            self._run(save, writer)
        os.close(writer)
        self._child, self._watched = child, reader
        self._loop.watch(reader, self._ended)

    def _run(self, save: Callable[[], None], answer: int) -> None:
        """The child; never returns."""
        try:
            signal.set_wakeup_fd(-1)
            for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(each, signal.SIG_IGN)  # the whole service gets one, and what was begun is finished
            self._in_child()
            with suppress(OSError):  # the unit's system call filter may forbid it
                os.nice(10)
            save()
        except BaseException as error:
            os.write(answer, f"{error}"[:1000].encode("utf-8", "backslashreplace"))
        finally:
            os._exit(0)

    def _ended(self) -> None:
        self._loop.unwatch(self._watched)
        self._wait()

    def _wait(self) -> None:
        """Take the child's answer: nothing, or what went wrong."""
        if self._child < 0:
            return
        with os.fdopen(self._watched, "rb") as stream:
            answer = stream.read().decode("utf-8", "replace")
        os.waitpid(self._child, 0)
        self._child = self._watched = -1
        if answer:
            self._tell(answer)
        else:
            self._failing = False

    def _tell(self, error: object) -> None:
        self._unsaved = True
        if not self._failing:
            self._failing = True
            self._failed(f"the blocks could not be saved for the next boot: {error}")
