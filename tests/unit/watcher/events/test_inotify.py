# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest
from ngfw.events import inotify
from ngfw.events.inotify import Inotify, lookup_directories, reports_changes


@pytest.mark.feature("A1")
def test_events_name_watch_and_kind(tmp_path: Path) -> None:
    kernel = Inotify()
    directory = kernel.add(str(tmp_path), inotify.DIRECTORY_CHANGES)
    assert kernel.read() == []
    file = tmp_path / "eve.json"
    file.touch()
    watch = kernel.add(str(file), inotify.MODIFY)
    assert kernel.add(str(file), inotify.MODIFY) == watch
    file.write_bytes(b"x\n")
    events = kernel.read()
    assert any(number == directory and mask & inotify.CREATE for number, mask in events)
    assert any(number == watch and mask & inotify.MODIFY for number, mask in events)
    kernel.remove(watch)
    kernel.remove(watch)
    file.write_bytes(b"y\n")
    assert not any(mask & inotify.MODIFY for _, mask in kernel.read())
    kernel.close()
    kernel.close()


def test_many_events_are_all_taken(tmp_path: Path) -> None:
    kernel = Inotify()
    kernel.add(str(tmp_path), inotify.CREATE)
    for number in range(3000):
        (tmp_path / f"a-rather-long-name-of-a-file-that-fills-the-buffer-{number:06}").touch()
    assert len(kernel.read()) == 3000
    assert kernel.read() == []
    kernel.close()


def test_what_cannot_be_watched_raises(tmp_path: Path) -> None:
    kernel = Inotify()
    with pytest.raises(FileNotFoundError):
        kernel.add(str(tmp_path / "missing"), inotify.MODIFY)
    kernel.close()
    with pytest.raises(OSError, match="inotify_rm_watch"):
        kernel.remove(1)


@pytest.mark.feature("A3")
def test_the_directories_that_decide_about_a_path(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    real = tmp_path / "real" / "deep"
    real.mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "log" / "eve.json").symlink_to("../real/deep/suricata.json")

    def watched(pattern: str) -> set[str]:
        return {os.path.relpath(path, tmp_path) for path in lookup_directories(str(tmp_path / pattern))}

    assert watched("log/fast.log") == {"log"}
    assert watched("log/*.json") == {"log"}
    assert watched("log/eve.json") == {"log", "real/deep"}
    assert watched("link/eve.json") == {".", "link", "real"}
    assert watched("not/yet/eve.json") == {"."}
    assert watched("log/sub/eve.json") == {"log"}
    assert watched("*/eve.json") >= {".", "log", "real"}
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert "." in watched("circle/eve.json")


MOUNTS = """\
22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/root rw
40 22 0:45 / /mnt/logs rw,relatime shared:2 - nfs4 server:/logs rw,vers=4.2
41 22 0:46 / /mnt/pod rw,relatime - overlay overlay rw
42 22 0:47 / /mnt/ssh rw,relatime - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("device", "expected"),
    [((253, 0), True), ((0, 45), False), ((0, 46), True), ((0, 47), False), ((9, 9), True)],
)
@pytest.mark.feature("A1")
def test_network_file_systems_do_not_report_changes(tmp_path: Path, device: tuple[int, int], expected: bool) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS, encoding="utf-8")
    assert reports_changes(os.makedev(*device), str(mountinfo)) is expected
    assert reports_changes(os.makedev(*device), str(tmp_path / "missing")) is True
