# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netset import Limits, parse_netset
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.sanity import (
    contents,
    objection,
    refuse_wide,
    shares,
)
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.feature("S4")

ANYTHING = Limits(exclude_private=False, min_prefix_ipv4=1, min_prefix_ipv6=1)


def networks(*texts):
    return [parse_network(text) for text in texts]


@pytest.mark.parametrize(
    ("texts", "excess"),
    [
        ([], ""),
        (["203.0.113.7"], ""),
        (["64.0.0.0/3"], ""),
        (["64.0.0.0/3", "203.0.113.7"], "13% of all IPv4 addresses"),
        (["64.0.0.0/3"] * 5 + ["64.0.0.0/4", "80.1.2.3"], ""),
        (["0.0.0.0/1", "128.0.0.0/1"], "100% of all IPv4 addresses"),
        ([f"{octet}.0.0.0/8" for octet in range(64, 97)], "13% of all IPv4 addresses"),
        (["2000::/6"], ""),
        (["2000::/5"], "25% of 2000::/3, the public IPv6 addresses"),
        (["::/1"], "100% of 2000::/3, the public IPv6 addresses"),
        (["::/2"], "100% of 2000::/3, the public IPv6 addresses"),
        (["8000::/1", "fc00::/7", "4000::/3", "::/4"], ""),
        ([f"{group:x}::/16" for group in range(0x2000, 0x2000 + 1025)], "13% of 2000::/3, the public IPv6 addresses"),
    ],
)
def test_what_networks_cover_together(texts, excess):
    assert shares(networks(*texts)).excess() == excess
    assert contents(parse_netset(texts, ANYTHING)).shares.excess() == excess


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 9)), max_size=12))
def test_each_address_counts_once(found):
    wanted = networks(*(f"{octet}.0.0.0/{prefix}" for octet, prefix in found))
    halves = [
        part
        for part in range(512)
        if any(n.contains(parse_network(f"{part >> 1}.{part % 2 * 128}.0.0/9")) for n in wanted)
    ]
    true = len(halves) / 512
    assert (shares(wanted).ipv4 == true) if true > 1 / 8 else (shares(wanted).ipv4 >= true)


def test_what_is_blocked_already_counts_with_a_request_until_it_covers_so_much_itself():
    first, other = networks("16.0.0.0/4", "32.0.0.0/5"), networks("48.0.0.0/4")
    refuse_wide(first, [])
    refuse_wide(first, first)
    with pytest.raises(InvalidInput, match=r"cover 16% of all IPv4 addresses, with what is blocked already; check"):
        refuse_wide(other, first)
    refuse_wide(networks("203.0.113.7"), [*first, *other])
    with pytest.raises(InvalidInput, match=r"cover 100% of all IPv4 addresses; check them, and set allow_wide"):
        refuse_wide(networks("0.0.0.0/1", "128.0.0.0/1"), [])


def test_what_one_family_may_cover_does_not_depend_on_the_other():
    meant = networks("2000::/4")  # by allow_wide
    with pytest.raises(InvalidInput, match=r"cover 16% of all IPv4 addresses, with what is blocked already; check"):
        refuse_wide(networks("32.0.0.0/4"), [*networks("16.0.0.0/4", "48.0.0.0/5"), *meant])
    refuse_wide(networks("203.0.113.7"), [*networks("16.0.0.0/4", "48.0.0.0/5"), *meant])
    refuse_wide(networks("3000::/16"), meant)


@pytest.mark.parametrize(
    ("lines", "present", "why"),
    [
        (["203.0.113.7"], 0, ""),
        (["203.0.113.7"], 99, ""),
        (["203.0.113.7"], 100, "it shrank from 100 to 1 entries"),
        ([f"203.0.113.{n}" for n in range(50)], 100, ""),
        ([f"203.0.113.{n}" for n in range(49)], 100, "it shrank from 100 to 49 entries"),
        ([*(f"203.0.113.{n}" for n in range(9)), "bad"], 0, ""),
        (
            [*(f"203.0.113.{n}" for n in range(9)), "10.0.0.1", "bad", "worse"],
            0,
            "2 of its 12 entries are no addresses; the first: 'bad'",
        ),
        (["203.0.113.7", *["10.0.0.1"] * 100], 0, ""),
        ([f"{octet}.0.0.0/8" for octet in range(20, 60)], 0, "it covers 16% of all IPv4 addresses"),
    ],
)
def test_lists_that_look_like_a_mistake(lines, present, why):
    found = objection(contents(parse_netset(lines, Limits())), present)
    assert found.startswith(why)
    assert bool(found) == bool(why)
