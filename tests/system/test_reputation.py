# SPDX-License-Identifier: GPL-3.0-or-later
"""Reputation in the running watcher: a provider that answers, hangs or fails, lists that change, kills in between."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..namespace import wait_until
from ..unit.watcher.intel.conftest import Request, Server, http, scored
from .conftest import HOST, PEER, RULES, Network, Watcher, alert

ONE, TWO, THREE = "203.0.113.1", "203.0.113.2", "203.0.113.3"
ASKED = "REPUTATION PENDING (abuseipdb: asked)"


def rules(mode: str) -> str:
    """RULES with reputation for severity 1, and without it for severity 2."""
    other = RULES.replace("rules:\n", "").replace("High", "Certain").replace("== 1", "== 2")
    return RULES.replace("    severity: high\n", f"    severity: high\n    intel: {mode}\n") + other


def certain(source: str) -> str:
    """An alert that blocks whatever providers say."""
    return alert(source, alert={"gid": 1, "signature_id": 9, "signature": "certain", "severity": 2})


class Gate:
    """A provider that says nothing before it is opened."""

    def __init__(self, score: int) -> None:
        self.open = threading.Event()
        self._score = score

    def __call__(self, request: Request) -> Any:
        self.open.wait(20)
        return scored(self._score)(request)


@pytest.fixture
def server(network: Network) -> Iterator[Server]:
    with network.host:
        made = Server()
    yield made
    made.close()


@pytest.fixture
def asking(watcher: Watcher, server: Server) -> Watcher:
    """A watcher that may ask the server and has no list."""
    key = watcher.directory / "key"
    key.write_text("sesame\n")
    provider = {"key_file": str(key), "url": server.url, "timeout": "20s"}
    watcher.configure(intel={"netsets": [], "abuseipdb": provider})
    return watcher


def lookups(watcher: Watcher) -> dict[str, int]:
    found = watcher.counters().get("ngfw_intel_lookups_total", ())
    return {f"{each['provider']} {each['result']}": each["count"] for each in found}


@pytest.mark.feature("B1", "B3", "B7", "E5")
def test_confirm_blocks_at_once_and_a_bad_score_extends(asking: Watcher, server: Server, network: Network) -> None:
    gate = server.behave = Gate(95)
    asking.rules.write_text(rules("confirm"))
    asking.start()
    asking.write(alert(ONE, 7))
    wait_until(lambda: asking.lines("blocks.log", f"BLOCKED {ONE}"))
    assert not network.passes(ONE)
    [block] = asking.blocks()
    assert block["remaining"] <= 60
    assert block["reason"] == ASKED
    asking.write(certain(TWO))
    wait_until(lambda: asking.lines("blocks.log", f"BLOCKED {TWO}"))  # while the server hangs
    gate.open.set()
    wait_until(lambda: asking.lines("blocks.log", f"EXTENDED {ONE}"))
    [line] = asking.lines("blocks.log", "EXTENDED")
    assert line.endswith(
        f"EXTENDED {ONE} (REPUTATION SCORE: 95) [REPUTATION BLOCK (source=abuseipdb,score=95)]"
        ' SID=7 MSG="alert number 7"'
    )
    block = next(each for each in asking.blocks() if each["address"] == ONE)
    assert 1700 < block["remaining"] <= 1800
    assert not network.passes(ONE)
    told = json.loads(asking.command("explain", ONE, "--json").stdout)
    assert [(each["provider"], each["state"], each["score"]) for each in told["reputation"]] == [
        ("abuseipdb", "listed", 95)
    ]
    assert [each["action"] for each in told["history"]] == ["block", "extend"]
    assert len(told["offences"]) == 1
    wait_until(lambda: lookups(asking) == {"abuseipdb listed": 1})
    [provider] = json.loads(asking.command("status", "--json").stdout)["providers"]
    assert (provider["name"], provider["state"]) == ("abuseipdb", "ok")
    assert server.requests[0].headers["key"] == "sesame"


@pytest.mark.feature("B7")
def test_a_clean_answer_lifts(asking: Watcher, server: Server, network: Network) -> None:
    gate = server.behave = Gate(5)
    asking.rules.write_text(rules("confirm"))
    asking.start()
    asking.write(alert(ONE))
    wait_until(lambda: asking.lines("blocks.log", f"BLOCKED {ONE}"))
    assert not network.passes(ONE)
    gate.open.set()
    wait_until(lambda: asking.lines("blocks.log", f"UNBLOCKED {ONE}"))
    assert network.passes(ONE)
    assert "[REPUTATION CLEAN (source=abuseipdb,score=5)]" in asking.lines("blocks.log", "UNBLOCKED")[0]
    assert asking.blocked() == set()
    asking.write(alert(ONE))
    wait_until(lambda: asking.lines("alerts.json", "REPUTATION CLEAN (source=abuseipdb,score=5)"))
    assert len(server.requests) == 1, "the answer is known"
    assert network.passes(ONE)
    assert json.loads(asking.command("explain", ONE, "--json").stdout)["offences"] == []


@pytest.mark.feature("B2", "A2")
@pytest.mark.parametrize("mode", ["require", "confirm"])
@pytest.mark.parametrize("step", ["announced", "enforced", "journaled", "committed", "later"])
def test_a_lookup_outlives_a_kill(asking: Watcher, server: Server, mode: str, step: str) -> None:
    server.behave = server.hang
    asking.rules.write_text(rules(mode))
    kill = f'Service(load, after=lambda step: step == "{step}" and os.kill(os.getpid(), signal.SIGKILL)).run()'
    asking.start(code=kill)
    asking.write(alert(ONE, 7))
    if step == "later":
        wait_until(lambda: asking.lines("alerts.json", ONE) and server.requests)
        asking.stop(signal.SIGKILL)
    else:
        asking.wait()
    server.behave = scored(95)
    asking.start()
    word = "EXTENDED" if mode == "confirm" else "BLOCKED"
    wait_until(lambda: asking.lines("blocks.log", f"{word} {ONE}"))
    assert [each["action"] for each in asking.decisions()] == [
        "block" if mode == "confirm" else "skip",
        "extend" if mode == "confirm" else "block",
    ]
    assert asking.blocked() == {ONE}


@pytest.mark.feature("B1", "B5")
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http(500, "no"), "HTTP 500"),
        (http(302, "", Location="http://192.0.2.9/"), "redirect"),
        (http(200, "<html>", Content_Type="text/html"), "HTML instead of JSON"),
        (http(200, "{}"), "no score in the answer"),
        (None, "connection"),
    ],
)
@pytest.mark.parametrize("policy", ["open", "closed"])
def test_a_provider_that_fails_is_named_and_the_policy_decides(
    asking: Watcher, server: Server, policy: str, answer: bytes | None, said: str
) -> None:
    server.behave = lambda request: answer
    asking.settings["intel"]["fail_policy"] = policy
    asking.configure()
    asking.rules.write_text(rules("require"))
    asking.start()
    asking.write(alert(ONE))
    reason = f"REPUTATION UNKNOWN (fail-{policy}: all TI providers failed)"
    wait_until(lambda: asking.lines("alerts.json", reason))
    assert asking.blocked() == ({ONE} if policy == "closed" else set())
    assert any(said in line for line in asking.lines("daemon.log", f"abuseipdb: {ONE}: "))


@pytest.mark.feature("B2")
def test_over_budget_a_provisional_block_stands_and_the_lookup_stays(asking: Watcher, server: Server) -> None:
    server.behave = scored(95)
    asking.settings["intel"]["abuseipdb"]["per_minute"] = 1
    asking.configure()
    asking.rules.write_text(rules("confirm"))
    asking.start()
    asking.write(alert(ONE))
    wait_until(lambda: asking.lines("blocks.log", f"EXTENDED {ONE}"))
    asking.write(alert(TWO))
    wait_until(lambda: asking.lines("daemon.log", "the budget of 1 a minute is used up"))
    wait_until(lambda: asking.lines("blocks.log", f"BLOCKED {TWO}"))
    assert asking.stop() == 0
    asking.start()
    asking.write(certain(THREE))
    wait_until(lambda: asking.lines("blocks.log", f"BLOCKED {THREE}"))
    assert len(server.requests) == 1, "the budget holds over a restart"
    told = json.loads(asking.command("explain", TWO, "--json").stdout)
    assert [(each["provider"], each["state"]) for each in told["reputation"]] == [("abuseipdb", "pending")]
    assert next(each for each in told["blocks"])["remaining"] <= 60


@pytest.mark.feature("B4", "B8")
def test_a_list_is_read_again_when_it_changes(watcher: Watcher, tmp_path: Path, network: Network) -> None:
    netset = tmp_path / "bad.netset"
    netset.write_text("198.51.100.0/25\n198.51.101.1\n198.51.102.1\n10.0.0.0/8\n")
    watcher.rules.write_text(rules("require"))
    watcher.configure(intel={"netsets": [{"name": "firehol_level1", "path": str(netset)}]}, home_net=[])
    watcher.start()
    watcher.write(alert(ONE), alert("198.51.100.7"), alert("10.1.2.3"))
    wait_until(lambda: len(watcher.decisions()) >= 3)
    assert watcher.blocked() == {"198.51.100.7"}
    assert watcher.lines("blocks.log", "[REPUTATION BLOCK (source=firehol)]")
    assert watcher.lines("alerts.json", "reputation: INTERNAL/PRIVATE (skipped)")
    for replaced in (True, False):
        address = TWO if replaced else THREE
        if replaced:
            fresh = tmp_path / "fresh"
            fresh.write_text(f"{address}\n")
            fresh.replace(netset)
        else:
            netset.write_text(f"{TWO}\n{address}\n")
        entries = 1 if replaced else 2
        wait_until(lambda n=entries: watcher.lines("daemon.log", f"netset firehol_level1: {n} entries"))
        watcher.write(alert(address))
        wait_until(lambda a=address: watcher.lines("blocks.log", f"BLOCKED {a}"))
        assert not network.passes(address)
    netset.unlink()
    wait_until(lambda: watcher.lines("daemon.log", "the last good list (2) stays"))


@pytest.mark.feature("D5")
def test_a_repeat_offender_is_blocked_for_longer_over_restarts(watcher: Watcher) -> None:
    watcher.rules.write_text(RULES.replace("30m", "2s"))
    watcher.configure(escalation={"factor": 5, "max": "1m", "memory": "1h"})
    watcher.start()
    watcher.write(alert(ONE))
    wait_until(lambda: watcher.lines("blocks.log", "EXPIRED"))
    watcher.stop(signal.SIGKILL)
    watcher.start()
    watcher.write(alert(ONE), alert(TWO))
    wait_until(lambda: len(watcher.lines("blocks.log", "BLOCKED")) == 3)
    durations = [(each["ip"], each["duration"]) for each in watcher.decisions() if each["action"] == "block"]
    assert durations == [(ONE, 2), (ONE, 10), (TWO, 2)]
    assert watcher.command("unblock", ONE).returncode == 0
    wait_until(lambda: watcher.lines("blocks.log", f"UNBLOCKED {ONE}"))
    watcher.write(alert(ONE))
    wait_until(lambda: len(watcher.lines("blocks.log", f"BLOCKED {ONE}")) == 4)  # UNBLOCKED is one of them
    assert [each["duration"] for each in watcher.decisions() if each["ip"] == ONE][-1] == 10, "lifted: no offence"


@pytest.mark.feature("F9")
def test_the_circuit_breaker_says_so_and_recovers(watcher: Watcher, network: Network) -> None:
    watcher.configure(circuit_breaker={"blocks": 3, "window": 2}, spoof_guard=False)
    watcher.start()
    forged = {"proto": "UDP", "flow": {"pkts_toserver": 1, "pkts_toclient": 0}}
    watcher.write(*(alert(f"198.51.100.{number}", **forged) for number in range(1, 9)), alert(ONE))
    wait_until(lambda: len(watcher.decisions()) == 9)
    assert watcher.blocked() == {"198.51.100.1", "198.51.100.2", "198.51.100.3", ONE}
    assert network.passes("198.51.100.8")
    mode = "circuit breaker for evidence that can be forged"
    [line] = watcher.lines("daemon.log", f"{mode} is on")
    assert "ERROR" in line
    wait_until(lambda: watcher.counters()["ngfw_skips_total"] == {"breaker": 5})
    assert mode in watcher.command("status").stdout
    wait_until(lambda: watcher.lines("daemon.log", f"{mode} is off again"))
    watcher.write(alert("198.51.100.20", **forged))
    wait_until(lambda: "198.51.100.20" in watcher.blocked())


@pytest.mark.feature("F9", "C5")
def test_a_forged_flood_cuts_nobody_off_and_stops_no_real_block(watcher: Watcher, network: Network) -> None:
    forged = {"proto": "UDP", "flow": {"pkts_toserver": 1, "pkts_toclient": 0}}
    numbers = ((number // 250, number % 250 + 1) for number in range(10_000))
    flood = [alert(f"203.{100 + high}.7.{low}", **forged) for high, low in numbers]
    guarded = [alert(address, **forged) for address in (PEER, HOST, "198.51.100.99")]
    watcher.configure(whitelist=["198.51.100.99"], home_net=[])
    watcher.rules.write_text(RULES.replace("severity: high", "severity: high\n    spoofable: true"))
    watcher.start()
    watcher.write(*guarded, *flood, alert(ONE))
    wait_until(lambda: watcher.lines("blocks.log", f"BLOCKED {ONE}"))
    blocked = watcher.blocked()
    assert len(blocked) == 5001
    assert ONE in blocked
    assert not blocked & {PEER, HOST, "198.51.100.99"}
    assert network.passes(PEER)
    assert network.passes("198.51.100.99")
    assert not network.passes(ONE)
    wait_until(lambda: watcher.counters()["ngfw_skips_total"].get("breaker") == 5000)
    assert len(watcher.lines("alerts.json", "breaker: 5000 blocks in 60 s on evidence that can be forged")) == 5000


@pytest.mark.feature("C5")
def test_what_is_protected_follows_the_network(watcher: Watcher, network: Network) -> None:
    watcher.start()

    def protected() -> set[str]:
        items = json.loads(watcher.command("whitelist", "list", "--json").stdout)
        return {item["address"] for item in items if item["origin"] == "protected"}

    assert "192.0.2.77" not in protected()
    assert network.host.run("ip", "address", "add", "192.0.2.77/24", "dev", "wire").returncode == 0
    wait_until(lambda: "192.0.2.77" in protected())
    watcher.write(alert("192.0.2.77"), alert(TWO))
    wait_until(lambda: watcher.lines("blocks.log", f"BLOCKED {TWO}"))
    assert watcher.decisions()[0]["reason"] == "outbound: INTERNAL/PRIVATE (skipped)"
    assert network.host.run("ip", "route", "replace", "default", "via", "192.0.2.99").returncode == 0
    wait_until(lambda: "192.0.2.99" in protected())
    assert network.host.run("ip", "address", "delete", "192.0.2.77/24", "dev", "wire").returncode == 0
    wait_until(lambda: "192.0.2.77" not in protected())


@pytest.mark.feature("C12")
def test_a_rehearsal_asks_nobody(asking: Watcher, server: Server) -> None:
    asking.rules.write_text(rules("require"))
    asking.configure(start_at="beginning")
    asking.write(alert(ONE))
    asking.start(code="Service(load, dry_run=True).run()", wait=False)
    wait_until(lambda: "so it acts on nobody" in asking.output())
    assert asking.stop() == 0
    assert server.requests == []
    assert not asking.state.exists()
