# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import IPV4, IPV6, from_key
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netset import Limits, by_family, parse_netset
from hypothesis import given
from hypothesis import strategies as st

LIST = """\
#
# firehol_level1
# Category        : attacks
#
203.0.113.7
203.0.113.7 # the same
198.51.100.0/24
  192.0.2.1-192.0.2.2\t
2001:db8::/32
::ffff:203.0.113.9
10.0.0.0/8
192.168.0.0-192.168.255.255
0.0.0.0/0
1.0.0.0/7
fc00::/7
2001::/16
nonsense
<html>
"""


def texts(netset, family):
    return sorted(str(from_key(key)) for key in netset.members[family])


def test_a_list_with_all_that_may_stand_in_one():
    netset = parse_netset(LIST.splitlines(keepends=True), Limits())

    assert texts(netset, IPV4) == ["192.0.2.1", "192.0.2.2", "198.51.100.0/24", "203.0.113.7", "203.0.113.9"]
    assert texts(netset, IPV6) == ["2001:db8::/32"]
    assert len(netset) == 6
    assert {entry: reason.split(";")[0] for entry, reason, _unreadable in netset.refused} == {
        "10.0.0.0/8": "not public address space",
        "192.168.0.0-192.168.255.255": "not public address space",
        "0.0.0.0/0": "'0.0.0.0/0' is every address there is",
        "1.0.0.0/7": "wider than /8",
        "fc00::/7": "wider than /19",
        "2001::/16": "wider than /19",
        "nonsense": "'nonsense' is not an address",
        "<html>": "'<html>' is not an address",
    }


def test_a_byte_order_mark_is_no_part_of_the_first_entry():
    assert texts(parse_netset(["\ufeff203.0.113.7\r\n"], Limits()), IPV4) == ["203.0.113.7"]


@pytest.mark.parametrize("text", ["9.255.255.250-10.0.0.9", "1.0.0.0-223.255.255.255", "2001:db8::7-fc00::"])
def test_an_entry_of_which_a_part_may_not_be_is_refused_whole_as_it_was_written(text):
    netset = parse_netset([text], Limits())

    assert len(netset) == 0
    assert [refused.entry for refused in netset.refused] == [text]


@pytest.mark.parametrize(
    ("text", "limits", "taken"),
    [
        ("10.0.0.0/8", Limits(exclude_private=False), True),
        ("8.0.0.0/6", Limits(), False),
        ("8.0.0.0/6", Limits(exclude_private=False, min_prefix_ipv4=6), True),
        ("8.0.0.0/6", Limits(min_prefix_ipv4=6), False),  # 10/8 is in it
        ("203.0.113.0/24", Limits(min_prefix_ipv4=25), False),
        ("2001:db8::/32", Limits(min_prefix_ipv6=33), False),
        ("2001:db8::/32", Limits(families=(IPV4,)), False),
        ("203.0.113.7", Limits(families=(IPV6,)), False),
    ],
)
def test_limits(text, limits, taken):
    netset = parse_netset([text], limits)

    assert (len(netset) == 1) == taken
    assert (len(netset.refused) == 0) == taken


def test_a_list_of_accepted_networks_is_sorted_by_family_again():
    netset = parse_netset(LIST.splitlines(), Limits())

    assert by_family([*netset.members[IPV6], *netset.members[IPV4]]).members == netset.members


@given(st.lists(st.text(max_size=100), max_size=10))
def test_any_text_is_read_and_its_refusals_are_short(lines):
    for entry, reason, _unreadable in parse_netset(["203.0.113.7", *lines], Limits()).refused:
        assert len(entry) <= 80
        assert len(reason) < 250
