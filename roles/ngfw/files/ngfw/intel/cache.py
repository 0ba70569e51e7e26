# SPDX-License-Identifier: GPL-3.0-or-later
"""What reputation keeps between two runs, in SQLite: answers, lookups that are open, and how much budget is used.

The running watcher works from memory and writes behind; a file that cannot be written, or is damaged, costs no more
than what a restart would have known. One thread at a time may use a Store.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..firewall.address import Key, Network, from_key, to_key

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

    def __init__(self, path: Path, *, report: Callable[[str, bool], None]) -> None:
        """`report` is told what people should know: a text, and whether it is a problem."""
        self.path = path
        self._report = report
        self._database: sqlite3.Connection | None = None
        self._failing = False
        self._skip = False

    def load(self) -> Kept:
        """Open the file and read it all; one that is damaged is put aside."""
        for _attempt in range(2):
            try:
                self._database = _opened(self.path)
                return _read(self._database)
            except sqlite3.Error as error:
                self._close_quietly()
                if not _is_damage(error):
                    self._failed(error)
                    return Kept()
                self._put_aside(error)
        return Kept()

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
        self._skip = False
        if self._database is not None and self._database.in_transaction:
            self._execute("COMMIT")
        if self._database is not None and self._database.in_transaction:
            with suppress(sqlite3.Error):
                self._database.rollback()

    def close(self) -> None:
        self.commit()
        self._close_quietly()

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        if self._database is not None and not self._database.in_transaction:
            self._execute("BEGIN IMMEDIATE")
        self._execute(statement, values)

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        if self._database is None or self._skip:
            return
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            self._skip = True  # the rest of this transaction would only wait and fail too
            if not _is_damage(error):
                self._failed(error)
                return
            self._close_quietly()
            self._put_aside(error)
            with suppress(sqlite3.Error):
                self._database = _opened(self.path)
            return
        if statement == "COMMIT" and self._failing:
            self._failing = False
            self._report(f"{self.path} can be written again", False)

    def _failed(self, error: sqlite3.Error) -> None:
        if not self._failing:
            self._failing = True
            self._report(
                f"cannot keep reputation in {self.path} ({error}); lookups go on, but a restart will not know them: "
                "make room there, and let the watcher's user write",
                True,
            )

    def _put_aside(self, error: sqlite3.Error) -> None:
        aside = self.path.with_name(f"{self.path.name}.corrupt")
        try:
            os.replace(self.path, aside)
        except OSError as problem:
            self._report(f"{self.path} is damaged ({error}) and cannot be put aside ({problem.strerror})", True)
            return
        for ending in ("-wal", "-shm"):
            with suppress(OSError):
                os.unlink(f"{self.path}{ending}")
        self._report(f"{self.path} is damaged ({error}) and was put aside as {aside}; lookups begin anew", True)

    def _close_quietly(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()


class Memory(NamedTuple):
    """What is kept about one address."""

    known: Known | None
    asked_at: float | None


def look(path: Path, address: Network) -> Memory:
    """What the file says about an address, for people; the watcher may be at work. Nothing if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as database:
            key = (to_key(address),)
            result = database.execute("SELECT score, at FROM results WHERE address = ?", key).fetchone()
            lookup = database.execute("SELECT min(asked_at) FROM lookups WHERE address = ?", key).fetchone()
    except sqlite3.Error:
        return Memory(None, None)
    return Memory(None if result is None else Known(*result), lookup[0])


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(str(path), timeout=0.5, isolation_level=None, check_same_thread=False)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"version {version}, this program writes {VERSION}: file is not a database")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        if version == 0:
            database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            os.chmod(path, 0o640)
        verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"malformed: {verdict}")
    except BaseException:
        database.close()
        raise
    return database


def _read(database: sqlite3.Connection) -> Kept:
    kept = Kept()
    with _damage_if_wrong():
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


@contextmanager
def _damage_if_wrong() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise sqlite3.DatabaseError(f"malformed: {error}") from None


def _network(key: Key) -> Network:
    network = from_key(key)
    if len(network.packed) not in (4, 16) or not network.is_host:
        raise ValueError("an address of no known length")
    return network


def _is_damage(error: sqlite3.Error) -> bool:
    text = str(error)
    return any(words in text for words in ("malformed", "not a database", "no such table", "no such column"))
