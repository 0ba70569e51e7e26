# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules at size, each beside a floor of the same run: a module that does nothing, and a plain `ipset restore`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from figures import Figure, median_ratio, namespace, seconds, shown

ROOT = Path(__file__).resolve().parent.parent
PAIRS = 5
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  connection: local
  vars: {{ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"}}
  tasks:
    - {module}:
        {options}
"""
ADDRESSES = """addresses: "{{{{ lookup('ansible.builtin.file', '{path}') | split }}}}" """


def measure(directory: Path) -> list[Figure]:
    """Run all of it; files go into `directory`."""
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / "collections")
    os.environ["ANSIBLE_LIBRARY"] = str(ROOT / "bench" / "library")
    os.environ["ANSIBLE_LOCALHOST_WARNING"] = "false"
    with namespace("bench-modules") as inside:
        return [*blocks(directory, inside, 100_000), *repeats(directory, inside, 10_000), *blocklist(directory, inside)]


def blocks(directory: Path, inside, count: int) -> list[Figure]:
    """ngfw_block with `count` addresses, first and second run."""
    listed, restore = written(directory, count)
    nothing = playbook(directory, "nothing", ADDRESSES.format(path=listed))
    block = playbook(directory, "reflex.ngfw.ngfw_block", ADDRESSES.format(path=listed))
    absent = playbook(directory, "reflex.ngfw.ngfw_chain", "state: absent")
    first, second = [], []
    for _pair in range(PAIRS):
        floor = seconds(inside(nothing))
        plain = seconds(inside(("ipset", "restore", "-file", str(restore))))
        saved = seconds(inside(("ipset", "save")))
        seconds(inside(("ipset", "destroy", "floor")))
        first.append((seconds(inside(block)), floor + plain))
        second.append((seconds(inside(block)), floor + saved))
        seconds(inside(absent))
    return [
        ratio(f"ngfw_block, {count} addresses, first run", first, "<= 1.6", "nothing + ipset restore"),
        ratio(f"ngfw_block, {count} addresses, second run", second, "<= 1.4", "nothing + ipset save"),
    ]


def repeats(directory: Path, inside, count: int) -> list[Figure]:
    """The second run of ngfw_block beside the module that does nothing."""
    listed, _restore = written(directory, count)
    nothing = playbook(directory, "nothing", ADDRESSES.format(path=listed))
    block = playbook(directory, "reflex.ngfw.ngfw_block", ADDRESSES.format(path=listed))
    seconds(inside(block))
    pairs = [(seconds(inside(block)), seconds(inside(nothing))) for _pair in range(2 * PAIRS)]
    seconds(inside(playbook(directory, "reflex.ngfw.ngfw_chain", "state: absent")))
    return [ratio(f"ngfw_block, {count} addresses, second run", pairs, "<= 1.25", "nothing")]


def blocklist(directory: Path, inside, count: int = 500_000) -> list[Figure]:
    """ngfw_blocklist from a file: the whole playbook run, and its memory."""
    listed, restore = written(directory, count)
    run = playbook(directory, "reflex.ngfw.ngfw_blocklist", f"{{name: bench, src: {listed}}}")
    pairs, memory = [], 0
    for _pair in range(3):
        plain = seconds(inside(("ipset", "restore", "-file", str(restore))))
        seconds(inside(("ipset", "destroy", "floor")))
        report = directory / "time"
        pairs.append((seconds(inside(("/usr/bin/time", "-o", str(report), "-f", "%M", *run))), plain))
        memory = max(memory, int(report.read_text().split()[-1]))
        seconds(inside(playbook(directory, "reflex.ngfw.ngfw_chain", "state: absent")))
    return [
        ratio(f"ngfw_blocklist, {count} entries by src", pairs, "<= 4", "ipset restore"),
        Figure(f"ngfw_blocklist, {count} entries by src", memory / 1024, "MB", "<= 250", "largest process"),
    ]


def written(directory: Path, count: int) -> tuple[Path, Path]:
    """A list of `count` hosts, and the same as input for `ipset restore`."""
    listed, restore = directory / f"{count}.txt", directory / f"{count}.restore"
    hosts = [str(IPv4Address((11 << 24) + 5 * number)) for number in range(count)]
    listed.write_text("\n".join(hosts) + "\n")
    lines = ["create floor hash:net timeout 0 counters comment maxelem 1048576"]
    restore.write_text("\n".join(lines + [f"add floor {host} timeout 1800" for host in hosts]) + "\n")
    return listed, restore


def playbook(directory: Path, module: str, options: str) -> list[str]:
    """The command that runs a playbook of one task."""
    path = directory / f"{module}.{abs(hash(options))}.yml"
    path.write_text(PLAYBOOK.format(module=module, options=options))
    return [str(Path(sys.executable).with_name("ansible-playbook")), str(path)]


def ratio(name: str, pairs: Sequence[tuple[float, float]], wanted: str, floor: str) -> Figure:
    ours, theirs = shown([first for first, _ in pairs]), shown([second for _, second in pairs])
    return Figure(name, median_ratio(pairs), f"x ({floor})", wanted, f"{ours} over {theirs}, {len(pairs)} pairs")
