# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recorded log would have led to: the watcher's own pipeline over files, by the events' own clock.

It touches nothing and depends on nothing of the machine: only `home_net` is inside, only special networks are
protected. Local lists count; a provider is asked if `online` says so, and then its answer is waited for.
"""

from __future__ import annotations

import errno
import gzip
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from .decisions.decision import Decision, Outcome
from .decisions.history import History
from .decisions.pipeline import Pipeline
from .decisions.view import Ask
from .effects.recorder import Recorder
from .effects.wording import iso_time, plain_line
from .events.logfile import without_nul_runs
from .events.tail import Chunk
from .firewall.address import PRIVATE, Network
from .firewall.host import SPECIAL
from .firewall.text import quoted
from .intel.abuseipdb import Direct
from .intel.mailbox import Case
from .intel.netsets import Netsets
from .intel.verdict import PRIVATE_SPACE, State, Verdict
from .metrics import Metrics
from .rules.load import RuleSet
from .settings.config import Config

MAX_LINE = 1 << 20
"""A longer line is skipped, as the live watcher does."""

_STEP = 1 << 20
_OBJECT = re.compile(rb'^(?!\d\d/\d\d/)[^"\n{]*\{\s*"', re.MULTILINE)
"""A line of EVE, with a prefix or without; the first of a file may be the torn end of one."""

_TIMELINE_WIDTH = 60
_TIMELINE_ROWS = 20


@dataclass
class Summary:
    """What a replay counted."""

    metrics: Metrics = field(default_factory=Metrics)
    decisions: Counter[str] = field(default_factory=Counter)
    by_rule: Counter[tuple[str, str]] = field(default_factory=Counter)
    offenders: Counter[str] = field(default_factory=Counter)
    moments: list[float] = field(default_factory=list)

    def add(self, decision: Decision) -> None:
        self.decisions[decision.action] += 1
        if decision.outcome is not Outcome.SKIPPED:
            self.by_rule[decision.what.rule, decision.action] += 1
            self.offenders[decision.ip] += 1
            self.moments.append(decision.time)


def replay(
    paths: list[Path],
    config: Config,
    rules: RuleSet,
    *,
    log_format: str = "auto",
    online: bool = False,
    on_decision: Callable[[Decision], None],
    report: Callable[[str], None],
) -> Summary:
    """Feed the files, one after the other, and call `on_decision` for each decision. Raises OSError."""
    summary = Summary()
    recorder = Recorder()
    recorder.guard_by(whitelist=config.guarded, protected=SPECIAL)
    history = History(None, report=lambda text, problem: report(text))
    history.open()
    pipeline = Pipeline(
        config,
        rules,
        recorder.look,
        ask=_providers(config, online, report),
        history=history,
        metrics=summary.metrics,
        report=report,
    )
    for path in paths:
        for chunk in chunks(path, log_format):
            for decision in pipeline.process([chunk], now=None).decisions:
                if decision.block is not None:
                    recorder.put(decision.block, decision.time)
                if decision.block is not None and decision.offence:
                    history.add([decision.block], decision.time, decision.time - config.escalation.memory)
                summary.add(decision)
                on_decision(decision)
    return summary


def _providers(config: Config, online: bool, report: Callable[[str], None]) -> Ask:
    """The local lists, and AbuseIPDB where it may be asked: once for each address, within the budget of a minute."""
    lists = Netsets(config.intel.netsets, report=lambda text, problem: report(text) if problem else None)
    direct = Direct(config.intel.abuseipdb, config.intel.threshold) if online else None
    loaded = False

    def ask(address: Network, _case: Case) -> tuple[Verdict, ...]:
        nonlocal loaded
        if not loaded:
            loaded = True
            lists.load(time.time())
        if PRIVATE.covering(address) is not None:
            return PRIVATE_SPACE
        verdicts = tuple(lists.verdicts(address))
        if direct is None or any(verdict.state is State.LISTED for verdict in verdicts):
            return verdicts
        return (*verdicts, direct.verdict(address))

    return ask


def chunks(path: Path, log_format: str = "auto") -> Iterator[Chunk]:
    """The whole lines of a file in steps of bounded size, an unfinished last line included; `.gz` is unpacked.

    Raises OSError.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield from _chunks(stream, path, log_format)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise OSError(errno.EIO, f"cannot be unpacked: {error}", str(path)) from None


def _chunks(stream: BinaryIO | gzip.GzipFile, path: Path, log_format: str) -> Iterator[Chunk]:
    while data := stream.read(_STEP):
        data += stream.readline(MAX_LINE + 1)
        if log_format == "auto":
            log_format = "eve" if _OBJECT.search(data) else "fast"
        last = data.rfind(b"\n", 0, len(data) - 1) + 1
        discarded = len(data) - last > MAX_LINE  # only the line across the step's end can be that long
        if discarded:
            rest, data = data[last:], data[:last]
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(MAX_LINE)
        elif not data.endswith(b"\n"):
            data += b"\n"
        data, runs = without_nul_runs(data)
        yield Chunk(log_format, str(path), data, discarded + runs)


def to_dict(decision: Decision) -> dict[str, Any]:
    """A decision as `replay --json` prints it."""
    return {
        "ts": iso_time(decision.time),
        "action": decision.action,
        "ip": decision.ip,
        **decision.what._asdict(),
        "sources": list(decision.what.sources),
    }


def to_text(decision: Decision) -> str:
    """A decision as people read it, one line."""
    return plain_line(to_dict(decision))


def summary_lines(summary: Summary) -> list[str]:
    """The summary and the timeline, for people."""
    metrics = summary.metrics
    acted = sum(count for action, count in summary.decisions.items() if action != "skip")
    counts = (
        f"{sum(metrics.events.values())} events",
        f"{metrics.lines_invalid} invalid lines",
        f"{sum(metrics.rule_hits.values())} hits of rules",
        f"{acted} blocks and other actions that would have been taken",
        f"{metrics.duplicates_skip} hits on what was blocked already",
        f"{sum(metrics.skips.values())} refusals",
    )
    lines = ["", ", ".join(counts)]
    if metrics.skips:
        lines.append("refused: " + ", ".join(f"{count} {word}" for word, count in metrics.skips.most_common()))
    for (rule, action), count in summary.by_rule.most_common():
        lines.append(f"  {count:>7}  {action:<10}  {quoted(rule)}")
    if summary.offenders:
        top = ", ".join(f"{address} ({count})" for address, count in summary.offenders.most_common(5))
        lines.append(f"most often: {top}")
    return lines + _timeline(summary.moments)


def _timeline(moments: list[float]) -> list[str]:
    """When it happened: one bar for each part of the time, or one line for each moment if there are few."""
    if not moments:
        return []
    first, last = min(moments), max(moments)
    if first == last:
        return [f"all at {iso_time(first)}"]
    width = (last - first) / _TIMELINE_ROWS
    counts = Counter(min(int((moment - first) / width), _TIMELINE_ROWS - 1) for moment in moments)
    most = max(counts.values())
    lines = ["", "when:"]
    for row in range(_TIMELINE_ROWS):
        count = counts.get(row, 0)
        mark = "#" * max(1, count * _TIMELINE_WIDTH // most) if count else ""
        lines.append(f"{iso_time(first + row * width)} {count:>6} {mark}".rstrip())
    return lines
