# SPDX-License-Identifier: GPL-3.0-or-later
"""A netset in little memory: sorted ranges of addresses that do not touch, searched by bisection.

Nearly every line of a list is a plain public address or network, and those are read here, at a fifth of what the
library's parser costs. Every other line goes to that parser, so both accept and refuse the same.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from socket import AF_INET, AF_INET6, inet_pton
from typing import Union

from ..firewall.address import IPV4, IPV6, Network, from_key, parse_range
from ..firewall.errors import AddressError
from ..firewall.netset import Limits, Refused, parse_netset

LINES_AT_ONCE = 500
"""Lines between two calls of `breathe`: well under a millisecond of work."""

_LONGEST_LINE = 4096
_KEPT_REFUSALS = 20

# IPv4 lines may take the short way from prefix length 8 on, in octets that hold no private space.
_SPARE4 = {str(prefix): 32 - prefix for prefix in range(8, 33)}
_MIXED4 = frozenset((0, 10, 100, 127, 169, 172, 192, 198, *range(224, 256)))
# IPv6 lines may from length 19 on, in 2000::/3, all of which is public.
_SPARE6 = {str(prefix): 128 - prefix for prefix in range(19, 129)}

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
    """The addresses of a list. `entries` is how many lines were accepted, `refused` the first that were not.

    `unusable` counts the lines that are no address at all, `refusals` all that were refused, those included.
    """

    def __init__(self) -> None:
        self.entries = 0
        self.refusals = 0
        self.unusable = 0
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

    def share_of_ipv4(self) -> float:
        """Which part of all IPv4 addresses the list covers, from 0 to 1."""
        return (sum(self._last4) - sum(self._first4) + len(self._first4)) / 2**32

    def size_in_bytes(self) -> int:
        """Memory of the ranges themselves."""
        return 8 * len(self._first4) + 32 * len(self._first6)


def read_ranges(blocks: Iterable[bytes], *, most: int, breathe: Callable[[], None] = lambda: None) -> Ranges:
    """Read a list from pieces of its text. Raises ValueError for more than `most` entries.

    `breathe` is called after every few hundred lines: a thread that sleeps a little there keeps no other waiting.
    """
    ranges = Ranges()
    narrow, wide = _Sorter(32), _Sorter(128)
    for lines in _lines(blocks):
        odd: list[str] = []
        values4, values6 = _plain(lines, odd)
        if odd:
            _careful(odd, ranges, values4, values6)
        ranges.entries += len(values4) + len(values6)
        if ranges.entries > most:
            raise ValueError(f"more than {most} entries")
        narrow.add(values4)
        wide.add(values6)
        breathe()
    narrow.merge_into(ranges._first4, ranges._last4, breathe)
    wide.merge_into(ranges._first6, ranges._last6, breathe)
    return ranges


def _lines(blocks: Iterable[bytes]) -> Iterator[list[str]]:
    rest = b""
    for block in blocks:
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if len(rest) > _LONGEST_LINE:
            lines.append(rest[:_LONGEST_LINE])
            rest = b"?"  # what follows belongs to a line that is no address
        for start in range(0, len(lines), LINES_AT_ONCE):
            yield [line.decode("ascii", "replace").strip() for line in lines[start : start + LINES_AT_ONCE]]
    if rest.strip():
        yield [rest.decode("ascii", "replace").strip()]


def _plain(lines: list[str], odd: list[str]) -> tuple[list[int], list[int]]:
    """The ranges of the plain lines, FIRST and LAST in one number; the other lines are added to `odd`."""
    values4: list[int] = []
    values6: list[int] = []
    number = int.from_bytes
    for line in lines:
        address, slash, length = line.partition("/")
        try:
            if ":" not in address:
                packed = inet_pton(AF_INET, address)
                if packed[0] not in _MIXED4:
                    first = number(packed, "big")
                    if slash:
                        spare = _SPARE4[length]
                        first = first >> spare << spare
                        values4.append(first << 32 | first + (1 << spare) - 1)
                    else:
                        values4.append(first << 32 | first)
                    continue
            else:
                packed = inet_pton(AF_INET6, address)
                if packed[0] >> 5 == 1:
                    spare = _SPARE6[length] if slash else 0
                    first = number(packed, "big") >> spare << spare
                    values6.append(first << 128 | first + (1 << spare) - 1)
                    continue
        except (OSError, KeyError, ValueError):
            pass
        if line and line[0] != "#":
            odd.append(line)
    return values4, values6


def _careful(odd: list[str], ranges: Ranges, values4: list[int], values6: list[int]) -> None:
    netset = parse_netset(odd, Limits())
    for family, values, bits in ((IPV4, values4, 32), (IPV6, values6, 128)):
        for key in netset.members[family]:
            network = from_key(key)
            first = int.from_bytes(network.packed, "big")
            values.append(first << bits | first + (1 << bits - network.prefix) - 1)
    ranges.refusals += len(netset.refused)
    ranges.unusable += sum(not _is_address(refused.entry) for refused in netset.refused)
    ranges.refused.extend(netset.refused[: _KEPT_REFUSALS - len(ranges.refused)])


def _is_address(entry: str) -> bool:
    """Whether a refused entry is an address or network all the same, only not one that may be on a list."""
    try:
        return bool(parse_range(entry))
    except AddressError:
        return False


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
