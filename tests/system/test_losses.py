# SPDX-License-Identifier: GPL-3.0-or-later
"""What `ipset` at a shell takes away under the running watcher: seen within two seconds, and said."""

from __future__ import annotations

import time

import pytest

from ..namespace import shared, wait_until
from .conftest import Watcher, alert

CONFIGURED, BY_COMMAND = "198.51.100.20", "198.51.100.21"
ATTACKER = "198.51.100.7"

pytestmark = pytest.mark.feature("S6")


@pytest.fixture
def watching(watcher: Watcher) -> Watcher:
    """A watcher with one address whitelisted in its configuration, another by the command, and a third blocked."""
    watcher.configure(whitelist=[CONFIGURED])
    watcher.start()
    assert watcher.command("whitelist", "add", BY_COMMAND).returncode == 0
    watcher.write(alert(ATTACKER))
    wait_until(lambda: not watcher.network.passes(ATTACKER))
    wait_until(lambda: watcher.lines("alerts.json"))
    time.sleep(1.1)  # so that the whitelist was seen as it is
    return watcher


def ipset(watcher: Watcher, *arguments: str) -> None:
    assert watcher.network.host.run("ipset", *arguments).returncode == 0


def whitelisted(watcher: Watcher) -> set[str]:
    return {
        line.split()[2]
        for line in watcher.network.host.run("ipset", "save", "NGFW-allow4").stdout.splitlines()
        if line.startswith("add ")
    }


@pytest.mark.parametrize("arguments", [("flush",), ("flush", "NGFW-allow4")], ids=["all sets", "the whitelist"])
def test_an_emptied_whitelist_returns_within_two_seconds(watching: Watcher, arguments: tuple[str, ...]) -> None:
    ipset(watching, *arguments)
    start = time.monotonic()
    wait_until(lambda: whitelisted(watching) == {CONFIGURED, BY_COMMAND})
    took = time.monotonic() - start
    print(f"back after {took:.2f} s")
    assert took < shared(2)
    wait_until(lambda: watching.lines("daemon.log", "emptied or destroyed the set NGFW-allow4; its 2 entries are back"))
    assert watching.command("block", CONFIGURED).returncode == 1
    assert watching.command("block", "198.51.100.0/25").returncode == 0
    for address in (CONFIGURED, BY_COMMAND):
        assert watching.network.passes(address)
    assert not watching.network.passes("198.51.100.22")
    wait_until(lambda: watching.counters().get("ngfw_heals_total") == 1)


def test_protected_addresses_return_within_two_seconds(watching: Watcher) -> None:
    ipset(watching, "flush", "NGFW-own4")
    wait_until(lambda: watching.lines("daemon.log", "emptied or destroyed the set NGFW-own4"), seconds=shared(2))
    assert watching.command("block", "192.0.2.1").returncode == 1


def test_flushed_blocks_stay_lifted_and_are_journaled_at_once(watching: Watcher) -> None:
    ipset(watching, "flush", "NGFW-drop-src4")
    start = time.monotonic()
    wait_until(lambda: watching.lines("blocks.log", "UNBLOCKED"))
    assert time.monotonic() - start < shared(2)
    assert [each["ip"] for each in watching.decisions() if each["action"] == "unblock"] == [ATTACKER]
    assert watching.lines("daemon.log", "took blocks out of the kernel's set NGFW-drop-src4; they stay lifted")
    assert watching.network.passes(ATTACKER)
    watching.write(alert(ATTACKER))
    wait_until(lambda: not watching.network.passes(ATTACKER))
    wait_until(lambda: len([each for each in watching.decisions() if each["action"] == "block"]) == 2)


def test_destroyed_guards_return_where_no_rule_uses_them(watcher: Watcher) -> None:
    watcher.configure(whitelist=[CONFIGURED])
    watcher.start()
    time.sleep(1.1)
    ipset(watcher, "destroy")  # all of them, for the chain is empty
    wait_until(lambda: whitelisted(watcher) == {CONFIGURED}, seconds=shared(3))
    watcher.write(alert(ATTACKER))
    wait_until(lambda: not watcher.network.passes(ATTACKER))


def test_a_flush_by_module_or_command_is_no_loss(watching: Watcher) -> None:
    assert watching.command("flush").returncode == 0
    wait_until(lambda: watching.lines("blocks.log", "UNBLOCKED"))
    time.sleep(1.5)
    assert watching.lines("daemon.log", "somebody") == []
    assert watching.counters()["ngfw_heals_total"] == 0
