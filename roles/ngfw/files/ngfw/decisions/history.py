# SPDX-License-Identifier: GPL-3.0-or-later
"""Which networks were blocked before, and when: the next block of the same kind is longer, until that is forgotten."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from ..database import Database, Report, is_time, private_copy
from ..firewall.address import Network, to_key
from ..firewall.entry import Action, Block, Direction, Entry
from ..firewall.errors import UnsafeFile

FILE = "history.sqlite"
VERSION = 1
MAX_OFFENCES = 500_000
"""So many are kept at most, the newest: some 30 MB of disk."""

_SCHEMA = """
CREATE TABLE offences (
    network BLOB NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (network, kind, at)
) WITHOUT ROWID;
CREATE INDEX by_time ON offences (at);
"""
_COUNT = "SELECT count(*) FROM offences WHERE network = ? AND kind = ? AND at > ? AND at <= ?"
_NEWEST = "SELECT at FROM offences WHERE network = ? ORDER BY at DESC LIMIT ?"
_SHOWN = 1000
_FORGIVE = """
DELETE FROM offences WHERE network = ?1 AND kind = ?2
    AND at = (SELECT max(at) FROM offences WHERE network = ?1 AND kind = ?2 AND at > ?3)
"""
_KEEP_NEWEST = "DELETE FROM offences WHERE at < (SELECT at FROM offences ORDER BY at DESC LIMIT 1 OFFSET ?)"
_PRUNE_AFTER = 10_000
_APART = 60.0
_MANY = 50_000
"""So many networks are known without a question to the database: some 5 MB."""


class History:
    """Kept in a file, or in memory where `path` is None. No method raises; what cannot be kept is reported once."""

    def __init__(self, path: Path | None, *, report: Report) -> None:
        loss = "blocking goes on, but repeat offenders are not known after a restart"
        self._database = Database(path, _SCHEMA, VERSION, holds="earlier blocks", loss=loss, report=report)
        self._since_pruning = _PRUNE_AFTER
        self._known: set[bytes] | None = set()  # who was blocked before; None: too many to be kept here as well

    def open(self) -> None:
        """Begin; before this nothing is known."""
        self._known = self._database.load(_networks, None)

    def earlier(self, block: Block, since: float, until: float = math.inf) -> int:
        """How many blocks of that network, action and direction began after `since`, up to `until` (epoch seconds)."""
        database = self._database.connection
        if database is None or (self._known is not None and to_key(block.network) not in self._known):
            return 0
        try:
            found: int = database.execute(_COUNT, (*_key(block), since, until)).fetchone()[0]
        except sqlite3.Error:
            return 0  # the next write reports what is wrong with the file
        return found

    def add(self, blocks: Iterable[Block], at: float, forget_before: float) -> None:
        """These blocks began at that moment (epoch seconds); saying so again changes nothing."""
        rows = [(*_key(block), at) for block in blocks]
        if not rows:
            return
        if self._known is not None:
            self._known.update(network for network, _kind, _at in rows)
            if len(self._known) > _MANY:
                self._known = None
        self._database.write("INSERT OR IGNORE INTO offences VALUES (?, ?, ?)", rows)
        self._since_pruning += len(rows)
        if self._since_pruning >= _PRUNE_AFTER:
            self._since_pruning = 0
            self._database.write("DELETE FROM offences WHERE at <= ?", [(forget_before,)])
            self._database.write(_KEEP_NEWEST, [(MAX_OFFENCES,)])
        self._database.commit()

    def forgive(self, entries: Iterable[Entry]) -> None:
        """These were lifted, so they were no offences; an entry that was none leaves the earlier ones as they are."""
        self._database.write(_FORGIVE, [(*_key(entry.block), earliest_beginning(entry)) for entry in entries])
        self._database.commit()

    def close(self) -> None:
        self._database.close()


def earliest_beginning(entry: Entry) -> float:
    """Before this moment (epoch seconds) an entry's offence was not made.

    What extended it was longer than what it extended, and came before that had ended. What is stamped and what is made
    may lie a little apart.
    """
    return entry.created_at - entry.block.duration - _APART


def offences(path: Path, networks: Iterable[Network]) -> list[float]:
    """When these networks were blocked (epoch seconds), the newest, oldest first, for people.

    Nothing if it cannot be read. Raises UnsafeFile.
    """
    found: list[float] = []
    try:
        with private_copy(path) as database:
            for network in networks:
                found += [at for (at,) in database.execute(_NEWEST, (to_key(network), _SHOWN)) if is_time(at)]
    except UnsafeFile:
        raise
    except (sqlite3.Error, OSError, MemoryError):
        return []
    return sorted(found)


_KINDS = {(action, direction): f"{action.value} {direction.value}" for action in Action for direction in Direction}


def _key(block: Block) -> tuple[bytes, str]:
    return to_key(block.network), _KINDS[block.action, block.direction]


def _networks(database: sqlite3.Connection) -> set[bytes] | None:
    found = {network for (network,) in database.execute("SELECT DISTINCT network FROM offences LIMIT ?", (_MANY + 1,))}
    return None if len(found) > _MANY else found
