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
from pathlib import Path
from typing import Any

from .address import FAMILIES, parse_network, to_key
from .errors import InvalidInput, KernelError, SetMissing
from .ipset import IpSets
from .layout import Role, parse_set_name

VERSION = 1

_LEFT_SECONDS = 3600
_BESIDE = "+restoring"


def write(path: Path, chain: str, sets: IpSets, now: float) -> int:
    """Replace the file by what the sets of the chain hold now, durably; returns the number of entries.

    Raises OSError, and what IpSets raises.
    """
    descriptor, fresh = tempfile.mkstemp(".new", path.name + ".", path.parent)  # several may be at it
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
                line = {
                    "entries": [
                        [str(entry.network), now + entry.timeout if entry.timeout else None, entry.comment]
                        for entry in found
                    ]
                }
            file.write(json.dumps({"name": name, "family": spec.family, **line}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return count


def restore(path: Path, chain: str, sets: IpSets, now: float) -> int:
    """Make the sets of the chain exactly what the file says, without what has run out since; returns the entries.

    Each set is filled beside and swapped in, so nothing that another program brought back stays. Raises InvalidInput
    if the file is not one of ours (nothing is changed then), OSError, and what IpSets raises.
    """
    lines = _read(path, chain)
    now = max(now, next(lines)["saved_at"])  # a clock that is not set yet must not make blocks longer
    present = sets.headers()
    count = 0
    for line in list(lines):
        name, plain = line["name"], "members" in line
        if plain:
            members = {to_key(parse_network(text)) for text in line["members"]}
        else:
            left = [
                (parse_network(text), 0 if end is None else round(end - now), comment)
                for text, end, comment in line["entries"]
                if end is None or end - now >= 1
            ]
        if _BESIDE in present:
            sets.destroy(_BESIDE)
        size = len(members) if plain else len(left)
        sets.create(_BESIDE, line["family"], plain=plain, elements=size)
        rejected = sets.fill(_BESIDE, members) if plain else sets.add(_BESIDE, left)
        if rejected:
            raise KernelError(f"{len(rejected)} entries of {name} did not fit, such as {rejected[0].network}")
        if name not in present:
            sets.create(name, line["family"], plain=plain)
        sets.swap(_BESIDE, name)
        sets.destroy(_BESIDE)
        count += size
    return count


def _read(path: Path, chain: str) -> Iterator[dict[str, Any]]:
    """The lines of the file, checked one by one."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput(f"{path} does not exist: nothing was saved yet; 'ngfw save' writes it") from None
    lines = [_checked(path, number, line, chain) for number, line in enumerate(text.splitlines(), 1)]
    if not lines or lines[0].get("version") != VERSION or lines[0].get("chain") != chain:
        raise InvalidInput(f"{path} was not saved for the chain {chain} by this version; remove it, or save again")
    return iter(lines)


def _checked(path: Path, number: int, line: str, chain: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
        good = isinstance(fields, dict) and (
            isinstance(fields.get("saved_at"), (int, float))
            if number == 1
            else parse_set_name(chain, fields["name"]) is not None and fields["family"] in FAMILIES
        )
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise InvalidInput(f"{path}:{number}: this line is damaged; remove the file, or save again")
    return dict(fields)
