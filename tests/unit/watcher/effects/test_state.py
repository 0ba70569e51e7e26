# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ngfw.effects.intent import Intent, Item, merged
from ngfw.effects.journal import Mark
from ngfw.effects.state import CURSOR, PENDING, State, StateError, holder
from ngfw.firewall.address import parse_network
from ngfw.firewall.entry import Action, Block
from ngfw.firewall.errors import UnsafeFile

from .conftest import end

BLOCK = Block(parse_network("2001:db8::/64"), Action.RATE_LIMIT, duration=60, rate="5/second", burst=7)
INTENT = Intent(
    positions={"/var/log/eve.json": {"inode": 5, "offset": 10}},
    alerts="alert \ud800 line\n",
    items=[Item(BLOCK, end("2001:db8::/64")), Item(None, end("203.0.113.7"))],
    marks={"blocks.log": Mark(1, 2), "alerts.json": None},
    written_at=1756812285.25,
)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def state(tmp_path: Path, said: list[str]) -> State:
    found = State(tmp_path / "state", report=said.append)
    found.lock()
    return found


@pytest.mark.feature("A2")
def test_pending_becomes_the_cursor(state: State) -> None:
    assert state.positions() is None
    assert state.pending() is None
    state.move({"a": 1})
    for _turn in range(20):  # from the second time on in a file that was made beforehand
        state.announce([INTENT])
        assert state.pending() == INTENT
        assert state.positions() == {"a": 1}
        state.commit()
        assert state.pending() is None
        assert state.positions() == INTENT.positions
        state.move({"a": 1})


@pytest.mark.feature("A2")
def test_further_batches_are_added_to_pending(state: State) -> None:
    other = replace(INTENT, positions={"b": 2}, alerts="", items=INTENT.items[1:])
    for _turn in range(3):
        state.announce([INTENT])
        state.announce([other], anew=False)
        assert state.pending() == merged([INTENT, other])
        state.announce([other])
        assert state.pending() == other, "anew"
        state.commit()
        assert state.positions() == {"b": 2}
        assert (state.directory / PENDING).read_bytes().isspace()


@pytest.mark.feature("A2")
@pytest.mark.parametrize("committed", [False, True], ids=["at the start", "after a batch"])
def test_a_batch_whose_announcement_was_cut_off_is_none(state: State, said: list[str], committed: bool) -> None:
    """However far it came, in the file that is made beforehand, too."""
    state.move({"a": 1})
    if committed:
        state.announce([INTENT])
        state.commit()
    path, data = state.directory / PENDING, INTENT.encode()
    blank = path.read_bytes() if committed else b""
    assert blank.isspace() is committed
    for size in range(len(data)):
        path.write_bytes(data[:size] + blank[size:])
        assert state.pending() is None
    assert state.positions() == (INTENT.positions if committed else {"a": 1})
    path.write_bytes(data + blank[len(data) :])
    assert state.pending() == INTENT
    assert said == []


@pytest.mark.feature("A2", "D6")
@pytest.mark.parametrize("room", [0, 1, 100])
def test_what_could_not_be_added_leaves_the_rest_as_it_is(
    state: State, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """As on a full disk, which takes a part of what is written."""
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if not data[:room] or len(data) < len(other.encode()):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:room], offset)

    other = replace(INTENT, positions={"b": 2})
    state.announce([INTENT])
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        state.announce([other], anew=False)
    monkeypatch.undo()
    assert (state.directory / PENDING).read_bytes() == INTENT.encode()
    state.announce([other], anew=False)
    assert state.pending() == merged([INTENT, other])
    state.commit()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        state.announce([INTENT])
    monkeypatch.undo()
    assert state.pending() is None
    assert state.positions() == {"b": 2}
    state.announce([INTENT])
    assert state.pending() == INTENT


SPECIAL = {
    "a FIFO": os.mkfifo,
    "a symbolic link": lambda path: path.symlink_to("/dev/zero"),
    "a directory": lambda path: path.mkdir(),
    "larger than 512 MiB": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.mark.feature("S1")
@pytest.mark.parametrize("name", [CURSOR, PENDING])
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_of_ours_is_put_aside(
    state: State, tmp_path: Path, said: list[str], name: str, kind: str
) -> None:
    SPECIAL[kind](state.directory / name)
    assert state.load(name, bytes) is None
    assert f"{name} is {kind}" in said[0]
    assert f"was put aside as {state.directory / name}.corrupt; blocks in the kernel stay" in said[0]
    assert not os.path.lexists(state.directory / name)


@pytest.mark.feature("S1")
@pytest.mark.parametrize("kind", [kind for kind in SPECIAL if kind != "a directory"])
def test_what_lies_where_a_file_is_written_first_is_not_written_to(state: State, tmp_path: Path, kind: str) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    for name in ("cursor.new", "pending.new", "pending"):
        SPECIAL[kind](state.directory / name)
    os.link(precious, state.directory / "more.new")
    state.move({"/log": {"inode": 1}})
    state.announce([INTENT])
    state.keep("more", b"text")
    state.commit()
    assert state.positions() == INTENT.positions
    assert precious.read_bytes() == b"precious"


@pytest.mark.feature("S1")
@pytest.mark.parametrize("kind", SPECIAL)
def test_a_lock_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    SPECIAL[kind](tmp_path / "lock")
    if kind.startswith("larger"):
        assert holder(tmp_path) is None
        return
    with pytest.raises(StateError, match=f"lock is {kind}.*; remove it"):
        State(tmp_path, report=lambda text: None).lock()
    with pytest.raises(UnsafeFile):
        holder(tmp_path)


@pytest.mark.feature("S1")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_does_not_write_in_a_directory_of_the_services_user(tmp_path: Path) -> None:
    os.chown(tmp_path, 54321, 54321)
    with pytest.raises(StateError, match="belongs to user 54321, and root does not write there; start the service"):
        State(tmp_path, report=lambda text: None).lock()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.feature("D6")
@pytest.mark.parametrize(
    "content",
    [
        b"\x00" * 100,
        b"[]",
        b"null",
        b'{"version": 2, "positions": {}}',
        b'{"positions": {}}',
        b'{"version": 1, "positions": []}',
        b'{"version": 1, "positi',
        b"[" * 100_000,
        INTENT.encode()[:-1].replace(b"2001:db8::/64", b"nonsense"),
        INTENT.encode()[:-1].replace(b"rate_limit", b"nonsense"),
        INTENT.encode()[:-3],
    ],
)
def test_a_damaged_file_is_put_aside(state: State, tmp_path: Path, said: list[str], content: bytes) -> None:
    path = tmp_path / "state" / PENDING
    content += b"\n"
    path.write_bytes(content)
    assert state.pending() is None
    assert not path.exists()
    assert path.with_name("pending.corrupt").read_bytes() == content
    assert len(said) == 1
    assert "damaged" in said[0]
    assert state.pending() is None
    assert len(said) == 1


@pytest.mark.feature("D6")
def test_a_damaged_cursor_is_put_aside_and_replaced(state: State, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "state" / CURSOR).write_bytes(b"garbage")
    assert state.positions() is None
    assert "put aside" in said[0]
    state.move({"a": 1})
    assert state.positions() == {"a": 1}


@pytest.mark.feature("D6")
def test_files_are_replaced_never_rewritten(state: State, tmp_path: Path) -> None:
    state.move({"a": 1})
    path = tmp_path / "state" / CURSOR
    with path.open("rb") as before:
        state.move({"a": 2})
        assert json.loads(before.read())["positions"] == {"a": 1}
    assert sorted(each.name for each in path.parent.iterdir()) == ["cursor", "lock"]
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.feature("A9")
def test_a_second_instance_is_refused_by_name(state: State, tmp_path: Path) -> None:
    second = State(tmp_path / "state", report=lambda text: None)
    with pytest.raises(StateError, match=f"another watcher \\(process {os.getpid()}\\) already works on"):
        second.lock()
    assert holder(tmp_path / "state") == os.getpid()
    state.unlock()
    assert holder(tmp_path / "state") is None
    second.lock()


def test_nobody_holds_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert holder(tmp_path / "none") is None


@pytest.mark.feature("A9")
def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); from ngfw.effects.state import State\n"
        "State(pathlib.Path(sys.argv[2]), report=print).lock(); print('held', flush=True); sys.stdin.read()"
    )
    package_root = Path(sys.modules["ngfw"].__file__ or "").parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", code, package_root, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert holder(tmp_path) == other.pid
        other.kill()
        other.wait()
    State(tmp_path, report=print).lock()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_directory_says_what_to_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StateError, match="state_directory"):
        State(tmp_path / "state", report=print).lock()


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot use the state directory"):
        State(tmp_path / "file", report=print).lock()


@pytest.mark.feature("S3")
def test_the_next_run_knows_how_the_last_one_ended(tmp_path: Path) -> None:
    def run(*steps: str) -> tuple[bool, int]:
        state = State(tmp_path, report=print)
        state.lock()
        for step in steps:
            if step == "end":
                state.ended()
            else:
                state.hold(int(step))
        state.unlock()
        return state.died, state.lost

    assert run("end") == (False, 0)
    assert run() == (False, 0)
    assert run("5000000000", "end") == (True, 0)
    assert run("7", "0", "end") == (False, 5_000_000_000)
    assert run("77") == (False, 0)
    assert run("end") == (True, 77)
    (tmp_path / "lock").write_text("4711\n")  # as an earlier version left it
    assert run("end") == (True, 0)
    (tmp_path / "lock").write_bytes(b"\xff" * 100)
    assert run("end") == (True, 0)
    assert run("end") == (False, 0)


@pytest.mark.feature("S3")
@pytest.mark.parametrize("damaged", [False, True])
def test_an_announcement_that_is_given_up_is_out_of_the_way(state: State, damaged: bool) -> None:
    state.announce([INTENT])
    if damaged:
        (state.directory / PENDING).write_bytes(b"[" * 100_000 + b"\n")
    aside = state.give_up()
    assert aside.exists()
    assert state.pending() is None
    assert state.positions() == (None if damaged else INTENT.positions)


@pytest.mark.feature("S3")
def test_what_another_run_left_outside_the_directory_stops_no_start(tmp_path: Path) -> None:
    state = State(tmp_path / "state", report=print, run_directory=tmp_path / "run")
    state.lock()
    state.leave(INTENT.positions)
    (left,) = (tmp_path / "run").glob("*.cursor")
    left.write_bytes(b"[" * 100_000 + b"\n")
    assert state.positions() is None
