# SPDX-License-Identifier: GPL-3.0-or-later
"""What reputation keeps between two runs, in SQLite: answers, lookups that are open, and how much budget is used.

The running watcher works from memory and writes behind; a file that cannot be written, or is damaged, costs no more
than what a restart would have known. One thread at a time may use a Store.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..database import Database, Report, is_time, private_copy
from ..firewall.address import Key, Network, from_key, to_key
from ..firewall.errors import UnsafeFile
from .budget import subject

FILE = "intel.sqlite"
VERSION = 1

_SCHEMA = """
CREATE TABLE results (address BLOB PRIMARY KEY, score INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE lookups (
    id INTEGER PRIMARY KEY, address BLOB NOT NULL, asked_at REAL NOT NULL, cases TEXT NOT NULL
);
CREATE TABLE spent (at REAL NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, number REAL NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;
"""


class Known(NamedTuple):
    """A provider's answer: the score, and when it was given (epoch seconds)."""

    score: int
    at: float


class Fact(NamedTuple):
    """A number that is kept under a name, with a text."""

    number: float
    text: str = ""


class Unfinished(NamedTuple):
    """A lookup that the last run did not see the end of."""

    id: int
    address: Network
    asked_at: float
    cases: dict[str, str]


@dataclass
class Kept:
    """All that an earlier run left, oldest first."""

    results: list[tuple[Network, Known]] = field(default_factory=list)
    lookups: list[Unfinished] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)


class Store:
    """The file. Changes are kept by commit(); no method raises, what cannot be kept is reported once."""

    def __init__(self, path: Path | None, *, report: Report) -> None:
        """Without a path it is kept in memory only."""
        loss = "lookups go on, but a restart will not know them"
        self._database = Database(path, _SCHEMA, VERSION, holds="lookups", loss=loss, report=report)

    def load(self) -> Kept:
        """Open the file and read it all; one that is damaged is put aside."""
        return self._database.load(_read, Kept())

    def put_result(self, address: Network, known: Known) -> None:
        self._write("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (to_key(address), known.score, known.at))

    def drop_result(self, address: Network) -> None:
        self._write("DELETE FROM results WHERE address = ?", (to_key(address),))

    def put_lookup(self, lookup: Unfinished) -> None:
        fields = (lookup.id, to_key(lookup.address), lookup.asked_at, json.dumps(lookup.cases))
        self._write("INSERT OR REPLACE INTO lookups VALUES (?, ?, ?, ?)", fields)

    def drop_lookup(self, number: int) -> None:
        self._write("DELETE FROM lookups WHERE id = ?", (number,))

    def put_spent(self, at: float, oldest: float) -> None:
        """A request was sent; those before `oldest` no longer matter."""
        self._write("DELETE FROM spent WHERE at <= ? OR at > ?", (oldest, at))
        self._write("INSERT INTO spent VALUES (?)", (at,))

    def drop_spent(self, at: float) -> None:
        self._write("DELETE FROM spent WHERE at = ?", (at,))

    def put_fact(self, name: str, fact: Fact) -> None:
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (name, fact.number, fact.text))

    def commit(self) -> None:
        """Make what was written survive the process."""
        self._database.commit()

    def close(self) -> None:
        self._database.close()

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        self._database.write(statement, (values,))


class Memory(NamedTuple):
    """What is kept about one address."""

    known: Known | None
    asked_at: float | None


def look(path: Path, address: Network) -> Memory:
    """What the file says about an address, for people; the watcher may be at work. Nothing if it cannot be read.

    Raises UnsafeFile.
    """
    about = subject(address)
    first, last = to_key(about)[: about.prefix // 8], len(address.packed) + 1
    known: Known | None = None
    asked_at: float | None = None
    try:
        with private_copy(path) as database:
            key = (to_key(about),)
            for score, at in database.execute("SELECT score, at FROM results WHERE address = ? LIMIT 1", key):
                known = Known(score, at) if isinstance(score, int) and 0 <= score <= 100 and is_time(at) else None
            lookups = database.execute(
                "SELECT min(asked_at) FROM lookups WHERE substr(address, 1, ?) = ? AND length(address) = ? LIMIT 1",
                (len(first), first, last),
            )
            for (at,) in lookups:
                asked_at = at if is_time(at) else None
    except UnsafeFile:
        raise
    except (sqlite3.Error, OSError, MemoryError):
        return Memory(None, None)
    return Memory(known, asked_at)


def _read(database: sqlite3.Connection) -> Kept:
    kept = Kept()
    for address, score, at in database.execute("SELECT address, score, at FROM results ORDER BY at"):
        kept.results.append((_network(address), Known(int(score), float(at))))
    for number, address, asked_at, cases in database.execute(
        "SELECT id, address, asked_at, cases FROM lookups ORDER BY id"
    ):
        texts = {str(key): str(text) for key, text in json.loads(cases).items()}
        kept.lookups.append(Unfinished(int(number), _network(address), float(asked_at), texts))
    kept.spent = [float(at) for (at,) in database.execute("SELECT at FROM spent ORDER BY at")]
    for name, figure, text in database.execute("SELECT name, number, text FROM facts"):
        kept.facts[str(name)] = Fact(float(figure), str(text))
    return kept


def _network(key: Key) -> Network:
    network = from_key(key)
    if len(network.packed) not in (4, 16) or not (network.is_host or network == subject(network)):
        raise ValueError("an address of no known length")
    return network
