# SPDX-License-Identifier: GPL-3.0-or-later
"""A source that is not what the configuration says is named, with what to do; nothing waits for it."""

from __future__ import annotations

import json
import os
import pwd
import socket
import tempfile
from pathlib import Path

import pytest
from ngfw.events import sources
from ngfw.events.sources import examine

EVE = b'{"timestamp":"2026-11-22T11:09:20.936002+0000","event_type":"stats","stats":{}}\n'
FAST = b"11/22/2026-11:09:20.936002  [**] [1:1000001:1] TEST [**] [Priority: 3] {ICMP} 192.0.2.1:8 -> 192.0.2.2:0\n"

pytestmark = pytest.mark.feature("S10")


@pytest.fixture(autouse=True)
def suricata_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "suricata.yaml"
    monkeypatch.setattr(sources, "_SURICATA_CONFIG", str(path))
    return path


def log(directory: Path, data: bytes, name: str = "eve.json") -> str:
    path = directory / name
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    ("log_format", "data"),
    [
        ("eve", b""),
        ("eve", EVE),
        ("eve", b"@cee: " + EVE),
        ("eve", b"\0" * 5000 + EVE),
        ("eve", b"torn\n" + EVE),
        ("eve", EVE[:50]),
        ("eve", EVE + b'{"event_type":"fileinfo","long":"' + b"x" * 2_000_000),
        ("fast", FAST),
        ("fast", FAST.replace(b"192.0.2.2:0", b"nobody")),
        ("fast", b""),
    ],
)
def test_what_is_as_named_is_left_alone(tmp_path: Path, log_format: str, data: bytes) -> None:
    path = log(tmp_path, data)
    assert examine(path, log_format) == (path, log_format, (path,), "")


@pytest.mark.parametrize(
    ("log_format", "data", "problem"),
    [
        ("eve", FAST, "holds lines of fast.log, not of EVE; write 'format: fast' or name another file"),
        ("fast", EVE, "holds lines of EVE, not of fast.log; write 'format: eve' or name another file"),
        ("eve", os.urandom(5000), "holds no lines of EVE; name the log that Suricata writes in this format"),
        ("eve", b"\x7fELF", "holds no lines of EVE"),
        ("eve", b'{"time":1}\n', "holds no lines of EVE"),
        ("fast", b"Nov 22 11:09:20 host sshd[1]: bye\n", "holds no lines of fast.log"),
    ],
)
def test_another_format_is_named(tmp_path: Path, log_format: str, data: bytes, problem: str) -> None:
    found = examine(log(tmp_path, data), log_format)
    assert found.exists
    assert found.problem.startswith(problem)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        kinds = {name: examine(str(tmp_path / name), "eve").problem.partition(";")[0] for name in ("fifo", "socket")}
    kinds["."] = examine(str(tmp_path), "eve").problem.partition(";")[0]
    kinds["/dev/zero"] = examine("/dev/zero", "eve").problem.partition(";")[0]
    assert kinds == {"fifo": "is a FIFO", "socket": "is a socket", ".": "is a directory", "/dev/zero": "is a device"}


def test_a_typing_error_gets_a_suggestion(tmp_path: Path) -> None:
    path = log(tmp_path, EVE)
    found = examine(str(tmp_path / "eve.jsno"), "eve")
    assert found == (str(tmp_path / "eve.jsno"), "eve", (), f"does not exist; did you mean {path}?")


def test_where_suricata_writes_by_its_own_configuration_is_suggested(tmp_path: Path, suricata_config: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = log(tmp_path / "elsewhere", EVE)
    suricata_config.write_text(f"%YAML 1.1\n---\ndefault-log-dir: {tmp_path}/elsewhere/  # moved\n")
    found = examine(str(tmp_path / "none" / "eve.json"), "eve")
    assert found.problem == f"does not exist; did you mean {path}?"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert f"nor does {tmp_path}/none" in examine(f"{tmp_path}/none/a.log", "eve").problem


def test_a_dangling_link_and_a_file_as_directory_do_not_exist(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    log(tmp_path, EVE)
    for name in ("link", "eve.json/x"):
        found = examine(str(tmp_path / name), "eve")
        assert not found.exists
        assert found.problem.startswith("does not exist")


def test_a_glob_speaks_for_all_of_its_files(tmp_path: Path) -> None:
    pattern = str(tmp_path / "eve.*.json")
    assert examine(pattern, "eve").problem.startswith("matches no file yet")
    good = log(tmp_path, EVE, "eve.1.json")
    log(tmp_path, b"packed", "eve.1.json.gz")
    assert examine(pattern, "eve") == (pattern, "eve", (good,), "")
    bad = log(tmp_path, FAST, "eve.2.json")
    found = examine(pattern, "eve")
    assert found.files == (good, bad)
    assert found.problem.startswith(f"{bad} holds lines of fast.log")


def test_a_file_that_the_watcher_may_not_read_is_named(tmp_path: Path) -> None:
    path = log(tmp_path, EVE)
    assert examine(path, "eve", lambda _path: True).problem == ""
    assert examine(path, "eve", lambda _path: False).problem.startswith("cannot be read by the watcher; let its user")


def test_every_line_of_the_recorded_output_is_as_named(corpus_folder: Path) -> None:
    events = [json.loads(line) for line in (corpus_folder / "eve.json").read_bytes().splitlines()[-5:]]
    assert events
    assert examine(str(corpus_folder / "eve.json"), "eve").problem == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask for somebody else")
def test_a_file_is_tried_as_the_watchers_user() -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as name:
        directory, path = Path(name), Path(name, "eve.json")
        path.touch(0o644)
        directory.chmod(0o755)
        assert sources._can_read(nobody, str(path))
        path.chmod(0o600)
        assert not sources._can_read(nobody, str(path))
        path.chmod(0o644)
        directory.chmod(0o700)
        assert not sources._can_read(nobody, str(path))
