# SPDX-License-Identifier: GPL-3.0-or-later
"""What is the watcher's own is removed under it: nothing stops, all comes back, and nobody can run beside."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from ..namespace import wait_until
from .conftest import Watcher, alert

FIRST, SECOND, THIRD = "198.51.100.7", "198.51.100.8", "198.51.100.9"

pytestmark = pytest.mark.feature("S6")


@pytest.fixture
def blocking(watcher: Watcher) -> Watcher:
    """A watcher that has blocked somebody, and has saved that."""
    watcher.start()
    watcher.write(alert(FIRST))
    wait_until(lambda: not watcher.network.passes(FIRST))
    wait_until(lambda: (watcher.state / "sets").exists() and (watcher.state / "in_force").exists())
    wait_until(watcher.settled)
    return watcher


def blocks(watcher: Watcher, address: str) -> None:
    watcher.write(alert(address))
    wait_until(lambda: not watcher.network.passes(address))
    wait_until(lambda: watcher.lines("alerts.json", address))


def remove(directory: Path) -> None:
    """Remove a directory in which the watcher goes on writing."""
    aside = directory.with_name(f"{directory.name}.removed")
    directory.rename(aside)
    shutil.rmtree(aside)


def actions(watcher: Watcher) -> list[tuple[str, str]]:
    return [(each["action"], each["ip"]) for each in watcher.decisions()]


@pytest.mark.feature("A9")
def test_the_state_directory(blocking: Watcher) -> None:
    remove(blocking.state)
    blocks(blocking, SECOND)
    wait_until(lambda: blocking.lines("daemon.log", f"{blocking.state} was removed by somebody, and was made again"))
    for name in ("lock", "cursor", "sets", "in_force", "status.json"):
        wait_until((blocking.state / name).exists)
    assert stat.S_IMODE(blocking.state.stat().st_mode) == 0o750
    assert blocking.command("status").returncode == 0
    beside = blocking.command("watch")
    assert beside.returncode == 1
    assert "another watcher (process" in beside.stderr
    blocks(blocking, THIRD)
    wait_until(blocking.settled)
    blocking.stop(signal.SIGKILL)
    blocking.start()
    blocking.stop()
    assert actions(blocking) == [("block", FIRST), ("block", SECOND), ("block", THIRD)]


@pytest.mark.feature("A9")
def test_nobody_can_run_beside_before_the_directory_is_there_again(blocking: Watcher) -> None:
    blocking.send(signal.SIGSTOP)  # it has no chance to make anything again
    try:
        remove(blocking.state)
        beside = blocking.command("watch")
    finally:
        blocking.send(signal.SIGCONT)
    assert beside.returncode == 1
    assert "another watcher (process" in beside.stderr


def test_the_log_directory(blocking: Watcher) -> None:
    remove(blocking.journals)
    wait_until(lambda: all((blocking.journals / name).exists() for name in ("alert.log", "alerts.json", "daemon.log")))
    blocks(blocking, SECOND)
    wait_until(lambda: blocking.lines("blocks.log", f"BLOCKED {SECOND}"))
    assert stat.S_IMODE(blocking.journals.stat().st_mode) == 0o750
    assert blocking.lines("daemon.log", f"{blocking.journals} was removed by somebody")


@pytest.mark.parametrize("name", ["cursor", "pending", "lock", "sets", "in_force", "history.sqlite"])
def test_a_file_of_the_state(blocking: Watcher, name: str) -> None:
    path = blocking.state / name
    wait_until(path.exists)
    path.unlink()
    blocks(blocking, SECOND)
    wait_until(path.exists)
    wait_until(blocking.settled)
    blocking.stop(signal.SIGKILL)
    blocking.write(alert(THIRD))
    blocking.start()
    wait_until(lambda: not blocking.network.passes(THIRD))
    blocking.stop()
    assert actions(blocking) == [("block", FIRST), ("block", SECOND), ("block", THIRD)]
    assert blocking.lines("daemon.log", "cannot") == []


def test_what_is_remembered_of_offenders_outlives_its_file(blocking: Watcher) -> None:
    wait_until((blocking.state / "history.sqlite").exists)
    for path in blocking.state.glob("history.sqlite*"):
        path.unlink()
    blocks(blocking, SECOND)
    wait_until(blocking.settled)
    for address in (FIRST, SECOND):
        assert "blocked 1 times that are remembered" in blocking.command("explain", address).stdout


@pytest.mark.feature("C9")
def test_the_lock_of_all_writers(blocking: Watcher) -> None:
    lock = Path("/run/ngfw", f"NGFW-{os.fstat(blocking.network.host.descriptor).st_ino}.lock")
    lock.unlink()
    wait_until(lock.exists)
    assert blocking.command("unblock", FIRST).returncode == 0
    wait_until(lambda: blocking.lines("blocks.log", f"UNBLOCKED {FIRST}"))
    assert blocking.command("whitelist", "add", SECOND).returncode == 0
    blocking.write(alert(SECOND), alert(THIRD))
    wait_until(lambda: not blocking.network.passes(THIRD))
    assert blocking.network.passes(SECOND)
    wait_until(lambda: ("skip", SECOND) in actions(blocking))
