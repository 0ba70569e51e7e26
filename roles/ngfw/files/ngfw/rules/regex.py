# SPDX-License-Identifier: GPL-3.0-or-later
"""Regular expressions that no text can make slow.

Python's matcher has no time limit, and ``\\w+@`` alone costs it the square of the text. So it is only given patterns
whose cost is certain beforehand. All others go to the library ``regex`` (python3-regex), whose matcher looks at the
clock after each 256 steps, none of which costs more than a pass over the text, and gives up in time.
"""

from __future__ import annotations

import importlib
import re
import time
import warnings
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, Protocol

MAX_PATTERN = 1024
TEXT = 8192
"""Characters of a text that are looked at."""

LIMIT_SECONDS = 0.005
"""What one search may take, but for the last 256 steps of the library: at most some 15 ms more."""

SHORT_TEXT, SHORT_SECONDS = 512, 0.0005
"""What is still looked at, and for how long, while a pattern has used up its time."""

BURST_SECONDS, SHARE = 0.2, 0.2
"""What all patterns together may take at once, and of each second."""

_ONE_OF_ALL = 4  # a pattern has a quarter of that, so that one under attack does not blind the others
_MOST_IN_A_SET = 40  # each is compared with each character
_MOST_REPEATED = 5_000  # the library writes out what is repeated
_MOST_STEPS = 300  # of Python's matcher from each start; 8,192 times that many take some 30 ms

_TOKEN = re.compile(
    r"""
    (?P<char>\[\^?\]?(?:\\.|[^\\\]])*\]|\\(?:[dDsSwWfnrtv]|[^0-9A-Za-z])|[^\\\[\](){}|*+?^$])
  | (?P<repeat>(?:[*+?]|\{(?:[0-9]+(?:,[0-9]*)?|,[0-9]+)\})[?+]?)
  | (?P<nothing>[\^$]|\\[bBAZ]|\(\?[aimsu]+\))
  | (?P<group>\(\?(?::|P<\w+>)|\((?!\?))
  | (?P<special>\(\?(?:<?[=!]|>|[aimsu-]+:|\(\w+\)))
  | (?P<close>\))
  | (?P<bar>\|)
  | (?P<brace>\{)
  | (?P<other>\(\?P=\w+\)|\(\?\#[^)]*\)|\\(?:N\{[^}]*\}|[^\W_])|[\]}])
    """,
    re.VERBOSE | re.DOTALL,
)
_OPEN = frozenset(("group", "special"))
_MEMBER = re.compile(r"\\?.(?:-\\?.)?", re.DOTALL)
# What an ASCII letter also stands for where case is ignored.
_FOLDED = {"i": "\u0130\u0131", "k": "\u212a", "s": "\u017f"}


class RegexError(ValueError):
    """A pattern that cannot be used; the text says what to write instead."""


class Searcher(Protocol):
    """A compiled pattern."""

    def search(self, text: str, /) -> object | None:
        """Something if the pattern is found in the text, of at most 8192 characters."""


class Patience:
    """Seconds that searches may take: so many at once, and a share of the time that passes."""

    def __init__(self, burst: float = BURST_SECONDS, share: float = SHARE) -> None:
        self.left = self._burst = burst
        self._share = share
        self._at = 0.0

    def renew(self, now: float) -> float:
        """What is left at a moment, below 0 if more was taken than there was."""
        self.left = min(self._burst, self.left + (now - self._at) * self._share)
        self._at = now
        return self.left

    @property
    def exhausted(self) -> bool:
        return self.left < -self._burst


class Limited:
    """A pattern whose searches are cut off in time; then it is not found. ``cut_off`` counts them.

    With ``patience`` (shared with other patterns) there is a limit to what many searches take, too: when it is used up,
    only short texts are looked at, and none when these have used up as much again, until it has been renewed.
    """

    def __init__(self, pattern: str, compiled: Any, clock: Callable[[], float] = time.perf_counter) -> None:
        self.pattern = pattern
        self.cut_off = 0
        self.patience: Patience | None = None
        self._own = Patience(BURST_SECONDS / _ONE_OF_ALL, SHARE / _ONE_OF_ALL)
        self._search = compiled.search
        self._clock = clock

    def search(self, text: str, /) -> object | None:
        """As Searcher has it; never raises."""
        start, shared, own = self._clock(), self.patience, self._own
        limit = LIMIT_SECONDS
        if shared is not None and (shared.renew(start) < 0 or own.renew(start) < 0):
            limit = SHORT_SECONDS
            if len(text) > SHORT_TEXT or shared.exhausted or own.exhausted:
                self.cut_off += 1
                return None
        found: object | None = None
        try:
            found = self._search(text, timeout=limit)
        except (TimeoutError, MemoryError):
            self.cut_off += 1
        if shared is not None:
            taken = self._clock() - start
            shared.left -= taken
            own.left -= taken
        return found


def compile_regex(pattern: str) -> Searcher:
    """The compiled pattern: one of Python's, or a Limited one. Raises RegexError."""
    if len(pattern) > MAX_PATTERN:
        raise RegexError(f"the regex is longer than {MAX_PATTERN} characters; split it into several matches()")
    # A search finds the same with or without it, but tries every end of it from every start.
    stripped = re.sub(r"\A(?:\.\*\??)+(?![*+?{])", "", pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python warns of means another thing in its next version
            compiled = re.compile(stripped)
        if re.search(r"\(\?[aimsu]*x", stripped):
            raise RegexError("the regex has the flag x; write it without blanks and comments, and leave x out")
        branches = _parse(_tokens(stripped))
        if _Proof(compiled.flags).holds(branches):
            return compiled
        return Limited(pattern, _compile_with_library(stripped, branches))
    except (re.error, OverflowError, RecursionError, MemoryError, Warning) as error:
        raise RegexError(f"bad regex: {error}; test it with Python's re.search") from None


def _compile_with_library(pattern: str, branches: Branches) -> Any:
    problem = _unfit(branches)
    if problem:
        raise RegexError(problem)
    try:
        library = importlib.import_module("regex")
    except ImportError:
        raise RegexError(
            "hostile text can make this regex slow, and the Python library regex, which limits its time, is not "
            "installed; install the package python3-regex, or write the regex without open repeats such as .*"
        ) from None
    try:
        return library.compile(pattern, library.VERSION0)
    except library.error as error:
        raise RegexError(f"bad regex: {error}; test it with regex.search of Python's library regex") from None


# -- the pattern's parts


class _Item(NamedTuple):
    """One part of a pattern; `kind` is a group's name in _TOKEN, `high` is TEXT or more if it is open."""

    kind: str
    text: str
    branches: Branches = ()
    low: int = 1
    high: int = 1


Branches = tuple["tuple[_Item, ...]", ...]


def _tokens(pattern: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(pattern):
        match = _TOKEN.match(pattern, at)
        if match is None or match.lastgroup is None:
            raise re.error("not understood", pattern, at)
        yield match.lastgroup, match.group()
        at = match.end()


def _parse(tokens: Iterator[tuple[str, str]]) -> Branches:
    """The alternatives up to the end of a group; Python has taken the pattern, so its brackets are balanced."""
    branches: list[list[_Item]] = [[]]
    for kind, text in tokens:
        if kind == "close":
            break
        if kind == "bar":
            branches.append([])
        elif kind == "repeat":
            low, high = _bounds(text)
            branches[-1][-1] = branches[-1][-1]._replace(low=low, high=high)
        else:
            branches[-1].append(_Item(kind, text, _parse(tokens) if kind in _OPEN else ()))
    return tuple(map(tuple, branches))


def _bounds(text: str) -> tuple[int, int]:
    if text[0] != "{":
        return int(text[0] == "+"), 1 if text[0] == "?" else TEXT
    low, comma, high = text[1 : text.index("}")].partition(",")
    return int(low or 0), int(high or TEXT) if comma else int(low)


# -- what the library must not be given


def _unfit(branches: Branches) -> str:
    """Why the library cannot be given the pattern, with what to write instead; empty if it can."""
    if _size(branches) > _MOST_REPEATED:
        return f"the regex repeats so much that it has more than {_MOST_REPEATED} parts; write smaller counts"
    if _members(branches) > _MOST_IN_A_SET:
        return f"the regex has a set of more than {_MOST_IN_A_SET} characters and ranges; join some to ranges"
    for item in (item for branch in branches for item in branch):
        if item.kind == "brace":
            return r"the regex has a { that begins no count, which means other things elsewhere; write \{"
        if item.kind == "char" and "[:" in item.text[1:]:
            return r"the regex has a set with [: in it, which means other things elsewhere; write \[:"
        problem = _unfit(item.branches)
        if problem:
            return problem
    return ""


def _size(branches: Branches) -> int:
    """How many parts there are once each is written out as often as it must come."""
    return sum(max(1, item.low) * (1 + _size(item.branches)) for branch in branches for item in branch)


def _members(branches: Branches) -> int:
    """The most that one character is compared with; alternatives of one character each are a set, too."""
    alone = sum(_weight(branch[0]) for branch in branches if len(branch) == 1)
    return max([alone, *(_weight(item) for branch in branches for item in branch)], default=0)


def _weight(item: _Item) -> int:
    return len(_MEMBER.findall(item.text[1:-1])) if item.text[0] == "[" else max(1, _members(item.branches))


# -- what Python's matcher may be given


class _Unproven(Exception):
    """Nothing can be said about the pattern."""


class _Cost(NamedTuple):
    """From one start: the steps that all ways through some items take together, how many ways there are, and the most
    characters that they cover.
    """

    steps: int = 0
    ways: int = 1
    length: int = 0


class _Proof:
    """Whether Python's matcher takes at most _MOST_STEPS for each character of whatever text.

    That is so without open repeats if there are few ways through the pattern. An open repeat of one character adds a
    pass over the text if it begins behind a character that it cannot match, as the runs that it takes are apart then,
    and ends before one, as there is one way to end it then. At the end of the pattern it finds what it looks for at
    once. Behind ^ one such repeat may be anything, for there is one start only.
    """

    def __init__(self, flags: int) -> None:
        self._flags = flags & (re.IGNORECASE | re.ASCII)
        self._anchors = frozenset((r"\A",) if flags & re.MULTILINE else (r"\A", "^"))

    def holds(self, branches: Branches) -> bool:
        try:
            return sum(self._branch(branch) for branch in branches) <= _MOST_STEPS
        except _Unproven:
            return False

    def _branch(self, items: tuple[_Item, ...]) -> int:
        """The steps of an alternative of the whole pattern."""
        items = tuple(item for item in items if not (item.kind == "nothing" and item.text[0] == "("))
        if items and items[-1].high >= TEXT and items[-1].low <= 1:
            items = (*items[:-1], *([items[-1]._replace(high=1)] * items[-1].low))
        spare = bool(items) and items[0].text in self._anchors
        steps, ways, before = 0, 1, 0
        for at, item in enumerate(items):
            if item.high < TEXT:
                cost = self._repeated(item)
                steps, ways, before = steps + ways * cost.steps, ways * cost.ways, before + cost.length
            elif self._is_run(items, at):
                # As many starts lead to a run as there are lengths of what comes before it.
                ways *= before + 1
                steps, before = steps + 2 * ways, 0
            elif spare and item.kind == "char":
                spare, steps, before = False, steps + 2, 0
            else:
                raise _Unproven
        return steps

    def _sequence(self, items: tuple[_Item, ...]) -> _Cost:
        """The cost of an alternative of a group."""
        steps, ways, length = 0, 1, 0
        for item in items:
            cost = self._repeated(item)
            steps, ways, length = steps + ways * cost.steps, ways * cost.ways, length + cost.length
        return _Cost(steps, ways, length)

    def _repeated(self, item: _Item) -> _Cost:
        one = self._once(item)
        if item.kind != "char" and item.low == item.high == 1:
            return one
        if item.high * one.steps > _MOST_STEPS:
            raise _Unproven
        steps, ways, total = one.steps, 1, int(item.low == 0)
        for count in range(1, item.high + 1):
            steps, ways = steps + ways * one.steps, ways * one.ways
            total += ways if count >= item.low else 0
            if steps > _MOST_STEPS:
                raise _Unproven
        return _Cost(steps, max(1, total), item.high * one.length)

    def _once(self, item: _Item) -> _Cost:
        if item.kind == "char":
            return _Cost(1, 1, 1)
        if item.kind == "nothing":
            return _Cost(1, 1, 0)
        if item.kind != "group":
            raise _Unproven
        costs = [self._sequence(branch) for branch in item.branches]
        return _Cost(
            1 + len(costs) + sum(cost.steps for cost in costs),
            sum(cost.ways for cost in costs),
            max(cost.length for cost in costs),
        )

    def _is_run(self, items: tuple[_Item, ...], at: int) -> bool:
        return (
            items[at].kind == "char"
            and 0 < at < len(items) - 1
            and self._is_apart(items[at - 1], items[at])
            and self._is_apart(items[at + 1], items[at])
        )

    def _is_apart(self, one: _Item, many: _Item) -> bool:
        """Whether the one is a plain ASCII character that must come, and that the many do not match."""
        letter = one.text[-1:]
        if one.kind != "char" or one.low != 1 or one.high != 1 or not letter.isascii():
            return False
        if len(one.text) > 1 + (one.text[0] == "\\" and not letter.isalnum()) or one.text == ".":
            return False
        matched = re.compile(many.text, self._flags | re.DOTALL)
        forms = letter
        if self._flags & re.IGNORECASE:
            forms += letter.lower() + letter.upper() + _FOLDED.get(letter.lower(), "")
        return not any(map(matched.fullmatch, forms))
