# SPDX-License-Identifier: GPL-3.0-or-later
"""What is valid and yet probably not meant, on this host: the warnings of `ngfw check`.

Each check is a function from the configuration to sentences for people, without a side effect, that works without
root as well as it can. A new one is a function and its name in `CHECKS`.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .events import eve
from .events.event import LineError
from .events.offender import is_marked
from .events.sources import examine, last_lines, matching
from .firewall import boot
from .firewall.entry import Origin
from .firewall.errors import FirewallError
from .firewall.firewall import Firewall
from .firewall.sanity import shares
from .settings.config import Config

USER = "ngfw"
"""Whom the watcher runs as where the role has installed it."""

_ENOUGH_RECORDS = 5  # of conversations, to say something of all
_INTERFACES = Path("/sys/class/net")
_BRIDGE_FILTER = Path("/proc/sys/net/bridge")


def warnings(config: Config) -> list[str]:
    """A sentence for each thing that is probably not as it was meant to be."""
    return [text for check in CHECKS for text in check(config)]


def sources(config: Config) -> Iterator[str]:
    """Logs that are missing, cannot be read, are no files, or hold something else."""
    may_read = _reader_for(USER)
    for source in config.sources:
        found = examine(source.path, source.format, may_read)
        if found.problem:
            yield f"source {source.path}: {found.problem}"


def flowbits(config: Config) -> Iterator[str]:
    """Logs of a Suricata without the signatures that tell completed handshakes from forged packets."""
    if not config.spoof_guard:
        return
    for source in config.sources:
        for path in matching(source.path)[-1:] if source.format == "eve" else ():
            marked = _marked(path)
            if len(marked) >= _ENOUGH_RECORDS and not any(marked):
                yield (
                    f"source {path}: none of its last {len(marked)} records of TCP conversations has the flowbit "
                    "ngfw.established, so the spoof guard goes by the protocol that Suricata recognised, which forged "
                    "packets can lead to; give Suricata the signatures of 'Proof' in docs/decisions.md"
                )


def bridges(config: Config, interfaces: Path = _INTERFACES, settings: Path = _BRIDGE_FILTER) -> Iterator[str]:
    """Bridges whose packets go from port to port without meeting the chain (br_netfilter, in the kernel's docs)."""
    if "FORWARD" not in config.hooks:
        return
    names = {"ipv4": "iptables", "ipv6": "ip6tables"}
    for bridge in sorted(interfaces.glob("*/bridge")):
        ports = sorted(port.name for port in bridge.parent.glob("brif/*"))
        switches = [
            (settings / f"bridge-nf-call-{names[family]}", bridge / f"nf_call_{names[family]}")
            for family in config.families
        ]
        if ports and not all(_is_on(globally) or _is_on(here, settings) for globally, here in switches):
            called = " ".join(f"net.bridge.bridge-nf-call-{names[family]}=1" for family in config.families)
            yield (
                f"bridge {bridge.parent.name}: packets between its ports ({', '.join(ports)}) "
                f"pass the chain by, so no block stops them; 'modprobe br_netfilter' and 'sysctl {called}' change that"
            )


def chains(config: Config) -> Iterator[str]:
    """Other chains of ours, and saved rules that fail at the next boot, as far as this user may look."""
    firewall = Firewall(chain=config.chain, families=config.families, origin=Origin.COMMAND)
    others: list[str] = []
    try:
        others = firewall.other_chains()
    except FirewallError:
        pass
    finally:
        firewall.close()
    for other in others:
        yield (
            f"chain {other} is in force too, with blocks that this configuration (chain: {config.chain}) knows nothing "
            f"of; 'ngfw status' counts them. If unwanted: ngfw_chain with chain: {other} and state: absent"
        )
    yield from boot.warnings(config.chain, others)


def halves(config: Config) -> Iterator[str]:
    """A whitelist or inside networks that are so much of the address space that hardly anybody is left to block."""
    for key, networks, effect in (
        ("whitelist", config.whitelist, "no block of these has an effect"),
        ("home_net", config.home_net, "nobody in these is ever blocked as an offender"),
    ):
        excess = shares(networks).excess()
        if excess:
            yield f"{key}: its networks cover {excess}, so {effect}; name smaller ones"


CHECKS: tuple[Callable[[Config], Iterator[str]], ...] = (sources, flowbits, bridges, chains, halves)


def _marked(path: str) -> list[bool]:
    """Whether the last records that could have them have the flowbits of the role's signatures."""
    found = []
    try:
        lines = last_lines(path) if os.path.isfile(path) else []
    except OSError:
        return []
    for line in lines:
        try:
            record = eve.decode(line).record
        except LineError:
            continue
        if record.get("proto") == "TCP" and isinstance(record.get("app_proto"), str) and "flow" in record:
            found.append(is_marked(record))
    return found


def _is_on(switch: Path, needs: Path | None = None) -> bool:
    try:
        return (needs is None or needs.is_dir()) and switch.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def _reader_for(user: str) -> Callable[[str], bool] | None:
    """Whether a file can be read by the watcher's user, asked as root; None where nobody else is meant."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return None
    return partial(_can_read, account) if os.geteuid() == 0 else None


def _can_read(account: pwd.struct_passwd, path: str) -> bool:
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    command = ["test", "-r", path]
    done = subprocess.run(command, user=account.pw_uid, group=account.pw_gid, extra_groups=groups, check=False)
    return done.returncode == 0
