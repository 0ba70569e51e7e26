# SPDX-License-Identifier: GPL-3.0-or-later
"""cidr_merge, cidr_exclude, cidr_public and netset, against tables and a model of single addresses."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.reflex.ngfw.plugins.filter import networks
from ansible_collections.reflex.ngfw.plugins.filter.networks import (
    cidr_exclude,
    cidr_merge,
    cidr_normalise,
    cidr_public,
    netset,
)
from ansible_collections.reflex.ngfw.plugins.plugin_utils import _networks
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.feature("G1")

HUNDRED_THOUSAND = 100_000
SENSIBLE_SECONDS = 2  # of the processor; one is usual


def addresses(texts: Iterable[str]) -> set[str]:
    """Every single address of some small networks, by a library that the filters do not use."""
    return {str(address) for text in texts for address in ipaddress.ip_network(text)}


def fewest(texts: Iterable[str]) -> list[str]:
    """The same networks as Python's own library merges them."""
    parsed = [ipaddress.ip_network(text) for text in texts]
    found = [n for version in (4, 6) for n in ipaddress.collapse_addresses(p for p in parsed if p.version == version)]
    return [str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in found]


@st.composite
def small_networks(draw: st.DrawFn) -> str:
    """A network of at most 64 addresses out of 256, so that two of them often meet."""
    base, bits = draw(st.sampled_from([("203.0.113.0", 32), ("2001:db8::", 128), ("10.255.255.0", 32)]))
    start = ipaddress.ip_address(base) + draw(st.integers(0, 255))
    return str(ipaddress.ip_network(f"{start}/{draw(st.integers(bits - 6, bits))}", strict=False))


lists = st.lists(small_networks(), max_size=12)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], []),
        (["203.0.113.7/32", "203.0.113.7", "::ffff:203.0.113.7"], ["203.0.113.7"]),
        (["2001:DB8:0:0::1/128", "2001:db8::1"], ["2001:db8::1"]),
        (["2001:db8::/64", "203.0.113.77/24", "9.0.0.0/8"], ["9.0.0.0/8", "203.0.113.0/24", "2001:db8::/64"]),
        (
            ["198.51.100.128/25", "198.51.100.0/25", "198.51.100.0/24"],
            ["198.51.100.0/24", "198.51.100.0/25", "198.51.100.128/25"],
        ),
        (["203.0.113.5-203.0.113.6"], ["203.0.113.5", "203.0.113.6"]),
    ],
)
def test_normalise_writes_each_once_and_merges_nothing(
    entries: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_networks, "netaddr", None)  # the role uses it, and asks for no library on the controller
    assert cidr_normalise(entries) == expected


def test_normalise_refuses_what_is_no_list_of_addresses() -> None:
    with pytest.raises(AnsibleFilterError, match=r"'203\.0\.113\.7' is not a list"):
        cidr_normalise("203.0.113.7")
    with pytest.raises(AnsibleFilterError, match=r"'203\.0\.113\.777'"):
        cidr_normalise(["203.0.113.777"])


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], []),
        (["203.0.113.7"], ["203.0.113.7"]),
        (["203.0.113.7/32", "203.0.113.7"], ["203.0.113.7"]),
        (["198.51.100.0/25", "198.51.100.128/25"], ["198.51.100.0/24"]),
        (["198.51.100.128/25", "198.51.99.0/24"], ["198.51.99.0/24", "198.51.100.128/25"]),
        (["198.51.100.77/24"], ["198.51.100.0/24"]),
        (["10.0.0.1", "10.0.0.0/8", "9.0.0.0/8"], ["9.0.0.0/8", "10.0.0.0/8"]),
        (["203.0.113.8-203.0.113.11", "203.0.113.12 - 203.0.113.15"], ["203.0.113.8/29"]),
        (["203.0.113.5-203.0.113.9"], ["203.0.113.5", "203.0.113.6/31", "203.0.113.8/31"]),
        (["2001:db8::/33", "2001:db8:8000::/33", "192.0.2.1"], ["192.0.2.1", "2001:db8::/32"]),
        (["::ffff:192.0.2.1", "192.0.2.0"], ["192.0.2.0/31"]),
        (["::ffff:192.0.2.0/120"], ["192.0.2.0/24"]),
        (["2001:0DB8::0001"], ["2001:db8::1"]),
        (["::1", "0.0.0.1"], ["0.0.0.1", "::1"]),
        (["255.255.255.255", "255.255.255.254"], ["255.255.255.254/31"]),
        (["0.0.0.0/1", "128.0.0.0/1"], ["0.0.0.0/0"]),
        (("192.0.2.1", "192.0.2.0"), ["192.0.2.0/31"]),
    ],
)
def test_merge(entries: Any, expected: list[str]) -> None:
    assert cidr_merge(entries) == expected


@pytest.mark.parametrize(
    ("entries", "taken", "expected"),
    [
        ([], ["10.0.0.0/8"], []),
        (["10.0.0.0/8"], [], ["10.0.0.0/8"]),
        (["198.51.100.0/30"], ["198.51.100.2"], ["198.51.100.0/31", "198.51.100.3"]),
        (["198.51.100.0/30"], ["198.51.100.0/24"], []),
        (["198.51.100.0/30", "203.0.113.7"], ["203.0.113.0/24"], ["198.51.100.0/30"]),
        (["198.51.100.0/30"], ["198.51.100.1-198.51.100.2"], ["198.51.100.0", "198.51.100.3"]),
        (["198.51.100.0/30"], ["2001:db8::/32"], ["198.51.100.0/30"]),
        (["2001:db8::/126"], ["2001:db8::3", "192.0.2.1"], ["2001:db8::/127", "2001:db8::2"]),
        (["198.51.100.1", "198.51.100.0"], ["203.0.113.1"], ["198.51.100.0/31"]),
        (["192.0.2.1"], ["::ffff:192.0.2.1"], []),
    ],
)
def test_exclude(entries: list[str], taken: list[str], expected: list[str]) -> None:
    assert cidr_exclude(entries, taken) == expected


@pytest.mark.parametrize(
    "private",
    [
        *("10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.0/24", "100.64.0.0/10", "100.127.255.255", "0.1.2.3"),
        *("127.0.0.1", "169.254.1.1", "192.0.0.8", "198.18.0.1", "198.19.255.255", "224.0.0.1", "239.255.255.255"),
        *("240.0.0.1", "255.255.255.255", "::1", "::", "fc00::1", "fdff::/16", "fe80::1", "ff02::1", "::ffff:10.0.0.1"),
    ],
)
def test_private(private: str) -> None:
    assert cidr_public([private]) == []


@pytest.mark.parametrize(
    "public",
    [
        *("192.0.2.1", "198.51.100.0/24", "203.0.113.7", "8.8.8.8", "172.15.255.255", "172.32.0.0", "192.0.1.0"),
        *("100.63.255.255", "100.128.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "1.0.0.0"),
        *("2001:db8::/32", "2606:4700::1111", "fbff::1", "fe00::1"),
    ],
)
def test_public(public: str) -> None:
    assert cidr_public([public]) == [public]


def test_the_public_part_of_a_network() -> None:
    assert cidr_public(["192.168.0.0/15"]) == ["192.169.0.0/16"]
    assert cidr_public(["8.0.0.0/6"]) == ["8.0.0.0/7", "11.0.0.0/8"]


@given(lists)
def test_merge_is_equal_and_as_small_as_can_be(entries: list[str]) -> None:
    found = cidr_merge(entries)
    assert found == fewest(entries)
    assert addresses(found) == addresses(entries)
    assert cidr_merge(found) == found
    assert cidr_merge(random.sample(entries, len(entries))) == found


@given(lists, lists)
def test_exclude_is_exact_and_as_small_as_can_be(entries: list[str], taken: list[str]) -> None:
    found = cidr_exclude(entries, taken)
    assert addresses(found) == addresses(entries) - addresses(taken)
    assert found == fewest(found)


@given(lists)
def test_nothing_public_is_private_and_the_rest_stays(entries: list[str]) -> None:
    found = addresses(cidr_public(entries))
    assert found == {address for address in addresses(entries) if not address.startswith("10.")}


BAD_LISTS = [
    (["203.0.113.300"], "'203.0.113.300' is not an address; write an IPv4 or IPv6 address"),
    (["203.0.113.0/33"], "'203.0.113.0/33': the prefix length must be a number from 1 to 32"),
    (["0.0.0.0/0"], "'0.0.0.0/0' is every address there is; name a smaller network"),
    (["::/0"], "'::/0' is every address there is"),
    (["0.0.0.0-255.255.255.255"], "name a smaller range"),
    (["203.0.113.9-203.0.113.1"], "'203.0.113.9-203.0.113.1' is no range; write FIRST-LAST"),
    (["203.0.113.9-2001:db8::1"], "both of one family"),
    ([" 203.0.113.7"], "remove the spaces around it"),
    (["fe80::1%eth0"], "leave out the interface"),
    (["\u0662\u0660\u0663.0.113.7"], "is not an address"),
    (["203.0.113.7,203.0.113.8"], "'203.0.113.7,203.0.113.8' is not an address"),
    ([""], "'' is not an address"),
    (["a", "b", "c", "d", "e", "f", "g"], r"'a' is not an address.*'e' is not an address.*\(and 2 more\)"),
]
BAD_TYPES = [
    ("203.0.113.7", r"'203.0.113.7' is not a list; write a list of addresses, as in \['192.0.2.7'\]"),
    (None, "None is not a list"),
    (5, "the number 5 is not a list"),
    (True, "True is not a list"),
    ({"a": 1}, "the dictionary {'a': 1} is not a list"),
    ([5], "the number 5 is not a text with an address"),
    ([None], "None is not a text"),
    ([["203.0.113.7"]], r"the list \['203.0.113.7'\] is not a text"),
    ([{"address": "203.0.113.7"}], r"take its address, as with map\(attribute='address'\)"),
]


@pytest.mark.parametrize("function", [cidr_merge, cidr_public, lambda entries: cidr_exclude(["192.0.2.1"], entries)])
class TestErrors:
    @pytest.mark.parametrize(("entries", "message"), BAD_LISTS)
    def test_values(self, function: Callable[[Any], object], entries: Any, message: str) -> None:
        with pytest.raises(AnsibleFilterError, match=message):
            function(entries)

    @pytest.mark.parametrize(("entries", "message"), BAD_TYPES)
    def test_types(self, function: Callable[[Any], object], entries: Any, message: str) -> None:
        with pytest.raises(AnsibleFilterError, match=message) as caught:
            function(entries)
        assert isinstance(caught.value, TypeError)

    def test_without_netaddr(self, function: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_networks, "netaddr", None)
        with pytest.raises(AnsibleFilterError, match="install the package python3-netaddr"):
            function(["203.0.113.7"])


def many() -> list[str]:
    generator = random.Random(1)
    octets = [[str(generator.randrange(256)) for _ in range(4)] for _ in range(HUNDRED_THOUSAND)]
    return [".".join(four) + generator.choice(["", "/24", "/29"]) for four in octets]


@pytest.mark.parametrize("entries", [many(), [f"198.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(100_000)]])
def test_a_hundred_thousand(entries: list[str]) -> None:
    start = time.process_time()
    assert cidr_merge(entries)
    assert cidr_exclude(entries, entries[::5])
    assert cidr_public(entries)
    assert netset("\n".join(entries))
    assert time.process_time() - start < 4 * SENSIBLE_SECONDS


# --- netset --------------------------------------------------------------------------------------------------------


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the filter warns of."""
    found: list[str] = []
    monkeypatch.setattr(networks.Display, "warning", lambda _self, text: found.append(text))
    return found


def test_netset(warnings: list[str]) -> None:
    text = """# FireHOL
    2001:db8::/32
    203.0.113.7   # once
    203.0.113.7
    198.51.100.0/24
    198.51.100.8
    10.0.0.0/8
    192.0.2.1-192.0.2.3\r

    """
    expected = ["10.0.0.0/8", "192.0.2.1", "192.0.2.2/31", "198.51.100.0/24", "198.51.100.8", "203.0.113.7"]
    assert netset(text) == [*expected, "2001:db8::/32"]
    assert warnings == []


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n\n# at all"])
def test_a_netset_without_entries(text: str, warnings: list[str]) -> None:
    assert netset(text) == []
    assert warnings == []


def test_a_netset_with_bad_lines(warnings: list[str]) -> None:
    assert netset("203.0.113.7\nnonsense\n0.0.0.0/0\n") == ["203.0.113.7"]
    assert len(warnings) == 1
    assert warnings[0].startswith("2 entries of the netset were left out, the first is 'nonsense': 'nonsense' is not")


def test_a_web_page_is_no_netset() -> None:
    with pytest.raises(AnsibleFilterError, match=r"line 1, '<!DOCTYPE html>', looks like a page of HTML"):
        netset("<!DOCTYPE html>\n<html></html>\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (["203.0.113.7"], "for a list use reflex.ngfw.cidr_merge"),
        (None, "None is not the text of a netset; give it the content of a file"),
        (5, "the number 5 is not the text"),
    ],
)
def test_what_is_no_text(text: object, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message) as caught:
        netset(text)
    assert isinstance(caught.value, TypeError)


@given(st.lists(small_networks(), min_size=1))
def test_a_netset_holds_its_lines(entries: list[str]) -> None:
    assert addresses(netset("\n".join(entries))) == addresses(entries)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        netset(text)
    except AnsibleFilterError as error:
        assert "no usable address" in str(error) or "what is read:" in str(error)  # noqa: PT017 - a text may as well be empty, and fine
