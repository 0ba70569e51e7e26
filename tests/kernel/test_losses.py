# SPDX-License-Identifier: GPL-3.0-or-later
"""What `ipset` at a shell takes away: guards come back, blocks stay lifted, and what nobody uses costs no packet."""

from __future__ import annotations

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import host, watch
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Direction, Origin
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import KernelError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.layout import block_set
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.watch import Losses

from ..namespace import wait_until

ATTACKER, FRIEND, COLLEAGUE, HOST = "203.0.113.7", "203.0.113.8", "203.0.113.9", "198.51.100.1"
NEIGHBOURS = "203.0.113.0/24"

pytestmark = pytest.mark.feature("S6")


def whitelisted(*addresses):
    return [WhitelistItem(parse_network(address), "known") for address in addresses]


@pytest.fixture
def keeper(lab):
    """A process that stays, whose configuration whitelists FRIEND, beside a module that whitelisted COLLEAGUE."""
    lab.firewall().whitelist(whitelisted(COLLEAGUE))
    keeper = lab.firewall(origin=Origin.WATCHER, keep_mirror=True)
    keeper.keep_whitelisted(whitelisted(FRIEND))
    keeper.ensure()
    assert keeper.losses() == Losses()
    return keeper


@pytest.mark.parametrize(
    "command", ["ipset flush", "ipset flush NGFW-allow4", "ipset destroy"], ids=lambda command: command
)
def test_whatever_empties_the_guards_they_return(lab, keeper, block, command):
    before = lab.sets()
    if command != "ipset destroy":  # which the kernel refuses where a rule uses a set
        keeper.block([block(NEIGHBOURS)])
        before = lab.sets()
    lab.run(command)
    assert lab.sets() != before

    losses = keeper.losses()
    result = keeper.ensure()

    assert "NGFW-allow4" in losses.sets
    assert result.revived["NGFW-allow4"] == 2
    after = lab.sets()
    assert {line for line in before.splitlines() if "-allow" in line or "-own" in line} <= set(after.splitlines())
    keeper.block([block(NEIGHBOURS)])
    for address in (FRIEND, COLLEAGUE):
        assert lab.arrives(address, HOST)
    assert not lab.arrives(ATTACKER, HOST)
    assert keeper.losses() == Losses()


def test_protected_addresses_return_with_the_ssh_peer(lab, keeper, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(host, "ssh_peer", lambda: parse_network(ATTACKER))
        keeper.ensure()
    lab.run("ipset flush NGFW-own4")

    assert keeper.losses().sets == ("NGFW-own4",)
    assert keeper.ensure().revived["NGFW-own4"] > 5

    assert f"add NGFW-own4 {ATTACKER} timeout" in lab.run("ipset save NGFW-own4")
    assert f"add NGFW-own4 {HOST} " in lab.run("ipset save NGFW-own4")


def test_of_single_entries_the_configurations_return_and_others_are_the_operators_will(lab, keeper):
    lab.run(f"ipset del NGFW-allow4 {FRIEND}")
    lab.run(f"ipset del NGFW-allow4 {COLLEAGUE}")
    lab.firewall().whitelist(whitelisted(ATTACKER))  # else the set were empty
    keeper.ensure()
    found = {item["address"]: item["origin"] for item in lab.firewall().info(("whitelist",)).whitelist_dict()}
    assert found.get(FRIEND) == "config"
    assert COLLEAGUE not in found
    assert keeper.losses() == Losses()


def test_one_that_was_taken_out_of_a_whitelist_of_several_is_noticed(lab, keeper):
    lab.run(f"ipset del NGFW-allow4 {FRIEND}")
    assert keeper.losses().sets == ("NGFW-allow4",)
    keeper.ensure()
    assert f"add NGFW-allow4 {FRIEND} " in lab.run("ipset save NGFW-allow4")


def test_a_whitelist_that_was_flushed_through_the_library_stays_empty_but_for_the_configurations(lab, keeper):
    lab.firewall().flush(scope=("whitelist",))
    assert keeper.losses() == Losses()
    keeper.ensure()
    assert {
        item["address"]
        for item in lab.firewall().info(("whitelist",)).whitelist_dict()
        if item["origin"] != "protected"
    } == {FRIEND}


@pytest.mark.parametrize("command", ["ipset flush NGFW-drop-src4", f"ipset del NGFW-drop-src4 {ATTACKER}"])
def test_blocks_that_others_lift_are_noticed_and_stay_lifted(lab, keeper, block, command):
    keeper.block([block(ATTACKER), block("203.0.113.77", duration=3600)])
    assert keeper.losses() == Losses()
    lab.run(command)

    assert keeper.losses() == Losses(blocks=("NGFW-drop-src4",))
    keeper.ensure()

    assert lab.arrives(ATTACKER, HOST)
    assert keeper.losses() == Losses()


def test_blocks_that_run_out_are_no_loss(lab, keeper, block):
    keeper.block([block(ATTACKER, duration=1), block("203.0.113.77", duration=3600)])
    assert keeper.losses() == Losses()
    wait_until(lambda: lab.arrives(ATTACKER, HOST))
    wait_until(lambda: "203.0.113.7 " not in lab.run("ipset save NGFW-drop-src4"))
    assert keeper.losses() == Losses()


# --- what nobody uses ------------------------------------------------------------------------------------------


def test_the_rule_of_a_rate_or_prefix_goes_with_its_set_and_that_of_other_blocks_stays(lab, firewall, block):
    firewall.block([block("203.0.113.77"), block("203.0.113.77", direction=Direction.DESTINATION)])
    firewall.unblock([parse_network("203.0.113.77")])
    before = lab.kernel()
    assert "NGFW-drop-src4" in before
    forms = [
        block(ATTACKER),
        block(ATTACKER, direction=Direction.DESTINATION),
        block(ATTACKER, action=Action.LOG, log_prefix="one: "),
        block(ATTACKER, action=Action.RATE_LIMIT, rate="7/minute"),
    ]
    firewall.block(forms)
    assert len(lab.kernel()) > len(before)

    result = firewall.unblock([parse_network(ATTACKER)])

    assert len(result.unblocked) == len(forms)
    assert lab.kernel() == before


def test_another_rate_leaves_nothing_of_the_one_before(lab, firewall, block):
    firewall.block([block(ATTACKER, action=Action.RATE_LIMIT, rate="7/minute")])
    firewall.block([block(ATTACKER, action=Action.RATE_LIMIT, rate="9/minute")])
    assert lab.run("ipset list -n").count("NGFW-rate-src4-") == 1
    assert lab.run("iptables -S NGFW").count("hashlimit-above") == 1


def test_what_ran_out_goes_with_the_next_request_which_is_no_change(lab, firewall, block):
    limited = block(ATTACKER, action=Action.RATE_LIMIT, duration=1)
    firewall.block([limited, block("203.0.113.77", action=Action.REJECT)])
    name = block_set("NGFW", limited).name
    wait_until(lambda: "Number of entries: 0" in lab.run(f"ipset list -t {name}"))

    assert not firewall.ensure().changed

    assert name not in lab.kernel()
    assert not firewall.block([block("203.0.113.77", action=Action.REJECT)]).changed


def test_no_packet_of_a_block_passes_while_the_rules_of_others_go(lab, firewall, block):
    limited = block("203.0.113.77", action=Action.RATE_LIMIT)
    firewall.block([block(ATTACKER), limited])
    lab.drain(HOST)
    with lab.flood(ATTACKER, HOST) as flood:
        for _round in range(5):
            firewall.unblock([parse_network("203.0.113.77")])
            flood.goes_on()
            firewall.block([limited])
            flood.goes_on()
    assert lab.drain(HOST) == 0


def test_a_set_that_a_rule_of_the_users_own_names_stays(lab, firewall, block):
    firewall.block([block(ATTACKER), block(ATTACKER, action=Action.RATE_LIMIT)])
    rate = next(name for name in lab.run("ipset list -n").split() if "-rate-" in name)
    lab.run("iptables -A INPUT -m set --match-set NGFW-drop-src4 src -j DROP")
    lab.run(f"iptables -A INPUT -m set --match-set {rate} src -j DROP")

    firewall.unblock([parse_network(ATTACKER)])

    assert {"NGFW-drop-src4", rate} <= set(lab.run("ipset list -n").split())
    with pytest.raises(KernelError, match="is in use by a rule that is not from here"):
        firewall.remove()


def test_where_a_mirror_is_kept_a_set_goes_after_it_was_empty_for_long(lab, keeper, block, monkeypatch):
    limited = block(ATTACKER, action=Action.RATE_LIMIT, rate="1/hour", burst=1)
    name = block_set("NGFW", limited).name
    keeper.block([limited, block("203.0.113.77")])
    keeper.unblock([parse_network(ATTACKER)])
    assert keeper.losses() == Losses()
    assert name in lab.kernel()
    monkeypatch.setattr(watch, "UNUSED_SECONDS", 0.0)

    unused = keeper.losses().unused
    assert unused == (name,)
    assert not keeper.ensure(unused=unused).changed

    assert name not in lab.kernel()
    keeper.block([limited])
    assert [lab.arrives(ATTACKER, HOST) for _packet in range(2)] == [True, False]
    assert keeper.losses() == Losses()
    assert len(keeper.entries()) == 2


def test_a_block_that_came_meanwhile_keeps_its_set(lab, keeper, block):
    limited = block(ATTACKER, action=Action.RATE_LIMIT, rate="1/hour", burst=1)
    keeper.block([limited])
    keeper.ensure(unused=(block_set("NGFW", limited).name,))
    assert [lab.arrives(ATTACKER, HOST) for _packet in range(2)] == [True, False]


# --- hooks -----------------------------------------------------------------------------------------------------


@pytest.mark.feature("C1")
def test_each_family_remembers_its_own_hooks(lab, block):
    lab.firewall(families=["ipv4"], hooks=["INPUT"]).ensure()
    lab.firewall(families=["ipv6"], hooks=["INPUT", "FORWARD"]).ensure()
    for program in ("iptables", "ip6tables"):
        lab.run(f"{program} -F")
        lab.run(f"{program} -X")

    lab.firewall().block([block(ATTACKER), block("2001:db8:a::7")])

    assert not lab.arrives(ATTACKER, HOST)
    assert lab.arrives(ATTACKER, "198.51.100.130")
    assert not lab.arrives("2001:db8:a::7", "2001:db8:1::1")
    assert not lab.arrives("2001:db8:a::7", "2001:db8:2::2")
    assert "NGFW" not in lab.run("ip6tables -S OUTPUT")


@pytest.mark.feature("C1")
def test_a_family_that_comes_later_has_the_hooks_of_the_other(lab, block):
    lab.firewall(families=["ipv4"], hooks=["INPUT"]).ensure()
    lab.firewall().block([block("2001:db8:a::7")])
    assert not lab.arrives("2001:db8:a::7", "2001:db8:1::1")
    assert lab.arrives("2001:db8:a::7", "2001:db8:2::2")
