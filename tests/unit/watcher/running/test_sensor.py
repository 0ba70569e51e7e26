# SPDX-License-Identifier: GPL-3.0-or-later
"""Suricata as the kernel tells of it, in trees that look like /proc and /sys."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
from ngfw.display.status import sensor_status
from ngfw.metrics import Metrics
from ngfw.running.sensor import (
    ALIVE,
    DEAF,
    DEAF_PACKETS,
    DEAF_SECONDS,
    LOOK_SECONDS,
    STOPPED,
    UNKNOWN,
    Sensor,
    SensorMonitor,
    look,
    received,
)

HEAD = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"


class Host:
    """A host's trees under a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, index in (("lo", 1), ("eth0", 2), ("eth1", 3), ("down0", 4)):
            place = root / "sys/class/net" / name
            (place / "statistics").mkdir(parents=True)
            (place / "ifindex").write_text(f"{index}\n")
            (place / "operstate").write_text("down\n" if name == "down0" else "up\n")
            (place / "statistics/rx_packets").write_text("0\n")
        (root / "proc/self/net").mkdir(parents=True)
        self.group = root / "sys/fs/cgroup/system.slice/suricata.service"

    def sockets(self, *lines: tuple[int, str, int]) -> None:
        text = HEAD + "".join(f"0000000000000000 3      3    {p}   {i}     1 0      0      {n}\n" for i, p, n in lines)
        (self.root / "proc/self/net/packet").write_text(text)

    def run(self, *, visible: bool = True) -> None:
        self.group.mkdir(parents=True, exist_ok=True)
        (self.group / "cgroup.procs").write_text("77\n")
        descriptors = self.root / "proc/77/fd"
        if visible:
            descriptors.mkdir(parents=True)
            (descriptors / "3").symlink_to("socket:[900]")
            (descriptors / "4").symlink_to("/dev/null")

    def stop(self) -> None:
        (self.group / "cgroup.procs").write_text("")

    def count(self, name: str, packets: int) -> None:
        (self.root / "sys/class/net" / name / "statistics/rx_packets").write_text(f"{packets}\n")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.feature("U3")
def test_where_it_listens_is_told_by_its_own_sockets(host: Host) -> None:
    host.run()
    host.sockets((2, "0003", 900), (3, "0003", 901))  # the other is somebody's tcpdump
    found = look(host.root)
    assert (found.running, found.listening, found.others) == (True, ("eth0",), ("eth1",))
    assert found.since is not None


@pytest.mark.feature("U3")
@pytest.mark.parametrize(
    ("process", "own"), [("1", "{top}/init.scope"), ("self", "{top}/system.slice/ngfw-watcher.service")]
)
def test_in_a_container_its_own_group_counts(host: Host, process: str, own: str) -> None:
    host.run()  # the machine's
    host.sockets((2, "0003", 900))
    (host.root / "proc" / process).mkdir(exist_ok=True)
    (host.root / "proc" / process / "cgroup").write_text(f"9:name=systemd:{own.format(top='/pods/7')}\n0::/\n")
    host.group = host.root / "sys/fs/cgroup/systemd/pods/7/system.slice/suricata.service"
    assert look(host.root).running is None
    host.run(visible=False)
    assert look(host.root).running
    host.stop()
    assert look(host.root).running is False


@pytest.mark.feature("U3")
def test_where_its_descriptors_cannot_be_seen_all_captures_count(host: Host) -> None:
    host.run(visible=False)
    host.sockets((2, "0003", 900), (3, "0800", 901))
    assert look(host.root).listening == ("eth0",)


@pytest.mark.feature("U3")
def test_a_host_without_it(host: Host) -> None:
    assert look(host.root) == Sensor(None, None, (), ("eth0", "eth1"))
    (host.root / "lib/systemd/system").mkdir(parents=True)
    (host.root / "lib/systemd/system/suricata.service").touch()
    assert look(host.root).running is False


def test_nothing_readable_is_no_error(tmp_path: Path) -> None:
    assert look(tmp_path) == Sensor(None, None, (), ())
    assert received(("eth0",), tmp_path) == 0


class Timer:
    """A loop that calls when the test says so."""

    def __init__(self) -> None:
        self.call: Callable[[], None] = lambda: None

    def after(self, _name: str, _seconds: float, call: Callable[[], None]) -> None:
        self.call = call


@pytest.mark.feature("U3")
def test_stopped_and_deaf_are_said_once_and_so_is_their_end(host: Host) -> None:
    said: list[tuple[str, str]] = []
    now, timer = [0.0], Timer()
    events: list[int | None] = [0]
    host.run()
    host.sockets((2, "0003", 900))
    monitor = SensorMonitor(
        timer,  # type: ignore[arg-type]
        lambda: events[0],
        changed=lambda state, text: said.append((state, text)),
        clock=lambda: now[0],
        root=host.root,
    )

    def pass_time(seconds: float, *, packets: int) -> None:
        now[0] += seconds
        host.count("eth0", packets)
        timer.call()

    monitor.start()
    assert (monitor.state, said) == (ALIVE, [])
    pass_time(DEAF_SECONDS + 1, packets=DEAF_PACKETS - 1)  # a quiet network is none that is not heard
    pass_time(LOOK_SECONDS, packets=DEAF_PACKETS)
    assert monitor.state == DEAF
    pass_time(LOOK_SECONDS, packets=DEAF_PACKETS * 2)
    assert [state for state, _text in said] == [DEAF]
    assert "listens on eth0 (there are also eth1), which counts packets, but writes no events" in said[0][1]
    assert sensor_status(monitor.to_dict(), look(host.root))["state"] == DEAF
    events[0] = 1
    pass_time(LOOK_SECONDS, packets=DEAF_PACKETS * 3)
    assert said[1] == (ALIVE, "Suricata runs, and listens on eth0")
    events[0] = None  # a log of alerts only: nobody attacks
    pass_time(DEAF_SECONDS + 1, packets=DEAF_PACKETS * 6)
    assert monitor.state == ALIVE
    host.stop()
    pass_time(LOOK_SECONDS, packets=DEAF_PACKETS * 6)
    assert monitor.to_dict()["listening"] == ()
    assert said[2][0] == STOPPED
    assert "systemctl start suricata" in said[2][1]
    assert sensor_status(None, look(host.root))["state"] == STOPPED


def test_without_the_unit_nothing_is_said(host: Host) -> None:
    said: list[str] = []
    timer = Timer()
    monitor = SensorMonitor(timer, lambda: 0, changed=lambda state, text: said.append(text), root=host.root)  # type: ignore[arg-type]
    monitor.start()
    timer.call()
    assert (monitor.state, said) == (UNKNOWN, [])


@pytest.mark.feature("S10")
def test_what_suricata_writes_about_itself_is_nothing_heard() -> None:
    metrics = Metrics()
    metrics.events.update({"stats": 40, "engine": 2, "flow": 1})
    assert metrics.events_seen() == 1


@pytest.mark.feature("U3")
def test_a_log_of_alerts_only_is_known_by_what_was_seen() -> None:
    metrics = Metrics()
    assert not metrics.only_alerts()  # nothing at all is what a deaf one writes
    metrics.events.update(alert=3, stats=1)
    assert metrics.only_alerts()
    metrics.events.update(flow=1)
    assert not metrics.only_alerts()
