# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at any instant, the watcher neither loses a line nor doubles its effect."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from ..namespace import wait_until
from .conftest import Watcher, alert

STEPS = ("announced", "enforced", "journaled", "committed")

KILL_AFTER = """
count = 0
def after(step):
    global count
    if step == {step!r}:
        count += 1
        if count == {nth}:
            os.kill(os.getpid(), signal.SIGKILL)

Service(load, after=after).run()
"""


def assert_each_once(watcher: Watcher, addresses: list[str], skipped: int = 0) -> None:
    assert watcher.blocked() == set(addresses)
    assert Counter(line.split()[3] for line in watcher.lines("blocks.log", " BLOCKED ")) == Counter(addresses)
    decisions = watcher.decisions()
    assert Counter(each["ip"] for each in decisions if each["action"] == "block") == Counter(addresses)
    assert sum(each["action"] == "skip" for each in decisions) == skipped
    assert len(watcher.lines("alert.log")) == len(addresses) + skipped


@pytest.mark.feature("A2")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("nth", [1, 2])
def test_killed_between_two_steps(watcher: Watcher, step: str, nth: int) -> None:
    watcher.start(code=KILL_AFTER.format(step=step, nth=nth))
    watcher.write(alert("198.51.100.1"), alert("10.0.0.1"), alert("198.51.100.2"), alert("2001:db8:a::1"))
    if nth == 2:
        wait_until(lambda: len(watcher.lines("alerts.json")) == 4)
        watcher.write(alert("198.51.100.3"), alert("10.0.0.2"))
    assert watcher.wait() == -signal.SIGKILL
    watcher.write(alert("198.51.100.4"))
    watcher.start()
    wait_until(lambda: watcher.lines("blocks.log", "198.51.100.4"))
    addresses = ["198.51.100.1", "198.51.100.2", "2001:db8:a::/64", "198.51.100.4"]
    assert_each_once(watcher, addresses + ["198.51.100.3"] * (nth == 2), skipped=nth)
    assert watcher.stop() == 0
    before = {path.name: path.read_bytes() for path in watcher.journals.iterdir() if path.name != "daemon.log"}
    watcher.start()
    watcher.stop()
    assert before == {path.name: path.read_bytes() for path in watcher.journals.iterdir() if path.name != "daemon.log"}


@pytest.mark.feature("A2")
def test_what_is_committed_is_not_done_again(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.1"))
    wait_until(lambda: watcher.lines("alerts.json"))
    watcher.write(alert("198.51.100.2"))
    wait_until(lambda: len(watcher.lines("alerts.json")) == 2)
    wait_until(watcher.settled)
    watcher.stop(signal.SIGKILL)
    assert watcher.command("unblock", "198.51.100.1", "198.51.100.2").returncode == 0
    watcher.start()
    watcher.write(alert("198.51.100.3"))
    wait_until(lambda: watcher.lines("blocks.log", "198.51.100.3"))
    assert watcher.blocked() == {"198.51.100.3"}


@pytest.mark.feature("A2")
def test_a_whitelisting_before_the_second_try_wins(watcher: Watcher) -> None:
    watcher.start(code=KILL_AFTER.format(step="announced", nth=1))
    watcher.write(alert("198.51.100.1"), alert("198.51.100.2"))
    assert watcher.wait() == -signal.SIGKILL
    assert watcher.command("whitelist", "add", "198.51.100.1").returncode == 0
    watcher.start()
    wait_until(lambda: len(watcher.decisions()) == 2)
    assert watcher.blocked() == {"198.51.100.2"}
    assert [line.split()[3] for line in watcher.lines("blocks.log")] == ["198.51.100.2"]
    assert [(each["action"], each["ip"]) for each in watcher.decisions()] == [
        ("skip", "198.51.100.1"),
        ("block", "198.51.100.2"),
    ]
    assert watcher.decisions()[0]["reason"] == "whitelist: 198.51.100.1"


@pytest.mark.feature("A2")
def test_the_first_start_is_remembered_before_anything_is_written(watcher: Watcher) -> None:
    watcher.write(alert("198.51.100.9"))
    watcher.start()
    watcher.stop(signal.SIGKILL)
    watcher.write(alert("198.51.100.1"))
    watcher.start()
    wait_until(lambda: watcher.lines("alerts.json"))
    assert watcher.blocked() == {"198.51.100.1"}
