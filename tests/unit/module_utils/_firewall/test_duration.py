# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.duration import (
    MAX_BLOCK_SECONDS,
    format_duration,
    parse_block_duration,
    parse_duration,
    parse_timeout,
)
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import DurationError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86400),
        ("1w", 604800),
        ("1h30m", 5400),
        ("1w2d3h4m5s", 788645),
        ("90m", 5400),
        ("30m1h", 5400),
        ("1h1h", 7200),
        ("007s", 7),
        ("0", 0),
        (0, 0),
    ],
)
def test_durations_are_sums_with_units(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("30", "is not a duration"),
        (30, "is not a duration"),
        (0.0, "is not a duration"),
        (False, "is not a duration"),
        (None, "is not a duration"),
        ("", "is not a duration"),
        ("-1h", "is not a duration"),
        ("1.5h", "is not a duration"),
        ("1 h", "is not a duration"),
        (" 1h", "is not a duration"),
        ("1h\n", "is not a duration"),
        ("1H", "is not a duration"),
        ("1M", "is not a duration"),
        ("1y", "is not a duration"),
        ("1h30", "is not a duration"),
        ("h", "is not a duration"),
        ("٣0m", "is not a duration"),
        ("00", "is not a duration"),
        ("permanent", "0 for permanent"),
        ("0s", "no time at all"),
        ("0h0m", "no time at all"),
        ("99999999999s", "is not a duration"),
    ],
)
def test_what_is_no_duration_is_refused_with_a_hint(text, hint):
    with pytest.raises(DurationError, match=re.escape(hint)) as caught:
        parse_duration(text)
    assert "30m" in str(caught.value)


def test_a_block_lasts_as_long_as_the_kernel_can_count():
    assert parse_block_duration("24d20h31m23s") == MAX_BLOCK_SECONDS
    assert parse_block_duration("0") == 0
    with pytest.raises(DurationError, match="the most is 3w3d20h31m23s, or 0 for permanent"):
        parse_block_duration("24d20h31m24s")


@pytest.mark.parametrize(("text", "seconds"), [("0.8s", 0.8), ("5s", 5.0), ("1m", 60.0), ("10.25s", 10.25)])
def test_timeouts_may_be_fractions(text, seconds):
    assert parse_timeout(text) == seconds


@pytest.mark.parametrize("text", ["0", 0, "0.0s", "0s", ".8s", "1.s", "0.8", "0.5m", "1e3s", "nan", None])
def test_a_timeout_is_longer_than_nothing(text):
    with pytest.raises(DurationError):
        parse_timeout(text)


@given(st.integers(0, 10**12))
def test_a_duration_survives_its_text(seconds):
    assert parse_duration(format_duration(seconds)) == seconds
