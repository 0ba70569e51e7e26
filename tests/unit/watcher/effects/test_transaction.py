# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ngfw.decisions.decision import Decision, Outcome, What
from ngfw.decisions.pipeline import Batch
from ngfw.effects.journal import ALERT_LOG, ALERTS_JSON, BLOCKS_LOG, Growth, Journal
from ngfw.effects.state import State
from ngfw.effects.transaction import PATIENCE, Transaction
from ngfw.effects.wording import Told
from ngfw.firewall.address import parse_network
from ngfw.firewall.entry import Block, Entry, Origin
from ngfw.firewall.errors import InvalidInput, KernelError
from ngfw.firewall.result import Refusal, Result
from ngfw.metrics import Metrics

from .conftest import end

NOW = 1_756_812_285.0


class Kernel:
    """What the library answers, and what it was given."""

    def __init__(self) -> None:
        self.given: list[list[str]] = []
        self.held: set[str] = set()
        self.refused: dict[str, str] = {}
        self.broken: set[str] = set()
        self.forgotten: set[str] = set()
        self.down = False

    def block(self, blocks: list[Block]) -> Result:
        self.given.append([str(block.network) for block in blocks])
        if self.down or any(str(block.network) in self.broken for block in blocks):
            raise KernelError("the kernel said no; try again")
        result = Result()
        for block in blocks:
            text = str(block.network)
            if text in self.refused:
                result.refused.append(Refusal(text, self.refused[text]))
            elif text in self.forgotten:
                continue
            elif text in self.held and block.duration > 1800:
                result.extended.append(Entry(block, Origin.WATCHER, NOW, NOW + block.duration))
            elif text in self.held:
                result.already.append(block)
            else:
                self.held.add(text)
                result.blocked.append(Entry(block, Origin.WATCHER, NOW, NOW + block.duration))
        return result


class Setup:
    """A transaction over real files and a kernel that answers as told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kernel = Kernel()
        self.said: list[str] = []
        self.steps: list[str] = []
        self.entries: list[Entry] = []
        self.lifted: dict[str, Told] = {}
        self.now = NOW
        self.after: Callable[[str], None] = self.steps.append
        self.restart()

    def restart(self) -> None:
        """A new process on the same files."""
        self.metrics = Metrics()
        self.state = State(self.directory / "state", report=self.said.append)
        self.state.directory.mkdir(exist_ok=True)
        self.journal = Journal(self.directory / "log", clock=lambda: self.now, echo=self.said.append)
        self.transaction = Transaction(
            self.state,
            self.journal,
            self.metrics,
            self.kernel.block,
            clock=lambda: self.now,
            on_entries=self.entries.extend,
            lifted=lambda keys: {key: self.lifted.pop(str(key[0])) for key in keys if str(key[0]) in self.lifted},
            after=lambda step: self.after(step),
        )

    def run(self, batch: Batch, mark: int = 1) -> None:
        self.transaction.begin(batch, {"mark": mark})
        self.finish()

    def finish(self) -> None:
        self.transaction.finish()
        self.transaction.settle()

    def kernel_is_back(self, *, killed: bool) -> None:
        """What is open is finished, by this process or, if that was killed, by the next."""
        self.kernel.down = False
        if killed:
            self.restart()
            self.transaction.resume()
        else:
            self.finish()

    def lines(self, name: str) -> list[str]:
        path = self.directory / "log" / name
        return path.read_text().splitlines() if path.exists() else []

    def journaled(self) -> list[tuple[str, str, str]]:
        fields = [json.loads(line) for line in self.lines(ALERTS_JSON)]
        return [(each["action"], each["ip"], each["reason"]) for each in fields]


@pytest.mark.feature("S3", "E3")
def test_lines_of_what_blocks_nobody_are_left_out_where_the_journals_grow_too_fast(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.transaction._growth = Growth(burst=4000, per_second=10)
    for number in range(1, 21):
        forged = decision(f"198.51.100.{number}", Outcome.SKIPPED)
        real = decision(f"203.0.113.{number}")
        setup.run(Batch([forged, real], [forged, real], [], []))
    actions = [action for action, _ip, _reason in setup.journaled()]
    assert actions.count("block") == 20 == len(setup.lines(BLOCKS_LOG))
    assert actions.count("skip") == len(setup.lines(ALERT_LOG)) // 2 < 8
    left_out = 60 - len(actions) - len(setup.lines(ALERT_LOG)) + 20
    assert len(setup.said) == 1, "once, not for each"
    setup.now += 30
    setup.run(Batch([], [real], [], []))
    assert len(setup.said) == 2
    assert setup.said[1].startswith(f"{left_out} lines of alerts and refusals were left out")


class KilledError(Exception):
    """Stands for kill -9 at that instant."""


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def decision(ip: str, outcome: Outcome = Outcome.NEW, duration: int = 1800) -> Decision:
    block = None if outcome is Outcome.SKIPPED else Block(parse_network(ip), duration=duration, reason="RULE High")
    return Decision(
        NOW - 0.5,
        "skip" if block is None else "block",
        ip,
        ip,
        What(
            "source",
            "High",
            "spoofable" if block is None else "RULE High",
            None if block is None else duration,
            7,
            "Something",
        ),
        ("alert", ip, None, None, None, None),
        outcome,
        block,
    )


def batch(*decisions: Decision, repeats: tuple[Decision, ...] = ()) -> Batch:
    return Batch(list(decisions), [*decisions, *repeats], list(repeats), [])


A, B, C = "198.51.100.1", "198.51.100.2", "198.51.100.3"


@pytest.mark.feature("A2")
def test_the_four_steps_in_their_order(setup: Setup) -> None:
    seen: dict[str, tuple[bool, bool, bool, bool]] = {}

    def after(step: str) -> None:
        seen[step] = (
            setup.state.pending() is not None,
            A in setup.kernel.held,
            bool(setup.lines(BLOCKS_LOG)),
            setup.state.positions() == {"mark": 1},
        )

    setup.after = after
    setup.run(batch(decision(A)))
    assert seen == {
        "announced": (True, False, False, False),
        "enforced": (True, True, False, False),
        "journaled": (True, True, True, False),
        "committed": (False, True, True, True),
    }
    assert setup.metrics.actions == {("block", "success"): 1}
    assert setup.metrics.reaction.last == 0.5
    assert [str(entry.block.network) for entry in setup.entries] == [A]


@pytest.mark.feature("A2")
@pytest.mark.parametrize("step", ["announced", "enforced", "journaled", "committed"])
@pytest.mark.parametrize("cut", [0, 1, 60, 400])
def test_killed_after_any_step_the_next_start_finishes(setup: Setup, step: str, cut: int) -> None:
    def kill(reached: str) -> None:
        if reached == step:
            raise KilledError

    setup.after = kill
    with pytest.raises(KilledError):
        setup.run(batch(decision(A), decision(B, Outcome.SKIPPED), decision(C)))
    if step == "journaled" and cut:
        # A write of several pages can be cut short by a kill.
        path = setup.directory / "log" / ALERTS_JSON
        path.write_bytes(path.read_bytes()[:-cut])
    setup.after = setup.steps.append
    setup.restart()
    assert setup.transaction.resume() is (step != "committed")
    assert setup.kernel.held == {A, C}
    assert [line.split()[3] for line in setup.lines(BLOCKS_LOG)] == [A, C]
    assert setup.journaled() == [("block", A, "RULE High"), ("skip", B, "spoofable"), ("block", C, "RULE High")]
    assert len(setup.lines(ALERT_LOG)) == 3
    assert setup.state.positions() == {"mark": 1}
    assert setup.state.pending() is None
    assert setup.transaction.resume() is False


@pytest.mark.feature("A2")
def test_batches_of_one_moment_are_journaled_and_committed_together(setup: Setup) -> None:
    for mark, ip in enumerate((A, B, C), 1):
        setup.transaction.begin(batch(decision(ip)), {"mark": mark})
        setup.transaction.finish()
    assert setup.steps == ["announced", "enforced"] * 3
    assert setup.kernel.held == {A, B, C}
    assert setup.lines(BLOCKS_LOG) == []
    assert setup.state.positions() is None
    assert setup.transaction.settle()
    assert setup.steps[6:] == ["journaled", "committed"]
    assert [line.split()[3] for line in setup.lines(BLOCKS_LOG)] == [A, B, C]
    assert setup.state.positions() == {"mark": 3}
    assert not setup.transaction.settle(), "there is nothing more"


@pytest.mark.feature("A2")
@pytest.mark.parametrize("cut", [0, 1, 60, 400])
@pytest.mark.parametrize("nth", range(1, 9))
def test_killed_amid_batches_of_one_moment_the_next_start_finishes(setup: Setup, nth: int, cut: int) -> None:
    """Killed after each of eight steps; `cut` is what a kill kept from being written of the last announcement."""
    batches = {1: batch(decision(A), decision(B, Outcome.SKIPPED)), 2: batch(decision(B)), 3: batch(decision(C))}
    count = 0

    def kill(_step: str) -> None:
        nonlocal count
        count += 1
        if count == nth:
            raise KilledError

    def work() -> None:
        for mark, each in batches.items():
            setup.transaction.begin(each, {"mark": mark})
            setup.transaction.finish()
        setup.transaction.settle()

    setup.after = kill
    with pytest.raises(KilledError):
        work()
    pending = setup.directory / "state" / "pending"
    if cut and nth in (3, 5):
        pending.write_bytes(pending.read_bytes()[:-cut])
    setup.after = setup.steps.append
    setup.restart()
    setup.transaction.resume()
    for mark in range((setup.state.positions() or {"mark": 0})["mark"] + 1, 4):
        setup.run(batches[mark], mark)  # these lines are read again
    assert setup.kernel.held == {A, B, C}
    assert [line.split()[3] for line in setup.lines(BLOCKS_LOG)] == [A, B, C]
    assert [ip for _action, ip, _reason in setup.journaled()] == [A, B, B, C]
    assert len(setup.lines(ALERT_LOG)) == 4
    assert setup.state.positions() == {"mark": 3}


@pytest.mark.feature("A2", "F5")
@pytest.mark.parametrize("killed", [False, True])
def test_what_the_kernel_took_is_journaled_while_the_next_batch_waits_for_it(setup: Setup, killed: bool) -> None:
    setup.transaction.begin(batch(decision(A)), {"mark": 1})
    setup.transaction.finish()
    setup.kernel.down = True
    setup.transaction.begin(batch(decision(B), decision(C)), {"mark": 2})
    with pytest.raises(KernelError):
        setup.transaction.finish()
    assert setup.transaction.settle()
    assert [line.split()[3] for line in setup.lines(BLOCKS_LOG)] == [A]
    assert setup.state.positions() is None
    setup.kernel.refused = {C: "whitelisted: 198.51.100.3"}
    setup.kernel_is_back(killed=killed)
    assert [line.split()[3] for line in setup.lines(BLOCKS_LOG)] == [A, B]
    reasons = [(ip, reason) for _action, ip, reason in setup.journaled()]
    assert reasons == [(A, "RULE High"), (B, "RULE High"), (C, "whitelist: 198.51.100.3")]
    assert setup.state.positions() == {"mark": 2}


@pytest.mark.feature("A2", "E3")
@pytest.mark.parametrize("name", [ALERT_LOG, BLOCKS_LOG, ALERTS_JSON])
@pytest.mark.parametrize("cut", [0, 1, 60, 150, 400])
def test_killed_again_and_again_while_logs_are_rotated(setup: Setup, name: str, cut: int) -> None:
    def kill(reached: str) -> None:
        if reached == "journaled":
            raise KilledError

    setup.after = kill
    with pytest.raises(KilledError):
        setup.run(batch(decision(A), decision(B, Outcome.SKIPPED), decision(C)))
    path = setup.directory / "log" / name
    for turn in range(3):
        path.write_bytes(path.read_bytes()[: -cut or None])
        path.rename(f"{path}.{turn}")
        setup.restart()
        with pytest.raises(KilledError):
            setup.transaction.resume()
    setup.after = setup.steps.append
    setup.restart()
    assert setup.transaction.resume()
    lines: dict[str, list[str]] = {each: [] for each in (ALERT_LOG, BLOCKS_LOG, ALERTS_JSON)}
    for each, known in lines.items():
        for old in sorted((setup.directory / "log").glob(f"{each}*")):
            # What was cut off in a file that is rotated away is no line.
            known += old.read_text().split("\n")[:-1]
    assert sorted(line.split()[3] for line in lines[BLOCKS_LOG]) == [A, C]
    assert sorted(line.split()[3] for line in lines[ALERT_LOG]) == [A, B, C]
    assert sorted(json.loads(line)["ip"] for line in lines[ALERTS_JSON]) == [A, B, C]
    assert setup.kernel.held == {A, C}


@pytest.mark.feature("A2")
def test_what_others_wrote_between_is_not_taken_for_ours(setup: Setup) -> None:
    def kill(reached: str) -> None:
        if reached == "enforced":
            raise KilledError

    setup.journal.append({BLOCKS_LOG: "before\n"})
    setup.after = kill
    with pytest.raises(KilledError):
        setup.run(batch(decision(A)))
    with (setup.directory / "log" / BLOCKS_LOG).open("a") as other:
        other.write("between\n")
    setup.after = setup.steps.append
    setup.restart()
    setup.transaction.resume()
    assert [line.split()[0] for line in setup.lines(BLOCKS_LOG)][:2] == ["before", "between"]
    assert [line.split()[3] for line in setup.lines(BLOCKS_LOG)[2:]] == [A]


@pytest.mark.feature("A2", "E2")
def test_the_journal_says_what_the_kernel_did(setup: Setup) -> None:
    setup.kernel.refused = {B: "whitelisted: 198.51.100.2"}
    setup.run(batch(decision(A), decision(B)))
    assert [line.split()[3] for line in setup.lines(BLOCKS_LOG)] == [A]
    assert setup.journaled() == [("block", A, "RULE High"), ("skip", B, "whitelist: 198.51.100.2")]
    assert setup.metrics.actions == {("block", "success"): 1, ("block", "failed"): 1}
    assert setup.steps.count("announced") == 2


@pytest.mark.feature("A2")
@pytest.mark.parametrize("step", ["enforced", "journaled"])
def test_a_refusal_survives_a_kill(setup: Setup, step: str) -> None:
    def kill(reached: str) -> None:
        if reached == step:
            raise KilledError

    setup.kernel.refused = {B: "protected: 198.51.100.2"}
    setup.after = kill
    with pytest.raises(KilledError):
        setup.run(batch(decision(A), decision(B)))
    setup.after = setup.steps.append
    setup.restart()
    setup.transaction.resume()
    assert setup.journaled() == [("block", A, "RULE High"), ("skip", B, "protected: 198.51.100.2")]


@pytest.mark.feature("A2")
def test_a_batch_found_too_late_blocks_nobody(setup: Setup) -> None:
    def kill(reached: str) -> None:
        raise KilledError

    setup.after = kill
    with pytest.raises(KilledError):
        setup.run(batch(decision(A, duration=60), decision(B, duration=0), decision(C, duration=7200)))
    setup.after = setup.steps.append
    setup.now += 3600
    setup.restart()
    setup.transaction.resume()
    assert setup.kernel.held == {B, C}
    assert setup.journaled()[0] == ("skip", A, "stale: 3600 s old")


def test_what_the_library_does_not_speak_of_was_not_blocked(setup: Setup) -> None:
    setup.kernel.forgotten = {B}
    setup.run(batch(decision(A), decision(B)))
    assert setup.journaled() == [("block", A, "RULE High"), ("skip", B, "the kernel did not take it")]
    assert setup.metrics.actions == {("block", "success"): 1, ("block", "failed"): 1}


def test_an_entry_that_somebody_lifted_is_a_new_block(setup: Setup) -> None:
    repeat = decision(A, Outcome.ACTIVE)
    setup.kernel.held = {B}
    setup.metrics.duplicates_skip = 2  # as hits on blocks in force are counted when they are decided
    setup.run(batch(repeats=(repeat, decision(B, Outcome.ACTIVE))))
    assert setup.kernel.given == [[A, B]]
    assert setup.journaled() == [("block", A, "RULE High")]
    assert [line.split()[2:4] for line in setup.lines(BLOCKS_LOG)] == [["BLOCKED", A]]
    assert setup.metrics.duplicates_skip == 1


@pytest.mark.parametrize("hit", [[A, B], [B], []])
def test_the_end_of_what_somebody_lifted_is_told_before_the_new_block(setup: Setup, hit: list[str]) -> None:
    """Whether the watcher still took it for being in force, or had seen that it was gone; whatever else is hit."""
    setup.kernel.held = {B}
    setup.lifted = {A: end(A), B: end(B)}
    new = [] if A in hit else [decision(A)]
    setup.run(batch(*new, repeats=tuple(decision(ip, Outcome.ACTIVE) for ip in hit)))
    assert setup.journaled() == [("unblock", A, "by hand"), ("block", A, "RULE High")]


def test_an_entry_hit_again_and_extended_in_one_batch_was_not_lifted(setup: Setup) -> None:
    setup.kernel.held = {A}
    setup.run(batch(decision(A, Outcome.EXTENDED, duration=7200), repeats=(decision(A, Outcome.ACTIVE),)))
    assert setup.kernel.given == [[A, A]]
    assert setup.journaled() == [("extend", A, "RULE High")]


@pytest.mark.feature("F5")
def test_a_kernel_that_is_away_is_waited_for_and_nothing_is_lost(setup: Setup) -> None:
    setup.kernel.down = True
    setup.transaction.begin(batch(decision(A), decision(B)), {"mark": 1})
    for _ in range(PATIENCE + 2):
        with pytest.raises(KernelError):
            setup.transaction.finish()
        assert setup.transaction.unfinished
        assert setup.lines(BLOCKS_LOG) == []
    setup.kernel.down = False
    setup.finish()
    assert not setup.transaction.unfinished
    assert [line.split()[3] for line in setup.lines(BLOCKS_LOG)] == [A, B]
    assert setup.state.positions() == {"mark": 1}


@pytest.mark.feature("F5")
def test_one_bad_block_stops_no_other(setup: Setup) -> None:
    setup.kernel.broken = {B}
    setup.transaction.begin(batch(decision(A), decision(B), decision(C)), {"mark": 1})
    for _ in range(PATIENCE - 1):
        with pytest.raises(KernelError):
            setup.transaction.finish()
    setup.finish()
    assert setup.kernel.held == {A, C}
    assert [action for action, _ip, _reason in setup.journaled()] == ["block", "skip", "block"]
    assert any("198.51.100.2 was not blocked" in text for text in setup.said)


def test_bad_input_is_not_tried_again(setup: Setup) -> None:
    def refuse(blocks: list[Block]) -> Result:
        if len(blocks) > 1 or str(blocks[0].network) == B:
            raise InvalidInput("not that one")
        return setup.kernel.block(blocks)

    setup.transaction = Transaction(setup.state, setup.journal, setup.metrics, refuse, clock=lambda: NOW)
    setup.run(batch(decision(A), decision(B)))
    assert [(action, ip) for action, ip, _reason in setup.journaled()] == [("block", A), ("skip", B)]


@pytest.mark.feature("E3")
def test_a_state_directory_that_is_full_stops_nothing(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    real = State.announce

    def full(*_arguments: Any, **_named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(State, "announce", full)
    setup.run(batch(decision(A)), 1)
    setup.run(batch(decision(B)), 2)
    assert setup.kernel.held == {A, B}
    assert [line.split()[3] for line in setup.lines(BLOCKS_LOG)] == [A, B]
    assert len([text for text in setup.said if "blocking goes on" in text]) == 1
    assert setup.state.positions() is None
    monkeypatch.setattr(State, "announce", real)
    setup.run(batch(decision(C)), 3)
    assert setup.state.positions() == {"mark": 3}
    assert "can be written again" in setup.said[-1]


def test_an_extension_is_called_so(setup: Setup) -> None:
    setup.run(batch(decision(A), decision(A, Outcome.EXTENDED, 7200)))
    assert [line.split()[2] for line in setup.lines(BLOCKS_LOG)] == ["BLOCKED", "EXTENDED"]
    assert [action for action, _ip, _reason in setup.journaled()] == ["block", "extend"]


@pytest.mark.feature("A2")
@pytest.mark.parametrize("step", ["announced", ""])
def test_a_note_is_journaled_once_whenever_it_is_killed(setup: Setup, step: str) -> None:
    ends = [end(A), end(B)._replace(cut_off=False)]

    def kill(at: str) -> None:
        if at == step:
            raise KilledError

    setup.after = kill
    if step:
        with pytest.raises(KilledError):
            setup.transaction.note(ends, {"mark": 5})
    else:
        setup.transaction.note(ends, {"mark": 5})
    setup.after = setup.steps.append
    setup.restart()
    assert setup.transaction.resume() is bool(step)
    assert [line.split()[2:4] for line in setup.lines(BLOCKS_LOG)] == [["UNBLOCKED", A]]
    assert setup.journaled() == [("unblock", A, "by hand"), ("unblock", B, "by hand")]
    assert setup.state.positions() == {"mark": 5}


@pytest.mark.feature("A2")
@pytest.mark.parametrize("killed", [False, True])
def test_a_note_during_an_open_batch_leaves_that_alone(setup: Setup, killed: bool) -> None:
    setup.kernel.down = True
    setup.transaction.begin(batch(decision(A), decision(C)), {"mark": 1})
    setup.transaction.note([end(B)], {"mark": 5})
    setup.kernel.refused = {C: "whitelisted: 198.51.100.3"}
    setup.kernel_is_back(killed=killed)
    assert [line.split()[2:4] for line in setup.lines(BLOCKS_LOG)] == [["UNBLOCKED", B], ["BLOCKED", A]]
    assert setup.journaled()[2:] == [("skip", C, "whitelist: 198.51.100.3")]
    assert setup.state.positions() == {"mark": 1}
