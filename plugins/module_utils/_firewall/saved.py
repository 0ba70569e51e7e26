# SPDX-License-Identifier: GPL-3.0-or-later
"""The sets of a chain in a file, for the next boot: written whole, put back whole with the time that passed taken off.

Format: a line of JSON for each set, after one line that says {version, chain, saved_at}. A set's line is
{name, family, entries: [[network, end in epoch seconds or null, comment], ...]}, and {name, family, members:
[network, ...]} for a blocklist.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, Optional

from .address import Key, Network, parse_network, to_key
from .duration import MAX_BLOCK_SECONDS
from .errors import FirewallError, KernelError, NotPermitted, SetMissing
from .ipset import IpSets
from .kernel import end_of
from .layout import Role, parse_set_name

VERSION = 1

_LEFT_SECONDS = 3600
_BESIDE = "+restoring"


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
        descriptor, fresh = tempfile.mkstemp(".new", path.name + ".", path.parent)  # several may be at it
    except FileNotFoundError:
        raise FirewallError(f"{path.parent} does not exist; make it, or name another directory") from None
    except PermissionError as error:
        raise NotPermitted(f"cannot write to {path.parent} ({error.strerror}); run as root") from None
    try:
        count = _write(descriptor, chain, sets, now, path.parent.stat())
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise
    for left in path.parent.glob(f"{path.name}.*.new"):  # by a writer that was killed
        if left.stat().st_mtime < time.time() - _LEFT_SECONDS:
            left.unlink()
    return count


def _write(descriptor: int, chain: str, sets: IpSets, now: float, owner: os.stat_result) -> int:
    count = 0
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o640)
        if os.geteuid() == 0:  # the watcher's user, to whom the directory belongs, has to read it
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(json.dumps({"version": VERSION, "chain": chain, "saved_at": now}) + "\n")
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
            file.write(json.dumps({"name": name, "family": spec.family, **line}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return count


def restore(path: Path, chain: str, sets: IpSets, now: float) -> int:
    """Make the sets of the chain exactly what the file says, without what has run out since; returns the entries.

    Each set is filled beside and swapped in, so nothing that another program brought back stays. Raises FirewallError
    if the file is not one of ours (one that is damaged is put aside; nothing is changed then), OSError, and what
    IpSets raises.
    """
    saved_at, found = _read(path, chain)
    now = max(now, saved_at)  # a clock that is not set yet must not make blocks longer
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
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise FirewallError(f"{path} does not exist: nothing was saved yet; 'ngfw save' writes it") from None
    number, found = 1, []
    try:
        head = json.loads(lines[0])
        saved_at, ours = float(head["saved_at"]), (head["version"], head["chain"]) == (VERSION, chain)
        for line in lines[1:] if ours else ():
            number += 1
            found.append(_decoded(json.loads(line), chain))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError):
        aside = path.with_name(f"{path.name}.corrupt")
        os.replace(path, aside)
        raise FirewallError(
            f"{path}:{number}: this line is damaged; the file was put aside as {aside}, and nothing was changed"
        ) from None
    if not ours:
        raise FirewallError(f"{path} was not saved for the chain {chain} by this version; remove it, or save again")
    return saved_at, found


def _decoded(fields: dict[str, Any], chain: str) -> _Saved:
    """One set of the file. Raises ValueError, KeyError, TypeError or AttributeError where it is none of the chain."""
    spec = parse_set_name(chain, fields["name"])
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
    return _Saved(spec.name, spec.family, entries, {*map(to_key, members)} if spec.role is Role.LIST else None)
