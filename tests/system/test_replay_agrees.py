# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped rules decide over recordings of real attacks as the live watcher does, line by line."""

from __future__ import annotations

import json
import random
import shutil
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ..namespace import wait_until
from .conftest import FILES, Watcher, alert

RECORDINGS = sorted((Path(__file__).parents[1] / "data").glob("eve*/*.json"))  # of Suricata 7 and 8
KEYS = ("action", "ip", "target", "rule", "reason", "duration", "sid", "msg", "score", "sources", "ts")
# Its providers answer a watcher, and no replay.
ASKS = "ngfw-alerts.yml"


def stamped_now(path: Path, attacker: str) -> list[str]:
    """The lines of a recording by an attacker of its own, moved in time so that the last is of now."""
    text = path.read_text(encoding="utf-8").replace('"198.51.100.66"', f'"{attacker}"')
    records = [json.loads(line) for line in text.splitlines()]
    times = [datetime.fromisoformat(record["timestamp"].replace("+0000", "+00:00")).timestamp() for record in records]
    shift = time.time() - max(times)
    for record, at in zip(records, times):
        stamp = datetime.fromtimestamp(at + shift, timezone.utc)
        record["timestamp"] = stamp.strftime("%Y-%m-%dT%H:%M:%S.%f+0000")
    return [json.dumps(record, separators=(",", ":")) + "\n" for record in records]


def without_reputation(text: str) -> str:
    """The rule file up to the rule that asks for reputation, which is its last."""
    kept, _asks, rest = text.partition("  - name: Alert from an address of bad reputation")
    assert rest.count("- name:") == 0
    return kept


@pytest.mark.feature("F8", "F7")
def test_replay_of_real_attacks_decides_as_the_live_watcher_did(watcher: Watcher) -> None:
    for path in (FILES / "rules.d").glob("*.yml"):
        shutil.copy(path, watcher.rules.parent)
    asks = watcher.rules.parent / ASKS
    asks.write_text(without_reputation(asks.read_text(encoding="utf-8")), encoding="utf-8")
    watcher.start()
    random_ = random.Random(12)
    print("seed 12")
    for number, path in enumerate(RECORDINGS):
        lines = stamped_now(path, f"203.0.113.{number}")
        while lines:
            size = random_.randint(1, 60)
            watcher.write(*lines[:size])
            lines = lines[size:]
    watcher.write(alert("203.0.113.200", 99))
    wait_until(lambda: any(each["sid"] == 99 for each in watcher.decisions()))

    lived = watcher.decisions()
    done = watcher.command("replay", "--json", str(watcher.log))
    assert done.returncode == 0, done.stderr
    replayed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [picked(each) for each in replayed] == [picked(each) for each in lived]
    assert len({each["rule"] for each in lived}) >= 13
    assert {"block", "rate_limit"} <= {each["action"] for each in lived}


def picked(decision: dict[str, Any]) -> list[Any]:
    # A longer block of the same address is an extension for the kernel, a block for a replay.
    return ["block" if decision[key] == "extend" else decision[key] for key in KEYS]
