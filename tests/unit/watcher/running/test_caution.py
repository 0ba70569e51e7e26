# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from ngfw.effects.state import State
from ngfw.events.tail import Chunk
from ngfw.running import caution as module
from ngfw.running.caution import LINE_BYTES, STEP_BYTES, Caution

LINES = [b"one\n", b"two\n", b"three\n"]
CHUNK = Chunk("eve", "/eve.json", b"".join(LINES), 0)


def harmless(_chunk: Chunk) -> None:
    pass


def deadly(chunk: Chunk) -> None:
    if b"two" in chunk.data:
        os.kill(os.getpid(), signal.SIGKILL)


class Run:
    """One run of a watcher, up to the line at which it dies."""

    def __init__(self, directory: Path, rehearse: Callable[[Chunk], None] = deadly) -> None:
        self.said: list[str] = []
        self.state = State(directory, report=self.said.append)
        self.state.lock()
        self.caution = Caution(
            self.state, rehearse, report=self.said.append, alive=lambda: None, clock=lambda: 1_800_000_000.0
        )
        self.caution.begin()

    def reads(self, *, dies_at: bytes = b"", chunk: Chunk = CHUNK) -> list[bytes]:
        found = []
        for each in self.caution.guarded([chunk]):
            if each.data == dies_at:
                break
            found.append(each.data)
        return found

    def dies(self) -> None:
        self.state.unlock()

    def ends(self) -> None:
        self.state.ended()
        self.state.unlock()


def test_after_an_orderly_end_lines_are_read_as_they_come(tmp_path: Path) -> None:
    for _run in range(2):
        run = Run(tmp_path)
        assert not run.caution.on
        assert run.reads() == [CHUNK.data]
        run.ends()
    assert not (tmp_path / "tried").exists()


@pytest.mark.feature("S3")
def test_a_line_at_which_two_runs_died_is_set_aside_and_never_read_again(tmp_path: Path) -> None:
    Run(tmp_path).dies()
    second = Run(tmp_path)
    assert second.caution.step == STEP_BYTES
    assert second.reads(dies_at=b"two\n") == [b"one\n"]
    second.dies()
    third = Run(tmp_path)
    assert third.caution.step == LINE_BYTES
    assert third.reads() == [b"one\n", b"three\n"]
    assert third.caution.count == 1
    assert "/eve.json: a line of 4 bytes at which earlier runs died is left out" in third.said[0]
    third.caution.end()
    assert third.reads() == [CHUNK.data]
    assert [each.data for each in third.caution.without_poison([CHUNK])] == [b"one\nthree\n"]
    third.dies()
    fourth = Run(tmp_path)
    assert fourth.reads() == [b"one\n", b"three\n"]
    assert len(fourth.said) == 1
    assert [json.loads(line)["line"] for line in (tmp_path / "poison").read_text().splitlines()] == ["two\n"]


@pytest.mark.feature("S3", "A2")
def test_a_line_that_a_child_can_decide_is_tried_again_but_not_for_ever(tmp_path: Path) -> None:
    Run(tmp_path).dies()
    for _death in range(3):
        run = Run(tmp_path, harmless)
        assert run.reads(dies_at=b"two\n") == [b"one\n"]
        run.dies()
    assert Run(tmp_path, harmless).reads() == [b"one\n", b"three\n"]


@pytest.mark.feature("S3")
def test_a_child_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHILD_SECONDS", 1)
    Run(tmp_path).dies()
    second = Run(tmp_path)
    second.reads(dies_at=b"two\n")
    second.dies()
    assert Run(tmp_path, lambda chunk: signal.pause()).reads() == [b"one\n", b"three\n"]


@pytest.mark.feature("S3")
def test_what_runs_died_at_before_they_read_is_left_out_at_last(tmp_path: Path) -> None:
    Run(tmp_path).dies()
    for _death in range(3):
        run = Run(tmp_path)
        assert not run.caution.deadly("recall")
        run.dies()
    run = Run(tmp_path)
    assert not run.caution.deadly("pending", b"x")
    assert run.caution.deadly("recall")


@pytest.mark.feature("S3")
def test_the_file_of_poison_is_bounded(tmp_path: Path) -> None:
    Run(tmp_path).dies()
    for number in range(70):
        chunk = Chunk("eve", "/eve.json", b"%d two " % number + b"x" * 100_000 + b"\n", 0)
        first = Run(tmp_path)
        assert first.reads(dies_at=chunk.data, chunk=chunk) == []
        first.dies()
        second = Run(tmp_path)
        assert second.reads(chunk=chunk) == []
        second.dies()
    assert Run(tmp_path).caution.count == 64
    assert (tmp_path / "poison").stat().st_size < 5 << 20


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'["x", "y"]', b"\0" * 128])
def test_a_note_that_was_cut_off_says_nothing(tmp_path: Path, content: bytes) -> None:
    Run(tmp_path).dies()
    (tmp_path / "tried").write_bytes(content)
    assert Run(tmp_path).reads() == LINES
