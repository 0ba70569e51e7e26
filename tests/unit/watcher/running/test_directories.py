# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ngfw.effects.journal import DAEMON_LOG, Journal
from ngfw.effects.state import CURSOR, IN_FORCE, LOCK, State, StateError
from ngfw.running.directories import Directories

pytestmark = pytest.mark.feature("S6")

POSITIONS = {"/var/log/suricata/eve.json": {"offset": 7}}


class Rest:
    """What reader and blocks are asked for."""

    def __init__(self) -> None:
        self.moved = self.touched = 0

    def move(self) -> None:
        self.moved += 1

    def touch(self) -> None:
        self.touched += 1

    def look_after_lock(self) -> None:
        """Nobody removes it here."""


class Setup:
    def __init__(self, directory: Path) -> None:
        self.state_directory, self.logs, self.run_directory = (directory / name for name in ("state", "log", "run"))
        self.lost: list[Path] = []
        self.failed: list[str] = []
        self.rest = Rest()
        self.journal = Journal(self.logs, echo=lambda text: None)
        self.state = State(self.state_directory, report=self.failed.append, run_directory=self.run_directory)
        self.state.lock()
        self.journal.say("begun")
        self.directories = Directories(
            {self.state_directory: 0o750, self.logs: 0o750, self.run_directory: 0o770},
            self.state,
            self.journal,
            self.rest,
            self.rest,
            lost=self.lost.append,
            failed=self.failed.append,
        )
        self.directories.start()

    def run(self) -> None:
        for _second in range(3):
            self.directories.look()

    def beside(self) -> State:
        return State(self.state_directory, report=self.failed.append, run_directory=self.run_directory)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path)
    yield made
    made.state.unlock()


def remove(path: Path) -> None:
    for each in path.iterdir():
        each.unlink()
    path.rmdir()


def test_a_file_that_nobody_makes_again_is_missed_once(setup: Setup) -> None:
    """As in_force in a dry run, which does not write it."""
    setup.state.keep(IN_FORCE, b"")
    setup.run()
    (setup.state_directory / IN_FORCE).unlink()
    setup.run()
    setup.run()
    assert (setup.rest.moved, setup.rest.touched) == (1, 1)


def test_what_is_removed_comes_back_locked(setup: Setup) -> None:
    setup.state.keep(CURSOR, b"")
    setup.run()
    for path in (setup.state_directory, setup.logs, setup.run_directory):
        remove(path)
    setup.run()
    assert (setup.state_directory / LOCK).read_text().split() == [str(os.getpid())]
    assert setup.state_directory.stat().st_mode & 0o777 == 0o750
    assert (setup.logs / DAEMON_LOG).read_text().count("was removed by somebody, and was made again") == 3
    assert setup.rest.moved
    assert setup.rest.touched
    assert setup.lost == setup.failed == []
    with pytest.raises(StateError, match=f"another watcher .process {os.getpid()}. already works on"):
        setup.beside().lock()


@pytest.mark.parametrize("which", ["state_directory", "run_directory"])
def test_either_lock_keeps_others_out(setup: Setup, which: str) -> None:
    remove(getattr(setup, which))
    with pytest.raises(StateError, match="another watcher"):
        setup.beside().lock()


def test_what_cannot_be_made_again_is_said_once(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != setup.state_directory and real(path, mode))
    remove(setup.state_directory)
    setup.run()
    assert setup.lost == [setup.state_directory]
    setup.state.leave(POSITIONS)
    setup.state.unlock()
    again = setup.beside()
    again.lock()
    assert again.positions() == POSITIONS
    assert [path.name for path in setup.run_directory.iterdir() if path.suffix == ".cursor"] == []
    assert again.positions() == POSITIONS
    again.unlock()


def test_a_run_directory_that_cannot_be_used_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    state = State(tmp_path / "state", report=lambda text: None, run_directory=tmp_path / "run")
    state.lock()
    with pytest.raises(StateError, match="another watcher"):
        State(tmp_path / "state", report=lambda text: None, run_directory=tmp_path / "run").lock()
    state.unlock()
