# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import time

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import FirewallError, LockTimeout, UnsafeFile
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.lock import Lock

OTHER = 54321
"""Nobody's number."""


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def child(work):
    """A process that does this and ends."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def ended_well(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def free(directory):
    try:
        with Lock(directory, "NGFW", timeout=0):
            return True
    except LockTimeout:
        return False


def test_the_file_is_named_for_chain_and_namespace_and_stays(tmp_path):
    directory = tmp_path / "run" / "ngfw"

    with Lock(directory, "NGFW"):
        pass

    (file,) = directory.iterdir()
    assert file.name == f"NGFW-{os.stat('/proc/self/ns/net').st_ino}.lock"
    assert stat.S_IMODE(file.stat().st_mode) == 0o660
    assert file.stat().st_gid == directory.stat().st_gid


def test_two_processes_never_hold_it_at_once(tmp_path):
    number = tmp_path / "number"
    number.write_text("0", encoding="ascii")

    def count():
        lock = Lock(tmp_path, "NGFW")
        for _round in range(50):
            with lock:
                number.write_text(str(int(number.read_text(encoding="ascii")) + 1), encoding="ascii")
                lock.advance()

    writers = [child(count) for _process in range(4)]
    assert [ended_well(pid) for pid in writers] == [True] * 4
    assert number.read_text(encoding="ascii") == "200"
    assert Lock(tmp_path, "NGFW").generation() == 200


def test_different_chains_do_not_wait_for_each_other(tmp_path):
    with Lock(tmp_path, "NGFW"), Lock(tmp_path, "NGFW_2", timeout=0):
        pass


def test_a_timeout_names_the_holder(tmp_path):
    ready = tmp_path / "ready"

    def hold():
        with Lock(tmp_path, "NGFW"):
            ready.touch()
            signal.pause()

    holder = child(hold)
    wait_until(ready.exists)
    try:
        lock = Lock(tmp_path, "NGFW", timeout=0.05)
        with pytest.raises(LockTimeout, match=f"process {holder} has held .*{re.escape(str(tmp_path))}"), lock:
            pass
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)

    with lock:  # a killed holder holds nothing
        pass


def test_a_timeout_names_a_holder_that_is_none_of_ours(tmp_path):
    ready = tmp_path / "ready"
    lock = Lock(tmp_path, "NGFW", timeout=0.05)
    with lock:
        pass

    def hold():
        with lock.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            ready.touch()
            signal.pause()

    holder = child(hold)
    wait_until(ready.exists)
    try:
        with pytest.raises(LockTimeout, match=f"process {holder} has held"), lock:
            pass
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)


def test_after_a_kill_the_lock_lasts_until_the_tools_of_the_holder_have_ended(tmp_path):
    ready = tmp_path / "ready"

    def hold():
        with Lock(tmp_path, "NGFW"):
            tool = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], close_fds=False)
            ready.write_text(str(tool.pid), encoding="ascii")
            signal.pause()

    holder = child(hold)
    wait_until(lambda: ready.exists() and ready.read_text(encoding="ascii"))
    tool = int(ready.read_text(encoding="ascii"))
    try:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        assert not free(tmp_path)
    finally:
        os.kill(tool, signal.SIGKILL)
    wait_until(lambda: free(tmp_path))


def test_an_error_inside_frees_it(tmp_path):
    with pytest.raises(KeyError), Lock(tmp_path, "NGFW"):
        raise KeyError

    assert free(tmp_path)


def test_the_generation_counts_changes_of_everybody(tmp_path):
    mine, other = Lock(tmp_path, "NGFW"), Lock(tmp_path, "NGFW")
    assert mine.generation() is None  # nobody was here yet

    with mine:
        assert mine.advance() == 1
    with other:
        assert other.generation() == 1
        assert other.advance() == 2
    with mine:
        pass

    assert mine.generation() == other.generation() == 2
    mine.close()
    assert mine.generation() == 2


def test_a_file_that_cannot_be_opened(tmp_path):
    lock = Lock(tmp_path, "NGFW")
    lock.path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UnsafeFile, match="is a symbolic link, not a regular file; remove it"), lock:
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_changes_by_others_move_with_theirs_and_not_with_our_own(tmp_path):
    ours, theirs = Lock(tmp_path, "NGFW"), Lock(tmp_path, "NGFW")
    assert ours.changes_by_others() is None  # there is no file yet
    with ours:
        ours.advance()
    before = ours.changes_by_others()
    with ours:
        ours.advance()
    assert ours.changes_by_others() == before
    with theirs:
        theirs.advance()
    assert ours.changes_by_others() == before + 1


@pytest.mark.feature("S1")
@pytest.mark.parametrize(
    "make", [lambda path: path.symlink_to("/dev/null"), lambda path: path.mkdir(), lambda path: os.mkfifo(path)]
)
def test_what_stands_in_the_place_of_the_file_is_named(tmp_path, make):
    lock = Lock(tmp_path, "NGFW")
    make(lock.path)

    with pytest.raises(UnsafeFile, match=f"{re.escape(str(lock.path))} is .*; remove it"), lock:
        pass


@pytest.mark.feature("S1")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_changes_nothing_of_a_file_that_another_user_left(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    os.chown(directory, 0, OTHER)
    directory.chmod(0o770)
    lock = Lock(directory, "NGFW")
    lock.path.touch()
    lock.path.chmod(0o600)
    os.chown(lock.path, OTHER, OTHER)

    with lock:
        pass

    status = lock.path.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (OTHER, 0o600)


@pytest.mark.feature("S1")
def test_a_second_name_of_another_file_is_refused(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    directory.chmod(0o770)
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "precious").chmod(0o600)
    lock = Lock(directory, "NGFW")
    os.link(tmp_path / "precious", lock.path)

    with pytest.raises(UnsafeFile, match="hard link"), lock:
        pass

    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert stat.S_IMODE((tmp_path / "precious").stat().st_mode) == 0o600


def test_a_file_that_was_replaced_is_locked_anew(tmp_path):
    """Else two writers would each hold a lock of their own."""
    lock = Lock(tmp_path, "NGFW")
    with lock:
        lock.advance()
    lock.path.unlink()
    with lock:
        lock.advance()  # nobody has made another one
        with Lock(tmp_path, "NGFW"):
            pass
    assert lock.generation() == 2
    with lock:
        assert not free(tmp_path)
        assert lock.generation() == 0


@pytest.mark.feature("S1")
def test_a_file_that_is_replaced_all_the_time_is_given_up(tmp_path, monkeypatch):
    lock = Lock(tmp_path, "NGFW", timeout=0.05)
    flock = fcntl.flock

    def replace(descriptor, operation):
        flock(descriptor, operation)
        lock.path.unlink()
        lock.path.touch()

    monkeypatch.setattr(fcntl, "flock", replace)
    with pytest.raises(LockTimeout, match="is replaced all the time"), lock:
        pass


@pytest.mark.feature("S1")
def test_whatever_is_in_the_file_is_a_generation(tmp_path):
    lock = Lock(tmp_path, "NGFW")
    lock.path.write_bytes(b"\xff" * 1000)

    with lock:
        assert lock.advance() == 0


@pytest.mark.feature("S6")
def test_a_lock_that_was_removed_is_used_until_there_can_be_another(tmp_path):
    directory = tmp_path / "run"
    lock = Lock(directory, "NGFW")
    with lock:
        assert not lock.follow()
    lock.path.unlink()
    directory.rmdir()
    directory.touch()  # nobody can make the directory again
    with pytest.raises(FirewallError, match="remove what stands in its place"):
        lock.follow()
    with lock:
        lock.advance()
    assert lock.generation() == 1
    directory.unlink()
    assert lock.follow()
    assert lock.path.exists()
    assert lock.generation() == 0
