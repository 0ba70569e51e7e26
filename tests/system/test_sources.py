# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs under a running watcher: lines that come late into a rotated file, and sources that are not as meant."""

from __future__ import annotations

import gzip
import json
import os
import signal
from pathlib import Path

import pytest

from ..namespace import wait_until
from .conftest import Watcher, alert


def decided(watcher: Watcher, number: int) -> bool:
    return any(each["sid"] == number for each in watcher.decisions())


def append(path: Path, *lines: str) -> None:
    with path.open("a") as stream:
        stream.write("".join(lines))


@pytest.mark.feature("S9", "A2", "A3")
def test_a_line_that_comes_late_blocks_once_over_a_kill(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.1", 1))
    wait_until(lambda: decided(watcher, 1))
    old = watcher.log.with_name("eve.json.1")
    watcher.log.rename(old)
    watcher.log.touch()
    watcher.write(alert("198.51.100.2", 2))
    wait_until(lambda: decided(watcher, 2))
    append(old, alert("198.51.100.3", 3))
    wait_until(lambda: decided(watcher, 3))
    watcher.stop(signal.SIGKILL)
    append(old, alert("198.51.100.4", 4))
    watcher.start()
    append(old, alert("198.51.100.5", 5))
    watcher.write(alert("198.51.100.6", 6))
    for number in (4, 5, 6):
        wait_until(lambda number=number: decided(watcher, number))  # type: ignore[misc]
    assert sorted(each["sid"] for each in watcher.decisions()) == [1, 2, 3, 4, 5, 6]
    assert watcher.blocked() == {f"198.51.100.{number}" for number in range(1, 7)}


@pytest.mark.feature("S9", "A2")
def test_what_was_packed_while_it_was_down_blocks_once(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.1", 1))
    wait_until(lambda: decided(watcher, 1))
    watcher.stop()
    watcher.write(alert("198.51.100.2", 2))
    watcher.log.with_name("eve.json-20261130.gz").write_bytes(gzip.compress(watcher.log.read_bytes()))
    watcher.log.unlink()
    watcher.write(alert("198.51.100.3", 3))
    watcher.start()
    wait_until(lambda: decided(watcher, 3))
    assert [each["sid"] for each in watcher.decisions()] == [1, 2, 3]


@pytest.mark.feature("S10")
def test_sources_that_are_not_as_meant_are_named(watcher: Watcher) -> None:
    names = {"typo": "eve.jsno", "pipe": "pipe", "directory": "state", "fast": "fast.log"}
    paths = {name: str(watcher.directory / file) for name, file in names.items()}
    os.mkfifo(paths["pipe"])
    Path(paths["fast"]).write_text(alert("198.51.100.9"))
    sources = [{"path": str(watcher.log)}, *({"path": paths[name]} for name in ("typo", "pipe", "directory"))]
    watcher.configure(sources=[*sources, {"path": paths["fast"], "format": "fast"}])
    wrong = {
        "typo": f"does not exist; did you mean {watcher.log}?",
        "pipe": "FIFO",
        "directory": "directory",
        "fast": "holds lines of EVE, not of fast.log; write 'format: eve'",
    }
    watcher.state.mkdir()
    done = watcher.command("check")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("warning: source")]
    assert len(lines) == len(wrong)
    for name, text in wrong.items():
        assert [text in line for line in lines if f"source {paths[name]}: " in line] == [True]

    watcher.start()
    watcher.write(alert("198.51.100.1"))
    wait_until(lambda: watcher.decisions())
    for path in paths.values():
        assert len(watcher.lines("daemon.log", f"{path}: ")) == 1

    def told() -> bool:
        found = json.loads(watcher.command("status", "--json").stdout)["sources"]
        return bool(found[0]["last_event"]) and found[0]["lag"] == 0

    wait_until(told)
    states = {each["path"]: each for each in json.loads(watcher.command("status", "--json").stdout)["sources"]}
    assert [states[paths[name]]["exists"] for name in wrong] == [False, True, True, True]
    for name, text in wrong.items():
        assert text in states[paths[name]]["problem"]
    assert states[str(watcher.log)]["problem"] == ""
    shown = [line for line in watcher.command("status").stdout.splitlines() if line.startswith("source ")]
    assert len(shown) == len(states)
    assert f"source    {watcher.log}: exists, format eve, lag 0 bytes, last event 20" in shown[0]
    assert f"source    {paths['typo']}: does not exist, format eve, lag 0 bytes, last event -; did you mean" in shown[1]
