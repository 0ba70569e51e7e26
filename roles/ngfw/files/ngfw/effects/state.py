# SPDX-License-Identifier: GPL-3.0-or-later
"""What the watcher keeps between two runs: how far it has read, and the batch it is working on.

A batch is announced in `pending` before it has any effect; when all effects are there, `pending` becomes `cursor`.
Both are one JSON object and replaced by rename, so a reader finds the old or the new one, never a part.
Format of both: {version, written_at, settled, positions, alerts, items, marks, lookups}; of a cursor only `positions`
and `lookups` matter.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..firewall.address import parse_network
from ..firewall.entry import Action, Block, Direction
from .journal import Mark
from .wording import Lines

VERSION = 1

Content = TypeVar("Content")

LOCK, CURSOR, PENDING, IN_FORCE, SETS = "lock", "cursor", "pending", "in_force", "sets"

_WITHOUT = {
    CURSOR: "reading begins where start_at says; 'ngfw replay' tells what lines written since the last run would do",
    PENDING: "the batch that it announced is read again",
}


class StateError(Exception):
    """The state directory cannot be used; the text says what to do."""


class StateForbidden(StateError):
    """This user may not use it."""


class Item(NamedTuple):
    """One decision of a batch: the block it wants (None for a skip) and its lines if the kernel takes it.

    `offence`: the next block of that network is longer because of this one.
    """

    block: Block | None
    lines: Lines
    offence: bool = False


@dataclass(frozen=True)
class Intent:
    """A batch that is decided: where reading goes on after it, and all its effects.

    `alerts` is the text for alert.log, which does not depend on the kernel. `marks` says where each journal ended
    before; None: it could not be written. `written_at` is in epoch seconds. `settled`: the kernel has answered, and
    the lines say what it did. `lookups` are the answers that decisions hang on: address, key and text of each.
    """

    positions: dict[str, Any]
    alerts: str
    items: list[Item]
    marks: dict[str, Mark | None]
    written_at: float
    settled: bool = False
    lookups: tuple[tuple[str, str, str], ...] = ()

    def encode(self) -> bytes:
        """JSON, ASCII only."""
        return json.dumps(
            {
                "version": VERSION,
                "written_at": self.written_at,
                "settled": self.settled,
                "positions": self.positions,
                "alerts": self.alerts,
                "items": [[_block_fields(item.block), *item.lines, item.offence] for item in self.items],
                "marks": self.marks,
                "lookups": self.lookups,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Intent:
        """Raises ValueError, KeyError or TypeError for anything that encode() did not write."""
        fields = _object(data)
        marks = {name: None if mark is None else Mark(*map(int, mark)) for name, mark in fields["marks"].items()}
        items = [
            Item(None if block is None else block_of(block), Lines(str(text), str(record)), bool(offence))
            for block, text, record, offence in fields["items"]
        ]
        moment, settled = float(fields["written_at"]), bool(fields["settled"])
        return cls(_positions(fields), str(fields["alerts"]), items, marks, moment, settled, _lookups(fields))


class State:
    """The state directory of one watcher."""

    def __init__(self, directory: Path, *, report: Callable[[str], None]) -> None:
        """`report` is told about files that were put aside."""
        self.directory = directory
        self._report = report
        self._lock = -1
        self._spare = -1

    def lock(self) -> None:
        """Make this the only watcher on the directory until the process ends. Raises StateError."""
        path = self.directory / LOCK
        try:
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        except OSError as error:
            kind = StateForbidden if isinstance(error, PermissionError) else StateError
            raise kind(
                f"cannot use the state directory {self.directory} ({error.strerror}); "
                "run as root, or set state_directory in ngfw.yml to a directory that can be written"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StateError(
                f"another watcher (process {holder}) already works on {self.directory}; "
                "stop it first (systemctl stop ngfw-watcher), or set another state_directory"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def unlock(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def positions(self) -> dict[str, Any] | None:
        """Where reading goes on, None at the first start. A file that is not readable as such is put aside."""
        return self.load(CURSOR, _decode_positions)

    def lookups(self) -> tuple[tuple[str, str, str], ...]:
        """What the last batch left to answers, as Intent.lookups has it: the only place where a kill may leave them."""
        return self.load(CURSOR, _decode_lookups) or ()

    def pending(self) -> Intent | None:
        """The batch that an earlier run announced and did not finish, if there is one."""
        return self.load(PENDING, Intent.decode)

    def announce(self, intent: Intent) -> None:
        """Write `pending`. Raises OSError."""
        spare, self._spare = self._spare, -1
        self._replace(PENDING, intent.encode(), spare)

    def commit(self) -> None:
        """All effects of the announced batch are there: reading goes on after it. Raises OSError."""
        os.replace(self.directory / PENDING, self.directory / CURSOR)
        with suppress(OSError):  # made now, where nobody waits for it, the next announcement is quicker
            self._spare = self._spare if self._spare >= 0 else _create(self.directory / f"{PENDING}.new")

    def move(self, positions: dict[str, Any]) -> None:
        """Move the cursor over lines that had no effect. Raises OSError."""
        self._replace(CURSOR, json.dumps({"version": VERSION, "positions": positions}).encode())

    def keep(self, name: str, data: bytes) -> None:
        """Write another file of this directory. Raises OSError."""
        self._replace(name, data)

    def load(self, name: str, decode: Callable[[bytes], Content]) -> Content | None:
        """What `decode` makes of a file, None without one; a file that it refuses is put aside. Raises StateError."""
        path = self.directory / name
        try:
            return decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"cannot read {path} ({error.strerror}); let the watcher's user read it") from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            aside = path.with_name(f"{name}.corrupt")
            os.replace(path, aside)
            self._report(
                f"{path} is damaged ({type(error).__name__}: {error}) and was put aside as {aside}; "
                f"blocks in the kernel stay, {_WITHOUT.get(name, 'work goes on without it')}"
            )
            return None

    def _replace(self, name: str, data: bytes, spare: int = -1) -> None:
        path = self.directory / name
        fresh = self.directory / f"{name}.new"
        descriptor = spare if spare >= 0 else _create(fresh)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        os.replace(fresh, path)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)


def holder(directory: Path) -> int | None:
    """The process id of the watcher that works on a state directory, None if none does. Raises PermissionError."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def _object(data: bytes) -> dict[str, Any]:
    fields = json.loads(data.decode())
    if not isinstance(fields, dict):
        raise TypeError("not an object")
    if fields["version"] != VERSION:
        raise ValueError(f"version {fields['version']!r}, this program writes {VERSION}")
    return fields


def _decode_positions(data: bytes) -> dict[str, Any]:
    return _positions(_object(data))


def _decode_lookups(data: bytes) -> tuple[tuple[str, str, str], ...]:
    return _lookups(_object(data))


def _lookups(fields: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    return tuple((str(address), str(key), str(text)) for address, key, text in fields.get("lookups", ()))


def _positions(fields: dict[str, Any]) -> dict[str, Any]:
    positions = fields["positions"]
    if not isinstance(positions, dict):
        raise TypeError("positions: not an object")
    return positions


def _block_fields(block: Block | None) -> list[Any] | None:
    return None if block is None else block_fields(block)


def block_fields(block: Block) -> list[Any]:
    """A block as JSON keeps it."""
    return [str(block.network), *block[1:]]


def block_of(fields: list[Any]) -> Block:
    """The block that block_fields() turned into this. Raises ValueError or TypeError."""
    network, action, direction, duration, rule_name, reason, rate, burst, log_prefix = fields
    return Block(
        parse_network(network),
        Action(action),
        Direction(direction),
        int(duration),
        str(rule_name),
        str(reason),
        str(rate),
        int(burst),
        str(log_prefix),
    )
