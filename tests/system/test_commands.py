# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands against the kernel: what they say is what is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ngfw.firewall.entry import Direction, Origin
from ngfw.firewall.firewall import Firewall
from ngfw.firewall.netset import Limits, parse_netset

from ..namespace import wait_until
from .conftest import RULES, Watcher, alert


def asked(watcher: Watcher, *argv: str) -> Any:
    done = watcher.command(*argv, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.feature("E5", "A8")
def test_a_block_can_be_explained_while_it_stands_and_afterwards(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.7", 41), alert("198.51.100.7", 42), alert("198.51.100.7", 43))
    wait_until(lambda: len(watcher.lines("alert.log")) == 3)
    wait_until(lambda: watcher.lines("alerts.json"))
    found = asked(watcher, "explain", "198.51.100.7")
    assert [(block["address"], block["rule_name"]) for block in found["blocks"]] == [("198.51.100.7", "High")]
    assert [(item["action"], item["sid"], item["rule"]) for item in found["history"]] == [("block", 41, "High")]
    assert {(item["sid"], item["msg"]) for item in found["alerts"]} == {
        (number, f"alert number {number}") for number in (41, 42, 43)
    }
    assert "rule High [RULE High]" in watcher.command("explain", "198.51.100.7").stdout
    assert asked(watcher, "unblock", "198.51.100.7")["unblocked"] == ["198.51.100.7"]
    wait_until(lambda: len(watcher.lines("alerts.json")) == 2)
    found = asked(watcher, "explain", "198.51.100.7")
    assert found["blocks"] == []
    assert [item["action"] for item in found["history"]] == ["block", "unblock"]


@pytest.mark.feature("U5")
def test_why_somebody_is_not_blocked_is_explained(watcher: Watcher) -> None:
    watcher.rules.write_text(RULES.replace("severity: high", "severity: high\n    threshold: 20", 1))
    watcher.start()
    watcher.write(*(alert("198.51.100.7") for _ in range(12)))
    watcher.write(*(alert("198.51.100.8", proto="UDP") for _ in range(20)))
    wait_until(lambda: watcher.lines("alerts.json"))
    [count] = asked(watcher, "explain", "198.51.100.7")["counts"]
    assert (count["rule"], count["count"], count["threshold"]) == ("High", 12, 20)
    assert 0 < count["left"] <= 60
    assert "12 of 20 for High, " in watcher.command("explain", "198.51.100.7").stdout
    found = asked(watcher, "explain", "198.51.100.8")
    assert found["counts"] == []
    assert [(item["reason"], "spoofable: true" in item["remedy"]) for item in found["history"]] == [("spoofable", True)]
    watcher.rules.write_text("rules: nonsense")
    assert asked(watcher, "explain", "198.51.100.7")["counts"] is None


def test_guards_networks_and_ipv6_are_explained(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("2001:db8:a:1::7"))
    wait_until(lambda: watcher.lines("alerts.json"))
    assert asked(watcher, "block", "203.0.113.0/24", "--reason", "why")["count"]["blocked"] == 1
    assert asked(watcher, "whitelist", "add", "203.0.113.0/28", "--comment", "office")["added"] == ["203.0.113.0/28"]
    found = asked(watcher, "explain", "203.0.113.7")
    assert [block["address"] for block in found["blocks"]] == ["203.0.113.0/24"]
    assert [(item["address"], item["comment"]) for item in found["whitelist"]] == [("203.0.113.0/28", "office")]
    assert [item["origin"] for item in asked(watcher, "explain", "192.0.2.1")["whitelist"]] == ["protected"]
    found = asked(watcher, "explain", "2001:db8:a:1::99")
    assert [block["address"] for block in found["blocks"]] == ["2001:db8:a:1::/64"]
    assert [item["ip"] for item in found["history"]] == ["2001:db8:a:1::/64"]
    assert watcher.command("explain", "nonsense").returncode == 2


def test_what_was_saved_is_restored_without_the_watcher(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not watcher.network.passes("198.51.100.7"))
    watcher.stop()
    assert asked(watcher, "block", "198.51.100.8")["changed"] is True
    assert asked(watcher, "save")["saved"] >= 2
    host = watcher.network.host
    for command in ("iptables -F", "iptables -X", "ip6tables -F", "ip6tables -X", "ipset destroy"):
        assert host.run(*command.split()).returncode == 0
    assert watcher.network.passes("198.51.100.7")
    assert asked(watcher, "restore", "--sets")["restored"] >= 2
    assert watcher.network.passes("198.51.100.7")
    assert asked(watcher, "restore", "--chain")["chain_changed"] is True
    assert not watcher.network.passes("198.51.100.7")
    assert not watcher.network.passes("198.51.100.8")
    assert asked(watcher, "restore")["chain_changed"] is False
    assert "restored" in watcher.command("restore").stdout
    (watcher.state / "sets").unlink()
    done = watcher.command("restore")
    assert done.returncode == 1
    assert "'ngfw save' writes it" in done.stderr


@pytest.mark.feature("S4")
def test_everybody_is_blocked_only_if_that_is_meant(watcher: Watcher) -> None:
    done = watcher.command("block", "0.0.0.0/1", "128.0.0.0/1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cover 100% of all IPv4 addresses" in done.stderr
    assert "--allow-wide" in done.stderr
    done = watcher.command("block", "64.0.0.0/3", "32.0.0.0/4", "--allow-wide")
    assert done.stdout.splitlines() == ["blocked 64.0.0.0/3", "blocked 32.0.0.0/4"]
    assert watcher.network.passes("198.51.100.7")


def test_status_is_one_screen(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not watcher.network.passes("198.51.100.7"))
    wait_until(lambda: watcher.counters().get("ngfw_blocks_created_total") == 1)
    lines = watcher.command("status").stdout.splitlines()
    assert len(lines) < 25
    assert [line.split()[0] for line in lines[:4]] == ["watcher", "sensor", "source", "rules"]
    assert "blocks    1 in force" in lines
    assert any(line.endswith("198.51.100.7") for line in lines)


def test_a_command_that_makes_the_chain_takes_the_hooks_of_the_configuration_and_else_leaves_them(
    watcher: Watcher,
) -> None:
    def jumps() -> list[str]:
        rules = watcher.network.host.run("iptables", "-S").stdout
        return [rule for rule in rules.splitlines() if rule.endswith(" -j NGFW")]

    watcher.configure(hooks=["INPUT"])
    asked(watcher, "block", "203.0.113.9")
    assert jumps() == ["-A INPUT -j NGFW"]
    watcher.configure(hooks=["FORWARD"])
    asked(watcher, "block", "203.0.113.8")
    assert jumps() == ["-A INPUT -j NGFW"]


def test_results_count_addresses_as_the_modules_do(watcher: Watcher) -> None:
    done = watcher.command("block", "203.0.113.9", "--target", "both")
    assert done.stdout == "blocked 203.0.113.9\n"
    found = asked(watcher, "unblock", "203.0.113.9")
    assert (found["unblocked"], found["count"]["unblocked"]) == (["203.0.113.9"], 1)
    asked(watcher, "whitelist", "add", "203.0.113.9", "--comment", "one")
    found = asked(watcher, "whitelist", "add", "203.0.113.9", "--comment", "two")
    assert (found["added"], found["removed"]) == (["203.0.113.9"], [])


@pytest.mark.feature("U2")
def test_what_a_blocklist_drops_is_seen(watcher: Watcher) -> None:
    with watcher.network.host:
        firewall = Firewall(origin=Origin.MODULE)
        lines = ("198.51.100.0/25", "198.51.100.0/28", "2001:db8:a::/48", "203.0.113.9")
        firewall.blocklist("feed", parse_netset(lines, Limits()), (Direction.SOURCE,))
        firewall.close()
    assert not watcher.network.passes("198.51.100.7")
    found = asked(watcher, "explain", "198.51.100.7")
    assert found["blocklists"] == [{"name": "feed", "target": "source", "network": "198.51.100.0/28"}]
    shown = watcher.command("explain", "198.51.100.7").stdout
    assert shown.count("dropped by blocklist feed (source) as 198.51.100.0/28") == 1
    assert "not blocked" not in shown
    assert (
        "dropped by blocklist feed (source) as 2001:db8:a::/48"
        in watcher.command("explain", "2001:db8:a:1::/64").stdout
    )
    assert "dropped by blocklist feed (source) as 203.0.113.9\n" in watcher.command("explain", "203.0.113.9").stdout
    assert "not blocked" in watcher.command("explain", "203.0.113.8").stdout
    lifted = watcher.command("unblock", "198.51.100.7", "203.0.113.8")
    assert "198.51.100.7 is dropped by blocklist feed (source) as 198.51.100.0/28; whitelist it, or" in lifted.stderr
    assert "203.0.113.8 is" not in lifted.stderr
    assert "blocklist feed (source): 4 networks" in watcher.command("list").stdout
    watcher.start()
    status = watcher.command("status")
    assert "blocklist feed (source): 4 networks" in status.stdout
    assert {item["count"] for item in asked(watcher, "status")["blocklists"]} == {3, 1}
    assert asked(watcher, "whitelist", "add", "198.51.100.7")["added"] == ["198.51.100.7"]
    assert watcher.command("unblock", "198.51.100.7").stderr == ""
    assert "  on blocklist feed (source) as 198.51.100.0/28" in watcher.command("explain", "198.51.100.7").stdout
    assert watcher.network.passes("198.51.100.7")
