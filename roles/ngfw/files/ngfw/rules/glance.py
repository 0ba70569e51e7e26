# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at the bytes of a line, to tell without parsing it that an expression cannot be met by the record in it.

A record that has a text or number somewhere has it in its line, so a line without it is passed over. Whatever stands
in a line more than once, nested or in another field only makes it worth parsing. JSON can write the same in other ways:
a number with a fraction or exponent is never passed over; for ASCII characters as ``\\u0041`` the caller has to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Callable

from ..rules import functions
from .fields import ADDRESSES, Path, dotted
from .syntax import Binary, Call, Field, Junction, ListOf, Literal, Tree

Glance = Callable[[bytes], bool]
"""False only if no record in the line can meet the expression; the line has no ASCII character as ``\\u0041``."""

# JSON may put a backslash before all others, or writes them in several ways.
_PLAIN = re.compile(r"[ !#-.0-\[\]-~]+")
_NUMBER = re.compile(rb"\s*:\s*(-?[0-9]+)([.eE]?)")
_MOST = 8  # looking for more costs as much as parsing
_TEXT_TESTS = frozenset(("contains", "starts_with", "ends_with"))


def glance(tree: Tree) -> Glance | None:
    """The look that an expression allows; None if all lines have to be parsed."""
    if isinstance(tree, Junction):
        parts = [glance(each) for each in tree.operands]
        return either(parts) if tree.operator == "or" else _both([part for part in parts if part is not None][:_MOST])
    if isinstance(tree, Call) and tree.name in _TEXT_TESTS:
        whole, part = tree.arguments
        return _held(whole, part)
    if not isinstance(tree, Binary):
        return None
    left, right = tree.left, tree.right
    if tree.operator == "in" and isinstance(left, Literal):
        return _held(right, left)
    if tree.operator == "in" and isinstance(right, ListOf):
        return _one_of(left, right.items)
    if tree.operator == "==":
        return _one_of(right, (left,)) if isinstance(left, Literal) else _one_of(left, (right,))
    return None


def either(parts: Iterable[Glance | None]) -> Glance | None:
    """The look for lines that are worth parsing for one of several expressions."""
    known: list[Glance] = []
    for part in parts:
        if part is None or len(known) == _MOST:
            return None
        known.append(part)
    if len(known) == 1:
        return known[0]

    def look(line: bytes) -> bool:
        return any(part(line) for part in known)

    return look


def _both(parts: list[Glance]) -> Glance | None:
    if len(parts) < 2:
        return parts[0] if parts else None

    def look(line: bytes) -> bool:
        return all(part(line) for part in parts)

    return look


def _one_of(field: Tree, items: Iterable[Tree]) -> Glance | None:
    """For a field that is one of the items."""
    if not isinstance(field, Field) or field.path[0] == "offender":  # which no line has
        return None
    texts: set[str] = set()
    numbers: set[int] = set()
    for each in items:
        if not isinstance(each, Literal) or isinstance(each.value, bool):
            return None
        if not isinstance(each.value, str):
            # As a whole number; what has a fraction is written with one.
            numbers |= {int(each.value)} if each.value == int(each.value) else set()
        elif dotted(field.path) in ADDRESSES:
            texts |= functions.address_forms(each.value)
        else:
            texts.add(each.value)
    needles = [_needle(text, whole=True) for text in sorted(texts)]
    if numbers or not texts:
        needles.append(_number(field.path, numbers))
    return either(needles)


def _held(whole: Tree, part: Tree) -> Glance | None:
    """For a text field that holds the part, or a list of which it is an item."""
    if not isinstance(whole, Field) or whole.path[0] == "offender":
        return None
    return _needle(part.value, whole=False) if isinstance(part, Literal) and isinstance(part.value, str) else None


def _needle(text: str, *, whole: bool) -> Glance | None:
    """For lines with the text, or with the longest part of it that JSON writes in one way only."""
    part = max(_PLAIN.findall(text), key=len, default="")
    needle = f'"{part}"'.encode() if whole and part == text else part.encode()
    return (lambda line: needle in line) if needle else None


def _number(path: Path, numbers: set[int]) -> Glance | None:
    """For lines in which the field's name stands before one of the numbers."""
    name = path[-1]
    if not isinstance(name, str) or not _PLAIN.fullmatch(name):
        return None
    key = f'"{name}"'.encode()
    wanted = {str(number).encode() for number in numbers} | ({b"-0"} if 0 in numbers else set())

    def look(line: bytes) -> bool:
        at = line.find(key)
        while at >= 0:
            at += len(key)
            found = _NUMBER.match(line, at)
            if found is not None and (found[2] or found[1] in wanted):
                return True
            at = line.find(key, at)
        return False

    return look
