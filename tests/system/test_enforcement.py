# SPDX-License-Identifier: GPL-3.0-or-later
"""From a line in the log to packets that do not arrive."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..namespace import shared, wait_until
from .conftest import FILES, HOST, RULES, Watcher, alert

SHORT = """
rules:
  - name: Short
    type: alert
    expression: alert.severity == 1
    severity: high
    actions:
      - {type: iptables_block, config: {duration: 4s}}
"""
COUNTED = """
  - name: Counted
    type: alert
    expression: alert.severity == 2
    severity: medium
    threshold: 3
    threshold_window: 60
    actions:
      - {type: iptables_block, config: {duration: 1h}}
      - {type: iptables_log, config: {prefix: "SEEN: ", duration: 20m}}
"""
FORMS = """
rules:
  - name: Twice
    type: alert
    expression: alert.severity == 1
    severity: high
    actions:
      - {type: iptables_reject, config: {duration: 10m}}
      - {type: iptables_log, config: {prefix: "SEEN: ", duration: 10m}}
      - {type: iptables_block, config: {target: destination, duration: 10m}}
"""
LOGGED = """
rules:
  - name: Long
    type: alert
    expression: alert.severity == 1
    actions:
      - {type: iptables_log, config: {prefix: "LONG: ", duration: 1h}}
  - name: Short
    type: alert
    expression: alert.severity == 2
    actions:
      - {type: iptables_log, config: {prefix: "SHORT: ", duration: 10m}}
      - {type: iptables_block, config: {duration: 10m}}
"""


@pytest.mark.feature("A1", "D1")
def test_a_line_becomes_dropped_packets(watcher: Watcher) -> None:
    watcher.start()
    passes = watcher.network.passes
    assert passes("198.51.100.7")
    watcher.write(alert("198.51.100.7", 42))
    wait_until(lambda: not passes("198.51.100.7"))
    assert passes("198.51.100.8")
    (block,) = watcher.blocks()
    assert (block["address"], block["rule_name"], block["reason"]) == ("198.51.100.7", "High", "RULE High")
    assert (block["origin"], block["action"], block["target"]) == ("watcher", "drop", "source")
    assert 1790 <= block["remaining"] <= 1800
    wait_until(lambda: watcher.lines("alerts.json"))
    (line,) = watcher.lines("blocks.log")
    assert line.endswith(' BLOCKED 198.51.100.7 (REPUTATION SCORE: -) [RULE High] SID=42 MSG="alert number 42"')
    assert [(each["action"], each["ip"], each["sid"]) for each in watcher.decisions()] == [
        ("block", "198.51.100.7", 42)
    ]


@pytest.mark.feature("C9")
def test_an_ipv6_offender_is_dropped_with_its_network(watcher: Watcher) -> None:
    watcher.start()
    passes = watcher.network.passes
    watcher.write(alert("2001:db8:a:1::7"))
    wait_until(lambda: not passes("2001:db8:a:1::7"))
    assert not passes("2001:db8:a:1:ffff::1")
    assert passes("2001:db8:a:2::7")
    assert watcher.blocked() == {"2001:db8:a:1::/64"}


@pytest.mark.feature("C9", "C5")
def test_a_neighbour_on_the_hosts_own_link_is_blocked_alone(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("2001:db8:1::77"))
    wait_until(lambda: watcher.lines("alerts.json"))
    assert watcher.blocked() == {"2001:db8:1::77"}


@pytest.mark.feature("C4")
def test_the_whitelist_of_the_configuration_is_never_blocked(watcher: Watcher) -> None:
    watcher.configure(whitelist=[{"address": "198.51.100.0/28", "comment": "the office"}, "2001:db8:a:1::1"])
    watcher.start()
    watcher.write(alert("198.51.100.7"), alert("2001:db8:a:1::1"), alert("2001:db8:a:1::2"), alert("203.0.113.1"))
    passes = watcher.network.passes
    wait_until(lambda: not passes("203.0.113.1"))
    assert passes("198.51.100.7")
    assert passes("2001:db8:a:1::1")
    wait_until(lambda: not passes("2001:db8:a:1::2"))
    assert watcher.blocked() == {"203.0.113.1", "2001:db8:a:1::2"}
    wait_until(lambda: len(watcher.decisions()) == 4)
    skips = {each["ip"]: each["reason"] for each in watcher.decisions() if each["action"] == "skip"}
    assert skips == {
        "198.51.100.7": "whitelist: 198.51.100.0/28 (the office)",
        "2001:db8:a:1::1": "whitelist: 2001:db8:a:1::1",
    }
    listed = json.loads(watcher.command("whitelist", "list", "--json").stdout)
    assert ("198.51.100.0/28", "config", "the office") in {
        (item["address"], item["origin"], item["comment"]) for item in listed
    }


@pytest.mark.feature("S5", "C4")
def test_a_trusted_proxy_is_whitelisted_in_the_kernel_from_then_on(watcher: Watcher) -> None:
    watcher.start()
    passes = watcher.network.passes
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not passes("198.51.100.7"))
    watcher.configure(trusted_proxies=["198.51.100.0/28"])
    watcher.reload()
    assert passes("198.51.100.7")
    assert watcher.blocked() == set()
    client = {"gid": 1, "signature_id": 5, "signature": "x", "severity": 1, "xff": "203.0.113.9"}
    watcher.write(alert("198.51.100.7"), alert("198.51.100.7", alert=client))
    wait_until(lambda: not passes("203.0.113.9"))
    assert passes("198.51.100.7")
    done = watcher.command("block", "198.51.100.7")
    assert "trusted proxy" in done.stdout + done.stderr
    assert watcher.blocked() == {"203.0.113.9"}
    watcher.configure(trusted_proxies=[])
    watcher.reload()
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not passes("198.51.100.7"))


@pytest.mark.feature("C4")
def test_a_whitelist_entry_added_by_hand_counts_at_once(watcher: Watcher) -> None:
    watcher.start()
    passes = watcher.network.passes
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not passes("198.51.100.7"))
    assert watcher.command("whitelist", "add", "198.51.100.7").stdout.splitlines() == [
        "whitelisted 198.51.100.7",
        "unblocked 198.51.100.7",
    ]
    assert passes("198.51.100.7")
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: any(each["action"] == "skip" for each in watcher.decisions()))
    assert passes("198.51.100.7")


@pytest.mark.feature("S5")
def test_networks_on_the_hosts_links_are_inside_but_for_the_default_routes(watcher: Watcher) -> None:
    host = watcher.network.host
    host.ip(
        "link add lan type veth peer name lan-far",
        "link set lan-far up",
        "link set lan up",
        "address add 203.0.113.129/25 dev lan",
        "address add 2001:db8:a:1::1/64 dev lan nodad",
    )
    watcher.start()
    watcher.write(alert("203.0.113.130"), alert("2001:db8:a:1::1234"), alert("203.0.113.1"), alert("192.0.2.77"))
    wait_until(lambda: len(watcher.decisions()) == 4)
    assert watcher.blocked() == {"203.0.113.1", "192.0.2.77"}, "a neighbour on the default route's link is outside"
    skips = {each["ip"]: each["reason"] for each in watcher.decisions() if each["action"] == "skip"}
    assert set(skips) == {"203.0.113.130", "2001:db8:a:1::1234"}
    assert set(skips.values()) == {"outbound: INTERNAL/PRIVATE (skipped)"}
    # The link gets another network.
    host.ip("address del 203.0.113.129/25 dev lan", "address add 203.0.113.33/27 dev lan")
    wait_until(lambda: watcher.lines("daemon.log", "or links changed"))
    watcher.write(alert("203.0.113.40"), alert("203.0.113.131"))
    wait_until(lambda: len(watcher.decisions()) == 6)
    assert "203.0.113.131" in watcher.blocked()
    assert "203.0.113.40" not in watcher.blocked()
    watcher.configure(home_links=False)
    watcher.reload()
    watcher.write(alert("203.0.113.41"))
    wait_until(lambda: "203.0.113.41" in watcher.blocked())


@pytest.mark.feature("A7", "C5")
def test_the_hosts_own_addresses_and_its_gateway_are_never_blocked(watcher: Watcher) -> None:
    watcher.start()
    answers = {"direction": "to_client", "flow": {"pkts_toserver": 4, "pkts_toclient": 3}}
    watcher.write(
        alert(HOST),
        alert("192.0.2.2"),
        alert("127.0.0.1"),
        alert("0.0.0.0"),
        # The signature fires on our server's answer: the client that provoked it is meant.
        alert(HOST, 5, dest_ip="198.51.100.9", **answers),
        # Our own client fetched something bad: nobody.
        alert("198.51.100.10", 6, dest_ip=HOST, **answers),
    )
    wait_until(lambda: len(watcher.decisions()) == 5)
    assert watcher.blocked() == {"198.51.100.9"}
    assert {each["reason"].partition(":")[0] for each in watcher.decisions() if each["action"] == "skip"} == {
        "outbound",
        "protected",
    }


@pytest.mark.feature("F8", "C6", "D5")
def test_a_shorter_action_with_another_prefix_is_only_counted(watcher: Watcher) -> None:
    watcher.rules.write_text(LOGGED)
    watcher.start()
    medium = {"gid": 1, "signature_id": 2, "signature": "x", "severity": 2}
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: len(watcher.decisions()) == 1)
    watcher.write(alert("198.51.100.7", alert=medium))
    wait_until(lambda: watcher.lines("blocks.log"))
    watcher.write(alert("198.51.100.7"), alert("198.51.100.8"))
    wait_until(lambda: len(watcher.decisions()) >= 3)
    assert [(each["action"], each["rule"], each["duration"]) for each in watcher.decisions()] == [
        ("log", "Long", 3600),
        ("block", "Short", 600),
        ("log", "Long", 3600),
    ]
    prefixes = {block["log_prefix"] for block in watcher.blocks() if block["action"] == "log"}
    assert prefixes == {"LONG: "}


@pytest.mark.feature("F5", "C6")
def test_several_actions_of_a_rule(watcher: Watcher) -> None:
    watcher.rules.write_text(FORMS)
    watcher.start()
    watcher.write(alert("198.51.100.7", dest_ip="203.0.113.99"))
    wait_until(lambda: len(watcher.decisions()) == 3)
    assert {(block["action"], block["target"], block["address"]) for block in watcher.blocks()} == {
        ("reject", "source", "198.51.100.7"),
        ("log", "source", "198.51.100.7"),
        ("drop", "destination", "203.0.113.99"),
    }
    assert [each["action"] for each in watcher.decisions()] == ["reject", "log", "block"]
    assert len(watcher.lines("blocks.log", "BLOCKED")) == 2


@pytest.mark.feature("D1")
def test_the_end_of_a_block_is_journaled(watcher: Watcher) -> None:
    watcher.rules.write_text(SHORT)
    watcher.start()
    passes = watcher.network.passes
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not passes("198.51.100.7"))
    wait_until(lambda: watcher.lines("blocks.log", "EXPIRED"))
    wait_until(lambda: passes("198.51.100.7"))
    assert [line.split()[2] for line in watcher.lines("blocks.log")] == ["BLOCKED", "EXPIRED"]
    assert [each["action"] for each in watcher.decisions()] == ["block", "expire"]
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not passes("198.51.100.7"))


def test_a_flood_of_one_offender_is_one_block(watcher: Watcher) -> None:
    watcher.start()
    for _ in range(20):
        watcher.write(*(alert("198.51.100.7", number) for number in range(100)))
    watcher.write(alert("198.51.100.8"))
    wait_until(lambda: len(watcher.lines("alerts.json")) == 2)
    assert [line.split()[3] for line in watcher.lines("blocks.log")] == ["198.51.100.7", "198.51.100.8"]
    assert [each["ip"] for each in watcher.decisions()] == ["198.51.100.7", "198.51.100.8"]
    assert len(watcher.lines("alert.log")) == 2001


@pytest.mark.feature("C11", "F5")
def test_a_full_set_stops_no_other_block_and_no_restart(watcher: Watcher) -> None:
    watcher.network.host.run(
        *("ipset", "create", "NGFW-drop-src4", "hash:net", "family", "inet", "timeout", "0"),
        *("counters", "comment", "maxelem", "2"),
    )
    watcher.start()
    watcher.write(*(alert(f"198.51.100.{last}") for last in range(1, 9)), alert("2001:db8:7::1"))
    wait_until(lambda: len(watcher.decisions()) == 9)
    assert not watcher.network.passes("2001:db8:7::1")
    told = {each["ip"]: (each["action"], each["reason"]) for each in watcher.decisions()}
    left_out = {ip for ip, what in told.items() if what == ("skip", "the set is full")}
    assert 0 < len(left_out) < 8
    assert watcher.blocked() == set(told) - left_out
    assert [line.split()[3] for line in watcher.lines("blocks.log")] == [ip for ip in told if ip not in left_out]
    for ip in left_out:
        assert watcher.lines("daemon.log", f"{ip} was not blocked (High): the set is full")
        assert watcher.network.passes(ip)
    watcher.stop(signal.SIGKILL)
    watcher.write(alert("198.51.100.9"))
    watcher.start()
    watcher.write(alert("2001:db8:8::1"))
    wait_until(lambda: not watcher.network.passes("2001:db8:8::1"))


@pytest.mark.feature("C12", "U1")
def test_a_dry_run_stops_the_watchers_own_blocks_and_nothing_else(watcher: Watcher) -> None:
    watcher.configure(dry_run=True, whitelist=["203.0.113.0/28"])
    watcher.start()
    for number in range(3):
        watcher.write(alert("198.51.100.7", number))
        wait_until(lambda number=number: len(watcher.lines("alert.log")) == number + 1)
    assert watcher.network.passes("198.51.100.7")
    assert [(each["action"], each["dry_run"]) for each in watcher.decisions()] == [("block", True)]
    assert watcher.lines("blocks.log") == []
    counted = "dry run   would have made 1 blocks; 2 further hits on them"
    wait_until(lambda: counted in watcher.command("status").stdout)
    explained = watcher.command("explain", "198.51.100.7").stdout
    assert "not blocked" in explained
    assert "would block" in explained
    # Whitelist, manual blocks and what the next boot needs are as without it.
    refused = watcher.command("block", "203.0.113.7")
    assert refused.returncode == 1
    assert "whitelisted: 203.0.113.0/28" in refused.stderr
    assert watcher.command("block", "203.0.113.99").returncode == 0
    assert not watcher.network.passes("203.0.113.99")
    watcher.network.host.run("iptables", "-F")
    wait_until(lambda: not watcher.network.passes("203.0.113.99"))
    # Who is whitelisted now would have been unblocked.
    assert watcher.command("whitelist", "add", "198.51.100.7").returncode == 0
    wait_until(lambda: len(watcher.decisions()) == 2)
    assert (watcher.decisions()[1]["action"], watcher.decisions()[1]["reason"]) == (
        "unblock",
        "whitelist: 198.51.100.7",
    )
    assert watcher.stop() == 0
    assert "203.0.113.99" in (watcher.state / "sets").read_text()
    assert '198.51.100.7"' in (watcher.state / "sets").read_text()


@pytest.mark.feature("C12")
def test_a_dry_run_in_the_foreground_stands_in_nobodys_way(watcher: Watcher) -> None:
    """Beside the running service, by a user who may only read."""
    watcher.start()
    for path in (watcher.directory, *watcher.directory.parents):
        if path.is_relative_to("/tmp/pytest-of-root"):
            path.chmod(0o755)
    if not all(each.stat().st_mode & 0o005 == 0o005 for each in (FILES, *FILES.parents)):
        pytest.skip("this checkout is not readable for other users")
    watcher.write(alert("198.51.100.6"))
    wait_until(lambda: "198.51.100.6" in (watcher.state / "in_force").read_text())  # the last file that saving writes
    before = files(watcher)
    with watcher.network.host:
        looker = subprocess.Popen(
            ["/usr/bin/python3", "-m", "ngfw", "watch", "--dry-run", "--config", str(watcher.config)],
            env={**os.environ, "PYTHONPATH": str(FILES), "PYTHONDONTWRITEBYTECODE": "1"},
            user="nobody",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        assert looker.stdout is not None
        assert looker.stderr is not None
        assert "watches (dry run)" in looker.stderr.readline()
        watcher.write(alert("198.51.100.7", 42), alert("198.51.100.7", 43), alert("10.0.0.1"))
        line = looker.stdout.readline()
        assert 'would block 198.51.100.7 for 30m [RULE High] by High SID=42 "alert number 42"' in line
        assert "skip        10.0.0.1 [outbound: INTERNAL/PRIVATE (skipped)]" in looker.stdout.readline()
        looker.terminate()
        assert looker.wait(30) == 0
        assert "Traceback" not in looker.stderr.read()
    finally:
        looker.kill()
        looker.communicate()
    wait_until(lambda: len(watcher.lines("alerts.json")) == 3)
    assert {each["dry_run"] for each in watcher.decisions()} == {False}
    assert files(watcher) == before
    assert watcher.stop() == 0


def files(watcher: Watcher) -> set[Path]:
    return {path for path in watcher.directory.rglob("*") if not path.name.endswith(".new")}


def test_reaction_is_measured(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.7"))
    watcher.write(alert("198.51.100.8"))

    wait_until(lambda: status(watcher)["counters"]["ngfw_reaction_seconds"]["count"] == 2)
    assert 0 < status(watcher)["counters"]["ngfw_reaction_seconds"]["last"] < shared(0.5)


@pytest.mark.parametrize("tool", ["ipset del NGFW-drop-src4 198.51.100.7", "ipset flush NGFW-drop-src4"])
def test_a_block_lifted_beside_all_locks_is_made_again(watcher: Watcher, tool: str) -> None:
    watcher.start()
    passes = watcher.network.passes
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not passes("198.51.100.7"))
    wait_until(lambda: watcher.lines("alerts.json"))
    assert watcher.network.host.run(*tool.split()).returncode == 0
    assert passes("198.51.100.7")
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not passes("198.51.100.7"))
    wait_until(lambda: len(watcher.lines("alerts.json")) == 3)
    assert [line.split()[2] for line in watcher.lines("blocks.log")] == ["BLOCKED", "UNBLOCKED", "BLOCKED"]


@pytest.mark.feature("F8")
def test_replay_decides_as_the_live_watcher_did(watcher: Watcher) -> None:
    watcher.rules.write_text(RULES + COUNTED)
    watcher.configure(whitelist=["198.51.100.64/28"])
    watcher.start()
    random_ = random.Random(11)
    print("seed 11")
    for _ in range(60):
        lines = []
        for _ in range(random_.randint(1, 8)):
            address = random_.choice(["198.51.100", "203.0.113", "10.1.2", "127.0.0", "224.0.0"])
            source = f"{address}.{random_.randint(1, 90)}"
            if random_.random() < 0.2:
                source = f"2001:db8:a:{random_.randint(1, 9)}::{random_.randint(1, 99)}"
            changes: dict[str, Any] = {"proto": random_.choice(["TCP", "TCP", "UDP"])}
            severity = random_.choice([1, 2, 2, 3])
            changes["alert"] = {"gid": 1, "signature_id": severity, "signature": "x", "severity": severity}
            lines.append(alert(source, **changes))
        watcher.write(*lines)
    watcher.write(alert("198.51.100.200", 99))
    wait_until(lambda: any(each["sid"] == 99 for each in watcher.decisions()))
    done = watcher.command("replay", "--json", str(watcher.log))
    assert done.returncode == 0, done.stderr
    keys = ("ip", "target", "rule", "reason", "duration", "sid", "msg", "score", "sources", "ts")
    replayed = [json.loads(line) for line in done.stdout.splitlines()]
    names = {"extend": "block"}
    lived = [{**each, "action": names.get(each["action"], each["action"])} for each in watcher.decisions()]
    assert len(replayed) > 50
    assert [(each["action"], *(each[key] for key in keys)) for each in replayed] == [
        (each["action"], *(each[key] for key in keys)) for each in lived
    ]


def status(watcher: Watcher) -> dict[str, Any]:
    done = watcher.command("status", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
