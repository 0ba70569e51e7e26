# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML files read strictly: every value keeps its line, and all problems of a file are reported at once.

Plain scalars follow YAML 1.2's core schema. So ``yes``, ``1:30``, ``010`` and ``2026-01-01`` are text, not a boolean,
a number in base 60 or 8, or a date. Anchors, aliases, tags and second documents are refused: nobody needs them here,
and aliases can blow a few lines up to gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Union

import yaml

from ..firewall.text import shown

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 32

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,2})?", re.ASCII)


class Problem(NamedTuple):
    """One thing wrong in a file. ``str()`` gives ``FILE:LINE: message``; a whole file is its line 1."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class ConfigError(Exception):
    """Files that cannot be used; ``problems`` holds everything found in them, ``str()`` one problem a line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


Scalar = Union[None, bool, int, float, str]


@dataclass(frozen=True)
class ScalarNode:
    """A single value; ``text`` is how it was written, ``first_line`` where the text itself begins (block scalars)."""

    line: int
    value: Scalar
    text: str
    first_line: int
    folded: bool


@dataclass(frozen=True)
class ListNode:
    """A sequence of nodes."""

    line: int
    items: list[Node]


@dataclass(frozen=True)
class MapNode:
    """A mapping; ``entries`` gives for each key the line of the key and its value."""

    line: int
    entries: dict[str, tuple[int, Node]]


Node = Union[ScalarNode, ListNode, MapNode]


def read(path: Path, *, if_missing: str = "create it, or correct the path") -> Node | None:
    """Read one YAML document; None if there is nothing in it. Raises ConfigError with every problem found."""
    try:
        # A pipe or a device would be waited for without end.
        if path.exists() and not path.is_file():
            raise ConfigError([Problem(str(path), 1, "is not a regular file; name a file")])
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError([Problem(str(path), 1, f"there is no such file; {if_missing}")]) from None
    except OSError as error:
        message = f"cannot be read ({error.strerror}); check owner and permissions"
        raise ConfigError([Problem(str(path), 1, message)]) from None
    return parse(data, str(path))


def parse(data: bytes, path: str) -> Node | None:
    """Parse the bytes of one YAML document; ``path`` is only used in messages. Raises ConfigError."""
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError([Problem(path, 1, f"is larger than {MAX_FILE_BYTES >> 20} MiB; split it into smaller files")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(path, line, "is not valid UTF-8; save the file as UTF-8")]) from None
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        message = f"holds the control character U+{ord(control.group()):04X}; remove it, or escape it in quotes"
        raise ConfigError([Problem(path, line, message)])
    builder = _Builder(path)
    try:
        root = builder.document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError([*builder.problems, Problem(path, line, _syntax_message(text, line, error))]) from None
    except yaml.YAMLError as error:
        raise ConfigError([*builder.problems, Problem(path, 1, f"is not YAML: {error}; correct the syntax")]) from None
    if builder.problems:
        raise ConfigError(builder.problems)
    return root


def _syntax_message(text: str, line: int, error: yaml.MarkedYAMLError) -> str:
    lines = text.split("\n")
    around = lines[max(line - 2, 0) : line]
    if any(re.match(r" *\t", each) for each in around):
        return "a tab indents this line; indent with spaces"
    context = f" {error.context}" if error.context else ""
    return f"not valid YAML ({error.problem}{context}); check indentation, colons, brackets and quotes here"


def _scalar(event: yaml.ScalarEvent) -> Scalar:
    text: str = event.value
    if event.style:  # the C parser gives '' for a plain scalar, the other one None
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


class _Builder:
    """Builds the tree of nodes out of the parser's events, which are a flat stream: deep nesting costs no stack."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: list[Problem] = []

    def document(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fail(event, "a second document begins here; put everything in one, without '---' between")
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, 1)
        if isinstance(root, ScalarNode) and root.value is None and not root.text:
            return None
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            self._fail(event, f"the alias '*{shown(event.anchor)}' is not supported; write the value out")
        if event.anchor is not None:
            self._problem(
                event, f"the anchor '&{shown(event.anchor)}' is not supported; remove it and write values out"
            )
        if event.tag is not None and not (isinstance(event, yaml.ScalarEvent) and event.tag == "!"):
            self._problem(event, f"the tag '{shown(event.tag)}' is not supported; remove it")
        if depth > MAX_DEPTH:
            self._fail(event, f"is nested deeper than {MAX_DEPTH} levels; make it flatter")
        line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            block = event.style in ("|", ">")
            return ScalarNode(line, _scalar(event), event.value, line + block, event.style != "|")
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            for child in events:
                if isinstance(child, yaml.SequenceEndEvent):
                    break
                items.append(self._node(child, events, depth + 1))
            return ListNode(line, items)
        return self._mapping(line, events, depth)

    def _mapping(self, line: int, events: Iterator[Any], depth: int) -> MapNode:
        entries: dict[str, tuple[int, Node]] = {}
        for child in events:
            if isinstance(child, yaml.MappingEndEvent):
                break
            key = self._node(child, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, ScalarNode) or not key.text:
                self.problems.append(Problem(self.path, key.line, "a key must be a plain word; write 'key: value'"))
            elif key.text in entries:
                first = entries[key.text][0]
                message = f"the key '{shown(key.text)}' stands here again, first in line {first}; remove one of the two"
                self.problems.append(Problem(self.path, key.line, message))
            else:
                entries[key.text] = (key.line, value)
        return MapNode(line, entries)

    def _problem(self, event: Any, message: str) -> None:
        self.problems.append(Problem(self.path, event.start_mark.line + 1, message))

    def _fail(self, event: Any, message: str) -> None:
        self._problem(event, message)
        raise ConfigError(self.problems)
