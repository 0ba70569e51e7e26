# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets in a file, and from the file back in the kernel."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import saved
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import Network, mask, to_key
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.duration import MAX_BLOCK_SECONDS
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Note, Origin, encode_comment
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import FirewallError, UnsafeFile
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.ipset import IpSets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.parametrize("tools", ["nft"], indirect=True)  # no rules here

CHAIN, NOW = "NGFW", 1_800_000_000.0
SLOW = 60  # seconds that a busy machine may take between two steps, while the kernel's clock runs on
COMMENTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\0\n'), max_size=60)
ON_THE_KERNEL = settings(max_examples=25, suppress_health_check=list(HealthCheck))


def networks(size):
    return st.builds(
        lambda value, prefix: Network(mask(value.to_bytes(size, "big"), prefix), prefix),
        st.integers(0, (1 << size * 8) - 1),
        st.integers(1, size * 8),
    )


def entries(size):
    """Entries of a set: time-out and comment by network."""
    times = st.one_of(st.just(0), st.integers(SLOW, MAX_BLOCK_SECONDS))
    return st.dictionaries(networks(size), st.tuples(times, COMMENTS), max_size=8)


@pytest.fixture
def sets(lab):
    opened = IpSets()
    yield opened
    opened.close()


def fill(sets, name, family, wanted, *, plain=False):
    """Make a set anew with these entries."""
    if name in sets.headers():
        sets.destroy(name)
    sets.create(name, family, plain=plain)
    if plain:
        sets.fill(name, {to_key(network) for network in wanted})
    else:
        sets.add(name, [(network, timeout, comment) for network, (timeout, comment) in wanted.items()])


def held(sets, name):
    return {entry.network: (entry.timeout, entry.comment) for entry in sets.entries(name)}


@pytest.mark.feature("D4")
def test_an_end_is_saved_as_its_note_knows_it(sets, tmp_path):
    """The kernel cuts the seconds that remain: by that alone a block would be shorter after each boot."""
    note = encode_comment(Note(Origin.WATCHER, int(NOW) - 10, 600, "High", "", "RULE High"))
    exact, moved = Network(bytes((203, 0, 113, 7)), 32), Network(bytes((203, 0, 113, 8)), 32)
    fill(sets, "NGFW-drop-src4", "ipv4", {exact: (591, note), moved: (9000, note)})
    saved.write(tmp_path / "sets", CHAIN, sets, NOW)
    line = json.loads((tmp_path / "sets").read_text().splitlines()[1])
    ends = {text: end for text, end, _comment in line["entries"]}
    assert ends["203.0.113.7"] == NOW + 590
    assert NOW + 9000 - SLOW <= ends["203.0.113.8"] <= NOW + 9000


@pytest.mark.feature("D4")
@ON_THE_KERNEL
@given(entries(4), entries(16), st.sets(networks(4), max_size=8), st.integers(0, MAX_BLOCK_SECONDS))
def test_what_was_saved_is_what_comes_back_less_the_time_that_passed(sets, tmp_path, four, six, listed, passed):
    path = tmp_path / "sets"
    fill(sets, "NGFW-drop-src4", "ipv4", four)
    fill(sets, "NGFW-log-dst6-0123abcd", "ipv6", six)
    fill(sets, "NGFW.mine.s4", "ipv4", listed, plain=True)
    count = saved.write(path, CHAIN, sets, NOW)
    assert count == len(four) + len(six) + len(listed)
    for name, family, plain in (("NGFW-drop-src4", "ipv4", False), ("NGFW.mine.s4", "ipv4", True)):
        fill(sets, name, family, {Network(bytes((203, 0, 113, 7)), 32): (0, "brought back by others")}, plain=plain)
    sets.destroy("NGFW-log-dst6-0123abcd")

    restored = saved.restore(path, CHAIN, sets, NOW + passed)

    assert sets.members("NGFW.mine.s4") == {to_key(network) for network in listed}
    total, ending = len(listed), 0
    for name, wanted in (("NGFW-drop-src4", four), ("NGFW-log-dst6-0123abcd", six)):
        found = held(sets, name)
        total += len(found)
        for network, (timeout, comment) in wanted.items():
            remaining = timeout - passed
            ending += 0 < remaining <= SLOW
            if timeout and network not in found:
                assert remaining <= SLOW
            else:
                assert found[network][1] == comment
                assert found[network][0] == 0 if timeout == 0 else remaining - SLOW <= found[network][0] <= remaining
        assert set(found) <= set(wanted)
    assert total <= restored <= total + ending
    assert set(sets.headers()) == {"NGFW-drop-src4", "NGFW-log-dst6-0123abcd", "NGFW.mine.s4"}


@pytest.mark.feature("D4")
def test_a_clock_that_is_not_set_yet_makes_no_block_longer(sets, tmp_path):
    network = Network(bytes((203, 0, 113, 7)), 32)
    fill(sets, "NGFW-drop-src4", "ipv4", {network: (600, "")})
    saved.write(tmp_path / "sets", CHAIN, sets, NOW)

    saved.restore(tmp_path / "sets", CHAIN, sets, 0.0)

    assert 597 <= held(sets, "NGFW-drop-src4")[network][0] <= 600


@pytest.mark.feature("S7")
@pytest.mark.parametrize(
    ("clock", "remaining"),
    [
        pytest.param(0.0, 3600, id="1970"),
        pytest.param(NOW - 86400.0, 3600, id="a day back"),
        pytest.param(NOW + 600.0, 3000, id="right"),
        pytest.param(NOW + 86400.0, None, id="a day later"),
        pytest.param(NOW + 10 * 365 * 86400.0, 3600, id="ten years ahead"),
    ],
)
def test_an_hours_block_is_neither_made_longer_nor_lost_by_a_wrong_clock(sets, tmp_path, clock, remaining):
    network, permanent = Network(bytes((203, 0, 113, 7)), 32), Network(bytes((203, 0, 113, 8)), 32)
    fill(sets, "NGFW-drop-src4", "ipv4", {network: (3600, ""), permanent: (0, "")})
    saved.write(tmp_path / "sets", CHAIN, sets, NOW)

    saved.restore(tmp_path / "sets", CHAIN, sets, clock)

    found = held(sets, "NGFW-drop-src4")
    assert permanent in found
    assert (network in found) == (remaining is not None)
    if remaining is not None:
        assert remaining - SLOW <= found[network][0] <= remaining


def test_only_sets_of_the_chain_are_saved_and_nothing_half_filled(sets, tmp_path):
    for name in ("NGFW-drop-src4", "OTHER-drop-src4", "NGFWish", "NGFW.mine.s4~"):
        sets.create(name, "ipv4", plain=name.endswith("~"))

    saved.write(tmp_path / "sets", CHAIN, sets, NOW)

    lines = [json.loads(line) for line in (tmp_path / "sets").read_text().splitlines()]
    assert [line.get("name") for line in lines] == [None, "NGFW-drop-src4"]


HEAD = {"version": saved.VERSION, "chain": CHAIN, "saved_at": NOW}
GOOD = {"name": "NGFW-drop-src4", "family": "ipv4", "entries": [["203.0.113.8", None, ""]]}
DAMAGED = {
    "nothing": "",
    "no JSON": "\x00\x00\x00",
    "no UTF-8": "\udcff",
    "a list": "[]",
    "no time": json.dumps({**HEAD, "saved_at": None}),
    "no version": json.dumps({"saved_at": NOW}),
    **{
        f"line {number}: {what}": "\n".join([json.dumps(HEAD), *[json.dumps(GOOD)] * (number - 2), text])
        for number in (2, 3)
        for what, text in {
            "cut off": json.dumps(GOOD)[:-9],
            "no set": json.dumps({**GOOD, "name": "others"}),
            "no text": json.dumps({**GOOD, "name": 7}),
            "another family": json.dumps({**GOOD, "family": "ipv6"}),
            "an address of another family": json.dumps({**GOOD, "entries": [["2001:db8::7", None, ""]]}),
            "no address": json.dumps({**GOOD, "entries": [["nonsense", None, ""]]}),
            "no time": json.dumps({**GOOD, "entries": [["203.0.113.8", float("nan"), ""]]}),
            "no comment": json.dumps({**GOOD, "entries": [["203.0.113.8", None, 7]]}),
            "too few": json.dumps({**GOOD, "entries": [["203.0.113.8"]]}),
            "a list without members": json.dumps({"name": "NGFW.mine.s4", "family": "ipv4", "entries": []}),
        }.items()
    },
}


@pytest.mark.feature("D6")
def test_a_damaged_file_is_put_aside_and_the_kernel_stays_as_it_was(lab, sets, tmp_path):
    fill(sets, "NGFW-drop-src4", "ipv4", {Network(bytes((203, 0, 113, 7)), 32): (0, "")})
    before = lab.sets()
    path, aside = tmp_path / "sets", tmp_path / "sets.corrupt"

    for what, text in DAMAGED.items():
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        number = 3 if what.startswith("line 3") else 2 if what.startswith("line 2") else 1
        with pytest.raises(FirewallError, match=rf"sets:{number}: this line is damaged; .* aside as .*sets\.corrupt"):
            saved.restore(path, CHAIN, sets, NOW)
        assert aside.read_text(encoding="utf-8", errors="surrogateescape") == text, what
        assert not path.exists(), what
        assert lab.sets() == before, what


def test_a_file_of_another_version_is_left_where_it_is(lab, sets, tmp_path):
    path = tmp_path / "sets"
    path.write_text(json.dumps({**HEAD, "version": 99}) + "\nof another form\n")

    with pytest.raises(FirewallError, match="was not saved by this version"):
        saved.restore(path, CHAIN, sets, NOW)

    assert path.exists()
    with pytest.raises(FirewallError, match="does not exist: nothing was saved yet"):
        saved.restore(tmp_path / "none", CHAIN, sets, NOW)


@pytest.mark.feature("S1")
def test_a_fifo_is_named_and_waited_for_by_nobody(lab, sets, tmp_path):
    before = lab.sets()
    os.mkfifo(tmp_path / "sets")

    with pytest.raises(UnsafeFile, match="sets is a FIFO, not a regular file; remove it"):
        saved.restore(tmp_path / "sets", CHAIN, sets, NOW)
    assert lab.sets() == before
    assert saved.write(tmp_path / "sets", CHAIN, sets, NOW) == 0
    assert saved.restore(tmp_path / "sets", CHAIN, sets, NOW) == 0


@pytest.mark.feature("S1")
def test_a_file_larger_than_any_of_ours_is_not_read(sets, tmp_path):
    with (tmp_path / "sets").open("wb") as stream:
        stream.truncate(1 << 40)

    with pytest.raises(UnsafeFile, match="sets is larger than 256 MiB"):
        saved.restore(tmp_path / "sets", CHAIN, sets, NOW)


def test_a_directory_that_is_not_there_is_named(sets, tmp_path):
    with pytest.raises(FirewallError, match=f"{tmp_path}/none does not exist; make it"):
        saved.write(tmp_path / "none" / "sets", CHAIN, sets, NOW)


def test_a_set_that_goes_while_the_others_are_saved_is_left_out(sets, tmp_path):
    sets.create("NGFW-drop-src4", "ipv4")
    gone = SimpleNamespace(headers=lambda: ["NGFW-drop-dst4", "NGFW-drop-src4"], entries=sets.entries)

    assert saved.write(tmp_path / "sets", CHAIN, gone, NOW) == 0
    assert '"NGFW-drop-dst4"' not in (tmp_path / "sets").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["sets"]
