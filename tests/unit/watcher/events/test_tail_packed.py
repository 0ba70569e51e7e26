# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotated files that were packed, or moved to a directory below, while the watcher was down: each line once."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ngfw.events import packed

from .conftest import Opener, append, chunks, look_around, rest, shift, write

pytestmark = pytest.mark.feature("S9", "A3")


def zstd(data: bytes) -> bytes:
    packer: Any = pytest.importorskip("zstandard")
    return bytes(packer.ZstdCompressor().compress(data))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def pack(path: Path, ending: str = ".gz") -> Path:
    """As logrotate does it: another file with the time of the first, which goes away."""
    to = path.with_name(path.name + ending)
    status = path.stat()
    to.write_bytes(PACKERS[ending](path.read_bytes()))
    os.utime(to, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.unlink()
    return to


def rotate(log: Path) -> Path:
    shift(log)
    return log.rename(log.with_name("eve.json.1"))


@pytest.mark.parametrize("ending", PACKERS)
def test_what_was_packed_meanwhile_is_read_to_its_end(opened: Opener, log: Path, ending: str) -> None:
    tail = opened()
    read = write(log, 50)
    assert rest(tail) == read
    missed = write(log, 3)
    pack(rotate(log), ending)
    missed += write(log, 2)
    again = opened(positions=tail.positions())
    assert rest(again) == missed
    assert len(opened.said) == 1
    assert "the copy is read to its end first" in opened.said[0]
    assert rest(opened(positions=again.positions())) == b""
    assert rest(again) == b""


def test_several_packed_files_are_read_in_their_order(opened: Opener, log: Path) -> None:
    tail = opened()
    read = write(log, 5)
    assert rest(tail) == read
    missed = write(log, 3)
    for _ in range(3):
        rotate(log)
        missed += write(log, 3)
    for number in (3, 2):
        pack(log.with_name(f"eve.json.{number}"))
    again = opened(positions=tail.positions())
    assert rest(again) == missed
    assert rest(opened(positions=again.positions())) == b""


@pytest.mark.parametrize("limit", [1, 700, 1 << 20])
def test_a_stop_in_the_middle_of_a_packed_file(opened: Opener, log: Path, limit: int) -> None:
    tail = opened()
    found = write(log, 5)
    assert rest(tail) == found
    missed = write(log, 40)
    pack(rotate(log))
    missed += write(log, 2)
    positions, delivered = tail.positions(), b""
    for _ in range(8):
        again = opened(positions=positions)
        for _ in range(2):
            delivered += b"".join(chunk.data for chunk in again.read(limit if len(delivered) < 900 else 700))
        positions = again.positions()
    assert delivered + rest(opened(positions=positions)) == missed


def test_a_packed_file_that_is_packed_in_another_place_is_not_read_twice(opened: Opener, log: Path) -> None:
    tail = opened()
    read = write(log, 5)
    assert rest(tail) == read
    old = rotate(log)
    read = write(log)
    assert rest(tail) == read
    to = pack(old)
    os.utime(to)  # a packer that keeps no times
    look_around(tail)
    assert rest(tail) == b""
    assert rest(opened(positions=tail.positions())) == b""


def test_an_old_packed_file_that_is_brought_back_is_of_no_interest(opened: Opener, log: Path) -> None:
    write(log, 5)
    old = pack(rotate(log))
    os.utime(old, (0, 0))
    tail = opened(start_at="beginning")
    written = write(log)
    assert rest(tail) == written
    shutil.copy(old, log.with_name("eve.json.7.gz"))
    look_around(tail)
    assert rest(tail) == b""


def test_what_was_there_before_the_first_start_is_of_no_interest(opened: Opener, log: Path) -> None:
    write(log, 5)
    pack(rotate(log))
    tail = opened(start_at="beginning")
    written = write(log)
    assert rest(tail) == written


@pytest.mark.parametrize("ending", [".gz", ".xz", ".bz2"])
def test_a_damaged_file_is_read_as_far_as_it_goes(opened: Opener, log: Path, ending: str) -> None:
    tail = opened()
    read = write(log, 5)
    assert rest(tail) == read
    write(log, 30_000)
    to = pack(rotate(log), ending)
    to.write_bytes(to.read_bytes()[:-50])
    last = write(log)
    found = rest(opened(positions=tail.positions()))
    assert found.endswith(last)
    assert any("is damaged" in text and "the rest is left out" in text for text in opened.said)


def test_a_bomb_is_left(opened: Opener, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MOST_RATIO", 20)
    tail = opened()
    read = write(log, 5)
    assert rest(tail) == read
    append(log, b"\n" * 30_000_000)
    to = pack(rotate(log), ".bz2")
    last = write(log)
    tracemalloc.start()
    try:
        assert rest(opened(positions=tail.positions())).endswith(last)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
    assert f"{to}: unpacks to more than 20 times its size; the rest is left out" in opened.said


def test_memory_that_a_packed_file_asks_for_is_bounded(opened: Opener, log: Path) -> None:
    tail = opened()
    read = write(log, 5)
    assert rest(tail) == read
    data = log.read_bytes() + write(log, 5)
    rotate(log).unlink()
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    log.with_name("eve.json.1.xz").write_bytes(lzma.compress(data, filters=filters))
    last = write(log)
    assert rest(opened(positions=tail.positions())) == last
    assert any("lines may be missing" in text for text in opened.said)


def test_skipping_what_was_read_gives_the_caller_his_turn(opened: Opener, log: Path) -> None:
    tail = opened()
    write(log, 100_000)
    rest(tail)
    missed = write(log, 2)
    pack(rotate(log))
    again = opened(positions=tail.positions())
    assert len(chunks(again, 1 << 20)) > 5
    assert rest(opened(positions=tail.positions())) == missed


@pytest.mark.parametrize("name", ["eve.json-20261130.gz", "eve-20261130.json.gz", "eve.json.1.gz", "eve.json.gz"])
def test_any_usual_name_of_a_packed_file_is_found(opened: Opener, log: Path, name: str) -> None:
    tail = opened()
    read = write(log, 2)
    assert rest(tail) == read
    missed = write(log, 2)
    log.with_name(name).write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    assert rest(opened(positions=tail.positions())) == missed


@pytest.mark.parametrize("way", ["rename", "copy", "packed"])
def test_a_directory_of_old_files(opened: Opener, log: Path, way: str) -> None:
    """logrotate's `olddir`; on another file system it copies."""
    (log.parent / "old").mkdir()
    tail = opened()
    read = write(log, 2)
    assert rest(tail) == read
    missed = write(log, 2)
    old = log.parent / "old" / "eve.json.1"
    if way == "rename":
        log.rename(old)
    else:
        shutil.copy(log, old)
        log.unlink()
    if way == "packed":
        pack(old)
    missed += write(log, 2)
    again = opened(positions=tail.positions())
    assert rest(again) == missed
    assert rest(opened(positions=again.positions())) == b""
    assert rest(tail) != b""


def test_files_that_came_and_went_to_a_directory_of_old_files(opened: Opener, log: Path) -> None:
    (log.parent / "old").mkdir()
    tail = opened()
    read = write(log, 2)
    assert rest(tail) == read
    missed = b""
    for number in (20261128, 20261129, 20261130):
        missed += write(log, 2)
        log.rename(log.parent / "old" / f"eve.json-{number}")
    missed += write(log, 2)
    again = opened(positions=tail.positions())
    assert rest(again) == missed
    assert rest(opened(positions=again.positions())) == b""


def test_another_logs_directory_is_none_of_old_files(opened: Opener, log: Path) -> None:
    """A second sensor, whose log has the same name, in a directory below."""
    other = log.parent / "dmz" / "eve.json"
    other.parent.mkdir()
    tail = opened()
    read = write(log, 2)
    assert rest(tail) == read
    write(other)
    other.rename(other.with_name("eve.json.1"))
    write(other)
    missed = write(log)
    look_around(tail)
    assert rest(tail) == missed


def test_days_of_a_glob_that_came_and_were_packed_meanwhile(opened: Opener, tmp_path: Path) -> None:
    """Suricata's own rotation by date, and a job that packs yesterday's file."""
    days = [tmp_path / f"eve-2026-11-{day}.json" for day in (27, 28, 29, 30)]
    write(days[0], 2)
    pack(days[0])
    days[0].touch()  # not ours to judge: its packed copy is of before the first start
    os.utime(tmp_path / "eve-2026-11-27.json.gz", (0, 0))
    tail = opened("eve-*.json")
    read = write(days[0], 2)
    assert rest(tail) == read
    missed = write(days[0], 2)
    for day in days[1:]:
        missed += write(day, 2)
    for day in days[:3]:
        if day != days[0]:
            pack(day)
    again = opened("eve-*.json", positions=tail.positions())
    assert sorted(rest(again).splitlines()) == sorted(missed.splitlines())
    assert rest(opened("eve-*.json", positions=again.positions())) == b""
    look_around(again)
    assert rest(again) == b""


def test_what_cannot_be_unpacked_here_is_said(opened: Opener, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = opened()
    write(log, 5)
    rest(tail)
    rotate(log).rename(log.with_name("eve.json.1.zst"))
    written = write(log)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert rest(opened(positions=tail.positions())) == written
    assert f"{log}: it is packed with zstd, which needs the package python3-zstandard" in opened.said
