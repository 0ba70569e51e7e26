# SPDX-License-Identifier: GPL-3.0-or-later
"""Reputation in the watcher's loop: questions out, answers in, and each answer kept until it has had its effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..events.inotify import FileWatch
from ..firewall.address import Network, parse_host
from ..intel.desk import Desk
from ..intel.mailbox import Answer, Case
from ..intel.verdict import OPEN_STATES, Verdict
from ..rules.load import RuleSet
from ..settings.config import Intel
from .loop import Loop

_AT_ONCE = 500


class Reputation:
    """The desk of one watcher, opened as soon as a rule asks for reputation."""

    def __init__(
        self,
        loop: Loop,
        state_directory: Path | None,
        lookups: Counter[tuple[str, str]],
        *,
        report: Callable[[str, bool], None],
    ) -> None:
        """Without a `state_directory` nothing is written, fetched or asked: local lists count.

        `lookups` counts by provider and result. `report` is told what is for the log, and whether it is a problem.
        """
        self._loop, self._directory, self._lookups, self._report = loop, state_directory, lookups, report
        self._desk: Desk | None = None
        self._files: FileWatch | None = None
        self._answers: list[Answer] = []
        self._given: list[Answer] = []

    def adopt(self, intel: Intel, rules: RuleSet) -> None:
        """Begin, or take another configuration. Lists are read first, which takes a second for a million entries."""
        if self._directory is None:
            netsets = tuple(replace(netset, url=None) for netset in intel.netsets)
            intel = replace(intel, netsets=netsets, abuseipdb=replace(intel.abuseipdb, per_day=0))
        if self._desk is not None:
            self._desk.adopt(intel)
        elif any(rule.intel != "skip" for rule in rules):
            self._desk = Desk(intel, self._directory, report=self._report, lookups=self._lookups)
            self._desk.start()
            self._loop.watch(self._desk.fileno(), self._collect)
        self._watch_files()

    def ask(self, address: Network, case: Case) -> tuple[Verdict, ...]:
        """What is known of a host now; what is not may follow as an answer."""
        return () if self._desk is None else self._desk.ask(address, case)

    def knows_anything(self) -> bool:
        """Whether anybody can be of bad reputation now: a list is in force, or a provider can be asked."""
        return self._desk is not None and self._desk.knows_anything()

    def recover(self, lookups: Iterable[tuple[str, str, str]]) -> None:
        """Ask once more what the last run had left open with its last batch, unless the desk knows of it."""
        for text, key, case in lookups:
            address = parse_host(text)
            verdicts = self.ask(address, Case(key, case))
            if verdicts and not any(verdict.state in OPEN_STATES for verdict in verdicts):
                self._answers.append(Answer(0, address, verdicts, {key: case}, True))

    def answers(self) -> list[Answer]:
        """Answers that have come; settled() must follow when they have had their effect."""
        self._given, self._answers = self._answers[:_AT_ONCE], self._answers[_AT_ONCE:]
        return self._given

    def settled(self) -> None:
        """The answers that were given last need not be given again."""
        if self._desk is not None:
            for answer in self._given:
                self._desk.done(answer)
        self._given = []

    def health(self) -> list[dict[str, Any]]:
        """How each provider is: {name, state, detail}; nothing while no rule asks."""
        return [] if self._desk is None else list(self._desk.health())

    def close(self) -> None:
        """What is open is taken up by the next run."""
        if self._files is not None:
            self._files.close()
        if self._desk is not None:
            self._desk.close()

    def _collect(self) -> None:
        if self._desk is not None:
            self._answers += self._desk.collect()

    def _watch_files(self) -> None:
        if self._files is not None:
            self._loop.unwatch(self._files.fileno())
            self._files.close()
            self._files = None
        if self._desk is not None:
            with suppress(OSError):  # then changes are noticed half a minute later
                self._files = FileWatch(map(str, self._desk.files()))
                self._loop.watch(self._files.fileno(), self._file_changed)

    def _file_changed(self) -> None:
        if self._files is not None and self._desk is not None:
            self._files.again()
            if self._desk.lists_changed():
                self._desk.read_lists()
