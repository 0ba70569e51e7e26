# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of networks as text: one address, network or range a line, `#` begins a comment.

Format: FireHOL's ipsets and netsets, https://iplists.firehol.org.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from .address import FAMILIES, IPV4, IPV6, PRIVATE, Key, Network, parse_range, to_key
from .errors import AddressError

_BLANK = " \t\r\n\v\f\ufeff"
"""Around an entry; a byte order mark is what some editors put before the first."""


class Limits(NamedTuple):
    """What a list may hold: nothing private unless allowed, and no network wider than these prefix lengths."""

    exclude_private: bool = True
    min_prefix_ipv4: int = 8
    min_prefix_ipv6: int = 19
    families: tuple[str, ...] = FAMILIES


class Refused(NamedTuple):
    """An entry of a list that was left out, and why."""

    entry: str
    reason: str


@dataclass(frozen=True)
class Netset:
    """The networks of a list by family, and what was left out of it."""

    members: dict[str, set[Key]]
    refused: list[Refused]

    def __len__(self) -> int:
        return sum(len(members) for members in self.members.values())


def parse_netset(lines: Iterable[str], limits: Limits) -> Netset:
    """The networks in these lines; nothing is raised, what cannot be used is in `refused`."""
    netset = Netset({family: set() for family in FAMILIES}, [])
    ipv4, ipv6 = netset.members[IPV4], netset.members[IPV6]
    for line in lines:
        text = line.partition("#")[0].strip(_BLANK)
        if not text:
            continue
        try:
            networks = parse_range(text)
        except AddressError as error:
            netset.refused.append(Refused(text[:80], str(error)))
            continue
        reason = ""
        for network in networks:
            reason = reason or _refusal(network, limits)
        if reason:
            netset.refused.append(Refused(text[:80], reason))
        else:
            (ipv4 if len(networks[0].packed) == 4 else ipv6).update(map(to_key, networks))
    return netset


def by_family(members: Iterable[Key]) -> Netset:
    """A list of networks that were accepted before."""
    netset = Netset({family: set() for family in FAMILIES}, [])
    for member in members:
        netset.members[IPV4 if len(member) == 5 else IPV6].add(member)
    return netset


def _refusal(network: Network, limits: Limits) -> str:
    least = limits.min_prefix_ipv4 if len(network.packed) == 4 else limits.min_prefix_ipv6
    if network.prefix < least:
        return f"wider than /{least}; allow it with min_prefix_{network.family} if it is meant"
    if limits.exclude_private and PRIVATE.overlaps(network):
        return "not public address space; allow it with exclude_private: false if it is meant"
    if network.family not in limits.families:
        return f"{network.family} is not among the families"
    return ""
