# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ngfw.effects.state import State
from ngfw.running.loop import Loop
from ngfw.running.reader import Reader
from ngfw.settings.config import Config, LogSource


@pytest.mark.feature("A2")
def test_what_could_not_be_decided_is_left_to_the_next_start(tmp_path: Path) -> None:
    log = tmp_path / "eve.json"
    log.write_bytes(b"first\n")
    config = replace(Config.default(), sources=(LogSource(str(log)),), start_at="beginning")
    state = State(tmp_path, report=print)

    def opened(loop: Loop) -> Reader:
        reader = Reader(loop, state, config, report=print)
        reader.open(state.positions())
        return reader

    with Loop(()) as loop:
        reader = opened(loop)
        assert [chunk.data for chunk in reader.read()] == [b"first\n"]
        reader.move_if_due()
        with log.open("ab") as stream:
            stream.write(b"second\n")
        assert [chunk.data for chunk in reader.read()] == [b"second\n"]
        reader.stay()
        assert reader.positions() == state.positions(), "whoever stores them, too"
        reader.move_if_due()
        reader.move()
        reader.close()
    with Loop(()) as loop:
        reader = opened(loop)
        assert [chunk.data for chunk in reader.read()] == [b"second\n"]
        reader.close()


@pytest.mark.feature("S10")
def test_each_source_tells_how_far_it_was_read(tmp_path: Path) -> None:
    eve, fast, none = (
        LogSource(str(tmp_path / name), kind) for name, kind in (("*.json", "eve"), ("a", "fast"), ("b", "eve"))
    )
    config = replace(Config.default(), sources=(eve, fast, none), start_at="beginning")
    line = b'{"timestamp":"2026-11-22T11:09:20.936002+0000","event_type":"stats"}\n'
    (tmp_path / "1.json").write_bytes(line)
    (tmp_path / "2.json").write_bytes(b"")
    (tmp_path / "a").mkdir()
    said: list[str] = []
    with Loop(()) as loop:
        reader = Reader(loop, State(tmp_path, report=print), config, report=said.append)
        assert reader.sources() == []
        reader.open(None)
        assert [(each["path"], each["lag"], each["last_event"]) for each in reader.sources()] == [
            (eve.path, len(line), None),
            (fast.path, 0, None),
            (none.path, 0, None),
        ]
        while reader.read():
            pass
        states = reader.sources()
        assert [(each["lag"], each["last_event"]) for each in states] == [(0, 1795345760.936002), (0, None), (0, None)]
        assert [each["problem"] for each in states] == ["", f"{fast.path}: not a regular file", ""]
        assert reader.lag() == 0
        assert sorted(text.partition(";")[0] for text in said) == [
            f"{fast.path}: not a regular file",
            f"source {none.path}: does not exist",
        ]
        reader.adopt(replace(config, sources=(none,)))
        assert [each["path"] for each in reader.sources()] == [none.path]
        reader.close()


@pytest.mark.feature("S3")
def test_what_is_read_with_care_is_not_looked_into_for_the_status(tmp_path: Path) -> None:
    """It may be what earlier runs died at."""
    log = LogSource(str(tmp_path / "eve.json"))
    Path(log.path).write_bytes(b'{"timestamp":"2026-11-22T11:09:20.936002+0000","event_type":"stats"}\n')
    config = replace(Config.default(), sources=(log,), start_at="beginning")
    with Loop(()) as loop:
        reader = Reader(loop, State(tmp_path, report=print), config, report=print)
        reader.open(None)
        while reader.read(512):
            pass
        (state,) = reader.sources()
        assert (state["lag"], state["last_event"]) == (0, None)
        reader.close()
