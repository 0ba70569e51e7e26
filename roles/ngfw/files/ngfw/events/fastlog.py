# SPDX-License-Identifier: GPL-3.0-or-later
"""Suricata's fast.log (src/alert-fastlog.c), one alert a line:

    TIME  [ACTION ][**] [gid:sid:rev] MSG [**] [Classification: C] [Priority: P] {PROTO} SRC:SP -> DST:DP

MSG is free text and may imitate all that follows it, so everything behind it is read from the right end.
"""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

from .event import Event, LineError

_HEAD = re.compile(
    r"(\S{14,32}) +(?:\[(Drop|wDrop)\] +)?\[\*\*\] \[(\d{1,10}):(\d{1,10}):(\d{1,10})\] (.*)", re.ASCII | re.DOTALL
)
_ENDPOINTS = re.compile(r"(\S+)\} (\S+) -> (\S+)", re.ASCII)
_RAW_PACKET = re.compile(r" \[\*\*\] \[Raw pkt: [0-9A-Fa-f .]*\](?: \[pcap file packet: \d+\])?", re.ASCII)
_PRIORITY = re.compile(r"(\d{1,10})\]", re.ASCII)
_TIME = re.compile(r"(?:(\d\d)/(\d\d)/(\d{4})|(\d\d)/(\d\d)/(\d\d))-(\d\d):(\d\d):", re.ASCII)
_SECONDS = re.compile(r"[0-5]\d(?:\.\d{1,9})?|60(?:\.\d{1,9})?", re.ASCII)

_NAMES = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "IPv6-ICMP", 132: "SCTP"}
_WITH_PORTS = frozenset(("TCP", "UDP", "SCTP"))
_WITH_TYPE = frozenset(("ICMP", "IPv6-ICMP"))


def decode(line: bytes, *, zone: tzinfo | None = None) -> Event:
    """Read one line as the EVE alert of the same meaning.

    The log has local time without zone: it is taken as of `zone`, by default the host's, and the record's timestamp
    becomes EVE's form of it. Decoder events, which have no addresses, give a record without `src_ip`.
    Raises LineError of kind "encoding", "shape" or "address".
    """
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise LineError("encoding", f"not UTF-8 at byte {error.start}") from None
    head = _HEAD.fullmatch(text)
    if head is None:
        raise LineError("shape", "no alert of fast.log: it begins with TIME  [**] [gid:sid:rev]")
    stamp, action, gid, sid, rev, rest = head.groups()
    time, timestamp = _time(stamp, zone)
    record: dict[str, Any] = {"timestamp": timestamp, "event_type": "alert"}
    rest = _take_endpoints(rest, record)
    alert: dict[str, Any] = {
        "action": "blocked" if action == "Drop" else "allowed",  # [wDrop]: would have been dropped
        "gid": int(gid),
        "signature_id": int(sid),
        "rev": int(rev),
    }
    _take_message(rest, alert)
    record["alert"] = alert
    return Event(record, time, "alert")


def _take_endpoints(rest: str, record: dict[str, Any]) -> str:
    """Move protocol, addresses and ports to `record`; returns what stands before them."""
    before, brace, after = rest.rpartition(" {")
    endpoints = _ENDPOINTS.fullmatch(after) if brace else None
    if endpoints is None:
        before, mark, after = rest.rpartition(" [**] [Raw pkt: ")
        if not mark or _RAW_PACKET.fullmatch(mark + after) is None:
            raise LineError("shape", "no {PROTO} SRC:PORT -> DST:PORT at the end of the line")
        return before
    protocol = _protocol(endpoints[1])
    record["src_ip"], left = _endpoint(endpoints[2])
    record["dest_ip"], right = _endpoint(endpoints[3])
    if protocol in _WITH_TYPE:
        record["icmp_type"], record["icmp_code"] = left or 0, right or 0
    elif protocol in _WITH_PORTS:
        record["src_port"], record["dest_port"] = left or 0, right or 0
    record["proto"] = protocol
    return before


def _take_message(rest: str, alert: dict[str, Any]) -> None:
    """Read `MSG [**] [Classification: C] [Priority: P]`, of which any but MSG may be missing."""
    severity = None
    before, mark, after = rest.rpartition(" [Priority: ")
    priority = _PRIORITY.fullmatch(after) if mark else None
    if priority is not None:
        severity, rest = int(priority[1]), before
    category = ""
    if rest.endswith(" [**]"):
        message = rest[:-5]
    else:
        message, mark, after = rest.rpartition(" [**] [Classification: ")
        if not mark or not after.endswith("]"):
            raise LineError("shape", "no [**] [Classification: ...] behind the message")
        category = after[:-1]
    alert["signature"] = "" if message == "(null)" else message
    alert["category"] = "" if category == "(null)" else category
    if severity is not None:
        alert["severity"] = severity


@lru_cache(maxsize=64)
def _protocol(text: str) -> str:
    """EVE's name of `TCP`, `PROTO:132` or `132`."""
    number = text[6:] if text.startswith("PROTO:") else text
    if number.isdigit() and number.isascii() and len(number) <= 3 and int(number) <= 255:
        return _NAMES.get(int(number), number)
    return text


def _endpoint(text: str) -> tuple[str, int | None]:
    """Address and port, ICMP type or code.

    IPv6 is printed without brackets and uncompressed: with eight colons the last one precedes the port.
    """
    colons = text.count(":")
    address, port = text, ""
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise LineError("address", "an address with one bracket")
        port = port[1:]
    elif colons in (1, 8):
        address, _colon, port = text.rpartition(":")
    elif colons and "::" in text:
        raise LineError("address", "a shortened IPv6 address, whose end and port cannot be told apart")
    try:
        inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    except (OSError, ValueError):
        raise LineError("address", "no address where one is due") from None
    if not port:
        return address, None
    if not (port.isdigit() and port.isascii() and len(port) <= 5 and int(port) <= 65535):
        raise LineError("address", "no port where one is due")
    return address, int(port)


def _time(stamp: str, zone: tzinfo | None) -> tuple[float | None, str]:
    """Seconds since the epoch and EVE's text of a time; an unreadable one gives None and stays as it is."""
    start, seconds = _minute(stamp[: stamp.rfind(":") + 1], zone), stamp[stamp.rfind(":") + 1 :]
    if start is None or _SECONDS.fullmatch(seconds) is None:
        return None, stamp
    return start[0] + float(seconds), f"{start[1]}{seconds}{start[2]}"


@lru_cache(maxsize=1024)
def _minute(text: str, zone: tzinfo | None) -> tuple[float, str, str] | None:
    """Epoch seconds of `MM/DD/YYYY-HH:MM:` or `YY/MM/DD-HH:MM:`, EVE's text of it, and EVE's zone."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    month, day, year = (match[1], match[2], match[3]) if match[3] else (match[5], match[6], "20" + match[4])
    try:
        naive = datetime(int(year), int(month), int(day), int(match[7]), int(match[8]))
        local = naive.replace(tzinfo=zone) if zone else naive.astimezone()
        return local.timestamp(), local.strftime("%Y-%m-%dT%H:%M:"), local.strftime("%z")
    except (ValueError, OverflowError, OSError):
        return None
