# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of networks: in force, exchanged whole, beside blocks and whitelist."""

from __future__ import annotations

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import ipset
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network, to_key
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Direction
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netset import Limits, by_family, parse_netset

HOST, HOST6 = "198.51.100.1", "2001:db8:1::1"
SOURCE = (Direction.SOURCE,)


def netset(*lines):
    return parse_netset(lines, Limits())


def test_a_list_is_in_force_until_it_is_removed(lab, firewall):
    result = firewall.blocklist("firehol", netset("203.0.113.0/28", "203.0.113.99", "2001:db8:a::/64"), SOURCE)

    assert result.changed
    assert not lab.arrives("203.0.113.15", HOST)
    assert not lab.arrives("203.0.113.99", "198.51.100.130")
    assert not lab.arrives("2001:db8:a::7", HOST6)
    assert lab.arrives("203.0.113.16", HOST)
    assert lab.arrives(HOST, "203.0.113.99")

    assert not firewall.blocklist(
        "firehol", netset("2001:db8:a::1/64", "203.0.113.99", "203.0.113.0/28"), SOURCE
    ).changed

    assert firewall.remove_blocklist("firehol").changed
    assert not firewall.remove_blocklist("firehol").changed
    assert lab.arrives("203.0.113.15", HOST)
    assert "firehol" not in lab.kernel()


def test_a_list_may_stop_what_is_sent(lab, firewall):
    firewall.blocklist("both", netset("203.0.113.7"), tuple(Direction))
    assert not lab.arrives("203.0.113.7", HOST)
    assert not lab.arrives(HOST, "203.0.113.7")

    firewall.blocklist("both", netset("203.0.113.7"), (Direction.DESTINATION,))
    assert lab.arrives("203.0.113.7", HOST)
    assert not lab.arrives(HOST, "203.0.113.7")


@pytest.mark.feature("C4", "C7")
def test_whitelist_and_protected_addresses_pass_whatever_a_list_says(lab, firewall):
    firewall.whitelist([WhitelistItem(parse_network("203.0.113.7"))])

    firewall.blocklist("wide", netset("203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32"), tuple(Direction))

    assert lab.arrives("203.0.113.7", HOST)
    assert lab.arrives("198.51.100.2", HOST)
    assert lab.arrives(HOST, "198.51.100.2")
    assert not lab.arrives("203.0.113.8", HOST)
    assert not lab.arrives("198.51.100.3", HOST)


@pytest.mark.feature("C7")
def test_a_list_of_more_than_a_set_usually_holds_is_taken_whole(lab, firewall, monkeypatch):
    monkeypatch.setattr(ipset, "MAX_ELEMENTS", 16)
    lines = [f"203.{second}.{third}.0/24" for second in range(5) for third in range(256) if (second, third) != (0, 113)]

    firewall.blocklist("large", netset(*lines), SOURCE)

    assert firewall.info().to_dict()["blocklists"] == [
        {"name": "large", "family": "ipv4", "target": "source", "count": len(lines)}
    ]


@pytest.mark.feature("C7")
def test_a_hundred_thousand_entries(lab, firewall):
    lines = [f"203.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(0, 200_000, 2)]

    firewall.blocklist("large", netset(*lines), SOURCE)

    assert firewall.info(("blocklists",)).to_dict()["blocklists"][0]["count"] == 100_000
    assert not lab.arrives("203.0.113.8", HOST)
    assert lab.arrives("203.0.113.9", HOST)


@pytest.mark.feature("C7", "C11")
@pytest.mark.parametrize("tools", ["nft"], indirect=True)
def test_more_than_a_million_entries(lab, firewall):
    size = ipset.MAX_ELEMENTS + 50_000
    members = {(0x0B000000 + number).to_bytes(4, "big") + b"\x20" for number in range(size)}
    members.add(to_key(parse_network("203.0.113.7")))

    firewall.blocklist("large", by_family(members), SOURCE)

    assert firewall.info(("blocklists",)).to_dict()["blocklists"][0]["count"] == size + 1
    assert not lab.arrives("203.0.113.7", HOST)
    assert lab.arrives("203.0.113.8", HOST)


@pytest.mark.feature("C7")
def test_no_packet_passes_while_a_list_is_exchanged(lab, firewall):
    fixed = "203.0.113.7"
    lists = [netset(fixed, *(f"203.{n}.{m >> 8}.{m & 255}" for m in range(4000))) for n in (1, 2)]
    firewall.blocklist("list", lists[0], SOURCE)

    with lab.flood(fixed, HOST) as flood:
        for turn in range(1, 9):
            firewall.blocklist("list", lists[turn % 2], SOURCE)
            flood.goes_on()

    assert lab.drain(HOST) == 0
    assert lab.arrives("203.0.113.8", HOST)


def test_a_list_that_a_killed_writer_left_half_filled_is_in_nobodys_way(lab, firewall):
    lab.run("ipset create NGFW.list.s4~ hash:net")
    lab.run("ipset add NGFW.list.s4~ 203.0.113.9")

    firewall.blocklist("list", netset("203.0.113.7"), SOURCE)

    assert not lab.arrives("203.0.113.7", HOST)
    assert lab.arrives("203.0.113.9", HOST)
    assert "~" not in lab.sets()


def test_two_lists_and_a_block_of_the_same_address(lab, firewall, block):
    firewall.blocklist("one", netset("203.0.113.7"), SOURCE)
    firewall.blocklist("two", netset("203.0.113.7"), SOURCE)
    firewall.block([block("203.0.113.7")])

    firewall.remove_blocklist("one")
    assert not lab.arrives("203.0.113.7", HOST)
    firewall.flush()
    assert not lab.arrives("203.0.113.7", HOST)
    firewall.flush(scope=("blocklists",))
    assert lab.arrives("203.0.113.7", HOST)
    assert not firewall.flush(scope=("blocklists",)).changed


def test_refused_entries_are_told_and_the_rest_is_in(lab, firewall):
    good = [f"203.0.113.{number}" for number in range(9)]
    result = firewall.blocklist("list", netset(*good, "10.0.0.0/8", "nonsense"), SOURCE)

    assert [refusal.address for refusal in result.refused] == ["10.0.0.0/8", "nonsense"]
    assert [warning.partition(":")[0] for warning in result.warnings] == [
        "2 entries of the list were left out, the first"
    ]
    assert not lab.arrives("203.0.113.7", HOST)


@pytest.mark.feature("S4")
@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["203.0.113.7", *["10.0.0.300"] * 100], "100 of its 101 entries are no addresses; the first: '10.0.0.300'"),
        ([f"203.0.113.{number}" for number in range(49)], "it shrank from 100 to 49 entries"),
        ([*(f"198.51.100.{number}" for number in range(100)), "16.0.0.0/5", "24.0.0.0/5", "203.0.113.9"], ""),
        ([f"{octet}.0.0.0/8" for octet in range(16, 56)] + ["203.0.113.9"] * 60, "it covers 16% of all IPv4"),
    ],
)
def test_a_list_that_looks_like_a_mistake_keeps_the_old_one(lab, firewall, lines, why):
    good = [f"203.0.113.{number}" for number in range(100)]
    firewall.blocklist("list", netset(*good), tuple(Direction))
    before = lab.kernel()

    if why:
        with pytest.raises(InvalidInput, match=f"{why}.*the old list stays.*set sanity to false"):
            firewall.blocklist("list", netset(*lines), tuple(Direction))
        assert lab.kernel() == before
    assert not lab.arrives("203.0.113.9", HOST)
    assert firewall.blocklist("list", netset(*lines), tuple(Direction), sanity=False).changed
    assert lab.arrives("203.0.113.60", HOST)


def test_dry_run(lab, firewall):
    before = lab.kernel()
    predicted = firewall.blocklist("list", netset("203.0.113.7"), SOURCE, dry_run=True)
    assert lab.kernel() == before

    assert firewall.blocklist("list", netset("203.0.113.7"), SOURCE) == predicted
    before = lab.kernel()
    predicted = firewall.remove_blocklist("list", dry_run=True)
    assert lab.kernel() == before
    assert firewall.remove_blocklist("list") == predicted
