# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job on real input (`make demo`): two bare hosts, the role, an attacker, live Suricata, kernel blocks.

Ends with a table and exits 0 only if all of it was seen: blocks on both hosts with few probes answered, a whitelist
push that lifts them, a flush that lifts the rest. KEEP=1 leaves the lab up.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median

from lab import ATTACKER, Lab, LabError, stop_on_signals

ROOT = Path(__file__).resolve().parent.parent
HOSTS = ("host1", "host2")
PROBES = 15  # at 5 a second
MOST_ANSWERED = 3
MOST_MILLISECONDS = 100
INJECTION = "/search?q=1%20union%20select%201,2"

# Runs on a host: when did each entry come into the kernel? Asks the kernel, knows nothing of the watcher.
OBSERVER = """
import subprocess, sys, time
pending, end = [p.split("=") for p in sys.argv[1:]], time.time() + 15
while pending and time.time() < end:
    for name, address in list(pending):
        if subprocess.run(["ipset", "-q", "test", name, address], stderr=subprocess.DEVNULL).returncode == 0:
            print(address, time.time(), flush=True)
            pending.remove([name, address])
    time.sleep(0.002)
"""


@dataclass
class Attack:
    """One attack on one host, and what was seen of it."""

    host: str
    kind: str
    source: str
    target: str
    answered: int = 0
    milliseconds: float | None = None
    block: dict[str, object] = field(default_factory=dict)

    @property
    def set_name(self) -> str:
        return f"NGFW-drop-src{6 if ':' in self.source else 4}"

    def seen(self) -> bool:
        return 1 <= self.answered <= MOST_ANSWERED and self.milliseconds is not None and bool(self.block)


class Demo:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.start = time.monotonic()
        self.failures: list[str] = []

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.start:5.0f} s  {text}", flush=True)

    def check(self, seen: bool, text: str) -> None:
        self.say(f"{'seen' if seen else 'NOT SEEN'}: {text}")
        if not seen:
            self.failures.append(text)

    def playbook(self, name: str, *arguments: str) -> None:
        """Runs a playbook as a user would, shows which part it is at, and all of its output if it fails."""
        self.say(f"ansible-playbook {name}")
        command = ["ansible-playbook", "-i", str(self.lab.inventory), str(ROOT / "playbooks" / name), *arguments]
        lines: list[str] = []
        task = ""
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        ) as process:
            for line in process.stdout or ():
                lines.append(line)
                if line.startswith(("TASK [", "RUNNING HANDLER [")):
                    task = line.split("[", 1)[1].split("]", 1)[0].removeprefix("reflex.ngfw.ngfw : ")
                elif line.startswith("included:"):
                    self.say(f"    {task}")
                elif message := re.match(r'\s*"msg": "(.+)"|\s{8}"(.+)",?$', line):
                    self.say(f"    {message[1] or message[2]}")
        if process.returncode:
            raise LabError(f"{name} failed:\n{''.join(lines[-60:])}")

    def attacker(self, *argv: str) -> str:
        return self.lab.exec(ATTACKER, argv, check=False)

    def listed(self, host: str) -> list[dict[str, object]]:
        return json.loads(self.lab.exec(host, ["ngfw", "list", "--json"]))

    # -- attacks

    def probe(self, attack: Attack) -> int:
        """Attacks at 5 probes a second; how many were answered."""
        if attack.kind == "HTTP":
            url = f"http://{attack.target}{INJECTION}"
            fetch = f"curl -s -o /dev/null -m 1 --interface {attack.source} '{url}'"
            script = f"for i in $(seq {PROBES}); do {fetch} && echo answered || break; sleep 0.2; done"
            return self.attacker("sh", "-c", script).count("answered")
        output = self.attacker(
            "ping", "-n", "-c", str(PROBES), "-i", "0.2", "-W", "1", "-I", attack.source, attack.target
        )
        found = re.search(r"(\d+) received", output)
        return int(found[1]) if found else 0

    def attack(self, attacks: Sequence[Attack]) -> None:
        observers = {}
        for host in HOSTS:
            watched = sorted({f"{a.set_name}={a.source}" for a in attacks if a.host == host})
            command = self.lab.exec_argv(host, ["python3", "-c", OBSERVER, *watched])
            observers[host] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            with ThreadPoolExecutor(len(attacks)) as pool:
                for one, answered in zip(attacks, pool.map(self.probe, attacks)):
                    one.answered = answered
            blocked = {
                host: dict(line.split() for line in o.communicate()[0].splitlines()) for host, o in observers.items()
            }
        finally:
            for observer in observers.values():
                observer.kill()
        for host in HOSTS:
            blocks = {str(block["address"]).split("/")[0]: block for block in self.listed(host)}
            journal = [
                json.loads(line) for line in self.lab.exec(host, ["cat", "/var/log/ngfw/alerts.json"]).splitlines()
            ]
            for one in (a for a in attacks if a.host == host):
                one.block = blocks.get(one.source, {})
                decision = next(
                    (d for d in journal if d["action"] == "block" and d["ip"].split("/")[0] == one.source), None
                )
                if decision and one.source in blocked[host]:
                    alerted = datetime.fromisoformat(decision["ts"].replace("Z", "+00:00")).timestamp()
                    one.milliseconds = (float(blocked[host][one.source]) - alerted) * 1000

    def passes(self, attack: Attack) -> bool:
        """Do all packets of this attacker pass? (Whitelisted, even its attacks do; else a page is asked for.)"""
        if attack.kind == "HTTP":
            return bool(
                self.attacker("curl", "-fsS", "-m", "2", "--interface", attack.source, f"http://{attack.target}/")
            )
        output = self.attacker("ping", "-n", "-c", "5", "-i", "0.2", "-W", "1", "-I", attack.source, attack.target)
        return " 5 received" in output

    # -- the story

    def run(self) -> list[Attack]:
        self.say("lab: two bare Debian 13 hosts and an attacker")
        self.lab.up(len(HOSTS), attacker=True)
        self.playbook("site.yml", "-e", f"@{ROOT / 'lab' / 'defended.yml'}")
        inventory = json.loads(self.lab.inventory.read_text())["all"]
        v4, v6 = inventory["vars"]["lab_attacker_ipv4"], inventory["vars"]["lab_attacker_ipv6"]
        web = re.sub(r"\d+$", "67", v4)  # the HTTP attack has an address of its own: the ping's is blocked first
        self.attacker("ip", "address", "add", f"{web}/24", "dev", "eth1")
        attacks = []
        for host in HOSTS:
            self.serve_a_page(host)
            to4, to6 = inventory["hosts"][host]["lab_ipv4"], inventory["hosts"][host]["lab_ipv6"]
            attacks += [
                Attack(host, "ping", v4, to4),
                Attack(host, "ping, IPv6", v6, to6),
                Attack(host, "HTTP", web, to4),
            ]
        self.say("attack: ping by IPv4 and IPv6, and SQL injection, 5 a second, on both hosts")
        self.attack(attacks)
        self.check(all(a.seen() for a in attacks), f"every attack blocked, at most {MOST_ANSWERED} probes answered")
        times = [a.milliseconds for a in attacks if a.milliseconds is not None]
        reaction = median(times) if times else float("inf")
        self.check(reaction < MOST_MILLISECONDS, f"from alert to kernel {reaction:.0f} ms at the median")
        self.playbook("status.yml")

        pings, https = [a for a in attacks if a.kind != "HTTP"], [a for a in attacks if a.kind == "HTTP"]
        self.playbook("whitelist.yml", "-e", json.dumps({"ngfw_whitelist": [v4, v6]}))
        self.check(all(map(self.passes, pings)), "the whitelisted pings pass on both hosts")
        self.check(not any(map(self.passes, https)), "the HTTP attacker stays blocked")
        left = {host: [b["address"] for b in self.listed(host)] for host in HOSTS}
        self.check(all(addresses == [web] for addresses in left.values()), "the whitelist has lifted their blocks")
        self.playbook("flush.yml")
        self.check(all(map(self.passes, https)), "after the flush the HTTP attacker reads pages again")
        self.check(not any(map(self.listed, HOSTS)), "no block is left on either host")
        # Others may change it meanwhile (a container starts): what counts is what names this lab.
        ours = re.compile(rf"NGFW|{self.lab.prefix}|{re.escape(v4.rsplit('.', 1)[0])}")
        changes = self.lab.firewall_changes()
        self.check(not any(map(ours.search, changes)), "the lab has left the machine's own firewall alone")
        return attacks

    def serve_a_page(self, host: str) -> None:
        properties = ["DynamicUser=yes", "AmbientCapabilities=CAP_NET_BIND_SERVICE", "WorkingDirectory=/usr/share/doc"]
        options = [f"--property={one}" for one in properties]
        self.lab.exec(host, ["systemd-run", "--quiet", *options, "python3", "-m", "http.server", "80"])


def table(attacks: Sequence[Attack]) -> str:
    rows = [("HOST", "ATTACK", "FROM", "ANSWERED", "ALERT TO KERNEL", "RULE", "EXPIRES")]
    for a in attacks:
        reaction = "-" if a.milliseconds is None else f"{a.milliseconds:.0f} ms"
        rule, expires = (str(a.block.get(key, "-")) for key in ("rule_name", "expires_at"))
        rows.append((a.host, a.kind, a.source, f"{a.answered} of {PROBES}", reaction, rule, expires))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def main() -> int:
    stop_on_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    keep = os.environ.get("KEEP", "") not in ("", "0")
    lab = Lab("demo")
    demo = Demo(lab)
    attacks: list[Attack] = []
    try:
        attacks = demo.run()
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        demo.failures.append("the demo did not come to its end")
    except KeyboardInterrupt:
        keep = False
        demo.failures.append("interrupted")
    except SystemExit:
        keep = False
        raise
    finally:
        if not keep:
            demo.say("removing the lab")
            lab.down()
    if attacks:
        print(f"\n{table(attacks)}\n")
    if keep:
        print(f"The lab is up: ssh -F {lab.ssh_config} host1; the attacker: lab/lab.py --name demo exec attacker sh")
        print("Remove it: lab/lab.py --name demo down")
    for failure in demo.failures:
        print(f"NOT SEEN: {failure}")
    return 1 if demo.failures else 0


if __name__ == "__main__":
    sys.exit(main())
