# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import sys
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.rules.regex import MAX_PATTERN, TEXT, RegexError, compile_regex

HOSTILE = ("a", " ", "ab", "unionselect", "a.", "../", "1 ", "<script>", "on ", "x,", "%aa", "' or 1", "1.1.", "A-z_0 ")

FAST = [
    r"union\s+select",
    r"(?i)union.*select",
    r"^union.*select.*from",
    r"(?i)(select|union|insert|update|delete|drop).{0,40}(from|into|table|where)",
    r"<script[^>]*>.*</script>",
    r"(?i)on\w+\s*=\s*[\"']",
    r"(?:\d{1,3}\.){3}\d{1,3}",
    r"^(?:[a-z0-9-]+\.)+[a-z]{2,}$",
    r"(\.\./)+",
    r"(\.\./|\.\.\\)+etc/passwd",
    r"(?i)(sqlmap|nikto|nmap|masscan|nessus)",
    r"^[A-Za-z0-9+/]{40,}={0,2}$",
    r"(?:%[0-9a-f]{2})+",
    r"(foo|far)*x",
    r".*foo.*",
    r".*.*.*x",
    r"('|%27)\s*(or|and)\s+\d+\s*=\s*\d+",
    r"[^\x00-\x7f]{3,}",
    r"^[a-z0-9]{20,}\.",
    r"\bselect\b(?! all)",
    r"",
]

SLOW = [
    r"(a+)+$",
    r"(a*)*b",
    r"(a|a)*b",
    r"(a|aa)+$",
    r"(\wx|\dx)+!",
    r"([a-z]+)*\d",
    r"(\w+\s?)*$",
    r"(x+x+)+y",
    r"(.*a){12}",
    r"(?:.*,)*x",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"(a?){25}b",
    r"a?" * 25 + r"a" * 25,
    r"(a{1,30}){1,30}b",
    r"(?:(?:a{2,9}){2,9}){2,9}b",
    r"a*a*b",
    r".+\s*.+x",
    r"union.*select.*from",
    r"(?i)(kb|\u212ab)+x",
    r"(?=(a+)+$)b",
    r"(\w)\1+",
    r"(?P<q>['\"]).*(?P=q)",
]


@pytest.mark.feature("F2")
@pytest.mark.parametrize("pattern", FAST)
def test_ordinary_patterns_are_taken_and_stay_fast_on_hostile_text(pattern: str) -> None:
    compiled = compile_regex(pattern)
    for unit in HOSTILE:
        text = (unit * TEXT)[:TEXT]
        start = time.perf_counter()
        compiled.search(text)
        assert time.perf_counter() - start < 1.5  # what may backtrack takes hours


@pytest.mark.feature("F2")
@pytest.mark.parametrize("pattern", SLOW)
def test_patterns_that_hostile_text_makes_slow_are_refused(pattern: str) -> None:
    with pytest.raises(RegexError) as caught:
        compile_regex(pattern)
    assert ";" in str(caught.value)


@pytest.mark.feature("F1")
@pytest.mark.parametrize(
    "pattern", ["(", "[a", "*a", "a{2,1}", "(?P<n", r"\1", "(?z)", "a**", "[[a]b", "x(?i)y", "a{99999999999}"]
)
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(RegexError, match="regex"):
        compile_regex(pattern)


def test_a_pattern_beyond_the_limit_is_refused() -> None:
    with pytest.raises(RegexError, match="longer than"):
        compile_regex("a" * (MAX_PATTERN + 1))


@pytest.mark.parametrize(
    "pattern", ["(" * 400 + "a" + ")" * 400, "(a|b" * 200 + ")" * 200, "(?:a?b" * 150 + ")*" * 150]
)
def test_checking_a_pattern_takes_bounded_time(pattern: str) -> None:
    start = time.perf_counter()
    with suppress(RegexError):
        compile_regex(pattern)
    assert time.perf_counter() - start < 5


def test_a_leading_wildcard_is_left_out_since_a_search_needs_none() -> None:
    assert compile_regex(".*.*?foo").pattern == "foo"
    assert compile_regex(".*?").pattern == ""
    if sys.version_info >= (3, 11):
        assert compile_regex(".*+x").pattern == ".*+x"


PIECES = st.sampled_from(
    [".*", "a", "b", "a*", "b+", "(a|b)*", "(ab)?", "[^a]", r"\s*", r"\w+", "^", "$", "a{2,5}", "."]
)


@given(st.lists(PIECES, max_size=6).map("".join), st.text("ab \n", max_size=20))
def test_what_is_taken_finds_what_python_finds(pattern: str, text: str) -> None:
    try:
        compiled = compile_regex(pattern)
    except RegexError:
        return
    assert bool(compiled.search(text)) == bool(re.search(pattern, text))


@given(st.lists(PIECES, max_size=6).map("".join), st.sampled_from(HOSTILE), st.sampled_from(["", "!", "x"]))
def test_what_is_taken_is_fast_on_repetitive_text(pattern: str, unit: str, end: str) -> None:
    try:
        compiled = compile_regex(pattern)
    except RegexError:
        return
    # A thousand characters: what costs the cube of the length takes seconds, its square milliseconds.
    start = time.perf_counter()
    compiled.search((unit * 1000)[:1000] + end)
    assert time.perf_counter() - start < 0.5
