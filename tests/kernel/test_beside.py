# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that stays, and what others change beside the lock: with ipset, iptables, nft."""

from __future__ import annotations

import select

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.watch import watch

ATTACKER, HOST = "203.0.113.7", "198.51.100.1"


@pytest.fixture
def staying(lab):
    firewall = lab.firewall(keep_mirror=True)
    firewall.ensure()
    return firewall


def test_a_block_that_an_operator_lifted_is_a_new_block(lab, staying, block):
    staying.block([block(ATTACKER, duration=600)])
    lab.run(f"ipset del NGFW-drop-src4 {ATTACKER}")

    result = staying.block([block(ATTACKER, duration=600)])

    assert result.changed
    assert [str(entry.block.network) for entry in result.blocked] == [ATTACKER]
    assert not result.already
    assert not lab.arrives(ATTACKER, HOST)
    assert staying.block([block(ATTACKER, duration=600)]).already


def test_a_set_that_was_destroyed_is_made_again_with_all_it_held(lab, staying, block):
    staying.block([block(ATTACKER), block("203.0.113.8", duration=600)])
    staying.block([block("203.0.113.9", action=Action.RATE_LIMIT, rate="1/hour", burst=3)])
    staying.whitelist([WhitelistItem(parse_network("203.0.113.10"))])
    before = lab.kernel()
    lab.run("iptables -F NGFW")
    lab.run("ipset destroy")

    assert staying.ensure().changed

    assert lab.kernel() == before
    assert not lab.arrives(ATTACKER, HOST)
    assert lab.count("203.0.113.9", HOST, 9) == 3


@pytest.mark.parametrize("action", [Action.DROP, Action.REJECT])  # into the same set, and into a new one
def test_a_set_that_was_destroyed_is_made_again_with_the_next_block(lab, staying, block, action):
    staying.block([block(ATTACKER)])
    lab.run("iptables -F NGFW")
    lab.run("ipset destroy NGFW-drop-src4")

    staying.block([block("203.0.113.8", action=action)])

    assert not lab.arrives("203.0.113.8", HOST)
    assert not lab.arrives(ATTACKER, HOST)


def test_a_set_that_was_emptied_stays_empty(lab, staying, block):
    staying.block([block(ATTACKER)])
    lab.run("ipset flush NGFW-drop-src4")

    staying.ensure()

    assert lab.arrives(ATTACKER, HOST)
    assert staying.entries() == []


def test_rules_that_were_flushed_come_back(lab, staying, block):
    staying.block([block(ATTACKER)])
    lab.run("iptables -F")

    assert staying.ensure().changed

    assert not lab.arrives(ATTACKER, HOST)
    assert not staying.ensure().changed


def test_a_whitelist_entry_that_others_made_is_respected_after_looking_again(lab, staying, block):
    lab.run(f"ipset add NGFW-allow4 {ATTACKER}")

    staying.ensure()

    assert staying.look().guard(parse_network(ATTACKER)).kind == "whitelisted"
    assert staying.block([block(ATTACKER)]).refused


def test_a_rate_rule_comes_back_with_the_next_block_where_its_set_was_empty_at_the_repair(lab, staying, block):
    limit = block(ATTACKER, action=Action.RATE_LIMIT, rate="1/hour", burst=3)
    staying.block([limit])
    staying.unblock([limit.network])
    lab.run("iptables -F NGFW")
    staying.ensure()

    staying.block([limit])

    assert lab.count(ATTACKER, HOST, 9) == 3


def test_a_block_of_the_mirror_expires_with_the_kernels(lab, staying, block):
    staying.block([block(ATTACKER, duration=1)])
    assert staying.look().standing(block(ATTACKER))

    lab.wait_until(lambda: lab.arrives(ATTACKER, HOST))

    lab.wait_until(lambda: staying.look().standing(block(ATTACKER)) is None)
    assert staying.block([block(ATTACKER, duration=60)]).blocked
    assert not lab.arrives(ATTACKER, HOST)


@pytest.mark.parametrize(
    "change",
    [
        "iptables -F",
        "iptables -A INPUT -p tcp -j ACCEPT",
        "iptables -D INPUT -j NGFW",
        "ip6tables -I FORWARD 1 -p tcp -j ACCEPT",
    ],
)
def test_changes_of_rules_by_others_are_noticed(lab, staying, block, change):
    backend = staying.info(("chain",)).to_dict()["chain"]["backend"]
    watching = watch(backend, ["ipv4", "ipv6"])
    staying.block([block(ATTACKER)])
    watching.changed()
    assert not watching.changed()

    lab.run(change)

    if watching.fileno() >= 0:
        assert select.select([watching.fileno()], [], [], 20)[0]
    lab.wait_until(watching.changed)
    assert not watching.changed()
    watching.close()
