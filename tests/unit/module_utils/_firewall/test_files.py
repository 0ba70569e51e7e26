# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
import stat
import time

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import files
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import FirewallError, UnsafeFile

OTHER = 54321
"""Nobody's number."""

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def shared(tmp_path):
    """A directory that others may write as well."""
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o770)
    return directory


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # the name of a socket is short
        server.bind(path.name)


SPECIAL = {
    "a symbolic link": lambda path, other: path.symlink_to(other),
    "a dangling link": lambda path, other: path.symlink_to(path.with_name("missing")),
    "a link to itself": lambda path, other: path.symlink_to(path.name),
    "a link to a device": lambda path, other: path.symlink_to("/dev/zero"),
    "a FIFO": lambda path, other: os.mkfifo(path),
    "a directory": lambda path, other: path.mkdir(),
    "a socket": lambda path, other: make_socket(path),
}


@pytest.fixture(params=SPECIAL)
def special(request, shared, tmp_path, monkeypatch):
    """What no file of ours is, and a file elsewhere that must stay as it is."""
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    SPECIAL[request.param](shared / "file", other)
    yield shared / "file"
    assert other.read_bytes() == b"precious"
    assert not (shared / "missing").exists()


@pytest.mark.feature("S1")
@pytest.mark.parametrize(
    "work",
    [
        lambda path: files.read_bytes(path, 100),
        lambda path: files.read_bytes(path, 100, follow=True),
        files.open_for_reading,
        lambda path: files.open_descriptor(path, os.O_RDWR),
        lambda path: files.open_descriptor(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
        lambda path: files.open_descriptor(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT),
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(special, work):
    with pytest.raises(UnsafeFile, match=r"file is .*remove") as caught:
        work(special)

    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, FirewallError)
    assert caught.value.filename == str(special)
    assert "is " in caught.value.strerror


@pytest.mark.feature("S1")
def test_it_is_replaced_all_the_same_but_for_a_directory(special):
    if special.is_dir():
        with pytest.raises(UnsafeFile, match="is a directory"):
            files.replace(special, b"new")
        assert [each.name for each in special.parent.iterdir()] == ["file"]
    else:
        files.replace(special, b"new")
        assert special.read_bytes() == b"new"
        assert not special.is_symlink()


@pytest.mark.feature("S1")
def test_it_is_put_aside_as_it_is(special):
    kind = os.lstat(special).st_mode

    aside = files.put_aside(special)

    assert aside.name == "file.corrupt"
    assert os.lstat(aside).st_mode == kind
    assert [each.name for each in special.parent.iterdir()] == ["file.corrupt"]


def test_a_file_is_read_up_to_a_limit(shared):
    (shared / "file").write_bytes(b"12345")

    assert files.read_bytes(shared / "file", 5) == b"12345"
    with pytest.raises(UnsafeFile, match="is larger than 4 bytes; nothing here writes so much"):
        files.read_bytes(shared / "file", 4)


@pytest.mark.feature("S1")
def test_a_huge_file_is_not_read_at_all(shared):
    with (shared / "file").open("wb") as stream:
        stream.truncate(1 << 42)

    with pytest.raises(UnsafeFile, match="is larger than 2 MiB"):
        files.read_bytes(shared / "file", 2 << 20)


def test_a_missing_file_is_a_missing_file(tmp_path):
    for path in (tmp_path / "file", tmp_path / "missing" / "file"):
        with pytest.raises(FileNotFoundError) as caught:
            files.read_bytes(path, 10)
        assert caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as caught:
        files.replace(tmp_path / "missing" / "file", b"")
    assert str(tmp_path / "missing") in caught.value.filename


def test_a_file_on_the_way_is_no_directory(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(NotADirectoryError):
        files.read_bytes(tmp_path / "file" / "more", 10)


def test_relative_paths_and_dots_are_followed(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_bytes(b"1")
    monkeypatch.chdir(tmp_path / "sub")

    assert files.read_bytes(files.Path("../sub/.././file"), 10) == b"1"


def test_links_that_nobody_else_can_have_made_are_followed_where_that_is_meant(tmp_path):
    target = tmp_path / "real"
    target.mkdir()
    (target / "file").write_bytes(b"1")
    (tmp_path / "absolute").symlink_to(target)
    (tmp_path / "relative").symlink_to("absolute/../real/file")

    assert files.read_bytes(tmp_path / "absolute" / "file", 10) == b"1"
    assert files.read_bytes(tmp_path / "relative", 10, follow=True) == b"1"
    with pytest.raises(UnsafeFile, match="is a symbolic link"):
        files.read_bytes(tmp_path / "relative", 10)
    files.replace(tmp_path / "absolute" / "file", b"2")
    assert (target / "file").read_bytes() == b"2"


@pytest.mark.feature("S1")
def test_no_other_link_on_the_way_is_followed(shared, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"precious")
    (shared / "sub").symlink_to(tmp_path / "real")
    (tmp_path / "first").symlink_to(shared / "second")
    (shared / "second").symlink_to(tmp_path / "real" / "file")

    for path in (shared / "sub" / "file", tmp_path / "first"):
        with pytest.raises(UnsafeFile, match="symbolic link in a directory that others may write"):
            files.read_bytes(path, 100, follow=True)
    with pytest.raises(UnsafeFile):
        files.replace(shared / "sub" / "file", b"")
    assert (tmp_path / "real" / "file").read_bytes() == b"precious"


@root
@pytest.mark.feature("S1")
def test_in_a_sticky_directory_root_follows_only_its_own_links(tmp_path):
    directory = tmp_path / "tmp"
    directory.mkdir()
    directory.chmod(0o1777)
    (tmp_path / "file").write_bytes(b"1")
    (directory / "ours").symlink_to(tmp_path / "file")
    (directory / "theirs").symlink_to(tmp_path / "file")
    os.chown(directory / "theirs", OTHER, OTHER, follow_symlinks=False)

    assert files.read_bytes(directory / "ours", 10, follow=True) == b"1"
    with pytest.raises(UnsafeFile):
        files.read_bytes(directory / "theirs", 10, follow=True)


@root
@pytest.mark.feature("S1")
def test_in_another_users_directory_files_are_that_users_or_roots(tmp_path):
    directory = tmp_path / "theirs"
    directory.mkdir()
    path = directory / "file"
    path.write_bytes(b"1")
    os.chown(directory, OTHER, OTHER)

    assert files.read_bytes(path, 10) == b"1"
    os.chown(path, OTHER, OTHER)
    assert files.read_bytes(path, 10) == b"1"
    os.chown(path, OTHER + 1, OTHER)
    with pytest.raises(UnsafeFile, match=f"belongs to user {OTHER + 1}, who may not write its directory"):
        files.read_bytes(path, 10)
    directory.chmod(0o770)
    assert files.read_bytes(path, 10) == b"1"
    os.chown(path, OTHER + 1, OTHER + 1)
    directory.chmod(0o777)
    assert files.read_bytes(path, 10) == b"1"


@root
@pytest.mark.feature("S1")
def test_a_second_name_of_somebody_elses_file_is_refused(tmp_path):
    directory = tmp_path / "theirs"
    directory.mkdir()
    os.chown(directory, OTHER, OTHER)
    (tmp_path / "precious").write_bytes(b"1")
    os.link(tmp_path / "precious", directory / "file")

    for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
        with pytest.raises(UnsafeFile, match="hard link"):
            files.open_descriptor(directory / "file", flags)
    files.replace(directory / "file", b"2")
    assert (tmp_path / "precious").read_bytes() == b"1"


@root
def test_what_root_writes_belongs_to_the_directorys_owner(tmp_path):
    directory = tmp_path / "theirs"
    directory.mkdir()
    os.chown(directory, OTHER, OTHER + 1)

    files.replace(directory / "file", b"1", 0o600)

    status = (directory / "file").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (OTHER, OTHER + 1, 0o600)


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "file").write_bytes(b"old")

    def fail():
        with files.replacing(tmp_path / "file") as stream:
            stream.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    old = time.time() - 2 * 3600
    for name in ("file.0123.new", "file.4567.new", "other.0123.new", "file.old"):
        (tmp_path / name).touch()
        if name != "file.4567.new":
            os.utime(tmp_path / name, (old, old))

    files.replace(tmp_path / "file", b"")

    assert {each.name for each in tmp_path.iterdir()} == {"file", "file.4567.new", "other.0123.new", "file.old"}


def test_a_file_is_made_appended_to_and_truncated_after_the_checks(tmp_path):
    path = tmp_path / "file"
    for flags, text in ((os.O_APPEND, b"1"), (os.O_APPEND, b"2"), (os.O_TRUNC, b"3")):
        descriptor = files.open_descriptor(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
        os.write(descriptor, text)
        os.close(descriptor)

    assert path.read_bytes() == b"3"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_private_directory_is_ours_alone(tmp_path):
    path = tmp_path / "above" / "private"

    files.make_private_directory(path)
    files.make_private_directory(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    path.chmod(0o720)
    with pytest.raises(UnsafeFile, match="is no directory that only this user may write"):
        files.make_private_directory(path)


@pytest.mark.feature("S1")
def test_a_private_directory_is_no_link(tmp_path):
    (tmp_path / "private").symlink_to(tmp_path)

    with pytest.raises(UnsafeFile):
        files.make_private_directory(tmp_path / "private")


def test_no_descriptor_is_left_open(tmp_path, shared):
    def count():
        return len(os.listdir("/proc/self/fd"))

    (tmp_path / "link").symlink_to(shared)
    (shared / "bad").symlink_to(tmp_path)
    (shared / "file").touch()
    before = count()
    for path in ("file", "bad", "bad/file", "missing", "file/x"):
        with pytest.raises(OSError), files.open_for_reading(tmp_path / "link" / path):  # noqa: PT011 (of any kind)
            raise OSError
    files.replace(tmp_path / "link" / "file", b"")
    with pytest.raises(OSError):  # noqa: PT011
        files.replace(shared / "bad" / "file", b"")

    assert count() == before
