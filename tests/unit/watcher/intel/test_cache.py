# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from ngfw.firewall.address import parse_host
from ngfw.intel.cache import FILE, Fact, Known, Memory, Store, Unfinished, look

ADDRESS, OTHER = parse_host("203.0.113.7"), parse_host("2001:db8::1")


class Kept:
    """A store in a directory, and what it reported."""

    def __init__(self, directory: Path) -> None:
        self.said: list[str] = []
        self.store = Store(directory / FILE, report=lambda text, problem: self.said.append(text))
        self.kept = self.store.load()


def test_everything_survives(tmp_path: Path) -> None:
    store = Kept(tmp_path).store
    store.put_result(ADDRESS, Known(90, 1000.5))
    store.put_result(OTHER, Known(0, 900.0))
    store.put_lookup(Unfinished(3, ADDRESS, 1001.0, {"rule": "text \u00e9 \udc80"}))
    store.put_lookup(Unfinished(4, OTHER, 1002.0, {}))
    store.drop_lookup(4)
    for at in (900.0, 1000.0, 1001.0):
        store.put_spent(at, at - 60)
    store.drop_spent(1001.0)
    store.put_fact("day", Fact(2, "20000"))
    store.commit()  # and then the process is killed
    again = Kept(tmp_path)
    assert again.kept.results == [(OTHER, Known(0, 900.0)), (ADDRESS, Known(90, 1000.5))]
    assert again.kept.lookups == [Unfinished(3, ADDRESS, 1001.0, {"rule": "text \u00e9 \udc80"})]
    assert again.kept.spent == [1000.0]
    assert again.kept.facts == {"day": Fact(2, "20000")}
    assert again.said == []
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o640
    again.store.drop_result(OTHER)
    again.store.close()
    assert Kept(tmp_path).kept.results == [(ADDRESS, Known(90, 1000.5))]


@pytest.mark.feature("D6")
@pytest.mark.parametrize(
    "damage", ["garbage", "empty table", "other version", "truncated", "odd values", "odd address", "other file"]
)
def test_a_damaged_file_is_put_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / FILE
    store = Kept(tmp_path).store
    for number in range(2000):
        store.put_lookup(Unfinished(number, ADDRESS, 1.0, {"key": "x" * 100}))
    store.close()
    if damage in ("garbage", "truncated"):
        data = path.read_bytes()
        path.write_bytes(b"garbage" * 1000 if damage == "garbage" else data[: len(data) // 2])
    else:
        with sqlite3.connect(path) as database:
            statement = {
                "empty table": "DROP TABLE results",
                "other version": "PRAGMA user_version = 77",
                "odd values": "UPDATE lookups SET cases = '[1]' WHERE id = 7",
                "odd address": "UPDATE lookups SET address = x'0102' WHERE id = 7",
                "other file": "ALTER TABLE lookups RENAME COLUMN cases TO other",
            }[damage]
            database.execute(statement)
        database.close()
    fresh = Kept(tmp_path)
    assert len(fresh.said) == 1
    assert f"was put aside as {path}.corrupt; lookups begin anew" in fresh.said[0]
    assert fresh.kept.results == fresh.kept.lookups == []
    assert (tmp_path / f"{FILE}.corrupt").exists()
    fresh.store.put_result(ADDRESS, Known(1, 1.0))
    fresh.store.close()
    assert len(Kept(tmp_path).kept.results) == 1


def test_damage_that_shows_later(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("DROP TABLE results")
    other.close()
    kept.store.put_result(ADDRESS, Known(1, 1.0))
    kept.store.commit()
    assert "was put aside" in kept.said[0]
    kept.store.put_result(ADDRESS, Known(2, 2.0))
    kept.store.close()
    assert Kept(tmp_path).kept.results == [(ADDRESS, Known(2, 2.0))]


def test_a_place_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "missing")
    for score in (1, 2):
        kept.store.put_result(ADDRESS, Known(score, 1.0))
        kept.store.commit()
    kept.store.close()
    assert len(kept.said) == 1
    assert "lookups go on, but a restart will not know them" in kept.said[0]


def test_a_file_that_somebody_holds_is_written_again_later(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    kept.store.put_result(ADDRESS, Known(1, 1.0))
    kept.store.put_result(OTHER, Known(1, 1.0))
    kept.store.commit()
    assert "database is locked" in kept.said[0]
    other.execute("COMMIT")
    kept.store.put_result(ADDRESS, Known(2, 2.0))
    kept.store.commit()
    assert kept.said[1:] == [f"{tmp_path / FILE} can be written again"]
    assert Kept(tmp_path).kept.results == [(ADDRESS, Known(2, 2.0))]


def test_a_full_disk_is_said_once_and_nothing_breaks(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    database = kept.store._database.connection
    assert database is not None
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(500):
        kept.store.put_lookup(Unfinished(number, ADDRESS, 1.0, {"key": "x" * 1000}))
        kept.store.commit()
    assert len(kept.said) == 1
    assert "full" in kept.said[0]
    database.execute("PRAGMA max_page_count = 100000")
    kept.store.put_result(ADDRESS, Known(2, 2.0))
    kept.store.close()
    assert len(Kept(tmp_path).kept.results) == 1


def test_others_can_look_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / FILE
    assert look(path, ADDRESS) == Memory(None, None)
    store = Kept(tmp_path).store
    store.put_result(ADDRESS, Known(90, 1000.0))
    store.put_lookup(Unfinished(1, OTHER, 1001.0, {}))
    assert look(path, ADDRESS) == Memory(None, None)
    store.commit()
    assert look(path, ADDRESS) == Memory(Known(90, 1000.0), None)
    assert look(path, OTHER) == Memory(None, 1001.0)
    store.close()
    path.write_bytes(b"garbage")
    assert look(path, ADDRESS) == Memory(None, None)
