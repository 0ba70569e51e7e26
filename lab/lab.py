#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lab hosts for the demo and for Molecule: bare Debian machines with systemd, as podman containers.

All of a lab lives in one network namespace, which holds a bridge for each of its two networks:

    management   SSH and apt; its way out is slirp4netns, a user-space NAT
    attack       IPv4 and IPv6 in documentation ranges, without a way out

The containers start without a network and are wired by `ip` alone. So no rule, address or route of the machine
itself is touched, now or later. SSH goes through the namespace by a ProxyCommand in the generated inventory.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import ndiff
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, Union

Network = Union[IPv4Network, IPv6Network]

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "lab"
IMAGE = "localhost/ngfw-lab"
SUITES = ("trixie", "bookworm")  # Debian 13, 12
PACKAGES = "systemd,systemd-sysv,dbus,openssh-server,python3,iproute2,iputils-ping,curl,ca-certificates"
# What would write to the kernel of the machine that all containers share, or hold apt's lock when a role wants it.
MASKED = (
    "systemd-binfmt.service systemd-modules-load.service systemd-sysctl.service proc-sys-fs-binfmt_misc.automount "
    "apt-daily.timer apt-daily-upgrade.timer console-getty.service getty.target"
)
# Keys of the host: none come with the image.
KEYS = "[Service]\\nExecStartPre=\\nExecStartPre=ssh-keygen -A\\nExecStartPre=sshd -t\\n"
# Waits in the place of a program that sets up the network: what has to be there before the network has its turn.
WIRING = "lab-network.service"
NETWORK = (
    "[Unit]\\nDefaultDependencies=no\\nWants=network-pre.target\\nAfter=network-pre.target\\n"
    "Before=network.target network-online.target\\n"
    "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\n"
    'ExecStart=/bin/sh -c "until grep -q 1 /sys/class/net/eth1/carrier; do sleep 0.05; done 2>/dev/null"\\n'
    "[Install]\\nWantedBy=network.target network-online.target multi-user.target\\n"
)
# The first range that the machine itself does not know is taken.
MANAGEMENT = ("10.231.1.0/24", "172.29.231.0/24", "192.168.231.0/24")
ATTACK = ("198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24")
ATTACK6 = ("2001:db8:198:51::/64", "2001:db8:203:113::/64")
ATTACKER = "attacker"
BOOT_SECONDS = 60


class LabError(Exception):
    """What went wrong and what to do about it."""


def run(argv: Sequence[str], *, check: bool = True, stdin: str | None = None) -> str:
    """Runs a program of the machine; returns what it printed; raises LabError with its messages."""
    done = subprocess.run(argv, check=False, capture_output=True, text=True, input=stdin)
    if check and done.returncode:
        raise LabError(f"'{' '.join(argv)}' failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
    return done.stdout


def say(text: str) -> None:
    print(f"    lab: {text}", flush=True)


# --- the image ---------------------------------------------------------------------------------------------------


def apt_sources(suite: str) -> list[str]:
    """Lines of sources for `suite` from the mirrors that this machine uses, none if it is no Debian."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    codename = release.get("VERSION_CODENAME", "").strip('"')
    if release.get("ID", "").strip('"') != "debian" or not codename:
        return []
    mirrors: dict[str, str] = {}
    listed = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for text in (path.read_text() for path in listed if path.suffix in (".list", ".sources") and path.is_file()):
        for stanza in text.split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.+)$", stanza, re.M))
            for one in fields.get("Suites", "").split():
                mirrors.setdefault(one, fields.get("URIs", "").split()[0])
        for uri, one in re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s", text, re.M):
            mirrors.setdefault(one, uri)
    suffixes = ("", "-updates", "-security")
    return [f"deb {mirrors[codename + s]} {suite}{s} main" for s in suffixes if codename + s in mirrors]


def containers_conf() -> Path | None:
    """Settings for machines where podman's defaults do not work (limits that may not be raised, hybrid cgroups)."""
    path = CACHE / "containers.conf"
    return path if path.exists() else None


def podman(*argv: str, check: bool = True, stdin: str | None = None) -> str:
    return run(podman_argv(*argv), check=check, stdin=stdin)


def podman_argv(*argv: str) -> list[str]:
    conf = containers_conf()
    return [*(["env", f"CONTAINERS_CONF={conf}"] if conf else []), "podman", *argv]


def image(suite: str) -> str:
    """The name of the image of a bare host, which is built where it is missing."""
    sources = apt_sources(suite)
    hook = (
        f'chroot "$1" systemctl --quiet mask {MASKED} && cd "$1/etc" && rm -f ssh/ssh_host_* '
        f"&& mkdir -p systemd/system/ssh.service.d && printf '{KEYS}' >systemd/system/ssh.service.d/keys.conf "
        f"&& printf '{NETWORK}' >systemd/system/{WIRING} && chroot .. systemctl --quiet enable {WIRING}"
    )
    fast = ['--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io"]  # also for what is installed later
    build = ["mmdebstrap", "--variant=minbase", *fast, f"--include={PACKAGES}", f"--customize-hook={hook}", suite]
    recipe = hashlib.sha256("\n".join([*build, *sources]).encode()).hexdigest()[:12]
    tags = f"{IMAGE}:{suite}-"
    name = tags + recipe
    with locked("image"):
        if not podman("images", "--quiet", name).strip():
            say(f"building the image of a bare Debian {suite} host (half a minute)")
            tar = CACHE / "image.tar"
            try:
                with subprocess.Popen([*build, str(tar), *sources], stderr=subprocess.PIPE, text=True) as process:
                    lines = []
                    for line in process.stderr or ():
                        lines.append(line.rstrip())
                        if re.match(r"I: (running apt|downloading|extracting|installing|creating)", line):
                            say(line[2:].strip())
                if process.returncode:
                    raise LabError("mmdebstrap failed:\n" + "\n".join(lines[-15:]))
                podman("import", "--quiet", str(tar), name)
                found = podman("images", "--format", "{{.Repository}}:{{.Tag}}", IMAGE).split()
                for stale in (one for one in found if one.startswith(tags) and one != name):
                    podman("rmi", stale, check=False)  # one that another lab runs on stays
            finally:
                tar.unlink(missing_ok=True)
        probe_podman(name)
    return name


def probe_podman(name: str) -> None:
    probe = ("run", "--rm", "--privileged", "--network=none", name, "true")
    done = subprocess.run(podman_argv(*probe), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if containers_conf() is None:
        (CACHE / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]\n[engine]\nruntime = "runc"\n'
        )
        say(f"podman needs other defaults here ({done.stderr.strip()}): trying runc with low limits")
        probe_podman(name)
        return
    (CACHE / "containers.conf").unlink()
    raise LabError(f"podman starts no container here: {done.stderr.strip()}")


@contextmanager
def locked(what: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- addresses ---------------------------------------------------------------------------------------------------


def known_networks() -> list[Network]:
    """What this machine has addresses or routes in, or asks for names."""
    known = []
    for family in ("-4", "-6"):
        links = json.loads(run(["ip", family, "-json", "address"]) or "[]")
        known += [ip_network(a["local"]) for link in links for a in link.get("addr_info", []) if "local" in a]
        routes = json.loads(run(["ip", family, "-json", "route"]) or "[]")
        known += [ip_network(r["dst"], strict=False) for r in routes if r["dst"] != "default"]
    resolvers = re.findall(r"^nameserver\s+([0-9a-fA-F.:]+)", Path("/etc/resolv.conf").read_text(), re.M)
    return known + [ip_network(ip_address(r)) for r in resolvers]


def choose(candidates: Sequence[str], known: Sequence[Network]) -> Network:
    for network in map(ip_network, candidates):
        if not any(network.version == other.version and network.overlaps(other) for other in known):
            return network
    raise LabError(f"this machine already uses all ranges that a lab could take: {', '.join(candidates)}")


# --- the lab -----------------------------------------------------------------------------------------------------


class Lab:
    """One lab. Its name and its checkout are in the name of all that it makes.

    So several can be up, of other checkouts too, and `down` finds everything of its own.
    """

    def __init__(self, name: str) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,11}", name):
            raise LabError(f"'{name}' is no name for a lab: up to 12 lower-case letters and digits")
        self.name = name
        self.prefix = f"ngfw-{name}-{hashlib.sha256(bytes(CACHE)).hexdigest()[:4]}"
        self.namespace = f"/run/netns/{self.prefix}"
        self.directory = CACHE / name
        self.inventory = self.directory / "inventory.json"
        self.ssh_config = self.directory / "ssh_config"

    # -- up and down

    def up(self, hosts: int, *, attacker: bool, suite: str = SUITES[0]) -> None:
        """Boots `hosts` bare hosts (host1, ...) and, if asked for, one attacker, whatever was up before."""
        if os.geteuid() != 0:
            raise LabError("only root can make network namespaces and privileged containers; run it as root")
        for tool in ("podman", "mmdebstrap", "ip", "nsenter", "nc", "slirp4netns", "ssh-keygen"):
            if not shutil.which(tool):
                raise LabError(f"'{tool}' is missing; `make demo` and `make molecule` install what a lab needs")
        self.down()
        before = firewall_of_the_machine()
        try:
            self._up(hosts, attacker, image(suite))
            (self.directory / "firewall").write_text(before)
        except BaseException:
            self.down()
            raise

    def _up(self, hosts: int, attacker: bool, name: str) -> None:
        names = [f"host{i}" for i in range(1, hosts + 1)]
        say(f"starting {', '.join(names)}{' and an attacker' if attacker else ''}")
        self.directory.mkdir(parents=True)
        known = known_networks()
        management, attack, attack6 = (choose(c, known) for c in (MANAGEMENT, ATTACK, ATTACK6))
        numbers = {host: 10 + i for i, host in enumerate(names, start=1)} | ({ATTACKER: 66} if attacker else {})
        plan = {
            "gateway": str(management[2]),  # slirp4netns answers there, and to names at 3
            "resolver": str(management[3]),
            "hosts": {
                host: {
                    "eth0": [f"{management[n]}/{management.prefixlen}"] if host != ATTACKER else [],
                    "eth1": [f"{attack[n]}/{attack.prefixlen}", f"{attack6[n]}/{attack6.prefixlen}"],
                }
                for host, n in numbers.items()
            },
        }
        (self.directory / "plan.json").write_text(json.dumps(plan, indent=1))
        run(["ip", "netns", "add", self.prefix])
        ip = ["ip", "-n", self.prefix]
        run([*ip, "link", "set", "lo", "up"])
        for bridge in ("management", "attack"):
            run([*ip, "link", "add", bridge, "type", "bridge"])
            run([*ip, "link", "set", bridge, "up"])
        run([*ip, "address", "add", f"{management[1]}/{management.prefixlen}", "dev", "management"])
        self._start_uplink(management)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.prefix, "-f", str(self.directory / "key")])
        for host in plan["hosts"]:
            container = f"{self.prefix}-{host}"
            podman(
                *("run", "--detach", "--name", container, "--hostname", host, "--privileged", "--systemd=always"),
                *("--network=none", name, "/lib/systemd/systemd"),
            )
            self.wire(host)
        self._write_ssh([h for h in plan["hosts"] if h != ATTACKER])
        say(f"up; inventory: {self.inventory}")

    def _start_uplink(self, management: Network) -> None:
        options = ["--netns-type=path", f"--cidr={management}", "--mtu=1500", "--disable-host-loopback"]
        with (self.directory / "uplink.log").open("w") as log:
            subprocess.Popen(
                ["slirp4netns", *options, self.namespace, "uplink"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait("the uplink", lambda: "uplink" in run(["ip", "-n", self.prefix, "-brief", "link"]))
        run(["ip", "-n", self.prefix, "link", "set", "uplink", "master", "management", "up"])

    def wire(self, host: str) -> None:
        """Gives a container that boots its interfaces, when its network's turn has come.

        eth0 is for management, eth1 for attacks.
        """
        self._wait(f"the turn of {host}'s network", lambda: self._state(host, WIRING) == "activating")
        plan = self._plan()
        addresses = plan["hosts"][host]
        pid = self._pid(host)
        inside = ["nsenter", "--target", pid, "--net", "ip"]
        run([*inside, "link", "set", "lo", "up"])
        for bridge, interface in (("management", "eth0"), ("attack", "eth1")):
            if not addresses[interface]:
                continue
            port = f"{host}-{interface}"
            ip = ["ip", "-n", self.prefix, "link"]
            # The same after a reboot, as a network card's: else neighbours go on sending to the one before.
            mac = "02:" + hashlib.sha256(port.encode()).digest()[:5].hex(":")
            run([*ip, "add", port, "type", "veth", "peer", "name", interface, "address", mac, "netns", pid])
            run([*ip, "set", port, "master", bridge, "up"])
            for address in addresses[interface]:
                run([*inside, "address", "add", address, "dev", interface, *(["nodad"] if ":" in address else [])])
            run([*inside, "link", "set", interface, "up"])
        if addresses["eth0"]:
            run([*inside, "route", "add", "default", "via", plan["gateway"]])
            script = f"echo nameserver {plan['resolver']} >/etc/resolv.conf && chmod 644 /etc/resolv.conf"
            self.exec(host, ["sh", "-c", script])

    def reboot(self, host: str, *, power_cut: bool = False) -> None:
        """A restart of the whole container: a new, empty network namespace, as after a real boot.

        With a power cut nothing in it gets the time to end in order.
        """
        # A namespace that dies loses its rules before its interfaces, and answers in between. The old one lives until
        # it is cut off.
        with Path(f"/proc/{self._pid(host)}/ns/net").open("rb"):
            podman("restart", f"--time={0 if power_cut else 30}", f"{self.prefix}-{host}")
            addresses = self._plan()["hosts"][host]
            for interface in filter(addresses.get, addresses):
                run(["ip", "-n", self.prefix, "link", "delete", f"{host}-{interface}"])
        self.wire(host)

    def _write_ssh(self, hosts: list[str]) -> None:
        plan = self._plan()["hosts"]
        public = (self.directory / "key.pub").read_text()
        known_hosts = []
        variables: dict[str, dict[str, str]] = {}
        for host in hosts:
            address = str(ip_interface(plan[host]["eth0"][0]).ip)
            self._wait(f"{host}'s boot", lambda host=host: self._booted(host))
            script = "mkdir -p -m 700 /root/.ssh && cat >/root/.ssh/authorized_keys"
            self.exec(host, ["sh", "-c", script], stdin=public)
            known_hosts.append(f"{address} {self.exec(host, ['cat', '/etc/ssh/ssh_host_ed25519_key.pub'])}")
            attack = [str(ip_interface(a).ip) for a in plan[host]["eth1"]]
            variables[host] = {"ansible_host": address, "lab_ipv4": attack[0], "lab_ipv6": attack[1]}
        (self.directory / "known_hosts").write_text("".join(known_hosts))
        common = {
            "User": "root",
            "IdentityFile": str(self.directory / "key"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.directory / "known_hosts"),
            "ServerAliveInterval": "5",
            "ProxyCommand": f"nsenter --net={self.namespace} nc %h %p",
        }
        text = "".join(f"Host {h}\n    HostName {v['ansible_host']}\n" for h, v in variables.items())
        self.ssh_config.write_text(text + "Host *\n" + "".join(f"    {k} {v}\n" for k, v in common.items()))
        shared: dict[str, object] = {
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": f"-F {self.ssh_config}",
            "ansible_control_path_dir": f"/run/{self.prefix}",  # short: the path of a socket has a limit
            "ansible_pipelining": "true",
            "lab_command": ["/usr/bin/python3", str(Path(__file__).resolve()), "--name", self.name],
        }
        if ATTACKER in plan:
            v4, v6 = (str(ip_interface(a).ip) for a in plan[ATTACKER]["eth1"])
            shared |= {"lab_attacker_ipv4": v4, "lab_attacker_ipv6": v6}
        inventory = {"all": {"hosts": variables, "vars": shared}}
        self.inventory.write_text(json.dumps(inventory, indent=1) + "\n")
        for host in hosts:
            self._wait(f"SSH on {host}", lambda host=host: self._answers(host))

    def _plan(self) -> dict[str, Any]:
        plan: dict[str, Any] = json.loads((self.directory / "plan.json").read_text())
        return plan

    def _pid(self, host: str) -> str:
        return podman("inspect", "--format", "{{.State.Pid}}", f"{self.prefix}-{host}").strip()

    def _state(self, host: str, unit: str) -> str:
        return self.exec(host, ["systemctl", "is-active", unit], check=False).strip()

    def _booted(self, host: str) -> bool:
        return self.exec(host, ["systemctl", "is-system-running"], check=False).strip() in ("running", "degraded")

    def _answers(self, host: str) -> bool:
        command = ["ssh", "-F", str(self.ssh_config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", host, "true"]
        return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0

    def down(self) -> None:
        """Removes every trace of the lab; does nothing if there is none."""
        with uninterrupted():
            if shutil.which("podman"):
                found = podman("ps", "--all", "--quiet", "--filter", f"name=^{self.prefix}-").split()
                if found:
                    podman("rm", "--force", "--time=0", "--volumes", *found)
            pids = list(self._uplinks())
            if Path(self.namespace).exists():  # ssh's connections, kept open by ControlPersist, live in it
                pids += map(int, run(["ip", "netns", "pids", self.prefix]).split())
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            if Path(self.namespace).exists():
                run(["ip", "netns", "delete", self.prefix])
            changes = self.firewall_changes()
            for directory in (self.directory, Path("/run") / self.prefix):
                shutil.rmtree(directory, ignore_errors=True)
        for line in changes:
            say(f"while the lab was up, something changed the machine's own firewall: {line}")

    def firewall_changes(self) -> list[str]:
        """Lines that came into the machine's own firewall (+) or left it (-) while the lab was up."""
        snapshot = self.directory / "firewall"
        if not snapshot.exists():
            return []
        before, now = snapshot.read_text().splitlines(), firewall_of_the_machine().splitlines()
        return [line for line in ndiff(before, now) if line[0] in "+-" and line[2:].strip()]

    def _uplinks(self) -> Iterator[int]:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                argv = path.read_bytes().split(b"\0")
            except OSError:
                continue  # it has just ended
            if Path(os.fsdecode(argv[0])).name == "slirp4netns" and self.namespace.encode() in argv:
                yield int(path.parent.name)

    # -- use

    def exec(self, host: str, argv: Sequence[str], *, check: bool = True, stdin: str | None = None) -> str:
        """Runs a program as root on a host or on the attacker; returns what it printed."""
        return podman("exec", "--interactive", f"{self.prefix}-{host}", *argv, check=check, stdin=stdin)

    def exec_argv(self, host: str, argv: Sequence[str]) -> list[str]:
        return podman_argv("exec", "--interactive", f"{self.prefix}-{host}", *argv)

    def _wait(self, what: str, condition) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(f"{what} of the lab '{self.prefix}' is not there after {BOOT_SECONDS} s")
            time.sleep(0.1)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Cleaning up is short and is not to be left half done."""
    stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = [signal.signal(number, signal.SIG_IGN) for number in stops]
    try:
        yield
    finally:
        for number, handler in zip(stops, previous):
            signal.signal(number, handler)


def stop_on_signals() -> None:
    """Makes a termination an exception, so that `finally` and `except` clean up, as with Ctrl-C."""

    def stop(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def firewall_of_the_machine() -> str:
    """All rules and sets of the machine's own network namespace, without counters."""
    commands = ("nft list ruleset", "iptables-legacy-save", "ip6tables-legacy-save", "ipset save")
    text = "".join(run(c.split(), check=False) for c in commands if shutil.which(c.split()[0]))
    return re.sub(r"^#.*\n|packets \d+ bytes \d+|\[\d+:\d+\]", "", text, flags=re.M)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="lab", help="of this lab, so that several can be up (default: lab)")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="boot the hosts, print the inventory's path")
    up.add_argument("--hosts", type=int, default=1)
    up.add_argument("--attacker", action="store_true")
    up.add_argument("--suite", choices=SUITES, default=SUITES[0], help="of Debian")
    commands.add_parser("down", help="remove every trace")
    execute = commands.add_parser("exec", help="run a program on host1, host2, ... or attacker")
    execute.add_argument("host")
    execute.add_argument("argv", nargs=argparse.REMAINDER)
    reboot = commands.add_parser("reboot", help="restart a host with an empty network namespace")
    reboot.add_argument("--power-cut", action="store_true", help="kill it, without an orderly end")
    reboot.add_argument("host")
    for step, what in (("pause", "freeze a host, which then answers nobody"), ("unpause", "let it go on")):
        commands.add_parser(step, help=what).add_argument("host")
    commands.add_parser("inventory", help="print the path of the inventory")
    arguments = parser.parse_args()
    stop_on_signals()
    try:
        lab = Lab(arguments.name)
        if arguments.command == "up":
            lab.up(arguments.hosts, attacker=arguments.attacker, suite=arguments.suite)
        elif arguments.command == "down":
            lab.down()
        elif arguments.command == "exec":
            argv = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
            return subprocess.call(lab.exec_argv(arguments.host, argv))
        elif arguments.command == "reboot":
            lab.reboot(arguments.host, power_cut=arguments.power_cut)
        elif arguments.command in ("pause", "unpause"):
            podman(arguments.command, f"{lab.prefix}-{arguments.host}")
        else:
            print(lab.inventory)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
