# SPDX-License-Identifier: GPL-3.0-or-later
"""A netset in little memory: sorted ranges of addresses that do not touch, searched by bisection.

Nearly every line of a list is a plain public address or network, and those are read here. Every other line goes to the
library's parser, so both accept and refuse the same.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from socket import AF_INET, AF_INET6, inet_pton
from typing import Union

from ..firewall.address import IPV4, IPV6, Network, from_key
from ..firewall.listformat import LINES_AT_ONCE, PLAIN, Form, ListFormatError, read_lines, with_form
from ..firewall.netset import KEPT_REFUSALS, MAX_ENTRIES, MIXED4, SPARE4, SPARE6, Limits, Netset, Refused
from ..firewall.sanity import Contents, Shares

_Bounds = Union["array[int]", "_Wide"]


class _Wide(Sequence[int]):
    """Numbers of 16 bytes, packed."""

    def __init__(self) -> None:
        self._packed = bytearray()

    def append(self, value: int) -> None:
        self._packed += value.to_bytes(16, "big")

    def __len__(self) -> int:
        return len(self._packed) >> 4

    def __iter__(self) -> Iterator[int]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at):  # type: ignore[no-untyped-def]
        return int.from_bytes(self._packed[at << 4 : (at << 4) + 16], "big")


class Ranges:
    """The addresses of a list. `entries` is how many were accepted, `refused` the first that were not.

    `unreadable` counts the lines that are no address at all, `refusals` all that were refused, those included.
    """

    def __init__(self) -> None:
        self.entries = 0
        self.refusals = 0
        self.unreadable = 0
        self.refused: list[Refused] = []
        self._first4: _Bounds = array("I")
        self._last4: _Bounds = array("I")
        self._first6: _Bounds = _Wide()
        self._last6: _Bounds = _Wide()

    def covers(self, address: Network) -> bool:
        """Whether the list holds this host."""
        packed = address.packed
        first, last = (self._first4, self._last4) if len(packed) == 4 else (self._first6, self._last6)
        value = int.from_bytes(packed, "big")
        at = bisect_right(first, value) - 1
        return at >= 0 and value <= last[at]

    def __len__(self) -> int:
        """How many separate ranges there are."""
        return len(self._first4) + len(self._first6)

    def contents(self) -> Contents:
        """What there is to say about it as a list."""
        ipv4 = _total(self._first4, self._last4) / 2**32
        ipv6 = _total(self._first6, self._last6) / 2**125  # all that is public lies in 2000::/3
        lines = self.entries + self.refusals
        return Contents(self.entries, lines, self.unreadable, self.refused, Shares(ipv4, ipv6))

    def size_in_bytes(self) -> int:
        """Memory of the ranges themselves."""
        return 8 * len(self._first4) + 32 * len(self._first6)


def read_ranges(
    blocks: Iterable[bytes], *, most: int = MAX_ENTRIES, breathe: Callable[[], None] = lambda: None
) -> Ranges:
    """Read a list from pieces of its text, in any form that the library reads.

    Raises ListFormatError, a ValueError, for what is no list, and for more than `most` entries. `breathe` is called
    after every few hundred lines: a thread that sleeps a little there keeps no other waiting.
    """
    ranges = Ranges()
    narrow, wide = _Sorter(32), _Sorter(128)
    for form, lines in with_form(read_lines(blocks)):
        values4: list[int] = []
        values6: list[int] = []
        odd = _plain(lines, values4, values6) if form is PLAIN else lines
        if odd:
            _careful(form, odd, ranges, values4, values6)
        ranges.entries += len(values4) + len(values6)
        if ranges.entries > most or ranges.refusals > most:
            raise ListFormatError(f"more than {most} entries")
        narrow.add(values4)
        wide.add(values6)
        breathe()
    narrow.merge_into(ranges._first4, ranges._last4, breathe)
    wide.merge_into(ranges._first6, ranges._last6, breathe)
    return ranges


def _total(firsts: _Bounds, lasts: _Bounds) -> int:
    return sum(lasts) - sum(firsts) + len(firsts)


def _plain(lines: Sequence[str], values4: list[int], values6: list[int]) -> list[str]:
    """Add the ranges of the plain lines, FIRST and LAST in one number; returns the other lines."""
    odd: list[str] = []
    number = int.from_bytes
    for line in lines:
        address, slash, length = line.partition("/")
        try:
            if ":" not in address:
                packed = inet_pton(AF_INET, address)
                if packed[0] not in MIXED4:
                    first = number(packed, "big")
                    if slash:
                        spare = SPARE4[length]
                        first = first >> spare << spare
                        values4.append(first << 32 | first + (1 << spare) - 1)
                    else:
                        values4.append(first << 32 | first)
                    continue
            else:
                packed = inet_pton(AF_INET6, address)
                if packed[0] >> 5 == 1:
                    spare = SPARE6[length] if slash else 0
                    first = number(packed, "big") >> spare << spare
                    values6.append(first << 128 | first + (1 << spare) - 1)
                    continue
        except (OSError, KeyError, ValueError):
            pass
        if line and line[0] != "#":
            odd.append(line)
    return odd


def _careful(form: Form, odd: Sequence[str], ranges: Ranges, values4: list[int], values6: list[int]) -> None:
    netset = Netset()
    netset.add(netset.entries(form, odd), Limits())
    for family, values, bits in ((IPV4, values4, 32), (IPV6, values6, 128)):
        for key in netset.members[family]:
            network = from_key(key)
            first = int.from_bytes(network.packed, "big")
            values.append(first << bits | first + (1 << bits - network.prefix) - 1)
    ranges.refusals += netset.refusals
    ranges.unreadable += netset.unreadable
    ranges.refused.extend(netset.refused[: KEPT_REFUSALS - len(ranges.refused)])


class _Sorter:
    """Sorts in small portions, so that no single step is long."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._shift = bits + bits // 2 if bits == 32 else bits + 96
        self._portions: dict[int, array[int] | list[int]] = {}

    def add(self, values: list[int]) -> None:
        portions, shift = self._portions, self._shift
        for value in values:
            portion = portions.get(value >> shift)
            if portion is None:
                portion = portions[value >> shift] = array("Q") if self._bits == 32 else []
            portion.append(value)

    def merge_into(self, firsts: _Bounds, lasts: _Bounds, breathe: Callable[[], None]) -> None:
        bits, portions = self._bits, self._portions
        low = (1 << bits) - 1
        start, end = -1, -2
        done = 0
        for key in sorted(portions):
            for value in sorted(portions.pop(key)):
                first, last = value >> bits, value & low
                if first <= end + 1 and start >= 0:
                    end = max(end, last)
                    continue
                if start >= 0:
                    firsts.append(start)
                    lasts.append(end)
                start, end = first, last
                done += 1
                if done % LINES_AT_ONCE == 0:
                    breathe()
        if start >= 0:
            firsts.append(start)
            lasts.append(end)
