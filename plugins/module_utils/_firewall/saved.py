# SPDX-License-Identifier: GPL-3.0-or-later
"""The sets of a chain in a file, for the next boot: written whole, put back whole with the time that passed taken off.

Format: a line of JSON for each set, after one line that says {version, chain, saved_at}. A set's line is
{name, family, entries: [[network, end in epoch seconds or null, comment], ...]}, and {name, family, members:
[network, ...]} for a blocklist.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Optional

from .address import Key, Network, parse_network, to_key
from .duration import MAX_BLOCK_SECONDS
from .errors import FirewallError, KernelError, NotPermitted, SetMissing
from .files import open_for_reading, put_aside, read_bytes, replacing
from .ipset import IpSets
from .kernel import end_of
from .layout import Role, parse_set_name, renamed, valid_chain

VERSION = 1

MAX_BYTES = 256 << 20
"""Of the file; 150 bytes or so are one entry."""

_MAX_HEAD = 4096
_BESIDE = "+restoring"
_PLAUSIBLE_SECONDS = 365 * 86400.0
"""A host was hardly off for longer than this: its clock is wrong."""


_Entry = tuple[Network, Optional[float], str]
"""A network, its end in epoch seconds (None: permanent), and its comment."""


class _Saved(NamedTuple):
    """One set as the file has it; `members` are a blocklist's."""

    name: str
    family: str
    entries: list[_Entry]
    members: set[Key] | None


def write(path: Path, chain: str, sets: IpSets, now: float) -> int:
    """Replace the file by what the sets of the chain hold now, durably; returns the number of entries.

    Raises FirewallError without the directory, OSError, and what IpSets raises.
    """
    try:
        with replacing(path) as stream:
            return _write(stream, chain, sets, now)
    except FileNotFoundError:
        raise FirewallError(f"{path.parent} does not exist; make it, or name another directory") from None
    except PermissionError as error:
        raise NotPermitted(f"cannot write to {path.parent} ({error.strerror}); run as root") from None


def _write(stream: BinaryIO, chain: str, sets: IpSets, now: float) -> int:
    count = 0
    stream.write(_line({"version": VERSION, "chain": chain, "saved_at": now}))
    for name in sorted(sets.headers()):
        spec = parse_set_name(chain, name)
        if spec is None or spec.role is Role.FILLING:
            continue
        try:
            found = sets.entries(name)
        except SetMissing:  # removed meanwhile
            continue
        count += len(found)
        if spec.role is Role.LIST:
            line: dict[str, Any] = {"members": [str(entry.network) for entry in found]}
        else:
            line = {"entries": [[str(entry.network), end_of(entry, now), entry.comment] for entry in found]}
        stream.write(_line({"name": name, "family": spec.family, **line}))
    return count


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode("ascii") + b"\n"


def restore(path: Path, chain: str, sets: IpSets, now: float) -> int:
    """Make the sets of the chain exactly what the file says, without what has run out since; returns the entries.

    They may have been another chain's when they were saved: the configuration has changed its name since.
    Each set is filled beside and swapped in, so nothing that another program brought back stays. Raises FirewallError
    if the file is not one of ours (one that is damaged is put aside; nothing is changed then), OSError, and what
    IpSets raises.
    """
    saved_at, found = _read(path, chain)
    if not saved_at <= now <= saved_at + _PLAUSIBLE_SECONDS:
        now = saved_at  # this clock is not set yet: blocks must not become longer, and not all be lost
    present = sets.headers()
    if _BESIDE in present:  # left by a writer that was killed
        sets.destroy(_BESIDE)
    count = 0
    for each in found:
        plain = each.members is not None
        left = list(_left(each.entries, now))
        size = len(left) if each.members is None else len(each.members)
        sets.create(_BESIDE, each.family, plain=plain, elements=size)
        rejected = sets.add(_BESIDE, left) if each.members is None else sets.fill(_BESIDE, each.members)
        if rejected:
            raise KernelError(f"{len(rejected)} entries of {each.name} did not fit, such as {rejected[0].network}")
        if each.name not in present:
            sets.create(each.name, each.family, plain=plain)
        sets.swap(_BESIDE, each.name)
        sets.destroy(_BESIDE)
        count += size
    return count


def chain_of(path: Path) -> str | None:
    """The chain whose sets the file holds; None if there is none, or it cannot be told."""
    try:
        with open_for_reading(path) as stream:
            name = json.loads(stream.readline(_MAX_HEAD))["chain"]
            return valid_chain(name)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _left(entries: list[_Entry], now: float) -> Iterator[tuple[Network, int, str]]:
    """What has not run out, with the seconds that remain instead of the end; 0 for permanent."""
    for network, end, comment in entries:
        if end is None:
            yield network, 0, comment
        elif end - now >= 1:
            yield network, min(round(end - now), MAX_BLOCK_SECONDS), comment


def _read(path: Path, chain: str) -> tuple[float, list[_Saved]]:
    """When the file was written, and all its sets: read to the end before anything is changed."""
    try:
        lines = read_bytes(path, MAX_BYTES).splitlines()
    except FileNotFoundError:
        raise FirewallError(f"{path} does not exist: nothing was saved yet; 'ngfw save' writes it") from None
    number, found = 1, []
    try:
        head = json.loads(lines[0])
        saved_at, ours = float(head["saved_at"]), head["version"] == VERSION
        earlier = valid_chain(head["chain"])
        for line in lines[1:] if ours else ():
            number += 1
            found.append(_decoded(json.loads(line), earlier, chain))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError):
        aside = put_aside(path)
        raise FirewallError(
            f"{path}:{number}: this line is damaged; the file was put aside as {aside}, and nothing was changed"
        ) from None
    if not ours:
        raise FirewallError(f"{path} was not saved by this version; remove it, or save again")
    return saved_at, found


def _decoded(fields: dict[str, Any], earlier: str, chain: str) -> _Saved:
    """One set of the file, under its name in `chain`. Raises ValueError, KeyError, TypeError or AttributeError where it
    is none of the chain that had them `earlier`.
    """
    spec = parse_set_name(earlier, fields["name"])
    if spec is None or spec.family != fields["family"]:
        raise ValueError
    members = [parse_network(text) for text in fields["members"]] if spec.role is Role.LIST else []
    entries: list[_Entry] = [
        (parse_network(text), None if end is None else float(end), comment)
        for text, end, comment in (() if spec.role is Role.LIST else fields["entries"])
    ]
    networks = [*members, *(network for network, _end, _comment in entries)]
    if any(network.family != spec.family for network in networks):
        raise ValueError
    if not all(isinstance(comment, str) and (end is None or isfinite(end)) for _network, end, comment in entries):
        raise ValueError
    name = renamed(spec, chain).name
    return _Saved(name, spec.family, entries, {*map(to_key, members)} if spec.role is Role.LIST else None)
