# SPDX-License-Identifier: GPL-3.0-or-later
"""Many writers at once, writers that die, writers that may not, and sets that are full."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import ipset
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import Network, parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Direction
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import KernelError, NotPermitted
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.ipset import MAX_ELEMENTS, IpSets

ATTACKER, HOST = "203.0.113.7", "198.51.100.1"
FORK = multiprocessing.get_context("fork")


@pytest.mark.feature("C1")
def test_ten_writers_at_once_lose_nothing_and_double_no_jump(lab, block):
    together = FORK.Barrier(10)

    def write(number):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        firewall = lab.firewall()
        together.wait(60)
        firewall.block([block(f"203.0.{number}.1"), block(f"2001:db8:a:1{number}::/64")])
        firewall.block([block(f"203.0.{number}.2", action=Action.LOG, log_prefix=f"{number} ")])
        firewall.whitelist([WhitelistItem(parse_network(f"203.0.{number}.3"))])
        firewall.unblock([parse_network(f"203.0.{number}.1")])

    writers = [FORK.Process(target=write, args=(number,)) for number in range(10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0] * 10
    firewall = lab.firewall()
    assert sorted(str(entry.block.network) for entry in firewall.entries()) == sorted(
        [f"203.0.{number}.2" for number in range(10)] + [f"2001:db8:a:1{number}::/64" for number in range(10)]
    )
    assert lab.sets().count("add NGFW-allow4 203.0.") == 10
    for program in ("iptables-save", "ip6tables-save"):
        assert len(re.findall(r"^-A (INPUT|FORWARD|OUTPUT) -j NGFW$", lab.run(program), re.M)) == 3
    assert lab.run("iptables-save").count("-j LOG") == 10
    assert not firewall.ensure().changed


def test_a_writer_that_was_killed_blocks_nobody(lab, block):
    """Whatever it had got to, the next one finishes the work."""
    for pause in (0.0, 0.003, 0.006, 0.01, 0.02):
        lab.run("iptables -F")
        writer = os.fork()
        if writer == 0:
            try:
                os.sched_setaffinity(0, range(os.cpu_count() or 1))
                firewall = lab.firewall()
                while True:
                    firewall.remove()
                    firewall.block([block(ATTACKER), block("2001:db8:a::7")])
            finally:
                os._exit(1)
        lab.wait_until(lambda: lab.run_directory.exists() and lab.sets().strip())
        time.sleep(pause)  # another moment of its work each time
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)

        firewall = lab.firewall()
        firewall.block([block(ATTACKER)])

        assert not lab.arrives(ATTACKER, HOST)
        assert not firewall.ensure().changed


def test_a_process_that_stays_sees_what_others_wrote(lab, block):
    staying = lab.firewall(keep_mirror=True)
    staying.block([block(ATTACKER)])
    assert staying.look().standing(block(ATTACKER))

    other = lab.firewall()
    other.flush()
    assert staying.look().standing(block(ATTACKER)) is None
    assert staying.block([block(ATTACKER)]).blocked
    assert not lab.arrives(ATTACKER, HOST)

    other.whitelist([WhitelistItem(parse_network(ATTACKER))])
    assert staying.look().guard(parse_network(ATTACKER)).kind == "whitelisted"
    assert staying.look().guards_near(parse_network("203.0.113.0/24"))
    assert staying.block([block(ATTACKER)]).refused

    other.remove()
    staying.block([block("203.0.113.8")])
    assert not lab.arrives("203.0.113.8", HOST)


def test_a_process_that_stays_agrees_with_the_kernel_after_its_own_writing(lab, block):
    staying = lab.firewall(keep_mirror=True)
    staying.ensure()
    staying.block([block(ATTACKER, duration=600), block("203.0.113.8", action=Action.RATE_LIMIT)])
    staying.block([block(ATTACKER, duration=3600), block("2001:db8:a::7", direction=Direction.DESTINATION)])
    staying.block([block("203.0.113.8", action=Action.RATE_LIMIT, burst=9)])
    staying.whitelist([WhitelistItem(parse_network("203.0.113.9"))])
    staying.unblock([parse_network("2001:db8:a::7")])

    mirror, kernel = sorted(staying.entries()), sorted(lab.firewall().entries())
    assert [entry.block for entry in mirror] == [entry.block for entry in kernel]
    for mirrored, entry in zip(mirror, kernel):
        assert mirrored.expires_at == pytest.approx(entry.expires_at, abs=50)
    assert staying.look().guard(parse_network("203.0.113.9"))
    assert not lab.firewall().ensure().changed


def test_what_does_not_fit_is_an_error_that_names_it_and_all_else_is_in(lab, firewall, block, monkeypatch):
    monkeypatch.setattr(ipset, "MAX_ELEMENTS", 4)
    addresses = [f"203.0.113.{last}" for last in range(1, 8)]

    with pytest.raises(KernelError, match=r"full; left out: .*All other entries are in") as caught:
        firewall.block([block(address) for address in addresses])

    left_out = [address for address in addresses if re.search(rf"\b{re.escape(address)}\b", str(caught.value))]
    assert len(left_out) == 3
    assert [address for address in addresses if lab.arrives(address, HOST)] == left_out


@pytest.mark.feature("C11")
@pytest.mark.parametrize("tools", ["nft"], indirect=True)
def test_a_set_takes_a_million_and_what_is_too_much_is_named(lab, firewall, block):
    firewall.ensure()
    sets, name = IpSets(), "NGFW-drop-src4"
    sets.create(name, "ipv4")
    million = [Network((0x0B000000 + number).to_bytes(4, "big"), 32) for number in range(MAX_ELEMENTS - 20)]
    assert sets.add(name, [(network, 0, "") for network in million]) == []
    addresses = [f"203.0.113.{last}" for last in range(1, 61)]

    with pytest.raises(KernelError, match=r"full; left out: .*All other entries are in") as caught:
        firewall.block([block(address) for address in addresses])

    left_out = [address for address in addresses if not sets.matches(name, [parse_network(address)])[0]]
    assert re.findall(r"203\.0\.113\.\d+", str(caught.value)) == left_out
    assert 0 < len(left_out) <= 40  # the kernel counts by regions of the set, so it takes some more than it says
    assert sets.headers()[name].elements == MAX_ELEMENTS - 20 + 60 - len(left_out)
    assert lab.arrives(left_out[0], HOST)
    assert not lab.arrives(next(address for address in addresses if address not in left_out), HOST)
    sets.close()


@pytest.mark.parametrize("prepared", [True, False])
def test_a_user_without_privileges_is_told_what_to_do(lab, block, prepared):
    if prepared:
        lab.firewall().block([block(ATTACKER)])
    before = lab.kernel()
    said = FORK.SimpleQueue()

    def attempt():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        for dry_run in (False, True):
            try:
                lab.firewall().block([block("203.0.113.8")], dry_run=dry_run)
            except NotPermitted as error:
                said.put(str(error))
            else:
                said.put("no error")

    process = FORK.Process(target=attempt)
    process.start()
    process.join(60)

    assert process.exitcode == 0
    for _dry_run in (False, True):
        assert "run as root" in said.get()
    assert lab.kernel() == before


def test_a_look_lasts_until_the_next(lab, block):
    watching, other = lab.firewall(keep_mirror=True), lab.firewall()
    watching.ensure()
    sight = watching.look()
    assert sight.standing(block("203.0.113.7")) is None
    other.block([block("203.0.113.7")])
    other.whitelist([WhitelistItem(parse_network("203.0.113.8"))])

    assert sight.standing(block("203.0.113.7")) is None
    assert sight.guard(parse_network("203.0.113.8")) is None
    sight = watching.look()
    assert sight.standing(block("203.0.113.7")) is not None
    assert sight.guard(parse_network("203.0.113.8")) is not None
    other.unblock([parse_network("203.0.113.7")])
    assert [str(entry.block.network) for entry in watching.block([block("203.0.113.7")]).blocked] == ["203.0.113.7"]
    other.unblock([parse_network("203.0.113.7")])
    assert watching.look().standing(block("203.0.113.7")) is None


@pytest.mark.feature("C9")
@pytest.mark.parametrize("step", ["headers", "first_entries"])
def test_who_only_looks_is_not_disturbed_by_a_set_that_goes_meanwhile(lab, block, monkeypatch, step):
    """A rate's set goes with its last entry; who looks holds no lock."""
    limited = block(ATTACKER, action=Action.RATE_LIMIT)
    lab.firewall().block([limited, block("203.0.113.9")])
    reader, went = lab.firewall(), []
    looks = getattr(reader._sets, step)

    def look(*names):
        found = looks(*names)
        if not went:
            went.append(lab.firewall().unblock([limited.network]))
        return found

    monkeypatch.setattr(reader._sets, step, look)
    assert [str(entry.block.network) for entry in reader.info().entries()] == ["203.0.113.9"]
    assert went[0].changed
    assert "rate" not in lab.sets()


@pytest.mark.feature("C9")
def test_a_question_of_the_watcher_is_answered_after_a_set_went(lab, block):
    limited = block(ATTACKER, action=Action.RATE_LIMIT)
    watcher = lab.firewall(keep_mirror=True)
    lab.firewall().block([limited])
    sight = watcher.look()
    lab.firewall().unblock([limited.network])
    assert sight.standing(limited) is None
    assert watcher.block([limited]).changed
    assert len(lab.firewall().entries()) == 1
