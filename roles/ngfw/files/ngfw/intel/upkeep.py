# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping the lists fresh, beside the loop: read again when a file changes, fetched when they are due."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple

from .. import VERSION
from ..settings.config import Netset
from .download import DownloadError
from .mailbox import Mailbox, Said
from .netsets import Job, ListFile, Netsets
from .ranges import Ranges
from .web import Web

LOOK_SECONDS, MISSING_SECONDS = 30.0, 3.0
"""A change is noticed after this time at the latest, also where nobody says look(); of a file that is missing nobody
can say it."""

_BREATH = 0.00005
_AFTER_ERROR = 1.0


class _Fetched(NamedTuple):
    which: ListFile
    result: Ranges | DownloadError | None


class Upkeep:
    """A thread that looks after lists. Every method returns at once, but for close()."""

    def __init__(self, netsets: Netsets, mailbox: Mailbox, *, clock: Callable[[], float]) -> None:
        self._netsets, self._mailbox, self._clock = netsets, mailbox, clock
        self._inbox: SimpleQueue[_Fetched | None] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ngfw-lists", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look(self) -> None:
        """A file may have changed."""
        self._inbox.put(None)

    def adopt(self, settings: tuple[Netset, ...]) -> None:
        """Take other lists; those that are new are read soon."""
        self._netsets.adopt(settings)
        self.look()

    def close(self, seconds: float) -> bool:
        """End within that time; False if the thread could not be ended."""
        self._closing = True
        self.look()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._step()
            except _Closing:
                return
            except Exception as error:  # the other lists go on
                self._mailbox.put(Said(f"netsets: an error of this program, {type(error).__name__}: {error}", True))
                time.sleep(_AFTER_ERROR)

    def _step(self) -> None:
        self._netsets.load(self._clock(), self._breathe)
        for which, job in self._netsets.fetches(self._clock()):
            threading.Thread(target=self._fetch, args=(which, job), name="ngfw-fetch", daemon=True).start()
        due = self._netsets.due(self._clock())
        patience = MISSING_SECONDS if self._netsets.any_missing() else LOOK_SECONDS
        fetched = None
        with suppress(Empty):
            fetched = self._inbox.get(timeout=patience if due is None else min(due, patience))
        if fetched is not None:
            self._netsets.fetched(fetched.which, fetched.result, self._clock())

    def _fetch(self, which: ListFile, job: Job) -> None:
        result: Ranges | DownloadError | None
        try:
            result = job(Web(f"reflex.ngfw/{VERSION}"), self._breathe)
        except _Closing:
            return
        except ImportError as error:
            result = DownloadError(f"requests cannot be imported ({error}); install python3-requests")
        except Exception as error:
            result = DownloadError(f"an error of this program, {type(error).__name__}: {error}")
        self._inbox.put(_Fetched(which, result))

    def _breathe(self) -> None:
        """Let the loop's thread run: it would have to wait for its turn otherwise."""
        if self._closing:
            raise _Closing
        time.sleep(_BREATH)


class _Closing(BaseException):
    """It is time to end, in the middle of a list."""
