# SPDX-License-Identifier: GPL-3.0-or-later
"""A defended host between the outside and a server, each a network namespace of its own, and packets between them.

A socket belongs to the namespace it was made in, so one process can send in one and receive in another.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import importlib
import itertools
import json
import mmap
import os
import random
import re
import shutil
import signal
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args
from ansible_collections.reflex.ngfw.plugins.module_utils import _download, _module
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import Network, parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Block, Origin
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.firewall import Firewall
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.runner import Output, SystemRunner

from ..namespace import Namespace, wait_until

_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40  # netdevice(7)
_PATIENCE = 20.0
_COUNT = struct.Struct("=Q")
_PROGRAMS = [f"{name}{suffix}" for name in ("iptables", "ip6tables") for suffix in ("", "-save", "-restore")]

_TOPOLOGY = {
    "outside": """
        link set lo up
        link set eth0 up
        address add 198.51.100.2/25 dev eth0
        address add 198.51.100.3/25 dev eth0
        address add 2001:db8:1::2/64 dev eth0 nodad
        address add 2001:db8:1::3/64 dev eth0 nodad
        route add local 203.0.113.0/24 dev lo
        route add local 192.0.2.0/24 dev lo
        route add local 2001:db8:a::/48 dev lo
        route add local 2001:db8:c::/48 dev lo
        route add default via 198.51.100.1
        route add default via 2001:db8:1::1
    """,
    "host": """
        link set lo up
        link set eth0 up
        link set eth1 up
        address add 198.51.100.1/25 dev eth0
        address add 198.51.100.129/25 dev eth1
        address add 2001:db8:1::1/64 dev eth0 nodad
        address add 2001:db8:2::1/64 dev eth1 nodad
        route add default via 198.51.100.2
        route add default via 2001:db8:1::2
    """,
    "inside": """
        link set lo up
        link set eth0 up
        address add 198.51.100.130/25 dev eth0
        address add 198.51.100.131/25 dev eth0
        address add 2001:db8:2::2/64 dev eth0 nodad
        address add 2001:db8:2::3/64 dev eth0 nodad
        route add default via 198.51.100.129
        route add default via 2001:db8:2::1
    """,
}
_LINKS = (("outside", "eth0", "host", "eth0"), ("host", "eth1", "inside", "eth0"))
_SETTINGS = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv4/ping_group_range": "0 2147483647",
    "ipv4/icmp_ratelimit": "0",
    "ipv6/icmp/ratelimit": "0",
}
_CONTROL = {
    "outside": {"ipv4": "192.0.2.250", "ipv6": "2001:db8:c::250"},
    "host": {"ipv4": "198.51.100.1", "ipv6": "2001:db8:1::1"},
    "inside": {"ipv4": "198.51.100.131", "ipv6": "2001:db8:2::3"},
}
"""Addresses that no test blocks: a packet between them follows each probe and tells when the probe is decided."""


class Tools(SystemRunner):
    """The system's programs, with iptables from one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, argv: Sequence[str], stdin: str = "") -> Output:
        own = self.directory / argv[0]
        return super().run((str(own), *argv[1:]) if own.exists() else argv, stdin)


class Flood:
    """A process that sends from a socket without a pause."""

    def __init__(self, sender: socket.socket, target: tuple[Any, ...]) -> None:
        self._sent = mmap.mmap(-1, _COUNT.size)
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.sched_setaffinity(0, range(os.cpu_count() or 1))
                for number in itertools.count(1):
                    sender.sendto(b"flood", target)
                    _COUNT.pack_into(self._sent, 0, number)
                    if number % 1000 == 0 and os.getppid() != parent:
                        break  # it was killed
            finally:
                os._exit(1)

    def goes_on(self) -> None:
        """Return when a hundred packets more were sent."""
        before = self._number()
        wait_until(lambda: self._number() >= before + 100)

    def stop(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _number(self) -> int:
        return int(_COUNT.unpack_from(self._sent)[0])


class Lab:
    """Outside, host and inside, and what a test does there. While a test runs, its process is in the host."""

    def __init__(self, tools: Tools, run_directory: Path) -> None:
        self.tools = tools
        self.run_directory = run_directory
        self.nodes = {name: Namespace(_SETTINGS) for name in _TOPOLOGY}
        self._sockets: dict[tuple[Any, ...], socket.socket] = {}
        self._firewalls: list[Firewall] = []
        for here, name, there, peer in _LINKS:
            self.nodes[here].ip(f"link add {name} type veth peer name {peer} netns {self.nodes[there].path}")
        for node, lines in _TOPOLOGY.items():
            self.nodes[node].ip(*(line.strip() for line in lines.strip().splitlines()))
        for here, name, there, peer in _LINKS:
            wait_until(lambda end=(here, name): self._runs(*end))
            wait_until(lambda end=(there, peer): self._runs(*end))

    def _runs(self, node: str, interface: str) -> bool:
        """Whether an interface is ready; what is sent before is lost, and neighbours are asked again a second later."""
        request = struct.pack("16sH14x", interface.encode(), 0)
        with self.nodes[node], socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            flags = struct.unpack_from("16xH", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[0]
        return bool(flags & _IFF_RUNNING)

    def close(self) -> None:
        for firewall in self._firewalls:
            firewall.close()
        for opened in self._sockets.values():
            opened.close()
        for node in self.nodes.values():
            node.close()

    # --- the firewall ------------------------------------------------------------------------------------------

    def firewall(self, **options: Any) -> Firewall:
        """A new facade over the host's kernel."""
        settings = {"origin": Origin.MODULE, "runner": self.tools, "run_directory": self.run_directory, **options}
        firewall = Firewall(**settings)
        self._firewalls.append(firewall)
        return firewall

    def run(self, command: str) -> str:
        """What a program of the host prints; it must succeed."""
        argv = command.split()
        output = self.tools.run(argv)
        assert output.code == 0, f"{command}: {output.stderr}"
        return output.stdout

    def tables(self) -> str:
        """All rules of both families, without counters and comments."""
        text = "".join(self.run(program) for program in ("iptables-save", "ip6tables-save"))
        lines = (re.sub(r" \[\d+:\d+\]$", "", line) for line in text.splitlines() if not line.startswith("#"))
        return "\n".join(lines)

    def sets(self) -> str:
        """All sets and their entries, without the time that is left and the counters."""
        text = self.run("ipset save")
        return "\n".join(sorted(re.sub(r" (timeout|packets|bytes|bucketsize|initval) \w+", "", text).splitlines()))

    def kernel(self) -> str:
        """All that the kernel holds of rules and sets."""
        return self.tables() + "\n" + self.sets()

    wait_until = staticmethod(wait_until)

    # --- packets -----------------------------------------------------------------------------------------------

    def arrives(self, source: str, destination: str) -> bool:
        """Whether a UDP packet gets from one address to the other.

        A second packet, between addresses that are never blocked, is sent after it on the same way. When that is
        there, the first one has been delivered or dropped.
        """
        return bool(self.count(source, destination, 1))

    def count(self, source: str, destination: str, packets: int) -> int:
        """How many of so many UDP packets get from one address to the other."""
        self.drain(destination)
        for _packet in range(packets):
            self.send(source, destination)
        self.settle(source, destination)
        return self.drain(destination)

    def drain(self, destination: str) -> int:
        """Take all UDP packets that wait at an address, and count them."""
        return _drain(self.endpoint(destination))

    def send(self, source: str, destination: str) -> None:
        """Send one UDP packet to the socket of `count`."""
        with suppress(PermissionError):  # dropped in OUTPUT: the kernel tells the sender
            self.endpoint(source).sendto(b"probe", self.endpoint(destination).getsockname())

    @contextmanager
    def flood(self, source: str, destination: str) -> Iterator[Flood]:
        """Another process sends UDP packets without a pause while the block runs; then all are delivered or dropped."""
        sender, target = self.endpoint(source), self.endpoint(destination).getsockname()
        flood = Flood(sender, target)
        try:
            yield flood
        finally:
            flood.stop()
        self.settle(source, destination)

    def settle(self, source: str, destination: str) -> None:
        """Return when all that was sent before from one to the other is delivered or dropped."""
        family = parse_network(source).family
        control_source = _CONTROL[node_of(source)][family]
        control = self.endpoint(_CONTROL[node_of(destination)][family], "control")
        self.endpoint(control_source, "control").sendto(b"control", control.getsockname())
        control.settimeout(_PATIENCE)
        assert control.recv(64) == b"control"

    def connects(self, source: str, destination: str) -> str:
        """What comes of a TCP connection to an open port: `connected`, `refused` or `silence`."""
        client = self.connecting(source, destination)
        family = parse_network(source).family
        control = self.connecting(_CONTROL[node_of(source)][family], _CONTROL[node_of(destination)][family])
        wait_until(lambda: _outcome(control) == "connected")
        outcome = _outcome(client)
        client.close()
        control.close()
        return outcome

    def connecting(self, source: str, destination: str) -> socket.socket:
        """A TCP socket on its way to a listener of the destination."""
        listener = self.listener(destination)
        client = self.open(source, kind=socket.SOCK_STREAM)
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        return client

    def listener(self, address: str) -> socket.socket:
        """The TCP socket that listens on an address."""
        return self.endpoint(address, "listener", kind=socket.SOCK_STREAM)

    def pings(self, source: str, destination: str) -> bool:
        """Whether an ICMP echo request gets its reply."""
        family = parse_network(source).family
        pairs = [(source, destination), (_CONTROL[node_of(source)][family], _CONTROL[node_of(destination)][family])]
        protocol = socket.IPPROTO_ICMP if family == "ipv4" else socket.IPPROTO_ICMPV6
        request = (b"\x08" if family == "ipv4" else b"\x80") + bytes(7) + b"probe"
        senders = []
        for here, there in pairs:
            sender = self.open(here, protocol=protocol)
            senders.append(sender)
            sender.sendto(request, (there, 0))
        senders[1].settimeout(_PATIENCE)
        senders[1].recv(64)
        replies = _drain(senders[0])
        for sender in senders:
            sender.close()
        return bool(replies)

    def endpoint(self, address: str, purpose: str = "", *, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """The socket of this test on that address, for that purpose."""
        key = (address, purpose, kind)
        if key not in self._sockets:
            self._sockets[key] = self.open(address, kind=kind)
            if kind == socket.SOCK_STREAM:
                self._sockets[key].listen(16)
        return self._sockets[key]

    def open(self, address: str, *, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> socket.socket:
        """A new socket on that address, in the namespace that has it."""
        return self.nodes[node_of(address)].socket(address, kind=kind, protocol=protocol)


def node_of(address: str) -> str:
    """The name of the node that has the address."""
    network = parse_network(address)
    for node, networks in _PLACES.items():
        if any(place.contains(network) for place in networks):
            return node
    raise AssertionError(f"{address} is nowhere")


_PLACES = {
    node: [parse_network(text) for text in texts]
    for node, texts in {
        "host": ("198.51.100.1", "198.51.100.129", "2001:db8:1::1", "2001:db8:2::1"),
        "outside": (
            *("198.51.100.0/25", "203.0.113.0/24", "192.0.2.0/24"),
            *("2001:db8:1::/64", "2001:db8:a::/48", "2001:db8:c::/48"),
        ),
        "inside": ("198.51.100.128/25", "2001:db8:2::/64"),
    }.items()
}


def _drain(receiver: socket.socket) -> int:
    """How many packets wait at a socket; takes them."""
    receiver.setblocking(False)
    found = 0
    while True:
        try:
            receiver.recv(64)
        except BlockingIOError:
            return found
        found += 1


def _outcome(client: socket.socket) -> str:
    try:
        client.getpeername()
    except OSError:
        return "refused" if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED else "silence"
    return "connected"


@pytest.fixture(params=["nft", "legacy"])
def tools(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """One of the two kinds of iptables, as if the system had only that."""
    directory = tmp_path_factory.mktemp(request.param)
    for name in _PROGRAMS:
        family, dash, purpose = name.partition("-")
        full_name = f"{family}-{request.param}{dash}{purpose}"
        program = shutil.which(full_name, path="/usr/sbin:/sbin")
        if program is None:
            pytest.skip(f"{full_name} is not installed")
        (directory / name).symlink_to(program)
    return Tools(directory)


@pytest.fixture
def lab(tools: Tools, tmp_path: Path) -> Iterator[Lab]:
    """Three fresh namespaces. The test runs in the host's, on one processor, so that packets keep their order."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {random.choice(list(processors))})  # tests that run at the same time share all of them
    made = Lab(tools, tmp_path / "run")
    try:
        with made.nodes["host"]:
            yield made
    finally:
        made.close()
        os.sched_setaffinity(0, processors)


@pytest.fixture
def firewall(lab: Lab) -> Firewall:
    """A facade over the host's kernel, where nothing is yet."""
    return lab.firewall()


@pytest.fixture
def module(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Runs a module as Ansible starts it; what it returned."""
    made = partial(Firewall, runner=lab.tools, run_directory=lab.run_directory)
    monkeypatch.setattr(_module, "Firewall", made)
    monkeypatch.setattr(_download, "STATE_DIRECTORY", tmp_path / "lists")

    def run(name: str, /, *, check: bool = False, **options: Any) -> dict[str, Any]:
        main = importlib.import_module(f"ansible_collections.reflex.ngfw.plugins.modules.{name}").main
        monkeypatch.setattr(warnings, "_global_warnings", {})  # a process is one module's, else
        internal = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_tmpdir": str(tmp_path)}
        try:
            with patch_module_args({**options, **internal}), pytest.raises(SystemExit):
                main()
        finally:
            gc.enable()
        returned: dict[str, Any] = json.loads(capsys.readouterr().out)
        return returned

    return run


@pytest.fixture
def block() -> Callable[..., Block]:
    """Makes a block from an address: permanent unless it says otherwise."""

    def make(address: str | Network, **options: Any) -> Block:
        network = parse_network(address) if isinstance(address, str) else address
        return Block(network, **{"duration": 0, **options})

    return make
