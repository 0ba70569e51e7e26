# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of networks: what of a list's lines is taken, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

from .address import FAMILIES, IPV4, IPV6, PRIVATE, Key, Network, parse_range, to_key
from .errors import AddressError
from .listformat import LINES_AT_ONCE, PLAIN, Form, ListFormatError, is_comment, read_lines, with_form

MAX_ENTRIES = 2_000_000
"""A list of more is taken for a mistake, or an attack on the memory."""

KEPT_REFUSALS = 200

# Public addresses and networks take a short way: IPv4 from prefix length 8 on, in octets that hold no private space,
SPARE4 = {str(prefix): 32 - prefix for prefix in range(8, 33)}
MIXED4 = frozenset((0, 10, 100, 127, 169, 172, 192, 198, *range(224, 256)))
# and IPv6 from length 19 on, in 2000::/3, all of which is public.
SPARE6 = {str(prefix): 128 - prefix for prefix in range(19, 129)}


class Limits(NamedTuple):
    """What a list may hold: nothing private unless allowed, and no network wider than these prefix lengths."""

    exclude_private: bool = True
    min_prefix_ipv4: int = 8
    min_prefix_ipv6: int = 19
    families: tuple[str, ...] = FAMILIES


class Refused(NamedTuple):
    """An entry of a list that was left out, and why; `unreadable` if it is no address at all."""

    entry: str
    reason: str
    unreadable: bool = False


@dataclass
class Netset:
    """The networks of a list by family, and what was left out of it.

    `accepted` and `refusals` count its entries; of the latter `unreadable` are no addresses at all, and `refused` has
    the first.
    """

    members: dict[str, set[Key]] = field(default_factory=lambda: {family: set() for family in FAMILIES})
    accepted: int = 0
    refusals: int = 0
    unreadable: int = 0
    refused: list[Refused] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(members) for members in self.members.values())

    def entries(self, form: Form, lines: Iterable[str]) -> Iterator[str]:
        """The addresses, networks and ranges in lines of that form, as text; what is none is counted here."""
        for line in lines:
            if is_comment(line):
                continue
            try:
                entry = form.entry(line)
            except AddressError as error:
                self._refuse(line, str(error), unreadable=True)
                continue
            if entry is not None:
                yield entry

    def add(self, entries: Iterable[str], limits: Limits) -> None:
        """Take what is within the limits. Raises ListFormatError for more than MAX_ENTRIES in all."""
        ipv4, ipv6 = self.members[IPV4], self.members[IPV6]
        for text in entries:
            try:
                networks = parse_range(text)
            except AddressError as error:
                self._refuse(text, str(error), unreadable=True)
                continue
            reason = next((reason for network in networks if (reason := _refusal(network, limits))), "")
            if reason:
                self._refuse(text, reason)
            else:
                self.accepted += 1
                (ipv4 if len(networks[0].packed) == 4 else ipv6).update(map(to_key, networks))
        if len(ipv4) + len(ipv6) > MAX_ENTRIES or self.refusals > MAX_ENTRIES:
            raise ListFormatError(f"more than {MAX_ENTRIES} entries")

    def add_plain(self, lines: Iterable[str], limits: Limits) -> list[str]:
        """Take the lines that are one public address or network and nothing else; returns the others."""
        ipv4, ipv6 = self.members[IPV4], self.members[IPV6]
        most4, most6 = 32 - limits.min_prefix_ipv4, 128 - limits.min_prefix_ipv6
        number, others = int.from_bytes, []
        for line in lines:
            address, slash, length = line.partition("/")
            try:
                if ":" not in address:
                    packed, spare = inet_pton(AF_INET, address), SPARE4[length] if slash else 0
                    if packed[0] not in MIXED4 and spare <= most4 and IPV4 in limits.families:
                        packed = (number(packed, "big") >> spare << spare).to_bytes(4, "big") if spare else packed
                        ipv4.add(packed + _LENGTHS[32 - spare])
                        self.accepted += 1
                        continue
                else:
                    packed, spare = inet_pton(AF_INET6, address), SPARE6[length] if slash else 0
                    if packed[0] >> 5 == 1 and spare <= most6 and IPV6 in limits.families:
                        packed = (number(packed, "big") >> spare << spare).to_bytes(16, "big") if spare else packed
                        ipv6.add(packed + _LENGTHS[128 - spare])
                        self.accepted += 1
                        continue
            except (OSError, KeyError, ValueError):
                pass
            others.append(line)
        return others

    def _refuse(self, entry: str, reason: str, *, unreadable: bool = False) -> None:
        self.refusals += 1
        self.unreadable += unreadable
        if len(self.refused) < KEPT_REFUSALS:
            self.refused.append(Refused(entry[:80], reason, unreadable))


_LENGTHS = [bytes((length,)) for length in range(129)]


def read_netset(blocks: Iterable[bytes], limits: Limits) -> Netset:
    """The networks of a list that comes in pieces, packed or not, in any form that is read.

    What cannot be used is in `refused`. Raises ListFormatError for what is no list, or too large.
    """
    return _parsed(read_lines(blocks), limits)


def parse_netset(lines: Iterable[str], limits: Limits) -> Netset:
    """The networks in the lines of a list, as `read_netset` reads them."""
    stripped = map(str.strip, lines)
    return _parsed(iter(lambda: list(islice(stripped, LINES_AT_ONCE)), []), limits)


def by_family(members: Iterable[Key]) -> Netset:
    """A list of networks that were accepted before."""
    netset = Netset()
    for member in members:
        netset.members[IPV4 if len(member) == 5 else IPV6].add(member)
    return netset


def _parsed(batches: Iterable[Sequence[str]], limits: Limits) -> Netset:
    netset = Netset()
    for form, lines in with_form(batches):
        rest = netset.add_plain(lines, limits) if form is PLAIN else lines
        netset.add(netset.entries(form, rest), limits)
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
