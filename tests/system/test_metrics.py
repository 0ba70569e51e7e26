# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus is told, and that it adds up with the journals and the kernel."""

from __future__ import annotations

import re
import select
import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ..namespace import wait_until
from .conftest import RULES, Network, Watcher, alert

PORT = 9910
OTHERS = """
  - name: Flood
    type: alert
    expression: alert.severity == 2
    severity: low
    actions:
      - {type: iptables_log, config: {duration: 5m}}
"""


def scrape(network: Network) -> dict[str, float]:
    """The samples by name and labels; empty as long as nobody answers."""
    with network.host:
        client = socket.socket()
    with client:
        client.settimeout(20)
        if client.connect_ex(("127.0.0.1", PORT)):
            return {}
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    samples = re.findall(r"^(ngfw_[^ ]+) ([0-9.e+]+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in samples}


def summed(samples: dict[str, float], name: str) -> float:
    return sum(value for key, value in samples.items() if key == name or key.startswith(name + "{"))


@pytest.mark.feature("E4")
def test_the_counters_add_up(watcher: Watcher) -> None:
    watcher.rules.write_text(RULES.replace("duration: 30m", "duration: 10s") + OTHERS)
    watcher.configure(metrics={"listen": f"127.0.0.1:{PORT}"}, whitelist=["198.51.100.64/28"])
    watcher.start()
    second = {"alert": {"gid": 1, "signature_id": 5, "signature": "x", "severity": 2}}
    lines = [alert(f"198.51.100.{number}", number) for number in range(1, 31)]
    lines += [alert(f"198.51.100.{number}", number) for number in range(1, 11)]  # blocked already
    lines += [alert("198.51.100.65"), alert("10.0.0.1"), alert("198.51.100.40", proto="UDP")]
    lines += [alert(f"203.0.113.{number}", **second) for number in range(1, 6)]
    lines += ["{torn\n", '{"event_type":"flow"}\n']
    watcher.write(*lines)
    wait_until(lambda: len(watcher.decisions()) >= 38)
    assert watcher.command("unblock", "198.51.100.1", "198.51.100.2").returncode == 0
    wait_until(lambda: len(watcher.lines("blocks.log", "EXPIRED")) == 28)
    watcher.write(alert("198.51.100.50"))
    wait_until(lambda: watcher.lines("blocks.log", "198.51.100.50"))
    wait_until(lambda: scrape(watcher.network).get("ngfw_active_blocks") == 6)
    found = scrape(watcher.network)
    decisions = Counter(each["action"] for each in watcher.decisions())
    assert found["ngfw_lines_invalid_total"] == 1
    assert (found['ngfw_events_total{type="alert"}'], found['ngfw_events_total{type="flow"}']) == (49, 1)
    assert summed(found, "ngfw_rule_hits_total") == 49 == len(watcher.lines("alert.log"))
    # Each hit was acted on, was on something blocked already, or was refused.
    acted, again, refused = (summed(found, f"ngfw_{name}_total") for name in ("actions", "duplicates_skip", "skips"))
    assert (acted, again, refused) == (36, 10, 3)
    assert found['ngfw_actions_total{result="success",type="block"}'] == 31 == decisions["block"]
    assert found['ngfw_actions_total{result="success",type="log"}'] == 5 == decisions["log"]
    assert found['ngfw_skips_total{reason="whitelist"}'] == 1 == found["ngfw_whitelist_skip_total"]
    # What was made is in force, was lifted, or has expired.
    made, lifted, ended = (found[f"ngfw_blocks_{name}_total"] for name in ("created", "removed", "expired"))
    assert (made, lifted, ended) == (36, 2, 28)
    assert made == lifted + ended + found["ngfw_active_blocks"]
    assert found['ngfw_reaction_seconds_bucket{le="+Inf"}'] == found["ngfw_reaction_seconds_count"] == 36
    wait_until(lambda: watcher.counters()["ngfw_blocks_created_total"] == 36)
    assert sum(each["count"] for each in watcher.counters()["ngfw_actions_total"]) == acted


@pytest.mark.feature("E4")
@pytest.mark.parametrize("why", ["missing", "taken", "off"])
def test_without_an_endpoint_everything_else_works(watcher: Watcher, tmp_path: Path, why: str) -> None:
    taken: Any = None
    if why == "taken":
        with watcher.network.host:
            taken = socket.create_server(("127.0.0.1", PORT))
    if why == "missing":
        (tmp_path / "prometheus_client.py").write_text("raise ImportError('not installed')")
    watcher.configure(metrics={"listen": None if why == "off" else f"127.0.0.1:{PORT}"})
    watcher.start(path=tmp_path)
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not watcher.network.passes("198.51.100.7"))
    said = {"missing": "install the package python3-prometheus-client", "taken": "Address already in use"}.get(why)
    if said:
        wait_until(lambda: watcher.lines("daemon.log", said))
    if taken is not None:
        taken.close()
    assert scrape(watcher.network) == {}
    assert watcher.stop() == 0


@pytest.mark.feature("S14")
def test_idle_and_slow_connections_stop_neither_the_watcher_nor_who_asks(watcher: Watcher) -> None:
    watcher.configure(metrics={"listen": f"127.0.0.1:{PORT}"})
    watcher.start(within=("prlimit", "--nofile=64"))
    wait_until(lambda: scrape(watcher.network))
    assert watcher.process is not None
    clients = []
    with watcher.network.host:
        for number in range(140):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", PORT))
            select.select((), (client,), (), 0.05)
            clients.append(client)
            if number % 2:
                with suppress(OSError):
                    client.send(b"GET /metrics HTTP/1.1\r\nX: ")
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not watcher.network.passes("198.51.100.7"))
    watcher.reload()
    assert len(list(Path(f"/proc/{watcher.process.pid}/fd").iterdir())) < 50
    wait_until(lambda: scrape(watcher.network).get("ngfw_active_blocks") == 1)
    for client in clients:
        client.close()
    assert watcher.stop() == 0
