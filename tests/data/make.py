# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes tests/data/eve and eve8 anew: a lab, the role, live Suricata 7 or 8, and the traffic of lab/traffic.py.

    make demo                      # once, for the tools that a lab needs
    python3 tests/data/make.py     # as root; all recordings, five minutes
    python3 tests/data/make.py --suricata 8
    python3 tests/data/make.py --keep sql ftp

Each recording holds what Suricata wrote while one kind of traffic ran, without `stats` and, but for the benign one,
without `flow` records, which come later than the traffic that they are about. Nothing in a line is changed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lab"))

from lab import ATTACKER, Lab, LabError, stop_on_signals  # noqa: E402

DIRECTORIES = {7: "eve", 8: "eve8"}
SURICATA_8 = ROOT / "extensions" / "molecule" / "suricata8" / "prepare.yml"
LOG = "/var/log/suricata/eve.json"
QUIET_SECONDS = 1.5
MOST_SECONDS = 30
LONGEST = 400
HOST = "host1"


class Recording(NamedTuple):
    """What is run where, and which event types are kept: all of these, or all but `stats` where none are named."""

    kind: str
    types: tuple[str, ...]
    six: bool = False
    from_inside: bool = False


HTTP = ("alert", "http")
RECORDINGS = {
    "benign": Recording("benign", ()),
    "sql": Recording("sql", HTTP),
    "sql-ipv6": Recording("sql", HTTP, six=True),
    "xss": Recording("xss", HTTP),
    "traversal": Recording("traversal", HTTP),
    "agents": Recording("agents", HTTP),
    "holes": Recording("holes", HTTP),
    "files": Recording("files", HTTP),
    "web-login": Recording("web-login", HTTP),
    "ssh": Recording("ssh", ("alert", "ssh")),
    "ftp": Recording("ftp", ("alert", "ftp")),
    "rdp": Recording("rdp", ("alert", "rdp")),
    "syn-scan": Recording("syn-scan", ("alert",)),
    "syn-flood": Recording("syn-flood", ("alert",)),
    "dns-tunnel": Recording("dns-tunnel", ("alert", "dns"), from_inside=True),
    "ping": Recording("ping", ("alert",)),
    "secret": Recording("secret", HTTP),
    "banner": Recording("banner", ("alert", "ftp", "ssh")),
    "dns": Recording("dns", ("alert", "dns")),
}


class Recorder:
    """A lab with servers that answer, and Suricata that watches."""

    def __init__(self, lab: Lab, version: int) -> None:
        self.lab = lab
        self.version = version
        self.directory = Path(__file__).resolve().parent / DIRECTORIES[version]
        plan = json.loads((lab.directory / "plan.json").read_text())["hosts"]
        self.addresses = {host: [each.partition("/")[0] for each in plan[host]["eth1"]] for host in plan}

    def prepare(self) -> None:
        """Deploys the role, which only notes what it would block, and starts the servers."""
        if self.version == 8:
            self.play(SURICATA_8)
        site = ROOT / "playbooks" / "site.yml"
        self.play(site, "-e", f"@{ROOT / 'lab' / 'defended.yml'}", "-e", "ngfw_dry_run=true")
        version = self.lab.exec(HOST, ["suricata", "-V"])
        if f"version {self.version}." not in version:
            raise LabError(f"this is not Suricata {self.version}: {version}")
        print(version.strip(), flush=True)
        # OpenSSH 10 itself turns away who fails often; here Suricata is to see all of it.
        settings = "PerSourcePenalties no\nMaxStartups 100\nPasswordAuthentication yes\n"
        write = ["sh", "-c", "cat >/etc/ssh/sshd_config.d/lab.conf && systemctl reload ssh"]
        self.lab.exec(HOST, write, stdin=settings)
        for host in (HOST, ATTACKER):
            for name in ("traffic.py", "servers.py"):
                text = (ROOT / "lab" / name).read_text()
                self.lab.exec(host, ["sh", "-c", f"cat >/root/{name}"], stdin=text)
        four, six = self.addresses[HOST]
        self.serve(HOST, "lab-four", four, "http", "ftp", "rdp", "dns")
        self.serve(HOST, "lab-six", six, "http")
        self.serve(ATTACKER, "lab-four", self.addresses[ATTACKER][0], "dns")

    def play(self, playbook: Path, *arguments: str) -> None:
        command = ["ansible-playbook", "-i", str(self.lab.inventory), str(playbook), *arguments]
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"{playbook.name} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")

    def serve(self, host: str, unit: str, *arguments: str) -> None:
        self.lab.exec(host, ["systemctl", "stop", unit], check=False)
        self.lab.exec(host, ["systemd-run", f"--unit={unit}", "python3", "/root/servers.py", *arguments])
        time.sleep(1)
        self.lab.exec(host, ["systemctl", "is-active", unit])

    def size(self) -> int:
        return int(self.lab.exec(HOST, ["stat", "-c%s", LOG]))

    def record(self, name: str) -> None:
        """Runs one kind of traffic and writes what Suricata said of it."""
        recording = RECORDINGS[name]
        start = self.size()
        sender, receiver = (HOST, ATTACKER) if recording.from_inside else (ATTACKER, HOST)
        target = self.addresses[receiver][recording.six]
        self.lab.exec(sender, ["python3", "/root/traffic.py", target, recording.kind])
        if not recording.types:
            self.lab.exec(HOST, ["systemctl", "restart", "suricata"])  # at its end it writes the flows that are open
        self.settle(start)
        text = self.lab.exec(HOST, ["tail", "-c", f"+{start + 1}", LOG])
        lines = [line for line in text.splitlines() if self.wanted(json.loads(line), recording)][:LONGEST]
        (self.directory / f"{name}.json").write_text("".join(f"{line}\n" for line in lines))
        seen = Counter(json.loads(line)["event_type"] for line in lines)
        sids = Counter(json.loads(line).get("alert", {}).get("signature_id") for line in lines)
        print(f"{name}: {dict(seen)}, sids {sorted(sid for sid in sids if sid)}", flush=True)
        if not lines:
            raise LabError(f"Suricata wrote nothing about '{name}'; see {LOG} on {HOST}")

    def settle(self, start: int) -> None:
        """Waits until the log has grown and then been quiet for a while."""
        deadline, last, since = time.monotonic() + MOST_SECONDS, start, time.monotonic()
        while time.monotonic() < deadline:
            size = self.size()
            if size != last:
                last, since = size, time.monotonic()
            elif size > start and time.monotonic() - since > QUIET_SECONDS:
                return
            time.sleep(0.2)

    def wanted(self, event: dict[str, object], recording: Recording) -> bool:
        kind = event["event_type"]
        if kind == "stats" or (recording.types and kind not in recording.types):
            return False
        ours = {address for pair in self.addresses.values() for address in pair}
        return {shortened(event.get("src_ip")), shortened(event.get("dest_ip"))} <= ours


def shortened(address: object) -> str:
    """An address as `ip` prints it; Suricata writes all zeros of IPv6."""
    return str(ip_address(str(address))) if address else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the lab up, and use one that is up already")
    parser.add_argument("--suricata", type=int, choices=DIRECTORIES, default=7, help="its version (default: 7)")
    parser.add_argument("names", nargs="*", choices=[*RECORDINGS, []], metavar="NAME", help="which recordings")
    arguments = parser.parse_args()
    stop_on_signals()
    lab = Lab("rules")
    try:
        if not (arguments.keep and lab.inventory.exists()):
            lab.up(1, attacker=True)
        recorder = Recorder(lab, arguments.suricata)
        recorder.prepare()
        for name in arguments.names or RECORDINGS:
            recorder.record(name)
    except LabError as error:
        print(f"make.py: {error}", file=sys.stderr)
        return 1
    finally:
        if not arguments.keep:
            lab.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
