# SPDX-License-Identifier: GPL-3.0-or-later
"""Regexes as whoever writes rules might, and texts that make them slow, both made from a seed."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

TEXT = 8192

_LITERALS = [*"ab01 -_/.=<>!@%x", r"\.", r"\\", r"\+", r"\(", r"\n", r"\t", r"\x41", r"\u0430", "union", "../"]
_LITERALS += ["\xe9", "\xdf", "\u0131", "\u017f", "\u212a", "select"]
_SETS = [r"\w", r"\d", r"\s", r"\W", r"\D", r"\S", ".", "[a-z]", "[^a]", "[^<>]", r"[\w.-]", "[ab]", r"[^\n]"]
_SETS += ["[a-zA-Z0-9_%]", r"[\s\S]", r"[^\w\s]", "[\u0430-\u044f]", "[A-Za-z0-9+/=]"]
_REPEATS = ["*", "+", "?", "*", "+", "{2}", "{1,3}", "{0,20}", "{3,}", "{1,200}", "{,5}", "{50}", "{1,1000}"]
_UNITS = ["a", "b", "ab", "a ", " ", "0", "1 ", "aA", "\n", "\xe9", "\u0131i\u017fk", "\u0430", "<", "../", "select"]
_UNITS += ["union ", "%41", ".-", "_x!"]
_ENDS = ["", "\n", "!", "\0", "x", "\n!bcxyz@=0", "b", "#"]
_POSSESSIVE = sys.version_info >= (3, 11)


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self._chance, self._groups = chance, 0

    def pattern(self) -> str:
        self._groups = 0
        flags = self._chance.choice(["", "", "", "(?i)", "(?s)", "(?m)", "(?a)", "(?is)"])
        start, end = self._chance.choice(["", "", "", "^"]), self._chance.choice(["", "", "$", "!", "x$"])
        return flags + start + self._either(self._chance.randint(0, 4)) + end

    def _either(self, depth: int) -> str:
        return "|".join(self._sequence(depth) for _each in range(self._chance.choice([1, 1, 1, 2, 2, 3])))

    def _sequence(self, depth: int) -> str:
        return "".join(self._repeated(depth) for _each in range(self._chance.randint(1, 4)))

    def _repeated(self, depth: int) -> str:
        chance = self._chance
        if chance.random() < 0.05:
            return chance.choice(["^", "$", r"\b", r"\B"])
        once = self._once(depth)
        if chance.random() < 0.45:
            return once
        return once + chance.choice(_REPEATS) + chance.choice(["", "", "", "?", *(["+"] if _POSSESSIVE else [])])

    def _once(self, depth: int) -> str:
        chance = self._chance
        kind = chance.random()
        if kind < 0.35 or (depth <= 0 and kind >= 0.6):
            return chance.choice(_LITERALS)
        if kind < 0.6:
            return chance.choice(_SETS)
        if kind < 0.66 and self._groups:
            return f"\\{chance.randint(1, self._groups)}"
        if kind < 0.72:
            return chance.choice(["(?<=", "(?<!"]) + chance.choice(["a", "ab", r"\w", "[^a]", ".."]) + ")"
        if kind < 0.8:
            return chance.choice(["(?=", "(?!", *(["(?>"] if _POSSESSIVE else [])]) + self._either(depth - 1) + ")"
        captures = chance.random() < 0.4
        body = self._either(depth - 1)
        self._groups += captures
        return ("(" if captures else chance.choice(["(?:", "(?:", "(?i:", "(?s:"])) + body + ")"


def patterns(seed: int) -> Iterator[str]:
    """Patterns without end, not all of them valid."""
    maker = _Maker(random.Random(seed))
    while True:
        yield maker.pattern()


def texts(seed: int, pattern: str, count: int = 20) -> Iterator[str]:
    """Texts of 8192 characters that repeat something, mostly from the pattern, and end with something else."""
    chance = random.Random(f"{seed} {pattern}")
    letters = [letter for letter in pattern if letter.isalnum() or letter in " -_/.=<>!@%"] or ["a"]
    for _each in range(count):
        unit = chance.choice(_UNITS)
        if chance.random() < 0.5:
            unit = "".join(chance.choice(letters) for _letter in range(chance.randint(1, 6)))
        end = chance.choice(_ENDS) + chance.choice(["", "".join(dict.fromkeys(letters))[:40]])
        start = chance.choice(["", "", unit.upper(), "x"])
        yield (start + unit * TEXT)[: TEXT - len(end)] + end
