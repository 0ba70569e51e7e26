# SPDX-License-Identifier: GPL-3.0-or-later
"""A dry run decides and journals as the live watcher does on the same lines, over a day of a simulated clock."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ngfw.decisions.history import History
from ngfw.decisions.pipeline import Pipeline
from ngfw.effects.enforcement import DryRun
from ngfw.effects.journal import Journal
from ngfw.effects.recorder import Recorder
from ngfw.effects.state import State
from ngfw.effects.transaction import Transaction
from ngfw.events.tail import Chunk
from ngfw.firewall.address import parse_network
from ngfw.firewall.entry import Action, Block, Direction, Entry
from ngfw.firewall.result import Result
from ngfw.metrics import Metrics
from ngfw.rules.load import parse_rules
from ngfw.running.endings import Endings
from ngfw.settings.config import Config

START = 1_800_000_000.0
HITS = 5_000
RULES = b"""
rules:
  - name: High
    type: alert
    expression: alert.severity == 1
    severity: high
    actions: [{type: iptables_block, config: {duration: 30m}}]
  - name: Many
    type: alert
    expression: alert.severity == 2
    threshold: 3
    threshold_window: 600
    actions: [{type: iptables_reject, config: {duration: 2h}}, {type: iptables_log, config: {duration: 10m}}]
"""


class Kernel(Recorder):
    """What a kernel would have in force, by the test's clock; nothing of it is whitelisted."""

    simulated = False

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self._clock = clock

    def apply(self, blocks: Iterable[Block]) -> Result:
        return self.block(blocks, self, self._clock())

    def entries(self) -> list[Entry]:
        return self.in_force(self._clock())

    def holds(self, block: Block) -> bool:
        entry = self.standing(block)
        return entry is not None and (entry.expires_at is None or entry.expires_at > self._clock())


class Day:
    """One watcher without its loop: the test moves the clock."""

    def __init__(self, directory: Path, *, dry_run: bool) -> None:
        self.now = START
        self.metrics = Metrics()
        self.directory = directory
        config = replace(Config.default(), dry_run=dry_run, home_net=())
        enforcement: Any = Kernel(self.clock)
        if dry_run:
            enforcement = DryRun.__new__(DryRun)  # without a socket to the machine's own kernel
            enforcement._firewall = Kernel(self.clock)
            enforcement._clock, enforcement._recorder, enforcement.look = self.clock, Recorder(), enforcement._look
        self.journal = Journal(directory, clock=self.clock, echo=lambda text: None)
        self.history = History(None, report=lambda text, problem: None)
        self.history.open()
        self.pipeline = Pipeline(
            config, parse_rules(RULES, "test.yml"), enforcement.look, history=self.history, metrics=self.metrics
        )
        self.endings = Endings(
            enforcement,
            self.metrics,
            journal=self.note,
            clock=self.clock,
            dry_run=dry_run,
            forgiven=lambda blocks: None,
        )
        self.transaction = Transaction(
            State(directory, report=lambda text: None),
            self.journal,
            self.metrics,
            enforcement.apply,
            dry_run=dry_run,
            clock=self.clock,
            on_entries=self.endings.add,
            lifted=self.endings.unseen,
            offended=lambda blocks, at: self.history.add(blocks, at, at - config.escalation.memory),
        )

    def clock(self) -> float:
        return self.now

    def note(self, ends: list[Any]) -> None:
        self.transaction.note(ends, {})

    def move(self, to: float) -> None:
        """Let time pass: what ends by then is journaled when it ends."""
        while (end := self.endings.next()) is not None and end <= to:
            self.now = max(self.now, end)
            self.endings.expire()
        self.now = to

    def write(self, lines: str) -> None:
        batch = self.pipeline.process([Chunk("eve", "eve.json", lines.encode(), 0)], now=self.now)
        if batch.has_effect:
            self.transaction.begin(batch, {})
            self.transaction.finish()
            self.transaction.settle()

    def lines(self, name: str) -> list[str]:
        self.journal.close()
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []


def alert(number: int, at: float, generator: random.Random) -> str:
    source = f"203.0.113.{generator.randrange(60)}"
    record = {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{number % 1000000:06d}+0000",
        "event_type": "alert",
        "src_ip": source,
        "dest_ip": "192.0.2.1",
        "proto": "TCP",
        "app_proto": "http",
        "alert": {
            "gid": 1,
            "signature_id": generator.randrange(5),
            "signature": "x",
            "severity": generator.choice((1, 2, 2, 2, 3)),
        },
        "flow": {"pkts_toserver": 4, "pkts_toclient": 3, "src_ip": source},
    }
    return json.dumps(record) + "\n"


@pytest.mark.feature("U1")
def test_a_day_of_dry_run_and_the_same_day_live_differ_in_a_word(tmp_path: Path) -> None:
    days = {}
    for dry_run in (True, False):
        generator = random.Random(1)
        day = days[dry_run] = Day(tmp_path / str(dry_run), dry_run=dry_run)
        day.directory.mkdir()
        for number in range(HITS):
            day.move(START + 86400 * number / HITS)
            day.write(alert(number, day.now, generator))
        day.move(day.now + 86400)
    rehearsed, live = (days[dry_run].lines("alerts.json") for dry_run in (True, False))
    assert len(live) > 1000
    assert {json.loads(line)["action"] for line in live} >= {"block", "reject", "log", "expire"}
    assert [line.replace('"dry_run":true', '"dry_run":false') for line in rehearsed] == live
    assert all('"dry_run":true' in line for line in rehearsed)
    assert days[True].lines("alert.log") == days[False].lines("alert.log")
    assert days[True].lines("blocks.log") == []
    assert days[True].metrics.blocks_created == 0
    made = {word: sum(day.metrics.actions.values()) for word, day in days.items()}
    assert made[True] == made[False]
    assert {result for _kind, result in days[True].metrics.actions} == {"dry_run"}


class Busy(float):
    """A moment at which another block comes, as the loop makes one while a thread asks what is in force."""

    recorder: Recorder

    def __ge__(self, other: float) -> bool:
        self.recorder.put(block(len(self.recorder.in_force(float(self)))), float(self))
        return float(self) >= other


def block(number: int) -> Block:
    return Block(parse_network(f"203.0.113.{number}"), Action.DROP, Direction.SOURCE, 1800, "High", "RULE High")


@pytest.mark.feature("B8")
def test_what_is_in_force_can_be_asked_for_while_blocks_come() -> None:
    recorder = Recorder()
    recorder.put(block(0), START)
    moment = Busy(START + 1)
    moment.recorder = recorder
    assert [entry.block for entry in recorder.in_force(moment)] == [block(0)]


@pytest.mark.feature("B8")
def test_what_the_whitelist_has_lifted_does_not_come_back_with_its_end(tmp_path: Path) -> None:
    day = Day(tmp_path, dry_run=True)
    dry_run = day.endings._kernel
    day.endings.add(dry_run.apply([block(7)]).blocked)
    for whitelist in ({block(7).network: ""}, {}):
        dry_run._firewall.guard_by(whitelist=whitelist, protected={})
        day.endings.compare()
    day.move(START + 7200)
    told = [json.loads(line)["action"] for line in (tmp_path / "alerts.json").read_text().splitlines()]
    assert told == ["unblock"]
    assert len(dry_run.apply([block(7)]).blocked) == 1
