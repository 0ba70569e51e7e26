# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ngfw.display.status import source_lines, source_states
from ngfw.effects.wording import local_time
from ngfw.settings.config import LogSource

EVENT = '{"timestamp":"2026-11-22T11:09:20.936002+0000","event_type":"stats"}\n'


def told(path: Path, alive: bool = True, problem: str = "") -> dict[str, Any]:
    """What the watcher wrote about itself."""
    source = {"path": str(path), "format": "eve", "lag": 12, "last_event": 1795345760.9, "problem": problem}
    return {"alive": alive, "sources": [source]}


@pytest.mark.feature("S10")
def test_a_line_for_each_source(tmp_path: Path) -> None:
    eve, fast = tmp_path / "eve.json", tmp_path / "fast.log"
    eve.write_text(EVENT)
    states = source_states([LogSource(str(eve)), LogSource(str(fast), "fast")], told(eve))
    assert states[0] == {
        "path": str(eve),
        "format": "eve",
        "exists": True,
        "problem": "",
        "lag": 12,
        "last_event": 1795345760.9,
    }
    assert (states[1]["exists"], states[1]["lag"], states[1]["last_event"]) == (False, None, None)
    first, second = source_lines(states)
    time = local_time(1795345760.9)
    assert first == f"source    {eve}: exists, format eve, lag 12 bytes, last event {time}"
    assert second.startswith(
        f"source    {fast}: does not exist, format fast, lag -, last event -; name the log that Suricata writes"
    )


@pytest.mark.feature("S10")
def test_what_is_wrong_with_a_source_is_said(tmp_path: Path) -> None:
    log = tmp_path / "eve.json"
    log.write_text(EVENT)
    (state,) = source_states([LogSource(str(log), "fast")], {"alive": False})
    assert state["problem"].startswith("holds lines of EVE, not of fast.log")
    assert "; holds lines of EVE, not of fast.log; write 'format: eve'" in source_lines([state])[0]


def test_what_only_the_watcher_sees_is_said_while_it_lives(tmp_path: Path) -> None:
    log = tmp_path / "eve.json"
    log.write_text(EVENT)
    said = f"{log}: Permission denied"
    for alive in (True, False):
        (state,) = source_states([LogSource(str(log))], told(log, alive, said))
        assert (state["problem"], state["lag"]) == ((said, 12) if alive else ("", None))
        assert state["last_event"] == 1795345760.9


@pytest.mark.feature("S1")
@pytest.mark.parametrize("sources", [5, "text", ["text"], [{"lag": 1}], [{"path": []}], {"path": 1}, None])
def test_what_a_lesser_user_wrote_of_sources_is_not_relied_on(tmp_path: Path, sources: Any) -> None:
    log = tmp_path / "eve.json"
    log.write_text(EVENT)
    (state,) = source_states([LogSource(str(log))], {"alive": True, "sources": sources})
    assert (state["problem"], state["lag"], state["last_event"]) == ("", None, None)
