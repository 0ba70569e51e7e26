# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever lies in the watcher's directories and in the kernel, a command prints lines that a terminal only shows."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from ..namespace import wait_until
from .conftest import RULES, Watcher, alert

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
HOSTILE = (
    "\x1b]0;gone\x07\x1b[2J\x9b31m\u202ered\u200b\U000e0041\ufe0f\r\n\x7fhttps://joe:hunter2@x.example/?key=hunter2"
)
ADDRESS = "198.51.100.7"
COMMANDS = [
    ["status"],
    ["list"],
    ["check"],
    ["explain", ADDRESS],
    ["explain", HOSTILE],
    ["whitelist", "list"],
    ["whitelist", "add", "203.0.113.1", "--comment", HOSTILE],
    ["block", ADDRESS, "--rule", "manual", "--reason", HOSTILE],
    ["block", ADDRESS, "--rule", HOSTILE],
    ["unblock", "203.0.113.99"],
    ["flush", "--rule", "no such"],
    ["save"],
    ["restore", "--chain"],
    ["restore", "--sets"],
]


def shown(watcher: Watcher, *, secrets: bool) -> dict[str, str]:
    """What each command prints, after a look that all of it can be seen."""
    printed = {}
    replay = ["replay", str(watcher.log), str(watcher.journals / "alerts.json")]
    for argv in [*COMMANDS, replay]:
        for options in ([], ["--json"]):
            done = watcher.command(*argv, *options)
            text = done.stdout + done.stderr
            where = f"{argv} {options}: {text[:2000]!r}"
            assert all(unicodedata.category(c) not in UNSEEN for c in text.replace("\n", "")), where
            assert "Traceback" not in text, where
            assert not secrets or "hunter2" not in text.replace(HOSTILE, ""), where
            if options and done.returncode == 0 and argv[0] != "replay":
                json.loads(done.stdout)
            printed[" ".join((argv[0], *options))] = text
    return printed


@pytest.fixture
def prepared(watcher: Watcher) -> Watcher:
    """A watcher that ran and left all its files behind."""
    watcher.start()
    watcher.write(alert(ADDRESS), alert("198.51.100.8", 2))
    wait_until(lambda: len(watcher.lines("alerts.json")) == 2 and len(watcher.lines("alert.log")) == 2)
    assert watcher.command("whitelist", "add", "203.0.113.2", "--comment", "office").returncode == 0
    assert watcher.command("save").returncode == 0
    watcher.stop()
    return watcher


def files(watcher: Watcher) -> list[Path]:
    found = [path for place in (watcher.state, watcher.journals) for path in place.rglob("*") if path.is_file()]
    assert {"status.json", "alerts.json", "alert.log", "sets"} <= {path.name for path in found}
    return [*found, watcher.log]


@pytest.mark.feature("S12")
@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_in_every_file(prepared: Watcher, seed: int) -> None:
    chance = random.Random(seed)
    for path in files(prepared):
        data = bytearray(path.read_bytes())
        if seed == 0:
            data = bytearray(chance.randbytes(4000))
        else:  # still much of what it was
            for _ in range(len(data) // 40 + 1):
                data[chance.randrange(len(data)) if data else 0 : 0] = chance.choice(
                    [b"\x1b[2J", b"\xe2\x80\xae", b"\x00"]
                )
        path.write_bytes(bytes(data))
    shown(prepared, secrets=False)


@pytest.mark.feature("S12")
def test_texts_of_others_where_texts_are_expected(prepared: Watcher) -> None:
    status = json.loads((prepared.state / "status.json").read_text())
    (prepared.state / "status.json").write_text(json.dumps(hostile(status)))
    for name in ("alerts.json", "alert.log", "blocks.log"):
        path = prepared.journals / name
        text = path.read_text().replace("alert number", f"alert{HOSTILE}".replace("\n", ""))
        path.write_text(text.replace("High", f"High{HOSTILE}".replace("\n", "")))
    host = prepared.network.host
    for name, address in (("NGFW-drop-src4", "198.51.100.99"), ("NGFW-allow4", ADDRESS)):
        comment = f"watcher\t1\t60\tHigh{HOSTILE}\t\twhy{HOSTILE}".replace("\n", "")
        assert host.run("ipset", "add", name, address, "comment", comment).returncode == 0
    printed = shown(prepared, secrets=False)
    assert "\\x1b]0;gone" in printed["list"]
    assert "\\x1b]0;gone" in printed["status"]
    assert "\\x1b]0;gone" in printed["explain"] or "explain" in printed


@pytest.mark.feature("S12")
@pytest.mark.parametrize(
    "content",
    ["[]", "7", "null", '"x"', '{"counters": []}', '{"counters": {"x": 1}}', '{"providers": 3, "modes": {"a": 1}}',
     '{"counters": {"ngfw_reaction_seconds": null}}', "[" * 100_000, '{"started_at": "x", "last_event": 1e400}'],
    ids=range(10),
)  # fmt: skip
def test_a_status_of_another_form(prepared: Watcher, content: str) -> None:
    (prepared.state / "status.json").write_text(content)
    for options in ([], ["--json"]):
        done = prepared.command("status", *options)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 1  # it does not run
    assert "not running" in prepared.command("status").stdout


@pytest.mark.feature("S12")
def test_a_secret_of_a_list_is_nowhere(prepared: Watcher) -> None:
    netset = {"name": "bad", "path": str(prepared.directory / "bad.netset"), "refresh": "1h"}
    netset["url"] = "http://joe:hunter2@127.0.0.1:9/list?key=hunter2"
    prepared.configure(intel={"netsets": [netset]})
    prepared.rules.write_text(RULES.replace("severity: high", "severity: high\n    intel: require"))
    prepared.start()
    wait_until(lambda: any("was not taken" in line for line in prepared.lines("daemon.log")))
    prepared.reload()
    wait_until(lambda: "was not taken" in (prepared.state / "status.json").read_text())
    prepared.stop()
    for path in [*files(prepared), prepared.directory / "output"]:
        assert b"hunter2" not in path.read_bytes(), path
    assert "http://***@127.0.0.1:9/list?key=*** was not taken" in prepared.output()
    for argv in (["status"], ["explain", "203.0.113.9"], ["check"]):
        assert "hunter2" not in "".join(prepared.command(*argv).stdout)


def hostile(value: Any) -> Any:
    """The same with foreign texts in place of texts, and in the names of a mapping that is not of our keys."""
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, list):
        return [hostile(item) for item in value]
    if isinstance(value, dict):
        more = {HOSTILE: 3} if all(type(item) is int for item in value.values()) else {}
        return {**{name: hostile(item) for name, item in value.items()}, **more}
    return value
