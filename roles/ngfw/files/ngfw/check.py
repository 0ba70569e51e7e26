# SPDX-License-Identifier: GPL-3.0-or-later
"""What is valid and yet probably not meant, on this host: the warnings of `ngfw check`.

Each check is a function from the configuration to sentences for people, without a side effect, that works without
root as well as it can. A new one is a function and its name in `CHECKS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from .events import eve
from .events.event import LineError
from .events.offender import is_marked
from .events.sources import USER, examine, last_lines, matching, reader_for
from .firewall import boot, host
from .firewall import bridges as bridging
from .firewall.address import Network, NetworkSet
from .firewall.bridges import Bridge
from .firewall.entry import Origin
from .firewall.errors import FirewallError
from .firewall.firewall import Firewall
from .firewall.sanity import shares
from .settings.config import Config

_ENOUGH_RECORDS = 5  # of conversations, to say something of all


def warnings(config: Config) -> list[str]:
    """A sentence for each thing that is probably not as it was meant to be."""
    return [text for check in CHECKS for text in check(config)]


def sources(config: Config) -> Iterator[str]:
    """Logs that are missing, cannot be read, are no files, or hold something else."""
    may_read = reader_for(USER)
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
                    "packets can lead to; let the role manage Suricata, or load its signatures (ngfw.rules)"
                )


def bridges(config: Config, look: Callable[[], Sequence[Bridge]] = bridging.bridges) -> Iterator[str]:
    """Bridges whose packets go from port to port without meeting the chain."""
    if "FORWARD" not in config.hooks:
        return
    for bridge in look():
        if bridge.ports and not bridge.filtered.issuperset(config.families):
            switches = " ".join(f"net.bridge.{bridging.SWITCHES[family]}=1" for family in config.families)
            yield (
                f"bridge {bridge.name}: packets between its ports ({', '.join(bridge.ports)}) pass the chain by, so no "
                f"block stops them; 'modprobe br_netfilter' and 'sysctl {switches}' change that"
            )


def networks(config: Config, links: Callable[[], Sequence[Network]] = host.links) -> Iterator[str]:
    """Networks on the host's links whose clients would be blocked as attackers."""
    if config.home_links or not config.home_net:
        return
    inside = NetworkSet(config.home_net)
    for network in links():
        if not network.is_host and inside.covering(network) is None:
            yield (
                f"network {network} is on a link of this host and not inside, so its clients can be blocked as "
                "offenders; add it to home_net, or set home_links to true"
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
        ("trusted_proxies", config.trusted_proxies, "no block of these has an effect"),
        ("home_net", config.home_net, "nobody in these is ever blocked as an offender"),
    ):
        excess = shares(networks).excess()
        if excess:
            yield f"{key}: its networks cover {excess}, so {effect}; name smaller ones"


CHECKS: tuple[Callable[[Config], Iterator[str]], ...] = (sources, flowbits, bridges, networks, chains, halves)


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
