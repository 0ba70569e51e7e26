# SPDX-License-Identifier: GPL-3.0-or-later
"""Reputation as the loop sees it: ask, and be told. Nothing here waits for a server, a file or the database.

    verdicts = desk.ask(address, Case(key, text))    at a hit; resolve(weigh(verdicts, ...)) decides
    desk.fileno() becomes readable                   there is news on an address that was pending
    for answer in desk.collect(): ...                decide again for each of answer.cases; then desk.done(answer)

A case is whatever the caller needs to decide again. It is kept with the open lookup, also over a kill: the next run's
desk gives the answer for it. So an address is never forgotten, and no answer comes without what it was asked for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..firewall.address import PRIVATE, Network, parse_host
from ..settings.config import Intel
from .abuseipdb import NAME
from .budget import subject
from .cache import FILE, Store
from .lookups import Adopt, Ask, Done, Lookups
from .mailbox import Answer, Case, Counted, Mailbox, News, Said
from .netsets import Netsets, Report
from .upkeep import Upkeep
from .verdict import PRIVATE_SPACE, State, Verdict
from .waiting import MAX_CASES, Pace

MAX_BACKLOG = 20_000
MAX_TEXT = 8192
_CLOSE_SECONDS = 0.4


class Desk:
    """All providers of one watcher. Every method is for one thread, the loop's."""

    def __init__(
        self,
        settings: Intel,
        state_directory: Path | None,
        *,
        report: Report = lambda text, problem: None,
        clock: Callable[[], float] = time.time,
        pace: Pace | None = None,
        lookups: Counter[tuple[str, str]] | None = None,
    ) -> None:
        """`report` is called by start() and collect() with a text for the log, and whether it is a problem.

        Without a `state_directory` nothing is kept for the next run.
        """
        self._report, self._clock = report, clock
        self._mailbox = Mailbox()
        self._lists = Netsets(settings.netsets, report=self._said)
        self._upkeep = Upkeep(self._lists, self._mailbox, clock=clock)
        store = Store(None if state_directory is None else state_directory / FILE, report=self._said)
        self._lookups = Lookups(
            settings.abuseipdb, settings.threshold, store, self._mailbox, clock=clock, pace=pace or Pace()
        )
        self._asking: dict[Network, set[str]] = {}  # what is on its way to the thread, or being looked up
        self.lookups: Counter[tuple[str, str]] = Counter() if lookups is None else lookups
        """How often each provider was asked, by (provider, result)."""

    def start(self) -> None:
        """Read the lists and what an earlier run left, and begin; a list of a million entries takes a second."""
        self._lists.load(self._clock())
        self._lookups.start()
        self._upkeep.start()

    def ask(self, address: Network, case: Case | None = None) -> tuple[Verdict, ...]:
        """What lists and providers say about a host; where one is pending, an answer will be collected later."""
        if PRIVATE.covering(address) is not None:
            return PRIVATE_SPACE
        verdicts = self._lists.verdicts(address)
        listed = False
        for verdict in verdicts:
            self.lookups[verdict.provider, verdict.state.value] += 1
            listed = listed or verdict.state is State.LISTED
        # A list hit decides, so no request is spent on it; a score that is known is shown all the same.
        rating = self._lookups.known(address) if listed else self._rating(address, case)
        return tuple(verdicts) if rating is None else (*verdicts, rating)

    def knows_anything(self) -> bool:
        """Whether a list is in force, or a provider can be asked: else nobody can be of bad reputation."""
        return self._lists.any_loaded() or not self._lookups.has_no_key()

    def fileno(self) -> int:
        """Readable when there may be something to collect."""
        return self._mailbox.fileno()

    def collect(self) -> list[Answer]:
        """The news since the last call. Messages for the log are reported, and requests counted."""
        answers = []
        for mail in self._mailbox.take():
            if isinstance(mail, News):
                self._asking.pop(subject(mail.address), None)
                answers += self._answers(mail)
            elif isinstance(mail, Said):
                self._report(mail.text, mail.problem)
            else:
                self._count(mail)
        return answers

    def done(self, answer: Answer) -> None:
        """An answer has had its effect. A final one that this was not said of is given again after a restart."""
        if answer.final and answer.id:
            self._lookups.post(Done(answer.id))

    def lists_changed(self) -> bool:
        """Whether a list's file is another than the one in force: one stat for each."""
        return self._lists.changed()

    def read_lists(self) -> None:
        """Read changed lists, soon and not here."""
        self._upkeep.look()

    def files(self) -> list[Path]:
        """The lists' files: what to watch for changes."""
        return self._lists.files()

    def health(self) -> list[dict[str, str]]:
        """How each provider is, for people: {name, state, detail}; the state is `ok` or that of a verdict."""
        return [*self._lists.health(), self._lookups.health()]

    def adopt(self, settings: Intel) -> None:
        """Take another configuration. Lists that stay are in force throughout, new ones as soon as they are read."""
        self._upkeep.adopt(settings.netsets)
        self._lookups.post(Adopt(settings.abuseipdb, settings.threshold))

    def close(self) -> None:
        """End within a second, whatever servers do. What is open is taken up by the next start."""
        ended = [self._upkeep.close(_CLOSE_SECONDS), self._lookups.close(_CLOSE_SECONDS)]
        if all(ended):
            self._mailbox.close()  # a thread that still runs might write to whatever had the number next

    def _rating(self, address: Network, case: Case | None) -> Verdict:
        lookups = self._lookups
        verdict = lookups.known(address)
        if verdict is not None:
            self.lookups[NAME, "cached"] += 1
            return verdict
        verdict = lookups.unavailable()
        if verdict is not None:
            return verdict
        lookup, now = lookups.open_lookup(address), self._clock()
        verdict = Verdict(NAME, State.PENDING, at=now) if lookup is None else lookup.verdict
        key = "" if case is None else case.key
        about = subject(address)
        asking = self._asking.get(about)
        if asking is None:
            if lookup is not None and (case is None or key in lookup.cases):
                return verdict
            if lookups.backlog() >= MAX_BACKLOG:
                return Verdict(NAME, State.OVER_BUDGET, None, "too many questions at once", now)
            asking = self._asking[about] = set()
        if key not in asking and len(asking) < MAX_CASES:
            if case is not None and len(case.text) > MAX_TEXT:
                raise ValueError(f"a case of more than {MAX_TEXT} characters")
            asking.add(key)
            lookups.post(Ask(address, case and Case(key, f"{address}\n{case.text}"), verdict.state))
        return verdict

    def _answers(self, mail: News) -> list[Answer]:
        """One for each address that this news is about; the last has the number, for all have to have their effect."""
        cases: dict[Network, dict[str, str]] = {}
        for key, text in mail.cases.items():
            address, newline, rest = text.partition("\n")
            asked, rest = (parse_host(address), rest) if newline else (mail.address, text)
            cases.setdefault(asked, {})[key] = rest
        addresses = list(cases) or [mail.address]
        return [
            Answer(
                mail.id if address == addresses[-1] else 0,
                address,
                (*self._lists.verdicts(address), mail.verdict),
                cases.get(address, {}),
                mail.final,
            )
            for address in addresses
        ]

    def _count(self, counted: Counted) -> None:
        self.lookups[counted.provider, counted.result] += 1

    def _said(self, text: str, problem: bool) -> None:
        self._mailbox.put(Said(text, problem))
