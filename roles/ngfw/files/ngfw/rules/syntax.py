# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of rule expressions: text to a tree of nodes. Knows neither fields nor functions nor Python.

From loose to tight: ``or ||``, ``and &&``, ``not !``, comparisons (not chained), ``+ -``, ``* / %``, sign, index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, NamedTuple, NoReturn, Union

MAX_LENGTH = 16_384
MAX_DEPTH = 20
MAX_NODES = 1000
MAX_OPERATORS = 40


class ExpressionError(ValueError):
    """An expression that cannot be used. ``offset`` is where in its text, in characters from 0."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True)
class Literal:
    """A text, a number, or true or false."""

    value: str | int | float | bool
    offset: int


@dataclass(frozen=True)
class Field:
    """A field of the record; steps are names, or positions in a list."""

    path: tuple[str | int, ...]
    offset: int


@dataclass(frozen=True)
class ListOf:
    """Several values in brackets."""

    items: tuple[Tree, ...]
    offset: int


@dataclass(frozen=True)
class Unary:
    """``not`` or ``-`` before something."""

    operator: str
    operand: Tree
    offset: int


@dataclass(frozen=True)
class Binary:
    """Two operands and a comparison or an arithmetical operator."""

    operator: str
    left: Tree
    right: Tree
    offset: int


@dataclass(frozen=True)
class Junction:
    """Two or more conditions, all joined by ``and`` or all by ``or``."""

    operator: str
    operands: tuple[Tree, ...]
    offset: int


@dataclass(frozen=True)
class Call:
    """A function with its arguments."""

    name: str
    arguments: tuple[Tree, ...]
    offset: int


Tree = Union[Literal, Field, ListOf, Unary, Binary, Junction, Call]

COMPARISONS = frozenset(("==", "!=", "<", "<=", ">", ">=", "in", "not in"))
_WORDS = {"&&": "and", "||": "or", "!": "not"}
_CONSTANTS = {"true": True, "True": True, "false": False, "False": False}
_KEYWORDS = frozenset(("and", "or", "not", "in"))
_NOTHING = frozenset(("null", "None", "nil", "none"))
_ADVICE = {
    "=": "compare with ==",
    "&": "write && or and",
    "|": "write || or or",
    "'": "close the quotes",
    '"': "close the quotes",
}

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<number>(?:0[xX][0-9a-fA-F]{1,15}|[0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][-+]?[0-9]{1,2})?)(?![0-9A-Za-z_.]))
  | (?P<text>[rR]?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<operator>==|!=|<=|>=|&&|\|\||[-<>!+*/%()\[\],.])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", '"': '"', "'": "'"}


class _Token(NamedTuple):
    kind: str
    text: str
    offset: int


def parse(text: str) -> Tree:
    """The tree of an expression. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters; split the rule in two")
    return _Parser(_tokens(text), len(text)).whole()


def _tokens(text: str) -> list[_Token]:
    tokens = []
    offset = 0
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None or match.lastgroup is None:
            raise ExpressionError(_unreadable(text, offset), offset)
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup, match.group(), offset))
        offset = match.end()
    return tokens


def _unreadable(text: str, offset: int) -> str:
    character = text[offset]
    if character.isdigit():
        return "a number cannot be read here; write decimal digits, at most 18 of them, without units"
    advice = _ADVICE.get(character, "see the documentation of rules for what an expression may hold")
    return f"unexpected {character!r} in the expression; {advice}"


class _Parser:
    """Recursive descent; the depth and the number of nodes are limited."""

    def __init__(self, tokens: list[_Token], end: int) -> None:
        self._tokens = tokens
        self._end = end
        self._at = 0
        self._depth = 0
        self._nodes = 0
        self._operators = 0

    def whole(self) -> Tree:
        if not self._tokens:
            raise ExpressionError("the expression is empty; write a condition, or true to take every event of the type")
        tree = self._or()
        if self._at < len(self._tokens):
            self._unexpected()
        return tree

    def _peek(self) -> str:
        if self._at >= len(self._tokens):
            return ""
        token = self._tokens[self._at]
        if token.kind == "operator":
            return _WORDS.get(token.text, token.text)
        return token.text if token.kind == "name" and token.text in _KEYWORDS else ""

    def _offset(self) -> int:
        return self._tokens[self._at].offset if self._at < len(self._tokens) else self._end

    def _take(self, *wanted: str) -> str:
        found = self._peek()
        if found and found in wanted:
            self._at += 1
            return found
        return ""

    def _expect(self, wanted: str, why: str) -> None:
        if not self._take(wanted):
            self._unexpected(f"'{wanted}' {why}")

    def _unexpected(self, wanted: str = "") -> NoReturn:
        if self._at >= len(self._tokens):
            raise ExpressionError(f"the expression ends too soon; add {wanted or 'what is missing'}", self._end)
        token = self._tokens[self._at]
        remedy = f"write {wanted}" if wanted else "join conditions with and, or"
        raise ExpressionError(f"'{token.text[:40]}' cannot stand here; {remedy}", token.offset)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(
                f"the expression is nested deeper than {MAX_DEPTH} levels; simplify it", self._offset()
            )

    def _node(self, node: Tree) -> Tree:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ExpressionError(f"the expression has more than {MAX_NODES} parts; split the rule", self._offset())
        return node

    def _or(self) -> Tree:
        self._deeper()
        tree = self._junction("or", self._and)
        self._depth -= 1
        return tree

    def _and(self) -> Tree:
        return self._junction("and", self._not)

    def _junction(self, operator: str, operand: Callable[[], Tree]) -> Tree:
        offset = self._offset()
        operands = [operand()]
        while self._take(operator):
            operands.append(operand())
        return operands[0] if len(operands) == 1 else self._node(Junction(operator, tuple(operands), offset))

    def _not(self) -> Tree:
        offset = self._offset()
        if not self._take("not"):
            return self._comparison()
        self._deeper()
        operand = self._not()
        self._depth -= 1
        return self._node(Unary("not", operand, offset))

    def _comparison(self) -> Tree:
        left = self._sum()
        offset = self._offset()
        operator = self._comparator()
        if not operator:
            return left
        node = self._node(Binary(operator, left, self._sum(), offset))
        if self._comparator():
            raise ExpressionError("comparisons cannot be chained; write a < b and b < c", offset)
        return node

    def _comparator(self) -> str:
        following = self._tokens[self._at + 1].text if self._at + 1 < len(self._tokens) else ""
        if self._peek() == "not" and following == "in":
            self._at += 2
            return "not in"
        return self._take(*COMPARISONS)

    def _sum(self) -> Tree:
        return self._arithmetic(("+", "-"), self._product)

    def _product(self) -> Tree:
        return self._arithmetic(("*", "/", "%"), self._sign)

    def _arithmetic(self, operators: tuple[str, ...], operand: Callable[[], Tree]) -> Tree:
        left = operand()
        while True:
            offset = self._offset()
            operator = self._take(*operators)
            if not operator:
                return left
            self._operators += 1
            if self._operators > MAX_OPERATORS:
                raise ExpressionError(f"more than {MAX_OPERATORS} arithmetical operators; simplify it", offset)
            left = self._node(Binary(operator, left, operand(), offset))

    def _sign(self) -> Tree:
        offset = self._offset()
        if not self._take("-"):
            return self._value()
        self._deeper()
        operand = self._sign()
        self._depth -= 1
        if isinstance(operand, Literal) and type(operand.value) in (int, float):
            return self._node(Literal(-operand.value, offset))  # type: ignore[operator]
        return self._node(Unary("-", operand, offset))

    def _value(self) -> Tree:
        offset = self._offset()
        if self._take("("):
            inner = self._or()
            self._expect(")", "to close the bracket")
            if self._peek() in (".", "["):
                self._unexpected("an index only after the name of a field")
            return inner
        if self._take("["):
            return self._node(ListOf(self._several("]"), offset))
        if self._at >= len(self._tokens) or self._peek():
            self._unexpected("a value")
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "number":
            return self._node(Literal(_number(token), offset))
        if token.kind == "text":
            return self._node(Literal(_text(token), offset))
        return self._named(token)

    def _named(self, token: _Token) -> Tree:
        if token.text in _CONSTANTS:
            return self._node(Literal(_CONSTANTS[token.text], token.offset))
        if token.text in _NOTHING:
            raise ExpressionError(f"there is no {token.text}; a missing field makes a comparison false", token.offset)
        if self._take("("):
            return self._node(Call(token.text, self._several(")"), token.offset))
        path: list[str | int] = [token.text]
        while True:
            if self._take("."):
                path.append(self._name())
            elif self._take("["):
                path.append(self._index())
            elif self._peek() == "(":
                raise ExpressionError("only functions can be called, such as lower(x); fields cannot", token.offset)
            else:
                return self._node(Field(tuple(path), token.offset))

    def _name(self) -> str:
        if self._at >= len(self._tokens) or self._tokens[self._at].kind != "name":
            self._unexpected("the name of a field after the dot")
        self._at += 1
        return self._tokens[self._at - 1].text

    def _index(self) -> str | int:
        negative = bool(self._take("-"))
        token = self._tokens[self._at] if self._at < len(self._tokens) else _Token("", "", self._end)
        step: str | int | float = ""
        if token.kind == "number":
            step = _number(token)
        elif token.kind == "text" and not negative:
            step = _text(token)
        if isinstance(step, float) or step == "":
            self._unexpected("a whole number or a name in quotes as index")
        self._at += 1
        self._expect("]", "to close the index")
        if isinstance(step, int):
            return -step if negative else step
        return step

    def _several(self, end: str) -> tuple[Tree, ...]:
        values: list[Tree] = []
        while not self._take(end):
            if values:
                self._expect(",", f"or '{end}'")
                if self._take(end):
                    break
            values.append(self._or())
        return tuple(values)


def _number(token: _Token) -> int | float:
    if token.text[:2] in ("0x", "0X"):
        return int(token.text, 16)
    if token.text.isdigit():
        if len(token.text) > 1 and token.text[0] == "0":
            raise ExpressionError(f"{token.text} begins with a zero; write {int(token.text)}", token.offset)
        return int(token.text)
    return float(token.text)


def _text(token: _Token) -> str:
    if token.text[0] in "rR":
        return token.text[2:-1]
    return _ESCAPE.sub(_unescape, token.text[1:-1])


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if len(code) > 1:
        return chr(int(code[1:], 16))
    # An unknown escape stays as it is, so that regular expressions need no doubled backslashes.
    return _ESCAPES.get(code, match.group())
