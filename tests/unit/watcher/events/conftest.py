# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs that are written and followed; and the corpus of real Suricata output: `../shared/data`, or NGFW_DATA."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from ngfw.events import watches
from ngfw.events.tail import Chunk, Source, Tail

_ROOT = Path(__file__).parents[4]
_DATA = Path(os.environ.get("NGFW_DATA", _ROOT.parent / "shared" / "data"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `corpus_folder` once for each recorded run."""
    if "corpus_folder" in metafunc.fixturenames:
        folders = sorted(path.parent for path in (_DATA / "suricata").glob("*/eve.json"))
        absent = pytest.param(None, marks=pytest.mark.skip(f"no recorded Suricata output in {_DATA}"), id="absent")
        metafunc.parametrize("corpus_folder", [pytest.param(f, id=f.name) for f in folders] or [absent])


_NUMBERS = count()


def lines(number: int) -> bytes:
    """Whole lines, no two alike anywhere, each with its own start as logs have it."""
    return b"".join(b'{"timestamp":"%08d","padding":"%s"}\n' % (next(_NUMBERS), b"x" * 60) for _ in range(number))


def append(path: Path, data: bytes) -> bytes:
    with path.open("ab") as file:
        file.write(data)
    return data


def write(path: Path, number: int = 1) -> bytes:
    return append(path, lines(number))


def rest(tail: Tail, limit: int = 1 << 20) -> bytes:
    return b"".join(chunk.data for chunk in chunks(tail, limit))


def chunks(tail: Tail, limit: int = 1 << 20) -> list[Chunk]:
    found: list[Chunk] = []
    while True:
        step = tail.read(limit)
        if not step:
            return found
        found += step


def readable(tail: Tail, seconds: float = 0) -> bool:
    return bool(select.select([tail.fileno()], [], [], seconds)[0])


def look_around(tail: Tail) -> None:
    """As after the second that may pass until it looks around without being told to."""
    tail._looked = -10.0


def shift(log: Path) -> None:
    """Rename rotation as logrotate does it, with any number of old files."""
    kept = sorted(log.parent.glob(f"{log.name}.*"), key=lambda path: -int(path.suffix[1:]))
    for path in kept:
        path.rename(log.parent / f"{log.name}.{int(path.suffix[1:]) + 1}")


class Opener:
    """Makes Tails over one directory and closes them; what they report is in `said`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: list[str] = []
        self.tails: list[Tail] = []

    def __call__(self, *patterns: str, positions: Any = None, start_at: str = "end", log_format: str = "eve") -> Tail:
        sources = [Source(str(self.directory / pattern), log_format) for pattern in patterns or ("eve.json",)]
        stored = None if positions is None else json.loads(json.dumps(positions))
        self.tails.append(Tail(sources, stored, start_at, report=self.said.append))
        return self.tails[-1]

    def close(self) -> None:
        for tail in self.tails:
            tail.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    opener = Opener(tmp_path)
    yield opener
    opener.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "eve.json"


@pytest.fixture(params=["inotify", "polling"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to notice a change; a test that asks for it runs with each."""
    if request.param == "polling":

        def refuse() -> None:
            raise OSError(24, "no more instances")

        monkeypatch.setattr(watches, "Inotify", refuse)
    return str(request.param)
