# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher's own directories and files, which somebody may remove under it: they come back, and nothing stops."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ..effects.journal import Journal
from ..effects.state import State, StateError
from ..firewall.errors import FirewallError
from .blocks import Blocks
from .reader import Reader


class Directories:
    """Looks whether all is there that was there; what is missing is made again, where that is allowed."""

    def __init__(
        self,
        modes: Mapping[Path, int],
        state: State,
        journal: Journal,
        reader: Reader,
        blocks: Blocks,
        *,
        lost: Callable[[Path], None],
        failed: Callable[[str], None],
    ) -> None:
        """`modes` are the directories, and what they are made with. `lost` is called once with one that is missing and
        cannot be made, or not be written, `failed` with what else went wrong.
        """
        self._modes, self._state = modes, state
        self._journal, self._reader, self._blocks = journal, reader, blocks
        self._lost, self._failed = lost, failed
        self._known: dict[Path, tuple[int, int] | None] = {}
        self._told: set[Path] = set()
        self._complaint = ""

    def start(self) -> None:
        """What is there now is as it should be; what is not yet there is made."""
        for path, mode in self._modes.items():
            with suppress(OSError):
                path.mkdir(mode=mode, parents=True, exist_ok=True)
        self._known = {path: _identity(path) for path in self._modes}

    def look(self) -> None:
        """To be called each second."""
        lost: list[Path] = []
        back: list[Path] = []
        for path, mode in self._modes.items():
            if self._known[path] is not None and self._known[path] == _identity(path):
                continue
            with suppress(OSError):
                path.mkdir(mode=mode, parents=True)
            (back if os.access(path, os.W_OK | os.X_OK) else lost).append(path)
        self._look_into()
        for path in back:
            self._known[path] = _identity(path)
            self._told.discard(path)
            self._journal.say(
                f"{path} was removed by somebody, and was made again; nothing has stopped", level="WARNING"
            )
        for path in lost:
            if path not in self._told:
                self._told.add(path)
                self._lost(path)

    def _look_into(self) -> None:
        """The same for files."""
        self._journal.look()
        try:
            self._blocks.look_after_lock()
            if self._state.look():
                self._reader.move()
                self._blocks.touch()
            self._complaint = ""
        except (StateError, FirewallError, OSError) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                self._failed(self._complaint)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
