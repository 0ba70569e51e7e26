# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain of another name: seen, and moved with all that it holds."""

from __future__ import annotations

import re

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import host
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Direction, Origin
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import KernelError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netset import Limits, parse_netset

ATTACKER, FRIEND, LISTED, HOST = "203.0.113.7", "203.0.113.8", "203.0.113.130", "198.51.100.1"
ATTACKER6, HOST6 = "2001:db8:a::7", "2001:db8:1::1"

pytestmark = pytest.mark.feature("S6")


@pytest.fixture
def old(lab, block):
    """A chain with all kinds of things in it."""
    old = lab.firewall(chain="OLD", origin=Origin.WATCHER, hooks=["INPUT"])
    old.block(
        [
            block("203.0.113.0/24", duration=3600, rule_name="Scan", reason="by RULE Scan"),
            block(ATTACKER6),
            block(ATTACKER, action=Action.RATE_LIMIT, rate="7/minute"),
            block("2001:db8:c::9", direction=Direction.DESTINATION),
        ]
    )
    lab.firewall(chain="OLD").block([block("192.0.2.7", action=Action.LOG, log_prefix="seen: ")])
    old.whitelist([WhitelistItem(parse_network(FRIEND), "known")])
    old.blocklist("site", parse_netset(["192.0.2.128/26"], Limits()), [Direction.SOURCE])
    return old


def entries(lab, chain):
    """The entries of a chain without its name and what counts on; seconds may pass."""
    text = re.sub(r" (timeout) (\d+)", lambda m: f" timeout {(int(m.group(2)) + 30) // 60}", lab.run("ipset save"))
    text = re.sub(r" (packets|bytes) \d+", "", text)
    lines = [line for line in text.splitlines() if line.startswith(f"add {chain}") and "-own" not in line]
    return sorted(line.replace(f"add {chain}", "add ", 1) for line in lines)


def test_all_that_another_chain_holds_is_moved_and_the_chain_is_removed(lab, old):
    before = entries(lab, "OLD")
    assert len(before) == 7
    new = lab.firewall(chain="NEW", origin=Origin.WATCHER, hooks=["INPUT"], keep_mirror=True)
    assert new.other_chains() == ["OLD"]

    result = new.take_over(old)

    assert entries(lab, "NEW") == before
    assert len(result.blocked) == 5
    assert "OLD" not in lab.kernel()
    assert not lab.arrives(ATTACKER, HOST)
    assert not lab.arrives(ATTACKER6, HOST6)
    assert not lab.arrives("192.0.2.130", HOST)
    assert lab.arrives(FRIEND, HOST)
    assert new.other_chains() == []
    assert not new.ensure().changed
    origins = {each.block.action: each.origin for each in new.entries()}
    assert (origins[Action.DROP], origins[Action.LOG]) == (Origin.WATCHER, Origin.MODULE)


def test_no_packet_passes_while_blocks_are_moved(lab, firewall, block):
    chains = ["NGFW", "EDGE"] * 3
    firewall.block([block(ATTACKER)])
    lab.drain(HOST)
    with lab.flood(ATTACKER, HOST) as flood:
        for here, there in zip(chains, chains[1:]):
            lab.firewall(chain=there).take_over(lab.firewall(chain=here))
            flood.goes_on()
    assert lab.drain(HOST) == 0


def test_who_deployed_over_ssh_is_not_locked_out_by_a_new_name(lab, block, monkeypatch):
    wide = block("203.0.113.0/24", duration=0)
    monkeypatch.setattr(host, "ssh_peer", lambda: parse_network(FRIEND))
    old = lab.firewall(chain="OLD")
    old.block([wide])
    assert lab.arrives(FRIEND, HOST)
    monkeypatch.setattr(host, "ssh_peer", lambda: None)  # a service has none
    new = lab.firewall(chain="NEW", origin=Origin.WATCHER, keep_mirror=True)
    new.ensure()
    new.take_over(old)
    assert "OLD" not in lab.kernel()
    assert not lab.arrives(ATTACKER, HOST)
    assert lab.arrives(FRIEND, HOST)
    assert new.look().guard(parse_network(FRIEND)).comment == "SSH peer"


def test_of_two_ends_the_later_counts(lab, block):
    old, new = lab.firewall(chain="OLD"), lab.firewall(chain="NEW")
    old.block([block(ATTACKER, duration=60), block("203.0.113.9", duration=7200), block("203.0.113.10")])
    new.block([block(ATTACKER, duration=7200), block("203.0.113.9", duration=60), block("203.0.113.11")])
    new.take_over(old)
    durations = {str(each.block.network): each.block.duration for each in new.entries()}
    assert durations == {ATTACKER: 7200, "203.0.113.9": 7200, "203.0.113.10": 0, "203.0.113.11": 0}


def test_of_two_rates_the_one_that_lasts_longer_counts(lab, block):
    def limited(address, duration, rate):
        return block(address, duration=duration, action=Action.RATE_LIMIT, rate=rate)

    old, new = lab.firewall(chain="OLD"), lab.firewall(chain="NEW", keep_mirror=True)
    old.block([limited(ATTACKER, 60, "7/minute"), limited("203.0.113.9", 7200, "7/minute")])
    new.block([limited(ATTACKER, 7200, "9/minute"), limited("203.0.113.9", 60, "9/minute")])
    new.take_over(old)
    for firewall in (new, lab.firewall(chain="NEW")):
        found = sorted((str(each.block.network), each.block.duration, each.block.rate) for each in firewall.entries())
        assert found == [(ATTACKER, 7200, "9/minute"), ("203.0.113.9", 7200, "7/minute")]


def test_a_chain_whose_set_somebody_uses_stays_in_force(lab, block):
    old, new = lab.firewall(chain="OLD"), lab.firewall(chain="NEW")
    old.block([block(ATTACKER)])
    lab.run("iptables -A INPUT -m set --match-set OLD-drop-src4 src -j DROP")
    with pytest.raises(KernelError, match="OLD-drop-src4 is in use by a rule that is not from here"):
        new.take_over(old)
    assert len(new.entries()) == len(old.entries()) == 1
    assert not lab.arrives(ATTACKER, HOST)


def test_sets_that_were_saved_under_another_name_come_back_under_the_present_one(lab, old, tmp_path):
    before = entries(lab, "OLD")
    old.save(tmp_path / "sets")
    old.remove()
    new = lab.firewall(chain="NEW", hooks=["INPUT"])
    new.restore_sets(tmp_path / "sets", [])
    assert entries(lab, "NEW") == before
    assert "OLD" not in lab.kernel()
    new.ensure()
    assert not lab.arrives(ATTACKER, HOST)
    assert lab.arrives(FRIEND, HOST)


def test_sets_of_others_are_no_chain_of_ours(lab, firewall):
    lab.run("ipset create INPUT-own4 hash:net")
    lab.run("ipset create my.chain-own4 hash:net")
    lab.run("ipset create -own4 hash:net")
    assert firewall.other_chains() == []
