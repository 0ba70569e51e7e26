# SPDX-License-Identifier: GPL-3.0-or-later
"""Root beside a service user who has done its worst in its own directories.

Each test has a world of its own: a network namespace, and a mount namespace with empty /run, /var/lib and /var/log, so
the paths are those of a real host and nothing of this machine is touched.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ngfw import cli

from ..namespace import shared

ROOT = Path(__file__).parents[2]

USER, STRANGER = 54321, 54322
"""Numbers of nobody: the service's user, and one more."""

SECRET = "open-sesame-203.0.113.99"
STATE, LOGS, RUN, OUTSIDE = "/var/lib/ngfw", "/var/log/ngfw", "/run/ngfw", "/var/lib/outside"
NETSET = f"{STATE}/site.netset"
SECONDS = 5.0

for _name in (
    "display.explain",
    "display.status",
    "display.tables",
    "firewall.firewall",
    "replay",
    "rules.load",
    "service",
):
    importlib.import_module(f"ngfw.{_name}")  # once, and not in each process of root's

_LIBC = ctypes.CDLL(None, use_errno=True)
_SET_UP = f"""
set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
for directory in /run /var/lib /var/log; do
    mkdir -p /mnt$directory
    mount --bind /mnt$directory $directory
done
for directory in code packages; do mkdir /mnt/$directory; done
mount --bind {ROOT} /mnt/code
mount --bind {Path(yaml.__file__).parents[1]} /mnt/packages
ip link set lo up
mkdir /mnt/config {STATE} {LOGS} {RUN} {OUTSIDE} {OUTSIDE}/directory
chown {USER}:{USER} {STATE} {LOGS}
chmod 750 {STATE} {LOGS}
chown 0:{USER} {RUN}
chmod 770 {RUN}
echo ready
exec sleep infinity
"""

_BOOT = """
import sys
sys.path[:0] = ["/mnt/code/roles/ngfw/files", "/mnt/packages"]
from ngfw.cli import main
sys.exit(main())
"""

TRAPS: dict[str, Callable[[World, Path], None]] = {
    "a link to a file of root's": lambda world, path: path.symlink_to(f"{OUTSIDE}/precious"),
    "a link to a directory of root's": lambda world, path: path.symlink_to(f"{OUTSIDE}/directory"),
    "a link to nothing": lambda world, path: path.symlink_to(f"{OUTSIDE}/missing"),
    "a link to zeros without end": lambda world, path: path.symlink_to("/dev/zero"),
    "a FIFO": lambda world, path: os.mkfifo(path),
    "a directory": lambda world, path: (path / "more").mkdir(parents=True),
    "a terabyte of nothing": lambda world, path: _sparse(path),
    "a second name of a file of root's": lambda world, path: os.link(world.at(f"{OUTSIDE}/precious"), path),
    "a file of a stranger's": lambda world, path: _foreign(path),
    "nonsense": lambda world, path: _nonsense(path),
}
_THEIRS = ("a FIFO", "a directory", "a terabyte of nothing", "nonsense")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = None
    if os.geteuid() != 0:
        reason = "needs root: it is root that is tried"
    elif not all(map(shutil.which, ("ipset", "iptables", "ip", "unshare", "nsenter", "setpriv"))):
        reason = "needs the programs ip, ipset, iptables, unshare, nsenter and setpriv"
    here = Path(__file__).parent
    for item in items:
        if reason and here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason))


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


def _foreign(path: Path) -> None:
    path.write_text(SECRET)
    os.chown(path, STRANGER, STRANGER)
    path.chmod(0o600)


def _nonsense(path: Path) -> None:
    path.write_bytes(b"[" * 200_000 + b'\x00\xff\x1b[2J{"a":' + b"9" * 10_000 + b"}\n")


class Done(NamedTuple):
    """What a process of root's came to."""

    code: int
    stdout: str
    stderr: str


class World:
    """The directories of a host where the product was installed, and what root does there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        command = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", _SET_UP]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        namespace = os.stat(f"/proc/{self._holder.pid}/ns/net").st_ino
        self.lock = f"{RUN}/NGFW-{namespace}.lock"
        self.config = "/mnt/config/ngfw.yml"
        self.at("config/rules.d").mkdir()
        self.at("config/eve.json").touch()
        self.at("config/ngfw.yml").write_text(
            json.dumps(
                {
                    "rules_directory": "/mnt/config/rules.d",
                    "sources": [{"path": "/mnt/config/eve.json", "format": "eve"}],
                    "intel": {"netsets": [{"name": "site", "path": NETSET}]},
                    "metrics": {"listen": None},
                }
            )
        )
        self.at(f"{OUTSIDE}/precious").write_text(SECRET)
        self.at(f"{OUTSIDE}/precious").chmod(0o600)
        self._before = self._outside()

    def at(self, path: str) -> Path:
        """Where a path of this world is for the test."""
        return Path(f"/proc/{self._holder.pid}/root/mnt/{path}")  # one mount, so a file can have names all over it

    def set_trap(self, kind: str, path: str) -> None:
        """Put that in the place of a file, as its directory's owner would; whatever is there goes."""
        place = self.at(path)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        TRAPS[kind](self, place)
        if kind in _THEIRS:
            os.chown(place, USER, USER)

    def ngfw(self, *argv: str) -> Done:
        """Run the command."""
        return self._forked(lambda: cli.main([*argv, "--config", self.config]))

    def module(self, module: str, **options: Any) -> dict[str, Any]:
        """Run a module as Ansible does; what it returned."""
        if "." not in module:
            module = f"ansible_collections.reflex.ngfw.plugins.modules.{module}"
        act = importlib.import_module(module).main

        def main() -> int:
            with patch_module_args(options):
                act()
            return 0

        returned: dict[str, Any] = json.loads(self._forked(main).stdout)
        return returned

    def boot_unit(self, *argv: str, capabilities: str) -> Done:
        """Run the command as a unit of the boot does, which may not read where the tests are."""
        python = os.path.realpath(sys.executable)
        return self.run(python, "-Ic", _BOOT, *argv, "--config", self.config, capabilities=capabilities)

    def run(self, *argv: str, capabilities: str | None = None) -> Done:
        """Run a program as root, or as the service's user with some capabilities."""
        command = list(argv)
        if capabilities is not None:
            granted = f"-all,{capabilities}"
            user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
            command = [*user, *(f"--{kind}={granted}" for kind in ("inh-caps", "ambient-caps", "bounding-set")), *argv]

        def main() -> int:
            os.execvp(command[0], command)  # noqa: S606

        return self._forked(main)

    def _forked(self, main: Callable[[], int]) -> Done:
        """Do that in a process of this world's; it ends in time, and harms and tells nothing."""
        outputs = [self.directory / "stdout", self.directory / "stderr"]
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                self._enter(outputs)
                code = main()
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        done = Done(_ended(pid), *(path.read_text(errors="replace") for path in outputs))
        assert SECRET not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        assert self._outside() == self._before
        return done

    def _enter(self, outputs: Sequence[Path]) -> None:
        for kind in ("mnt", "net"):
            with open(f"/proc/{self._holder.pid}/ns/{kind}", "rb") as namespace:
                assert _LIBC.setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        os.chdir(self.directory)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        for number, path in enumerate(outputs, 1):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, number)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This process in the network of the world."""
        with open("/proc/thread-self/ns/net", "rb") as here, open(f"/proc/{self._holder.pid}/ns/net", "rb") as there:
            assert _LIBC.setns(there.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert _LIBC.setns(here.fileno(), 0) == 0, os.strerror(ctypes.get_errno())

    @contextmanager
    def meanwhile(self, *argv: str) -> Iterator[None]:
        """Somebody at work in this world, who says when that has begun."""
        command = ["nsenter", f"--target={self._holder.pid}", "--mount", "--net"]
        other = subprocess.Popen([*command, *argv], stdout=subprocess.PIPE, text=True)
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            yield
        finally:
            other.kill()
            other.communicate()

    def _outside(self) -> dict[str, tuple[Any, ...]]:
        found = {}
        top = self.at(OUTSIDE)
        for path in (top, *sorted(top.rglob("*"))):
            status = path.lstat()
            text = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, text)
        return found

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()


def _ended(pid: int) -> int:
    """The exit code; a process that takes longer than it may is a failure."""
    start, seconds = time.monotonic(), SECONDS
    while time.monotonic() < start + seconds:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
        if seconds == SECONDS and time.monotonic() > start + SECONDS / 2:
            seconds = shared(SECONDS)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"still at work after {SECONDS} s")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()
