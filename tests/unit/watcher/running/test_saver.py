# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ngfw.running import saver as module
from ngfw.running.loop import Loop
from ngfw.running.saver import Saver


class Office:
    """A saver whose file counts how often it was written; `broken` makes it fail."""

    def __init__(self, loop: Loop, path: Path) -> None:
        self.loop, self.path = loop, path
        self.failures: list[str] = []
        self.broken = False
        self.saver = Saver(loop, self.prepare, in_child=lambda: None, failed=self.failures.append)

    def prepare(self) -> Callable[[], None]:
        broken = self.broken

        def save() -> None:
            if broken:
                raise OSError("no room")
            self.path.write_text(f"{self.saves() + 1}")

        return save

    def saves(self) -> int:
        return int(self.path.read_text()) if self.path.exists() else 0

    def wait(self, times: int) -> None:
        for _time in range(times):  # the timer, then the child's end
            self.loop.wait()


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setattr(module, "DELAY_SECONDS", 0.01)
    with Loop((signal.SIGHUP,)) as loop:
        yield Office(loop, tmp_path / "saved")


@pytest.mark.feature("D4")
def test_many_changes_are_saved_together_and_the_end_saves_only_what_is_not_saved_yet(office: Office) -> None:
    for _change in range(10):
        office.saver.changed()
    office.wait(2)
    assert office.saves() == 1
    office.saver.finish(30)
    assert office.saves() == 1
    office.saver.changed()
    office.saver.finish(30)
    assert office.saves() == 2


@pytest.mark.feature("D4", "D6")
def test_what_could_not_be_saved_is_said_once_and_saved_at_the_end(office: Office) -> None:
    office.broken = True
    for _time in range(2):
        office.saver.changed()
        office.wait(2)
    assert office.failures == ["the blocks could not be saved for the next boot: no room"]
    office.broken = False
    office.saver.finish(30)
    assert office.saves() == 1
