# SPDX-License-Identifier: GPL-3.0-or-later
"""One place to wait in: descriptors, signals and named timers. Nothing wakes it but these."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable


class Loop:
    """Waits, calls what is ready, and remembers which signals came. Use it as a context in the main thread."""

    def __init__(self, signals: tuple[signal.Signals, ...]) -> None:
        self._signals = signals
        self._came: set[signal.Signals] = set()
        self._selector = selectors.DefaultSelector()
        self._first: Callable[[], None] | None = None
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}
        self._wakeup = (-1, -1)
        self._previous: list[tuple[signal.Signals, object]] = []

    def __enter__(self) -> Loop:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = (reader, writer)
        self._selector.register(reader, selectors.EVENT_READ, self._drain)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for each in self._signals:
            self._previous.append((each, signal.signal(each, self._note)))
        return self

    def __exit__(self, *_error: object) -> None:
        for each, handler in self._previous:
            signal.signal(each, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(-1)
        self._selector.close()
        for descriptor in self._wakeup:
            os.close(descriptor)

    def take(self, which: signal.Signals) -> bool:
        """Whether the signal came since it was last taken."""
        if which in self._came:
            self._came.discard(which)
            return True
        return False

    def came(self, *which: signal.Signals) -> bool:
        """Whether one of the signals is waiting to be taken."""
        return not self._came.isdisjoint(which)

    def watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` whenever the descriptor is readable."""
        self._selector.register(descriptor, selectors.EVENT_READ, ready)

    def unwatch(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def first(self, call: Callable[[], None]) -> None:
        """Call that before anything else whenever the waiting is over."""
        self._first = call

    def after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call once in that many seconds; a timer of the same name is replaced."""
        self._timers[name] = (time.monotonic() + max(0.0, seconds), call)

    def has_timer(self, name: str) -> bool:
        return name in self._timers

    def cancel(self, name: str) -> None:
        self._timers.pop(name, None)

    def wait(self, *, idle: bool = True) -> None:
        """Wait for the first descriptor, signal or timer, and call what is due; do not wait if not `idle`."""
        timeout = None if idle else 0.0
        if self._timers and idle:
            timeout = max(0.0, min(moment for moment, _call in self._timers.values()) - time.monotonic())
        ready = self._selector.select(timeout)
        if self._first is not None:
            self._first()
        for key, _events in ready:
            key.data()
        now = time.monotonic()
        due = [(name, timer) for name, timer in self._timers.items() if timer[0] <= now]
        for name, timer in due:
            if self._timers.get(name) is timer:  # else one before it has cancelled or replaced it
                del self._timers[name]
                timer[1]()

    def _note(self, number: int, _frame: object) -> None:
        self._came.add(signal.Signals(number))

    def _drain(self) -> None:
        try:
            while os.read(self._wakeup[0], 512):
                pass
        except BlockingIOError:
            pass
