# SPDX-License-Identifier: GPL-3.0-or-later
"""duration_seconds."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.reflex.ngfw.plugins.filter.duration import duration_seconds
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.feature("G1")

UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}


class OwnInt(int):
    """As ansible-core wraps a number of a playbook."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86400),
        ("1w", 604800),
        ("1h30m", 5400),
        ("1h1h", 7200),
        ("52w", 31449600),
        ("0", 0),
        (0, 0),
        (OwnInt(0), 0),
    ],
)
def test_durations(text: object, seconds: int) -> None:
    assert duration_seconds(text) == seconds


@given(st.lists(st.tuples(st.integers(1, 10**9), st.sampled_from(list(UNITS))), min_size=1))
def test_sums(parts: list[tuple[int, str]]) -> None:
    assert duration_seconds("".join(f"{n}{unit}" for n, unit in parts)) == sum(n * UNITS[unit] for n, unit in parts)


@pytest.mark.parametrize(
    "text", ["", "5", "-5m", "5 m", "5M", "1.5h", "h", "0s", "\u0665m", "5m ", "5min", "forever", 5, -1, OwnInt(60)]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"write it with units, such as 45s, 30m, 2h, 1d, 1w or 1h30m"
    ) as caught:
        duration_seconds(text)
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize("value", [None, True, False, 1.5, [], ["5m"], {"m": 5}])
def test_other_types(value: object) -> None:
    with pytest.raises(AnsibleFilterError, match="is not a duration; write a text such as 45s") as caught:
        duration_seconds(value)
    assert isinstance(caught.value, TypeError)
