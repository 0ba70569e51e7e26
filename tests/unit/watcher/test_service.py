# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop without a kernel: dry runs, timers, notifications. tests/system has the whole of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ngfw import service
from ngfw.effects import enforcement
from ngfw.effects.enforcement import Rehearsal
from ngfw.firewall.address import parse_network
from ngfw.firewall.entry import Block, Entry, Origin
from ngfw.firewall.errors import KernelError
from ngfw.metrics import Histogram
from ngfw.rules.load import RuleSet, parse_rules
from ngfw.running import notify, reader
from ngfw.running.expiry import Expiries
from ngfw.running.loop import Loop
from ngfw.running.notify import Notifier
from ngfw.service import Service
from ngfw.settings.config import Config, LogSource
from ngfw.settings.yamlfile import ConfigError, Problem

RULES = b"""
rules:
  - name: High
    type: alert
    expression: alert.severity == 1
    severity: high
    actions: [{type: iptables_block, config: {duration: 30m}}]
"""


def wait_until(condition: Callable[[], Any], *, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.002)


def alert(source: str, **changes: Any) -> str:
    record = {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000000+0000", time.gmtime()),
        "event_type": "alert",
        "src_ip": source,
        "dest_ip": "192.0.2.1",
        "proto": "TCP",
        "app_proto": "http",
        "alert": {"gid": 1, "signature_id": 7, "signature": "x", "severity": 1},
        "flow": {"pkts_toserver": 4, "pkts_toclient": 3},
    }
    return json.dumps({**record, **changes}, separators=(",", ":")) + "\n"


class DryRun:
    """A service in this process that only rehearses, driven by a thread beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "eve.json"
        self.log.touch()
        self.problems: list[Problem] = []
        self.rules = RULES
        self.config = replace(
            Config.default(),
            state_directory=str(directory / "state"),
            log_directory=str(directory / "log"),
            sources=(LogSource(str(self.log)),),
            dry_run=True,
        )

    def load(self) -> tuple[Config, RuleSet]:
        if self.problems:
            raise ConfigError(self.problems)
        return self.config, parse_rules(self.rules, "test.yml")

    def decisions(self) -> list[dict[str, Any]]:
        path = self.directory / "log" / "alerts.json"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def said(self) -> str:
        path = self.directory / "log" / "daemon.log"
        return path.read_text() if path.exists() else ""

    def write(self, *lines: str) -> None:
        with self.log.open("a") as stream:
            stream.write("".join(lines))

    def run(self, steps: Callable[[], None]) -> None:
        """Run the service here, the steps beside it, and end it when these are done."""
        failures: list[BaseException] = []

        def drive() -> None:
            try:
                wait_until(lambda: "watches (dry run)" in self.said())
                steps()
            except BaseException as error:
                failures.append(error)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        watcher = Service(self.load)
        thread = threading.Thread(target=drive)
        thread.start()
        watcher.run()
        thread.join()
        for failure in failures:
            raise failure


@pytest.fixture
def dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DryRun:
    # What the machine's own kernel holds is none of a test's business.
    monkeypatch.setattr(enforcement, "_kernel_whitelist", lambda config: {})
    monkeypatch.setattr(service, "DryRun", lambda config, *, clock, give_up: Rehearsal(config, clock=clock))
    return DryRun(tmp_path)


@pytest.mark.feature("C12")
def test_a_dry_run_journals_what_it_would_do(dry_run: DryRun) -> None:
    def steps() -> None:
        dry_run.write(alert("203.0.113.7"), alert("203.0.113.7"), alert("10.0.0.1"))
        wait_until(lambda: len(dry_run.decisions()) == 2)

    dry_run.run(steps)
    assert [(each["action"], each["ip"], each["dry_run"]) for each in dry_run.decisions()] == [
        ("block", "203.0.113.7", True),
        ("skip", "10.0.0.1", True),
    ]
    assert not (dry_run.directory / "log" / "blocks.log").read_text()
    status = json.loads((dry_run.directory / "state" / "status.json").read_text())
    assert status["dry_run"] is True
    assert status["counters"]["ngfw_actions_total"] == [{"type": "block", "result": "dry_run", "count": 1}]
    assert status["counters"]["ngfw_blocks_created_total"] == 0
    assert dry_run.said().endswith("INFO stopped\n")


@pytest.mark.feature("A2")
def test_what_was_read_is_not_read_again(dry_run: DryRun) -> None:
    def first() -> None:
        dry_run.write(alert("203.0.113.7"))
        wait_until(lambda: len(dry_run.decisions()) == 1)

    def second() -> None:
        dry_run.write(alert("203.0.113.8"))
        wait_until(lambda: len(dry_run.decisions()) == 2)

    dry_run.run(first)
    dry_run.run(second)
    assert [each["ip"] for each in dry_run.decisions()] == ["203.0.113.7", "203.0.113.8"]


@pytest.mark.feature("A5")
@pytest.mark.parametrize(
    ("start_at", "found"), [("end", ["203.0.113.8"]), ("beginning", ["203.0.113.7", "203.0.113.8"])]
)
def test_where_the_first_start_begins(dry_run: DryRun, start_at: str, found: list[str]) -> None:
    dry_run.config = replace(dry_run.config, start_at=start_at)
    dry_run.write(alert("203.0.113.7"))

    def steps() -> None:
        dry_run.write(alert("203.0.113.8"))
        wait_until(lambda: len(dry_run.decisions()) == len(found))

    dry_run.run(steps)
    assert [each["ip"] for each in dry_run.decisions()] == found


@pytest.mark.feature("A2")
def test_what_could_not_be_decided_is_read_again(dry_run: DryRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Amid the batches of one moment the blocks that the kernel holds cannot be read any more."""
    addresses = [f"203.0.113.{number}" for number in range(1, 11)]
    dry_run.config = replace(dry_run.config, start_at="beginning")
    dry_run.write(*map(alert, addresses))
    monkeypatch.setattr(reader, "STEP_BYTES", 2 * len(alert(addresses[0])))
    real = Rehearsal.standing

    def broken(rehearsal: Rehearsal, block: Block) -> Entry | None:
        if str(block.network) == addresses[6]:
            raise KernelError("the kernel said no; try again")
        return real(rehearsal, block)

    with monkeypatch.context() as patch:
        patch.setattr(Rehearsal, "standing", broken)
        with pytest.raises(KernelError):
            Service(dry_run.load).run()
    assert [each["ip"] for each in dry_run.decisions()] == addresses[:6]
    dry_run.run(lambda: wait_until(lambda: len(dry_run.decisions()) >= len(addresses)))
    assert [each["ip"] for each in dry_run.decisions()] == addresses


@pytest.mark.feature("E3")
def test_reload(dry_run: DryRun) -> None:
    def steps() -> None:
        dry_run.problems = [Problem("ngfw.yml", 3, "unknown key 'x'; remove it")]
        os.kill(os.getpid(), signal.SIGHUP)
        wait_until(lambda: "what was in force stays" in dry_run.said())
        assert "ERROR ngfw.yml:3: unknown key 'x'; remove it\n" in dry_run.said()
        dry_run.problems = []
        other = dry_run.directory / "other.json"
        other.touch()
        dry_run.rules = RULES.replace(b"High", b"Other")
        dry_run.config = replace(
            dry_run.config,
            chain="OTHER",
            whitelist={parse_network("203.0.113.9"): ""},
            sources=(LogSource(str(dry_run.log)), LogSource(str(other))),
        )
        os.kill(os.getpid(), signal.SIGHUP)
        wait_until(lambda: "reloaded: 1 rules" in dry_run.said())
        assert "changes of chain take effect at the next restart only" in dry_run.said()
        dry_run.write(alert("203.0.113.9"))
        with other.open("a") as stream:
            stream.write(alert("203.0.113.10"))
        wait_until(lambda: len(dry_run.decisions()) == 2)

    dry_run.run(steps)
    assert {(each["rule"], each["reason"]) for each in dry_run.decisions()} == {
        ("Other", "whitelist: 203.0.113.9"),
        ("Other", "RULE Other"),
    }


@contextmanager
def manager(directory: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(directory / "n"))
        found.settimeout(3)
        yield found


def test_what_the_service_manager_hears(tmp_path: Path) -> None:
    with manager(tmp_path) as heard:
        environment = {
            "NOTIFY_SOCKET": str(tmp_path / "n"),
            "WATCHDOG_USEC": "3000000",
            "WATCHDOG_PID": str(os.getpid()),
        }
        notifier = Notifier(environment)
        assert notifier.watchdog_seconds == 1.0
        for _time in range(2):
            notifier.alive()  # a start that takes longer asks for more time, but not all the time
        assert heard.recv(200) == b"EXTEND_TIMEOUT_USEC=60000000"
        notifier.ready("5 rules")
        assert heard.recv(200) == f"READY=1\nSTATUS=5 rules\nMAINPID={os.getpid()}".encode()
        notifier.reloading()
        first, second = heard.recv(200).split(b"\n")
        assert first == b"RELOADING=1"
        assert second.startswith(b"MONOTONIC_USEC=")
        for _time in range(2):
            notifier.alive()
        assert heard.recv(200) == b"WATCHDOG=1"
        notifier.stopping()
        assert heard.recv(200) == b"STOPPING=1"
    notifier.stopping()  # the manager is gone: no matter


def test_a_manager_that_does_not_listen_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_PATIENCE_SECONDS", 0.01)
    with manager(tmp_path):
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n")})
        start = time.monotonic()
        for _ in range(50):
            notifier.stopping()
        assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    "environment", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}]
)
def test_without_a_manager_it_is_silent(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    assert notifier.watchdog_seconds is None
    notifier.ready("x")


def test_the_loop_calls_what_is_due_and_remembers_signals() -> None:
    called: list[str] = []
    reader, writer = os.pipe()
    with Loop((signal.SIGUSR1,)) as loop:
        loop.watch(reader, lambda: called.append(os.read(reader, 10).decode()))
        loop.after("late", 60, lambda: called.append("late"))
        loop.after("soon", 60, lambda: called.append("wrong"))
        loop.after("soon", 0.01, lambda: called.append("soon"))
        loop.wait(idle=False)
        assert called == []
        while not called:
            loop.wait()
        os.write(writer, b"x")
        loop.wait()
        assert called == ["soon", "x"]
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.wait()
        assert loop.came(signal.SIGUSR1)
        assert loop.take(signal.SIGUSR1)
        assert not loop.take(signal.SIGUSR1)
        assert loop.has_timer("late")
        loop.cancel("late")
        assert not loop.has_timer("late")
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    os.close(reader)
    os.close(writer)


def entry(address: str, expires_at: float | None, origin: Origin = Origin.WATCHER) -> Entry:
    return Entry(Block(parse_network(address)), origin, 0.0, expires_at)


@pytest.mark.feature("D1")
def test_expiries_come_in_their_order_and_only_once() -> None:
    expiries = Expiries()
    expiries.add([entry("203.0.113.1", 30.0), entry("203.0.113.2", 10.0), entry("203.0.113.3", None)])
    expiries.add([entry("203.0.113.4", 5.0, Origin.MODULE)])
    assert expiries.next() == 10.0
    expiries.add([entry("203.0.113.2", 40.0)])  # extended
    assert expiries.next() == 30.0
    assert expiries.ended(29.0) == []
    assert [str(each.block.network) for each in expiries.ended(50.0)] == ["203.0.113.1", "203.0.113.2"]
    assert expiries.next() is None
    assert len(expiries) == 1


def test_a_rehearsal_ends_its_blocks_by_the_clock(dry_run: DryRun) -> None:
    now = [1000.0]
    rehearsal = Rehearsal(dry_run.config, clock=lambda: now[0])
    block = Block(parse_network("203.0.113.1"), duration=60)
    assert [each.expires_at for each in rehearsal.apply([block]).blocked] == [1060.0]
    assert [rehearsal.apply([block]).blocked, rehearsal.apply([block]).already] == [[], [block]]
    assert [each.expires_at for each in rehearsal.apply([block._replace(duration=90)]).extended] == [1090.0]
    assert rehearsal.active() == 1
    now[0] = 1090.0
    assert rehearsal.active() == 0


def test_a_histogram_adds_up() -> None:
    histogram = Histogram((0.01, 0.1))
    for seconds in (0.005, 0.01, 0.05, 3.0):
        histogram.observe(seconds)
    assert histogram.to_dict() == {
        "count": 4,
        "sum": 3.065,
        "last": 3.0,
        "buckets": {"0.01": 2, "0.1": 3, "+Inf": 4},
    }
