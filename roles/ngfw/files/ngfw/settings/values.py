# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of values that configuration and rule files hold: each turns a YAML node into a checked value.

A converter raises WrongValueError with a text that goes on after the key's name, or the library's InvalidInput.
All durations are in seconds.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Callable, TypeVar
from urllib.parse import urlsplit

from ..firewall.duration import format_duration, parse_block_duration, parse_duration, parse_timeout
from ..firewall.text import masked_url, shown
from .yamlfile import ListNode, MapNode, Node, ScalarNode

T = TypeVar("T")
Converter = Callable[[Node], T]

DAY = 86400
TARGETS = {
    "offender": "offender",
    "source": "source",
    "src": "source",
    "destination": "destination",
    "dst": "destination",
}
"""What may be written as a target, and what it means."""


class WrongValueError(Exception):
    """A value that cannot be used; the text goes on after the key's name: ``'KEY' <text>``."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'X'?`` for the known word nearest to ``word``, or else a short list of what there is."""
    choices = sorted(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    near = near or [each for each in choices if len(word) > 2 and word in each]
    if near:
        return f"; did you mean '{near[0]}'?"
    return "; there is " + ", ".join(choices) if len(choices) <= 30 else ""


def kind_of(node: Node) -> str:
    """What stands there, for messages."""
    if isinstance(node, MapNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return "a list"
    if node.value is None:
        return "empty"
    if isinstance(node.value, bool):
        return f"the boolean {shown(node.text)}"
    if isinstance(node.value, (int, float)):
        return f"the number {shown(node.text)}"
    return f"the text '{shown(node.text)}'"


def text(node: Node) -> str:
    """A text; a number or boolean must be put in quotes."""
    if not isinstance(node, ScalarNode) or node.value is None:
        raise WrongValueError(f"must be a text, not {kind_of(node)}; write one in its place")
    if not isinstance(node.value, str):
        raise WrongValueError(f"must be a text, not {kind_of(node)}; put it in quotes")
    return node.value


def boolean(node: Node) -> bool:
    """``true`` or ``false``."""
    if not isinstance(node, ScalarNode) or not isinstance(node.value, bool):
        raise WrongValueError(f"must be true or false, not {kind_of(node)}; write true or false without quotes")
    return node.value


def choice(*choices: str) -> Converter[str]:
    """One of a few words."""

    def convert(node: Node) -> str:
        word = text(node)
        if word not in choices:
            raise WrongValueError(f"cannot be '{shown(word)}'{suggestion(word, choices)}")
        return word

    return convert


def integer(minimum: int, maximum: int) -> Converter[int]:
    """A whole number within bounds, written in plain decimal digits."""

    def convert(node: Node) -> int:
        wanted = f"must be a whole number from {minimum} to {maximum}"
        if not isinstance(node, ScalarNode) or not isinstance(node.value, int) or isinstance(node.value, bool):
            raise WrongValueError(f"{wanted}, not {kind_of(node)}{_number_hint(node)}")
        if not minimum <= node.value <= maximum:
            raise WrongValueError(f"{wanted}, not {node.value}; write one in that range")
        return node.value

    return convert


def number(minimum: float, maximum: float) -> Converter[float]:
    """A number within bounds, fractions allowed."""

    def convert(node: Node) -> float:
        wanted = f"must be a number from {minimum:g} to {maximum:g}"
        if not isinstance(node, ScalarNode) or type(node.value) not in (int, float):
            raise WrongValueError(f"{wanted}, not {kind_of(node)}{_number_hint(node)}")
        value = float(node.text)
        if not minimum <= value <= maximum:
            raise WrongValueError(f"{wanted}, not {shown(node.text)}; write one in that range")
        return value

    return convert


def _number_hint(node: Node) -> str:
    if isinstance(node, ScalarNode) and isinstance(node.value, str) and node.text.strip().isdigit():
        plain = node.text.isascii()
        return "; write it without quotes and leading zeros" if plain else "; write it with the digits 0 to 9"
    return "; write digits only"


def parsed(parse: Callable[[str], T]) -> Converter[T]:
    """A text that a function of the library reads; its InvalidInput becomes the problem."""
    return lambda node: parse(text(node))


def absolute_path(node: Node) -> str:
    path = text(node)
    if not path.startswith("/") or not path.isprintable() or len(path) > 4096:
        raise WrongValueError(f"must be an absolute path, not '{shown(path)}'; begin it with /")
    return path


def web_address(node: Node) -> str:
    url = text(node)
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise WrongValueError(
            f"must be an http or https address, not '{shown(masked_url(url))}'; write it as https://HOST/PATH"
        )
    return url


def target(node: Node) -> str:
    """``offender``, ``source`` or ``destination``, long or short."""
    word = text(node)
    if word not in TARGETS:
        raise WrongValueError(f"cannot be '{shown(word)}'{suggestion(word, TARGETS)}")
    return TARGETS[word]


def block_duration(node: Node) -> int:
    """How long an address is blocked: a duration that the kernel can keep, or 0 for permanent."""
    return parse_block_duration(_duration_text(node))


def window(node: Node) -> int:
    """A window: a number of seconds or a duration, from one second to a day."""
    if isinstance(node, ScalarNode) and isinstance(node.value, int) and not isinstance(node.value, bool):
        return integer(1, DAY)(node)
    return duration(1, DAY)(node)


def duration(minimum: int, maximum: int) -> Converter[int]:
    def convert(node: Node) -> int:
        seconds = parse_duration(_duration_text(node))
        if not minimum <= seconds <= maximum:
            limits = f"from {format_duration(minimum)} to {format_duration(maximum)}"
            raise WrongValueError(f"must be {limits}, not {shown(_duration_text(node))}; write one in that range")
        return seconds

    return convert


def timeout(node: Node) -> float:
    seconds = parse_timeout(_duration_text(node))
    if not 0.05 <= seconds <= 60:
        raise WrongValueError(f"must be from 0.05s to 1m, not {shown(_duration_text(node))}; write one in that range")
    return seconds


def _duration_text(node: Node) -> str:
    if isinstance(node, ScalarNode) and type(node.value) in (str, int, float):
        return node.text
    raise WrongValueError(f"must be a duration, not {kind_of(node)}; write for example 45s, 30m, 2h or 1d")
