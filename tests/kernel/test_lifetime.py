# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a block lasts, in the kernel and with nobody there to watch it."""

from __future__ import annotations

import os
import re
import time

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.duration import MAX_BLOCK_SECONDS
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Direction, Origin
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import FirewallError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netset import Limits, parse_netset

ATTACKER, HOST = "203.0.113.7", "198.51.100.1"


@pytest.mark.feature("D1")
@pytest.mark.parametrize(("attacker", "host"), [(ATTACKER, HOST), ("2001:db8:a::7", "2001:db8:1::1")])
def test_a_block_ends_in_the_kernel_to_the_second(lab, block, attacker, host):
    firewall = lab.firewall()
    started = time.monotonic()
    firewall.block([block(attacker, duration=1)])
    made = stood = time.monotonic()
    firewall.close()  # nobody is there any more

    while not lab.arrives(attacker, host):
        assert stood < made + 1.4
        stood = time.monotonic()  # the next packet is sent later

    assert time.monotonic() > started + 0.9


@pytest.mark.feature("D2")
def test_a_permanent_block_has_no_timeout(lab, firewall, block):
    firewall.block([block(ATTACKER)])

    assert timeout_of(lab, ATTACKER) == 0
    assert not lab.arrives(ATTACKER, HOST)
    entry = firewall.info().entries()[0]
    assert entry.expires_at is None
    assert firewall.info().to_dict()["blocks"][0]["remaining"] is None


def test_the_longest_duration_is_taken_whole(lab, firewall, block):
    firewall.block([block(ATTACKER, duration=MAX_BLOCK_SECONDS)])

    assert MAX_BLOCK_SECONDS - 50 <= timeout_of(lab, ATTACKER) <= MAX_BLOCK_SECONDS


@pytest.mark.feature("C6")
@pytest.mark.parametrize(
    ("first", "second", "refresh", "remaining", "rule"),
    [
        pytest.param(600, 600, False, 600, "first", id="the same leaves it"),
        pytest.param(600, 60, False, 600, "first", id="a shorter one leaves it"),
        pytest.param(600, 3600, False, 3600, "second", id="a longer one extends it"),
        pytest.param(600, 0, False, 0, "second", id="permanent is longer than any"),
        pytest.param(0, 600, False, 0, "first", id="nothing is longer than permanent"),
        pytest.param(0, 0, False, 0, "first", id="permanent twice"),
        pytest.param(600, 60, True, 60, "second", id="refresh may shorten"),
        pytest.param(0, 60, True, 60, "second", id="refresh may end what was permanent"),
        pytest.param(600, 600, True, 600, "second", id="refresh restarts the clock"),
    ],
)
def test_a_second_request(lab, block, first, second, refresh, remaining, rule):
    clock = Clock()
    firewall = lab.firewall(clock=clock)
    firewall.block([block(ATTACKER, duration=first, rule_name="first")])

    result = firewall.block([block(ATTACKER, duration=second, rule_name="second")], refresh=refresh)

    assert result.changed == (rule == "second")
    assert len(result.extended) == (rule == "second")
    assert len(result.already) == (rule == "first")
    assert remaining - 50 <= timeout_of(lab, ATTACKER) <= remaining
    (entry,) = firewall.info().entries()
    assert entry.block.rule_name == rule
    assert not lab.arrives(ATTACKER, HOST)


@pytest.mark.feature("C6")
def test_an_extension_counts_from_now_and_durations_are_compared_as_requested(lab, block):
    firewall = lab.firewall()
    firewall.block([block(ATTACKER, duration=600)])
    lab.run(f"ipset add NGFW-drop-src4 {ATTACKER} timeout 300 -exist")  # as if five minutes had passed, but no comment
    assert timeout_of(lab, ATTACKER) <= 300

    assert firewall.block([block(ATTACKER, duration=200)]).already
    assert firewall.block([block(ATTACKER, duration=400)]).extended
    assert 350 <= timeout_of(lab, ATTACKER) <= 400


@pytest.mark.feature("C6")
def test_later_moves_an_end_only_if_that_makes_it_later(lab, firewall, block):
    firewall.block([block(ATTACKER, duration=600)])

    assert firewall.block([block(ATTACKER, duration=300)], later=True).already
    assert firewall.block([block(ATTACKER, duration=900)], later=True).extended
    assert firewall.block([block(ATTACKER)], later=True).extended
    assert firewall.block([block(ATTACKER, duration=900)], later=True).already
    assert timeout_of(lab, ATTACKER) == 0


def test_a_block_that_ran_out_is_new_again(lab, firewall, block):
    firewall.block([block(ATTACKER, duration=1)])
    lab.wait_until(lambda: lab.arrives(ATTACKER, HOST))

    result = firewall.block([block(ATTACKER, duration=600)])

    assert result.blocked
    assert not result.extended
    assert not lab.arrives(ATTACKER, HOST)


def test_an_exception_that_an_operator_added_with_ipset_is_no_block(lab, firewall, block):
    firewall.block([block("203.0.113.0/24")])
    lab.run(f"ipset add NGFW-drop-src4 {ATTACKER} nomatch")

    assert [str(entry.block.network) for entry in firewall.info().entries()] == ["203.0.113.0/24"]
    assert lab.arrives(ATTACKER, HOST)
    assert firewall.block([block(ATTACKER)]).blocked
    assert not lab.arrives(ATTACKER, HOST)


@pytest.mark.feature("C6")
def test_what_an_operator_added_with_ipset_is_a_block_like_any_other(lab, firewall, block):
    firewall.block([block("203.0.113.1")])
    lab.run(f"ipset add NGFW-drop-src4 {ATTACKER} timeout 600")

    entry = next(entry for entry in firewall.entries() if str(entry.block.network) == ATTACKER)
    assert entry.origin is Origin.COMMAND
    assert firewall.block([block(ATTACKER, duration=60)]).already
    assert firewall.unblock([parse_network(ATTACKER)]).unblocked
    assert lab.arrives(ATTACKER, HOST)


def test_the_kernel_tells_all_about_a_block(lab, firewall, block):
    reason = 'any "text" at all\nüñ€ ' + "x" * 300
    firewall.block([block(ATTACKER, duration=600, rule_name="Rüle", reason=reason)])
    lab.count(ATTACKER, HOST, 3)

    (item,) = firewall.info().to_dict()["blocks"]

    assert item["address"] == ATTACKER
    assert item["rule_name"] == "Rüle"
    assert item["reason"].startswith("any 'text' at all üñ€ xxx")
    assert item["packets"] == 3
    assert item["bytes"] == 3 * (20 + 8 + 5)
    assert item["origin"] == "module"
    assert 550 <= item["remaining"] <= 600


def test_purge_lifts_the_other_entries_of_its_rule_only(lab, firewall, block):
    firewall.block([block(f"203.0.113.{last}", rule_name="list") for last in (1, 2, 3)])
    firewall.block([block("203.0.113.2", rule_name="list", action=Action.REJECT, direction=Direction.DESTINATION)])
    firewall.block([block("2001:db8:a::3", rule_name="list"), block("203.0.113.9", rule_name="other")])

    result = firewall.block([block(f"203.0.113.{last}", rule_name="list") for last in (2, 4)], purge="list")

    assert [str(entry.block.network) for entry in result.blocked] == ["203.0.113.4"]
    assert sorted(str(entry.block.network) for entry in result.unblocked) == [
        "2001:db8:a::3",
        "203.0.113.1",
        "203.0.113.2",
        "203.0.113.3",
    ]
    assert [last for last in (1, 2, 3, 4, 9) if not lab.arrives(f"203.0.113.{last}", HOST)] == [2, 4, 9]
    assert lab.arrives(HOST, "203.0.113.2")
    assert lab.arrives("2001:db8:a::3", "2001:db8:1::1")


def test_flush_of_one_rule_leaves_the_rest(lab, firewall, block):
    firewall.block([block(ATTACKER, rule_name="one"), block("203.0.113.8", rule_name="two")])

    assert len(firewall.flush(rule_name="one").unblocked) == 1
    assert lab.arrives(ATTACKER, HOST)
    assert not lab.arrives("203.0.113.8", HOST)

    assert len(firewall.flush().unblocked) == 1
    assert lab.arrives("203.0.113.8", HOST)
    assert firewall.info().to_dict()["chain"]["hooks"] == ["INPUT", "FORWARD", "OUTPUT"]


class Clock:
    """A clock that stands still at the present."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


def timeout_of(lab, address):
    """The seconds that the kernel has left for an entry."""
    return int(re.search(rf"^{re.escape(address)} timeout (\d+)", lab.run("ipset list NGFW-drop-src4"), re.M).group(1))


def test_what_root_saved_belongs_to_whom_the_directory_belongs_to(firewall, tmp_path):
    os.chown(tmp_path, 1234, 1235)

    firewall.save(tmp_path / "sets")

    status = (tmp_path / "sets").stat()
    assert (status.st_uid, status.st_gid) == (1234, 1235)


@pytest.mark.feature("D4")
def test_rules_that_somebody_saved_find_all_sets_that_they_name(lab, firewall, block, tmp_path):
    firewall.block([block(ATTACKER), block("2001:db8:a::7"), block(ATTACKER, action=Action.LOG)])
    firewall.blocklist("site", parse_netset(["203.0.113.128/25"], Limits()), [Direction.SOURCE])
    rules = tmp_path / "rules.v4", tmp_path / "rules.v6"
    for path, program in zip(rules, ("iptables", "ip6tables")):
        path.write_text(lab.run(f"{program}-save"))
    firewall.remove_blocklist("site")
    firewall.save(tmp_path / "sets")
    firewall.remove()

    firewall.restore_sets(tmp_path / "sets", [*rules, tmp_path / "missing"])

    for path, program in zip(rules, ("iptables", "ip6tables")):
        lab.run(f"{program}-restore {path}")
    assert not lab.arrives(ATTACKER, HOST)
    assert lab.arrives("203.0.113.129", HOST)
    assert not firewall.ensure().warnings


@pytest.mark.feature("S6")
@pytest.mark.parametrize("role", [True, False], ids=["beside the role", "without the role"])
def test_rules_of_any_chain_of_ours_find_their_sets_at_boot(lab, firewall, block, tmp_path, role):
    other = lab.firewall(chain="OTHER")
    other.block([block(ATTACKER), block("2001:db8:a::7", action=Action.RATE_LIMIT)])
    other.blocklist("site", parse_netset(["203.0.113.128/25"], Limits()), [Direction.SOURCE])
    if role:
        firewall.block([block(ATTACKER)])
        firewall.save(tmp_path / "sets")
    rules = tmp_path / "rules.v4", tmp_path / "rules.v6"
    for path, program in zip(rules, ("iptables", "ip6tables")):
        lab.run(f"{program} -A INPUT -p udp --dport 9 -j ACCEPT")
        path.write_text(lab.run(f"{program}-save"))
    for each in (firewall, other):
        each.remove()

    if role:
        firewall.restore_sets(tmp_path / "sets", rules)
    else:
        with pytest.raises(FirewallError, match="nothing was saved yet"):
            firewall.restore_sets(tmp_path / "sets", rules)

    for path, program in zip(rules, ("iptables", "ip6tables")):
        lab.run(f"{program}-restore {path}")
        assert "--dport 9 -j ACCEPT" in lab.run(f"{program} -S INPUT")
    assert lab.arrives(ATTACKER, HOST) != role
    assert other.ensure().changed is False or not role


@pytest.mark.feature("S6")
def test_sets_of_others_that_look_like_ours_are_not_made(lab, firewall, tmp_path):
    rules = tmp_path / "rules.v4"
    rules.write_text("*filter\n-A INPUT -m set --match-set web-allow4 src -j ACCEPT\nCOMMIT\n")
    with pytest.raises(FirewallError, match="nothing was saved yet"):
        firewall.restore_sets(tmp_path / "sets", [rules])
    assert lab.run("ipset list -n") == ""


def test_sets_are_saved_while_somebody_holds_the_lock(lab, firewall, block, tmp_path):
    firewall.block([block(ATTACKER)])
    path = tmp_path / "saved" / "sets"
    path.parent.mkdir()
    other = lab.firewall()

    with other._lock:
        assert firewall.save(path) >= 1

    assert [each.name for each in path.parent.iterdir()] == ["sets"]
    firewall.flush()
    assert lab.arrives(ATTACKER, HOST)
    firewall.restore_sets(path)
    firewall.ensure()
    assert not lab.arrives(ATTACKER, HOST)
    assert firewall.holds(block(ATTACKER))
    assert not firewall.holds(block("203.0.113.8"))
    assert not firewall.holds(block(ATTACKER, action=Action.REJECT))
