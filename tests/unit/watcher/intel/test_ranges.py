# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.firewall.address import NetworkSet, from_key, parse_host
from ngfw.firewall.netset import KEPT_REFUSALS, Limits, parse_netset
from ngfw.intel.ranges import Ranges, read_ranges


def read(text: str, *, most: int = 1_000_000, block: int = 65536) -> Ranges:
    data = text.encode()
    return read_ranges((data[at : at + block] for at in range(0, len(data), block)), most=most)


LIST = """\
#
# a comment, and then what lists hold
1.2.3.4
5.6.0.0/16        # a remark
  9.9.9.9
11.0.0.10-11.0.0.20
2001:db8::/32
2001:4860:4860::8888
2a00::5-2a00::9
45.10.0.7/24
::ffff:93.184.216.34
"""


def test_what_a_list_holds() -> None:
    ranges = read(LIST)
    inside = (
        "1.2.3.4 5.6.0.0 5.6.255.255 9.9.9.9 11.0.0.10 11.0.0.15 11.0.0.20 2001:db8:ffff::1 2001:4860:4860::8888 "
        "2a00::5 2a00::7 2a00::9 45.10.0.0 45.10.0.255 93.184.216.34"
    )
    outside = (
        "1.2.3.3 1.2.3.5 5.5.255.255 5.7.0.0 11.0.0.9 11.0.0.21 2001:db9:: 2001:4860:4860::8889 2a00::4 2a00::a "
        "45.9.255.255 45.10.1.0 255.255.255.255 0.0.0.0 :: ffff::"
    )
    for address in inside.split():
        assert ranges.covers(parse_host(address)), address
    for address in outside.split():
        assert not ranges.covers(parse_host(address)), address
    assert ranges.refusals == 0


def test_private_space_never_counts() -> None:
    # What FireHOL's level 1 holds of it, and an entry around each.
    private = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16"
    private += (
        " 198.18.0.0/15 224.0.0.0/3 10.1.2.3 192.168.1.1 127.0.0.1 172.0.0.0/8 192.0.0.0/8 fe80::/10 fc00::/7 ::1"
    )
    ranges = read("\n".join([*private.split(), "8.8.8.8"]))
    assert ranges.entries == 1
    assert ranges.refusals == len(private.split())
    inside = "10.0.0.1 127.0.0.1 192.168.1.1 172.16.5.5 100.64.0.1 169.254.1.1 224.0.0.1 ::1 fe80::1 fc00::1"
    for address in inside.split():
        assert not ranges.covers(parse_host(address)), address


def test_what_is_no_address_is_counted() -> None:
    ranges = read("1.1.1.1\nnonsense\n1.2.3\n1.2.3.4/33\n1.0.0.0/7\n10.0.0.1\n\n#x\n1.2.3.4/08\n")
    assert (ranges.entries, ranges.refusals, ranges.unreadable) == (2, 5, 3)
    assert [each.entry for each in ranges.refused] == ["nonsense", "1.2.3", "1.2.3.4/33", "1.0.0.0/7", "10.0.0.1"]


def test_only_the_first_refusals_are_kept() -> None:
    ranges = read("1.1.1.1\n" + "".join(f"bad{number}\n" for number in range(3000)))
    assert ranges.refusals == ranges.unreadable == 3000
    assert len(ranges.refused) == KEPT_REFUSALS


def test_what_touches_is_one_range() -> None:
    ranges = read("1.0.0.2\n1.0.0.0/31\n1.0.0.3\n1.0.0.2/31\n1.0.0.5\n1.0.0.0/29\n9.0.0.0\n")
    assert (len(ranges), ranges.entries) == (2, 7)
    assert ranges.contents().shares == (9 / 2**32, 0.0)


@pytest.mark.parametrize("block", [1, 2, 7, 64])
def test_pieces_of_any_size_are_the_same_list(block: int) -> None:
    whole, pieces = read(LIST + "3.3.3.3"), read(LIST + "3.3.3.3", block=block)
    assert pieces.entries == whole.entries
    assert pieces.covers(parse_host("3.3.3.3"))
    assert list(pieces._first4) == list(whole._first4)
    assert list(pieces._last6) == list(whole._last6)


def test_a_line_without_end_costs_no_memory() -> None:
    ranges = read_ranges((b"1.1.1.1\n", *(b"1" * 65536 for _each in range(50))), most=100)
    assert ranges.entries == 1
    assert ranges.refusals == ranges.unreadable
    assert ranges.refusals > 0


def test_too_many_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 10 entries"):
        read("".join(f"1.0.{number}.0\n" for number in range(11)), most=10)


def test_windows_line_ends_and_odd_bytes() -> None:
    ranges = read_ranges([b"1.1.1.1\r\n\xff\xfe\r\n\x00\r\n2.2.2.2\r\n"], most=10)
    assert (ranges.entries, ranges.unreadable) == (2, 2)


_hosts = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda number: str(ip_address(number))),
    st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
    st.integers(0, 2**125 - 1).map(lambda number: str(IPv6Address(number + 2**125))),
)
_lines = st.one_of(
    _hosts,
    st.tuples(_hosts, st.integers(0, 129)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    st.tuples(st.integers(0, 2**32 - 300), st.integers(0, 299)).map(
        lambda pair: f"{ip_address(pair[0])}-{ip_address(pair[0] + pair[1])}"
    ),
    st.text("0123456789.:/-abcf #", max_size=20),
)


@given(st.lists(_lines, max_size=30), st.lists(_hosts, max_size=10))
def test_it_holds_what_the_librarys_parser_takes_and_nothing_else(lines: list[str], hosts: list[str]) -> None:
    lines = ["9.9.9.9", *lines]
    ranges = read("\n".join(lines))
    netset = parse_netset(lines, Limits())
    networks = NetworkSet(from_key(key) for members in netset.members.values() for key in members)
    assert (ranges.refusals, ranges.unreadable) == (netset.refusals, netset.unreadable)
    ends = [str(ip_address(network.packed)) for network in networks]
    for host in (*hosts, *ends):
        address = parse_host(host)
        assert ranges.covers(address) == (networks.covering(address) is not None), host


def test_many_entries_stay_small_and_are_found() -> None:
    generator = random.Random(7)
    first = [generator.randrange(0x0B000000, 0x60000000) & ~1 for _each in range(50_000)]
    ranges = read("".join(f"{ip_address(number)}\n" for number in first))
    assert ranges.entries == 50_000
    assert ranges.size_in_bytes() <= 8 * 50_000
    assert all(ranges.covers(parse_host(str(ip_address(number)))) for number in first)
    assert not any(ranges.covers(parse_host(str(ip_address(number + 1)))) for number in first)


def test_a_reader_can_let_others_run_all_along() -> None:
    calls = []
    text = "".join(f"{a}.{b}.{c}.9\n" for a in (11, 12) for b in range(100) for c in range(100))
    read_ranges([text.encode()], most=100_000, breathe=lambda: calls.append(1))
    assert len(calls) >= 20_000 / 500 * 2
