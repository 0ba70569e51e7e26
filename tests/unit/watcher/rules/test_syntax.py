# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.rules.syntax import Binary, Call, ExpressionError, Field, Junction, ListOf, Literal, Tree, Unary, parse


def written(tree: Tree) -> str:
    """The tree with every bracket."""
    if isinstance(tree, Literal):
        return repr(tree.value)
    if isinstance(tree, Field):
        return ".".join(map(str, tree.path))
    if isinstance(tree, ListOf):
        return "[" + ", ".join(map(written, tree.items)) + "]"
    if isinstance(tree, Unary):
        return f"({tree.operator} {written(tree.operand)})"
    if isinstance(tree, Binary):
        return f"({written(tree.left)} {tree.operator} {written(tree.right)})"
    if isinstance(tree, Junction):
        return "(" + f" {tree.operator} ".join(map(written, tree.operands)) + ")"
    assert isinstance(tree, Call)
    return f"{tree.name}({', '.join(map(written, tree.arguments))})"


@pytest.mark.feature("F2")
@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a == 1 or b and c", "((a == 1) or (b and c))"),
        ("a || b && !c", "(a or (b and (not c)))"),
        ("a or b or c", "(a or b or c)"),
        ("not a == 1", "(not (a == 1))"),
        ("! a == 1", "(not (a == 1))"),
        ("a not in [1]", "(a not in [1])"),
        ("not a in [1]", "(not (a in [1]))"),
        ("!!a", "(not (not a))"),
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("a / b % c", "((a / b) % c)"),
        ("-a * -2", "((- a) * -2)"),
        ("a - -1", "(a - -1)"),
        ("(a or b) and c", "((a or b) and c)"),
        ("a.b[0].c[-1]['d e'].f", "a.b.0.c.-1.d e.f"),
        ("f(a, g(1), [2, 'x',])", "f(a, g(1), [2, 'x'])"),
        ("a in ['x', \"y\"]", "(a in ['x', 'y'])"),
        ("a>=1&&b<=2", "((a >= 1) and (b <= 2))"),
        ("true and False", "(True and False)"),
        ("0x1F == 31.5e2", "(31 == 3150.0)"),
        ("a.not.in.and", "a.not.in.and"),
        ("inside == 1", "(inside == 1)"),
        ("a\n  ==\t1", "(a == 1)"),
    ],
)
def test_operators_bind_as_documented(text: str, meaning: str) -> None:
    assert written(parse(text)) == meaning


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"a\"b"', 'a"b'),
        (r"'a\'b'", "a'b"),
        (r'"\d\w\.\b"', r"\d\w\.\b"),
        (r'"\\d"', r"\d"),
        (r'r"\\d\n"', r"\\d\n"),
        (r'"\n\t\x41\u00e9"', "\n\tAé"),
        ('"日本"', "日本"),
    ],
)
def test_escapes_of_texts(text: str, value: str) -> None:
    tree = parse(text)
    assert isinstance(tree, Literal)
    assert tree.value == value


@pytest.mark.feature("F1")
@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("", 0, "is empty"),
        ("   ", 0, "is empty"),
        ("a = 1", 2, "compare with =="),
        ("a & b", 2, "write && or and"),
        ("a | b", 2, "write || or or"),
        ("a == 'x", 5, "close the quotes"),
        ("a ==", 4, "ends too soon; add a value"),
        ("a == 1 b", 7, "join conditions with and, or"),
        ("a < b < c", 2, "cannot be chained"),
        ("(a", 2, "to close the bracket"),
        ("a)", 1, "cannot stand here"),
        ("[1", 2, "ends too soon"),
        ("f(a b)", 4, "write ',' or ')'"),
        ("a.", 2, "name of a field after the dot"),
        ("a.1", 2, "name of a field after the dot"),
        ("a[b]", 2, "whole number or a name in quotes"),
        ("a[1.5]", 2, "whole number or a name in quotes"),
        ("a['']", 2, "whole number or a name in quotes"),
        ("a[1:2]", 3, "unexpected ':'"),
        ("(a).b", 3, "an index only after the name of a field"),
        ("a.b(1)", 0, "only functions can be called"),
        ("null", 0, "there is no null"),
        ("a == None", 5, "there is no None"),
        ("007", 0, "begins with a zero; write 7"),
        ("5m", 0, "a number cannot be read"),
        ("1" * 19, 0, "at most 18"),
        ("1.2.3", 0, "a number cannot be read"),
        ("a == \u0661", 5, "a number cannot be read"),
        ("a ** b", 3, "cannot stand here"),
        ("a // b", 3, "cannot stand here"),
        ("a == 1;b", 6, "unexpected ';'"),
        ("\u00e4 == 1", 0, "unexpected"),
        ("and", 0, "cannot stand here"),
        ("a and", 5, "ends too soon"),
        ("not", 3, "ends too soon"),
    ],
)
def test_errors_name_the_place_and_the_remedy(text: str, offset: int, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert ";" in str(caught.value)
    assert caught.value.offset == offset


@pytest.mark.feature("F2")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(" * 200 + "a" + ")" * 200, "nested deeper"),
        ("not " * 500 + "a", "nested deeper"),
        ("- " * 500 + "a == 1", "nested deeper"),
        ("f(" * 100 + "a" + ")" * 100, "nested deeper"),
        ("+".join(["a"] * 100), "arithmetical operators"),
        (" or ".join(["a"] * 1100), "longer|parts"),
        ("[" + ",".join(["1"] * 1500) + "]", "more than 1000 parts"),
        ("a" * 17_000, "longer than"),
    ],
)
def test_size_is_limited(text: str, words: str) -> None:
    with pytest.raises(ExpressionError, match=words):
        parse(text)


@given(st.text(alphabet="ab.()[]<>=!&|+-*/%'\",\\ \n019xnotri", max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    offset = 0
    try:
        parse(text)
    except ExpressionError as error:
        offset = error.offset
    assert 0 <= offset <= len(text)


@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "b",
                "1",
                "2.5",
                "'x'",
                "(",
                ")",
                "[",
                "]",
                ",",
                ".",
                "-",
                "+",
                "*",
                "==",
                "!=",
                "<",
                "in",
                "not",
                "and",
                "or",
                "!",
                "true",
            ]
        ),
        max_size=30,
    )
)
def test_any_tokens_are_parsed_or_refused(words: list[str]) -> None:
    with suppress(ExpressionError):
        parse(" ".join(words))
