# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.rules.regex import (
    BURST_SECONDS,
    LIMIT_SECONDS,
    MAX_PATTERN,
    SHORT_SECONDS,
    SHORT_TEXT,
    TEXT,
    Limited,
    Patience,
    RegexError,
    compile_regex,
)

from .regexes import patterns, texts

HOSTILE = ("a", " ", "ab", "unionselect", "a.", "../", "1 ", "<script>", "on ", "x,", "%aa", "' or 1", "1.1.", "A-z_0 ")

# Python's own matcher may have them: they cost at most so many steps for each character.
PROVEN = [
    r"",
    r".*?",
    r".*foo",
    r"union\s+select",
    r"(?i)union\s*select",
    r"<[^<>]+>",
    r"(?:\d{1,3}\.){3}\d{1,3}",
    r"(\.\./)+",
    r"(?i)(sqlmap|nikto|nmap|masscan|nessus)",
    r"(?i)log-?in|sign-?in|logon|auth|session|token|xmlrpc",
    r"(?:%[0-9a-f]{2})+",
    r"^\w+@",
    r"^[a-z0-9]{20,}\.",
    r"\bselect\b",
    r"[^\x00-\x7f]",
    r"=[0-9]+&id",
    r"foo\.*",
    r"^[a-z]*\.\s+x",
    r"(?i)(?:eval|exec) ?\(",
]

# They could cost it more.
LIMITED = [
    r"\w+@",
    r"a.*?b",
    r"\s+$",
    r"(\w|-)+=\d",
    r"(?:ab?)+c",
    r"(a+)+$",
    r"(a*)*b",
    r"(a|aa)+$",
    r"([a-z]+)*\d",
    r"(x+x+)+y",
    r"(.*a){12}",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"(a?){25}b",
    r"a?" * 25 + r"a" * 25,
    r"(a{1,30}){1,30}b",
    r"a*a*b",
    r"union.*select.*from",
    r"x.*y",
    r"(?i)k\u212a*x",
    "(?i)k[\u212a]*x",
    "(?i)s[\u017f]+x",
    r"(?i)a[A-Z]+,",
    r"(?=(a+)+$)b",
    r"(?i:a)b*c",
    r"(\w)\1+",
    r"(?P<q>['\"]).*(?P=q)",
    r"(?m)^\w+@",
    r"^a*b*c",
    r"(?:x\s+y)+z",
]


@pytest.mark.feature("F2", "S3")
@pytest.mark.parametrize("pattern", PROVEN)
def test_patterns_of_certain_cost_need_no_library(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "regex", None)
    assert isinstance(compile_regex(pattern), re.Pattern)


@pytest.mark.feature("F2", "S3")
@pytest.mark.parametrize("pattern", LIMITED)
def test_searches_for_other_patterns_are_limited(pattern: str) -> None:
    compiled = compile_regex(pattern)
    assert isinstance(compiled, Limited)
    for unit in HOSTILE:
        compiled.search((unit * TEXT)[:TEXT])  # some of them would take years


@pytest.mark.feature("S3")
@pytest.mark.parametrize("pattern", LIMITED)
def test_without_the_library_they_are_an_error_that_names_the_package(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "regex", None)
    with pytest.raises(RegexError, match="install the package python3-regex"):
        compile_regex(pattern)


@pytest.mark.feature("S3")
def test_generated_regexes_take_less_than_50_ms_on_hostile_texts() -> None:
    """Processor time, so that others on the machine do not count; `make bench` does it with 5,000 of them."""
    taken = 0
    for pattern in patterns(20):
        try:
            compiled = compile_regex(pattern)
        except RegexError:
            continue
        taken += 1
        for text in texts(20, pattern, 5):
            start = time.thread_time()
            compiled.search(text)
            assert time.thread_time() - start < 0.05, pattern
        if taken == 60:
            return


@pytest.mark.feature("S3")
def test_a_search_that_is_cut_off_finds_nothing_and_is_counted() -> None:
    compiled = compile_regex("(?:ab?)+c")
    assert isinstance(compiled, Limited)
    assert compiled.search("ab" * 10 + "c") is not None
    assert compiled.cut_off == 0
    assert compiled.search("a" * 8000 + "!c") is None
    assert compiled.cut_off == 1


class Slow:
    """A compiled pattern whose searches take what they are given, and the clock that says so."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.now, self.seconds, self.limits = 1000.0, seconds, [0.0]

    def search(self, _text: str, *, timeout: float) -> Any:
        self.limits.append(timeout)
        self.now += min(timeout, self.seconds)
        if timeout <= self.seconds:
            raise TimeoutError
        return True

    def clock(self) -> float:
        return self.now


@pytest.mark.feature("S3")
def test_a_thousand_hostile_lines_take_less_than_half_a_second_together() -> None:
    for length in (TEXT, SHORT_TEXT):
        slow, patience = Slow(), Patience()
        rules = [Limited("x", slow, slow.clock) for _rule in range(20)]
        for rule in rules:
            rule.patience = patience
        start = slow.now
        for _line in range(1000):
            for rule in rules:
                assert rule.search("x" * length) is None
        assert slow.now - start < 3 * BURST_SECONDS < 1
        assert [rule.cut_off for rule in rules] == [1000] * 20


@pytest.mark.feature("S3")
def test_a_pattern_under_attack_still_finds_short_texts_and_the_others_all() -> None:
    slow, patience = Slow(), Patience()
    attacked, other = (Limited("x", slow, slow.clock) for _rule in range(2))
    attacked.patience = other.patience = patience
    for _line in range(100):
        attacked.search("x" * TEXT)
    assert attacked.cut_off == 100
    slow.seconds = SHORT_SECONDS / 2
    assert attacked.search("x" * SHORT_TEXT)
    assert attacked.search("x" * TEXT) is None
    assert other.search("x" * TEXT)
    slow.now += 1
    assert attacked.search("x" * TEXT)
    assert slow.limits[-1] == LIMIT_SECONDS


@pytest.mark.feature("S3")
def test_a_pattern_that_takes_its_time_without_being_cut_off_is_limited_too() -> None:
    slow = Slow(LIMIT_SECONDS * 0.9)
    rule = Limited("x", slow, slow.clock)
    rule.patience = Patience()
    found = [rule.search("x" * TEXT) for _line in range(1000)]
    assert found[0]
    assert found[-1] is None
    assert slow.now - 1000 < BURST_SECONDS


@pytest.mark.feature("F1")
@pytest.mark.parametrize(
    "pattern", ["(", "[a", "*a", "a{2,1}", "(?P<n", r"\1", "(?z)", "a**", "[[a]b", "x(?i)y", "a{99999999999}"]
)
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(RegexError, match="regex"):
        compile_regex(pattern)


@pytest.mark.feature("S3")
@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("a" * (MAX_PATTERN + 1), "longer than"),
        ("(a{1000}){1000}", "smaller counts"),
        ("(?:(?:ab|c){1000}){1000}x*y", "smaller counts"),
        ("(?=a{100}){100}b*c", "smaller counts"),
        ("[" + "".join(chr(0x100 + 2 * each) for each in range(60)) + "]*x", "join some to ranges"),
        ("(?:" + "|".join(chr(0x100 + 2 * each) for each in range(60)) + ")*x", "join some to ranges"),
        ("a*a{e<=2}", r"write \\{"),
        ("a*[x[:alpha:]]b", r"\[:"),
        ("(?x) a* # b", "flag x"),
        ("(?x: a* )b", "flag x"),
    ],
)
def test_what_would_be_large_or_mean_other_things_to_the_library_is_refused(pattern: str, problem: str) -> None:
    with pytest.raises(RegexError, match=problem):
        compile_regex(pattern)


@pytest.mark.parametrize(
    "pattern", ["(" * 400 + "a" + ")" * 400, "(a|b" * 200 + ")" * 200, "(?:a?b" * 150 + ")*" * 150]
)
def test_checking_a_pattern_takes_bounded_time(pattern: str) -> None:
    start = time.perf_counter()
    with suppress(RegexError):
        compile_regex(pattern)
    assert time.perf_counter() - start < 5


def test_a_leading_wildcard_is_left_out_since_a_search_needs_none() -> None:
    for pattern, left in ((".*.*?foo", "foo"), (".*?", "")):
        compiled = compile_regex(pattern)
        assert isinstance(compiled, re.Pattern)
        assert compiled.pattern == left


PIECES = st.sampled_from(
    [".*", "a", "b", "a*", "b+", "(a|b)*", "(ab)?", "[^a]", r"\s*", r"\w+", "^", "$", "a{2,5}", ".", r"\b", r"(?=a)"]
)


@given(st.lists(PIECES, max_size=6).map("".join), st.text("ab \n", max_size=20))
def test_what_is_taken_finds_what_python_finds(pattern: str, text: str) -> None:
    try:
        compiled = compile_regex(pattern)
    except RegexError:
        return
    assert bool(compiled.search(text)) == bool(re.search(pattern, text))


@pytest.mark.feature("S3")
def test_both_matchers_find_the_same() -> None:
    """Short texts, which Python's own matcher can search for whatever pattern."""
    taken = 0
    for pattern in islice(patterns(21), 1500):
        if len(pattern) > 24:
            continue
        try:
            compiled = compile_regex(pattern)
        except RegexError:
            continue
        if isinstance(compiled, Limited):
            taken += 1
            for text in texts(21, pattern, 6):
                short = text[:5] + text[-5:]
                if "\u0131" not in short and "i" not in short.lower():  # the dotless i is another letter to the library
                    assert bool(compiled.search(short)) == bool(re.search(pattern, short)), (pattern, short)
    assert taken > 100
