# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of SQLite's that the watcher can do without: what cannot be kept is reported once, and work goes on."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from .firewall.errors import UnsafeFile
from .firewall.files import open_descriptor, read_bytes

Content = TypeVar("Content")

_BESIDE = ("-wal", "-shm", "-journal")
_MAX_BYTES = 128 << 20
_LOOK_SECONDS = 2.0
_LOOK_MEMORY = 64 << 20
_LOOK_STEPS = 10_000

Report = Callable[[str, bool], None]
"""Is told what people should know: a text, and whether it is a problem."""


class Database:
    """One file, or one in memory where `path` is None. Changes are kept by commit(); one thread at a time."""

    def __init__(self, path: Path | None, schema: str, version: int, *, holds: str, loss: str, report: Report) -> None:
        """`holds` and `loss` are for messages: what the file keeps, and what goes on without it, and how."""
        self.path = path
        self._schema, self._version = schema, version
        self._holds, self._loss = holds, loss
        self._report = report
        self.connection: sqlite3.Connection | None = None
        self._failing = False
        self._skip = False

    def load(self, read: Callable[[sqlite3.Connection], Content], empty: Content) -> Content:
        """Open the file and `read` it; one that is damaged is put aside. `empty` where there is nothing."""
        for _attempt in range(2):
            try:
                self.connection = self._opened()
                with _damage_if_wrong():
                    return read(self.connection)
            except sqlite3.Error as error:
                self._close_quietly()
                if not _is_damage(error):
                    self._failed(error)
                    return empty
                self._put_aside(error)
        return empty

    def write(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Carry out a statement for each row; it takes effect for others with commit()."""
        if self.connection is not None and not self.connection.in_transaction:
            self._follow_path(self.connection)
            self._execute("BEGIN IMMEDIATE")
        self._execute(statement, rows)

    def commit(self) -> None:
        """Make what was written survive the process."""
        self._skip = False
        if self.connection is not None and self.connection.in_transaction:
            self._execute("COMMIT")
        if self.connection is not None and self.connection.in_transaction:
            with suppress(sqlite3.Error):
                self.connection.rollback()

    def close(self) -> None:
        self.commit()
        self._close_quietly()

    def _execute(self, statement: str, rows: Iterable[tuple[Any, ...]] | None = None) -> None:
        if self.connection is None or self._skip:
            return
        try:
            if rows is None:
                self.connection.execute(statement)
            else:
                self.connection.executemany(statement, rows)
        except sqlite3.Error as error:
            self._skip = True  # the rest of this transaction would only wait and fail too
            if not _is_damage(error):
                self._failed(error)
                return
            self._close_quietly()
            self._put_aside(error)
            with suppress(sqlite3.Error):
                self.connection = self._opened()
            return
        if statement == "COMMIT" and self._failing:
            self._failing = False
            self._report(f"{self.path} can be written again", False)

    def _follow_path(self, connection: sqlite3.Connection) -> None:
        """Go on in a new file with all that is in the old one, if somebody removed that."""
        if self.path is None or os.path.lexists(self.path):
            return
        try:
            fresh = self._opened()
        except sqlite3.Error as error:
            self._failed(error)
            return
        with suppress(sqlite3.Error):
            connection.backup(fresh)
        self._close_quietly()
        self.connection = fresh
        self._report(f"{self.path} was removed by somebody, and made again", True)

    def _opened(self) -> sqlite3.Connection:
        path = ":memory:" if self.path is None else str(self.path)
        if self.path is not None:
            _refuse_unsafe(self.path)
        database = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, self._version):
                text = f"version {version}, this program writes {self._version}: file is not a database"
                raise sqlite3.DatabaseError(text)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            if version == 0:
                script = f"BEGIN IMMEDIATE; {self._schema} PRAGMA user_version = {self._version}; COMMIT;"
                database.executescript(script)
                if self.path is not None:
                    os.chmod(self.path, 0o640)
            verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"malformed: {verdict}")
        except BaseException:
            database.close()
            raise
        return database

    def _failed(self, error: sqlite3.Error) -> None:
        if not self._failing:
            self._failing = True
            self._report(
                f"cannot keep {self._holds} in {self.path} ({error}); {self._loss}: "
                "make room there, and let the watcher's user write",
                True,
            )

    def _put_aside(self, error: sqlite3.Error) -> None:
        if self.path is None:
            return
        aside = self.path.with_name(f"{self.path.name}.corrupt")
        try:
            os.replace(self.path, aside)
        except OSError as problem:
            self._report(f"{self.path} is damaged ({error}) and cannot be put aside ({problem.strerror})", True)
            return
        for ending in _BESIDE:
            with suppress(OSError):
                os.unlink(f"{self.path}{ending}")
        self._report(f"{self.path} is damaged ({error}) and was put aside as {aside}; {self._holds} begin anew", True)

    def _close_quietly(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


@contextmanager
def private_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of the file for a look by somebody else, whose owner may be at work, or up to no good.

    SQLite itself follows links and makes files beside the one it opens, and what is in a file (a view without end) can
    keep it busy: a question ends after some seconds, and with some memory. Raises UnsafeFile, OSError, sqlite3.Error.
    """
    with tempfile.TemporaryDirectory(prefix="ngfw-") as directory:
        copy = Path(directory) / path.name
        for ending in ("-wal", ""):  # in this order: what is moved between them meanwhile is then there twice
            try:
                Path(f"{copy}{ending}").write_bytes(read_bytes(Path(f"{path}{ending}"), _MAX_BYTES))
            except FileNotFoundError:
                if not ending:
                    raise
        with closing(sqlite3.connect(copy)) as database:
            until = time.monotonic() + _LOOK_SECONDS
            database.set_progress_handler(lambda: time.monotonic() > until, _LOOK_STEPS)
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute(f"PRAGMA hard_heap_limit = {_LOOK_MEMORY}")
            yield database


def is_time(value: object) -> bool:
    """Whether what a file holds can be a moment in epoch seconds."""
    return isinstance(value, (int, float)) and 0 <= value < 1 << 33


def _refuse_unsafe(path: Path) -> None:
    """Raises sqlite3.DatabaseError where the file, or one beside it, is no regular file: SQLite would open it."""
    for ending in ("", *_BESIDE):
        with suppress(OSError):
            try:
                os.close(open_descriptor(Path(f"{path}{ending}")))
            except UnsafeFile as error:
                raise sqlite3.DatabaseError(f"{error.strerror}: file is not a database") from None


@contextmanager
def _damage_if_wrong() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise sqlite3.DatabaseError(f"malformed: {error}") from None


def _is_damage(error: sqlite3.Error) -> bool:
    text = str(error)
    return any(words in text for words in ("malformed", "not a database", "no such table", "no such column"))
