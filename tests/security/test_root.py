# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the service's user leaves in its directories, no process of root's follows, trusts, or waits for it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from .conftest import LOGS, NETSET, OUTSIDE, RUN, STATE, STRANGER, TRAPS, USER, World

pytestmark = pytest.mark.feature("S1")

ADDRESS = "203.0.113.7"
EXPLAIN = ("explain", ADDRESS)
COMMANDS = {
    "status": ("status",),
    "status --json": ("status", "--json"),
    "list": ("list",),
    "explain": EXPLAIN,
    "explain --json": (*EXPLAIN, "--json"),
    "block": ("block", ADDRESS),
    "unblock": ("unblock", ADDRESS),
    "whitelist add": ("whitelist", "add", "203.0.113.8"),
    "whitelist remove": ("whitelist", "remove", "203.0.113.8"),
    "whitelist list": ("whitelist", "list"),
    "flush": ("flush",),
    "save": ("save",),
    "restore": ("restore",),
    "restore --sets": ("restore", "--sets"),
    "restore --chain": ("restore", "--chain"),
    "check": ("check",),
    "replay": ("replay", "/mnt/config/eve.json"),
    "watch": ("watch",),
    "version": ("version",),
}
MODULES = {
    "ngfw_chain": {"state": "present"},
    "ngfw_block": {"addresses": [ADDRESS]},
    "ngfw_whitelist": {"entries": ["203.0.113.8"]},
    "ngfw_blocklist": {"name": "mine", "entries": ["203.0.113.16/28"]},
    "ngfw_flush": {},
    "ngfw_info": {},
}
FILES = {
    f"{STATE}/lock": ("status", "watch"),
    f"{STATE}/status.json": ("status", "status --json"),
    f"{STATE}/status.json.new": ("status",),
    f"{STATE}/sets": ("save", "restore", "restore --sets", "save"),
    f"{STATE}/sets.corrupt": ("save", "restore"),
    f"{STATE}/sets.new": ("save",),
    f"{STATE}/cursor": ("status", "watch"),
    f"{STATE}/pending": ("status", "watch"),
    f"{STATE}/in_force": ("status", "watch"),
    f"{STATE}/history.sqlite": ("explain",),
    f"{STATE}/history.sqlite-wal": ("explain",),
    f"{STATE}/history.sqlite-shm": ("explain",),
    f"{STATE}/history.sqlite-journal": ("explain",),
    f"{STATE}/intel.sqlite": ("explain",),
    f"{STATE}/intel.sqlite-wal": ("explain",),
    NETSET: ("explain", "replay"),
    f"{NETSET}.http": ("explain",),
    f"{LOGS}/alert.log": ("explain",),
    f"{LOGS}/alert.log.1": ("explain",),
    f"{LOGS}/alerts.json": ("explain", "explain --json"),
    f"{LOGS}/alerts.json.1": ("explain",),
    f"{LOGS}/alerts.json.2.gz": ("explain",),
    f"{LOGS}/blocks.log": ("explain",),
    f"{LOGS}/daemon.log": ("status", "watch"),
}


@pytest.mark.parametrize("kind", TRAPS)
@pytest.mark.parametrize("path", FILES)
def test_each_file(world: World, path: str, kind: str) -> None:
    world.set_trap(kind, path)

    for name in FILES[path]:
        world.ngfw(*COMMANDS[name])


@pytest.mark.parametrize("kind", TRAPS)
def test_all_files_at_once(world: World, kind: str) -> None:
    for path in FILES:
        world.set_trap(kind, path)

    for name, argv in COMMANDS.items():
        done = world.ngfw(*argv)
        if name not in ("status", "status --json", "save", "restore", "restore --sets", "watch"):
            assert done.code == 0, (name, done.stderr)


@pytest.mark.parametrize("kind", TRAPS)
def test_the_lock(world: World, kind: str) -> None:
    """Each command and module that takes it, or only looks at it."""
    for argv in COMMANDS.values():
        world.set_trap(kind, world.lock)
        world.ngfw(*argv)
    for name, options in MODULES.items():
        world.set_trap(kind, world.lock)
        returned = world.module(name, **options)
        assert ("msg" in returned) == (name != "ngfw_info" and kind not in ("a terabyte of nothing", "nonsense"))
        if "msg" in returned:
            assert returned["msg"].startswith(f"{world.lock} ")
            assert "remove it" in returned["msg"]


@pytest.mark.parametrize("kind", TRAPS)
def test_what_is_written_takes_the_place_of_what_was_there(world: World, kind: str) -> None:
    world.set_trap(kind, f"{STATE}/sets")
    assert world.ngfw("block", ADDRESS).code == 0

    done = world.ngfw("save")

    if kind == "a directory":
        assert done.code == 1
        assert done.stderr == f"ngfw: {STATE}/sets is a directory, not a regular file; remove it\n"
        return
    assert done.code == 0
    status = world.at(f"{STATE}/sets").lstat()
    assert stat.S_ISREG(status.st_mode)
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (USER, USER, 0o640)
    assert world.ngfw("restore").code == 0


def test_a_directory_of_the_users_is_no_place_for_root_to_watch_in(world: World) -> None:
    done = world.ngfw("watch")

    assert done.code == 1
    assert f"{STATE} belongs to user {USER}, and root does not write there" in done.stderr
    assert list(world.at(STATE).iterdir()) == []
    assert list(world.at(LOGS).iterdir()) == []


@pytest.mark.parametrize("kind", TRAPS)
@pytest.mark.parametrize("capabilities", ["+net_admin,+net_raw", "+dac_read_search,+net_admin,+net_raw"])
def test_the_units_of_the_boot(world: World, kind: str, capabilities: str) -> None:
    """They run as the service's user, one of them with leave to read every file."""
    world.set_trap(kind, f"{STATE}/sets")

    done = world.boot_unit("restore", "--sets", capabilities=capabilities)
    assert done.code == (3 if "Permission denied" in done.stderr else 1)
    assert f"{STATE}/sets" in done.stderr
    assert world.boot_unit("restore", "--chain", capabilities="+net_admin,+net_raw").code == 0


LIST_STATE = [f"{STATE}/blocklists{name}" for name in ("", "/NGFW.mine.json", "/NGFW.mine.new", "/NGFW.mine.json.new")]


class Handler(BaseHTTPRequestHandler):
    """Serves one list."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("ETag", '"evil"')
        self.end_headers()
        self.wfile.write(b"203.0.113.16/28\n")

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def server(world: World) -> Iterator[str]:
    """The URL of the list, in that world."""
    with world.inside():
        served = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}/list"
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.mark.parametrize("kind", TRAPS)
@pytest.mark.parametrize("path", LIST_STATE)
def test_what_root_remembers_of_a_list(world: World, path: str, kind: str) -> None:
    world.set_trap(kind, path)

    with server(world) as url:
        returned = world.module("ngfw_blocklist", name="mine", url=url)

    assert returned["added"] == ["203.0.113.16/28"]
    place = world.at("/var/lib/ngfw-blocklists").stat()
    assert (place.st_uid, stat.S_IMODE(place.st_mode)) == (0, 0o700)
    assert world.module("ngfw_blocklist", name="mine", state="absent")["changed"]


@pytest.mark.parametrize("kind", TRAPS)
def test_a_list_from_a_file(world: World, kind: str) -> None:
    world.set_trap(kind, NETSET)
    assert world.module("ngfw_blocklist", name="mine", entries=["203.0.113.16/28"])["changed"]

    returned = world.module("ngfw_blocklist", name="mine", src=NETSET)

    assert "the old list stays" in returned["msg"]
    assert NETSET in returned["msg"]
    assert world.module("ngfw_info")["blocklists"][0]["count"] == 1


def test_a_list_that_an_administrators_link_leads_to(world: World) -> None:
    world.at(f"{STATE}/list").write_text("203.0.113.0/28\n")
    world.at("/var/lib/link").symlink_to(f"{STATE}/list")

    assert world.module("ngfw_blocklist", name="mine", src="/var/lib/link")["added"] == ["203.0.113.0/28"]


def test_what_the_user_wrote_is_read_and_no_more(world: World) -> None:
    """The files of the directory are the watcher's: the commands show them."""
    now = 1_800_000_000.0
    world.at(f"{LOGS}/alerts.json").write_text(f'{{"ts":"now","ip":"{ADDRESS}","action":"block","rule":"mine"}}\n')
    with closing(sqlite3.connect(world.directory / "made")) as made:
        made.executescript("PRAGMA journal_mode = WAL; CREATE TABLE offences (network, kind, at)")
        made.execute("INSERT INTO offences VALUES (x'cb00710720', 'drop source', ?)", (now,))
        made.commit()
        for ending in ("", "-wal"):
            shutil.copy(world.directory / f"made{ending}", world.at(f"{STATE}/history.sqlite{ending}"))
    for path in (*world.at(STATE).iterdir(), *world.at(LOGS).iterdir()):
        os.chown(path, USER, USER)
    before = sorted(path.name for path in world.at(STATE).iterdir())

    found = json.loads(world.ngfw(*EXPLAIN, "--json").stdout)

    assert [item["rule"] for item in found["history"]] == ["mine"]
    assert found["offences"] == ["2027-01-15T08:00:00Z"]
    assert sorted(path.name for path in world.at(STATE).iterdir()) == before


RACE = """
import os, sys, time
path, other, user = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
spare = path + ".spare"
print("ready", flush=True)
number = 0
while True:
    number += 1
    for make in (lambda: os.symlink(other, spare), lambda: os.mkfifo(spare), lambda: open(spare, "w").close()):
        try:
            make()
            os.rename(spare, path)
        except OSError:
            pass
"""


@pytest.mark.parametrize(
    ("path", "argv"),
    [
        (f"{STATE}/sets", ("save",)),
        (f"{STATE}/sets", ("restore",)),
        (f"{STATE}/status.json", ("status",)),
        (f"{STATE}/history.sqlite", EXPLAIN),
        (f"{LOGS}/alerts.json", EXPLAIN),
        (NETSET, EXPLAIN),
        ("lock", ("block", ADDRESS)),
    ],
)
def test_against_somebody_who_swaps_files_all_the_time(world: World, path: str, argv: tuple[str, ...]) -> None:
    path = world.lock if path == "lock" else path
    with world.meanwhile(sys.executable, "-c", RACE, path, f"{OUTSIDE}/precious", str(USER)):
        for _round in range(4):
            world.ngfw(*argv)


def plant(world: World, directory: str) -> None:
    """A tree of the user's with all that may mislead whoever goes through it."""
    os.makedirs(world.at(f"{directory}/sub/deeper"))
    for number, kind in enumerate(TRAPS):
        world.set_trap(kind, f"{directory}/{number}")
        world.set_trap(kind, f"{directory}/sub/{number}")
    top = world.at(directory)
    for path in (top, *top.rglob("*")):
        if path.lstat().st_uid == 0 and path.lstat().st_nlink == 1:
            os.chown(path, USER, USER, follow_symlinks=False)


def test_logs_are_given_back_without_what_is_not_ours(world: World) -> None:
    plant(world, LOGS)
    world.at(f"{LOGS}/daemon.log").write_text("mine")
    world.at(f"{LOGS}/daemon.log").chmod(0o640)
    os.chown(world.at(f"{LOGS}/daemon.log"), USER, USER)
    os.link(world.at(f"{OUTSIDE}/precious"), world.at(f"{LOGS}/linked"))
    script = Path(__file__).parents[2] / "roles" / "ngfw" / "files" / "disown.py"
    code = f"""
import grp, pwd, types
pwd.getpwnam = lambda name: types.SimpleNamespace(pw_uid={USER})
grp.getgrnam = lambda name: types.SimpleNamespace(gr_gid={USER})
exec({script.read_text()!r})
"""

    def disown() -> int:
        return int(world.run(sys.executable, "-Ic", code, "ngfw", LOGS).stdout)

    assert disown() > 4
    for path in (world.at(LOGS), *world.at(LOGS).rglob("*")):
        status = path.lstat()
        if not path.is_symlink():
            assert status.st_uid != USER, path
            assert status.st_gid != USER, path
    assert sum(path.lstat().st_uid == STRANGER for path in world.at(LOGS).rglob("*")) == 2
    assert disown() == 0
    assert stat.S_IMODE(world.at(f"{LOGS}/daemon.log").stat().st_mode) & stat.S_IROTH == 0

    lent = world.at(f"{LOGS}/lent")
    lent.mkdir(mode=0o750)
    (lent / "eve.json").touch(mode=0o640)
    for path in (lent, lent / "eve.json"):
        os.chown(path, 0, USER)
    assert int(world.run(sys.executable, "-Ic", code, "ngfw", f"{LOGS}/lent").stdout) == 2
    assert stat.S_IMODE((lent / "eve.json").stat().st_mode) == 0o644
    assert stat.S_IMODE(lent.stat().st_mode) == 0o755


def test_directories_are_removed_without_what_links_lead_to(world: World) -> None:
    plant(world, STATE)
    plant(world, RUN)

    for path in (STATE, RUN):
        returned = world.module("ansible.modules.file", path=path, state="absent")
        assert returned["changed"]
        assert not world.at(path).exists()


# Where users may make second names of files that are not theirs (fs.protected_hardlinks) systemd refuses these itself.
@pytest.mark.parametrize("kind", [kind for kind in TRAPS if "second name" not in kind])
def test_tmpfiles_gives_only_locks_away(world: World, kind: str) -> None:
    template = (Path(__file__).parents[2] / "roles/ngfw/templates/tmpfiles.conf.j2").read_text()
    config = world.directory / "tmpfiles.conf"
    config.write_text(template.replace(" root ngfw ", f" 0 {USER} "))
    world.set_trap(kind, world.lock)

    world.run("systemd-tmpfiles", "--create", str(config))


KERNEL = {
    "sets of another type": "create NGFW-drop-src4 hash:ip\ncreate NGFW-own4 list:set\ncreate NGFW.mine.s4 hash:ip\n",
    "a set of another family": "create NGFW-drop-src4 hash:net family inet6 timeout 0 counters comment\n",
    "a set that is being filled": "create NGFW.mine.s4~ hash:ip\ncreate +restoring hash:ip\n",
    "comments of another form": (
        "create NGFW-drop-src4 hash:net timeout 0 counters comment\n"
        + "".join(f'add NGFW-drop-src4 203.0.113.{n} comment "{text}"\n' for n, text in enumerate(("w9 x", "w1 9e9")))
        + f'add NGFW-drop-src4 203.0.113.9 comment "w1 {"9" * 200}"\n'
        + 'add NGFW-drop-src4 203.0.113.10 comment "\x1b[2J\x07{{ 7 * 7 }}"\n'
    ),
}


@pytest.mark.parametrize("kind", KERNEL)
def test_what_the_user_may_do_in_the_kernel(world: World, kind: str) -> None:
    """It has CAP_NET_ADMIN; so what it does there is not undone, but named, and nobody waits or breaks."""
    script = world.at("config/sets")
    script.write_text(KERNEL[kind])
    made = world.run("ipset", "-file", "/mnt/config/sets", "restore", capabilities="+net_admin,+net_raw")
    assert made.code == 0, made.stderr
    for name, argv in COMMANDS.items():
        done = world.ngfw(*argv)
        assert "\x1b" not in done.stdout + done.stderr
        assert done.code in (0, 1, 2), (name, done.stderr)
    for name, options in MODULES.items():
        returned = world.module(name, **options)
        assert "exception" not in returned
        assert "msg" not in returned or "NGFW" in returned["msg"] or "restoring" in returned["msg"], returned["msg"]
