# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import json
import os
import re
import tracemalloc
from pathlib import Path

import pytest
from ngfw.effects.journal import ALERT_LOG, ALERTS_JSON, BLOCKS_LOG, DAEMON_LOG, MAX_HELD_BYTES, Journal, missing
from ngfw.effects.wording import alert_line, block_line, json_line, told_of
from ngfw.firewall.text import quoted, unquoted

from .conftest import decision

STAMP = "2025-09-02 11:24:45"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def journal(tmp_path: Path, said: list[str]) -> Journal:
    return Journal(tmp_path / "log", clock=lambda: 1756812285.0, echo=said.append)


@pytest.mark.feature("E1")
@pytest.mark.parametrize(
    "message",
    [
        'x" SID=1 MSG="y',
        'a\n2025-09-02 11:24:45 BLOCKED 192.0.2.1 (REPUTATION SCORE: 0) [x] SID=1 MSG=""',
        "a\r\x0b\x0c\x1b[2J\x00\x85\u2028\u2029b",
        "\udfff\ud800 lone",
        "\u202etxt.exe \u2066 turned around",
        "back\\slash\\",
        "%s {0} %(x)s",
    ],
)
def test_no_message_forges_a_line(journal: Journal, tmp_path: Path, message: str) -> None:
    entry = decision(msg=message, reason=f"RULE {message}")
    found = told_of(entry, now=1756812285.0, dry_run=False)
    journal.append({ALERT_LOG: alert_line(entry, STAMP), BLOCKS_LOG: block_line(found), ALERTS_JSON: json_line(found)})
    journal.say(message)
    for name in (ALERT_LOG, BLOCKS_LOG, DAEMON_LOG):
        content = (tmp_path / "log" / name).read_bytes()
        assert content.count(b"\n") == 1
        text = content.decode("utf-8")
        assert len(text.splitlines()) == 1
        assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in text[:-1])
    text = block_line(found).rstrip("\n")
    assert text.endswith(f'MSG="{quoted(message)}"')
    assert re.search(r'(?<!\\)(\\\\)*"', quoted(message)) is None  # every quote inside is escaped
    assert unquoted(quoted(message)) == message
    assert text.split(' MSG="')[0].endswith("SID=2000004")
    assert json.loads(json_line(found))["msg"] == message


@pytest.mark.feature("E1", "E3")
def test_a_line_that_a_full_disk_cut_off_takes_no_other_with_it(journal: Journal, tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir(exist_ok=True)
    (directory / BLOCKS_LOG).write_text("whole\ncut o")
    (directory / ALERT_LOG).write_text("whole\n")
    (directory / ALERTS_JSON).write_text("")
    journal.mend()
    journal.append({BLOCKS_LOG: "next\n", ALERT_LOG: "next\n"})
    assert (directory / BLOCKS_LOG).read_text() == "whole\ncut o\nnext\n"
    assert (directory / ALERT_LOG).read_text() == "whole\nnext\n"
    assert (directory / ALERTS_JSON).read_text() == ""
    assert not (directory / DAEMON_LOG).exists()


@pytest.mark.feature("E3")
def test_reopen_follows_a_rotation(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "log" / BLOCKS_LOG
    journal.append({BLOCKS_LOG: "one\n"})
    path.rename(path.with_suffix(".log.1"))
    journal.append({BLOCKS_LOG: "two\n"})
    journal.reopen()
    journal.append({BLOCKS_LOG: "three\n"})
    assert path.with_suffix(".log.1").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.feature("E3")
def test_a_full_disk_is_said_once_and_caught_up(
    journal: Journal, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    room = [5]

    def write(descriptor: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(BLOCKS_LOG):
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            data, room[0] = data[: room[0]], room[0] - len(data[: room[0]])
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    for number in range(3):
        journal.append({BLOCKS_LOG: f"line {number}\n"})
    assert len([text for text in said if "make room" in text]) == 1
    assert journal.marks()[BLOCKS_LOG] is None
    monkeypatch.setattr(os, "write", real)
    journal.append({BLOCKS_LOG: "line 3\n"})
    assert (tmp_path / "log" / BLOCKS_LOG).read_text() == "".join(f"line {number}\n" for number in range(4))
    assert "is written again" in said[-1]


def test_what_is_held_of_an_unwritable_log_is_bounded(journal: Journal, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "log").write_text("a file where the directory should be")
    line = "x" * 1000 + "\n"
    for _ in range(5):
        journal.append({BLOCKS_LOG: line * 1200})
    (tmp_path / "log").unlink()
    journal.append({BLOCKS_LOG: "last\n"})
    content = (tmp_path / "log" / BLOCKS_LOG).read_text()
    assert MAX_HELD_BYTES - 2000 < len(content) <= MAX_HELD_BYTES + 5
    assert content.endswith("\n")
    assert any("bytes were dropped" in text for text in said)


@pytest.mark.feature("S1")
def test_a_fifo_in_place_of_a_log_is_not_waited_for(journal: Journal, tmp_path: Path, said: list[str]) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    for name in ("alert.log", "alerts.json.1"):
        os.mkfifo(directory / name)
    journal.append({"alert.log": "one\n", "alerts.json": "two\n"})
    journal.mend()
    mark = journal.mark("alerts.json")
    assert mark is not None
    (directory / "alerts.json").unlink()
    journal.reopen()
    assert journal.after("alerts.json", mark) == b""
    assert any("alert.log: is a FIFO, not a regular file; remove it; blocking goes on" in text for text in said)


def test_a_link_in_place_of_a_log_is_not_followed(journal: Journal, tmp_path: Path, said: list[str]) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / BLOCKS_LOG).symlink_to(victim)
    journal.append({BLOCKS_LOG: "line\n"})
    assert victim.read_text() == ""
    assert "cannot write" in said[0]


WANTED = b"one\ntwo\ntwo\nthree\n"


@pytest.mark.feature("A2")
@pytest.mark.parametrize(
    ("present", "rest"),
    [
        (b"", WANTED),
        (b"one\n", b"two\ntwo\nthree\n"),
        (b"one\nsomebody else\ntwo\n", b"two\nthree\n"),
        (WANTED, b""),
        (WANTED + b"later\n", b""),
        (b"one\ntw", b"o\ntwo\nthree\n"),
        (b"one\nsomebody's ha", b"\ntwo\ntwo\nthree\n"),
    ],
)
def test_missing_is_what_is_not_there(present: bytes, rest: bytes) -> None:
    assert missing(WANTED, present) == rest


def test_since_finds_a_rotated_file(journal: Journal, tmp_path: Path) -> None:
    journal.append({BLOCKS_LOG: "one\n"})
    mark = journal.marks()[BLOCKS_LOG]
    journal.append({BLOCKS_LOG: "two\n"})
    assert journal.since(BLOCKS_LOG, mark) == (b"two\n", True)
    path = tmp_path / "log" / BLOCKS_LOG
    path.rename(f"{path}.1")
    assert journal.since(BLOCKS_LOG, mark) == (b"two\n", False)
    journal.reopen()
    assert journal.since(BLOCKS_LOG, mark) == (b"two\n", False)


def test_what_was_added_after_a_mark_is_found_through_rotations(tmp_path: Path) -> None:
    journal = Journal(tmp_path, echo=lambda text: None)
    journal.append({ALERTS_JSON: "before\n"})
    mark = journal.mark(ALERTS_JSON)
    assert mark is not None
    for number in range(3):
        journal.append({ALERTS_JSON: f"after {number}\n"})
        os.utime(tmp_path / ALERTS_JSON, ns=(number * 10**9, number * 10**9))
        if number < 2:
            (tmp_path / ALERTS_JSON).rename(tmp_path / f"{ALERTS_JSON}.{number}")
            journal.reopen()
    assert journal.after(ALERTS_JSON, mark) == b"after 0\nafter 1\nafter 2\n"
    (tmp_path / f"{ALERTS_JSON}.0").unlink()
    assert journal.after(ALERTS_JSON, mark) == b"after 1\nafter 2\n"


@pytest.mark.feature("S3", "E3")
def test_what_waits_to_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    journal = Journal(tmp_path, echo=lambda text: None, held=held.append)
    journal.append({BLOCKS_LOG: "first\n"})
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    journal.append({BLOCKS_LOG: "second\n", ALERT_LOG: "x\n"})
    journal.append({BLOCKS_LOG: "x" * MAX_HELD_BYTES + "\n"})
    assert held == [7, 9, 9 + MAX_HELD_BYTES + 1]
    monkeypatch.setattr(os, "write", real)
    journal.close()
    assert held[-1] == 0
    assert (tmp_path / BLOCKS_LOG).read_text() == "first\nsecond\n"


@pytest.mark.feature("S3")
def test_lines_that_tell_of_no_block_take_no_memory(tmp_path: Path) -> None:
    journal = Journal(tmp_path, echo=lambda text: None)
    mark = journal.mark(ALERTS_JSON)
    assert mark is not None
    skip, block = (b'{"action":"%s","msg":"%s"}\n' % (action, b"x" * 200) for action in (b"skip", b"block"))
    journal.append_bytes(ALERTS_JSON, block)
    (tmp_path / ALERTS_JSON).rename(tmp_path / f"{ALERTS_JSON}.1")
    for part in (f"{ALERTS_JSON}.1", ALERTS_JSON):
        with (tmp_path / part).open("ab") as stream:
            stream.write(skip * 50_000 + block)
    tracemalloc.start()
    try:
        assert journal.after(ALERTS_JSON, mark, without=b'"action":"skip"') == 3 * block
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
