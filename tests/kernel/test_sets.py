# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets and entries through netlink, as `ipset` itself then shows them."""

from __future__ import annotations

import re
import socket
import time

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import ipset
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import Network, parse_network, to_key
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import KernelError, SetMissing
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.ipset import IpSets
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netlink import NETFILTER

NETWORKS = [
    parse_network(text)
    for text in ("203.0.113.7", "203.0.113.128/25", "128.0.0.0/1", "192.0.2.0/31", "255.255.255.255", "0.0.0.0")
]
NETWORKS6 = [
    parse_network(text) for text in ("2001:db8::7", "2001:db8::/64", "8000::/1", "2001:db8:ffff::/127", "::", "::1")
]


pytestmark = pytest.mark.parametrize("tools", ["nft"], indirect=True)  # no rules here


@pytest.fixture
def sets(lab):
    opened = IpSets()
    yield opened
    opened.close()


@pytest.mark.parametrize(("family", "networks"), [("ipv4", NETWORKS), ("ipv6", NETWORKS6)])
def test_entries_are_read_as_they_were_written_and_ipset_agrees(lab, sets, family, networks):
    sets.create("test", family)
    wanted = [
        (network, timeout, comment)
        for network, timeout, comment in zip(
            networks, (0, 60, 2147483, 61, 600, 0), ("", "a\tb", "ü" * 127, "'", "x", "\v")
        )
    ]

    assert sets.add("test", wanted) == []

    found = {entry.network: entry for entry in sets.entries("test")}
    assert set(found) == set(networks)
    for network, timeout, comment in wanted:
        entry = found[network]
        assert entry.comment == comment
        assert timeout - 50 <= entry.timeout <= timeout
        assert (entry.packets, entry.bytes) == (0, 0)
    listed = {line.split()[2] for line in lab.run("ipset save test").splitlines() if line.startswith("add")}
    assert listed == {str(network) for network in networks}
    for network in networks:
        lab.run(f"ipset test test {network}")


def test_a_comment_of_255_bytes_fits_and_one_more_is_refused(sets):
    sets.create("test", "ipv4")

    sets.add("test", [(NETWORKS[0], 0, "x" * 255)])
    assert sets.entries("test")[0].comment == "x" * 255
    with pytest.raises(KernelError):
        sets.add("test", [(NETWORKS[1], 0, "x" * 256)])


def test_many_entries_take_many_messages(sets):
    sets.create("test", "ipv4")
    networks = [parse_network(f"203.{second}.{third}.7") for second in range(8) for third in range(256)]

    sets.add("test", [(network, 0, f"number {network}") for network in networks])

    entries = {entry.network: entry.comment for entry in sets.entries("test")}
    assert entries == {network: f"number {network}" for network in networks}
    assert 0 < len(sets.first_entries("test")) < len(networks)
    assert sets.headers()["test"].elements == len(networks)

    sets.delete("test", [*networks[:1000], parse_network("192.0.2.1"), *networks[500:1500]])  # some twice, some unknown
    assert {entry.network for entry in sets.entries("test")} == set(networks[1500:])


def test_entries_are_added_only_if_they_are_absent(sets):
    sets.create("test", "ipv4")
    networks = [Network((0xC6120000 + number).to_bytes(4, "big"), 32) for number in range(1000)]

    assert sets.add_absent("test", []) == []
    assert all(sets.add_absent("test", [(network, 600, "one") for network in networks[::3]]))
    added = sets.add_absent("test", [(network, 60, "two") for network in networks])

    assert added == [number % 3 != 0 for number in range(1000)]
    found = {entry.network: (entry.comment, entry.timeout > 60) for entry in sets.entries("test")}
    assert found == {network: ("two", False) if new else ("one", True) for network, new in zip(networks, added)}
    assert sets.matches("test", [networks[0]])[0]  # each question still gets its own answer
    assert not sets.matches("test", [parse_network("192.0.2.1")])[0]


def test_adding_again_sets_time_and_comment_anew_and_keeps_the_counters(lab, firewall, block):
    firewall.block([block("203.0.113.7", duration=60, reason="one")])
    lab.count("203.0.113.7", "198.51.100.1", 2)

    firewall.block([block("203.0.113.7", reason="two")])

    (entry,) = firewall.info().entries()
    assert (entry.block.reason, entry.expires_at, entry.packets) == ("two", None, 2)


def test_what_a_full_set_refuses_is_named_wherever_it_stands(sets, monkeypatch):
    monkeypatch.setattr(ipset, "MAX_ELEMENTS", 600)
    sets.create("test", "ipv4")
    networks = [parse_network(f"203.0.{third}.{last}") for third in range(3) for last in range(250)]

    rejected = sets.add("test", [(network, 0, "") for network in networks])

    inside = {entry.network for entry in sets.entries("test")}
    assert len(inside) >= 600
    assert {entry.network for entry in rejected} == set(networks) - inside
    assert {entry.reason for entry in rejected} == {"the set is full"}


def test_creating_twice_is_no_error_but_another_kind_is(lab, sets):
    sets.create("test", "ipv4")
    sets.add("test", [(NETWORKS[0], 0, "kept")])
    sets.create("test", "ipv4")
    assert sets.entries("test")[0].comment == "kept"

    lab.run("ipset create other hash:ip")
    with pytest.raises(KernelError, match="other: there is one of that name with another type"):
        sets.create("other", "ipv4")


def test_sets_that_are_not_there(sets):
    assert sets.headers() == {}
    for use in (
        lambda: sets.entries("none"),
        lambda: sets.members("none"),
        lambda: sets.add("none", [(NETWORKS[0], 0, "")]),
        lambda: sets.add_absent("none", [(NETWORKS[0], 0, "")]),
        lambda: sets.delete("none", NETWORKS),
    ):
        with pytest.raises(SetMissing, match="the set none: it does not exist any more"):
            use()
    sets.destroy("none")  # what is wanted is the case


def test_a_swap_waits_until_a_listing_has_ended(sets):
    """The kernel refuses to swap a set that somebody lists at that moment."""
    for name in ("one", "two"):
        sets.create(name, "ipv4", plain=True)
    many = {to_key(parse_network(f"203.{second}.{third}.7")) for second in range(8) for third in range(256)}
    sets.fill("one", many)
    listing = IpSets()
    part = listing._listing("one")
    next(part)  # the listing has begun, and holds the set
    waited = []

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(_seconds):
            waited.append(True)
            for _rest in part:
                pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ipset, "time", Clock)
        sets.swap("one", "two")

    assert waited
    assert sets.members("one") == set()
    assert sets.members("two") == many
    listing.close()


def test_a_set_in_use_cannot_be_destroyed(lab, sets, monkeypatch):
    monkeypatch.setattr(ipset, "_BUSY_SECONDS", 0.01)
    sets.create("test", "ipv4")
    lab.run("iptables -A INPUT -m set --match-set test src -j DROP")

    with pytest.raises(KernelError, match="the set test: a rule that is not from here uses it; remove that"):
        sets.destroy("test")

    lab.run("iptables -D INPUT -m set --match-set test src -j DROP")
    monkeypatch.setattr(ipset, "_BUSY_SECONDS", 3)
    sets.destroy("test")
    assert sets.headers() == {}


def test_each_namespace_has_its_own_sets(lab, sets):
    sets.create("test", "ipv4")

    with lab.nodes["outside"]:
        other = IpSets()
        assert other.headers() == {}
        other.close()


def test_answers_of_somebody_elses_sockets_are_not_taken_for_ours(sets):
    """Sequence numbers of this socket only; a second one asks in between."""
    other = IpSets()
    sets.create("test", "ipv4")
    for _round in range(3):
        other.headers()
        assert re.fullmatch("test", next(iter(sets.headers())))
    other.close()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as quiet:
        quiet.bind((0, 0))
        assert list(sets.headers()) == ["test"]


@pytest.mark.parametrize(
    ("family", "inside", "outside"), [("ipv4", "203.0.113.7", "203.0.113.8"), ("ipv6", "2001:db8::7", "2001:db8::8")]
)
def test_what_a_set_matches(sets, family, inside, outside):
    sets.create("test", family)
    sets.add("test", [(parse_network(inside), 0, "")])

    assert sets.matches("test", [parse_network(inside)])[0]
    assert not sets.matches("test", [parse_network(outside)])[0]

    sets.add("test", [(parse_network(outside).widened(24), 0, "")])
    assert sets.matches("test", [parse_network(outside)])[0]
    with pytest.raises(SetMissing):
        sets.matches("missing", [parse_network(inside)])
