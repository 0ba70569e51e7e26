# SPDX-License-Identifier: GPL-3.0-or-later
"""Regular expressions that hostile text cannot make slow: what could backtrack without bound is refused at load.

Python's matcher has no time limit. Repeats within repeats can cost time exponential in the text, and repeats in a row
its square, its cube and so on. Both come from choices: go on repeating or go on in the pattern, this branch or that.
A choice costs nothing where the next character decides it. So within a repeat every choice must be decided by the next
character, and outside the ways to choose are multiplied and limited.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from typing import Any

MAX_PATTERN = 1024
TEXT = 8192
"""Characters of a text that are looked at: what an open repeat multiplies the ways by."""

_BUDGET = TEXT * 256
_LATIN = 256
# Stand for the letters, digits, spaces and all else beyond Latin-1.
_LETTER, _DIGIT, _SPACE, _ELSE = range(_LATIN, _LATIN + 4)
_BEYOND = frozenset((_LETTER, _DIGIT, _SPACE, _ELSE))
_ALL = frozenset(range(_LATIN)) | _BEYOND
_NONE: frozenset[int] = frozenset()

# The parser of Python's own matcher, under its name before and since 3.11.
_sre: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
_CATEGORIES = {
    "DIGIT": (re.compile(r"\d"), frozenset((_DIGIT,))),
    "SPACE": (re.compile(r"\s"), frozenset((_SPACE,))),
    "WORD": (re.compile(r"\w"), frozenset((_LETTER, _DIGIT))),
}
_REPEATS = frozenset(("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"))

Items = list[Any]


class RegexError(ValueError):
    """A pattern that is wrong, or that could be made slow; the text says what to write instead."""


def compile_regex(pattern: str) -> re.Pattern[str]:
    """The compiled pattern. Raises RegexError if it is not valid, too long, or can be made slow by hostile text."""
    if len(pattern) > MAX_PATTERN:
        raise RegexError(f"the regex is longer than {MAX_PATTERN} characters; split it into several matches()")
    # A search finds the same with or without it, but tries every end of it from every start.
    stripped = re.sub(r"\A(?:\.\*\??)+(?![*+?{])", "", pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python warns of means another thing in its next version
            compiled = re.compile(stripped)
        _Cost(bool(compiled.flags & re.IGNORECASE)).check(list(_sre.parse(stripped)))
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise RegexError(f"bad regex: {error}; test it with Python's re.search") from None
    return compiled


class _Cost:
    """Walks the parsed pattern, a list of (operation, argument)."""

    def __init__(self, ignore_case: bool) -> None:
        self._ignore_case = ignore_case
        self._longest_run = 1

    def check(self, items: Items) -> None:
        anchored = (
            bool(items) and str(items[0][0]) == "AT" and str(items[0][1]) in ("AT_BEGINNING", "AT_BEGINNING_STRING")
        )
        ways = self._ways(items, _NONE, _NONE if anchored else _ALL, 1)
        if max(ways, self._longest_run) > _BUDGET * (TEXT if anchored else 1):
            raise RegexError(
                "the regex has several open repeats such as .* that hostile text can make slow; keep one of them, "
                'and join several with and: matches(x, "a.*b") and matches(x, "b.*c")'
            )

    def _ways(self, items: Items, follow: frozenset[int], before: frozenset[int], ways: int) -> int:
        """How many ways lead to the end of the items, if ``ways`` lead to their beginning.

        ``before`` is what an open repeat just in front can match: from each of its ends the next repeat runs again.
        """
        between: list[frozenset[int]] = []
        for at, (operation, argument) in enumerate(items):
            name = str(operation)
            rest = self._rest(items, at, follow)
            first, empty = self._first([(operation, argument)])
            if name in _REPEATS:
                low, high, body = argument[0], min(int(argument[1]), TEXT), list(argument[2])
                if high > 1 and not self._decided(body, self._first(body)[0] | rest):
                    raise RegexError(
                        "the regex nests repeats that hostile text can make slow; let each round of the outer repeat "
                        "begin with a character that cannot go on the inner one, or leave one of the two out"
                    )
                if high == TEXT and first & before and all(first & chars for chars in between):
                    self._longest_run = max(self._longest_run, ways * TEXT)
                if high > low and first & rest:
                    ways *= high - low + 1
                    if high == TEXT:
                        before, between = first, []
            elif name == "BRANCH":
                ways = self._branches(
                    [list(each) for each in argument[1]], rest, before if not between else _NONE, ways
                )
            elif name in ("SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"):
                ways = self._ways(_body(name, argument), rest, before if not between else _NONE, ways)
            elif name.startswith("GROUPREF"):
                raise RegexError("the regex refers back to a group, which can be slow; write the text out instead")
            if not empty:
                between.append(first)
            if ways > _BUDGET * TEXT:
                break
        return ways

    def _branches(self, branches: list[Items], rest: frozenset[int], before: frozenset[int], ways: int) -> int:
        overlapping = 1
        if not _distinct_words(branches):
            firsts = [self._first_or(each, rest) for each in branches]
            overlapping = max(sum(1 for other in firsts if each & other) for each in firsts) or 1
        return overlapping * max(self._ways(each, rest, before, ways) for each in branches)

    def _decided(self, items: Items, follow: frozenset[int]) -> bool:
        """Whether the next character decides every choice within the items, and whether to leave them."""
        for at, (operation, argument) in enumerate(items):
            name = str(operation)
            rest = self._rest(items, at, follow)
            if name in _REPEATS:
                body = list(argument[2])
                first, empty = self._first(body)
                variable = argument[0] != argument[1]
                if (variable and (first & rest or empty)) or not self._decided(body, first | rest):
                    return False
            elif name == "BRANCH":
                branches = [list(each) for each in argument[1]]
                firsts = [self._first_or(each, rest) for each in branches]
                disjoint = sum(map(len, firsts)) == len(frozenset().union(*firsts))
                if not (disjoint or _distinct_words(branches)) or not all(
                    self._decided(each, rest) for each in branches
                ):
                    return False
            elif name in ("SUBPATTERN", "ATOMIC_GROUP"):
                if not self._decided(_body(name, argument), rest):
                    return False
            elif name in ("ASSERT", "ASSERT_NOT") or name.startswith("GROUPREF"):
                return False
        return True

    def _rest(self, items: Items, at: int, follow: frozenset[int]) -> frozenset[int]:
        return self._first_or(items[at + 1 :], follow)

    def _first_or(self, items: Items, follow: frozenset[int]) -> frozenset[int]:
        first, empty = self._first(items)
        return first | follow if empty else first

    def _first(self, items: Items) -> tuple[frozenset[int], bool]:
        """What characters the items can begin with, and whether they can match nothing."""
        chars = _NONE
        for operation, argument in items:
            name = str(operation)
            if name in _REPEATS:
                first, empty = self._first(list(argument[2]))
                empty = empty or argument[0] == 0
            elif name == "BRANCH":
                parts = [self._first(list(each)) for each in argument[1]]
                first, empty = frozenset().union(*(part[0] for part in parts)), any(part[1] for part in parts)
            elif name in ("SUBPATTERN", "ATOMIC_GROUP"):
                first, empty = self._first(_body(name, argument))
            elif name in ("AT", "ASSERT", "ASSERT_NOT") or name.startswith("GROUPREF"):
                first, empty = _NONE, True
            else:
                first, empty = self._chars(name, argument), False
            chars |= first
            if not empty:
                return chars, False
        return chars, True

    def _chars(self, name: str, argument: Any) -> frozenset[int]:
        if name == "IN":
            negated = any(str(each[0]) == "NEGATE" for each in argument)
            chars = frozenset().union(*(self._chars(str(each[0]), each[1]) for each in argument))
            if not negated:
                return chars
            single = any(str(each[0]) in ("LITERAL", "RANGE") and chars & _BEYOND for each in argument)
            return (_ALL - chars) | (_BEYOND if single else _NONE)  # only some of those beyond Latin-1 are excluded
        if name == "LITERAL":
            return self._cased(argument, argument)
        if name == "NOT_LITERAL":
            return (_ALL - self._cased(argument, argument)) | _BEYOND
        if name == "RANGE":
            return self._cased(*argument)
        if name == "CATEGORY":
            return _category(str(argument))
        return _NONE if name == "NEGATE" else _ALL

    def _cased(self, low: int, high: int) -> frozenset[int]:
        codes = range(low, min(high, 0xFF) + 1)
        chars = frozenset(codes)
        if high > 0xFF:
            chars |= _BEYOND
        if self._ignore_case:
            cased = [ord(each) for code in codes for each in chr(code).swapcase()]
            chars |= frozenset(min(code, _LETTER) for code in cased)
            # Letters beyond Latin-1 fold to i, k, s, the ring-a, y with diaeresis and the micro sign.
            chars |= {_LETTER} if chars & frozenset(map(ord, "IKSiks\xdf\xb5\xc5\xe5\xff")) else _NONE
        return chars


def _body(name: str, argument: Any) -> Items:
    return list(argument[-1]) if name in ("SUBPATTERN", "ASSERT", "ASSERT_NOT") else list(argument)


def _category(name: str) -> frozenset[int]:
    kind = name.rpartition("_")[2]
    if kind not in _CATEGORIES:
        return _ALL
    pattern, beyond = _CATEGORIES[kind]
    chars = frozenset(code for code in range(_LATIN) if pattern.match(chr(code))) | beyond
    return _ALL - chars if "_NOT_" in name else chars


def _distinct_words(branches: list[Items]) -> bool:
    """Whether the branches are plain words of which none is the beginning of another."""
    words = []
    for branch in branches:
        if not branch or any(str(operation) != "LITERAL" for operation, _argument in branch):
            return False
        words.append("".join(chr(code).lower() for _operation, code in branch))
    words.sort()
    return all(not after.startswith(before) for before, after in zip(words, words[1:]))
