# SPDX-License-Identifier: GPL-3.0-or-later
"""Which inotify watches a set of followed paths needs: each open file, and the directories on the way to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from ..events import inotify
from .follower import Follower
from .inotify import Inotify, lookup_directories, reports_changes
from .logfile import LogFile

_ATTEMPTS = 3


class Watches:
    """Wakes for what is followed and nothing else; says so where the kernel cannot."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.polling = False
        self._report = report
        self._inotify: Inotify | None = None
        self._followers: dict[int, Follower] = {}
        self._watch_of: dict[tuple[int, int], int] = {}
        self._directories: set[int] = set()
        self._devices: dict[int, bool] = {}
        try:
            self._inotify = Inotify()
        except (OSError, AttributeError) as error:
            self._poll_instead(f"inotify cannot be used ({error})")

    def fileno(self) -> int:
        return -1 if self._inotify is None or self.polling else self._inotify.fileno()

    def drain(self) -> bool:
        """Take all events, mark the followers of changed files busy; whether names have changed."""
        names_changed = False
        for watch, mask in self._inotify.read() if self._inotify is not None else ():
            follower = self._followers.get(watch)
            if follower is not None:
                follower.busy = True
            elif watch in self._directories or mask & inotify.OVERFLOW:
                names_changed = True
        return names_changed

    def watch(self, file: LogFile, follower: Follower) -> None:
        follower.busy = True
        if self._inotify is None:
            return
        for path in (f"/proc/self/fd/{file.fileno()}", file.path):  # the first is this very inode, whatever its name
            try:
                watch = self._inotify.add(path, inotify.MODIFY)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._poll_instead(f"{file.path} cannot be watched ({error})")
                return
            self._followers[watch] = follower
            self._watch_of[file.key] = watch
            return

    def unwatch(self, file: LogFile) -> None:
        watch = self._watch_of.pop(file.key, None)
        if watch is not None and self._inotify is not None:
            self._followers.pop(watch, None)
            self._inotify.remove(watch)

    def watch_lookups(self, patterns: Iterable[str]) -> None:
        """Watch the directories that decide what these paths and globs lead to; to be called before looking."""
        if self._inotify is None:
            return
        patterns = tuple(patterns)
        for _attempt in range(_ATTEMPTS):
            wanted = {directory for pattern in patterns for directory in lookup_directories(pattern)}
            watches = {self._watch_directory(self._inotify, directory) for directory in wanted}
            if None not in watches:
                break
        now = {watch for watch in watches if watch is not None}
        for watch in self._directories - now:
            self._inotify.remove(watch)
        self._directories = now

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _watch_directory(self, kernel: Inotify, directory: str) -> int | None:
        """Its watch descriptor, or None if it went away."""
        try:
            watch = kernel.add(directory, inotify.DIRECTORY_CHANGES)
            device = os.stat(directory).st_dev
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._poll_instead(f"{directory} cannot be watched ({error})")
            return None
        if device not in self._devices:
            self._devices[device] = reports_changes(device)
            if not self._devices[device]:
                self._poll_instead(f"{directory} lies on a file system that other machines can change unseen")
        return watch

    def _poll_instead(self, reason: str) -> None:
        if not self.polling:
            self.polling = True
            self._report(f"{reason}; all sources are polled instead")
