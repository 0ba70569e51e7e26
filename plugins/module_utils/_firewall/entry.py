# SPDX-License-Identifier: GPL-3.0-or-later
"""What is blocked, until when, by whom and why: as asked for, as in force, and as the kernel's comment keeps it."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from .address import Network
from .errors import InvalidInput
from .text import shown

COMMENT_BYTES = 255
"""The longest comment of a set entry (ip_set.h, IPSET_MAX_COMMENT_SIZE)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_QUOTES = re.compile("[\"']")
_RATE = re.compile(r"([0-9]{1,7})/(s|sec|second|m|min|minute|h|hour|d|day)")
_UNITS = {"s": ("second", 1), "m": ("minute", 60), "h": ("hour", 3600), "d": ("day", 86400)}


class Action(str, Enum):
    """What the kernel does with a packet of the address."""

    DROP = "drop"
    REJECT = "reject"
    LOG = "log"
    RATE_LIMIT = "rate_limit"

    @property
    def stops_packets(self) -> bool:
        """Whether it lets nothing pass."""
        return self in (Action.DROP, Action.REJECT)


class Direction(str, Enum):
    """The side of a packet that is compared with the address."""

    SOURCE = "source"
    DESTINATION = "destination"


class Origin(str, Enum):
    """Who put an entry there."""

    MODULE = "module"
    COMMAND = "command"
    WATCHER = "watcher"
    CONFIG = "config"
    PROTECTED = "protected"


class Block(NamedTuple):
    """A block as it is asked for.

    `duration` is in seconds, 0 means permanent. `rate` and `burst` matter for Action.RATE_LIMIT only,
    `log_prefix` for Action.LOG only.
    """

    network: Network
    action: Action = Action.DROP
    direction: Direction = Direction.SOURCE
    duration: int = 1800
    rule_name: str = "manual"
    reason: str = ""
    rate: str = "10/minute"
    burst: int = 5
    log_prefix: str = "NGFW: "

    @property
    def parameters(self) -> str:
        """What sets of the same action differ by: `RATE/BURST`, the log prefix, or nothing."""
        if self.action is Action.RATE_LIMIT:
            return f"{self.rate}/{self.burst}"
        return self.log_prefix if self.action is Action.LOG else ""


class Entry(NamedTuple):
    """A block in force.

    `created_at` is when its present end was set, `expires_at` that end (seconds since the epoch; None: permanent).
    `packets` and `bytes` were matched since, those that the whitelist let pass included.
    """

    block: Block
    origin: Origin
    created_at: float
    expires_at: float | None
    packets: int = 0
    bytes: int = 0


class Note(NamedTuple):
    """What the comment of a block's entry keeps beside the kernel's own timeout."""

    origin: Origin
    created_at: int
    duration: int
    rule_name: str
    parameters: str
    reason: str


FOREIGN = Note(Origin.COMMAND, 0, 0, "manual", "", "")
"""What is assumed of an entry that somebody made with `ipset add` and no comment of ours."""


def valid_rule_name(text: str) -> str:
    """`text` if it may name a rule; raises InvalidInput."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= 64:
        raise InvalidInput(f"rule_name '{shown(text, 40)}' has {size} bytes; use 1 to 64")
    if _CONTROL.search(text) or _QUOTES.search(text):
        raise InvalidInput(f"rule_name '{shown(text)}': leave out quotes and control characters")
    return text


def valid_log_prefix(text: str) -> str:
    """`text` if the kernel's LOG target takes it whole; raises InvalidInput."""
    if len(text) > 28 or not all(" " <= c <= "~" for c in text) or _QUOTES.search(text):
        raise InvalidInput(f"log_prefix '{shown(text, 40)}': use at most 28 printable ASCII characters, without quotes")
    return text


def valid_rate(text: str) -> str:
    """`text` in the form NUMBER/second|minute|hour|day; raises InvalidInput."""
    match = _RATE.fullmatch(text)
    number = int(match.group(1)) if match else 0
    if match is None or not 1 <= number <= 10000:
        raise InvalidInput(f"rate '{shown(text, 40)}': write 1 to 10000 per unit, as in 10/minute or 5/second")
    return f"{number}/{_UNITS[match.group(2)[0]][0]}"


def valid_burst(number: int, rate: str) -> int:
    """`number` if hashlimit takes it as a burst beside that valid rate; raises InvalidInput.

    The kernel's 64 bits of credit hold what a day brings (xt_hashlimit, user2credits); a larger burst it refuses, or
    takes for another one.
    """
    if isinstance(number, bool) or not 1 <= number <= 10000:  # ansible-core lets a boolean pass for a number
        raise InvalidInput(f"burst {number}: use 1 to 10000 packets")
    per_unit, seconds = rate_unit_seconds(rate)
    most = per_unit * 86400 // seconds
    if number > most:
        raise InvalidInput(f"burst {number} at {rate} is more than a day's worth; use at most {most}, or a faster rate")
    return number


def rate_unit_seconds(rate: str) -> tuple[int, int]:
    """The number and the length of the unit in seconds of a valid rate."""
    number, _slash, unit = rate.partition("/")
    return int(number), _UNITS[unit[0]][1]


@lru_cache(maxsize=256)
def encode_comment(note: Note) -> str:
    """The comment of a block's entry: the fields of the note, parted by tabs; the reason is cut to what fits.

    Tabs cannot stand in a rule's name or a prefix, and the kernel keeps them.
    """
    head = "\t".join((note.origin.value, str(note.created_at), str(note.duration), note.rule_name, note.parameters, ""))
    return head + clean_text(note.reason, COMMENT_BYTES - len(head.encode()))


def clean_text(text: str, size: int = COMMENT_BYTES) -> str:
    """`text` as a comment may hold it: no control characters, `'` for `"`, at most `size` bytes of UTF-8."""
    plain = _CONTROL.sub(" ", text).replace('"', "'")
    return plain.encode()[:size].decode("utf-8", "ignore")


@lru_cache(maxsize=4096)
def decode_comment(comment: str) -> Note:
    """The note in a comment; FOREIGN (with the comment as reason) if somebody else wrote it."""
    fields = comment.split("\t", 5)
    try:
        origin, created, duration, rule_name, parameters, reason = fields
        return Note(Origin(origin), int(created), int(duration), rule_name, parameters, reason)
    except ValueError:
        return FOREIGN._replace(reason=comment)
