# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes typed values out of a YAML mapping, noting every problem with its line instead of stopping at the first."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from ..firewall.errors import InvalidInput
from ..firewall.text import shown
from .values import Converter, WrongValueError, kind_of, suggestion
from .yamlfile import ListNode, MapNode, Node, Problem, ScalarNode

T = TypeVar("T")


class _Entry(NamedTuple):
    """A key's file, the name of its mapping, its line, and its value."""

    path: str
    name: str
    line: int
    node: Node


class Section:
    """The keys of one mapping. Whatever is not taken before ``close()`` is an unknown key."""

    def __init__(
        self, node: Node | None, path: str, problems: list[Problem], name: str = "", what: str = "the file"
    ) -> None:
        self.path = path
        self.problems = problems
        self.name = name
        self.line = node.line if node is not None else 1
        self._entries: dict[str, _Entry] = {}
        self._known: dict[str, None] = {}
        self.broken = node is not None and not isinstance(node, MapNode)
        if isinstance(node, MapNode):
            self._entries = {key: _Entry(path, name, line, value) for key, (line, value) in node.entries.items()}
        elif node is not None:
            what = f"'{name}'" if name else what
            self.problem(node.line, f"{what} must be a mapping, not {kind_of(node)}; write 'key: value'")

    def overlaid(self, other: Section) -> Section:
        """The same mapping with the keys of another one in place of its own; each keeps its file and line.

        What was asked for until now is known in it.
        """
        both = Section(None, self.path, self.problems, self.name)
        both.line, both._known = self.line, dict(self._known)
        both._entries = {**self._entries, **other._entries}
        return both

    def problem(self, line: int, message: str) -> None:
        """Note a problem of this file."""
        self.problems.append(Problem(self.path, line, message))

    def problem_of(self, key: str, message: str, line: int = 0) -> None:
        """Note a problem of a key, where it stands; where the mapping begins if it is not there."""
        path, at = self.place_of(key)
        self.problems.append(Problem(path, line or at, message))

    def place_of(self, key: str) -> tuple[str, int]:
        """The file and line of a key; where the mapping begins if it is not there."""
        entry = self._entries.get(key)
        return (self.path, self.line) if entry is None else (entry.path, entry.line)

    def node(self, key: str) -> Node | None:
        """The node of a key, None if it is missing or null. The key counts as known from here on."""
        self._known[key] = None
        node = self._entries[key].node if key in self._entries else None
        return None if isinstance(node, ScalarNode) and node.value is None else node

    def has(self, key: str) -> bool:
        """Whether the key is there, with whatever value."""
        return key in self._entries

    def has_null(self, key: str) -> bool:
        """Whether the key is there with nothing, ``~`` or ``null`` as its value."""
        return key in self._entries and self.node(key) is None

    def take(self, key: str, convert: Converter[T], default: T) -> T:
        """The converted value of a key; the default where it is missing or wrong. Null needs a default of None."""
        node = self.node(key)
        if node is not None:
            value = self._convert(key, node, convert)
            return default if value is None else value
        if default is not None:
            self._refuse_null(key)
        return default

    def optional(self, key: str, convert: Converter[T]) -> T | None:
        """The converted value of a key; None where it is missing, null or wrong."""
        node = self.node(key)
        return None if node is None else self._convert(key, node, convert)

    def require(self, key: str, convert: Converter[T], hint: str) -> T | None:
        """Like ``take`` for a key that must be there; None after a problem."""
        node = self.node(key)
        if node is None and self.broken:
            return None
        if node is None:
            self.problem_of(key, f"'{self._full(key)}' is missing; add {hint}")
            return None
        return self._convert(key, node, convert)

    def items(self, key: str, convert: Converter[T], default: tuple[T, ...]) -> tuple[T, ...]:
        """The converted items of a list; items that are wrong are noted one by one and left out."""
        node = self.optional(key, _list)
        if node is None:
            self._refuse_null(key)
            return default
        name = f"an item of '{self._full(key)}'"
        values = (self._convert(key, item, convert, name) for item in node.items)
        return tuple(value for value in values if value is not None)

    def section(self, key: str) -> Section:
        """The mapping under a key; an empty one where it is missing."""
        node = self.node(key)
        if node is None:
            self._refuse_null(key)
        return Section(node, self.place_of(key)[0], self.problems, self._full(key))

    def sections(self, key: str, what: str = "") -> list[Section] | None:
        """The mappings of a list; None where the key is missing. ``what`` names one of them instead of the key."""
        node = self.optional(key, _list)
        if node is None:
            self._refuse_null(key)
            return None
        name = "" if what else self._full(key)
        path = self.place_of(key)[0]
        return [Section(item, path, self.problems, name, what) for item in node.items]

    def close(self) -> None:
        """Note every key that nobody asked for."""
        for key, entry in self._entries.items():
            if key not in self._known:
                where = f" in '{entry.name}'" if entry.name else ""
                self.problem_of(key, f"unknown key '{shown(key)}'{where}{suggestion(key, self._known)}")

    def _refuse_null(self, key: str) -> None:
        if self.has_null(key):
            self.problem_of(key, f"'{self._full(key)}' has no value; write one, or remove the key")

    def _convert(self, key: str, node: Node, convert: Converter[T], name: str = "") -> T | None:
        try:
            return convert(node)
        except WrongValueError as error:
            self.problem_of(key, f"{name or repr(self._full(key))} {error}", error.line or node.line)
        except InvalidInput as error:
            self.problem_of(key, f"{name or repr(self._full(key))}: {error}", node.line)
        return None

    def _full(self, key: str) -> str:
        name = self._entries[key].name if key in self._entries else self.name
        return f"{name}.{key}" if name else key


def _list(node: Node) -> ListNode:
    if not isinstance(node, ListNode):
        raise WrongValueError(f"must be a list, not {kind_of(node)}; write [a, b] or one '- item' a line")
    return node
