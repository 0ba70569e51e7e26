# SPDX-License-Identifier: GPL-3.0-or-later
"""Reject, rate limit and log, as the kernel carries them out."""

from __future__ import annotations

import re
import socket
import struct
from contextlib import suppress

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Direction, valid_rate
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import KernelError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem

HOST = {"ipv4": "198.51.100.1", "ipv6": "2001:db8:1::1"}
SERVER = {"ipv4": "198.51.100.130", "ipv6": "2001:db8:2::2"}
ATTACKER = {"ipv4": "203.0.113.7", "ipv6": "2001:db8:a::7"}
NEIGHBOUR = {"ipv4": "203.0.113.8", "ipv6": "2001:db8:a::8"}
ON_LINK = {"ipv4": "198.51.100.3", "ipv6": "2001:db8:1::3"}
BOTH_FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
TARGETS = pytest.mark.parametrize("directions", [(Direction.SOURCE,), tuple(Direction)], ids=["source", "both"])


def test_udp_to_a_closed_way_is_silence_where_nothing_rejects(lab, firewall, block):
    """The yardstick of the tests below: without reject nobody hears anything."""
    assert not unreachable(lab, ATTACKER["ipv4"], HOST["ipv4"])
    firewall.block([block(ATTACKER["ipv4"])])
    assert not unreachable(lab, ATTACKER["ipv4"], HOST["ipv4"])


@pytest.mark.feature("C2")
@TARGETS
@BOTH_FAMILIES
def test_reject_answers_tcp_with_a_reset_and_udp_with_icmp(lab, firewall, block, family, directions):
    attacker = ATTACKER[family]
    assert lab.connects(attacker, HOST[family]) == "connected"

    firewall.block([block(attacker, action=Action.REJECT, direction=direction) for direction in directions])

    for destination in (HOST[family], SERVER[family]):
        assert lab.connects(attacker, destination) == "refused"
        assert unreachable(lab, attacker, destination)
        assert not lab.arrives(attacker, destination)
        assert lab.connects(NEIGHBOUR[family], destination) == "connected"
    assert not lab.pings(attacker, HOST[family])


@pytest.mark.feature("C2")
@BOTH_FAMILIES
def test_reject_of_a_source_answers_beside_a_drop_of_the_destination(lab, firewall, block, family):
    attacker = ATTACKER[family]

    firewall.block([block(attacker, action=Action.REJECT), block(attacker, direction=Direction.DESTINATION)])

    assert lab.connects(attacker, HOST[family]) == "refused"
    assert unreachable(lab, attacker, HOST[family])
    assert not lab.arrives(HOST[family], attacker)


@pytest.mark.feature("C2", "C8")
@pytest.mark.parametrize("source_action", [Action.DROP, Action.REJECT])
@pytest.mark.parametrize(
    ("protocol", "packet"),
    [
        pytest.param(socket.IPPROTO_TCP, struct.pack("!HHIIBBHHH", 1234, 80, 1, 0, 5 << 4, 0x04, 100, 0, 0), id="rst"),
        pytest.param(socket.IPPROTO_ICMP, struct.pack("!BBHI", 3, 3, 0xFCFC, 0), id="port unreachable"),
    ],
)
def test_no_packet_of_a_blocked_address_passes_for_an_answer_of_reject(
    lab, firewall, block, source_action, protocol, packet
):
    attacker, host = ATTACKER["ipv4"], HOST["ipv4"]
    listener = lab.open(host, kind=socket.SOCK_RAW, protocol=protocol)
    sender = lab.open(attacker, kind=socket.SOCK_RAW, protocol=protocol)

    def arrives() -> bool:
        sender.sendto(packet, (host, 0))
        lab.settle(attacker, host)
        heard = []
        with suppress(BlockingIOError):
            while True:
                heard.append(listener.recv(2048))
        return any(each[12:16] == socket.inet_aton(attacker) for each in heard)

    listener.setblocking(False)
    assert arrives()
    firewall.block(
        [
            block(attacker, action=source_action),
            block(attacker, action=Action.REJECT, direction=Direction.DESTINATION),
        ]
    )
    assert not arrives()


@pytest.mark.feature("C2", "C8")
@BOTH_FAMILIES
def test_our_own_resets_and_errors_do_not_reach_a_dropped_destination_that_is_rejected_as_a_source(
    lab, firewall, block, family
):
    attacker, host = ATTACKER[family], HOST[family]
    tcp = struct.pack("!HHIIBBHHH", 80, 1234, 1, 0, 5 << 4, 0x04, 100, 0, 0)
    icmp = struct.pack("!BBHI", *((3, 3, 0xFCFC, 0) if family == "ipv4" else (1, 4, 0, 0)))
    protocols = {socket.IPPROTO_TCP: tcp}
    protocols[socket.IPPROTO_ICMP if family == "ipv4" else socket.IPPROTO_ICMPV6] = icmp
    listeners = {each: lab.open(attacker, kind=socket.SOCK_RAW, protocol=each) for each in protocols}
    senders = {each: lab.open(host, kind=socket.SOCK_RAW, protocol=each) for each in protocols}

    def arrive() -> int:
        for protocol, packet in protocols.items():
            with suppress(PermissionError):
                senders[protocol].sendto(packet, (attacker, 0))
        lab.settle(host, attacker)
        icmpv6 = listeners.pop(socket.IPPROTO_ICMPV6, None)  # it hears neighbours, too
        found = sum(drained(listener) for listener in listeners.values())
        if icmpv6 is not None:
            listeners[socket.IPPROTO_ICMPV6] = icmpv6
            found += drained(icmpv6, first=1)
        return found

    assert arrive() == 2
    firewall.block([block(attacker, action=Action.REJECT), block(attacker, direction=Direction.DESTINATION)])
    assert arrive() == 0
    assert lab.connects(attacker, host) == "refused"


@pytest.mark.feature("C2", "C8")
@pytest.mark.parametrize(
    ("action", "direction", "answered"),
    [
        (None, Direction.SOURCE, True),
        (Action.DROP, Direction.SOURCE, False),
        (Action.DROP, Direction.DESTINATION, False),
        (Action.REJECT, Direction.SOURCE, True),
        (Action.REJECT, Direction.DESTINATION, True),
    ],
)
def test_only_hosts_that_are_rejected_may_discover_us(lab, firewall, block, action, direction, answered):
    """What another host's reject needs of neighbour discovery is not let through from one that is dropped."""
    source, host = ON_LINK["ipv6"], HOST["ipv6"]
    firewall.block([block(ATTACKER["ipv6"], action=Action.REJECT, direction=each) for each in Direction])
    if action is not None:
        firewall.block([block(source, action=action, direction=direction)])
    asker = lab.open(source, kind=socket.SOCK_RAW, protocol=socket.IPPROTO_ICMPV6)
    asker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)

    asker.sendto(struct.pack("!BBHI", 135, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, host), (host, 0))
    lab.settle(source, host)
    lab.settle(host, source)

    assert bool(drained(asker, first=136)) == answered


def drained(listener: socket.socket, first: int | None = None) -> int:
    """How many packets wait at a socket, or those whose first byte is that; takes them."""
    listener.setblocking(False)
    found = 0
    with suppress(BlockingIOError):
        while True:
            packet = listener.recv(2048)
            found += first is None or packet[0] == first
    return found


@pytest.mark.feature("C2")
@BOTH_FAMILIES
def test_reject_of_a_destination_tells_the_host_itself_and_those_behind_it(lab, firewall, block, family):
    firewall.block([block(ATTACKER[family], action=Action.REJECT, direction=Direction.DESTINATION)])

    for source in (HOST[family], SERVER[family]):
        assert lab.connects(source, ATTACKER[family]) == "refused"
        assert lab.connects(source, NEIGHBOUR[family]) == "connected"
        assert not lab.arrives(source, ATTACKER[family])


@pytest.mark.feature("C2")
@TARGETS
@BOTH_FAMILIES
def test_reject_answers_a_host_on_the_link_that_nobody_knows_yet(lab, firewall, block, family, directions):
    firewall.block([block(ON_LINK[family], action=Action.REJECT, direction=direction) for direction in directions])

    assert lab.connects(ON_LINK[family], HOST[family]) == "refused"


@pytest.mark.feature("C3")
@BOTH_FAMILIES
def test_a_rate_limit_passes_its_burst_and_no_more(lab, firewall, block, family):
    limit = block(ATTACKER[family], action=Action.RATE_LIMIT, rate="10/minute", burst=5)
    firewall.block([limit])

    assert lab.count(ATTACKER[family], HOST[family], 20) == 5
    assert lab.count(ATTACKER[family], HOST[family], 20) == 0
    assert lab.count(NEIGHBOUR[family], HOST[family], 20) == 20

    firewall.unblock([limit.network])
    assert lab.count(ATTACKER[family], HOST[family], 20) == 20


@pytest.mark.feature("C3")
@BOTH_FAMILIES
def test_a_rate_limit_of_a_destination_holds_for_what_is_sent_to_it(lab, firewall, block, family):
    limit = block(
        ATTACKER[family], action=Action.RATE_LIMIT, rate="10/minute", burst=3, direction=Direction.DESTINATION
    )
    firewall.block([limit])

    assert lab.count(HOST[family], ATTACKER[family], 10) == 3
    assert lab.count(ATTACKER[family], HOST[family], 10) == 10


@pytest.mark.feature("C3")
@pytest.mark.parametrize(
    ("network", "first", "second", "shared"),
    [
        ("203.0.113.0/24", "203.0.113.7", "203.0.113.8", False),
        ("2001:db8:a::/48", "2001:db8:a::7", "2001:db8:a::8", True),
        ("2001:db8:a::/48", "2001:db8:a:1::7", "2001:db8:a:2::7", False),
    ],
)
def test_packets_are_counted_by_address_and_in_ipv6_by_its_64(lab, firewall, block, network, first, second, shared):
    host = HOST[parse_network(network).family]
    firewall.block([block(network, action=Action.RATE_LIMIT, rate="1/minute", burst=4)])

    assert lab.count(first, host, 10) == 4
    assert lab.count(second, host, 10) == (0 if shared else 4)


@pytest.mark.feature("C3")
def test_a_changed_burst_and_a_changed_rate_are_followed(lab, firewall, block):
    attacker, host = ATTACKER["ipv4"], HOST["ipv4"]
    limit = block(attacker, action=Action.RATE_LIMIT, rate="10/minute", burst=5)
    firewall.block([limit])
    assert lab.count(attacker, host, 20) == 5

    for burst in (9, 2):
        result = firewall.block([limit._replace(burst=burst)])
        assert [entry.block.burst for entry in result.extended] == [burst]
        assert lab.count(attacker, host, 20) == burst
        assert lab.count(attacker, host, 20) == 0

    firewall.block([limit._replace(rate="50/second", burst=2)])
    lab.count(attacker, host, 20)
    lab.wait_until(lambda: lab.count(attacker, host, 1), seconds=4)  # at ten a minute it would take six seconds
    assert len(firewall.info().entries()) == 1


@pytest.mark.feature("C3")
@pytest.mark.feature("C3")
@pytest.mark.parametrize(
    ("rate", "burst"),
    [("1/day", 1), ("5/day", 5), ("1/hour", 24), ("10000/day", 10000), ("1/second", 10000), ("10000/second", 10000)],
)
def test_the_largest_burst_of_a_rate_passes_and_no_more(lab, firewall, block, rate, burst):
    addresses = [ATTACKER["ipv4"], ATTACKER["ipv6"]]
    firewall.block([block(a, action=Action.RATE_LIMIT, rate=valid_rate(rate), burst=burst) for a in addresses])

    assert not firewall.ensure().changed
    assert lab.count(ATTACKER["ipv4"], HOST["ipv4"], 50) == min(burst, 50)


def test_a_rule_that_the_kernel_refuses_leaves_nothing_and_stops_nothing_else(lab, firewall, block):
    firewall.ensure()
    before = lab.kernel()

    with pytest.raises(KernelError, match="iptables could not change the rules"):
        firewall.block([block(ATTACKER["ipv4"], action=Action.RATE_LIMIT, rate="1/day", burst=2)])

    assert lab.kernel() == before
    firewall.block([block(ATTACKER["ipv4"])])
    assert not lab.arrives(ATTACKER["ipv4"], HOST["ipv4"])


def test_two_rates_hold_side_by_side(lab, firewall, block):
    firewall.block(
        [
            block(ATTACKER["ipv4"], action=Action.RATE_LIMIT, rate="10/minute", burst=5),
            block(NEIGHBOUR["ipv4"], action=Action.RATE_LIMIT, rate="10/minute", burst=7),
        ]
    )

    assert lab.count(ATTACKER["ipv4"], HOST["ipv4"], 20) == 5
    assert lab.count(NEIGHBOUR["ipv4"], HOST["ipv4"], 20) == 7


@pytest.mark.feature("C3")
@BOTH_FAMILIES
def test_a_log_rule_counts_its_packets_and_no_others(lab, firewall, block, family):
    firewall.block(
        [
            block(ATTACKER[family], action=Action.LOG, log_prefix="First: "),
            block(NEIGHBOUR[family], action=Action.LOG, log_prefix="Second: "),
        ]
    )

    assert lab.count(ATTACKER[family], HOST[family], 3) == 3
    assert lab.count(NEIGHBOUR[family], HOST[family], 2) == 2

    assert logged(lab, family) == {"First: ": 3, "Second: ": 2}


@pytest.mark.feature("C3")
def test_logging_a_destination_counts_what_is_sent_to_it(lab, firewall, block):
    firewall.block([block(ATTACKER["ipv4"], action=Action.LOG, direction=Direction.DESTINATION)])

    lab.count(HOST["ipv4"], ATTACKER["ipv4"], 3)
    lab.count(ATTACKER["ipv4"], HOST["ipv4"], 5)

    assert logged(lab, "ipv4") == {"NGFW: ": 3}


@pytest.mark.feature("C3")
def test_a_flood_is_logged_at_most_ten_times_a_second(lab, firewall, block):
    firewall.block([block(ATTACKER["ipv4"], action=Action.LOG)])

    assert lab.count(ATTACKER["ipv4"], HOST["ipv4"], 100) == 100

    assert 20 <= logged(lab, "ipv4")["NGFW: "] < 60


@pytest.mark.feature("C3", "C6")
def test_what_is_blocked_is_logged_first(lab, firewall, block):
    firewall.block([block(ATTACKER["ipv4"]), block(ATTACKER["ipv4"], action=Action.LOG)])

    assert lab.count(ATTACKER["ipv4"], HOST["ipv4"], 3) == 0

    assert logged(lab, "ipv4") == {"NGFW: ": 3}


@pytest.mark.feature("C6")
def test_all_actions_on_one_address_are_in_force_until_each_is_lifted(lab, firewall, block):
    attacker, host = ATTACKER["ipv4"], HOST["ipv4"]
    firewall.block([block(attacker, action=action, rate="10/minute", burst=4) for action in Action])
    assert lab.connects(attacker, host) == "refused"  # reject comes before drop
    assert logged(lab, "ipv4")["NGFW: "] >= 1

    firewall.unblock([parse_network(attacker)], action=Action.REJECT)
    assert lab.connects(attacker, host) == "silence"

    firewall.unblock([parse_network(attacker)], action=Action.DROP)
    lab.count(attacker, host, 20)
    assert not lab.arrives(attacker, host)  # the rate is used up

    firewall.unblock([parse_network(attacker)], action=Action.RATE_LIMIT)
    assert lab.count(attacker, host, 20) == 20

    firewall.unblock([parse_network(attacker)])
    before = logged(lab, "ipv4")
    assert lab.connects(attacker, host) == "connected"
    assert logged(lab, "ipv4") == before


@pytest.mark.feature("C4")
@pytest.mark.parametrize("action", list(Action))
@BOTH_FAMILIES
def test_the_whitelist_wins_over_every_action(lab, firewall, block, family, action):
    attacker, host = ATTACKER[family], HOST[family]
    network = {"ipv4": "203.0.113.0/24", "ipv6": "2001:db8:a::/48"}[family]
    firewall.whitelist([WhitelistItem(parse_network(attacker))])
    firewall.block([block(network, action=action, direction=d, rate="1/hour", burst=1) for d in Direction])

    assert lab.count(attacker, host, 5) == 5
    assert lab.count(host, attacker, 5) == 5
    assert lab.connects(attacker, host) == "connected"
    if action is Action.LOG:
        assert set(logged(lab, family).values()) == {0}


def unreachable(lab, source, destination):
    """Whether a UDP packet is answered with an ICMP error."""
    client = lab.open(source)
    client.connect(lab.endpoint(destination).getsockname())
    client.send(b"probe")
    lab.settle(source, destination)
    client.setblocking(False)
    try:
        client.recv(64)
    except ConnectionRefusedError:
        return True
    except BlockingIOError:
        return False
    finally:
        client.close()
        lab.drain(destination)
    raise AssertionError("an answer where none is expected")


def logged(lab, family):
    """The packets that each LOG rule has counted, by prefix."""
    program = "iptables-save" if family == "ipv4" else "ip6tables-save"
    rules = re.findall(r'^\[(\d+):\d+\] -A NGFW .*-j LOG --log-prefix "(.*)"', lab.run(f"{program} -c -t filter"), re.M)
    found: dict[str, int] = {}
    for packets, prefix in rules:
        found[prefix] = found.get(prefix, 0) + int(packets)
    return found
