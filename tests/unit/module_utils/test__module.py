# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

pytest.importorskip("ansible", reason="the modules' frame needs ansible-core")

from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network, to_key
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Block, Direction, Entry, Origin
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistEntry, WhitelistItem
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.layout import list_set
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.result import Refusal, Result
from ansible_collections.reflex.ngfw.plugins.module_utils._module import directions, report

ATTACKER = parse_network("203.0.113.7")


def entry(block, end=None):
    return Entry(block, Origin.MODULE, 0.0, end)


def test_the_diff_has_one_sorted_line_for_each_entry_that_changes():
    limit = Block(ATTACKER, Action.RATE_LIMIT, duration=600, rule_name="rule")
    result = Result(
        blocked=[entry(Block(parse_network(text), duration=0)) for text in ("203.0.113.9", "203.0.113.8")],
        extended=[entry(limit._replace(burst=9), 600.0)],
        replaced=[entry(limit, 600.0)],
        unblocked=[entry(Block(ATTACKER, Action.LOG, Direction.DESTINATION, duration=60, log_prefix="x: "), 60.0)],
        chain_after=["ipv4 chain NGFW with 3 rules"],
        changed=True,
    )

    returned = report(result, "blocked", "unblocked")

    assert returned["changed"]
    assert returned["blocked"] == ["203.0.113.9", "203.0.113.8", "203.0.113.7"]
    assert returned["count"] == {"blocked": 3, "unblocked": 1}
    assert returned["diff"]["before"].splitlines() == [
        "log x: destination 203.0.113.7 for 1m by manual",
        "rate_limit 10/minute/5 source 203.0.113.7 for 10m by rule",
    ]
    assert returned["diff"]["after"].splitlines() == [
        "ipv4 chain NGFW with 3 rules",
        "drop source 203.0.113.8 permanent by manual",
        "drop source 203.0.113.9 permanent by manual",
        "rate_limit 10/minute/9 source 203.0.113.7 for 10m by rule",
    ]


def test_an_address_in_two_directions_is_counted_once():
    result = Result(blocked=[entry(Block(ATTACKER, direction=direction)) for direction in Direction])

    returned = report(result, "blocked")

    assert (returned["blocked"], returned["count"]) == (["203.0.113.7"], {"blocked": 1})
    assert len(returned["diff"]["after"].splitlines()) == 2


def test_a_new_comment_of_a_whitelist_entry_is_no_removal():
    result = Result(
        added=[WhitelistEntry(ATTACKER, "new", Origin.MODULE)],
        removed=[WhitelistEntry(ATTACKER, "old", Origin.MODULE)],
        kept=[WhitelistItem(parse_network("::1"))],
        refused=[Refusal("nonsense", "is not an address")],
    )

    returned = report(result, "added", "removed", "already", "refused")

    assert returned["added"] == ["203.0.113.7"]
    assert returned["removed"] == []
    assert returned["already"] == ["::1"]
    assert returned["refused"] == [{"address": "nonsense", "reason": "is not an address"}]
    assert returned["diff"] == {"before": "whitelist 203.0.113.7 (old)\n", "after": "whitelist 203.0.113.7 (new)\n"}


def test_long_lists_are_cut_at_200_and_counted():
    networks = [parse_network(f"203.0.{n >> 8}.{n & 255}") for n in range(300)]
    source = list_set("NGFW", "mine", "ipv4", Direction.SOURCE)
    result = Result(
        blocked=[entry(Block(network)) for network in networks],
        listed=[(source, {to_key(network) for network in networks})],
    )

    returned = report(result, "blocked", "added")

    assert returned["count"] == {"blocked": 300, "added": 300}
    assert len(returned["blocked"]) == 200
    assert returned["added"] == [str(network) for network in networks[:200]]
    assert len(returned["diff"]["after"].splitlines()) <= 402


@pytest.mark.parametrize(
    ("target", "sides"),
    [
        (None, ["source", "destination"]),
        ("both", ["source", "destination"]),
        ("source", ["source"]),
        ("destination", ["destination"]),
    ],
)
def test_directions(target, sides):
    assert [direction.value for direction in directions(target)] == sides
