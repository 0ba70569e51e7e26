# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms in which lists of addresses are published: told by their first lines, read line by line.

Sources of the formats: FireHOL netsets and one address a line (https://iplists.firehol.org); Spamhaus DROP, as text and
as JSON (https://www.spamhaus.org/blocklists/do-not-route-or-peer/); DShield's block.txt (https://feeds.dshield.org);
Tor's exit addresses (https://metrics.torproject.org/collector.html); P2P plaintext
(https://en.wikipedia.org/wiki/PeerGuardian#P2P_plaintext_format).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, NamedTuple

from .address import parse_network, parse_range
from .errors import AddressError, InvalidInput
from .text import shown

MAX_BYTES = 128 << 20
"""How large a list's text may be, unpacked."""

MAX_LINES = 4_000_000
LINES_AT_ONCE = 500
"""A batch: well under a millisecond of work, so that a thread that reads a list keeps no other waiting."""

READ = (
    "what is read: an address, CIDR network or range FIRST-LAST a line, alone or as the first column; one JSON object "
    "with cidr or ip a line; DShield's table; Tor's exit addresses; P2P (NAME:FIRST-LAST); all as UTF-8, plain or gzip"
)

_LONGEST_LINE = 4096
_HEAD_LINES = 20  # so many lines are looked at for one of a known form
_HEAD_BYTES = 8
_PIECE = 1 << 16
_BLANK = " \t\r\n\v\f\ufeff"
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_FOREIGN_BYTES = (
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "data packed by bzip2"),
    (b"\xfd7zXZ", "data packed by xz"),
    (b"\x28\xb5\x2f\xfd", "data packed by zstd"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)

# An address, network (also with a dotted mask) or range at the beginning of a line, and what may stand behind it.
_COLUMN = re.compile(
    r"([0-9A-Fa-f:.]+(?:/[0-9.]{1,15})?)(?:[ \t]*-[ \t]*([0-9A-Fa-f]*[:.][0-9A-Fa-f:.]*))?(?=[ \t,;#|]|$)"
)
_GAP = re.compile(r"[ \t]*[,|]?[ \t]*")
_IPV4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_P2P = re.compile(rf".*:\s*({_IPV4})\s*-\s*({_IPV4})\s*")
_TOR_EXIT = re.compile(r"ExitAddress\s+(\S+)")
_TOR_OTHER = re.compile(r"(?:ExitNode|Published|LastStatus)\s")
_TABLE_HEAD = re.compile(r"start\s+end\s+(?:netmask|bits|prefix)", re.IGNORECASE)


class ListFormatError(InvalidInput):
    """A text is in no form that is read; nothing of it was taken."""


class Form(NamedTuple):
    """A form of lists. `entry` gives the address, network or range in a line that is no comment.

    It gives None for a line that this form has besides, and raises AddressError for what it should not have.
    """

    name: str
    entry: Callable[[str], str | None]


def read_lines(blocks: Iterable[bytes]) -> Iterator[list[str]]:
    """The lines of a text that comes in pieces, unpacked if need be, some hundred at a time, without blanks around.

    Raises ListFormatError for what is no text, or too large.
    """
    rest, lines_left, bytes_left = b"", MAX_LINES, MAX_BYTES
    for block in _text_blocks(blocks):
        bytes_left -= len(block)
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        lines_left -= len(lines)
        if bytes_left < 0:
            raise ListFormatError(f"huge: more than {MAX_BYTES} bytes")
        if lines_left < 0:
            raise ListFormatError(f"huge: more than {MAX_LINES} lines")
        if len(rest) > _LONGEST_LINE:
            lines.append(rest[:_LONGEST_LINE])
            rest = b"?"  # what follows belongs to a line that is no address
        for start in range(0, len(lines), LINES_AT_ONCE):
            yield [line.decode("utf-8", "replace").strip() for line in lines[start : start + LINES_AT_ONCE]]
    if rest.strip():
        yield [rest.decode("utf-8", "replace").strip()]


def with_form(batches: Iterable[Sequence[str]]) -> Iterator[tuple[Form, Sequence[str]]]:
    """Lines with the form of their list, which the first lines tell that are no comments.

    Raises ListFormatError if they tell none. A list of comments alone yields nothing.
    """
    form: Form | None = None
    head: list[tuple[int, str]] = []
    read = 0
    for lines in batches:
        if form is not None:
            yield form, lines
            continue
        unknown = len(head)
        head += ((read + n, text) for n, line in enumerate(lines, 1) if not is_comment(text := line.strip(_BLANK)))
        read += len(lines)
        form = next((found for n, text in head[unknown:_HEAD_LINES] if (found := _tell(n, text))), None)
        if form is not None:
            yield form, [text for _n, text in head]
        elif len(head) >= _HEAD_LINES:
            break
    if form is None and head:
        number, text = next(((n, t) for n, t in head if t[0] != "{"), head[0])
        raise _unknown(number, text)


def is_comment(text: str) -> bool:
    """Whether a line without blanks around it says nothing in any form."""
    return not text or text[0] in "#;" or text.startswith("//")


def _tell(number: int, text: str) -> Form | None:
    """The form that has such a line, None if it could be of any; raises ListFormatError if it is of none."""
    first = text[0]
    if first == "{":
        fields = _fields(text)
        if fields is None:
            raise _foreign(number, text, "a JSON document over several lines")
        if "cidr" in fields or "ip" in fields:
            return OBJECTS
        if fields.get("type") == "metadata":
            return None
        raise _foreign(number, text, "JSON objects without cidr or ip")
    if first == "<":
        raise _foreign(number, text, "XML" if text.startswith("<?xml") else "a page of HTML")
    if first == "[" and text[1:].lstrip()[:1] in ("", '"', "'", "{", "["):
        raise _foreign(number, text, "a JSON array")
    if first in "\"'":
        raise _foreign(number, text, "CSV with quotes")
    if _TABLE_HEAD.match(text) or _is_table_line(text):
        return TABLE
    if _TOR_EXIT.match(text) or _TOR_OTHER.match(text):
        return TOR
    match = _COLUMN.match(text)
    if match is not None and _is_entry(match):
        if _is_entry(_beside(match)):
            raise _foreign(number, text, "several addresses in a line; write FIRST-LAST for a range")
        return PLAIN
    return P2P if _P2P.fullmatch(text) else None


def _foreign(number: int, text: str, what: str) -> ListFormatError:
    return ListFormatError(f"line {number}, '{shown(text)}', looks like {what}; {READ}")


def _unknown(number: int, text: str) -> ListFormatError:
    match = _COLUMN.match(text)
    try:
        if match is not None:
            parse_range(_of_match(match))
    except AddressError as error:
        return ListFormatError(f"line {number}: {error}; {READ}")
    return _foreign(number, text, "no address")


def _is_entry(match: re.Match[str] | None) -> bool:
    try:
        return match is not None and bool(parse_range(_of_match(match)))
    except AddressError:
        return False


def _beside(match: re.Match[str]) -> re.Match[str] | None:
    """What would be an address in the column behind that one."""
    gap = _GAP.match(match.string, match.end())
    return None if gap is None else _COLUMN.match(match.string, gap.end())


def _column(text: str) -> str:
    match = _COLUMN.match(text)
    if match is None:
        raise AddressError(f"'{shown(text)}' is not an address; begin the line with one, or with # if it is a comment")
    return _of_match(match)


def _of_match(match: re.Match[str]) -> str:
    first, last = match.groups()
    if last is not None:
        return f"{first}-{last}"
    address, slash, mask = first.partition("/")
    return f"{address}/{_mask_length(mask)}" if slash and "." in mask else first


def _mask_length(mask: str) -> int:
    """The prefix length of a dotted mask; raises AddressError if it is none."""
    number = int.from_bytes(parse_network(mask).packed, "big")
    spare = (number ^ 0xFFFFFFFF).bit_length()
    if number != 0xFFFFFFFF >> spare << spare:
        raise AddressError(f"'{shown(mask)}' is no mask; write a prefix length")
    return 32 - spare


def _object(text: str) -> str | None:
    fields = _fields(text)
    found = None if fields is None else fields.get("cidr", fields.get("ip"))
    if isinstance(found, str):
        return found
    if fields is not None and fields.get("type") == "metadata":
        return None
    raise AddressError(f"'{shown(text)}' is no JSON object with cidr or ip")


def _fields(text: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _table_row(text: str) -> str | None:
    if _TABLE_HEAD.match(text):
        return None
    fields = text.split(None, 3)
    if len(fields) >= 3:
        network = parse_network(f"{fields[0]}/{fields[2]}")
        if parse_range(f"{fields[0]}-{fields[1]}") == [network]:
            return str(network)
    raise AddressError(f"'{shown(text)}' is no row START END LENGTH whose three values agree")


def _is_table_line(text: str) -> bool:
    try:
        return _table_row(text) is not None
    except AddressError:
        return False


def _tor_exit(text: str) -> str | None:
    match = _TOR_EXIT.match(text)
    if match is not None:
        return match.group(1)
    if _TOR_OTHER.match(text):
        return None
    raise AddressError(f"'{shown(text)}' is none of the lines of Tor's exit addresses")


def _p2p(text: str) -> str | None:
    match = _P2P.fullmatch(text)
    if match is None:
        raise AddressError(f"'{shown(text)}' is no NAME:FIRST-LAST")
    return f"{match.group(1)}-{match.group(2)}"


PLAIN = Form("one address, network or range a line", _column)
OBJECTS = Form("one JSON object a line", _object)
TABLE = Form("a table of start, end and prefix length", _table_row)
TOR = Form("Tor's exit addresses", _tor_exit)
P2P = Form("P2P", _p2p)


def _text_blocks(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The text in these pieces, unpacked; raises ListFormatError for what is surely no UTF-8."""
    pieces = iter(blocks)
    head = _head(pieces)
    pieces = _rejoined(head, pieces)
    if head.startswith(_GZIP):
        pieces = _gunzip(pieces)
        head = _head(pieces)
        pieces = _rejoined(head, pieces)
    for magic, what in _FOREIGN_BYTES:
        if head.startswith(magic):
            raise ListFormatError(f"it looks like {what}; {READ}")
    if b"\0" in head[:4]:
        raise ListFormatError(f"it looks like binary data, or UTF-16; {READ}")
    yield from pieces


def _head(pieces: Iterator[bytes]) -> bytes:
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= _HEAD_BYTES:
            break
    return head


def _rejoined(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head[len(_BOM) :] if head.startswith(_BOM) else head
    yield from pieces


def _gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What is packed, never more than a small piece at once, whatever it was packed to."""
    unpacker = zlib.decompressobj(31)
    try:
        for piece in pieces:
            packed = piece
            while packed:
                if unpacker.eof:
                    if not packed.startswith(_GZIP):
                        return  # padding behind the last part
                    unpacker = zlib.decompressobj(31)
                yield unpacker.decompress(packed, _PIECE)
                packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        while not unpacker.eof:
            unpacked = unpacker.decompress(b"", _PIECE)
            if not unpacked:
                raise ListFormatError("its gzip data is cut off; fetch it again")
            yield unpacked
    except zlib.error:
        raise ListFormatError("its gzip data is damaged; fetch it again") from None
