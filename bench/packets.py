# SPDX-License-Identifier: GPL-3.0-or-later
"""What the chain costs a packet that it lets pass: small UDP packets over a veth pair, CPU time of sender and kernel.

A packet is received in the softirq of the send that put it on the wire, so the time of the sender is that of the whole
way. States are compared in pairs, in turn, on one processor.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from figures import Figure, median_ratio, namespace

ROOT = Path(__file__).resolve().parent.parent
PACKETS = 200_000
PAIRS = 15
SENDER, RECEIVER = "192.0.2.1", "192.0.2.2"

SEND = f"""
import os, socket, time
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.connect(("{RECEIVER}", 9))
start = time.process_time()
for _packet in range({PACKETS}):
    try:
        link.send(b"x" * 32)
    except ConnectionRefusedError:
        pass
print(time.process_time() - start)
"""

BLOCK = """
import sys
from ipaddress import IPv4Address
from ngfw.firewall.address import Network, parse_network
from ngfw.firewall.entry import Block, Origin
from ngfw.firewall.firewall import Firewall
count, lengths = int(sys.argv[1]), int(sys.argv[2])
firewall = Firewall(chain=sys.argv[3], origin=Origin.COMMAND)
addresses = (IPv4Address((11 << 24) + 256 * number) for number in range(count))
networks = (parse_network(f"{address}/{32 - number % lengths}") for number, address in enumerate(addresses))
firewall.block(Block(network, duration=0) for network in networks)
"""


def measure(_directory: Path) -> list[Figure]:
    """Run all of it."""
    with namespace("bench-send") as sending, namespace("bench-receive") as receiving:
        connect(sending, receiving)
        states: dict[str, Callable[[], None]] = {
            "none": lambda: remove(receiving),
            "one": lambda: block(receiving, 1, 1),
            "hosts": lambda: block(receiving, 100_000, 1),
            "lengths": lambda: block(receiving, 100_000, 20),
        }
        return [
            compare(sending, states["one"], states["none"], "one block", "no chain", "reported"),
            compare(sending, states["hosts"], states["one"], "100,000 blocked hosts", "one block", "<= 1.05"),
            compare(sending, states["lengths"], states["one"], "20 prefix lengths", "one block", "<= 1.20"),
        ]


def connect(sending: Callable[[Sequence[str]], list[str]], receiving: Callable[[Sequence[str]], list[str]]) -> None:
    sender, receiver = sending([])[-1], receiving([])[-1]
    for command in (
        f"ip -n {sender} link add wire type veth peer name wire netns {receiver}",
        f"ip -n {sender} address add {SENDER}/24 dev wire",
        f"ip -n {receiver} address add {RECEIVER}/24 dev wire",
        f"ip -n {sender} link set wire up",
        f"ip -n {receiver} link set wire up",
        f"ip netns exec {receiver} sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_ratemask=8",
    ):
        subprocess.run(command.split(), check=True)
    receiving_sink(receiving)


def receiving_sink(receiving: Callable[[Sequence[str]], list[str]]) -> None:
    """Let the receiver drop what arrives after the chain, so that no answer is part of the figure."""
    subprocess.run(receiving(("iptables", "-A", "INPUT", "-p", "udp", "--dport", "9", "-j", "DROP")), check=True)


def block(receiving: Callable[[Sequence[str]], list[str]], count: int, lengths: int) -> None:
    remove(receiving)
    run_library(receiving, BLOCK, str(count), str(lengths), "NGFW")


def remove(receiving: Callable[[Sequence[str]], list[str]]) -> None:
    script = "import sys; from ngfw.firewall.entry import Origin; from ngfw.firewall.firewall import Firewall\n"
    run_library(receiving, script + "Firewall(chain=sys.argv[1], origin=Origin.COMMAND).remove()", "NGFW")


def run_library(receiving: Callable[[Sequence[str]], list[str]], script: str, *arguments: str) -> None:
    command = receiving((sys.executable, "-c", script, *arguments))
    subprocess.run(
        command, check=True, env={"PYTHONPATH": str(ROOT / "roles/ngfw/files"), "PATH": "/usr/sbin:/usr/bin"}
    )


def compare(
    sending: Callable[[Sequence[str]], list[str]],
    state: Callable[[], None],
    floor: Callable[[], None],
    name: str,
    floor_name: str,
    wanted: str,
) -> Figure:
    """The time of one state over that of another, pair by pair."""
    pairs = []
    for _pair in range(PAIRS):
        floor()
        low = send(sending)
        state()
        pairs.append((send(sending), low))
    each = min(high for high, _low in pairs) / PACKETS * 1e6
    return Figure(
        f"CPU per packet, {name}", median_ratio(pairs), f"x ({floor_name})", wanted, f"{each:.2f} us, {PAIRS} pairs"
    )


def send(sending: Callable[[Sequence[str]], list[str]]) -> float:
    done = subprocess.run(sending((sys.executable, "-c", SEND)), check=True, capture_output=True, text=True)
    return float(done.stdout)
