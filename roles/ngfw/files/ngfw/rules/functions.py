# SPDX-License-Identifier: GPL-3.0-or-later
"""What compiled expressions call. None stands for a missing value; nothing here raises, whatever a record holds."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Callable, NamedTuple

from ..firewall.address import PRIVATE, Network, NetworkSet, parse_host, parse_network
from ..firewall.errors import AddressError
from .regex import TEXT, Searcher

NUMBERS = frozenset((int, float))
# Beyond this a number is missing: integers of a thousand digits would make products slow.
LARGEST = 1 << 64

Kinds = str
"""Letters of the kinds a value may have: s text, n number, b boolean, a list, o object, ? anything."""


def equal(left: Any, right: Any) -> bool:
    """Whether both are there, of one kind, and the same."""
    if left is None or right is None:
        return False
    kind = left.__class__
    return (kind is right.__class__ or (kind in NUMBERS and right.__class__ in NUMBERS)) and bool(left == right)


def unequal(left: Any, right: Any) -> bool:
    """Whether both are there, of one kind, and differ."""
    kind = left.__class__
    same_kind = kind is right.__class__ or (kind in NUMBERS and right.__class__ in NUMBERS)
    return left is not None and same_kind and bool(left != right)


def _ordered(left: Any, right: Any) -> bool:
    kind = left.__class__
    return (kind is str and right.__class__ is str) or (kind in NUMBERS and right.__class__ in NUMBERS)


def less(left: Any, right: Any) -> bool:
    """``left < right`` for two numbers or two texts."""
    return _ordered(left, right) and bool(left < right)


def at_most(left: Any, right: Any) -> bool:
    """``left <= right`` for two numbers or two texts."""
    return _ordered(left, right) and bool(left <= right)


def holds(whole: Any, part: Any) -> bool:
    """Whether a text holds a text, or a list an item."""
    if whole.__class__ is str:
        return part.__class__ is str and part in whole
    if whole.__class__ is list or whole.__class__ is tuple:
        return any(equal(item, part) for item in whole)
    return False


def lacks(whole: Any, part: Any) -> bool:
    """Whether a text does not hold a text, or a list has no such item; false where either is missing."""
    if whole.__class__ is str:
        return part.__class__ is str and part not in whole
    if whole.__class__ is list or whole.__class__ is tuple:
        return part is not None and not any(equal(item, part) for item in whole)
    return False


def item(value: Any, index: int) -> Any:
    """The item of a list, counted from 0, or from -1 at its end."""
    if value.__class__ is list and -len(value) <= index < len(value):
        return value[index]
    return None


def _number(value: Any) -> bool:
    kind: Any = value.__class__
    return kind in NUMBERS and bool(-LARGEST <= value <= LARGEST)


def add(left: Any, right: Any) -> Any:
    """The sum of two numbers."""
    return left + right if _number(left) and _number(right) else None


def subtract(left: Any, right: Any) -> Any:
    """The difference of two numbers."""
    return left - right if _number(left) and _number(right) else None


def multiply(left: Any, right: Any) -> Any:
    """The product of two numbers."""
    return left * right if _number(left) and _number(right) else None


def divide(left: Any, right: Any) -> Any:
    """The quotient of two numbers, with fractions; missing for a division by zero."""
    return left / right if _number(left) and _number(right) and right else None


def remainder(left: Any, right: Any) -> Any:
    """The remainder of a division, with the sign of the divisor; missing for a division by zero."""
    return left % right if _number(left) and _number(right) and right else None


def negate(value: Any) -> Any:
    """The number with its sign changed."""
    return -value if _number(value) else None


def length(value: Any) -> int | None:
    """The characters of a text, the items of a list, the keys of an object."""
    return len(value) if value.__class__ in (str, list, tuple, dict) else None


def lower(value: Any) -> str | None:
    """The text in lower case."""
    return value.lower() if value.__class__ is str else None


def starts_with(value: Any, start: Any) -> bool:
    """Whether the text begins with the other."""
    return value.__class__ is str and start.__class__ is str and value.startswith(start)


def ends_with(value: Any, end: Any) -> bool:
    """Whether the text ends with the other."""
    return value.__class__ is str and end.__class__ is str and value.endswith(end)


def matches(value: Any, pattern: Searcher) -> bool:
    """Whether the regular expression is found in the first 8 KiB of the text."""
    return value.__class__ is str and pattern.search(value[:TEXT]) is not None


def in_subnet(value: Any, networks: NetworkSet) -> bool:
    """Whether the text is an address in one of the networks."""
    host = _host(value[:64]) if value.__class__ is str else None
    return host is not None and networks.covering(host) is not None


def is_private(value: Any) -> bool:
    """Whether the text is an address that is not a public one."""
    return in_subnet(value, PRIVATE)


def is_public(value: Any) -> bool:
    """Whether the text is a public address."""
    host = _host(value[:64]) if value.__class__ is str else None
    return host is not None and PRIVATE.covering(host) is None


def port_in_range(port: Any, first: Any, last: Any) -> bool:
    """Whether the number lies between two others, both included."""
    return port.__class__ is int and at_most(first, port) and at_most(port, last)


def hour_of_day(timestamp: Any) -> int | None:
    """The hour, 0 to 23, of an EVE timestamp in the host's zone."""
    local = _local(timestamp[:40]) if timestamp.__class__ is str else None
    return local.tm_hour if local else None


def weekday(timestamp: Any) -> int | None:
    """The day of the week, 1 (Monday) to 7 (Sunday), of an EVE timestamp in the host's zone."""
    local = _local(timestamp[:40]) if timestamp.__class__ is str else None
    return local.tm_wday + 1 if local else None


@lru_cache(maxsize=8192)
def _host(text: str) -> Network | None:
    try:
        return parse_host(text)
    except AddressError:
        return None


_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::\d\d(?:\.\d{1,9})?)?(?:Z|([-+])(\d\d):?(\d\d))?", re.ASCII)


def _local(text: str) -> time.struct_time | None:
    match = _TIME.fullmatch(text)
    return _local_minute(*match.groups(default="")) if match else None


@lru_cache(maxsize=1024)
def _local_minute(day: str, minute: str, sign: str, hours: str, minutes: str) -> time.struct_time | None:
    offset = timedelta(hours=int(hours), minutes=int(minutes)) if sign else timedelta()
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}+00:00")
        return time.localtime((moment + offset if sign == "-" else moment - offset).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def address_forms(text: str) -> frozenset[str]:
    """All ways an address is written in records: Suricata writes every zero of IPv6, others none, or IPv4 as IPv6.

    Raises AddressError if the text is no single address.
    """
    host = parse_host(text)
    packed = host.packed if len(host.packed) == 16 else bytes(10) + b"\xff\xff" + host.packed
    groups = packed.hex(":", 2)
    forms = {text, str(host), groups, ":".join(f"{int(group, 16):x}" for group in groups.split(":"))}
    if len(host.packed) == 4:
        forms |= {f"::ffff:{host}", "::ffff:" + ":".join(f"{int(group, 16):x}" for group in groups.split(":")[6:])}
    return frozenset(forms)


class Function(NamedTuple):
    """A function of the language: the kinds its parameters take, the kind it gives, and what is called."""

    parameters: tuple[Kinds, ...]
    result: Kinds
    call: Callable[..., Any]


# A regex or networks, which are read when the expression is compiled.
REGEX = "regex"
NETWORKS = "networks"

FUNCTIONS = {
    "len": Function(("sao",), "n", length),
    "lower": Function(("s",), "s", lower),
    "contains": Function(("sa", "snb"), "b", holds),
    "starts_with": Function(("s", "s"), "b", starts_with),
    "ends_with": Function(("s", "s"), "b", ends_with),
    "matches": Function(("s", REGEX), "b", matches),
    "in_subnet": Function(("s", NETWORKS), "b", in_subnet),
    "is_private": Function(("s",), "b", is_private),
    "is_public": Function(("s",), "b", is_public),
    "port_in_range": Function(("n", "n", "n"), "b", port_in_range),
    "hour_of_day": Function(("s",), "n", hour_of_day),
    "weekday": Function(("s",), "n", weekday),
}


def networks_of(texts: Iterable[str]) -> NetworkSet:
    """The set of the networks written so. Raises AddressError."""
    return NetworkSet(parse_network(text) for text in texts)
