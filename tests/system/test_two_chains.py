# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain that was renamed leaves nothing behind; one that is there on purpose is said, and left alone."""

from __future__ import annotations

import json
import signal

import pytest

from ..namespace import wait_until
from .conftest import Watcher, alert

ATTACKER, BY_HAND, FRIEND = "198.51.100.7", "198.51.100.8", "198.51.100.9"

pytestmark = pytest.mark.feature("S6")


def test_a_renamed_chain_is_moved_at_the_next_start(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert(ATTACKER))
    wait_until(lambda: not watcher.network.passes(ATTACKER))
    assert watcher.command("block", BY_HAND, "--duration", "2h", "--rule", "mine", "--reason", "seen").returncode == 0
    assert watcher.command("whitelist", "add", FRIEND).returncode == 0
    before = watcher.blocks()
    assert len(before) == 2
    watcher.stop()
    watcher.configure(chain="EDGE")

    watcher.start()

    assert not watcher.network.passes(ATTACKER)
    assert not watcher.network.passes(BY_HAND)
    after = watcher.blocks()
    for each in (*before, *after):
        del each["remaining"], each["packets"], each["bytes"]
    assert after == before
    assert watcher.command("block", FRIEND).returncode == 1
    rules = watcher.network.host.run("iptables-save").stdout + watcher.network.host.run("ipset", "list", "-n").stdout
    assert "NGFW" not in rules
    assert watcher.lines("daemon.log", "chain NGFW was removed, after its 2 blocks had been moved to EDGE")
    watcher.stop()
    assert [each["action"] for each in watcher.decisions()] == ["block"]  # none of them was made, or ended, again


def test_a_kill_before_the_rename_changes_nothing_of_that(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert(ATTACKER))
    wait_until(lambda: not watcher.network.passes(ATTACKER))
    wait_until(lambda: (watcher.state / "sets").exists())
    watcher.stop(signal.SIGKILL)
    watcher.configure(chain="EDGE")
    watcher.start()
    assert not watcher.network.passes(ATTACKER)
    assert "NGFW" not in watcher.network.host.run("iptables-save").stdout


def test_a_chain_that_is_there_on_purpose_is_said_and_left_alone(watcher: Watcher) -> None:
    main = watcher.config.read_text()
    watcher.configure(chain="OTHER")
    assert watcher.command("block", ATTACKER, "--rule", "mine").returncode == 0
    watcher.config.write_text(main)

    watcher.start()

    assert watcher.lines("daemon.log", "another chain of ours, OTHER, is in force too")
    assert not watcher.network.passes(ATTACKER)
    assert watcher.blocked() == set()
    (found,) = json.loads(watcher.command("explain", ATTACKER, "--json").stdout)["other_chains"]
    assert (found["chain"], [each["rule_name"] for each in found["blocks"]]) == ("OTHER", ["mine"])
    assert "  in another chain, OTHER: drop by source as 198.51.100.7: rule mine" in (
        watcher.command("explain", ATTACKER).stdout
    )
    assert json.loads(watcher.command("explain", BY_HAND, "--json").stdout)["other_chains"] == []
    status = json.loads(watcher.command("status", "--json").stdout)
    assert status["other_chains"] == [{"chain": "OTHER", "blocks": 1}]
    assert "chain     OTHER, another one of ours, has 1 blocks in force" in watcher.command("status").stdout
    assert "warning: chain OTHER is in force too" in watcher.command("check").stdout
    done = watcher.command("unblock", ATTACKER)
    assert "198.51.100.7 is blocked by another chain, OTHER" in done.stderr
    watcher.stop()
    assert not watcher.network.passes(ATTACKER)
