# SPDX-License-Identifier: GPL-3.0-or-later
"""No line, however hostile, stops the watcher or holds up others for long; a stop takes no longer for what there is."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ..namespace import shared, wait_until
from .conftest import RULES, Watcher, alert

REGEXES = r"""
  - {name: R1, type: http, expression: 'matches(http.url, "\\w+@")'}
  - {name: R2, type: http, expression: 'matches(http.url, "a.*?b")'}
  - {name: R3, type: http, expression: 'matches(http.url, "\\s+$")'}
  - {name: R4, type: http, expression: 'matches(http.url, "(\\w|-)+=\\d")'}
  - {name: R5, type: http, expression: 'matches(http.url, "(?:ab?)+c")'}
"""

DEADLY = """
from ngfw.rules.engine import Engine
import ctypes, time
feed = Engine.feed
def deadly(self, kind, record, *more, **named):
    if record.get("src_ip") == "198.51.100.66":
        print("deadly", flush=True)
        if {how!r} == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif {how!r} == "crash":
            ctypes.string_at(0)
        elif {how!r} == "exit":
            sys.exit(3)
        else:
            time.sleep(1000)
    return feed(self, kind, record, *more, **named)
Engine.feed = deadly
Service(load).run()
"""

DEADLY_EFFECT = """
from ngfw.effects.enforcement import Enforcement
apply = Enforcement.apply
def deadly(self, blocks):
    if any(str(block.network) == "198.51.100.66" for block in blocks):
        os.kill(os.getpid(), signal.SIGKILL)
    return apply(self, blocks)
Enforcement.apply = deadly
Service(load).run()
"""


@pytest.mark.feature("S3")
def test_a_thousand_hostile_lines_hold_up_another_offender_for_less_than_a_second(watcher: Watcher) -> None:
    watcher.rules.write_text(RULES + REGEXES)
    watcher.start()
    urls = ("a" * 8180 + "\n@!c=0", " " * 8190 + "x")
    record = json.loads(alert("198.51.100.9"))
    del record["alert"]
    hostile = [
        json.dumps({**record, "event_type": "http", "http": {"url": urls[number % 2]}}) + "\n" for number in range(1000)
    ]
    watcher.write(*hostile, alert("198.51.100.7"))
    start = time.monotonic()
    wait_until(lambda: not watcher.network.passes("198.51.100.7"))
    assert time.monotonic() - start < shared(1.0)
    wait_until(lambda: watcher.lines("daemon.log", "rule 'R5': searching for the regex '(?:ab?)+c' took too long"))
    wait_until(lambda: watcher.counters()["ngfw_errors_total"] > 1000)
    assert watcher.stop() == 0


def run_until_death(watcher: Watcher, code: str, how: str) -> None:
    before = watcher.output().count("deadly")
    watcher.start(code=code, wait=False)
    assert watcher.process is not None
    if how == "hang":
        wait_until(lambda: watcher.output().count("deadly") > before)
        watcher.process.kill()  # as the manager's watchdog does at last
    watcher.wait()


@pytest.mark.feature("S3")
@pytest.mark.parametrize("how", ["kill", "crash", "exit", "hang"])
def test_a_line_at_which_runs_died_is_set_aside_by_the_third(watcher: Watcher, how: str) -> None:
    watcher.start()
    assert watcher.stop() == 0
    lines = [alert(f"198.51.100.{number}", number) for number in range(1, 100)]
    watcher.write(*lines)
    code = DEADLY.format(how=how)
    run_until_death(watcher, code, how)
    run_until_death(watcher, code, how)
    watcher.start(code=code)
    wait_until(lambda: watcher.lines("alerts.json", "198.51.100.99"))
    addresses = {f"198.51.100.{number}" for number in range(1, 100)} - {"198.51.100.66"}
    assert {each["ip"] for each in watcher.decisions()} == addresses == watcher.blocked()
    assert len(watcher.decisions()) == len(addresses)
    (kept,) = [json.loads(line) for line in (watcher.state / "poison").read_text().splitlines()]
    assert kept["line"] == lines[65]
    assert watcher.lines("daemon.log", "at which earlier runs died is left out")
    wait_until(lambda: watcher.counters().get("ngfw_lines_invalid_total") == 1)
    assert json.loads(watcher.command("status", "--json").stdout)["poison"] == 1
    assert "poison" in watcher.command("status").stdout
    assert watcher.stop() == 0
    watcher.start(code=code)  # it does not read the line again for thresholds either
    watcher.write(alert("203.0.113.1"))
    wait_until(lambda: watcher.lines("alerts.json", "203.0.113.1"))
    assert watcher.stop() == 0


@pytest.mark.feature("S3")
def test_a_line_whose_effects_are_deadly_is_not_tried_for_ever(watcher: Watcher) -> None:
    watcher.start()
    assert watcher.stop() == 0
    watcher.write(*(alert(f"198.51.100.{number}") for number in range(60, 70)))
    for _run in range(8):
        watcher.start(code=DEADLY_EFFECT, wait=False)
        wait_until(lambda: watcher.process.poll() is not None or watcher.lines("alerts.json", "198.51.100.69"))
        if watcher.process.poll() is None:
            break
        watcher.wait()
    assert watcher.blocked() == {f"198.51.100.{number}" for number in range(60, 70)} - {"198.51.100.66"}
    assert watcher.stop() == 0


@pytest.mark.feature("S3", "A2")
def test_whoever_is_killed_again_and_again_for_other_reasons_loses_no_line(watcher: Watcher) -> None:
    watcher.start()
    watcher.stop()
    watcher.write(alert("198.51.100.1"))
    kill_once = """
from ngfw.rules.engine import Engine
def feed(*_all, **_named):
    os.kill(os.getpid(), signal.SIGKILL)
Engine.feed = feed
Service(load).run()
"""
    for _run in range(2):
        watcher.start(code=kill_once, wait=False)
        assert watcher.wait() == -signal.SIGKILL
    watcher.start()
    wait_until(lambda: watcher.blocked() == {"198.51.100.1"})
    assert not (watcher.state / "poison").exists()


@pytest.mark.feature("S3", "E3")
def test_a_stop_does_not_wait_for_the_lock_of_others_and_loses_nothing(watcher: Watcher) -> None:
    watcher.start()
    watcher.write(alert("198.51.100.1"))
    wait_until(lambda: watcher.lines("alerts.json"))
    (lock,) = Path("/run/ngfw").glob(f"*-{Path(f'/proc/{watcher.process.pid}/ns/net').stat().st_ino}.lock")
    with lock.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        watcher.write(alert("198.51.100.2"))
        # It waits for the lock with the block, or before it has read of that, to look after its rules.
        waits = Path(f"/proc/{watcher.process.pid}/wchan")
        wait_until(lambda: not watcher.settled() or "nanosleep" in waits.read_text())
        start = time.monotonic()
        assert watcher.stop() == 0
        assert time.monotonic() - start < shared(2.0)
    watcher.start()
    wait_until(lambda: watcher.blocked() == {"198.51.100.1", "198.51.100.2"})
    assert watcher.stop() == 0


@pytest.mark.feature("S3", "E3")
def test_a_stop_does_not_wait_for_a_long_batch_and_loses_nothing(watcher: Watcher) -> None:
    slow = """
from ngfw.decisions import pipeline
import time
matches = pipeline.Pipeline._matches
def slowly(self, *arguments):
    print("slow", flush=True)
    time.sleep(0.3)
    return matches(self, *arguments)
pipeline.Pipeline._matches = slowly
Service(load).run()
"""
    watcher.start(code=slow)
    watcher.write(*(alert("198.51.100.1", number) for number in range(2000)), alert("198.51.100.2"))
    wait_until(lambda: "slow" in watcher.output())
    start = time.monotonic()
    assert watcher.stop() == 0
    assert time.monotonic() - start < shared(2.0)
    watcher.start()
    wait_until(lambda: watcher.blocked() == {"198.51.100.1", "198.51.100.2"})
    assert len(watcher.lines("alert.log")) == 2001
    assert watcher.stop() == 0


@pytest.mark.feature("S3")
def test_the_watchdog_is_fed_within_a_long_batch_and_at_a_long_start(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    slow = """
from ngfw.decisions import pipeline
import time
matches, count_again = pipeline.Pipeline._matches, pipeline.Pipeline._count_again
def slowly(self, *arguments):
    time.sleep(0.5)
    return matches(self, *arguments)
def recall(self, *arguments):
    time.sleep(0.005)
    return count_again(self, *arguments)
pipeline.Pipeline._matches, pipeline.Pipeline._count_again = slowly, recall
from ngfw.running import notify
notify._START_SECONDS = 1
Service(load).run()
"""
    watcher.rules.write_text(RULES.replace("severity: high", "severity: high\n    threshold: 100000"))
    watcher.write(*(alert("198.51.100.1", number) for number in range(500)))
    watcher.configure(start_at="end")
    watcher.start(code=slow, wait=False)
    watcher.hear("EXTEND_TIMEOUT_USEC=1000000")
    watcher.hear("READY=1")
    watcher.write(*(alert("198.51.100.1", number) for number in range(1000)))
    fed = time.monotonic()
    for _time in range(3):  # all within the one batch
        watcher.hear("WATCHDOG=1", seconds=3)
        assert not watcher.lines("alerts.json")
    assert time.monotonic() - fed < shared(5)
    watcher.stop()


@pytest.mark.feature("S3", "E3")
def test_lines_that_a_kill_lost_for_a_full_disk_are_announced(watcher: Watcher) -> None:
    watcher.journals.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "ngfw-test", str(watcher.journals)], check=True)
    try:
        watcher.start()
        with suppress(OSError), (watcher.journals / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 512)
        watcher.write(*(alert(f"203.0.113.{number}", number) for number in range(1, 60)))
        wait_until(lambda: not watcher.network.passes("203.0.113.59"))
        wait_until(lambda: watcher.settled() and "blocks.log: No space" in watcher.output())
        watcher.stop(signal.SIGKILL)
        (watcher.journals / "filler").unlink()
        watcher.start()
        wait_until(lambda: watcher.lines("daemon.log", "the last run ended before it could write"))
        assert watcher.stop() == 0
        watcher.start()
        assert watcher.output().count("the last run ended before it could write") == 1
    finally:
        subprocess.run(["umount", "-l", str(watcher.journals)], check=True)
