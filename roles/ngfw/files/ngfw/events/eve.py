# SPDX-License-Identifier: GPL-3.0-or-later
"""Suricata's EVE format: one JSON object a line (userguide, "EVE JSON Format")."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any, Callable

from .event import Event, LineError, each

_BARE_KEY, _TEXT = b'"event_type"', b':"'
_KEY = _BARE_KEY + _TEXT
_ASCII_ESCAPE = re.compile(rb"\\u00[2-7]")
_MANY_TYPES = _LONGEST_TYPE = 64
_LONGEST_TIME = 64
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_SECOND = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)", re.ASCII)
_TIME = re.compile(r"(.{19})(\.\d{1,9}|)(.*)", re.ASCII)
_ZONE = re.compile(r"([+-])(\d\d):?([0-5]\d)", re.ASCII)
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def decode(line: bytes) -> Event:
    """Read one line; a text without quotes before the object, such as `@cee: `, is skipped.

    Of duplicate keys the last counts. Raises LineError of kind "encoding", "json" or "shape".
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise LineError("encoding", f"not UTF-8 at byte {error.start}") from None
    start = text.find("{")
    if start < 0 or (start and '"' in text[:start]):
        raise LineError("json", "no JSON object at the start of the line")
    try:
        record, end = _JSON.raw_decode(text, start)
    except RecursionError:
        raise LineError("json", "objects nested too deeply") from None
    except json.JSONDecodeError as error:
        raise LineError("json", f"{error.msg} at character {error.pos}") from None
    except ValueError:
        raise LineError("json", "a number that is not finite or far too long") from None
    if len(text) - end > 1 and text[end:].strip():
        raise LineError("json", f"text behind the object at character {end}")
    if "\\u" in text and _has_lone_surrogate(record):
        raise LineError("encoding", "half of a surrogate pair in a text")
    return _event(record)


def decode_all(lines: Sequence[bytes]) -> list[Event | LineError]:
    """What decode() makes of each line, or the error that it raises, in their order; faster for some hundred lines."""
    records = _parsed_together(lines) if len(lines) > 1 else None
    return each(decode, lines) if records is None else each(_event, records)


def _parsed_together(lines: Sequence[bytes]) -> list[dict[str, Any]] | None:
    """The objects of lines that hold one each; None if that is not so, or not certain.

    They are parsed as one array, with a number between them that no line can know. Only if it comes out wherever it
    was put in has no line ended, or begun, the object of another one.
    """
    mark = secrets.randbits(60)
    text = b"[" + (b",%d," % mark).join(lines) + b"]"
    try:
        items = _JSON.decode(text.decode())
    except (ValueError, RecursionError):
        return None
    records: list[dict[str, Any]] = items[::2]
    between = items[1::2]
    if len(records) != len(lines) or between.count(mark) != len(between):
        return None
    if any(record.__class__ is not dict for record in records):
        return None
    if b"\\u" in text and any(b"\\u" in line and _has_lone_surrogate(found) for found, line in zip(records, lines)):
        return None
    return records


def _event(record: dict[str, Any]) -> Event:
    kind = record.get("event_type")
    if not isinstance(kind, str) or not kind:
        raise LineError("shape", "no event_type")
    if "dns" in record:
        _name_query(record["dns"])
    stamp = record.get("timestamp")
    return Event(record, parse_time(stamp) if isinstance(stamp, str) else None, kind)


def _name_query(dns: object) -> None:
    """Put the name asked for where dns records of Suricata 7 have it, so that a rule on `dns.rrname` hits with 8 too.

    It is in a list `queries` in 8's records (`version` 3), and in a list `query` in 7's alerts.
    """
    if not isinstance(dns, dict):
        return
    queries = dns.get("queries") or dns.get("query")
    first = queries[0] if isinstance(queries, list) and queries else None
    if isinstance(first, dict):
        for key in ("rrname", "rrtype"):
            if key in first:
                dns.setdefault(key, first[key])


def event_type_of(line: bytes) -> bytes | None:
    """The event's type without parsing, or None where only decode() can tell.

    Quotes inside a JSON text are escaped, so the key with its bare quotes never stands in a payload. It is the
    outermost object's if one brace precedes it, and the one that counts if it is the only one.
    """
    at = line.find(_KEY)
    if at < 1 or line.rfind(_BARE_KEY) != at or line[at - 1] not in b",{" or line.count(b"{", 0, at) != 1:
        return None
    start = at + len(_KEY)
    end = line.find(b'"', start)
    kind = line[start:end]
    return None if end <= start or b"\\" in kind or _has_ascii_escape(line) else kind


class Sieve:
    """Parts lines that have to be parsed from those that no rule can match, by their bytes."""

    def __init__(self, glances: Mapping[str, Callable[[bytes], bool] | None]) -> None:
        """`glances` has the event types that matter; None stands for all their lines, else a line is only worth
        parsing if the function is true. It may take for granted that no ASCII character is written as `\\u0041`.
        """
        self._glances = {_TEXT + name.encode(): glance or _always for name, glance in glances.items()}

    def sift(self, data: bytes) -> tuple[list[bytes], dict[bytes, int]]:
        """The lines that are worth parsing, and how many others there are of each event type."""
        wanted: list[bytes] = []
        others: list[bytes] = []
        keep, pass_over, glance_of, never = wanted.append, others.append, self._glances.get, _never
        size = len(_BARE_KEY)
        escapes = b"\\u00" in data
        lines = data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        for line in lines:
            # As event_type_of() does; that the key is the outermost object's is no matter: else there is no type.
            start = line.find(_BARE_KEY) + size
            kind = line[start : line.find(b'"', start + len(_TEXT))]
            glance = glance_of(kind) or self._unknown(line)
            if (
                (glance is never or not (glance(line) or _looks_broken(line)))
                and start >= size
                and line.find(_BARE_KEY, start) < 0
                and not (escapes and _has_ascii_escape(line))
            ):
                pass_over(kind)
            elif line:
                keep(line)
        return wanted, {kind[len(_TEXT) :]: count for kind, count in Counter(others).items()} if others else {}

    def _unknown(self, line: bytes) -> Callable[[bytes], bool]:
        """What to do with a line of a type not seen before, which is known from then on."""
        kind = event_type_of(line)
        if kind is None or len(kind) > _LONGEST_TYPE or len(self._glances) >= _MANY_TYPES:
            return _always
        return self._glances.setdefault(_TEXT + kind, _never)


def _always(_line: bytes) -> bool:
    return True


def _never(_line: bytes) -> bool:
    return False


def _looks_broken(line: bytes) -> bool:
    """Whether a line of a type that matters should be parsed, so that it is counted as what it is."""
    return not line.endswith(b"}") or not line.isascii()


def _has_ascii_escape(line: bytes) -> bool:
    return b"\\u00" in line and _ASCII_ESCAPE.search(line) is not None


def parse_time(text: str) -> float | None:
    """Seconds since the epoch of `2026-11-22T11:09:20.936002+0000`, or None if it is no time.

    The zone may be missing (UTC, as old exports have it), `Z`, or written with a colon. Never raises.
    """
    if len(text) > _LONGEST_TIME:
        return None
    fraction = text[19:26]
    if fraction[:1] == "." and fraction[1:].isdigit() and fraction.isascii():  # as Suricata writes it
        second = _second(text[:19], text[26:])
        if second is not None:
            return second + float(fraction)
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    second = _second(match[1], match[3])
    return None if second is None else second + float(f"0{match[2]}")


@lru_cache(maxsize=4096)
def _second(text: str, zone: str) -> int | None:
    match, offset = _SECOND.fullmatch(text), _offset(zone)
    if match is None or offset is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    if hour > 23 or minute > 59 or second > 60:
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    return days * 86400 + hour * 3600 + minute * 60 + second - offset


def _offset(zone: str) -> int | None:
    """Seconds east of Greenwich."""
    if zone in ("", "Z"):
        return 0
    match = _ZONE.fullmatch(zone)
    if match is None:
        return None
    seconds = int(match[2]) * 3600 + int(match[3]) * 60
    return -seconds if match[1] == "-" else seconds


def _has_lone_surrogate(value: Any) -> bool:
    """Lone surrogates come from \\u escapes only; whoever writes such a text to a file or socket would fail."""
    return _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)) is not None


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number


_JSON = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
