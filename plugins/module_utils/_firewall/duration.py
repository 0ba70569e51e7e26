# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations as people write them (`1h30m`), in seconds."""

from __future__ import annotations

import re

from .errors import DurationError

MAX_BLOCK_SECONDS = 2147483
"""The kernel's longest timeout of a set entry: 24d20h31m23s (ipset(8), IPSET_MAX_TIMEOUT)."""

_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"([0-9]{1,10})([wdhms])")
_WHOLE = re.compile(r"(?:[0-9]{1,10}[wdhms])+")
_HINT = "write it with units, such as 45s, 30m, 2h, 1d, 1w or 1h30m"


def parse_duration(text: object, *, longest: int | None = None) -> int:
    """Seconds of a text such as `45s` or `1h30m`; `0` (text or number) means permanent.

    Raises DurationError for anything else, a bare number included, and for more than `longest` seconds.
    """
    if text == "0" or (isinstance(text, int) and not isinstance(text, bool) and text == 0):
        return 0
    if not isinstance(text, str) or not _WHOLE.fullmatch(text):
        raise DurationError(f"'{str(text)[:60]}' is not a duration; {_HINT}, or 0 for permanent")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds == 0:
        raise DurationError(f"'{text}' is no time at all; {_HINT}, or 0 for permanent")
    if longest is not None and seconds > longest:
        raise DurationError(f"'{text}' is too long; the most is {format_duration(longest)}, or 0 for permanent")
    return seconds


def parse_block_duration(text: object) -> int:
    """Seconds of a block's duration, which the kernel limits; raises DurationError."""
    return parse_duration(text, longest=MAX_BLOCK_SECONDS)


def parse_timeout(text: object) -> float:
    """Seconds of a time-out, where fractions are allowed (`0.8s`); raises DurationError."""
    match = re.fullmatch(r"([0-9]{1,6}\.[0-9]{1,6})s", text) if isinstance(text, str) else None
    seconds = float(match.group(1)) if match else float(parse_duration(text))
    if seconds <= 0:
        raise DurationError(f"'{str(text)[:60]}': a time-out must be longer than nothing; write for example 0.8s or 5s")
    return seconds


def is_longer(first: int, second: int) -> bool:
    """Whether a duration in seconds is longer than another; 0 is permanent, the longest."""
    return second != 0 and (first == 0 or first > second)


def format_duration(seconds: int) -> str:
    """The shortest exact text of a duration; `0` for permanent."""
    if seconds == 0:
        return "0"
    parts = []
    for unit, size in _UNITS.items():
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts)
