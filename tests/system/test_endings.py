# SPDX-License-Identifier: GPL-3.0-or-later
"""Each block has one end in the journal, whoever ended it, and whether the watcher was running or not."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ..namespace import shared, wait_until
from .conftest import RULES, Watcher, alert

SHORT = RULES.replace("duration: 30m", "duration: 4s")


def ends(watcher: Watcher) -> list[tuple[str, str]]:
    return [(line.split()[2], line.split()[3]) for line in watcher.lines("blocks.log")]


def one_block(watcher: Watcher, rules: str = RULES) -> None:
    watcher.rules.write_text(rules)
    watcher.start()
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: watcher.lines("alerts.json"))
    wait_until(watcher.settled)


@pytest.mark.feature("D1")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_ended_while_the_watcher_was_down_has_expired(watcher: Watcher, number: signal.Signals) -> None:
    one_block(watcher, SHORT)
    if number is signal.SIGKILL:
        watcher.write(alert("198.51.100.8"))  # both are known from the journal only
        wait_until(lambda: len(watcher.lines("alerts.json")) >= 2)
    watcher.stop(number)
    wait_until(lambda: watcher.network.passes("198.51.100.7") and watcher.network.passes("198.51.100.8"))
    watcher.start()
    addresses = ["198.51.100.7"] + ["198.51.100.8"] * (number is signal.SIGKILL)
    wait_until(lambda: len(watcher.lines("blocks.log", "EXPIRED")) == len(addresses))
    assert sorted(ends(watcher)) == sorted((verb, ip) for ip in addresses for verb in ("BLOCKED", "EXPIRED"))
    watcher.stop(number)
    watcher.start()
    assert len(ends(watcher)) == 2 * len(addresses)


@pytest.mark.feature("D1")
def test_killed_right_after_the_very_first_start_the_end_is_told_as_well(watcher: Watcher) -> None:
    one_block(watcher, SHORT)
    watcher.stop(signal.SIGKILL)
    wait_until(lambda: watcher.network.passes("198.51.100.7"))
    watcher.start()
    wait_until(lambda: watcher.lines("blocks.log", "EXPIRED"))
    assert ends(watcher) == [("BLOCKED", "198.51.100.7"), ("EXPIRED", "198.51.100.7")]


@pytest.mark.feature("D1")
def test_a_block_that_ends_and_comes_back_right_after_a_restart_has_both_its_ends(watcher: Watcher) -> None:
    watcher.configure(escalation={"factor": 1, "max": "7d", "memory": "30d"})
    one_block(watcher, SHORT)
    watcher.stop()
    wait_until(lambda: watcher.network.passes("198.51.100.7"))
    watcher.write(alert("198.51.100.7", 2))
    watcher.start()  # the new block comes before the last run's are known
    wait_until(lambda: len(watcher.lines("blocks.log", "EXPIRED")) == 2)
    assert sorted(ends(watcher)) == [("BLOCKED", "198.51.100.7")] * 2 + [("EXPIRED", "198.51.100.7")] * 2


@pytest.mark.feature("E2")
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["unblock", "198.51.100.7"], "lifted by hand or by a module"),
        (["flush"], "lifted by hand or by a module"),
        (["whitelist", "add", "198.51.100.0/28"], "whitelist: 198.51.100.0/28"),
    ],
)
def test_a_lifted_block_is_journaled_and_does_not_expire(
    watcher: Watcher, command: list[str], reason: str, running: bool
) -> None:
    past_its_end = running and command[0] == "unblock"
    one_block(watcher, SHORT if past_its_end else RULES)
    if not running:
        watcher.stop()
    assert watcher.command(*command).returncode == 0
    if not running:
        watcher.start()
    wait_until(lambda: len(watcher.decisions()) == 2)
    assert [(each["action"], each["reason"]) for each in watcher.decisions()][1:] == [("unblock", reason)]
    if past_its_end:
        time.sleep(4.2)
    assert ends(watcher) == [("BLOCKED", "198.51.100.7"), ("UNBLOCKED", "198.51.100.7")]
    wait_until(lambda: watcher.counters()["ngfw_blocks_removed_total"] == 1)
    assert watcher.counters()["ngfw_blocks_expired_total"] == 0


def test_a_block_lifted_with_ipset_does_not_expire(watcher: Watcher) -> None:
    one_block(watcher, SHORT)
    assert watcher.network.host.run("ipset", "del", "NGFW-drop-src4", "198.51.100.7").returncode == 0
    wait_until(lambda: len(ends(watcher)) == 2)
    assert ends(watcher) == [("BLOCKED", "198.51.100.7"), ("UNBLOCKED", "198.51.100.7")]


def test_a_block_that_somebody_prolonged_expires_at_its_new_end(watcher: Watcher) -> None:
    one_block(watcher, SHORT)
    assert watcher.command("block", "--duration", "8s", "198.51.100.7").returncode == 0
    wait_until(lambda: ends(watcher) == [("BLOCKED", "198.51.100.7"), ("EXPIRED", "198.51.100.7")])
    expired: dict[str, Any] = watcher.decisions()[-1]
    assert expired["duration"] == 8


@pytest.mark.parametrize("who", ["watcher", "command"])
def test_changed_sets_are_saved_within_ten_seconds(watcher: Watcher, who: str) -> None:
    watcher.start()
    sets = watcher.state / "sets"
    if who == "watcher":
        watcher.write(alert("203.0.113.5"))
    else:
        assert watcher.command("block", "203.0.113.5").returncode == 0
    start = time.monotonic()
    wait_until(lambda: sets.exists() and "203.0.113.5" in sets.read_text())
    assert time.monotonic() - start < shared(10)
    wait_until(lambda: not zombies(watcher))
    assert not list(watcher.state.glob("sets.*"))


def test_sets_are_saved_at_the_end(watcher: Watcher) -> None:
    one_block(watcher)
    assert watcher.stop() == 0
    lines = [json.loads(line) for line in (watcher.state / "sets").read_text().splitlines()]
    assert [entry[0] for line in lines if line.get("name") == "NGFW-drop-src4" for entry in line["entries"]] == [
        "198.51.100.7"
    ]


def zombies(watcher: Watcher) -> list[str]:
    assert watcher.process is not None
    children = Path(f"/proc/{watcher.process.pid}/task/{watcher.process.pid}/children").read_text().split()
    return [child for child in children if "Z (zombie)" in Path(f"/proc/{child}/status").read_text()]
