# SPDX-License-Identifier: GPL-3.0-or-later
"""What others do to the rules is undone within two seconds, with either kind of iptables, and without a fight."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ..namespace import shared, wait_until
from .conftest import Watcher, alert

PROGRAMS = [f"{family}{purpose}" for family in ("iptables", "ip6tables") for purpose in ("", "-save", "-restore")]


@pytest.fixture(params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One of the two kinds of iptables, as if the system had only that."""
    kind: str = request.param
    directory: Path = tmp_path_factory.mktemp(kind)
    for name in PROGRAMS:
        family, dash, purpose = name.partition("-")
        program = shutil.which(f"{family}-{kind}{dash}{purpose}", path="/usr/sbin:/sbin")
        if program is None:
            pytest.skip(f"{family}-{kind} is not installed")
        (directory / name).symlink_to(program)
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setenv("PATH", f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin")
    return kind


@pytest.fixture
def blocking(backend: str, watcher: Watcher) -> Watcher:
    """A watcher that has blocked 198.51.100.7, beside a rule of the user's."""
    assert watcher.network.host.run("iptables", "-A", "INPUT", "-s", "192.0.2.99", "-j", "DROP").returncode == 0
    # The library looks for programs where the system has them, and nowhere else.
    watcher.start(code=f"from ngfw.firewall import runner; runner._PATH = {os.environ['PATH']!r}; Service(load).run()")
    watcher.write(alert("198.51.100.7"))
    wait_until(lambda: not watcher.network.passes("198.51.100.7"))
    wait_until(lambda: watcher.lines("alerts.json"))
    return watcher


def run(watcher: Watcher, *commands: str) -> None:
    for command in commands:
        done = watcher.network.host.run(*command.split())
        assert done.returncode == 0, done.stderr


@pytest.mark.feature("C10")
@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(["iptables -F"], id="all flushed"),
        pytest.param(["iptables -F", "iptables -X"], id="all removed"),
        pytest.param(["iptables -D INPUT -j NGFW"], id="jump lost"),
        pytest.param(["iptables -D INPUT -j NGFW", "iptables -A INPUT -j NGFW"], id="jump moved to the end"),
        pytest.param(["iptables -F NGFW"], id="chain emptied"),
        pytest.param(["iptables -I NGFW -j RETURN"], id="foreign rule in the chain"),
        pytest.param(
            ["iptables -N DOCKER", "iptables -I FORWARD -j DOCKER", "iptables -I INPUT -p udp --dport 4444 -j ACCEPT"],
            id="another tool inserts before",
        ),
        pytest.param(["iptables -F NGFW", "ipset destroy NGFW-drop-src4"], id="set destroyed"),
    ],
)
def test_healed_within_two_seconds(blocking: Watcher, commands: list[str]) -> None:
    heals_after(blocking, commands)


@pytest.mark.feature("C10")
@pytest.mark.parametrize("backend", ["nft"], indirect=True)
@pytest.mark.skipif(shutil.which("nft") is None, reason="needs the program nft")
def test_a_flushed_ruleset_is_healed_within_two_seconds(blocking: Watcher) -> None:
    heals_after(blocking, ["nft flush ruleset"])


def heals_after(blocking: Watcher, commands: list[str]) -> None:
    tried = 0

    def do_it() -> bool:
        nonlocal tried
        tried += 1
        return all(blocking.network.host.run(*command.split()).returncode == 0 for command in commands)

    wait_until(do_it)  # a repair may come between two commands
    start = time.monotonic()
    wait_until(lambda: comes_first(blocking) and not blocking.network.passes("198.51.100.7"))
    took = time.monotonic() - start
    print(f"healed after {took:.2f} s")
    assert took < shared(2)
    wait_until(lambda: blocking.lines("daemon.log", "as they should be again"))
    # What needs several commands may be healed after each of them.
    wait_until(lambda: 1 <= blocking.counters()["ngfw_heals_total"] <= tried * len(commands))
    assert blocking.blocked() == {"198.51.100.7"}


def comes_first(blocking: Watcher) -> bool:
    """Whether our jump is the first rule."""
    return blocking.network.host.run("iptables", "-S", "INPUT").stdout.splitlines()[1:2] == ["-A INPUT -j NGFW"]


@pytest.mark.feature("C10")
def test_a_tool_that_insists_is_not_fought_with(blocking: Watcher) -> None:
    start = time.monotonic()
    inserted = 0
    while time.monotonic() - start < 4.5:
        if comes_first(blocking):
            run(blocking, "iptables -I INPUT -s 192.0.2.98 -j ACCEPT")
            inserted += 1
        time.sleep(0.01)
    assert 2 <= inserted <= 6
    wait_until(lambda: blocking.counters()["ngfw_heals_total"] == inserted)
    assert not blocking.network.passes("198.51.100.7")


@pytest.mark.feature("C10")
def test_changes_of_others_that_harm_nobody_are_not_counted(blocking: Watcher) -> None:
    run(blocking, "iptables -A INPUT -s 192.0.2.97 -j DROP", "iptables -t nat -N ELSEWHERE")
    time.sleep(1.5)
    assert blocking.lines("daemon.log", "as they should be again") == []
    assert blocking.network.host.run("iptables", "-C", "INPUT", "-s", "192.0.2.97", "-j", "DROP").returncode == 0
