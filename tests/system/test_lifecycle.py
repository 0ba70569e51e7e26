# SPDX-License-Identifier: GPL-3.0-or-later
"""Start, reload, stop; full disks; who may run it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ..namespace import shared, wait_until
from .conftest import FILES, HOST, RULES, Network, Watcher, alert


@pytest.mark.feature("E3", "U6")
def test_reload_takes_new_rules_and_refuses_broken_ones(watcher: Watcher) -> None:
    watcher.start()
    watcher.rules.write_text(RULES.replace("alert.severity == 1", "alert.severty == 1"))
    watcher.reload()
    (problem,) = watcher.lines("daemon.log", "test.yml:")
    assert f"{watcher.rules}:5: " in problem
    assert "did you mean" in problem
    assert "what was in force stays" in watcher.lines("daemon.log")[-1]
    watcher.write(alert("198.51.100.1"))
    wait_until(lambda: watcher.lines("alerts.json"))
    assert watcher.blocked() == {"198.51.100.1"}

    watcher.rules.write_text(RULES.replace("alert.severity == 1", "alert.severity == 2").replace("High", "Medium"))
    watcher.configure(whitelist=["198.51.100.9"])
    watcher.reload()
    medium = {"alert": {"gid": 1, "signature_id": 5, "signature": "x", "severity": 2}}
    watcher.write(alert("198.51.100.2"), alert("198.51.100.9", **medium), alert("198.51.100.3", **medium))
    wait_until(lambda: len(watcher.lines("alerts.json")) == 3)
    assert watcher.blocked() == {"198.51.100.1", "198.51.100.3"}

    watcher.configure(rule_overrides={"Medium": {"expression": "alert.severity == 3"}})
    watcher.reload()
    watcher.write(alert("198.51.100.4", alert={**medium["alert"], "severity": 3}))
    wait_until(lambda: len(watcher.lines("alerts.json")) == 4)
    assert watcher.blocked() == {"198.51.100.1", "198.51.100.3", "198.51.100.4"}
    watcher.configure(rule_overrides={"Mediun": {"threshold": 3}})
    watcher.reload()
    assert watcher.lines("daemon.log", "'rule_overrides' names no rule, 'Mediun'; did you mean 'Medium'?")

    watcher.config.write_text("{no_such_key: 1}")
    watcher.reload()
    assert watcher.lines("daemon.log", "ngfw.yml:1: unknown key 'no_such_key'")
    assert watcher.stop() == 0


@pytest.mark.feature("C4")
def test_a_whitelist_entry_taken_out_of_the_configuration_goes(watcher: Watcher) -> None:
    watcher.configure(whitelist=["198.51.100.1", "198.51.100.2"])
    watcher.start()
    assert watcher.command("whitelist", "add", "198.51.100.3").returncode == 0
    watcher.configure(whitelist=["198.51.100.2"])
    watcher.reload()
    items = json.loads(watcher.command("whitelist", "list", "--json").stdout)
    assert {item["address"] for item in items if item["origin"] != "protected"} == {"198.51.100.2", "198.51.100.3"}


@pytest.mark.feature("E3")
def test_logs_are_reopened_after_a_rotation(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.1"))
    wait_until(lambda: watcher.lines("alerts.json"))
    for path in list(watcher.journals.iterdir()):
        path.rename(f"{path}.1")
    watcher.reload()
    watcher.write(alert("198.51.100.2"))
    wait_until(lambda: watcher.lines("alerts.json"))
    assert [line.split()[3] for line in watcher.lines("blocks.log")] == ["198.51.100.2"]
    assert [line.split()[3] for line in watcher.lines("blocks.log.1")] == ["198.51.100.1"]


@pytest.mark.feature("A9")
def test_a_second_instance_is_refused(watcher: Watcher) -> None:
    watcher.start()
    assert watcher.process is not None
    second = watcher.command("watch")
    assert second.returncode == 1
    assert second.stderr.startswith(f"ngfw: another watcher (process {watcher.process.pid}) already works on")
    assert "Traceback" not in second.stderr
    assert watcher.command("status").returncode == 0


@pytest.mark.feature("E3", "D3")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_within_two_seconds(watcher: Watcher, number: signal.Signals) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.1"))
    wait_until(lambda: watcher.lines("alerts.json"))
    start = time.monotonic()
    assert watcher.stop(number) == 0
    assert time.monotonic() - start < shared(2)
    assert "Traceback" not in watcher.output()
    assert not watcher.network.passes("198.51.100.1")
    done = watcher.command("status")
    assert done.returncode == 1
    assert "not running" in done.stdout


@pytest.mark.feature("E3")
def test_a_backlog_delays_no_signal(watcher: Watcher) -> None:
    watcher.configure(start_at="beginning")
    watcher.write(*(alert(f"203.0.113.{number % 9}", number) for number in range(100_000)))
    watcher.start()
    start = time.monotonic()
    assert watcher.stop() == 0
    assert time.monotonic() - start < shared(2)


@pytest.mark.feature("D3")
def test_on_stop_flush_lifts_its_own_blocks_and_no_others(watcher: Watcher) -> None:
    watcher.configure(on_stop="flush")
    watcher.start()
    watcher.write(alert("198.51.100.1"), alert("2001:db8:a::1"))
    wait_until(lambda: len(watcher.lines("alerts.json")) == 2)
    assert watcher.command("block", "198.51.100.2").returncode == 0
    assert watcher.command("block", "--action", "reject", "198.51.100.1").returncode == 0
    assert watcher.stop() == 0
    assert {(block["address"], block["action"]) for block in watcher.blocks()} == {
        ("198.51.100.2", "drop"),
        ("198.51.100.1", "reject"),
    }
    assert len(watcher.lines("blocks.log", "UNBLOCKED")) == 2
    assert sum(each["action"] == "unblock" for each in watcher.decisions()) == 2


@contextmanager
def stream_of_packets(network: Network, source: str) -> Iterator[list[int]]:
    """Send a datagram every millisecond; the list holds how many were sent and, at the end, how many arrived."""
    counts = [0, 0]
    done = threading.Event()
    receiver = network.host.socket(HOST, 4555)
    sender = network.peer.socket(source)

    def send() -> None:
        while not done.wait(0.001):
            sender.sendto(b"x", (HOST, 4555))
            counts[0] += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield counts
    finally:
        done.set()
        thread.join()
        assert not network.passes(source)  # whatever was sent before has been decided by now
        receiver.setblocking(False)
        with suppress(BlockingIOError):
            while receiver.recv(10):
                counts[1] += 1
        sender.close()
        receiver.close()


@contextmanager
def dead_name_server(watcher: Watcher) -> Iterator[tuple[str, ...]]:
    """A command that starts another one where every look-up of a name waits for an answer that never comes."""
    silent = watcher.network.peer.socket("198.51.100.53", 53)
    resolver = watcher.directory / "resolv.conf"
    resolver.write_text("nameserver 198.51.100.53\n")
    mount = f'mount --bind {resolver} $(readlink -f /etc/resolv.conf) && exec "$@"'
    try:
        yield ("unshare", "--mount", "sh", "-c", mount, "sh")
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.recv(500)  # nobody has asked
    finally:
        silent.close()


@pytest.mark.feature("D3")
def test_no_packet_passes_while_it_comes_and_goes(watcher: Watcher) -> None:
    """With 10,000 blocks in force, new code, a changed configuration, and a name server that does not answer."""
    upgraded = watcher.directory / "upgraded"
    shutil.copytree(FILES / "ngfw", upgraded / "ngfw")
    with dead_name_server(watcher) as within:
        watcher.start(within=within)
        watcher.write(*(alert(f"198.18.{number // 250}.{number % 250}") for number in range(10_000)))
        watcher.write(alert("198.51.100.1"))
        wait_until(lambda: watcher.lines("blocks.log", "198.51.100.1 "))
        slowest = 0.0
        with stream_of_packets(watcher.network, "198.51.100.1") as counts:
            for round_, number in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)):
                watcher.stop(number)
                watcher.configure(whitelist=["198.51.100.77"] if number is signal.SIGKILL else [])
                start = time.monotonic()
                watcher.start(within=within, path=upgraded if round_ % 2 else None)
                slowest = max(slowest, time.monotonic() - start)
                watcher.reload()
        print(f"{counts[0]} packets, ready after {slowest:.2f} s at the latest")
        assert counts[0] > 200
        assert counts[1] == 0
        assert slowest < shared(3)
        assert len(watcher.blocked()) == 10_001
        watcher.stop()


@pytest.mark.feature("E3")
def test_full_disks_stop_no_enforcement(watcher: Watcher) -> None:
    for directory in (watcher.state, watcher.journals):
        directory.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "ngfw-test", str(directory)], check=True)
    try:
        watcher.start()
        for directory in (watcher.state, watcher.journals):
            with suppress(OSError), (directory / "filler").open("wb") as filler:
                for _ in range(260):
                    filler.write(b"x" * 1024)
                    filler.flush()
        passes = watcher.network.passes
        for number in range(1, 30):
            watcher.write(*(alert(f"203.0.113.{number}", number) for _ in range(20)))
        wait_until(lambda: not passes("203.0.113.29"))
        assert len(watcher.blocked()) == 29
        for directory in (watcher.state, watcher.journals):
            (directory / "filler").unlink()
        watcher.write(alert("198.51.100.1"))
        wait_until(lambda: watcher.lines("blocks.log", "198.51.100.1 "))
        assert len(watcher.lines("blocks.log", " BLOCKED ")) == 30
        assert watcher.output().count("make room") <= 5
        assert watcher.stop() == 0
    finally:
        for directory in (watcher.state, watcher.journals):
            subprocess.run(["umount", "-l", str(directory)], check=True)


COUNTING = RULES.replace("severity: high", "severity: high\n    threshold: 3\n    threshold_window: 60")


@pytest.mark.feature("F3", "A2")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_thresholds_survive_a_restart(watcher: Watcher, number: signal.Signals) -> None:
    watcher.rules.write_text(COUNTING)
    watcher.start()
    watcher.write(alert("198.51.100.1"), alert("198.51.100.1"), alert("198.51.100.2"))
    wait_until(lambda: watcher.counters().get("ngfw_events_total") == {"alert": 3})
    if number is signal.SIGHUP:
        watcher.reload()
    else:
        watcher.stop(number)
        watcher.start()
    watcher.write(alert("198.51.100.1"), alert("198.51.100.2"))
    wait_until(lambda: watcher.lines("alerts.json"))
    assert watcher.blocked() == {"198.51.100.1"}
    assert len(watcher.lines("alert.log")) == 1


@pytest.mark.feature("D6")
def test_a_damaged_cursor_is_put_aside(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.1"))
    wait_until(lambda: watcher.lines("alerts.json"))
    watcher.stop()
    (watcher.state / "cursor").write_text("{")
    watcher.start()
    assert "put aside" in watcher.output()
    assert not watcher.network.passes("198.51.100.1")
    watcher.write(alert("198.51.100.2"))
    wait_until(lambda: watcher.lines("blocks.log", "198.51.100.2"))


def test_a_start_waits_for_no_heavy_library() -> None:
    heavy = {"requests", "urllib3", "prometheus_client", "asyncio", "ssl", "http.client", "email", "importlib.metadata"}
    code = "import sys, ngfw.service; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(FILES)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "ngfw.service" in done.stdout.split()
    assert not heavy.intersection(done.stdout.split())


def test_idle_it_wakes_once_a_second_for_some_microseconds(watcher: Watcher) -> None:
    """Sets tell nobody that they were emptied: their sizes are looked at."""
    watcher.start()
    watcher.write(alert("198.51.100.1"))
    wait_until(lambda: "198.51.100.1" in (watcher.state / "in_force").read_text())  # the last file that saving writes
    assert watcher.process is not None
    status = Path(f"/proc/{watcher.process.pid}/status")

    def switches() -> int:
        return sum(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("voluntary"))

    seen = [-9]
    wait_until(lambda: (time.sleep(0.5), seen.append(switches()), seen[-1] - seen[-2] <= 1)[2])
    time.sleep(2)  # what is watched here is that hardly anything happens in that time
    assert switches() - seen[-1] <= 4


@pytest.mark.feature("F1")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chian: X", "ngfw.yml:1: unknown key 'chian'; did you mean 'chain'?"),
        ("- 1", "ngfw.yml:1: "),
    ],
)
def test_a_wrong_configuration_is_refused(watcher: Watcher, text: str, message: str) -> None:
    watcher.config.write_text(text)
    for command in ("watch", "check"):
        done = watcher.command(command)
        assert done.returncode == 2
        assert message in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert not watcher.state.exists()


def test_without_privileges_it_says_what_to_do(watcher: Watcher) -> None:
    for path in (watcher.directory, *watcher.directory.parents):
        if path.owner() == "root" and path.is_relative_to("/tmp/pytest-of-root"):
            path.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(FILES), "PYTHONDONTWRITEBYTECODE": "1"}
    if not _readable_for_others(FILES):
        pytest.skip("this checkout is not readable for other users")
    for argv in (["watch"], ["list"], ["block", "198.51.100.1"], ["flush"]):
        with watcher.network.host:
            done = subprocess.run(
                ["/usr/bin/python3", "-m", "ngfw", *argv, "--config", str(watcher.config)],
                env=environment,
                user="nobody",
                capture_output=True,
                text=True,
                check=False,
            )
        assert (done.returncode, "run as root" in done.stderr) == (3, True), (argv, done.stderr)
        assert "Traceback" not in done.stderr
    assert sys.executable


def _readable_for_others(path: Path) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (path, *path.parents))
