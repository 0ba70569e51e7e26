# SPDX-License-Identifier: GPL-3.0-or-later
"""For a dry run in the foreground: decisions are printed, and nothing is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..terminal import complain, show
from .intent import Intent
from .journal import ALERTS_JSON, Journal, Mark
from .state import Content, State
from .wording import plain_line


class Console(Journal):
    """A journal without files: decisions go to standard output, one line each, messages to standard error."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"))

    def say(self, text: str, *, level: str = "INFO") -> None:
        with suppress(OSError, ValueError):
            complain(f"{level} {text}")

    def marks(self) -> dict[str, Mark | None]:
        return {}

    def mark(self, name: str) -> Mark | None:
        return None

    def append(self, texts: Mapping[str, str]) -> None:
        for line in texts.get(ALERTS_JSON, "").splitlines():
            show(plain_line(json.loads(line)), flush=True)

    def reopen(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """There is no file."""


class NoState(State):
    """Remembers nothing, and stands in nobody's way."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"), report=lambda text: None)

    def lock(self) -> None:
        """Any number may look on."""

    def load(self, name: str, decode: Callable[[bytes], Content]) -> Content | None:
        return None

    def announce(self, intents: Sequence[Intent], *, anew: bool = True) -> None:
        """Nothing is announced."""

    def commit(self) -> None:
        """Nothing is kept."""

    def move(self, positions: dict[str, Any]) -> None:
        """No cursor is moved."""

    def keep(self, name: str, data: bytes) -> None:
        """Nothing is kept."""
