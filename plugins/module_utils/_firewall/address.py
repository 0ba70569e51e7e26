# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses and networks, IPv4 and IPv6 alike: parse, normalise, cover, overlap."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from .errors import AddressError
from .text import shown

IPV4 = "ipv4"
IPV6 = "ipv6"
FAMILIES = (IPV4, IPV6)

_PADDED = re.compile(r"(?:^|\.)0[0-9]")
_MAPPED = bytes(10) + b"\xff\xff"


class Network(NamedTuple):
    """A network whose host bits are zero; a host is a network of full length.

    `packed` are the 4 or 16 bytes of the address in network order, `prefix` the length in bits.
    """

    packed: bytes
    prefix: int

    @property
    def family(self) -> str:
        return IPV4 if len(self.packed) == 4 else IPV6

    @property
    def is_host(self) -> bool:
        return self.prefix == len(self.packed) * 8

    def contains(self, other: Network) -> bool:
        """Whether `other` lies wholly inside this network."""
        return (
            len(self.packed) == len(other.packed)
            and self.prefix <= other.prefix
            and mask(other.packed, self.prefix) == self.packed
        )

    def widened(self, prefix: int) -> Network:
        """The network of that length around this one; itself if it is that wide already."""
        return self if prefix >= self.prefix else Network(mask(self.packed, prefix), prefix)

    def __str__(self) -> str:
        return _written(self.packed, self.prefix)


@lru_cache(maxsize=4096)
def _written(packed: bytes, prefix: int) -> str:
    text = inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)
    return text if prefix == len(packed) * 8 else f"{text}/{prefix}"


Key = bytes
"""A network in the least memory, for lists of a million: its address, and its prefix length as one more byte."""


def to_key(network: Network) -> Key:
    """The compact form of a network."""
    return network.packed + bytes((network.prefix,))


def from_key(key: Key) -> Network:
    """The network of a compact form."""
    return Network(key[:-1], key[-1])


def mask(packed: bytes, prefix: int) -> bytes:
    """Set all bits behind the first `prefix` to zero."""
    size = len(packed)
    spare = size * 8 - prefix
    if not spare:
        return packed
    return (int.from_bytes(packed, "big") >> spare << spare).to_bytes(size, "big")


def parse_network(text: str) -> Network:
    """A host or a CIDR network; host bits are dropped, v4-mapped addresses become IPv4.

    Raises AddressError for anything else, and for /0, which would be everybody.
    """
    try:
        address, slash, length = text.partition("/")
        packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    except (OSError, ValueError, AttributeError, TypeError):
        raise AddressError(_complaint(text)) from None
    if not slash:
        if len(packed) == 16 and packed.startswith(_MAPPED):
            packed = packed[12:]
        return Network(packed, len(packed) * 8)
    bits = len(packed) * 8
    if not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= bits):
        raise AddressError(f"'{shown(text)}': the prefix length must be a number from 1 to {bits}")
    prefix = int(length)
    if len(packed) == 16 and prefix >= 96 and packed.startswith(_MAPPED):
        packed, prefix = packed[12:], prefix - 96
    if prefix == 0:
        raise AddressError(f"'{shown(text)}' is every address there is; name a smaller network")
    return Network(mask(packed, prefix), prefix)


def parse_networks(texts: Iterable[str]) -> list[Network]:
    """All of these texts as networks; AddressError names the first bad ones and counts the rest."""
    networks, complaints = [], []
    for text in texts:
        try:
            networks.append(parse_network(text))
        except AddressError as error:
            complaints.append(str(error))
    if complaints:
        more = f" (and {len(complaints) - 5} more)" if len(complaints) > 5 else ""
        raise AddressError("; ".join(complaints[:5]) + more)
    return networks


def parse_host(text: str) -> Network:
    """A single address; raises AddressError for a network or anything else."""
    network = parse_network(text)
    if not network.is_host:
        raise AddressError(f"'{shown(text)}' is a network; a single address is wanted here")
    return network


def parse_range(text: str) -> list[Network]:
    """The fewest networks that make up `FIRST-LAST`, or the one network that `text` is.

    Raises AddressError if the ends are not two addresses of one family in rising order.
    """
    first_text, dash, last_text = text.partition("-")
    if not dash:
        return [parse_network(text)]
    first_host, last_host = parse_host(first_text.strip()), parse_host(last_text.strip())
    size = len(first_host.packed)
    first, last = int.from_bytes(first_host.packed, "big"), int.from_bytes(last_host.packed, "big")
    if size != len(last_host.packed) or first > last:
        raise AddressError(f"'{shown(text)}' is no range; write FIRST-LAST, both of one family")
    networks = []
    while first <= last:
        aligned = (first & -first).bit_length() - 1 if first else size * 8
        spare = min(aligned, (last - first + 1).bit_length() - 1)
        networks.append(Network(first.to_bytes(size, "big"), size * 8 - spare))
        first += 1 << spare
    if networks[0].prefix == 0:
        raise AddressError(f"'{shown(text)}' is every address there is; name a smaller range")
    return networks


class NetworkSet:
    """Networks that can be asked which of them covers or overlaps another; fixed once made.

    Only the widest are kept, for what lies inside them answers no question; they are found by bisection.
    """

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._widest: dict[int, tuple[list[bytes], list[bytes], list[Network]]] = {4: ([], [], []), 16: ([], [], [])}
        for network in sorted(set(networks)):
            firsts, lasts, widest = self._widest[len(network.packed)]
            if not lasts or network.packed > lasts[-1]:
                firsts.append(network.packed)
                lasts.append(_last(network))
                widest.append(network)

    def __iter__(self) -> Iterator[Network]:
        """The widest of the networks, by their addresses."""
        for _firsts, _lasts, widest in self._widest.values():
            yield from widest

    def covering(self, network: Network) -> Network | None:
        """The widest of these networks that wholly contains `network`, or None."""
        packed, prefix = network
        firsts, lasts, widest = self._widest[len(packed)]
        at = bisect_right(firsts, packed) - 1
        if at < 0 or packed > lasts[at] or widest[at].prefix > prefix:
            return None
        return widest[at]

    def overlaps(self, network: Network) -> bool:
        """Whether any of these networks shares an address with `network`."""
        firsts = self._widest[len(network.packed)][0]
        at = bisect_left(firsts, network.packed)
        return (at < len(firsts) and firsts[at] <= _last(network)) or self.covering(network) is not None


def _last(network: Network) -> bytes:
    """The last address of a network."""
    packed, prefix = network
    spare = len(packed) * 8 - prefix
    return (int.from_bytes(packed, "big") | (1 << spare) - 1).to_bytes(len(packed), "big") if spare else packed


def merge(networks: Iterable[Network]) -> list[Network]:
    """The fewest networks that are the same addresses: what lies in several of them together lies in one of these."""
    merged: list[Network] = []
    for network in NetworkSet(networks):
        last = network
        while merged and (parent := _parent_of(merged[-1], last)) is not None:
            merged.pop()
            last = parent
        merged.append(last)
    return merged


def _parent_of(low: Network, high: Network) -> Network | None:
    """The network that two neighbours in rising order are the halves of, if they are and it is not everybody."""
    prefix, size = low.prefix, len(low.packed)
    if prefix != high.prefix or prefix == 1 or size != len(high.packed):
        return None
    first = int.from_bytes(low.packed, "big")
    halves = first ^ int.from_bytes(high.packed, "big") == 1 << size * 8 - prefix
    return Network(low.packed, prefix - 1) if halves else None


PRIVATE = NetworkSet(
    parse_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    )
)
"""What never came from the public internet (documentation ranges count as public)."""


def _complaint(text: object) -> str:
    hint = "write an IPv4 or IPv6 address, or a network as ADDRESS/LENGTH"
    if isinstance(text, str):
        if text != text.strip():
            hint = "remove the spaces around it"
        elif "%" in text:
            hint = "leave out the interface after '%'"
        elif _PADDED.search(text):
            hint = "write its numbers without leading zeros, which some programs take for octal ones"
        elif "-" in text:
            hint = "ranges are for blocklists; " + hint
    return f"'{shown(text)}' is not an address; {hint}"
