# SPDX-License-Identifier: GPL-3.0-or-later
"""Any order of writing, rotating, reading, stopping and being killed delivers each whole line exactly once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ngfw.events.tail import Source, Tail

from .conftest import look_around


class Following(RuleBasedStateMachine):
    """A writer that behaves like Suricata under logrotate, and a watcher that can die at any time.

    `written` are the lines of each file in their order; Suricata's threads write on into a file for a while after it
    was rotated. `durable` is what the watcher delivered before `stored`, the positions that it saved last; what it
    delivered since is forgotten when it is killed, as it would be done again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="tail-"))
        self.log = self.directory / "eve.json"
        self.number = 0
        self.written: list[list[bytes]] = [[]]
        self.torn = b""
        self.writer = self.open_log()
        self.late_writers: dict[int, int] = {}  # the number of a rotated file, and what it is written with
        self.durable: list[bytes] = []
        self.delivered: list[bytes] = []
        self.stored: Any = None
        self.tail = self.make_tail("beginning")
        self.save()

    def open_log(self) -> int:
        return os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def make_tail(self, start_at: str) -> Tail:
        return Tail([Source(str(self.log), "eve")], self.stored, start_at, report=lambda text: None)

    def line(self) -> bytes:
        self.number += 1
        return b'{"timestamp":"%09d","padding":"%s"}\n' % (self.number, b"x" * (self.number * 37 % 90))

    def shift(self) -> None:
        kept = sorted(self.directory.glob("eve.json.*"), key=lambda path: -int(path.suffix[1:]))
        for path in kept:
            path.rename(self.directory / f"eve.json.{int(path.suffix[1:]) + 1}")

    # The writer.

    @rule(number=st.integers(1, 4))
    def append(self, number: int) -> None:
        if self.torn:
            self.complete()
        new = [self.line() for _ in range(number)]
        self.written[-1] += new
        os.write(self.writer, b"".join(new))

    @precondition(lambda self: not self.torn)
    @rule(share=st.floats(0.1, 0.9))
    def tear(self, share: float) -> None:
        self.torn = self.line()
        self.cut = max(1, int(len(self.torn) * share))
        os.write(self.writer, self.torn[: self.cut])

    @precondition(lambda self: self.torn)
    @rule()
    def complete(self) -> None:
        os.write(self.writer, self.torn[self.cut :])
        self.written[-1].append(self.torn)
        self.torn = b""

    @rule(create=st.booleans(), late=st.integers(0, 2), read=st.booleans())
    def rotate(self, create: bool, late: int, read: bool) -> None:
        self.shift()
        self.log.rename(self.directory / "eve.json.1")
        if create:
            self.log.touch()
        if read:
            self.read(1 << 20)
        if self.torn:
            self.complete()
        if late:
            self.append(late)
        if self.written[-1]:  # a file that was empty when it was rotated is not looked at again
            self.late_writers[len(self.written) - 1] = self.writer
        else:
            os.close(self.writer)
        self.writer = self.open_log()
        self.next_file()

    def next_file(self) -> None:
        self.written.append([])
        for number in [number for number in self.late_writers if number < len(self.written) - 3]:
            os.close(self.late_writers.pop(number))

    @precondition(lambda self: self.late_writers)
    @rule(data=st.data())
    def append_late(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.late_writers)))
        line = self.line()
        self.written[number].append(line)
        os.write(self.late_writers[number], line)

    @precondition(lambda self: not self.torn)
    @rule(read=st.booleans())
    def copy_and_truncate(self, read: bool) -> None:
        self.shift()
        shutil.copy(self.log, self.directory / "eve.json.1")
        if read:
            self.read(1 << 20)
        os.truncate(self.log, 0)
        self.next_file()

    # The watcher.

    @rule(limit=st.sampled_from([1, 50, 150, 1 << 20]))
    def read(self, limit: int) -> None:
        for chunk in self.tail.read(limit):
            assert chunk.data.endswith(b"\n") or not chunk.data
            assert not chunk.discarded
            self.delivered += chunk.data.splitlines(keepends=True)

    @rule()
    def save(self) -> None:
        self.stored = json.loads(json.dumps(self.tail.positions()))
        self.durable += self.delivered
        self.delivered = []

    @rule()
    def kill(self) -> None:
        self.tail.close()
        self.delivered = []
        self.tail = self.make_tail("end")

    @rule()
    def stop_and_start(self) -> None:
        self.save()
        self.kill()

    @invariant()
    def nothing_is_lost_or_doubled_so_far(self) -> None:
        known = self.durable + self.delivered
        assert len(set(known)) == len(known)
        for lines in self.written:
            of_this_file = [line for line in known if line in lines]
            assert of_this_file == lines[: len(of_this_file)]

    def teardown(self) -> None:
        try:
            look_around(self.tail)
            before = -1
            while before != len(self.delivered):
                before = len(self.delivered)
                self.read(1 << 20)
            assert sorted(self.durable + self.delivered) == sorted(line for lines in self.written for line in lines)
        finally:
            self.tail.close()
            for writer in (self.writer, *self.late_writers.values()):
                os.close(writer)
            shutil.rmtree(self.directory)


TestFollowing = pytest.mark.feature("A2", "A3", "A4", "S9")(Following.TestCase)
TestFollowing.settings = settings(max_examples=60, stateful_step_count=30)
