# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock is set under the running watcher: what the kernel ends is told then, neither sooner nor later."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ..namespace import wait_until
from .conftest import RULES, Watcher, alert

ATTACKER, LONGER = "198.51.100.7", "198.51.100.8"
TEN_YEARS = 10 * 365 * 86400

# Read at each call: a test sets the clock of one process by writing into a file.
SET_CLOCK = """
import time
_real = time.time
def _set():
    try:
        return _real() + float(open({path!r}).read() or 0)
    except OSError:
        return _real()
time.time = _set
"""

pytestmark = pytest.mark.feature("S7")


@pytest.fixture
def clock(watcher: Watcher, tmp_path: Path) -> Path:
    """The file that says how far ahead the watcher's clock is; the watcher runs with it."""
    modules, ahead = tmp_path / "modules", tmp_path / "ahead"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(SET_CLOCK.format(path=str(ahead)))
    watcher.rules.write_text(RULES.replace("30m", "8s"))
    watcher.start(path=modules)
    return ahead


def set_clock(clock: Path, seconds: float) -> None:
    fresh = clock.with_suffix(".new")
    fresh.write_text(str(seconds))
    fresh.rename(clock)


@pytest.mark.parametrize("step", [-3600, 3600, TEN_YEARS], ids=["back", "ahead", "ten years ahead"])
def test_a_block_expires_when_the_kernel_ends_it(watcher: Watcher, clock: Path, step: int) -> None:
    watcher.write(alert(ATTACKER))
    wait_until(lambda: not watcher.network.passes(ATTACKER))
    wait_until(lambda: watcher.lines("blocks.log", "BLOCKED"))
    set_clock(clock, step)
    wait_until(lambda: watcher.lines("daemon.log", f"the clock was set by {step:+d} s"))
    assert not watcher.network.passes(ATTACKER)
    assert watcher.lines("blocks.log", "EXPIRED") == []
    watcher.write(alert(ATTACKER, at=time.time() + step))  # a further hit, no new block
    wait_until(lambda: watcher.counters().get("ngfw_duplicates_skip_total") == 1)
    wait_until(lambda: watcher.network.passes(ATTACKER))
    wait_until(lambda: watcher.lines("blocks.log", "EXPIRED"), seconds=10)
    watcher.stop()
    assert [each["action"] for each in watcher.decisions()] == ["block", "expire"]


def test_status_does_not_grow_old_by_a_clock_that_is_set(watcher: Watcher, clock: Path) -> None:
    wait_until((watcher.state / "status.json").exists)
    started = json.loads((watcher.state / "status.json").read_text())["started_at"]
    set_clock(clock, TEN_YEARS)
    wait_until(lambda: watcher.lines("daemon.log", "the clock was set by"))
    watcher.write(alert(ATTACKER, at=time.time() + TEN_YEARS))
    wait_until(lambda: json.loads((watcher.state / "status.json").read_text())["started_at"] != started)
    assert abs(json.loads((watcher.state / "status.json").read_text())["started_at"] - started - TEN_YEARS) < 60
