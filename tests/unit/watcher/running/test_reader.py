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
