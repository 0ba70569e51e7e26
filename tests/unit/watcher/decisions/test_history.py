# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from ngfw.decisions import history as module
from ngfw.decisions.history import FILE, History, offences
from ngfw.firewall.address import parse_network
from ngfw.firewall.entry import Action, Block, Direction, Entry, Origin

NOW = 1_756_812_285.0
BLOCK = Block(parse_network("203.0.113.7"))
OTHERS = [
    Block(parse_network("203.0.113.8")),
    Block(parse_network("203.0.113.0/24")),
    BLOCK._replace(action=Action.LOG),
    BLOCK._replace(direction=Direction.DESTINATION),
]


def standing(created_at: float, duration: int = 1800) -> Entry:
    return Entry(BLOCK._replace(duration=duration), Origin.WATCHER, created_at, created_at + duration)


def opened(directory: Path, said: list[str] | None = None) -> History:
    told = [] if said is None else said
    history = History(directory / FILE, report=lambda text, problem: told.append(text))
    history.open()
    return history


@pytest.mark.feature("D5")
def test_blocks_are_counted_by_what_they_stop_and_survive_a_kill(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.add([BLOCK, *OTHERS], NOW, NOW - 100)
    history.add([BLOCK], NOW, NOW - 100)  # told twice, after a kill between two steps
    history.add([BLOCK], NOW + 10, NOW - 90)
    again = opened(tmp_path)  # the first was not closed
    assert again.earlier(BLOCK, NOW - 1) == 2
    assert [again.earlier(other, NOW - 1) for other in OTHERS] == [1, 1, 1, 1]
    assert again.earlier(BLOCK, NOW) == 1
    assert again.earlier(BLOCK, NOW + 10) == 0
    assert offences(tmp_path / FILE, [BLOCK.network]) == [NOW, NOW, NOW, NOW + 10]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o640


@pytest.mark.feature("D5")
def test_a_block_that_was_lifted_was_no_offence(tmp_path: Path) -> None:
    history = opened(tmp_path)
    for moment in (NOW, NOW + 100):
        history.add([BLOCK, *OTHERS], moment, 0)
    history.forgive([standing(NOW + 100)])
    assert history.earlier(BLOCK, 0) == 1
    assert history.earlier(BLOCK, NOW) == 0, "the newest one went"
    assert [history.earlier(other, 0) for other in OTHERS] == [2, 2, 2, 2]
    history.forgive([standing(NOW), standing(NOW)])
    assert history.earlier(BLOCK, 0) == 0


@pytest.mark.feature("S2", "D5")
def test_a_lifted_block_that_was_no_offence_forgives_none(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.add([BLOCK], NOW, 0)
    history.forgive([standing(NOW + 7200, 600)])  # without proof, long after the offence's own block had ended
    assert history.earlier(BLOCK, 0) == 1
    history.forgive([standing(NOW + 1700, 7200)])  # that block, made longer while it stood
    assert history.earlier(BLOCK, 0) == 0


def test_it_is_bounded_by_age_and_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PRUNE_AFTER", 1)
    monkeypatch.setattr(module, "MAX_OFFENCES", 5)
    history = opened(tmp_path)
    for number in range(20):
        history.add([BLOCK], NOW + number, NOW + number - 3)
    assert offences(tmp_path / FILE, [BLOCK.network]) == [NOW + 17, NOW + 18, NOW + 19]
    for number in range(20, 40):
        history.add([BLOCK], NOW + number, 0)
    assert offences(tmp_path / FILE, [BLOCK.network]) == [NOW + number for number in range(34, 40)]


@pytest.mark.feature("D5")
def test_more_networks_than_are_kept_in_memory_are_known_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MANY", 2)
    history = opened(tmp_path)
    for block in (BLOCK, *OTHERS):
        history.add([block], NOW, 0)
        assert history.earlier(block, 0) == 1
    again = opened(tmp_path)
    assert [again.earlier(block, 0) for block in (BLOCK, *OTHERS)] == [1] * 5
    assert again.earlier(Block(parse_network("203.0.113.9")), 0) == 0


@pytest.mark.feature("D6")
def test_a_damaged_file_is_put_aside_and_blocking_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / FILE).write_bytes(b"garbage" * 1000)
    history = opened(tmp_path, said)
    assert f"was put aside as {tmp_path / FILE}.corrupt; earlier blocks begin anew" in said[0]
    history.add([BLOCK], NOW, 0)
    assert history.earlier(BLOCK, 0) == 1
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("DROP TABLE offences")
    other.close()
    assert history.earlier(BLOCK, 0) == 0
    history.add([BLOCK], NOW, 0)
    assert "was put aside" in said[1]
    assert history.earlier(BLOCK, 0) == 0
    history.add([BLOCK], NOW, 0)
    assert history.earlier(BLOCK, 0) == 1


def test_a_place_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    history = opened(tmp_path / "missing", said)
    for number in range(3):
        history.add([BLOCK], NOW + number, 0)
    history.forgive([standing(NOW)])
    assert history.earlier(BLOCK, 0) == 0
    assert len(said) == 1
    assert "repeat offenders are not known after a restart" in said[0]
    assert offences(tmp_path / "missing" / FILE, [BLOCK.network]) == []


def test_without_a_path_it_is_in_memory() -> None:
    history = History(None, report=lambda text, problem: None)
    history.open()
    history.add([BLOCK], NOW, 0)
    assert history.earlier(BLOCK, 0) == 1
    history.close()
    assert history.earlier(BLOCK, 0) == 0
