# SPDX-License-Identifier: GPL-3.0-or-later
"""No line is passed over that a parse would turn into a match, however JSON can write it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ngfw.events import eve
from ngfw.rules.expression import Expression, compile_expression

# What an expression is, and a record that meets it, without its event type.
MATCHES: list[tuple[str, dict[str, Any]]] = [
    ("dest_port == 22", {"dest_port": 22}),
    ("dest_port == 22", {"dest_port": 22.0}),
    ("dest_port in [22, 2222, 0]", {"dest_port": 0}),
    ("dest_port == 0", {"dest_port": 0}),
    ("-5 == dest_port", {"dest_port": -5}),
    ("alert.severity == 2.5", {"alert": {"severity": 2.5}}),
    ("alert.severity in [1, 2.0, 3.5]", {"alert": {"severity": 2}}),
    ("alert.signature_id == 1e3", {"alert": {"signature_id": 1000}}),
    ("alert.signature_id == 9007199254740993", {"alert": {"signature_id": 9007199254740993}}),
    ('proto == "TCP"', {"proto": "TCP"}),
    ('proto in ["TCP", "UDP"]', {"proto": "UDP"}),
    ('proto == ""', {"proto": ""}),
    ('alert.signature == "a/b"', {"alert": {"signature": "a/b"}}),
    ('alert.signature == "\\"quoted\\" \\\\ part"', {"alert": {"signature": '"quoted" \\ part'}}),
    ('alert.signature == "é"', {"alert": {"signature": "é"}}),
    ('alert.signature in ["naïve text", "x"]', {"alert": {"signature": "naïve text"}}),
    ('contains(alert.signature, "/wp-login.php")', {"alert": {"signature": "/a/wp-login.php?x"}}),
    ('starts_with(alert.signature, "SSH ")', {"alert": {"signature": "SSH scan"}}),
    ('ends_with(alert.signature, "n\\n")', {"alert": {"signature": "SSH scan\n"}}),
    ('"SQL" in alert.signature', {"alert": {"signature": "an SQL"}}),
    ('contains(alert.metadata.tag, "a")', {"alert": {"metadata": {"tag": ["b", "a"]}}}),
    ('alert.metadata.tag[0] == "a"', {"alert": {"metadata": {"tag": ["a"]}}}),
    ('src_ip == "2001:db8::1"', {"src_ip": "2001:0db8:0000:0000:0000:0000:0000:0001"}),
    ('offender == "192.0.2.1"', {}),
    ('dest_port == 22 and proto == "TCP"', {"dest_port": 22, "proto": "TCP"}),
    ('dest_port == 22 and not proto == "UDP"', {"dest_port": 22}),
    ("dest_port == 22 or alert.severity == 1", {"alert": {"severity": 1}}),
    ("dest_port == 22 or len(proto) == 3", {"proto": "xyz"}),
    ('dest_port in [21, 22] and (proto == "TCP" or "SSH" in alert.signature)', {"dest_port": 22, "proto": "TCP"}),
    ('alert.metadata["x/y"] == 5', {"alert": {"metadata": {"x/y": 5}}}),
    ('alert.metadata["x"] in ["5", 5]', {"alert": {"metadata": {"x": 5}}}),
]
EXPRESSIONS = {text: compile_expression(text, event_type="alert") for text, _record in MATCHES}
TEXTS = st.sampled_from(("event_type", "dest_port", "proto", "alert", "flow", "TCP", "x/y", "x", "tag", "22", ""))
ANYTHING = st.recursive(
    TEXTS | st.sampled_from((22, 0, 5, 2.5, None, True)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def texts_of(draw: st.DrawFn, text: str, escapes: bool) -> str:
    """A JSON text of that value: each character as it is, after a backslash, or by its number."""
    written = ""
    for character in text:
        forms = [json.dumps(character, ensure_ascii=False)[1:-1]]
        forms += ["\\/"] * (character == "/")
        forms += [f"\\u{ord(character):04x}", f"\\u{ord(character):04X}"] * escapes
        written += draw(st.sampled_from(forms))
    return f'"{written}"'


@st.composite
def numbers_of(draw: st.DrawFn, number: float) -> str:
    """A JSON number of that value."""
    forms = [json.dumps(number)] * 3
    if number == 0:
        forms += ["-0", "0.0", "-0.0", "0e5"]
    elif abs(number) < 10**6:
        forms += [f"{number:.1f}", f"{number:.9f}", f"{number:.6e}", f"{number:.6E}".replace("+", "")]
        forms += [f"{number * 10:.1f}e-1", f"{number:.1f}{'0' * 30}1"]
    return draw(st.sampled_from(forms))


@st.composite
def written(draw: st.DrawFn, value: Any, escapes: bool) -> str:
    """Some JSON of that value, with white space, other forms of the same, and keys that come twice."""
    space = st.sampled_from(("", "", "", " ", "\t", "  "))
    if isinstance(value, dict):
        items = list(value.items())
        twice = draw(st.lists(st.sampled_from(items), max_size=1)) if items else []
        parts = []
        for key, each in [*((key, draw(ANYTHING)) for key, _value in twice), *items]:
            parts.append(f"{draw(space)}{draw(texts_of(key, escapes))}{draw(space)}:{draw(space)}")
            parts[-1] += draw(written(each, escapes)) + draw(space)
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ",".join(draw(space) + draw(written(each, escapes)) + draw(space) for each in value) + "]"
    if isinstance(value, str):
        return draw(texts_of(value, escapes))
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return draw(numbers_of(value))


@st.composite
def matches(draw: st.DrawFn) -> tuple[str, bytes]:
    """An expression and a line that meets it, somehow written, its fields among others."""
    text, fields = draw(st.sampled_from(MATCHES))
    record = {**draw(st.dictionaries(st.sampled_from(("http", "flow", "x")), ANYTHING, max_size=2)), **fields}
    record["event_type"] = "alert"
    items = draw(st.permutations(list(record.items())))
    return text, draw(written(dict(items), draw(st.booleans()))).encode()


def kept(expression: Expression, line: bytes) -> bool:
    sieve = eve.Sieve({"alert": expression.glance})
    sieve.sift(b'{"event_type":"flow"}\n')
    return line in sieve.sift(line + b"\n")[0]


@pytest.mark.feature("F2", "A10")
@settings(max_examples=300)
@given(matches())
def test_a_line_that_matches_is_never_passed_over(match: tuple[str, bytes]) -> None:
    text, line = match
    event = eve.decode(line)
    event.record["offender"] = "192.0.2.1"
    assert event.type == "alert"
    assert EXPRESSIONS[text].matches(event.record)
    assert kept(EXPRESSIONS[text], line)


def record(**fields: Any) -> bytes:
    return json.dumps({"event_type": "alert", **fields}, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "line", "parsed"),
    [
        ("dest_port == 22", record(dest_port=22), True),
        ("dest_port == 22", record(dest_port=22, flow={"dest_port": 5}), True),
        ("dest_port == 22", record(flow={"dest_port": 22}), True),
        ("dest_port == 22", record(dest_port=221), False),
        ("dest_port == 22", record(dest_port=122), False),
        ("dest_port == 22", record(dest_port="22"), False),
        ("dest_port == 22", record(src_port=22), False),
        ("dest_port == 22", record(payload="dest_port:22"), False),
        ("dest_port == 22", b'{"event_type":"alert","dest_port": 22}', True),
        ("dest_port == 22", b'{"dest_port":22,"event_type": "alert","http":{"event_type":"flow"}}', True),
        ("dest_port == 22", b'{"event_type":"alert","dest_port":2.2e1}', True),
        ("dest_port == 22", b'{"event_type":"alert","dest_port":21.9999999999999999999}', True),
        ("dest_port == 22", b'{"event_type":"alert","dest_por\\u0074":22}', True),
        ("dest_port == 22", b'{"event_type":"alert","x":"\\u0001"}', False),
        ('proto == "TCP"', record(proto="TCP"), True),
        ('proto == "TCP"', record(proto="TCP2"), False),
        ('proto == "TCP"', b'{"event_type":"alert","proto":"\\u0054CP"}', True),
        ('alert.signature == "a/bc"', b'{"event_type":"alert","alert":{"signature":"a\\/bc"}}', True),
        ('alert.signature == "a/bc"', record(alert={"signature": "bd"}), False),
        ('contains(alert.signature, "select")', record(alert={"signature": "x select y"}), True),
        ('contains(alert.signature, "select")', record(alert={"signature": "x SELECT y"}), False),
        ('dest_port == 22 and proto == "TCP"', record(dest_port=22, proto="UDP"), False),
        ('dest_port == 22 or proto == "TCP"', record(dest_port=23, proto="UDP"), False),
        ('dest_port == 22 or proto == "TCP"', record(dest_port=23, proto="TCP"), True),
        ("dest_port == 22 or true", record(), True),
        ("not dest_port == 22", record(dest_port=23), True),
        ("dest_port != 22", record(), True),
        ('offender == "192.0.2.1"', record(), True),
        ('lower(proto) == "tcp"', record(), True),
    ],
)
def test_lines_without_what_an_expression_needs_are_passed_over(text: str, line: bytes, parsed: bool) -> None:
    assert kept(compile_expression(text, event_type="alert"), line) is parsed


@pytest.mark.parametrize(
    "line",
    [
        b'{"event_type":"flow","event_type":"alert"}',
        b'{"event_type":"flow","event_type" :"alert"}',
        b'{"event_type":"flow","event_typ\\u0065":"alert"}',
        b'{"event_type":"flow","\\u0065vent_type":"\\u0061lert"}',
        b'{"event_type":"\\u0061lert"}',
        b'{"event_type" : "alert"}',
        b'@cee: {"event_type": "alert"}',
        b'{"rdp":{"event_type":"flow"},"event_type":"alert"}',
    ],
)
def test_no_way_to_write_the_type_hides_an_alert(line: bytes) -> None:
    assert eve.decode(line).type == "alert"
    assert kept(compile_expression("true", event_type="alert"), line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"event_type":"alert","dest_port":23',
        b'{"event_type":"alert","dest_port":23,"x":"\xff"}',
        b'{"event_type":"alert',
        b"nonsense",
    ],
)
def test_a_broken_line_of_a_type_that_matters_is_left_to_the_parser(line: bytes) -> None:
    assert kept(EXPRESSIONS["dest_port == 22"], line)


def test_a_thousand_signatures_are_one_look_and_many_texts_none() -> None:
    numbers = compile_expression(f"alert.signature_id in {list(range(700))}", event_type="alert")
    assert kept(numbers, record(alert={"signature_id": 699}))
    assert not kept(numbers, record(alert={"signature_id": 700}))
    assert not kept(numbers, b'{"event_type":"alert","alert":{"signature_id":%s}}' % (b"9" * 5000))
    texts = [f'proto == "p{number}"' for number in range(9)]
    assert kept(compile_expression(" or ".join(texts), event_type="alert"), record(proto="x"))
    assert not kept(compile_expression(" or ".join(texts[1:]), event_type="alert"), record(proto="x"))


def test_the_others_are_counted_by_type() -> None:
    sieve = eve.Sieve({"alert": EXPRESSIONS["dest_port == 22"].glance, "ssh": None})
    first, second = record(dest_port=22), b'{"event_type":"ssh"}'
    data = [record(dest_port=1), first, b'{"event_type":"flow"}', b"", second, b'{"event_type":"flow"}', b""]
    for _again in range(2):
        wanted, others = sieve.sift(b"\n".join(data))
        assert wanted == [first, second]
        assert others == {b"alert": 1, b"flow": 2}


def test_a_file_full_of_types_does_not_fill_the_memory() -> None:
    sieve = eve.Sieve({})
    wanted, others = sieve.sift(b"".join(b'{"event_type":"t%d"}\n' % number for number in range(1000)))
    assert len(others) == 64
    assert len(wanted) == 1000 - 64
