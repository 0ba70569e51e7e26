# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import (
    COMMENT_BYTES,
    FOREIGN,
    Action,
    Block,
    Note,
    Origin,
    clean_text,
    decode_comment,
    encode_comment,
    rate_unit_seconds,
    valid_burst,
    valid_log_prefix,
    valid_rate,
    valid_rule_name,
)
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput
from hypothesis import given
from hypothesis import strategies as st

BREAKS = re.compile('["\\x00-\\x1f]')


def accepted(check, value):
    try:
        return check(value) == value
    except InvalidInput:
        return False


rule_names = st.text(min_size=1, max_size=64).filter(lambda text: accepted(valid_rule_name, text))
prefixes = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=28).filter(
    lambda text: accepted(valid_log_prefix, text)
)
rates = st.builds(
    lambda number, unit, burst: f"{number}/{unit}/{burst}",
    st.integers(1, 10000),
    st.sampled_from(["second", "minute", "hour", "day"]),
    st.integers(1, 10000),
)
notes = st.builds(
    Note,
    st.sampled_from(Origin),
    st.integers(1, 1 << 33),
    st.integers(0, 2147483),
    rule_names,
    prefixes | rates,
    st.text(max_size=400),
)


@given(notes)
def test_a_note_survives_the_kernels_comment_and_only_the_reason_is_cut(note):
    comment = encode_comment(note)

    assert len(comment.encode()) <= COMMENT_BYTES
    assert not BREAKS.search(comment.replace("\t", ""))
    read = decode_comment(comment)
    assert read._replace(reason="") == note._replace(reason="")
    assert clean_text(note.reason).startswith(read.reason)
    if len(note.reason.encode("utf-8", "surrogatepass")) < 40:
        assert read.reason == clean_text(note.reason)


def test_the_longest_note_leaves_room_for_a_reason():
    note = Note(Origin.PROTECTED, 1 << 33, 2147483, "n" * 64, "10000/minute/10000", "r" * 300)

    assert len(decode_comment(encode_comment(note)).reason) > 100


def test_a_reason_is_not_cut_within_a_character():
    note = Note(Origin.MODULE, 1, 1, "rule", "", "€" * 200)

    reason = decode_comment(encode_comment(note)).reason
    assert set(reason) == {"€"}
    assert len(reason) > 70


@given(st.text(max_size=255))
def test_any_comment_of_somebody_else_is_read_as_theirs(comment):
    note = decode_comment(comment)

    if comment.count("\t") < 5:
        assert note == FOREIGN._replace(reason=comment)


@pytest.mark.parametrize(
    "comment",
    ["", "by hand", "module\t1", "nobody\t1\t2\trule\t\treason", "module\tx\t2\trule\t\treason", "\t\t\t\t\t"],
)
def test_what_is_not_ours_is_foreign(comment):
    assert decode_comment(comment) == FOREIGN._replace(reason=comment)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('say "hi"', "say 'hi'"),
        ("two\nlines\r\n", "two lines  "),
        ("tab\tnul\0del\x7f", "tab nul del "),
        ("\u2028\x85\ud800x", "   x"),
        ("ünï", "ünï"),
    ],
)
def test_text_is_cleaned_for_the_kernel(text, clean):
    assert clean_text(text) == clean


@pytest.mark.parametrize("name", ["x", "Block SSH Brute Force", "ünïcode", "n" * 64, "ü" * 32, "a/b;$(c)`d`"])
def test_rule_names(name):
    assert valid_rule_name(name) == name


@pytest.mark.parametrize("name", ["", "n" * 65, "ü" * 33, 'a"b', "a'b", "a\nb", "a\tb", "\x7f", "\u2028", "\ud800"])
def test_bad_rule_names(name):
    with pytest.raises(InvalidInput, match="rule_name") as caught:
        valid_rule_name(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("prefix", ["", "NGFW: ", "~" * 28, "back\\slash", "%s $x"])
def test_log_prefixes(prefix):
    assert valid_log_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["x" * 29, 'a"b', "a'b", "tab\t", "line\n", "ü", "\x7f"])
def test_bad_log_prefixes(prefix):
    with pytest.raises(InvalidInput, match=r"log_prefix .* at most 28 printable ASCII"):
        valid_log_prefix(prefix)


@pytest.mark.parametrize(
    ("text", "rate", "unit"),
    [
        ("10/minute", "10/minute", (10, 60)),
        ("10/min", "10/minute", (10, 60)),
        ("10/m", "10/minute", (10, 60)),
        ("1/s", "1/second", (1, 1)),
        ("5/sec", "5/second", (5, 1)),
        ("007/hour", "7/hour", (7, 3600)),
        ("10000/d", "10000/day", (10000, 86400)),
    ],
)
def test_rates(text, rate, unit):
    assert valid_rate(text) == rate
    assert rate_unit_seconds(rate) == unit


@pytest.mark.parametrize(
    "text", ["", "10", "10/", "/minute", "0/minute", "10001/s", "-1/s", "1.5/s", "10/week", "10 /m", "10/M", "\u0661/s"]
)
def test_bad_rates(text):
    with pytest.raises(InvalidInput, match=r"rate .*write 1 to 10000 per unit, as in 10/minute"):
        valid_rate(text)


@pytest.mark.parametrize("number", [0, -1, 10001, True])
def test_bad_bursts(number):
    with pytest.raises(InvalidInput, match=f"burst {number}: use 1 to 10000"):
        valid_burst(number, "10/minute")


@pytest.mark.parametrize(("rate", "most"), [("1/day", 1), ("5/day", 5), ("1/hour", 24), ("1/minute", 1440)])
def test_a_burst_is_a_days_worth_at_most(rate, most):
    assert valid_burst(most, rate) == most
    with pytest.raises(InvalidInput, match=f"burst {most + 1} at {rate} .* use at most {most}, or a faster rate"):
        valid_burst(most + 1, rate)


def test_parameters_are_what_sets_of_an_action_differ_by():
    block = Block(parse_network("203.0.113.7"), rate="5/second", burst=9, log_prefix="x: ")

    assert {action.value: block._replace(action=action).parameters for action in Action} == {
        "drop": "",
        "reject": "",
        "log": "x: ",
        "rate_limit": "5/second/9",
    }
