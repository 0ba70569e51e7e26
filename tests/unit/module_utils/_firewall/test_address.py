# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import re

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import (
    PRIVATE,
    Network,
    NetworkSet,
    from_key,
    merge,
    parse_host,
    parse_network,
    parse_networks,
    parse_range,
    to_key,
)
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import AddressError
from hypothesis import given
from hypothesis import strategies as st


def as_network(standard: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Network:
    return Network(standard.network_address.packed, standard.prefixlen)


def as_standard(network: Network) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network((network.packed, network.prefix))


@st.composite
def crowded_networks(draw):
    """Networks that often touch, cover or equal each other."""
    if draw(st.booleans()):
        base, bits = int(ipaddress.ip_address("203.0.113.0")), 32
    else:
        base, bits = int(ipaddress.ip_address("2001:db8::")), 128
    prefix = draw(st.integers(bits - 6, bits) | st.integers(1, bits))
    host = base + draw(st.integers(0, 63))
    packed = (host >> (bits - prefix) << (bits - prefix)).to_bytes(bits // 8, "big")
    return Network(packed, prefix)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7/32", "203.0.113.7"),
        ("203.0.113.7/24", "203.0.113.0/24"),
        ("255.255.255.255/1", "128.0.0.0/1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("::1", "::1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("2001:db8::1/128", "2001:db8::1"),
        ("8000::/1", "8000::/1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:cb00:7107", "203.0.113.7"),
        ("::ffff:203.0.113.7/128", "203.0.113.7"),
        ("::ffff:203.0.113.7/120", "203.0.113.0/24"),
        ("::ffff:128.0.0.0/97", "128.0.0.0/1"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
        ("::203.0.113.7", "::203.0.113.7"),
        ("64:ff9b::203.0.113.7", "64:ff9b::cb00:7107"),
        ("203.0.113.7/032", "203.0.113.7"),
    ],
)
def test_addresses_are_normalised(text, shown):
    network = parse_network(text)

    assert str(network) == shown
    assert parse_network(shown) == network


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "is not an address"),
        (" ", "remove the spaces"),
        (" 203.0.113.7", "remove the spaces"),
        ("203.0.113.7\n", "remove the spaces"),
        ("203.0.113.7 /24", "is not an address"),
        ("203.0.113", "is not an address"),
        ("203.0.113.7.1", "is not an address"),
        ("203.0.113.256", "is not an address"),
        ("203.0.113.07", "is not an address"),
        ("0xcb.0.113.7", "is not an address"),
        ("3405803783", "is not an address"),
        ("localhost", "is not an address"),
        ("example.org", "is not an address"),
        ("\u0662\u0660\u0663.0.113.7", "is not an address"),
        ("203.0.113.7/٢٤", "prefix length must be a number from 1 to 32"),
        ("203.0.113.7/²4", "prefix length"),
        ("203.0.113.7/", "prefix length"),
        ("203.0.113.7/-1", "prefix length"),
        ("203.0.113.7/+8", "prefix length"),
        ("203.0.113.7/ 8", "prefix length"),
        ("203.0.113.7/33", "prefix length must be a number from 1 to 32"),
        ("203.0.113.7/24/24", "prefix length"),
        ("203.0.113.7/255.255.255.0", "prefix length"),
        ("2001:db8::/129", "prefix length must be a number from 1 to 128"),
        ("2001:db8::/9999", "prefix length"),
        ("0.0.0.0/0", "every address there is"),
        ("203.0.113.7/0", "every address there is"),
        ("::/0", "every address there is"),
        ("::ffff:0:0/96", "every address there is"),
        ("fe80::1%eth0", "leave out the interface"),
        ("fe80::1%25", "leave out the interface"),
        ("203.0.113.1-203.0.113.9", "ranges are for blocklists"),
        ("2001:db8:::1", "is not an address"),
        ("[2001:db8::1]", "is not an address"),
        ("203.0.113.7:80", "is not an address"),
        ("203.0.113.7\0", "is not an address"),
        ("$(reboot)", "is not an address"),
        (None, "is not an address"),
        (7, "is not an address"),
        (["203.0.113.7"], "is not an address"),
        (b"203.0.113.7", "is not an address"),
    ],
)
def test_what_is_no_address_is_refused_and_the_message_helps(text, hint):
    with pytest.raises(AddressError, match=re.escape(hint)):
        parse_network(text)


@given(st.text() | st.from_regex(r"[0-9a-f:.%/\-]{1,45}", fullmatch=True))
def test_any_text_is_a_network_as_the_standard_library_has_it_or_an_error_of_one_printable_line(text):
    network, complaint = None, ""
    try:
        network = parse_network(text)
    except AddressError as error:
        complaint = str(error)
    if network is None:
        assert complaint.isprintable()
        assert len(complaint) < 200
        return
    standard = ipaddress.ip_network(text, strict=False)
    mapped = getattr(standard.network_address, "ipv4_mapped", None)
    if mapped is not None and standard.prefixlen >= 96:
        standard = ipaddress.ip_network((mapped.packed, standard.prefixlen - 96))
    assert network == as_network(standard)


@given(crowded_networks())
def test_a_network_survives_its_text_and_its_key(network):
    assert parse_network(str(network)) == network
    assert from_key(to_key(network)) == network
    assert network.is_host == (as_standard(network).num_addresses == 1)
    assert network.family == f"ipv{as_standard(network).version}"


@given(crowded_networks(), st.integers(0, 128))
def test_widening_keeps_what_was_inside(network, prefix):
    wider = network.widened(prefix)

    assert wider.contains(network)
    assert wider.prefix == min(prefix, network.prefix)


def test_all_bad_addresses_are_told_at_once_but_not_thousands():
    with pytest.raises(AddressError) as caught:
        parse_networks(["203.0.113.7", *(f"bad{number}" for number in range(9))])

    assert "'bad0'" in str(caught.value)
    assert "'bad4'" in str(caught.value)
    assert "bad5" not in str(caught.value)
    assert "(and 4 more)" in str(caught.value)
    assert parse_networks(["203.0.113.7/24", "::1"]) == [parse_network("203.0.113.0/24"), parse_network("::1")]


def test_a_host_is_not_a_network():
    assert parse_host("203.0.113.7/32") == parse_network("203.0.113.7")
    with pytest.raises(AddressError, match="a single address is wanted"):
        parse_host("203.0.113.0/24")


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("203.0.113.7", ["203.0.113.7"]),
        ("203.0.113.7/24", ["203.0.113.0/24"]),
        ("203.0.113.7-203.0.113.7", ["203.0.113.7"]),
        ("203.0.113.0 - 203.0.113.255", ["203.0.113.0/24"]),
        ("203.0.113.1-203.0.113.6", ["203.0.113.1", "203.0.113.2/31", "203.0.113.4/31", "203.0.113.6"]),
        ("0.0.0.0-127.255.255.255", ["0.0.0.0/1"]),
        ("255.255.255.254-255.255.255.255", ["255.255.255.254/31"]),
        ("2001:db8::-2001:db8::3", ["2001:db8::/126"]),
        ("::ffff:203.0.113.7-203.0.113.8", ["203.0.113.7", "203.0.113.8"]),
    ],
)
def test_ranges_become_the_fewest_networks(text, networks):
    assert [str(network) for network in parse_range(text)] == networks


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.9-203.0.113.7",
        "203.0.113.9-2001:db8::1",
        "203.0.113.0/24-203.0.114.0/24",
        "203.0.113.1-",
        "-203.0.113.1",
        "203.0.113.1-7",
        "1-2-3",
        "0.0.0.0-255.255.255.255",
        "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ],
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(AddressError):
        parse_range(text)


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1))
def test_ranges_are_what_the_standard_library_makes_of_them(first, second):
    first, last = ipaddress.IPv4Address(min(first, second)), ipaddress.IPv4Address(max(first, second))
    if (int(first), int(last)) == (0, (1 << 32) - 1):
        return

    expected = [as_network(network) for network in ipaddress.summarize_address_range(first, last)]
    assert parse_range(f"{first}-{last}") == expected


@given(st.lists(crowded_networks(), max_size=12), crowded_networks())
def test_a_set_of_networks_answers_as_a_search_through_all_would(members, network):
    networks = NetworkSet(members)
    asked = as_standard(network)
    alike = [(as_standard(m), m) for m in set(members) if m.family == network.family]
    around = sorted((standard.prefixlen, m) for standard, m in alike if asked.subnet_of(standard))

    assert networks.covering(network) == (around[0][1] if around else None)
    assert all((member in list(networks)) == (networks.covering(member) == member) for member in members)
    assert networks.overlaps(network) == any(standard.overlaps(asked) for standard, _m in alike)


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("172.15.255.255", False),
        ("172.16.0.1", True),
        ("172.32.0.0", False),
        ("192.168.0.1", True),
        ("100.64.0.1", True),
        ("100.128.0.1", False),
        ("0.1.2.3", True),
        ("127.0.0.1", True),
        ("169.254.1.1", True),
        ("192.0.0.8", True),
        ("192.0.1.1", False),
        ("198.19.255.255", True),
        ("198.20.0.0", False),
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("fc00::1", True),
        ("fdff::1", True),
        ("fe80::1", True),
        ("::1", True),
        ("::2", False),
        ("2001:db8::1", False),  # documentation ranges count as public
        ("192.0.2.1", False),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
    ],
)
def test_private_is_what_never_came_from_the_internet(address, private):
    assert (PRIVATE.covering(parse_network(address)) is not None) == private


@pytest.mark.feature("S4")
@given(st.lists(st.tuples(st.integers(0, 31), st.integers(0, 5), st.booleans()), max_size=12))
def test_what_several_networks_cover_together_one_of_the_merged_ones_covers(found):
    def made(number: int, bits: int, wide: bool) -> Network:
        prefix = 27 + bits if not wide else 123 + bits
        text = f"203.0.113.{number}/{prefix}" if not wide else f"2001:db8::{number:x}/{prefix}"
        return parse_network(text)

    networks = [made(*each) for each in found]
    merged = NetworkSet(merge(networks))
    for wide in (False, True):
        for bits in range(6):
            for number in range(0, 32, 32 >> bits):
                asked = made(number, bits, wide)
                hosts = [made(each, 5, wide) for each in range(number, number + (32 >> bits))]
                together = all(any(network.contains(host) for network in networks) for host in hosts)
                assert (merged.covering(asked) is not None) == together


def test_two_halves_of_everybody_stay_two():
    halves = [parse_network(text) for text in ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")]
    assert merge([*halves, parse_network("10.0.0.0/8")]) == halves
