# SPDX-License-Identifier: GPL-3.0-or-later
"""Rule expressions: checked against EVE's fields, then compiled once to a Python function.

The function is made of a handful of node types that this module builds itself; text of a rule reaches it only as
constants. It reads dictionaries and lists of the record, compares, and calls what ``functions`` lists.
A comparison is false where a field is missing (or null) or of another kind, so ``!=`` and ``not in`` are false too;
``not`` of it is then true.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any, Callable, Union

from ..firewall.errors import InvalidInput
from ..rules import fields, functions
from .glance import Glance, glance
from .regex import Limited, RegexError, compile_regex
from .syntax import (
    COMPARISONS,
    Binary,
    Call,
    ExpressionError,
    Field,
    Junction,
    ListOf,
    Literal,
    Tree,
    Unary,
    parse,
)

Value = Union[str, int, float]
Required = Mapping[str, frozenset[Value]]

_KIND_NAMES = {"s": "a text", "n": "a number", "b": "true or false", "a": "a list", "o": "an object"}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_ORDER: dict[str, type[ast.cmpop]] = {"<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": functions.add,
    "-": functions.subtract,
    "*": functions.multiply,
    "/": functions.divide,
    "%": functions.remainder,
}


class Expression:
    """A compiled expression.

    ``matches(record)`` tells whether an EVE record of the event type meets it; it never raises.
    ``required`` maps fields (dotted) to the values of which every matching record has one there.
    ``glance`` tells lines without such a record by their bytes, if that can be done.
    ``literals`` are all texts and numbers that stand in it, ``limited`` the regexes whose searches may be cut off.
    """

    __slots__ = ("glance", "limited", "literals", "matches", "required", "text")

    def __init__(
        self,
        text: str,
        matches: Callable[[dict[str, Any]], bool],
        required: Required,
        literals: frozenset[Value],
        glance: Glance | None,
        limited: tuple[Limited, ...],
    ) -> None:
        self.text = text
        self.matches = matches
        self.required = required
        self.literals = literals
        self.glance = glance
        self.limited = limited

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def compile_expression(text: str, *, event_type: str) -> Expression:
    """Compile an expression for records of one EVE event type. Raises ExpressionError, which says what to write."""
    tree = parse(text)
    compiler = _Compiler(event_type)
    matches = compiler.function(tree)
    return Expression(
        text, matches, _required(tree), frozenset(compiler.literals), glance(tree), tuple(compiler.limited)
    )


class _Compiler:
    """Turns the tree into Python's. Constants and helpers are bound as defaults of parameters: local look-ups."""

    def __init__(self, event_type: str) -> None:
        self._event_type = event_type
        self._constants: dict[str, Any] = {}
        self._temporaries = 0
        self.literals: set[Value] = set()
        self.limited: list[Limited] = []

    def function(self, tree: Tree) -> Callable[[dict[str, Any]], bool]:
        """The compiled test of a record."""
        body = self._truth(tree)
        names = ["record", *self._constants]
        arguments = ast.arguments(
            posonlyargs=[], args=[ast.arg(arg=name) for name in names], kwonlyargs=[], kw_defaults=[], defaults=[]
        )
        module = ast.fix_missing_locations(ast.Expression(body=ast.Lambda(args=arguments, body=body)))
        outer = compile(module, "<expression>", "eval")
        code = next(constant for constant in outer.co_consts if isinstance(constant, CodeType))
        return FunctionType(code, {"__builtins__": {}}, "matches", tuple(self._constants.values()))

    def _truth(self, tree: Tree) -> ast.expr:
        """A node that gives True or False."""
        if isinstance(tree, Junction):
            operator = ast.And() if tree.operator == "and" else ast.Or()
            return ast.BoolOp(op=operator, values=[self._truth(each) for each in tree.operands])
        if isinstance(tree, Unary) and tree.operator == "not":
            return ast.UnaryOp(op=ast.Not(), operand=self._truth(tree.operand))
        if isinstance(tree, Binary) and tree.operator in COMPARISONS:
            return self._comparison(tree)
        if isinstance(tree, Literal) and not isinstance(tree.value, bool):
            raise ExpressionError(f"{_shown(tree)} alone is no condition; compare it with a field", tree.offset)
        node, kinds = self._value(tree)
        if kinds == "b" and not isinstance(tree, Field):
            return node
        # A field may hold anything in spite of the schema.
        return ast.UnaryOp(op=ast.Not(), operand=ast.UnaryOp(op=ast.Not(), operand=node))

    def _value(self, tree: Tree) -> tuple[ast.expr, str]:
        """A node that gives the value or None, and the kinds it can have."""
        if isinstance(tree, Literal):
            return ast.Constant(value=tree.value), self._literal(tree)
        if isinstance(tree, Field):
            return self._field(tree)
        if isinstance(tree, Call):
            return self._call(tree)
        if isinstance(tree, ListOf):
            raise ExpressionError("a list cannot stand here; write it to the right of 'in'", tree.offset)
        if isinstance(tree, Unary) and tree.operator == "-":
            return self._helper(functions.negate, self._operand(tree.operand, "-")), "n"
        if isinstance(tree, Binary) and tree.operator in _ARITHMETIC:
            if isinstance(tree.right, Literal) and tree.operator in "/%" and not tree.right.value:
                raise ExpressionError("a division by zero; divide by another number", tree.offset)
            left, right = self._operand(tree.left, tree.operator), self._operand(tree.right, tree.operator)
            return self._helper(_ARITHMETIC[tree.operator], left, right), "n"
        return self._truth(tree), "b"

    def _operand(self, tree: Tree, operator: str) -> ast.expr:
        node, kinds = self._value(tree)
        if not set(kinds) & {"n", "?"}:
            raise ExpressionError(f"{_shown(tree)} is {_kinds(kinds)}; '{operator}' wants numbers", tree.offset)
        return node

    def _literal(self, tree: Literal) -> str:
        if isinstance(tree.value, bool):
            return "b"
        self.literals.add(tree.value)
        return "s" if isinstance(tree.value, str) else "n"

    def _field(self, tree: Field) -> tuple[ast.expr, str]:
        try:
            letters = fields.types_of(tree.path, self._event_type)
        except fields.FieldError as error:
            raise ExpressionError(str(error), tree.offset) from None
        node: ast.expr = ast.Name(id="record", ctx=ast.Load())
        for depth, step in enumerate(tree.path):
            if isinstance(step, int):
                node = self._helper(functions.item, node, ast.Constant(value=step))
                continue
            if depth == 0:
                node = _get(node, step)
                continue
            held = self._temporary()
            test = _is(_class_of(_hold(held, node)), self._constant(dict))
            node = ast.IfExp(test=test, body=_get(_name(held), step), orelse=ast.Constant(value=None))
        return node, letters.replace("i", "n")

    def _call(self, tree: Call) -> tuple[ast.expr, str]:
        function = functions.FUNCTIONS.get(tree.name)
        if function is None:
            near = difflib.get_close_matches(tree.name.lower(), functions.FUNCTIONS, 1, 0.5)
            hint = f"did you mean '{near[0]}'?" if near else "there is " + ", ".join(functions.FUNCTIONS)
            raise ExpressionError(f"unknown function '{tree.name}'; {hint}", tree.offset)
        wanted = len(function.parameters)
        if len(tree.arguments) != wanted:
            message = f"{tree.name}() takes {wanted} values, not {len(tree.arguments)}; add or remove some"
            raise ExpressionError(message, tree.offset)
        arguments = [
            self._argument(tree.name, argument, kinds) for argument, kinds in zip(tree.arguments, function.parameters)
        ]
        return self._helper(function.call, *arguments), function.result

    def _argument(self, name: str, tree: Tree, wanted: str) -> ast.expr:
        if wanted == functions.REGEX:
            if not isinstance(tree, Literal) or not isinstance(tree.value, str):
                raise ExpressionError(f'{name}() takes its regex as a text in quotes: {name}(x, "regex")', tree.offset)
            try:
                searcher = compile_regex(tree.value)
            except RegexError as error:
                raise ExpressionError(str(error), tree.offset) from None
            if isinstance(searcher, Limited):
                self.limited.append(searcher)
            return self._constant(searcher)
        if wanted == functions.NETWORKS:
            items = tree.items if isinstance(tree, ListOf) else (tree,)
            texts = [each.value for each in items if isinstance(each, Literal) and isinstance(each.value, str)]
            if not items or len(texts) != len(items):
                message = f'{name}() takes networks as texts in quotes: {name}(src_ip, "192.0.2.0/24")'
                raise ExpressionError(message, tree.offset)
            try:
                return self._constant(functions.networks_of(texts))
            except InvalidInput as error:
                raise ExpressionError(str(error), tree.offset) from None
        node, kinds = self._container(tree) if "a" in wanted else self._value(tree)
        if "?" not in kinds and not set(kinds) & set(wanted):
            raise ExpressionError(
                f"{name}() wants {_kinds(wanted)} here, and {_shown(tree)} is {_kinds(kinds)}", tree.offset
            )
        return node

    def _comparison(self, tree: Binary) -> ast.expr:
        left, operator, right = tree.left, tree.operator, tree.right
        if operator in ("in", "not in"):
            return self._membership(tree)
        if isinstance(left, Literal) and not isinstance(right, Literal):
            left, operator, right = right, _MIRRORED[operator], left
        node, kinds = self._value(left)
        if isinstance(right, Literal):
            return self._against_literal(left, node, kinds, operator, right)
        other, other_kinds = self._value(right)
        common = (
            kinds if other_kinds == "?" else other_kinds if kinds == "?" else "".join(set(kinds) & set(other_kinds))
        )
        ordered = operator in _ORDER
        if not common or (ordered and common != "?" and not set(common) & {"n", "s", "?"}):
            message = (
                f"{_shown(left)} is {_kinds(kinds)}, {_shown(right)} {_kinds(other_kinds)}; compare like with like"
            )
            raise ExpressionError(message, tree.offset)
        if operator in (">", ">="):
            node, other = other, node
        helper = {
            "==": functions.equal,
            "!=": functions.unequal,
            "<": functions.less,
            ">": functions.less,
            "<=": functions.at_most,
            ">=": functions.at_most,
        }[operator]
        return self._helper(helper, node, other)

    def _against_literal(self, left: Tree, node: ast.expr, kinds: str, operator: str, right: Literal) -> ast.expr:
        kind, value = self._literal(right), right.value
        if "?" not in kinds and kind not in kinds:
            raise ExpressionError(_never(left, kinds, right, kind), right.offset)
        if operator in _ORDER and kind == "b":
            raise ExpressionError(f"'{operator}' compares numbers or texts; write == {_shown(right)}", right.offset)
        if isinstance(left, Field) and fields.dotted(left.path) in fields.ADDRESSES and operator in ("==", "!="):
            forms = _set(_forms(left, right))
            return self._held(node, self._constant(str), ast.In() if operator == "==" else ast.NotIn(), forms)
        if kind == "b":
            return _is(node, ast.Constant(value=value is (operator == "==")))
        constant = ast.Constant(value=value)
        if operator == "==" and (kind == "s" or value not in (0, 1)):
            return ast.Compare(left=node, ops=[ast.Eq()], comparators=[constant])
        compare: ast.cmpop = ast.Eq() if operator == "==" else ast.NotEq() if operator == "!=" else _ORDER[operator]()
        return self._held(node, self._constant(str) if kind == "s" else None, compare, constant)

    def _membership(self, tree: Binary) -> ast.expr:
        positive = tree.operator == "in"
        node, kinds = self._value(tree.left)
        container = tree.right
        if isinstance(container, ListOf):
            if not container.items:
                raise ExpressionError("nothing is in an empty list; write at least one value into it", container.offset)
            literals = [each for each in container.items if isinstance(each, Literal)]
            for each in literals:
                kind = self._literal(each)
                if "?" not in kinds and kind not in kinds:
                    raise ExpressionError(_never(tree.left, kinds, each, kind), each.offset)
            if isinstance(tree.left, Field) and fields.dotted(tree.left.path) in fields.ADDRESSES:
                container = _with_all_forms(tree.left, container)
                literals = [each for each in container.items if isinstance(each, Literal)]
            types = {type(each.value) for each in literals}
            if len(literals) == len(container.items) and (types == {str} or types <= {int, float}):
                values: frozenset[Value] = frozenset(each.value for each in literals)
                compare = ast.In() if positive else ast.NotIn()
                kind_test = self._constant(str) if types == {str} else None
                return self._held(node, kind_test, compare, _set(values))
        other, other_kinds = self._container(container)
        if "?" not in other_kinds and not set(other_kinds) & {"s", "a"}:
            message = f"{_shown(container)} is {_kinds(other_kinds)}; 'in' wants a list or a text at its right"
            raise ExpressionError(message, container.offset)
        return self._helper(functions.holds if positive else functions.lacks, other, node)

    def _container(self, tree: Tree) -> tuple[ast.expr, str]:
        if isinstance(tree, ListOf):
            return ast.Tuple(elts=[self._value(each)[0] for each in tree.items], ctx=ast.Load()), "a"
        return self._value(tree)

    def _held(self, node: ast.expr, kind: ast.expr | None, compare: ast.cmpop, constant: ast.expr) -> ast.expr:
        """The comparison of a value that must be of that class; None: a number, which a boolean is not."""
        held = self._temporary()
        of_kind = _class_of(_hold(held, node))
        if kind is not None:
            test = _is(of_kind, kind)
        else:
            test = ast.Compare(left=of_kind, ops=[ast.In()], comparators=[self._constant(functions.NUMBERS)])
        comparison = ast.Compare(left=_name(held), ops=[compare], comparators=[constant])
        return ast.BoolOp(op=ast.And(), values=[test, comparison])

    def _helper(self, helper: Callable[..., Any], *arguments: ast.expr) -> ast.expr:
        return ast.Call(func=self._constant(helper), args=list(arguments), keywords=[])

    def _constant(self, value: Any) -> ast.expr:
        for name, known in self._constants.items():
            if known is value:
                return _name(name)
        name = f"constant_{len(self._constants)}"
        self._constants[name] = value
        return _name(name)

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"value_{self._temporaries}"


def _name(name: str) -> ast.Name:
    return ast.Name(id=name, ctx=ast.Load())


def _hold(name: str, node: ast.expr) -> ast.expr:
    return ast.NamedExpr(target=ast.Name(id=name, ctx=ast.Store()), value=node)


def _class_of(node: ast.expr) -> ast.expr:
    return ast.Attribute(value=node, attr="__class__", ctx=ast.Load())


def _get(node: ast.expr, key: str) -> ast.expr:
    method = ast.Attribute(value=node, attr="get", ctx=ast.Load())
    return ast.Call(func=method, args=[ast.Constant(value=key)], keywords=[])


def _is(node: ast.expr, other: ast.expr) -> ast.expr:
    return ast.Compare(left=node, ops=[ast.Is()], comparators=[other])


def _set(values: Any) -> ast.Constant:
    return ast.Constant(value=values)


def _forms(field: Field, literal: Literal) -> frozenset[str]:
    text = str(literal.value)
    if "/" in text:
        name = fields.dotted(field.path)
        raise ExpressionError(f'{name} is one address; write in_subnet({name}, "{text[:60]}")', literal.offset)
    try:
        return functions.address_forms(text)
    except InvalidInput as error:
        raise ExpressionError(str(error), literal.offset) from None


def _with_all_forms(field: Field, container: ListOf) -> ListOf:
    """The list with each address in all the ways that it is written in records."""
    items: list[Tree] = []
    for each in container.items:
        forms = sorted(_forms(field, each)) if isinstance(each, Literal) else ()
        items += [Literal(form, each.offset) for form in forms] if forms else [each]
    return ListOf(tuple(items), container.offset)


def _required(tree: Tree) -> dict[str, frozenset[Value]]:
    """For fields, the values of which every record that meets the tree has one."""
    if isinstance(tree, Junction):
        parts = [_required(each) for each in tree.operands]
        required = dict(parts[0])
        for part in parts[1:]:
            if tree.operator == "and":
                for name, values in part.items():
                    required[name] = required[name] & values if name in required else values
            else:
                required = {name: values | part[name] for name, values in required.items() if name in part}
        return required
    if not isinstance(tree, Binary) or tree.operator not in ("==", "in"):
        return {}
    left, right = tree.left, tree.right
    if tree.operator == "==" and isinstance(left, Literal):
        left, right = right, left
    literals = right.items if isinstance(right, ListOf) and tree.operator == "in" else (right,)
    if not isinstance(left, Field) or (tree.operator == "in" and not isinstance(right, ListOf)):
        return {}
    found: set[Value] = set()
    for each in literals:
        if not isinstance(each, Literal) or isinstance(each.value, bool):
            return {}
        is_address = fields.dotted(left.path) in fields.ADDRESSES
        found |= functions.address_forms(str(each.value)) if is_address else {each.value}
    return {fields.dotted(left.path): frozenset(found)}


def _never(left: Tree, kinds: str, right: Literal, kind: str) -> str:
    hints = {"n": "write it without quotes" if kind == "s" else "compare it with a number", "s": "write it in quotes"}
    hint = hints.get(kinds, "compare like with like")
    if kinds == "a":
        hint = f"write contains({_shown(left)}, ...)"
    return f"{_shown(left)} is {_kinds(kinds)} and never equals {_shown(right)}; {hint}"


def _kinds(kinds: str) -> str:
    return " or ".join(_KIND_NAMES[each] for each in kinds if each in _KIND_NAMES) or "anything"


def _shown(tree: Tree) -> str:
    if isinstance(tree, Literal):
        if isinstance(tree.value, str):
            return f"the text '{tree.value[:40]}'"
        return str(tree.value).lower() if isinstance(tree.value, bool) else f"the number {tree.value}"
    if isinstance(tree, Field):
        return fields.dotted(tree.path)
    return f"{tree.name}()" if isinstance(tree, Call) else "one side"
