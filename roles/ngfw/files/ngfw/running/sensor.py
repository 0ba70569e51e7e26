# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Suricata runs, where it listens, and whether it hears anything, as the kernel tells it.

Formats: cgroups(7), proc(5); /proc/net/packet has a line for each packet(7) socket (net/packet/af_packet.c).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .loop import Loop

ALIVE, STOPPED, DEAF, UNKNOWN = "alive", "stopped", "deaf", "unknown"

LOOK_SECONDS = 60.0

DEAF_SECONDS = 300.0
"""So long without an event, while its interfaces count DEAF_PACKETS, and it is deaf: it logs each flow within a minute
of its end.
"""

DEAF_PACKETS = 1000

_UNIT = "suricata.service"
_CGROUPS = ("sys/fs/cgroup", "sys/fs/cgroup/unified", "sys/fs/cgroup/systemd")
_ALL_PROTOCOLS = "0003"  # ETH_P_ALL: what captures asks for every packet
_TIMER = "sensor"


class Sensor(NamedTuple):
    """Suricata as it is now: `running` is None where there is no unit of its name, `since` is when it began (epoch
    seconds), `listening` the interfaces that it captures from, `others` those that are up beside them.
    """

    running: bool | None
    since: float | None
    listening: tuple[str, ...]
    others: tuple[str, ...]


def look(root: Path = Path("/")) -> Sensor:
    """What the kernel tells of it. Never raises: what this user may not see is not there."""
    group = _group(root)
    processes = [] if group is None else _processes(group)
    sockets = {f"socket:[{inode}]" for pid in processes for inode in _sockets(root / "proc" / pid)}
    names = {index: name for name, index in _interfaces(root).items()}
    listening = set()
    for index, protocol, inode in _packet_sockets(root):
        if f"socket:[{inode}]" in sockets or (not sockets and protocol == _ALL_PROTOCOLS):
            listening.add(names.get(index, ""))
    listening.discard("")
    others = [name for name in names.values() if name != "lo" and name not in listening and _is_up(root, name)]
    since = None
    if group is not None and processes:
        with suppress(OSError):
            since = group.stat().st_ctime  # systemd makes it anew at each start
    running = bool(processes) if group is not None or _is_installed(root) else None
    return Sensor(running, since, tuple(sorted(listening)) if running else (), tuple(sorted(others)))


def received(names: tuple[str, ...], root: Path = Path("/")) -> int:
    """Packets that these interfaces have received since they are there."""
    total = 0
    for name in names:
        with suppress(OSError, ValueError):
            total += int((root / "sys/class/net" / name / "statistics/rx_packets").read_text())
    return total


class SensorMonitor:
    """Looks once a minute whether the sensor runs and hears, and says when that changes."""

    def __init__(
        self,
        loop: Loop,
        events: Callable[[], int | None],
        *,
        changed: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        root: Path = Path("/"),
    ) -> None:
        """`events` counts all events so far, and is None where silence says nothing; `changed` is given another state
        and what to say of it.
        """
        self._loop, self._events, self._changed = loop, events, changed
        self._clock, self._root = clock, root
        self._seen: int | None = None
        self._heard_at, self._received = 0.0, 0
        self.state = UNKNOWN
        self.sensor = Sensor(None, None, (), ())

    def start(self) -> None:
        """Look now, and from now on."""
        self._look()

    def to_dict(self) -> dict[str, Any]:
        """As `ngfw status --json` has it."""
        return {"state": self.state, **self.sensor._asdict()}

    def _look(self) -> None:
        self._loop.after(_TIMER, LOOK_SECONDS, self._look)
        before, self.sensor = self.sensor, look(self._root)
        now, events, packets = self._clock(), self._events(), received(self.sensor.listening, self._root)
        if events is None or events != self._seen or self.sensor.listening != before.listening:
            self._seen, self._heard_at, self._received = events, now, packets
        state = self._judged(now - self._heard_at, packets - self._received)
        if state != self.state:
            known, self.state = self.state, state
            if known != UNKNOWN or state in (STOPPED, DEAF):
                self._changed(state, advice(state, self.sensor))

    def _judged(self, silence: float, packets: int) -> str:
        if self.sensor.running is None:
            return UNKNOWN
        if not self.sensor.running:
            return STOPPED
        return DEAF if silence >= DEAF_SECONDS and packets >= DEAF_PACKETS else ALIVE


def advice(state: str, sensor: Sensor) -> str:
    """What people are told of a state, and what to do."""
    where = ", ".join(sensor.listening) or "no interface"
    if state == STOPPED:
        return (
            "Suricata does not run, so nothing is detected; see journalctl -u suricata, then systemctl start suricata"
        )
    if state == DEAF:
        others = f" (there are also {', '.join(sensor.others)})" if sensor.others else ""
        return (
            f"Suricata listens on {where}{others}, which counts packets, but writes no events; see ngfw check, and "
            "journalctl -u suricata"
        )
    return f"Suricata runs, and listens on {where}"


def _group(root: Path) -> Path | None:
    top = _top(root)
    for place in _CGROUPS:
        group = root / place / top / "system.slice" / _UNIT
        if group.is_dir():
            return group
    return None


def _top(root: Path) -> str:
    """Where systemd's own groups begin; that is not the top of the tree in a container that sees all of the tree."""
    for process, below in (("1", "/init.scope"), ("self", "/system.slice/")):  # the watcher's unit hides process 1
        with suppress(OSError, ValueError):
            for line in (root / "proc" / process / "cgroup").read_text(encoding="ascii").splitlines():
                top, found, _rest = line.split(":", 2)[-1].partition(below)
                if found:
                    return top.lstrip("/")
    return ""


def _is_installed(root: Path) -> bool:
    return any((root / place / _UNIT).exists() for place in ("lib/systemd/system", "etc/systemd/system"))


def _processes(group: Path) -> list[str]:
    try:
        return (group / "cgroup.procs").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []


def _sockets(process: Path) -> Iterator[str]:
    with suppress(OSError):
        for each in (process / "fd").iterdir():
            with suppress(OSError):
                target = os.readlink(each)
                if target.startswith("socket:["):
                    yield target[8:-1]


def _packet_sockets(root: Path) -> Iterator[tuple[int, str, str]]:
    """Interface, protocol and inode of each packet socket of this network namespace."""
    try:
        lines = (root / "proc/self/net/packet").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines[1:]:
        fields = line.split()
        if len(fields) >= 9 and fields[4].isdigit():
            yield int(fields[4]), fields[3].lower(), fields[8]


def _interfaces(root: Path) -> dict[str, int]:
    found = {}
    with suppress(OSError):
        for each in (root / "sys/class/net").iterdir():
            with suppress(OSError, ValueError):
                found[each.name] = int((each / "ifindex").read_text())
    return found


def _is_up(root: Path, name: str) -> bool:
    try:
        return (root / "sys/class/net" / name / "operstate").read_text().strip() in ("up", "unknown")
    except OSError:
        return False
