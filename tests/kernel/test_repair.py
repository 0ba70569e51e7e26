# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain beside rules of other people: made, found damaged, repaired, removed."""

from __future__ import annotations

import re

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Direction
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput, KernelError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem

ATTACKER, HOST = "203.0.113.7", "198.51.100.1"
ATTACKER6, HOST6 = "2001:db8:a::7", "2001:db8:1::1"
HOOKS = ("INPUT", "FORWARD", "OUTPUT")
USERS_RULES = """
    iptables -P FORWARD DROP
    iptables -A FORWARD -i eth0 -o eth1 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
    iptables -N USERS
    iptables -A USERS -p tcp -m multiport --dports 22,443 -j ACCEPT
    iptables -A USERS -m comment --comment our_own -j RETURN
    iptables -I INPUT 1 -j USERS
    iptables -A INPUT -p icmp -m icmp --icmp-type 8 -m limit --limit 7/min -j ACCEPT
    iptables -t nat -A PREROUTING -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 80
    iptables -t mangle -A POSTROUTING -o eth0 -j MARK --set-mark 7
    ip6tables -A INPUT -s 2001:db8:bad::/48 -j DROP
    ipset create NGFWISH hash:ip
    ipset add NGFWISH 192.0.2.77
    ipset create users-list hash:net family inet6
    iptables -A OUTPUT -m set --match-set NGFWISH dst -j DROP
"""


@pytest.mark.feature("C1")
def test_the_chain_is_reached_first_from_every_hook_in_both_families(lab, firewall):
    result = firewall.ensure()

    assert result.changed
    for program in ("iptables", "ip6tables"):
        for hook in HOOKS:
            assert lab.run(f"{program} -S {hook} 1").strip() == f"-A {hook} -j NGFW"
    assert not firewall.ensure().changed
    assert firewall.info(("chain",)).to_dict()["chain"]["families"] == ["ipv4", "ipv6"]


@pytest.mark.feature("C1")
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(["-D INPUT -j NGFW"], id="jump lost"),
        pytest.param(["-D INPUT -j NGFW", "-D FORWARD -j NGFW", "-D OUTPUT -j NGFW"], id="all jumps lost"),
        pytest.param(["-F"], id="all rules flushed"),
        pytest.param(["-F INPUT", "-F FORWARD", "-F OUTPUT"], id="built-in chains flushed"),
        pytest.param(["-F NGFW"], id="chain emptied"),
        pytest.param(["-F", "-X"], id="chain gone"),
        pytest.param(["-I INPUT 1 -j NGFW", "-A OUTPUT -j NGFW", "-A OUTPUT -j NGFW"], id="jumps doubled"),
        pytest.param(["-A INPUT -m comment --comment mine -j NGFW", "-I OUTPUT 1 -g NGFW"], id="doubled otherwise"),
        pytest.param(["-I NGFW 1 -j RETURN"], id="foreign rule in the chain"),
        pytest.param(["-D NGFW 1"], id="rule lost"),
        pytest.param(["-F NGFW", "-A NGFW -m set --match-set NGFW-drop-src4 src -j RETURN"], id="rule altered"),
    ],
)
def test_damage_is_repaired_to_what_was(lab, firewall, block, damage):
    firewall.block([block(ATTACKER), block(ATTACKER6)])
    before = lab.kernel()
    for arguments in damage:
        lab.run(f"iptables {arguments}")
    assert lab.kernel() != before

    result = firewall.ensure()

    assert result.changed
    assert lab.kernel() == before
    assert not lab.arrives(ATTACKER, HOST)
    assert not lab.arrives(ATTACKER6, HOST6)
    assert not firewall.ensure().changed


@pytest.mark.feature("C1")
@pytest.mark.parametrize("program", ["iptables", "ip6tables"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(("-j", "ACCEPT"), id="only rule of the chain"),
        pytest.param(("-m", "comment", "--comment", "a\nb", "-j", "RETURN"), id="comment of two lines"),
    ],
)
def test_foreign_rules_go_also_where_the_chain_has_none_of_ours(lab, firewall, program, damage):
    firewall.ensure()
    before = lab.kernel()
    assert not lab.tools.run((program, "-A", "NGFW", *damage)).code
    assert lab.kernel() != before

    assert firewall.ensure().changed

    assert lab.kernel() == before
    assert not firewall.ensure().changed
    lab.run(f"{program} -A NGFW -j RETURN")
    firewall.remove()
    assert "NGFW" not in lab.kernel()


@pytest.mark.feature("C1")
def test_two_chains_on_one_host_come_first_together(lab, firewall, block):
    other = lab.firewall(chain="OTHER")
    firewall.block([block(ATTACKER)])
    other.block([block(ATTACKER6)])
    for each in (firewall, other, firewall):
        assert not each.ensure().changed
    lab.run("iptables -I INPUT 1 -j ACCEPT")

    assert firewall.ensure().changed
    assert other.ensure().changed
    for each in (firewall, other):
        assert not each.ensure().changed
    assert not lab.arrives(ATTACKER, HOST)
    assert not lab.arrives(ATTACKER6, HOST6)
    other.remove()
    assert not firewall.ensure().changed


@pytest.mark.feature("C1")
def test_a_jump_that_was_moved_down_comes_first_again(lab, firewall, block):
    firewall.block([block(ATTACKER)])
    lab.run(f"iptables -I INPUT 1 -s {ATTACKER} -j ACCEPT")
    assert lab.arrives(ATTACKER, HOST)

    assert firewall.ensure().changed

    assert not lab.arrives(ATTACKER, HOST)
    assert lab.run("iptables -S INPUT").splitlines()[1:] == [
        "-A INPUT -j NGFW",
        f"-A INPUT -s {ATTACKER}/32 -j ACCEPT",
    ]


@pytest.mark.feature("C1")
def test_a_block_repairs_too(lab, firewall, block):
    firewall.block([block(ATTACKER)])
    lab.run("iptables -F")
    assert lab.arrives(ATTACKER, HOST)

    assert firewall.block([block(ATTACKER)]).changed

    assert not lab.arrives(ATTACKER, HOST)


@pytest.mark.feature("C1", "C3")
def test_log_and_rate_rules_are_rebuilt_from_the_sets_alone(lab, firewall, block):
    firewall.block(
        [
            block(ATTACKER, action=Action.LOG, log_prefix="It is: "),
            block(ATTACKER, action=Action.RATE_LIMIT, rate="60/minute", burst=3),
            block(ATTACKER6, action=Action.RATE_LIMIT, rate="7/hour", burst=2),
        ]
    )
    before = lab.kernel()
    for program in ("iptables", "ip6tables"):
        lab.run(f"{program} -F")
        lab.run(f"{program} -X")

    lab.firewall().ensure()

    assert lab.kernel() == before
    assert lab.count(ATTACKER6, HOST6, 9) == 2


@pytest.mark.parametrize("prefix", ["", " ", "-j", "!", "#1;", "back\\slash\\", "$HOME `id` %s", "~" * 28])
def test_any_log_prefix_is_kept_as_it_is(lab, firewall, block, prefix):
    firewall.block([block(ATTACKER, action=Action.LOG, log_prefix=prefix)])
    before = lab.kernel()
    assert not firewall.ensure().changed

    lab.run("iptables -F NGFW")
    assert lab.firewall().ensure().changed

    assert lab.kernel() == before
    assert firewall.info().entries()[0].block.log_prefix == prefix


@pytest.mark.feature("C1")
def test_the_hooks_chosen_are_remembered_even_where_the_chain_is_wiped(lab, block):
    lab.firewall(hooks=["OUTPUT", "INPUT"]).ensure()
    lab.run("iptables -F")
    lab.run("iptables -X")

    lab.firewall().block([block(ATTACKER, direction=direction) for direction in Direction])

    assert lab.firewall().info().to_dict()["chain"]["hooks"] == ["INPUT", "OUTPUT"]
    assert not lab.arrives(ATTACKER, HOST)
    assert not lab.arrives(HOST, ATTACKER)
    assert lab.arrives(ATTACKER, "198.51.100.130")

    lab.firewall(hooks=["FORWARD"]).ensure()
    assert lab.arrives(ATTACKER, HOST)
    assert not lab.arrives(ATTACKER, "198.51.100.130")


@pytest.mark.parametrize("request_", ["ensure", "block", "remove"])
def test_a_chain_of_somebody_else_is_refused(lab, block, request_):
    for command in ("-N USERS", "-A USERS -p tcp -m tcp --dport 22 -j ACCEPT", "-A INPUT -j USERS"):
        lab.run(f"iptables {command}")
    before = lab.kernel()
    firewall = lab.firewall(chain="USERS")

    with pytest.raises(InvalidInput, match=r"chain 'USERS' .*not from here, such as '-p tcp .*choose another name"):
        firewall.block([block(ATTACKER)]) if request_ == "block" else getattr(firewall, request_)()

    assert lab.kernel() == before


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("hash:ip", "is a hash:ip of ipv4"),
        ("hash:net family inet6", "is a hash:net of ipv6"),
        ("list:set", "is a list:set of "),
        ("hash:net", "has no time-outs, counters and comments"),
        ("hash:net timeout 60 comment", "has no time-outs, counters and comments"),
    ],
)
def test_a_set_of_another_kind_under_one_of_our_names_is_refused(lab, firewall, block, kind, complaint):
    lab.run(f"ipset create NGFW-drop-src4 {kind}")
    before = lab.kernel()

    with pytest.raises(InvalidInput, match=f"NGFW-drop-src4 .*{complaint}.*; remove or rename it"):
        firewall.block([block(ATTACKER)])

    assert lab.kernel() == before


@pytest.mark.feature("C1")
def test_rules_and_sets_of_the_user_are_untouched_by_all_we_do(lab, firewall, block):
    for command in USERS_RULES.strip().splitlines():
        lab.run(command.strip())
    before = lab.kernel()

    firewall.ensure()
    assert without_ours(lab.kernel()) == before
    firewall.block(
        [
            block(address, action=action, direction=direction)
            for address in (ATTACKER, ATTACKER6)
            for action in Action
            for direction in Direction
        ]
    )
    firewall.whitelist([WhitelistItem(parse_network("203.0.113.9"), "friend")], state="exact")
    assert without_ours(lab.kernel()) == before
    lab.run("iptables -I INPUT 1 -j NGFW")
    firewall.ensure()
    firewall.unblock([parse_network(ATTACKER)])
    firewall.flush(scope=("blocks", "whitelist"))
    assert without_ours(lab.kernel()) == before
    firewall.remove()

    assert lab.kernel() == before


@pytest.mark.feature("C1")
def test_a_rule_that_only_counts_is_in_nobodys_way(lab, firewall, block):
    for program in ("iptables", "ip6tables"):
        lab.run(f"{program} -A INPUT")

    firewall.block([block("203.0.113.7")])

    assert not firewall.ensure().changed
    assert "\n-A INPUT -j NGFW\n-A INPUT\n" in lab.tables()


def test_remove_leaves_nothing_behind_also_where_others_jump_to_the_chain(lab, firewall, block):
    for program in ("iptables", "ip6tables"):
        lab.run(f"{program} -P INPUT ACCEPT")  # makes the table
    before = lab.kernel()
    firewall.block([block(address, action=action) for address in (ATTACKER, ATTACKER6) for action in Action])
    firewall.whitelist([WhitelistItem(parse_network("203.0.113.9"))])
    lab.run("iptables -N MINE")
    lab.run("iptables -A MINE -s 203.0.113.0/24 -j NGFW")
    lab.run("iptables -A INPUT -p tcp -g NGFW")
    lab.run("iptables -A INPUT -j NGFW")

    assert firewall.remove().changed

    lab.run("iptables -X MINE")
    assert lab.kernel() == before
    assert lab.arrives(ATTACKER, HOST)
    assert not firewall.remove().changed


def test_a_set_that_the_users_own_rule_needs_stops_a_removal_before_it_begins(lab, firewall, block):
    firewall.block([block(ATTACKER)])
    firewall.block([block("203.0.113.8", action=Action.LOG)])
    users = "-p udp -m set --match-set NGFW-drop-src4 src -j ACCEPT"
    lab.run(f"iptables -A INPUT {users}")
    before = lab.kernel()

    for dry_run in (True, False):
        with pytest.raises(KernelError, match=r"NGFW-drop-src4 is in use by a rule that is not from here.*Nothing was"):
            firewall.remove(dry_run=dry_run)
        assert lab.kernel() == before

    lab.run(f"iptables -D INPUT {users}")
    assert firewall.remove().changed


def test_the_hooks_are_seen_by_the_jumps_where_the_sets_that_remember_them_were_emptied(lab, block):
    lab.firewall(hooks=["INPUT"]).ensure()
    lab.run("ipset flush NGFW-own4")
    lab.run("ipset flush NGFW-own6")

    lab.firewall().block([block(ATTACKER)])

    assert not lab.arrives(ATTACKER, HOST)
    assert "NGFW" not in lab.run("iptables -S OUTPUT") + lab.run("ip6tables -S FORWARD")


def test_another_chain_of_ours_is_left_alone(lab, block):
    first, second = lab.firewall(), lab.firewall(chain="NGFW_2")
    first.block([block(ATTACKER)])
    second.block([block("203.0.113.8")])

    first.remove()

    assert lab.arrives(ATTACKER, HOST)
    assert not lab.arrives("203.0.113.8", HOST)
    assert not second.ensure().changed


def test_a_family_that_is_left_out_is_not_touched(lab, block):
    only_4 = lab.firewall(families=["ipv4"])
    before = lab.run("ip6tables-save")

    only_4.block([block(ATTACKER)])
    assert "NGFW" not in lab.run("ip6tables-save")
    assert lab.run("ip6tables-save").count("\n-A") == before.count("\n-A")
    with pytest.raises(InvalidInput, match="2001:db8:a::7 is ipv6"):
        only_4.block([block(ATTACKER6)])

    lab.firewall().block([block(ATTACKER6)])
    only_4.flush()
    assert not lab.arrives(ATTACKER6, HOST6)
    only_4.remove()
    assert not lab.arrives(ATTACKER6, HOST6)


def test_a_plain_block_makes_one_rule_whatever_the_number_of_addresses(lab, firewall, block):
    firewall.block([block(ATTACKER)])
    rules = lab.run("iptables -S NGFW")
    assert rules.count("-A NGFW") == 1
    assert "-A NGFW" not in lab.run("ip6tables -S NGFW")

    firewall.block([block(f"203.0.{high}.{low}") for high in range(1, 9) for low in range(256)])

    assert lab.run("iptables -S NGFW") == rules


def test_no_packet_of_a_blocked_address_passes_while_we_work(lab, firewall, block):
    """Repair, refresh, new sets and rules beside, another order of rules: each is one transaction."""
    firewall.block([block(ATTACKER, duration=60)])
    firewall.whitelist([WhitelistItem(parse_network("203.0.113.9"))])
    works = [
        lambda: lab.run("iptables -I INPUT 1 -j NGFW"),
        firewall.ensure,
        lambda: lab.run("iptables -I INPUT 1 -p tcp -m tcp --dport 1 -j ACCEPT"),
        firewall.ensure,
        lambda: lab.run("iptables -A NGFW -p tcp -j RETURN"),
        firewall.ensure,
        lambda: firewall.block([block(ATTACKER, duration=60)], refresh=True),
        lambda: firewall.block([block(ATTACKER, duration=600)]),
        lambda: firewall.block([block(ATTACKER, action=Action.RATE_LIMIT, rate="10/minute", burst=5)]),
        lambda: firewall.block([block(ATTACKER, action=Action.RATE_LIMIT, rate="20/minute", burst=5)]),
        lambda: firewall.block([block("203.0.113.8", action=Action.LOG), block("203.0.113.0/30")]),
        lambda: firewall.unblock([parse_network("203.0.113.8")]),
        lambda: firewall.whitelist([WhitelistItem(parse_network("203.0.113.10"))], state="exact"),
        lambda: firewall.flush(scope=("whitelist",)),
        lab.firewall(hooks=["INPUT"]).ensure,
        lab.firewall(hooks=list(HOOKS)).ensure,
        lambda: firewall.block([block(ATTACKER)]),
    ]

    with lab.flood(ATTACKER, HOST) as flood:
        for work in works:
            work()
            flood.goes_on()

    assert lab.drain(HOST) == 0
    assert lab.arrives("203.0.113.11", HOST)


def without_ours(text):
    """What iptables-save and ipset say, without our chain, its jumps and its sets."""
    ours = re.compile(r"^(:NGFW |-A NGFW |-A (INPUT|FORWARD|OUTPUT) -j NGFW$|(create|add) NGFW[-.])")
    return "\n".join(line for line in text.split("\n") if not ours.match(line))
