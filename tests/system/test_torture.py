# SPDX-License-Identifier: GPL-3.0-or-later
"""A busy sensor, logs rotated both ways, journals rotated too, and a watcher that is killed again and again.

`NGFW_TORTURE_SECONDS=60` makes the run that long (it kills about ten times a second), `NGFW_SEED` repeats one.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from ipaddress import IPv4Address

import pytest

from ..namespace import wait_until
from .conftest import Watcher, alert

KILLS = 200
SECONDS = float(os.environ.get("NGFW_TORTURE_SECONDS", "0"))
PER_SECOND = 2_000
MOST = 30_000 if not SECONDS else 100_000
"""Alerts in all: each life reads the blocks that are there, and lives are to be short."""
HOME = "10.0.0.1"
FIRST = IPv4Address("198.18.0.0")

# The modules are loaded once and each life is a fork, so that most of the time is spent between the steps that matter.
DRIVER = """
import random, time

seed, kills, until, journals, done = {seed}, {kills}, time.monotonic() + {seconds}, Path({journals!r}), Path({done!r})
STEPS = ["announced"] * 8 + ["enforced"] * 8 + ["journaled"] * 2 + ["committed"] + ["any moment"] * 2

def live(choose):
    step, left = choose.choice(STEPS), choose.randint(1, 3)
    if step == "any moment":
        signal.setitimer(signal.ITIMER_REAL, choose.uniform(0.01, 0.2))  # SIGALRM ends it where it stands

    def after(at):
        nonlocal left
        left -= at == step
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Service(load, after=after).run()

del os.environ["NOTIFY_SOCKET"]  # nobody listens all the time
choose = random.Random(seed)
count = 0
while count < kills or time.monotonic() < until:
    own = random.Random(choose.random())
    child = os.fork()
    if child == 0:
        live(own)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (-signal.SIGKILL, -signal.SIGALRM):
        sys.exit(f"a life ended with {{code}}")
    count += 1
    if choose.random() < 0.03:
        for name in ("blocks.log", "alert.log", "alerts.json"):
            if (journals / name).exists():
                (journals / name).rename(journals / f"{{name}}.{{count}}")
done.write_text(str(count))
Service(load).run()
"""


@pytest.mark.feature("A2", "A3")
def test_killed_two_hundred_times_it_neither_loses_nor_doubles(watcher: Watcher) -> None:
    seed = int(os.environ.get("NGFW_SEED", "0")) or random.randrange(1, 1 << 30)
    print(f"NGFW_SEED={seed}")
    choose = random.Random(seed)
    done = watcher.directory / "done"
    watcher.configure(circuit_breaker={"blocks": 1_000_000, "window": "60s"})
    watcher.start()
    watcher.stop()
    code = DRIVER.format(seed=seed, kills=KILLS, seconds=SECONDS, journals=str(watcher.journals), done=str(done))
    watcher.start(code=code, wait=False)
    addresses: list[str] = []
    rotations = skipped = 0
    start = time.monotonic()
    while not done.exists():
        assert watcher.process is not None
        assert watcher.process.poll() is None, watcher.output()
        assert time.monotonic() - start < 600 + SECONDS
        due = min(int((time.monotonic() - start) * PER_SECOND) - len(addresses), 200, MOST - len(addresses))
        fresh = [str(FIRST + number) for number in range(len(addresses), len(addresses) + due)]
        lines = [alert(address, number) for number, address in enumerate(fresh, len(addresses))]
        if due <= 0:
            skipped += 1
            lines.append(alert(HOME, MOST + skipped))
        watcher.write(*lines)
        addresses += fresh
        if choose.random() < 0.02:
            rotations += 1
            rotated = f"{watcher.log}.{rotations}"
            if choose.random() < 0.5:
                watcher.log.rename(rotated)
                watcher.log.touch()
            else:
                shutil.copy(watcher.log, rotated)
                os.truncate(watcher.log, 0)
        time.sleep(0.01)
    took = time.monotonic() - start
    last = "198.51.100.99"
    watcher.write(alert(last))
    addresses.append(last)

    def journaled(name: str, word: str) -> list[str]:
        paths = sorted(watcher.journals.glob(f"{name}*"))
        return [line for path in paths for line in path.read_text().splitlines() if word in line]

    wait_until(lambda: journaled("alerts.json", last), seconds=60)
    print(f"{done.read_text()} kills, {len(addresses)} alerts, {rotations} rotations in {took:.0f} s")
    assert int(done.read_text()) >= KILLS
    assert watcher.blocked() == set(addresses)
    once = Counter(addresses)
    assert Counter(line.split()[3] for line in journaled("blocks.log", " BLOCKED ")) == once
    assert Counter(line.split('"ip":"')[1].split('"')[0] for line in journaled("alerts.json", '"block"')) == once
    numbers = Counter(line.rpartition("alert number ")[2] for line in journaled("alert.log", " ALERT "))
    doubled = {number: count for number, count in numbers.items() if count > 1 and number != '1"'}
    assert not doubled
    assert sum(numbers.values()) == len(addresses) + skipped
    assert watcher.stop(seconds=60) == 0
