# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher as a process of its own, in a network namespace, with packets from a second one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ..namespace import Namespace

FILES = Path(__file__).parents[2] / "roles" / "ngfw" / "files"
HOST, HOST6 = "192.0.2.1", "2001:db8:1::1"
PEER, PEER6 = "192.0.2.2", "2001:db8:1::2"
_PEERS = ("198.51.100.0/24", "203.0.113.0/24", "2001:db8:a::/48", "2001:db8:fa::/48")
CONTROL, CONTROL6 = "198.51.100.250", "2001:db8:fa::250"

RULES = """
rules:
  - name: High
    type: alert
    expression: alert.severity == 1
    severity: high
    actions:
      - {type: iptables_block, config: {duration: 30m}}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = None
    if os.geteuid() != 0:
        reason = "needs root: network namespaces and the kernel's sets"
    elif not (shutil.which("ipset") and shutil.which("iptables") and shutil.which("ip")):
        reason = "needs the programs ip, ipset and iptables"
    here = Path(__file__).parent
    for item in items:
        if reason and here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason))


class Network:
    """A defended host and a peer that sends with any source address, on one wire."""

    def __init__(self) -> None:
        self.host, self.peer = Namespace(), Namespace()
        self.peer.ip(
            f"link add wire type veth peer name wire netns {self.host.path}",
            *_attached(PEER, PEER6),
            *(f"route add local {network} dev lo" for network in _PEERS),
        )
        self.host.ip(*_attached(HOST, HOST6), f"route add default via {PEER}", f"route add default via {PEER6}")
        self._receivers = {
            socket.AF_INET: self.host.socket(HOST, 4444),
            socket.AF_INET6: self.host.socket(HOST6, 4444),
        }
        self._serial = 0

    def passes(self, source: str) -> bool:
        """Whether a datagram from that address reaches the host; one that always does follows it and tells."""
        six = ":" in source
        family = socket.AF_INET6 if six else socket.AF_INET
        target = (HOST6 if six else HOST, 4444)
        receiver = self._receivers[family]
        receiver.settimeout(20.0)
        self._serial += 1
        for address in (source, CONTROL6 if six else CONTROL):
            with self.peer.socket(address) as sender:
                sender.sendto(f"{self._serial} {address}".encode(), target)
        found = False
        while True:
            serial, _space, address = receiver.recv(200).decode().partition(" ")
            if int(serial) == self._serial:
                if address != source:
                    return found
                found = True

    def close(self) -> None:
        for receiver in self._receivers.values():
            receiver.close()
        self.host.close()
        self.peer.close()


def _attached(address: str, address6: str) -> tuple[str, ...]:
    return (
        "link set lo up",
        "link set wire up",
        f"address add {address}/24 dev wire",
        f"address add {address6}/64 dev wire nodad",
    )


def alert(source: str, number: int = 1, *, at: float | None = None, **changes: Any) -> str:
    """A line of eve.json: an alert about a request of that address, stamped now."""
    stamp = datetime.fromtimestamp(time.time() if at is None else at, timezone.utc)
    record = {
        "timestamp": stamp.strftime("%Y-%m-%dT%H:%M:%S.%f+0000"),
        "event_type": "alert",
        "src_ip": source,
        "src_port": 40000,
        "dest_ip": HOST6 if ":" in source else HOST,
        "dest_port": 80,
        "proto": "TCP",
        "direction": "to_server",
        "app_proto": "http",
        "alert": {"gid": 1, "signature_id": number, "signature": f"alert number {number}", "severity": 1},
        "flow": {"pkts_toserver": 4, "pkts_toclient": 3, "src_ip": source},
    }
    return json.dumps({**record, **changes}, separators=(",", ":")) + "\n"


class Watcher:
    """`ngfw watch` and the files around it."""

    def __init__(self, directory: Path, network: Network) -> None:
        self.network = network
        self.directory = directory
        self.log = directory / "eve.json"
        self.rules = directory / "rules.d" / "test.yml"
        self.config = directory / "ngfw.yml"
        self.journals = directory / "log"
        self.state = directory / "state"
        self.rules.parent.mkdir()
        self.rules.write_text(RULES)
        self.log.touch()
        self.settings: dict[str, Any] = {
            "state_directory": str(self.state),
            "log_directory": str(self.journals),
            "rules_directory": str(self.rules.parent),
            "sources": [{"path": str(self.log), "format": "eve"}],
            "metrics": {"listen": None},
        }
        self.configure()
        self.process: subprocess.Popen[bytes] | None = None
        self._notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Unix sockets without a path belong to a network namespace, so this one has a path, which must be short.
        self._address = f"/tmp/ngfw-test-{os.getpid()}-{id(self)}"
        self._notifications.bind(self._address)

    def configure(self, **settings: Any) -> None:
        self.settings.update(settings)
        self.config.write_text(json.dumps(self.settings))  # JSON is YAML

    def start(
        self, *, code: str = "", wait: bool = True, path: Path | None = None, within: tuple[str, ...] = ()
    ) -> None:
        """Start it and wait until it is ready; `code` is run instead, with `load` and `Service` at hand.

        `path` is looked into first for Python modules; `within` is a command that starts the rest of its line.
        """
        argv = [sys.executable, "-m", "ngfw", "watch", "--config", str(self.config)]
        if code:
            argv = [sys.executable, "-c", _SETUP + code, str(self.config)]
        paths = os.pathsep.join(map(str, (FILES,) if path is None else (path, FILES)))
        environment = {**os.environ, "PYTHONPATH": paths, "NOTIFY_SOCKET": self._address}
        with self.network.host, (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [*within, *argv], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        if wait:
            self.hear("READY=1")

    def hear(self, state: str, *, seconds: float = 30.0) -> None:
        """Wait until the watcher has notified its manager of that state."""
        deadline = time.monotonic() + seconds
        while True:
            self._notifications.settimeout(max(0.01, min(0.2, deadline - time.monotonic())))
            with suppress(socket.timeout):
                if state in self._notifications.recv(4096).decode().split("\n"):
                    return
            assert time.monotonic() < deadline, f"no {state}: {self.output()}"
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.output()}")

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def reload(self) -> None:
        self.send(signal.SIGHUP)
        self.hear("RELOADING=1")
        self.hear("READY=1")

    def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = 30.0) -> int:
        self.send(number)
        return self.wait(seconds)

    def wait(self, seconds: float = 30.0) -> int:
        assert self.process is not None
        code = self.process.wait(seconds)
        self._notifications.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._notifications.recv(4096)
        return code

    def write(self, *lines: str) -> None:
        """Append lines as Suricata does, in one write."""
        with self.log.open("a") as stream:
            stream.write("".join(lines))

    def command(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run `ngfw` on the host."""
        with self.network.host:
            return subprocess.run(
                [sys.executable, "-m", "ngfw", *argv, "--config", str(self.config)],
                env={**os.environ, "PYTHONPATH": str(FILES)},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )

    def blocks(self) -> list[dict[str, Any]]:
        """What `ngfw list --json` says."""
        done = self.command("list", "--json")
        assert done.returncode == 0, done.stderr
        blocks: list[dict[str, Any]] = json.loads(done.stdout)
        return blocks

    def blocked(self) -> set[str]:
        return {block["address"] for block in self.blocks()}

    def lines(self, name: str, word: str = "") -> list[str]:
        path = self.journals / name
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # the last line may just be written
        return [line for line in whole.splitlines() if word in line]

    def decisions(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines("alerts.json")]

    def counters(self) -> dict[str, Any]:
        """What the watcher last wrote of its counters."""
        path = self.state / "status.json"
        found: dict[str, Any] = json.loads(path.read_text())["counters"] if path.exists() else {}
        return found

    def settled(self) -> bool:
        """Whether nothing is announced that is not done yet."""
        try:
            return b"\n" not in (self.state / "pending").read_bytes()
        except FileNotFoundError:
            return True

    def output(self) -> str:
        return (self.directory / "output").read_text()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._notifications.close()
        os.unlink(self._address)


_SETUP = """
import os, signal, sys
from pathlib import Path
from ngfw.settings.config import load as load_config
from ngfw.rules.load import load_rules
from ngfw.service import Service

def load():
    config = load_config(sys.argv[1])
    return config, load_rules([Path(config.rules_directory)], config.defaults)

"""


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.close()


@pytest.fixture
def watcher(tmp_path: Path, network: Network) -> Iterator[Watcher]:
    made = Watcher(tmp_path, network)
    yield made
    made.close()
