# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at any instant, the watcher neither loses a line nor doubles its effect."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from ipaddress import ip_address

import pytest

from .conftest import Watcher, alert, wait_until

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
    wait_until(lambda: not (watcher.state / "pending").exists())
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


@pytest.mark.feature("A2", "A3")
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random(watcher: Watcher, seed: int) -> None:
    random_ = random.Random(seed)
    print(f"seed {seed}")
    addresses: list[str] = []
    rotations = 0
    watcher.start()
    for kill in range(10):
        burst_until = time.monotonic() + random_.uniform(0.02, 0.25)
        while time.monotonic() < burst_until:
            number = len(addresses)
            count = random_.randint(1, 40)
            fresh = [str(ip_address("198.18.0.0") + each) for each in range(number, number + count)]
            watcher.write(*(alert(address, number) for number, address in enumerate(fresh, number)))
            addresses += fresh
            if random_.random() < 0.05:
                rotations += 1
                watcher.log.rename(f"{watcher.log}.{rotations}")
                watcher.log.touch()
            time.sleep(0.01)  # some 2,000 lines a second, as a busy sensor writes
        watcher.stop(signal.SIGKILL)
        if random_.random() < 0.3:
            for name in ("blocks.log", "alert.log", "alerts.json"):
                path = watcher.journals / name
                if path.exists():
                    path.rename(path.with_name(f"{name}.{kill}"))
        watcher.start(wait=random_.random() < 0.7)
    last = "198.51.100.99"
    watcher.write(alert(last))
    addresses.append(last)

    def journaled(name: str, word: str) -> list[str]:
        paths = sorted(watcher.journals.glob(f"{name}*"))
        return [line for path in paths for line in path.read_text().splitlines() if word in line]

    wait_until(lambda: journaled("alerts.json", last), seconds=20)
    assert watcher.blocked() == set(addresses)
    blocked = Counter(line.split()[3] for line in journaled("blocks.log", " BLOCKED "))
    assert blocked == Counter(addresses)
    assert len(journaled("alerts.json", '"action":"block"')) == len(addresses)
    assert len(journaled("alert.log", " ALERT ")) == len(addresses)
