# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests covered_by and overlaps, against tables and a model of single addresses."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.reflex.ngfw.plugins.test.networks import covered_by, overlaps
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.feature("G1")


@pytest.mark.parametrize(
    ("entry", "others", "covered", "meets"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True, True),
        ("10.1.2.3", ["10.1.2.3"], True, True),
        ("10.0.0.0/8", ["10.0.0.0/8"], True, True),
        ("10.0.0.0/7", ["10.0.0.0/8"], False, True),
        ("11.0.0.0", ["10.0.0.0/8"], False, False),
        ("9.255.255.255", ["10.0.0.0/8"], False, False),
        ("10.0.0.0/23", ["10.0.1.0/24", "10.0.0.0/24"], True, True),
        ("10.0.0.0/23", ["10.0.1.0/24", "10.0.0.0/25"], False, True),
        ("10.0.0.5-10.0.1.9", ["10.0.1.0/24", "10.0.0.0/24"], True, True),
        ("10.0.0.5-10.0.1.9", ["10.0.0.0-10.0.1.8"], False, True),
        ("10.0.0.5", [], False, False),
        ("10.0.0.99/24", ["10.0.0.0/24"], True, True),
        ("::ffff:10.0.0.5", ["10.0.0.0/24"], True, True),
        ("::a00:5", ["10.0.0.0/24"], False, False),
        ("2001:db8::1", ["2001:db8::/64", "10.0.0.0/8"], True, True),
        ("2001:db8::/48", ["2001:db8:0:1::/64"], False, True),
        ("2001:db8::/48", ["2001:db8:1::/64"], False, False),
    ],
)
def test_table(entry: str, others: list[str], covered: bool, meets: bool) -> None:
    assert covered_by(entry, others) is covered
    assert overlaps(entry, others) is meets


@st.composite
def small_networks(draw: st.DrawFn) -> str:
    base, bits = draw(st.sampled_from([("203.0.113.0", 32), ("2001:db8::", 128)]))
    start = ipaddress.ip_address(base) + draw(st.integers(0, 63))
    return str(ipaddress.ip_network(f"{start}/{draw(st.integers(bits - 5, bits))}", strict=False))


@given(small_networks(), st.lists(small_networks(), max_size=10))
def test_as_sets_of_addresses(entry: str, others: list[str]) -> None:
    inside = set(ipaddress.ip_network(entry))
    outside = {address for other in others for address in ipaddress.ip_network(other)}
    assert covered_by(entry, others) == (inside <= outside)
    assert overlaps(entry, others) == bool(inside & outside)


@pytest.mark.parametrize("function", [covered_by, overlaps])
@pytest.mark.parametrize(
    ("entry", "others", "message", "is_type"),
    [
        ("nowhere", ["10.0.0.0/8"], "'nowhere' is not an address; write", False),
        ("0.0.0.0/0", ["10.0.0.0/8"], "is every address there is", False),
        ("10.0.0.1", ["10.0.0.0/64"], "'10.0.0.0/64': the prefix length", False),
        ("10.0.0.1", ["x", "y"], "'x' is not an address.*'y' is not", False),
        (["10.0.0.1"], ["10.0.0.0/8"], r"the list \['10.0.0.1'\] is not a text with an address", True),
        (None, ["10.0.0.0/8"], "None is not a text", True),
        ("10.0.0.1", "10.0.0.0/8", r"'10.0.0.0/8' is not a list; write a list of networks", True),
        ("10.0.0.1", None, "None is not a list", True),
        ("10.0.0.1", [5], "the number 5 is not a text", True),
        ("10.0.0.1", [{"address": "10.0.0.1"}], r"as with map\(attribute='address'\)", True),
    ],
)
def test_errors(function: Callable[..., bool], entry: Any, others: Any, message: str, is_type: bool) -> None:
    with pytest.raises(AnsibleFilterError, match=message) as caught:
        function(entry, others)
    assert isinstance(caught.value, TypeError) == is_type


def test_many_questions_about_one_list() -> None:
    others = [f"198.{n >> 8}.{n & 255}.0/25" for n in range(1000)]
    start = time.monotonic()
    found = [covered_by(f"198.{n >> 8 & 3}.{n & 255}.{n % 251}", others) for n in range(100_000)]
    assert 0 < sum(found) < 100_000
    assert time.monotonic() - start < 30
