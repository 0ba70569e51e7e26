# SPDX-License-Identifier: GPL-3.0-or-later
"""What a blocked address can still send and get."""

from __future__ import annotations

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Direction
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem

SOURCE, DESTINATION = Direction.SOURCE, Direction.DESTINATION
HOST = {"ipv4": "198.51.100.1", "ipv6": "2001:db8:1::1"}
SERVER = {"ipv4": "198.51.100.130", "ipv6": "2001:db8:2::2"}
ATTACKER = {"ipv4": "203.0.113.7", "ipv6": "2001:db8:a::7"}
NEIGHBOUR = {"ipv4": "203.0.113.8", "ipv6": "2001:db8:a::8"}
BOTH_FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])


@pytest.mark.feature("C2", "C8")
@BOTH_FAMILIES
def test_a_blocked_host_gets_nothing_through(lab, firewall, block, family):
    attacker, neighbour, host = ATTACKER[family], NEIGHBOUR[family], HOST[family]
    assert lab.arrives(attacker, host)
    assert lab.pings(attacker, host)
    assert lab.connects(attacker, host) == "connected"

    firewall.block([block(attacker)])

    assert not lab.arrives(attacker, host)
    assert not lab.pings(attacker, host)
    assert lab.connects(attacker, host) == "silence"
    assert lab.arrives(neighbour, host)
    assert lab.pings(neighbour, host)
    assert lab.connects(neighbour, host) == "connected"

    firewall.unblock([block(attacker).network])

    assert lab.arrives(attacker, host)


@pytest.mark.feature("C2")
@BOTH_FAMILIES
def test_a_blocked_source_does_not_pass_through_the_host(lab, firewall, block, family):
    assert lab.connects(ATTACKER[family], SERVER[family]) == "connected"

    firewall.block([block(ATTACKER[family])])

    assert not lab.arrives(ATTACKER[family], SERVER[family])
    assert lab.connects(ATTACKER[family], SERVER[family]) == "silence"
    assert lab.connects(NEIGHBOUR[family], SERVER[family]) == "connected"


@pytest.mark.feature("C9")
@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("203.0.113.64/27", ["203.0.113.64", "203.0.113.77", "203.0.113.95"], ["203.0.113.63", "203.0.113.96"]),
        ("203.0.113.8/31", ["203.0.113.8", "203.0.113.9"], ["203.0.113.7", "203.0.113.10"]),
        ("203.0.113.99/8", ["203.0.113.1", "203.0.113.254"], ["192.0.2.1"]),
        (
            "2001:db8:a:7::1234/64",
            ["2001:db8:a:7::", "2001:db8:a:7::99", "2001:db8:a:7:ffff:ffff:ffff:ffff"],
            ["2001:db8:a:6:ffff:ffff:ffff:ffff", "2001:db8:a:8::"],
        ),
        ("2001:db8:a::4/127", ["2001:db8:a::4", "2001:db8:a::5"], ["2001:db8:a::3", "2001:db8:a::6"]),
    ],
)
def test_a_network_is_blocked_to_its_edges(lab, firewall, block, network, inside, outside):
    firewall.block([block(network)])

    host = HOST[parse_network(network).family]
    assert [address for address in inside if lab.arrives(address, host)] == []
    assert [address for address in outside if not lab.arrives(address, host)] == []


def test_networks_of_many_lengths_are_blocked_at_once(lab, firewall, block):
    lengths = {128: 26, 192: 27, 224: 28, 240: 29, 248: 30, 252: 31, 254: 32}
    firewall.block([block(f"203.0.113.{first}/{length}") for first, length in lengths.items()])

    passing = [last for last in range(124, 256) if lab.arrives(f"203.0.113.{last}", HOST["ipv4"])]

    assert passing == [124, 125, 126, 127, 255]


@pytest.mark.feature("C2")
@BOTH_FAMILIES
def test_a_blocked_destination_is_not_reached_by_the_host(lab, firewall, block, family):
    attacker, host = ATTACKER[family], HOST[family]
    assert lab.arrives(host, attacker)

    firewall.block([block(attacker, direction=DESTINATION)])

    assert not lab.arrives(host, attacker)
    assert lab.connects(host, attacker) == "silence"
    assert lab.arrives(host, NEIGHBOUR[family])
    assert lab.arrives(attacker, host)  # as a source it is not blocked


@pytest.mark.feature("C2")
@BOTH_FAMILIES
def test_a_blocked_destination_is_not_reached_through_the_host(lab, firewall, block, family):
    assert lab.arrives(SERVER[family], ATTACKER[family])
    assert lab.arrives(ATTACKER[family], SERVER[family])

    firewall.block([block(ATTACKER[family], direction=DESTINATION), block(SERVER[family], direction=DESTINATION)])

    assert not lab.arrives(SERVER[family], ATTACKER[family])
    assert not lab.arrives(ATTACKER[family], SERVER[family])
    assert not lab.arrives(HOST[family], SERVER[family])
    assert lab.arrives(SERVER[family], NEIGHBOUR[family])
    assert lab.arrives(SERVER[family], HOST[family])


@pytest.mark.feature("C8")
@BOTH_FAMILIES
def test_what_is_sent_to_a_blocked_source_stops_only_with_destination_or_both(lab, firewall, block, family):
    attacker, host = ATTACKER[family], HOST[family]

    firewall.block([block(attacker)])
    assert lab.arrives(host, attacker)

    firewall.block([block(attacker, direction=direction) for direction in Direction])
    assert not lab.arrives(host, attacker)
    assert not lab.arrives(attacker, host)


@pytest.mark.feature("C8")
@pytest.mark.parametrize("target", ["HOST", "SERVER"])
@BOTH_FAMILIES
def test_a_live_connection_stops_at_once(lab, firewall, block, family, target):
    attacker, destination = ATTACKER[family], globals()[target][family]
    client = lab.connecting(attacker, destination)
    served, _peer = lab.listener(destination).accept()
    served.settimeout(3)
    client.send(b"before")
    assert served.recv(64) == b"before"

    firewall.block([block(attacker)])
    client.send(b"after")
    lab.settle(attacker, destination)
    served.setblocking(False)
    with pytest.raises(BlockingIOError):
        served.recv(64)

    firewall.flush()
    served.settimeout(3)
    assert served.recv(64) == b"after"  # sent again by the client's kernel: the connection had been alive all the time
    client.close()
    served.close()


@pytest.mark.feature("C4")
@pytest.mark.parametrize("whitelist_first", [True, False])
@pytest.mark.parametrize(
    ("blocked", "allowed", "stranger"),
    [
        ("203.0.0.0/8", "203.0.113.7", "203.0.113.8"),
        ("203.0.113.0/24", "203.0.113.0/29", "203.0.113.8"),
        ("2001:db8:a::/48", "2001:db8:a::7", "2001:db8:a::8"),
    ],
)
def test_a_whitelisted_address_passes_inside_a_blocked_network(
    lab, firewall, block, blocked, allowed, stranger, whitelist_first
):
    family = parse_network(blocked).family
    allow = [WhitelistItem(parse_network(allowed))]
    blocks = [block(blocked, direction=direction) for direction in Direction]
    if whitelist_first:
        firewall.whitelist(allow)
    firewall.block(blocks)
    if not whitelist_first:
        firewall.whitelist(allow)

    friend = ATTACKER[family]
    assert lab.arrives(friend, HOST[family])
    assert lab.arrives(HOST[family], friend)
    assert lab.connects(friend, SERVER[family]) == "connected"
    assert lab.arrives(SERVER[family], friend)
    assert not lab.arrives(stranger, HOST[family])
    assert not lab.arrives(HOST[family], stranger)
    assert not lab.arrives(stranger, SERVER[family])

    firewall.whitelist(allow, state="absent")
    assert not lab.arrives(friend, HOST[family])


@pytest.mark.feature("C4")
@BOTH_FAMILIES
def test_an_address_that_is_whitelisted_cannot_be_blocked_and_one_that_is_blocked_is_freed(
    lab, firewall, block, family
):
    attacker, host = ATTACKER[family], HOST[family]
    firewall.block([block(attacker), block(attacker, direction=DESTINATION), block(NEIGHBOUR[family])])

    lifted = firewall.whitelist([WhitelistItem(parse_network(attacker))])
    refused = firewall.block([block(attacker)])

    assert len(lifted.unblocked) == 2
    assert [refusal.address for refusal in refused.refused] == [attacker]
    assert "whitelisted" in refused.refused[0].reason
    assert lab.arrives(attacker, host)
    assert lab.arrives(host, attacker)
    assert not lab.arrives(NEIGHBOUR[family], host)


@pytest.mark.feature("S4", "C4")
@pytest.mark.parametrize(
    ("network", "halves", "inside", "host"),
    [
        ("203.0.113.0/24", ("203.0.113.0/25", "203.0.113.128/26", "203.0.113.192/26"), "203.0.113.7", HOST["ipv4"]),
        ("2001:db8:a::/64", ("2001:db8:a::/65", "2001:db8:a:0:8000::/65"), "2001:db8:a::7", HOST["ipv6"]),
    ],
)
def test_a_network_inside_several_whitelisted_ones_together_is_freed_and_refused(
    lab, firewall, block, network, halves, inside, host
):
    firewall.block([block(network)])
    assert not lab.arrives(inside, host)

    firewall.whitelist([WhitelistItem(parse_network(half)) for half in halves[:-1]])
    assert [entry.block.network for entry in firewall.entries()] == [parse_network(network)]
    lifted = firewall.whitelist([WhitelistItem(parse_network(halves[-1]))])

    assert [str(entry.block.network) for entry in lifted.unblocked] == [network]
    refused = firewall.block([block(network)]).refused
    assert [str(each.reason) for each in refused] == [f"whitelisted: {network} (by several entries together)"]
    assert lab.arrives(inside, host)


@pytest.mark.feature("S4")
def test_everybody_is_blocked_neither_at_once_nor_in_portions_unless_that_is_meant(lab, firewall, block):
    with pytest.raises(InvalidInput, match="allow_wide"):
        firewall.block([block("0.0.0.0/1"), block("128.0.0.0/1")])
    firewall.block([block("16.0.0.0/4"), block("64.0.0.0/5")])
    with pytest.raises(InvalidInput, match="16% of all IPv4 addresses, with what is blocked already"):
        firewall.block([block("32.0.0.0/5"), block("200.0.0.0/5")])
    firewall.block([block("32.0.0.0/4", direction=DESTINATION)])
    assert lab.arrives("203.0.113.7", HOST["ipv4"])

    firewall.block([block("32.0.0.0/5"), block("200.0.0.0/5")], allow_wide=True)
    assert not lab.arrives("203.0.113.7", HOST["ipv4"])
    assert firewall.block([block("48.0.0.0/8")]).blocked


@pytest.mark.feature("C4")
def test_the_guard_speaks_of_the_side_of_the_block(lab, firewall, block):
    firewall.whitelist([WhitelistItem(parse_network(ATTACKER["ipv4"]))])
    firewall.block([block(SERVER["ipv4"], direction=DESTINATION)])

    assert not lab.arrives(ATTACKER["ipv4"], SERVER["ipv4"])


@pytest.mark.feature("C4")
@pytest.mark.parametrize("text", ["::ffff:203.0.113.7", "203.0.113.7/32", "::ffff:cb00:7107/128"])
def test_the_form_of_an_address_does_not_matter(lab, firewall, block, text):
    firewall.block([block(text)])
    assert not lab.arrives("203.0.113.7", HOST["ipv4"])

    firewall.whitelist([WhitelistItem(parse_network(text))])
    assert lab.arrives("203.0.113.7", HOST["ipv4"])


@pytest.mark.feature("C5")
def test_a_network_around_the_host_cuts_off_neither_it_nor_its_gateway(lab, firewall, block):
    result = firewall.block(
        [block(network, direction=d) for network in ("198.51.100.0/24", "2001:db8:1::/64") for d in Direction]
    )

    assert len(result.blocked) == 4
    for host, gateway, neighbour in (
        ("198.51.100.1", "198.51.100.2", "198.51.100.3"),
        ("2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::3"),
    ):
        family = parse_network(host).family
        assert lab.arrives(host, ATTACKER[family])
        assert lab.arrives(ATTACKER[family], host)
        assert lab.arrives(gateway, host)
        assert lab.arrives(host, gateway)
        assert lab.connects(host, gateway) == "connected"
        assert not lab.arrives(neighbour, host)
        assert not lab.arrives(host, neighbour)


@pytest.mark.feature("C5")
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("198.51.100.1", "own address"),
        ("198.51.100.129", "own address"),
        ("2001:db8:2::1", "own address"),
        ("198.51.100.2", "default gateway"),
        ("2001:db8:1::2", "default gateway"),
        ("127.0.0.0/8", "loopback"),
        ("127.1.2.3", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("255.255.255.255", "limited broadcast"),
        ("224.0.0.251", "multicast"),
        ("ff02::1", "multicast"),
        ("169.254.10.0/24", "link-local"),
        ("fe80::1", "link-local"),
    ],
)
def test_protected_addresses_are_refused_with_the_reason(lab, firewall, block, address, reason):
    firewall.ensure()
    before = lab.kernel()

    result = firewall.block([block(address)])

    assert [refusal.address for refusal in result.refused] == [address]
    assert result.refused[0].reason.startswith("protected: ")
    assert reason in result.refused[0].reason
    assert not result.changed
    assert lab.kernel() == before


@pytest.mark.feature("C5")
def test_a_new_address_of_the_host_is_protected_and_an_old_one_no_longer(lab, firewall, block):
    firewall.block([block("203.0.113.0/24")])
    lab.nodes["host"].ip("address add 203.0.113.1/32 dev lo")
    firewall.ensure()
    assert "add NGFW-own4 203.0.113.1 " in lab.sets() + " "
    assert firewall.block([block("203.0.113.1")]).refused

    lab.nodes["host"].ip("address del 203.0.113.1/32 dev lo")
    assert not firewall.ensure().changed

    assert "add NGFW-own4 203.0.113.1 " not in lab.sets() + " "
    assert firewall.block([block("203.0.113.1")]).blocked


@pytest.mark.feature("C5")
def test_an_address_that_the_host_gave_up_is_blocked_by_the_first_task_that_asks(lab, firewall, block):
    lab.nodes["host"].ip("address add 203.0.113.1/32 dev lo")
    firewall.ensure()
    lab.nodes["host"].ip("address del 203.0.113.1/32 dev lo")

    assert firewall.block([block("203.0.113.1")], on_protected="fail", dry_run=True).blocked
    assert firewall.block([block("203.0.113.1")], on_protected="fail").blocked

    assert "add NGFW-own4 203.0.113.1 " not in lab.sets() + " "
