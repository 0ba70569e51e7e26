# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ngfw.events import late, logfile, rotation, watches
from ngfw.events.logfile import MAX_LINE, Mark
from ngfw.events.tail import Chunk, Source, Tail

from .conftest import Opener, append, chunks, lines, look_around, readable, rest, shift, write

# Where reading begins.


@pytest.mark.feature("A5")
def test_the_first_start_is_at_the_end(opened: Opener, log: Path) -> None:
    write(log, 3)
    tail = opened()
    assert rest(tail) == b""
    assert rest(tail) + write(log)[:0] == b""
    assert len(rest(tail).splitlines()) == 1


@pytest.mark.feature("A5")
def test_the_first_start_at_the_end_keeps_a_torn_line_whole(opened: Opener, log: Path) -> None:
    write(log, 3)
    whole = lines(1)
    append(log, whole[:20])
    tail = opened()
    assert rest(tail) == b""
    append(log, whole[20:])
    assert rest(tail) == whole


@pytest.mark.feature("A5")
def test_the_first_start_can_be_at_the_beginning(opened: Opener, log: Path) -> None:
    assert rest(opened(start_at="beginning")) == b""
    written = write(log, 3)
    assert rest(opened(start_at="beginning")) == written


def test_another_start_is_refused(opened: Opener) -> None:
    with pytest.raises(ValueError, match="start_at is 'middle'; it must be 'end' or 'beginning'"):
        opened(start_at="middle")


@pytest.mark.feature("A3")
def test_a_file_that_appears_later_is_read_from_its_beginning(opened: Opener, log: Path, way: str) -> None:
    tail = opened()
    assert rest(tail) == b""
    assert rest(opened(positions=tail.positions())) == b""
    written = write(log, 2)
    assert rest(tail) == written
    assert rest(opened(positions=opened.tails[1].positions())) == written


@pytest.mark.feature("A2")
def test_the_first_start_at_the_end_is_remembered_before_anything_is_read(opened: Opener, log: Path) -> None:
    write(log, 3)
    positions = opened().positions()
    written = write(log, 2)
    assert rest(opened(positions=positions)) == written


@pytest.mark.feature("A5")
def test_a_source_added_later_begins_like_a_first_start(opened: Opener, log: Path, tmp_path: Path) -> None:
    write(log, 2)
    positions = opened().positions()
    write(tmp_path / "fast.log", 2)
    read = write(log, 1)
    assert rest(opened("eve.json", "fast.log", positions=positions)) == read


@pytest.mark.parametrize("positions", [{}, {"version": 2}, {"version": 1, "files": [], "sources": []}, {"version": 1}])
@pytest.mark.feature("D6")
def test_positions_that_cannot_be_understood_are_reported(opened: Opener, log: Path, positions: object) -> None:
    write(log, 2)
    assert rest(opened(positions=positions)) == b""
    assert opened.said == ["the stored positions cannot be understood; all sources begin anew"]


@pytest.mark.parametrize(
    "value", [None, 5, {}, {"inode": "1"}, {"offset": -1}, {"head": 7}, {"length": 99999}, {"inode": True}]
)
def test_a_position_that_is_none_is_as_if_absent(opened: Opener, log: Path, value: object) -> None:
    written = write(log, 2)
    positions = opened().positions()
    stored = positions["files"][str(log)]
    positions["files"][str(log)] = {**stored, **value} if isinstance(value, dict) and value else value
    positions["finished"] = {"x": [value], "y": 5}
    assert rest(opened(positions=positions)) == written


# Lines.


@pytest.mark.feature("A1")
def test_each_line_as_it_is_written(opened: Opener, log: Path, way: str) -> None:
    tail = opened()
    for _ in range(20):
        written = write(log)
        assert tail.read() == [Chunk("eve", str(log), written, 0)]
        assert tail.read() == []


@pytest.mark.feature("A1")
def test_several_files_at_once(opened: Opener, tmp_path: Path) -> None:
    tail = Tail(
        [Source(str(tmp_path / "eve.json"), "eve"), Source(str(tmp_path / "fast.log"), "fast")],
        None,
        "end",
        report=print,
    )
    eve, fast = write(tmp_path / "eve.json", 2), write(tmp_path / "fast.log", 2)
    found = {chunk.format: chunk for chunk in chunks(tail)}
    assert found["eve"] == Chunk("eve", str(tmp_path / "eve.json"), eve, 0)
    assert found["fast"] == Chunk("fast", str(tmp_path / "fast.log"), fast, 0)
    tail.close()


@pytest.mark.feature("A4")
def test_half_a_line_waits_for_its_end(opened: Opener, log: Path) -> None:
    tail = opened()
    whole = lines(1)
    for at in range(len(whole) - 1):
        append(log, whole[at : at + 1])
        assert tail.read() == []
    assert list(tail.lag().values()) == [len(whole) - 1]
    append(log, b"\n")
    assert rest(tail) == whole
    assert list(tail.lag().values()) == [0]


@pytest.mark.feature("A4")
def test_half_a_line_survives_a_restart(opened: Opener, log: Path) -> None:
    tail = opened()
    first, second = lines(1), lines(1)
    append(log, first + second[:30])
    assert rest(tail) == first
    positions = tail.positions()
    append(log, second[30:])
    assert rest(opened(positions=positions)) == second


@pytest.mark.parametrize("limit", [1, 7, 100, 4096, MAX_LINE, 10 * MAX_LINE])
def test_any_limit_delivers_everything(opened: Opener, log: Path, limit: int) -> None:
    tail = opened()
    written = write(log, 50)
    assert rest(tail, limit) == written


def test_a_read_returns_about_what_it_may(opened: Opener, log: Path, tmp_path: Path) -> None:
    tail = opened("eve.json", "fast.log")
    write(log, 3000)
    write(tmp_path / "fast.log", 3000)
    while True:
        step = tail.read(10_000)
        if not step:
            break
        assert sum(len(chunk.data) for chunk in step) <= 10_000 + 100


def test_a_flood_in_one_file_does_not_starve_another(opened: Opener, log: Path, tmp_path: Path) -> None:
    tail = opened("eve.json", "fast.log")
    write(log, 5000)
    write(tmp_path / "fast.log", 1)
    paths = [chunk.path for _ in range(3) for chunk in tail.read(10_000)]
    assert str(tmp_path / "fast.log") in paths


@pytest.mark.parametrize("limit", [50_000, MAX_LINE])
@pytest.mark.feature("A4")
def test_a_line_over_the_limit_is_skipped_and_counted(opened: Opener, log: Path, limit: int) -> None:
    tail = opened()
    before = write(log)
    longest = append(log, b"a" * (MAX_LINE - 1) + b"\n")
    append(log, b"b" * MAX_LINE + b"\n")
    append(log, b"c" * (3 * MAX_LINE) + b"\n")
    after = write(log)
    found = chunks(tail, limit)
    assert b"".join(chunk.data for chunk in found) == before + longest + after
    assert sum(chunk.discarded for chunk in found) == 2
    assert rest(opened(positions=tail.positions())) == b""


@pytest.mark.feature("A4")
def test_a_line_over_the_limit_is_counted_once_over_a_restart(opened: Opener, log: Path) -> None:
    tail = opened()
    append(log, b"b" * (2 * MAX_LINE))
    assert rest(tail) == b""
    append(log, b"b\n")
    after = write(log)
    found = chunks(opened(positions=tail.positions()))
    assert (b"".join(chunk.data for chunk in found), sum(chunk.discarded for chunk in found)) == (after, 1)


@pytest.mark.feature("A4")
def test_memory_is_bounded_whatever_the_backlog(opened: Opener, log: Path) -> None:
    tail = opened()
    block = lines(10_000)
    for _ in range(20):
        append(log, block)
    append(log, b"z" * (20 * MAX_LINE))
    total = 0
    tracemalloc.start()
    while True:
        step = tail.read()
        if not step:
            break
        total += sum(len(chunk.data) for chunk in step)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 20 * len(block)
    assert peak < 5 * MAX_LINE


@pytest.mark.parametrize("limit", [5, 1000, MAX_LINE])
@pytest.mark.parametrize("size", [1, 3, 4096, 3 * MAX_LINE])
@pytest.mark.feature("A4")
def test_padding_before_a_line_is_skipped_and_counted(opened: Opener, log: Path, size: int, limit: int) -> None:
    if size > 100_000 > 5000 * limit:
        limit = 4096
    tail = opened()
    before = write(log)
    append(log, b"\0" * size)
    assert rest(tail, limit) == before
    after = write(log)
    found = chunks(tail, limit)
    assert (b"".join(chunk.data for chunk in found), sum(chunk.discarded for chunk in found)) == (after, 1)


@pytest.mark.parametrize("size", [1, 5000, 2 * MAX_LINE])
@pytest.mark.feature("A4")
def test_padding_behind_a_cut_line_ends_it(opened: Opener, log: Path, size: int) -> None:
    tail = opened()
    before = write(log)
    append(log, b'{"cut' + b"\0" * size)
    after = write(log)
    found = chunks(tail)
    data = b"".join(chunk.data for chunk in found)
    assert data in (before + b'{"cut\n' + after, before + after)
    assert sum(chunk.discarded for chunk in found) in (1, 2)


@pytest.mark.feature("A4")
@pytest.mark.parametrize("whole", [0, 1])
def test_padding_at_the_end_may_yet_be_filled(opened: Opener, log: Path, whole: int) -> None:
    """As a network file system shows a write of another machine that has not arrived whole."""
    tail = opened()
    written = lines(2)
    arrived = written.index(b"\n") + 1 if whole else 60
    append(log, written[:arrived] + b"\0" * (len(written) - arrived))
    before = rest(tail)
    assert before.count(b"\n") == whole
    with log.open("r+b") as file:
        file.seek(arrived)
        file.write(written[arrived:])
    assert before + rest(tail) == written


@pytest.mark.feature("A3", "A4")
def test_a_hole_of_a_writer_without_append_is_jumped_over(opened: Opener, log: Path) -> None:
    tail = opened()
    with log.open("wb") as writer:
        writer.write(before := lines(500))
        writer.flush()
        assert rest(tail) == before
        writer.truncate(0)
        writer.seek(1 << 40)
        writer.write(after := lines(1))
    found = chunks(tail)
    assert (b"".join(chunk.data for chunk in found), sum(chunk.discarded for chunk in found)) == (after, 1)


@pytest.mark.feature("A2")
def test_the_cursor_matches_what_was_returned(opened: Opener, log: Path) -> None:
    written = write(log, 200)
    tail = opened(start_at="beginning")
    got = b""
    while True:
        assert got + rest(opened(positions=tail.positions())) == written
        step = tail.read(1500)
        if not step:
            break
        got += b"".join(chunk.data for chunk in step)
    assert got == written


def test_what_precedes_the_cursor_can_be_read_again(opened: Opener, log: Path) -> None:
    written = write(log, 30_000)
    append(log, b"torn")
    tail = opened()
    assert b"".join(chunk.data for chunk in tail.before(len(written) * 2)) == written
    again = [chunk.data for chunk in tail.before(1000)]
    assert written.endswith(b"".join(again))
    assert 900 <= len(b"".join(again)) <= 1000
    assert again[0].startswith(b'{"timestamp"')
    assert max(map(len, (chunk.data for chunk in tail.before(8 << 20)))) <= 2 * MAX_LINE
    assert list(tail.before(10)) == []
    assert list(opened("missing.json").before(1000)) == []


# Rotation while the watcher runs.


@pytest.mark.feature("A3")
def test_rename_rotation_reads_the_old_file_to_its_end(opened: Opener, log: Path, tmp_path: Path, way: str) -> None:
    tail = opened()
    old = tmp_path / "eve.json.1"
    first = write(log, 2)
    log.rename(old)
    second = write(old)  # Suricata has not reopened yet
    assert rest(tail) == first + second
    log.touch()  # logrotate's `create`
    third = write(old)
    assert rest(tail) == third
    fourth, fifth = write(old), write(log)
    assert rest(tail) == fourth + fifth
    assert opened.said == [] or way == "polling"


@pytest.mark.feature("A3")
def test_rename_rotation_without_create(opened: Opener, log: Path, tmp_path: Path, way: str) -> None:
    tail = opened()
    written = write(log, 2)
    log.rename(tmp_path / "eve.json.1")
    assert rest(tail) == written
    written = write(log, 3)
    assert rest(tail) == written


@pytest.mark.feature("A3")
def test_a_longer_successor_is_noticed(opened: Opener, log: Path, tmp_path: Path) -> None:
    tail = opened()
    first = write(log, 1)
    assert rest(tail) == first
    log.rename(tmp_path / "eve.json.1")
    second = write(log, 100)
    assert rest(tail) == second


@pytest.mark.feature("A3")
def test_two_rotations_between_two_reads(opened: Opener, log: Path, tmp_path: Path) -> None:
    tail = opened()
    written = write(log, 2)
    log.rename(tmp_path / "eve.json.1")
    written += write(log, 2)
    (tmp_path / "eve.json.1").rename(tmp_path / "eve.json.2")
    log.rename(tmp_path / "eve.json.1")
    written += write(log, 2)
    assert rest(tail) == written


@pytest.mark.feature("A3")
def test_an_old_file_that_is_removed_is_still_read_to_its_end(opened: Opener, log: Path) -> None:
    tail = opened()
    first = write(log, 2)
    assert rest(tail) == first
    with log.open("ab", buffering=0) as writer:
        log.unlink()
        writer.write(second := lines(1))
        third = write(log, 2)
        assert rest(tail) == second + third


@pytest.mark.feature("A3", "A4")
def test_the_torn_end_of_a_finished_file_is_left_out_and_counted(
    opened: Opener, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late, "LATE_SECONDS", 0.0)
    tail = opened()
    first = append(log, lines(1))
    append(log, b"torn")
    log.rename(tmp_path / "eve.json.1")
    second = write(log)
    found = chunks(tail)
    look_around(tail)
    found += chunks(tail)
    assert (b"".join(chunk.data for chunk in found), sum(chunk.discarded for chunk in found)) == (first + second, 1)
    assert opened.said == [f"{log}.1: ends in the middle of a line, which is left out"]


@pytest.mark.feature("A3")
def test_copytruncate_reads_what_only_the_copy_has(opened: Opener, log: Path, tmp_path: Path, way: str) -> None:
    tail = opened()
    first = write(log, 2)
    assert rest(tail) == first
    second = write(log, 2)
    shutil.copy(log, tmp_path / "eve.json.1")
    os.truncate(log, 0)
    third = write(log, 1)
    assert rest(tail) == second + third
    assert f"{log}: was copied and truncated; the copy is read to its end first" in opened.said


@pytest.mark.feature("A2", "A3")
@pytest.mark.parametrize("successors", [0, 1, 50])
def test_copytruncate_while_a_start_opens_the_file(
    opened: Opener, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, successors: int
) -> None:
    write(log, 7)
    first = opened(start_at="beginning")
    rest(first)
    positions = first.positions()
    first.close()
    unread = write(log, 3)
    find = rotation.find

    def found_then_cut(mark: Mark, path: str) -> rotation.Candidate | None:
        file = find(mark, path)
        nonlocal unread
        shutil.copy(log, tmp_path / "eve.json.1")
        os.truncate(log, 0)
        unread += write(log, successors)
        return file

    monkeypatch.setattr(rotation, "find", found_then_cut)
    second = opened(positions=positions)
    monkeypatch.undo()

    assert rest(second) + rest(second) == unread


@pytest.mark.feature("A2", "A3")
@pytest.mark.parametrize("place", ["file", "copy"])
@pytest.mark.parametrize("moment", ["while it is looked for", "before it is opened"])
def test_rename_while_a_start_opens_the_file(
    opened: Opener, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, moment: str
) -> None:
    write(log, 7)
    first = opened(start_at="beginning")
    rest(first)
    positions = first.positions()
    first.close()
    unread = write(log, 3)
    newest = log if place == "file" else tmp_path / "eve.json.1"
    if place == "copy":
        shutil.copy(log, newest)
        os.truncate(log, 0)
    name = "find" if place == "file" else "find_copy"
    look = getattr(rotation, name)

    def renamed_meanwhile(*arguments: Any) -> rotation.Candidate | None:
        monkeypatch.setattr(rotation, name, look)
        found = look(*arguments)
        newest.rename(tmp_path / "eve.json.2")
        log.touch()
        return found if moment == "before it is opened" else None

    monkeypatch.setattr(rotation, name, renamed_meanwhile)
    second = opened(positions=positions)
    unread += write(log, 2)

    assert rest(second) + rest(second) == unread


@pytest.mark.parametrize("number", [1, 50])
@pytest.mark.feature("A3")
def test_truncation_without_a_copy(opened: Opener, log: Path, number: int, way: str) -> None:
    """Shorter than before, or longer already: the head tells."""
    tail = opened()
    write(log, 10)
    rest(tail)
    os.truncate(log, 0)
    written = write(log, number)
    assert rest(tail) == written
    assert f"{log}: was truncated; it is read from its beginning" in opened.said


@pytest.mark.feature("A3")
def test_a_file_that_is_missing_for_a_while(opened: Opener, log: Path, way: str) -> None:
    tail = opened()
    first = write(log)
    assert rest(tail) == first
    log.unlink()
    assert rest(tail) == b""
    assert rest(tail) == b""
    second = write(log)
    assert rest(tail) == second


@pytest.mark.feature("A3")
def test_a_directory_that_appears_goes_and_is_replaced(opened: Opener, tmp_path: Path, way: str) -> None:
    log = tmp_path / "var" / "log" / "eve.json"
    tail = opened("var/log/eve.json")
    assert rest(tail) == b""
    log.parent.mkdir(parents=True)
    rest(tail)
    first = write(log)
    assert rest(tail) == first
    log.parent.rename(tmp_path / "away")
    second = write(tmp_path / "away" / "eve.json")
    assert rest(tail) == second
    log.parent.mkdir()
    third = write(log, 2)
    assert rest(tail) == third
    shutil.rmtree(log.parent)
    rest(tail)
    log.parent.mkdir()
    fourth = write(log, 2)
    assert rest(tail) == fourth


@pytest.mark.feature("A3")
def test_a_symbolic_link_that_is_switched(opened: Opener, log: Path, tmp_path: Path, way: str) -> None:
    one, two = tmp_path / "a.log", tmp_path / "elsewhere" / "b.log"
    two.parent.mkdir()
    log.symlink_to(one)
    tail = opened()
    first = write(one)
    assert rest(tail) == first
    second, third = write(one), write(two)
    log.unlink()
    log.symlink_to(two)
    assert rest(tail) == second + third
    fourth = write(two)
    assert rest(tail) == fourth
    log.unlink()
    log.symlink_to(one)
    fifth = write(one)
    assert rest(tail) == fifth  # and not what was read of it before


@pytest.mark.feature("A3")
def test_rotation_behind_a_symbolic_link(opened: Opener, log: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "suricata.json"
    real.parent.mkdir()
    log.symlink_to(real)
    tail = opened()
    written = write(real)
    real.rename(real.parent / "suricata.json.1")
    written += write(real)
    (real.parent / "suricata.json.1").rename(real.parent / "suricata.json.2")
    real.rename(real.parent / "suricata.json.1")
    written += write(real)
    assert rest(tail) == written


def test_what_is_no_regular_file_is_reported_once(opened: Opener, log: Path) -> None:
    os.mkfifo(log)
    tail = opened()
    assert rest(tail) == rest(tail) == b""
    assert opened.said == [f"{log}: not a regular file"]
    log.unlink()
    written = write(log)
    assert rest(tail) == written


@pytest.mark.feature("A2")
def test_a_file_without_permission_is_waited_for(opened: Opener, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log, 2)
    positions = opened().positions()
    written = write(log)
    with monkeypatch.context() as patch:
        patch.setattr(logfile.os, "open", refusing(os.open, log, 13))
        tail = opened(positions=positions)
        assert tail.read() == []
        assert tail.positions()["files"] == positions["files"]
    assert opened.said == [f"{log}: Permission denied"]
    tail._looked = -10.0
    assert rest(tail) == written


@pytest.mark.feature("A2", "A3")
def test_a_read_error_is_reported_once_and_tried_again(
    opened: Opener, log: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    tail = opened()
    first = write(log, 2)
    assert rest(tail) == first
    second = write(log, 2)
    with monkeypatch.context() as patch:
        patch.setattr(logfile.os, "pread", refusing(os.pread, None, 5))
        assert rest(tail) == rest(tail) == b""
    assert opened.said[-1] == f"{log}: Input/output error"
    tail._looked = -10.0
    assert rest(tail) == second


def refusing(function: Callable[..., Any], path: Path | None, number: int) -> Callable[..., Any]:
    """`function`, failing with that error number for one path, or always."""

    def refuse(first: object, *arguments: object) -> Any:
        if path is None or first == str(path):
            raise OSError(number, os.strerror(number))
        return function(first, *arguments)

    return refuse


# Rotation while the watcher is down.


@pytest.mark.parametrize("rotations", [1, 2, 5])
@pytest.mark.feature("A2", "A3")
def test_files_that_came_and_went_meanwhile_are_read(opened: Opener, log: Path, rotations: int) -> None:
    for _ in range(3):
        write(log, 2)
        shift(log)
        log.rename(log.parent / "eve.json.1")
    write(log, 2)
    tail = opened()
    tail.close()
    positions = tail.positions()
    assert positions["files"] == {}
    tail = opened()
    read = write(log, 2)
    assert rest(tail) == read
    positions = tail.positions()
    written = write(log, 2)
    for _ in range(rotations):
        shift(log)
        log.rename(log.parent / "eve.json.1")
        written += write(log, 2)
    again = opened(positions=positions)
    assert rest(again) == written
    assert rest(opened(positions=again.positions())) == b""
    assert opened.said == []


@pytest.mark.parametrize(
    "name",
    ["eve.json-20261124", "eve-20261124.json", "eve.json.2026-11-24_10:00", "eve.json-1795345760", "eve.json.old"],
)
@pytest.mark.feature("A2", "A3")
def test_any_usual_name_of_a_rotated_file_is_found(opened: Opener, log: Path, name: str) -> None:
    tail = opened()
    rest(tail)
    write(log)
    rest(tail)
    positions = tail.positions()
    written = write(log)
    log.rename(log.parent / name)
    written += write(log)
    assert rest(opened(positions=positions)) == written


@pytest.mark.feature("A2", "A3")
def test_a_rotated_file_of_which_the_path_is_still_missing(opened: Opener, log: Path) -> None:
    write(log)
    positions = opened().positions()
    written = write(log)
    log.rename(log.parent / "eve.json.1")
    tail = opened(positions=positions)
    assert rest(tail) == written
    written = write(log)
    assert rest(tail) == written


@pytest.mark.feature("A2", "A3")
def test_a_damaged_packed_file_is_reported_and_its_successors_are_read(opened: Opener, log: Path) -> None:
    write(log, 2)
    positions = opened().positions()
    write(log, 1)
    log.rename(log.parent / "eve.json.2")
    (log.parent / "eve.json.2.gz").write_bytes(b"\x1f\x8b")
    written = write(log, 2)
    log.rename(log.parent / "eve.json.1")
    written += write(log, 2)
    (log.parent / "eve.json.2").unlink()
    assert rest(opened(positions=positions)) == written
    assert len(opened.said) == 1
    assert "lines may be missing" in opened.said[0]


@pytest.mark.feature("A2", "A3")
def test_copytruncate_meanwhile(opened: Opener, log: Path) -> None:
    tail = opened()
    read = write(log, 2)
    assert rest(tail) == read
    positions = tail.positions()
    written = b""
    for _ in range(3):
        written += write(log, 2)
        shift(log)
        shutil.copy(log, log.parent / "eve.json.1")
        os.truncate(log, 0)
    written += write(log, 30)
    again = opened(positions=positions)
    assert rest(again) == written
    assert rest(opened(positions=again.positions())) == b""


@pytest.mark.feature("A2", "A3")
def test_copytruncate_before_and_after_a_restart(opened: Opener, log: Path) -> None:
    log.touch()
    positions = opened().positions()
    written = b""
    for _ in range(2):
        written += write(log)
        shift(log)
        shutil.copy(log, log.parent / "eve.json.1")
        os.truncate(log, 0)
        if len(opened.tails) == 1:
            written += write(log)
            tail = opened(positions=positions)
    assert rest(tail) == written


@pytest.mark.feature("A2", "A3")
def test_truncation_meanwhile(opened: Opener, log: Path) -> None:
    write(log, 2)
    positions = opened().positions()
    os.truncate(log, 0)
    written = write(log, 3)
    assert rest(opened(positions=positions)) == written
    assert len(opened.said) == 1


@pytest.mark.feature("A2")
def test_a_reused_inode_with_other_content_is_read_from_its_beginning(opened: Opener, log: Path) -> None:
    write(log, 2)
    positions = opened().positions()
    os.truncate(log, 0)
    written = write(log, 20)
    positions["files"][str(log)]["inode"] = log.stat().st_ino
    assert rest(opened(positions=positions)) == written


@pytest.mark.feature("A2")
def test_the_device_may_change_its_number(opened: Opener, log: Path) -> None:
    write(log, 2)
    positions = opened().positions()
    positions["files"][str(log)]["device"] += 7
    written = write(log, 1)
    assert rest(opened(positions=positions)) == written


# Globs.


@pytest.mark.feature("A10")
def test_threaded_logs_are_found_as_they_appear(opened: Opener, tmp_path: Path, way: str) -> None:
    write(tmp_path / "eve.1.json")
    tail = opened("eve.*.json")
    first, second = write(tmp_path / "eve.1.json"), write(tmp_path / "eve.2.json")
    assert {chunk.path: chunk.data for chunk in chunks(tail)} == {
        str(tmp_path / "eve.1.json"): first,
        str(tmp_path / "eve.2.json"): second,
    }
    third = write(tmp_path / "eve.2.json")
    again = opened("eve.*.json", positions=tail.positions())
    assert rest(again) == third


@pytest.mark.feature("A3", "A10")
def test_a_glob_that_covers_rotated_names_reads_nothing_twice(
    opened: Opener, log: Path, tmp_path: Path, way: str
) -> None:
    write(tmp_path / "eve.json.1")
    tail = opened("eve.json*")
    written = b""
    got = b""
    for _ in range(4):
        written += write(log, 2)
        shift(log)
        log.rename(tmp_path / "eve.json.1")
        written += write(log, 2)
        got += rest(tail)
    assert sorted(got.splitlines()) == sorted(written.splitlines())
    assert rest(opened("eve.json*", positions=tail.positions())) == b""


@pytest.mark.feature("A3", "A10")
def test_a_glob_that_covers_copies_reads_nothing_twice(opened: Opener, log: Path, tmp_path: Path) -> None:
    tail = opened("eve.json*")
    written = write(log, 2)
    got = rest(tail)
    written += write(log, 2)
    shutil.copy(log, tmp_path / "eve.json.1")
    got += rest(tail)
    os.truncate(log, 0)
    written += write(log, 2)
    got += rest(tail)
    (tmp_path / "eve.json.1.gz").write_bytes(b"compressed\n")
    assert got + rest(tail) == written
    assert rest(opened("eve.json*", positions=tail.positions())) == b""


@pytest.mark.feature("A10")
def test_a_link_and_its_target_are_one_file(opened: Opener, log: Path, tmp_path: Path) -> None:
    dated = tmp_path / "eve-20261124.json"
    log.symlink_to(dated)
    tail = opened("eve*.json")
    written = write(dated, 2)
    assert rest(tail) == written


@pytest.mark.feature("A10")
def test_directories_of_a_glob_are_found_as_they_appear(opened: Opener, tmp_path: Path, way: str) -> None:
    (tmp_path / "a").mkdir()
    tail = opened("*/eve.json")
    first = write(tmp_path / "a" / "eve.json")
    assert rest(tail) == first
    (tmp_path / "b").mkdir()
    rest(tail)
    second = write(tmp_path / "b" / "eve.json")
    assert rest(tail) == second


def test_of_many_files_only_the_lively_ones_stay_open(opened: Opener, tmp_path: Path) -> None:
    for number in range(100):
        path = tmp_path / f"eve-{number:03}.json"
        write(path)
        os.utime(path, (1, 1))
    tail = opened("eve-*.json")
    rest(tail)
    assert sum(open_files(path) for path in tmp_path.iterdir()) == 0
    written = write(tmp_path / "eve-050.json") + write(tmp_path / "eve-100.json")
    assert rest(tail) == written
    (tmp_path / "eve-007.json").unlink()
    rest(tail)
    positions = tail.positions()
    assert str(tmp_path / "eve-007.json") not in positions["files"]
    assert len(positions["files"]) == 100
    written = write(tmp_path / "eve-051.json")
    assert rest(opened("eve-*.json", positions=positions)) == written
    assert opened.said == []


def open_files(path: Path) -> int:
    links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return sum(os.path.realpath(link) == str(path) for link in links)


# Waking up.


@pytest.mark.parametrize(
    "change",
    [
        lambda log: append(log, b"x\n"),
        lambda log: (log.rename(log.parent / "eve.json.1"), append(log.parent / "eve.json.1", b"x\n")),
        lambda log: os.truncate(log, 0),
        lambda log: log.unlink(),
        lambda log: log.parent.rename(log.parent.parent / "away"),
        lambda log: shutil.rmtree(log.parent),
    ],
)
@pytest.mark.feature("A1")
def test_the_kernel_wakes_for_every_change(opened: Opener, tmp_path: Path, change: Callable[[Path], object]) -> None:
    log = tmp_path / "suricata" / "eve.json"
    log.parent.mkdir()
    write(log)
    tail = opened("suricata/eve.json")
    rest(tail)
    assert not readable(tail)
    change(log)
    assert readable(tail, 5)
    rest(tail)
    tail.drain_events()
    assert not readable(tail)


@pytest.mark.feature("A1", "A3")
def test_the_kernel_wakes_for_the_first_line_of_a_new_file(opened: Opener, log: Path) -> None:
    tail = opened()
    write(log)
    rest(tail)
    log.rename(log.parent / "eve.json.1")
    log.touch()
    rest(tail)
    rest(tail)
    assert not readable(tail)
    written = write(log)
    assert readable(tail, 5)
    assert rest(tail) == written


@pytest.mark.feature("A1")
def test_other_files_wake_nobody(opened: Opener, log: Path, tmp_path: Path) -> None:
    write(log)
    write(tmp_path / "stats.log")
    tail = opened()
    rest(tail)
    for _ in range(10):
        write(tmp_path / "stats.log")
    assert not readable(tail)


@pytest.mark.feature("A1")
def test_without_inotify_it_says_so(opened: Opener, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "reports_changes", lambda device: False)
    tail = opened()
    assert tail.fileno() == -1
    assert len(opened.said) == 1
    assert "polled instead" in opened.said[0]
    tail.drain_events()
    written = write(log)
    assert rest(tail) == written


def test_no_descriptor_is_left_open(opened: Opener, log: Path, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    tail = opened()
    for _ in range(5):
        write(log)
        rest(tail)
        shift(log)
        log.rename(tmp_path / "eve.json.1")
    assert len(os.listdir("/proc/self/fd")) <= before + 2 + late.LATE_FILES
    tail.close()
    tail.close()
    assert len(os.listdir("/proc/self/fd")) == before
