# SPDX-License-Identifier: GPL-3.0-or-later
"""Which fields EVE records have, of which type, and in which event types they occur."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import Union

from .eve_table import TABLE

Step = Union[str, int]
Path = tuple[Step, ...]

EVENT_TYPES = frozenset(
    (
        *("alert", "anomaly", "drop", "engine", "fileinfo", "flow", "frame", "metadata", "netflow", "packet", "stats"),
        *("stream_tcp", "arp", "bittorrent_dht", "dcerpc", "dhcp", "dnp3", "dns", "enip", "ftp", "ftp_data", "http"),
        *("igmp", "ike", "krb5", "ldap", "llmnr", "mdns", "modbus", "mqtt", "nfs", "ntp", "pgsql", "pop3", "quic"),
        *("rdp", "rfb", "sip", "smb", "smtp", "snmp", "ssh", "template", "tftp", "tls", "websocket"),
    )
)

# Records of these types carry the objects of whatever protocol they were seen in.
_CARRIERS = frozenset(("alert", "anomaly", "drop", "fileinfo", "frame"))

# Objects that other event types than their namesake carry, beside the carriers.
_ALSO_IN = {
    "alert": ("alert", "drop"),
    "anomaly": ("anomaly",),
    "dns": ("dns", "http"),  # DNS over HTTP/2
    "drop": ("drop",),
    "email": ("smtp", "pop3"),
    "engine": ("engine",),
    "fileinfo": ("fileinfo",),
    "flow": ("alert", "flow"),
    "frame": ("alert", "frame"),
    "ftp_data": ("ftp_data", "ftp"),
    "http": ("http", "websocket", "dns"),
    "netflow": ("netflow",),
    "packet_info": ("alert", "packet"),
    "rpc": ("nfs",),
    "smb": ("smb", "dcerpc"),
    "stats": ("stats",),
    "stream_tcp": ("stream_tcp",),
    "tcp": ("flow", "netflow"),
    "verdict": ("alert", "drop"),
}
_NEVER_CARRIED = frozenset(
    (
        "alert",
        "anomaly",
        "drop",
        "engine",
        "fileinfo",
        "flow",
        "frame",
        "netflow",
        "packet_info",
        "stats",
        "stream_tcp",
        "tcp",
        "verdict",
    )
)
_EVERYWHERE = frozenset(("ether", "files", "metadata", "ndpi", "traffic", "tunnel", "vlan", "sctp"))

ADDRESSES = frozenset(
    (
        "src_ip",
        "dest_ip",
        "offender",
        "flow.src_ip",
        "flow.dest_ip",
        "alert.source.ip",
        "alert.target.ip",
        "tunnel.src_ip",
        "tunnel.dest_ip",
    )
)
"""Fields that hold one address, whatever way it is written."""


_OF_NETWORK = re.compile(r"(.*)/(.*)", re.DOTALL)
_PREFIX = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


class FieldError(ValueError):
    """A name that no record of the event type has; the text says what to write instead."""


@lru_cache(maxsize=1)
def table() -> dict[str, str]:
    """Dotted paths (``[]`` for the items of a list) to letters of the types; the letters are in ``eve_table``."""
    paths = {}
    for line in TABLE.replace("\n  ", " ").splitlines():
        parent, _colon, members = line.partition(":")
        for member in members.split():
            name, _equals, letters = member.rpartition("=")
            path = parent + name if name == "[]" or not parent else f"{parent}.{name}"
            paths[path] = letters
    return paths


def types_of(path: Path, event_type: str) -> str:
    """The letters of the types that a field may have in records of that type (``?``: anything). Raises FieldError."""
    known = table()
    top = str(path[0])
    if top in known and not occurs_in(top, event_type):
        where = ", ".join(sorted(each for each in EVENT_TYPES if occurs_in(top, each)))
        raise FieldError(f"'{dotted(path)}' is not a field of {event_type} records; it occurs in {where}")
    key = ""
    for position, step in enumerate(path):
        letters = known.get(key, "o")
        if "*" in letters or "?" in letters:
            return "?"
        if isinstance(step, int):
            if "a" not in letters:
                raise FieldError(f"'{dotted(path[:position])}' is not a list; leave out [{step}]")
            key += "[]"
        else:
            if "a" in letters and "o" not in letters and f"{key}[].{step}" in known:
                hint = f"write {dotted((*path[:position], 0, *path[position:]))} for its first item"
                raise FieldError(f"'{dotted(path[:position])}' is a list; {hint}")
            key = f"{key}.{step}" if key else step
            if key not in known:
                raise FieldError(_unknown(path, event_type))
    letters = known[key]
    return "?" if "*" in letters else letters


def occurs_in(name: str, event_type: str) -> bool:
    """Whether records of the event type may have that field at their top."""
    letters = table().get(name, "")
    if not set(letters) & {"o", "*"} or name in _EVERYWHERE or name == event_type:
        return True
    if event_type in _ALSO_IN.get(name, ()):
        return True
    return event_type in _CARRIERS and name not in _NEVER_CARRIED


def dotted(path: Path) -> str:
    """A path as it is written in rules: ``dns.answers[0].rdata``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.replace("_", "a").isalnum() and step.isascii() and not step[0].isdigit():
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


def parse_field(text: str) -> Path:
    """The path that a plain dotted name such as ``flow.dest_ip`` means. Raises FieldError for an empty part."""
    steps = text.split(".")
    if not all(steps):
        raise FieldError(f"'{text[:60]}' is not the name of a field; write it as in flow.dest_ip")
    return tuple(steps)


def parse_group(text: str) -> tuple[str, int | None]:
    """What a rule groups by: the name of a field and, of an address such as ``offender/24``, the prefix of the network
    that is counted as one. One up to 32 is of IPv4 addresses, a longer one of IPv6 addresses; the others are grouped
    as without it. Raises FieldError.
    """
    match = _OF_NETWORK.fullmatch(text)
    if match is None:
        return text, None
    name, prefix = match.groups()
    if name not in ADDRESSES:
        raise FieldError(
            f"'{name[:60]}' is no address, so it has no prefix; write it alone, or offender{text[len(name) :][:8]}"
        )
    if not _PREFIX.fullmatch(prefix) or int(prefix) > 128:
        raise FieldError(
            f"'{prefix[:20]}' is no prefix; write {name}/24, up to 32 for networks of IPv4 addresses, or {name}/48, "
            "from 33 to 128 for networks of IPv6 addresses"
        )
    return name, int(prefix)


def _unknown(path: Path, event_type: str) -> str:
    message = f"unknown field '{dotted(path)}'"
    wanted = ".".join(step for step in path if isinstance(step, str)).lower()
    leaf = wanted.rpartition(".")[2]
    known = [each for each in table() if not each.endswith("[]") and occurs_in(each.partition(".")[0], event_type)]
    parent = wanted.rpartition(".")[0]
    siblings = [each for each in known if each.rpartition(".")[0] == parent]
    same_leaf = [each for each in known if each.rpartition(".")[2] == leaf]
    same_leaf.sort(key=lambda each: (each.count("."), each))
    near = difflib.get_close_matches(wanted, siblings, 1, 0.7) if parent else []
    near = near or same_leaf or difflib.get_close_matches(wanted, siblings, 1, 0.5)
    near = near or difflib.get_close_matches(wanted, known, 1, 0.6)
    if near:
        return f"{message}; did you mean '{near[0].replace('[]', '[0]')}'?"
    return f"{message}; see Suricata's documentation of EVE for the fields of {event_type} records"
