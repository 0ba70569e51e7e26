# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken for a mistake or an attack: networks that are everybody together, lists that are none or shrank.

A request counts with what is in force already, so that everybody is not blocked in portions either. A list is compared
with the one that it replaces: it may lose up to half of its entries at a time, however often, for what is left was
published each time, and a list may come to an end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter
from typing import NamedTuple

from .address import IPV4, IPV6, Key, Network, NetworkSet, from_key, parse_network
from .errors import InvalidInput
from .netset import Netset, Refused

MOST = 1 / 8
"""The part of the address space that networks may cover together, unless somebody says that it is meant."""

MOST_UNREADABLE = 1 / 10
LEAST_LEFT = 1 / 2
SMALL = 100
"""A list of fewer entries may shrink as it likes."""

_GLOBAL_UNICAST = parse_network("2000::/3")
_PARTS4 = [2.0**-prefix for prefix in range(33)]
_PARTS6 = [min(1.0, 2.0 ** (_GLOBAL_UNICAST.prefix - prefix)) for prefix in range(129)]


class Shares(NamedTuple):
    """Which part of all IPv4 addresses and of 2000::/3 networks cover together, from 0 to 1."""

    ipv4: float
    ipv6: float

    def excess(self) -> str:
        """What is more than MOST, in words; empty if nothing is."""
        found = []
        if self.ipv4 > MOST:
            found.append(f"{self.ipv4:.0%} of all IPv4 addresses")
        if self.ipv6 > MOST:
            found.append(f"{self.ipv6:.0%} of {_GLOBAL_UNICAST}, the public IPv6 addresses")
        return " and ".join(found)


def shares(networks: Collection[Network]) -> Shares:
    """How much these networks cover at most; where that is more than MOST each address counts once."""
    found = _sums(networks)
    return found if max(found) <= MOST else _sums(NetworkSet(networks))


def shares_of(members: Mapping[str, Collection[Key]]) -> Shares:
    """The same for the members of a list."""
    sums = {}
    for family, parts in ((IPV4, _PARTS4), (IPV6, _PARTS6)):
        prefixes = Counter(map(itemgetter(-1), members[family]))
        sums[family] = sum(parts[prefix] * count for prefix, count in prefixes.items())
    if max(sums.values()) <= MOST:
        return Shares(sums[IPV4], sums[IPV6])
    return _sums(NetworkSet(from_key(key) for keys in members.values() for key in keys))


def _sums(networks: Iterable[Network]) -> Shares:
    ipv4 = ipv6 = 0.0
    for packed, prefix in networks:
        if len(packed) == 4:
            ipv4 += _PARTS4[prefix]
        elif packed[0] >> 5 == _GLOBAL_UNICAST.packed[0] >> 5 or (prefix < _GLOBAL_UNICAST.prefix and not packed[0]):
            ipv6 += _PARTS6[prefix]
    return Shares(ipv4, ipv6)


def refuse_wide(wanted: Collection[Network], present: Collection[Network]) -> None:
    """Raise InvalidInput if `wanted` covers more than MOST, or does together with what is `present`, if that does not
    yet by itself; each family is judged alone."""
    sums, present_sums = _sums(wanted), _sums(present)
    if max(a + b for a, b in zip(sums, present_sums)) <= MOST:  # as nearly always
        return
    excess = shares(wanted).excess()
    if not excess:
        before, both = shares(present), shares((*wanted, *present))
        crossed = Shares(*(0.0 if old > MOST else new for old, new in zip(before, both))).excess()
        excess = f"{crossed}, with what is blocked already" if crossed else ""
    if excess:
        raise InvalidInput(
            f"the addresses cover {excess}; check them, and set allow_wide (ngfw block: --allow-wide) if that is meant"
        )


class Contents(NamedTuple):
    """What there is to say about a list: its entries, how many of its lines are no addresses, how much it covers."""

    entries: int
    lines: int
    unreadable: int
    refused: Collection[Refused]
    shares: Shares


def contents(netset: Netset) -> Contents:
    """What there is to say about a list that was read."""
    lines = netset.accepted + netset.refusals
    return Contents(len(netset), lines, netset.unreadable, netset.refused, shares_of(netset.members))


def objection(found: Contents, present: int) -> str:
    """Why such a list must not replace one of `present` entries; empty if it may."""
    if found.unreadable > found.lines * MOST_UNREADABLE:
        first = next((f"; the first: '{each.entry}', {each.reason}" for each in found.refused if each.unreadable), "")
        return f"{found.unreadable} of its {found.lines} entries are no addresses{first}"
    excess = found.shares.excess()
    if excess:
        return f"it covers {excess}"
    if present >= SMALL and found.entries < present * LEAST_LEFT:
        return f"it shrank from {present} to {found.entries} entries"
    return ""
