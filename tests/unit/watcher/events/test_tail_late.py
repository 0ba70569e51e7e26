# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that reach a rotated file after its successor has some: each once, over restarts too."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
from pathlib import Path

import pytest
from ngfw.events import late as late_files
from ngfw.events.late import LateFiles
from ngfw.events.logfile import Lines, LogFile, Mark
from ngfw.events.packed import open_log
from ngfw.events.rotation import Ledger

from .conftest import Opener, append, chunks, lines, look_around, readable, rest, shift, write

pytestmark = pytest.mark.feature("S9", "A3")


def rotate(log: Path) -> tuple[Path, bytes]:
    """Rename with `create`, and a first line in the new file."""
    old = log.with_name("eve.json.1")
    log.rename(old)
    log.touch()
    return old, write(log)


def test_a_late_line_is_read(opened: Opener, log: Path, way: str) -> None:
    tail = opened()
    first = write(log)
    old, second = rotate(log)
    assert rest(tail) == first + second
    late = write(old)
    assert way == "polling" or readable(tail, 5)
    assert rest(tail) == late
    both = write(old) + write(log)
    assert rest(tail) == both
    assert rest(tail) == b""
    assert way == "polling" or not readable(tail)


def test_a_late_line_is_read_once_over_restarts(opened: Opener, log: Path) -> None:
    tail = opened()
    first = write(log)
    old, second = rotate(log)
    assert rest(tail) == first + second
    late = write(old)
    again = opened(positions=tail.positions())
    assert rest(again) == late
    third = opened(positions=again.positions())
    assert rest(third) == b""
    later = write(old)
    assert rest(third) == later
    old.rename(log.with_name("eve.json.2"))
    latest = write(log.with_name("eve.json.2"))
    assert rest(opened(positions=third.positions())) == latest


def test_half_a_line_is_completed_late(opened: Opener, log: Path) -> None:
    tail = opened()
    whole = lines(1)
    append(log, whole[:20])
    old, second = rotate(log)
    assert rest(tail) == second
    append(old, whole[20:])
    assert rest(opened(positions=tail.positions())) == whole
    assert rest(tail) == whole
    assert opened.said == []


def test_what_was_rotated_twice_is_followed(opened: Opener, log: Path) -> None:
    tail = opened()
    written = write(log)
    old, more = rotate(log)
    assert rest(tail) == written + more
    oldest = old.with_name("eve.json.2")
    old.rename(oldest)
    old, more = rotate(log)
    assert rest(tail) == more
    late = write(oldest) + write(old)
    assert rest(tail) == late


def test_a_quiet_file_is_let_go(opened: Opener, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = opened()
    write(log)
    append(log, b"torn")
    old, _ = rotate(log)
    rest(tail)
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(late_files, "LATE_SECONDS", 0.0)
    look_around(tail)
    found = chunks(tail)
    assert [(chunk.data, chunk.discarded) for chunk in found] == [(b"", 1)]
    assert opened.said == [f"{old}: ends in the middle of a line, which is left out"]
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert old.exists()
    assert rest(opened(positions=tail.positions())) == b""


def test_late_files_are_few(opened: Opener, log: Path) -> None:
    tail = opened()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        write(log)
        log.rename(log.with_name(f"eve.json.{99 - number}"))
        write(log)
        rest(tail)
    assert len(os.listdir("/proc/self/fd")) <= before + late_files.LATE_FILES + 2


def test_a_late_file_that_is_cut_is_let_go(opened: Opener, log: Path) -> None:
    tail = opened()
    write(log, 3)
    old, _ = rotate(log)
    rest(tail)
    os.truncate(old, 0)
    written = write(log)
    assert rest(tail) == written


def test_each_thread_of_suricata_may_be_late(opened: Opener, tmp_path: Path) -> None:
    logs = [tmp_path / f"eve.{number}.json" for number in (1, 2)]
    for log in logs:
        log.touch()
    tail = opened("eve.*.json")
    for log in logs:
        write(log)
        log.rename(log.with_name(log.name + ".1"))
        write(log)
    rest(tail)
    late = b"".join(write(log.with_name(log.name + ".1")) for log in logs)
    assert sorted(rest(tail).splitlines()) == sorted(late.splitlines())


@pytest.mark.parametrize("value", [None, [], {"x": 1}, {"PATH": "late"}, {"PATH": [{"inode": -1}, 7]}])
def test_late_positions_that_cannot_be_understood_are_passed_over(opened: Opener, log: Path, value: object) -> None:
    write(log)
    tail = opened()
    if isinstance(value, dict):
        value = {str(log) if key == "PATH" else key: each for key, each in value.items()}
    again = opened(positions={**tail.positions(), "late": value})
    written = write(log)
    assert rest(again) == written


def test_positions_hold_both_places(opened: Opener, log: Path) -> None:
    tail = opened()
    first = write(log)
    _, second = rotate(log)
    rest(tail)
    positions = tail.positions()
    (late,) = [Mark.from_json(each) for each in positions["late"][str(log)]]
    assert late is not None
    assert (late.offset, positions["files"][str(log)]["offset"]) == (len(first), len(second))


def test_any_number_of_unread_copies_is_read_at_once(opened: Opener, log: Path) -> None:
    log.touch()
    tail = opened()
    written = b""
    for _ in range(late_files.LATE_FILES + 3):
        written += write(log, 2)
        shift(log)
        shutil.copy(log, log.with_name("eve.json.1"))
        os.truncate(log, 0)
    assert rest(tail) == written
    written = write(log)
    assert rest(tail) == written


def test_a_late_line_hides_no_file_that_came_before_it(opened: Opener, log: Path) -> None:
    """A file's time is that of its last line, and a late one makes it newer than its successors."""
    tail = opened()
    first = write(log)
    assert rest(tail) == first
    positions, missed = tail.positions(), b""
    for _ in range(3):
        missed += write(log, 3)
        shift(log)
        log.rename(log.with_name("eve.json.1"))
    missed += write(log)
    again = opened(positions=positions)
    found = again.read(150)[0].data
    missed += (late := write(log.with_name("eve.json.2")))
    while late not in found:
        found += b"".join(chunk.data for chunk in again.read(150))
    found += rest(opened(positions=again.positions()))
    assert sorted(found.splitlines()) == sorted(missed.splitlines())


def test_a_file_that_came_at_the_moment_of_a_look_is_found(opened: Opener, log: Path) -> None:
    write(log)
    tail = opened()
    log.with_name("other").touch()
    look_around(tail)
    rest(tail)
    before = log.parent.stat()
    written = write(log.with_name("eve.json.1"))
    os.utime(log.parent, ns=(before.st_atime_ns, before.st_mtime_ns))
    look_around(tail)
    assert rest(tail) == written


class Gone(LogFile):
    """An open file of a network file system that went away."""

    def read(self, limit: int) -> Lines:
        raise OSError(errno.ESTALE, "Stale file handle")

    def size(self) -> int:
        raise OSError(errno.ESTALE, "Stale file handle")


def test_a_late_file_that_went_away_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "eve.json.1"
    append(path, lines(1))
    late = LateFiles(Ledger().finish, lambda text: None)
    late.add(Gone(str(path)))
    assert late.read(1000) is None
    assert late.marks() == []


def test_a_damaged_file_among_late_ones_is_said(tmp_path: Path) -> None:
    path = tmp_path / "eve.json.1.gz"
    path.write_bytes(gzip.compress(lines(1000))[:-20])
    said: list[str] = []
    late = LateFiles(lambda file: None, said.append)
    late.add(open_log(str(path)))
    while late.read(1 << 16) is not None:
        pass
    assert [text.startswith(f"{path}: is damaged") for text in said] == [True]
