# SPDX-License-Identifier: GPL-3.0-or-later
"""The running watcher: one loop over the logs' notifications, signals and timers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from . import VERSION, expiry
from .config import Config
from .console import Console, NoState
from .decision import Lift
from .endings import Endings
from .enforcement import Enforcement, Rehearsal
from .events.tail import Source, Tail
from .exporter import Exporter
from .firewall.entry import Block, Entry
from .firewall.errors import FirewallError
from .healing import Healing
from .history import FILE as HISTORY
from .history import History
from .journal import ALERTS_JSON, Journal
from .loop import Loop
from .metrics import Metrics
from .notify import Notifier
from .pipeline import Pipeline
from .reputation import Reputation
from .rules.load import RuleSet
from .saver import Saver
from .state import IN_FORCE, SETS, State
from .surge import HIGH_ALERT, MEANING
from .surroundings import Surroundings
from .transaction import Transaction
from .wording import Lines
from .yamlfile import ConfigError

STATUS_FILE = "status.json"

STEP_BYTES = 1 << 20
"""The most that is read, decided and committed in one go."""

RECALL_BYTES = 8 << 20
"""The most that is read again of all logs together, so that thresholds go on counting after a restart."""

_STATUS_SECONDS = 1.0
_CATCH_UP_SECONDS = 0.5
_CURSOR_SECONDS = 1.0
_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)
_FIXED = ("chain", "families", "hooks", "state_directory", "log_directory", "dry_run", "metrics")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

LoadAll = Callable[[], "tuple[Config, RuleSet]"]
"""Reads configuration and rules; raises ConfigError."""


class Service:
    """A watcher from its start to its end. Use run() once, in the main thread."""

    def __init__(
        self,
        load: LoadAll,
        *,
        dry_run: bool = False,
        after: Callable[[str], None] = lambda step: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`after` is called with the name of each step of each batch that is done. Raises ConfigError.

        With `dry_run` decisions are printed, and no file is written. The configuration's own dry_run is a service like
        any other, with its journals and its cursor, that gives nothing to the kernel.
        """
        self._load = load
        self._config, self._rules = load()
        self._dry_run = dry_run or self._config.dry_run
        self._clock = clock
        self._printing = dry_run
        self._notifier = Notifier({} if dry_run else None)
        self._metrics = Metrics()
        self._journal = Console() if dry_run else Journal(Path(self._config.log_directory), clock=clock)
        self._state = NoState() if dry_run else State(Path(self._config.state_directory), report=self._error)
        self._loop = Loop(_SIGNALS)
        self._enforcement: Enforcement | Rehearsal = (
            Rehearsal(self._config) if self._dry_run else Enforcement(self._config)
        )
        directory = Path(self._config.state_directory)
        self._history = History(None if self._dry_run else directory / HISTORY, report=self._say)
        self._endings = Endings(
            self._enforcement,
            self._metrics,
            journal=self._note,
            clock=clock,
            dry_run=self._dry_run,
            forgiven=self._history.forgive,
        )
        self._reputation = Reputation(
            self._loop, None if dry_run else directory, self._metrics.intel_lookups, report=self._say
        )
        self._surroundings = Surroundings(self._loop, self._moved)
        self._healing = Healing(self._loop, self._enforcement.repair, healed=self._healed, failed=self._error)
        self._exporter = Exporter(self._loop, self._metrics, failed=self._warn)
        self._saver = Saver(self._loop, self._prepare_save, in_child=self._state.unlock, failed=self._error)
        self._transaction = Transaction(
            self._state,
            self._journal,
            self._metrics,
            self._enforcement.block,
            dry_run=self._dry_run,
            clock=clock,
            on_entries=self._entered,
            lifted=self._endings.unseen,
            offended=self._offended,
            after=after,
        )
        self._pipeline = self._new_pipeline()
        self._tail: Tail | None = None
        self._watched = -1
        self._attempts = 0
        self._modes: frozenset[str] = frozenset()
        self._cursor_at = 0.0
        self._cursor_due = False
        self._status_at = 0.0
        self._started_at = clock()
        self._caught_up = False

    def run(self) -> None:
        """Watch until SIGTERM or SIGINT. Raises StateError or FirewallError if it cannot begin."""
        self._state.lock()
        with self._loop:
            try:
                self._start()
                while not self._loop.came(signal.SIGTERM, signal.SIGINT):
                    if self._loop.take(signal.SIGHUP):
                        self._reload()
                    self._loop.wait(idle=not self._work())
            except FirewallError as error:
                self._error(f"cannot go on: {error}")  # what is not committed is read again by the next start
                raise
            finally:
                self._stop()

    # -- start and stop

    def _start(self) -> None:
        self._history.open()
        for warning in self._enforcement.prepare():
            self._journal.say(warning, level="WARNING")
        self._pipeline.own = self._enforcement.own()
        if self._transaction.resume():
            self._journal.say("finished the batch that the last run had begun")
        self._reputation.adopt(self._config.intel, self._rules)
        self._reputation.recover(self._state.lookups())
        positions = self._state.positions()
        self._tail = self._open_tail(positions)
        if positions is None:
            self._move_cursor()  # a kill from here on must not make the next start skip to the end again
        self._recall()
        # New offenders come first: what has ended meanwhile is told when they are blocked.
        self._loop.after("catch up", _CATCH_UP_SECONDS, self._catch_up)
        self._arm_alarm()
        self._saver.changed()
        if self._notifier.watchdog_seconds is not None:
            self._watchdog(self._notifier.watchdog_seconds)
        mode = " (dry run)" if self._dry_run else ""
        self._journal.say(f"ngfw {VERSION} watches{mode}: {len(self._rules)} rules in force")
        self._warn_without_rules()
        self._notifier.ready(f"{len(self._rules)} rules in force")
        self._write_status()
        if self._config.metrics.listen is not None and not self._printing:
            self._exporter.start(self._config.metrics.listen)

    def _warn_without_rules(self) -> None:
        if not len(self._rules):
            self._warn(f"no rule is enabled in {self._config.rules_directory}, so nothing will be blocked; add one")

    def _open_tail(self, positions: dict[str, Any] | None) -> Tail:
        sources = [Source(source.path, source.format) for source in self._config.sources]
        tail = Tail(sources, positions, self._config.start_at, report=self._warn)
        self._loop.cancel("poll")
        self._listen(tail)
        return tail

    def _listen(self, tail: Tail) -> None:
        """Be woken by the tail's descriptor, or by a timer where it has none (any more)."""
        descriptor = tail.fileno()
        if descriptor != self._watched:
            self._unlisten()
            if descriptor >= 0:
                self._loop.watch(descriptor, tail.drain_events)
                self._watched = descriptor
        if descriptor < 0 and not self._loop.has_timer("poll"):
            high_alert = HIGH_ALERT in self._modes
            interval = self._config.high_alert.poll_interval if high_alert else self._config.poll_interval
            self._loop.after("poll", min(interval, self._config.poll_interval), _nothing)

    def _unlisten(self) -> None:
        if self._watched >= 0:
            self._loop.unwatch(self._watched)
            self._watched = -1

    def _close_tail(self) -> None:
        if self._tail is not None:
            self._unlisten()
            self._tail.close()
            self._tail = None

    def _stop(self) -> None:
        self._notifier.stopping()
        if self._tail is not None:
            if not self._transaction.unfinished:
                self._move_cursor()
            if not self._caught_up:
                self._catch_up()
            if self._config.on_stop == "flush" and not self._dry_run:
                self._flush()
            self._saver.finish()
            self._write_status()
            self._journal.say("stopped")
        self._close_tail()
        self._reputation.close()
        self._history.close()
        self._surroundings.close()
        self._healing.close()
        self._enforcement.close()
        self._journal.close()
        self._state.unlock()

    def _flush(self) -> None:
        try:
            lifted = self._enforcement.lift_own()
        except FirewallError as error:
            self._error(f"on_stop: flush failed: {error}")
            return
        self._endings.lifted(lifted, "on_stop: flush", forgiven=False)

    # -- one step of work

    def _work(self) -> bool:
        """Do what there is to do; False if everything is done and it is time to wait."""
        if self._transaction.unfinished:
            if not self._loop.has_timer("retry"):
                self._finish()
            return not self._transaction.unfinished
        tail = self._tail
        if tail is None:
            return False
        if self._answer(tail):
            return True
        chunks = tail.read(STEP_BYTES)
        if not chunks:
            self._listen(tail)
            return False
        batch = self._pipeline.process(chunks, now=self._clock())
        if batch.has_effect:
            self._transaction.begin(batch, tail.positions())
            self._finish()
            self._follow_modes()
        else:
            self._cursor_due = True
            if time.monotonic() - self._cursor_at >= _CURSOR_SECONDS:
                self._move_cursor()
        self._touch_status()
        return True

    def _answer(self, tail: Tail) -> bool:
        """Let the answers that have come take effect; False if there are none."""
        answers = self._reputation.answers()
        if not answers:
            return False
        batch, lifts = self._pipeline.answered(answers, now=self._clock())
        for lift in lifts:
            self._lift(lift)
        if batch.has_effect:
            self._transaction.begin(batch, tail.positions())
            self._finish()
            self._follow_modes()
        else:
            self._reputation.settled()
        self._touch_status()
        return True

    def _lift(self, lift: Lift) -> None:
        if not self._caught_up:
            self._catch_up()
        try:
            lifted = self._enforcement.lift(lift.block)
        except FirewallError as error:
            self._error(f"{lift.block.network} was found clean, but cannot be unblocked: {error}")
            return
        self._endings.lifted(lifted, lift.reason)
        self._changed()

    def _finish(self) -> None:
        try:
            self._transaction.finish()
        except FirewallError as error:
            self._metrics.errors += 1
            if self._attempts == 0:
                self._error(f"the kernel cannot be given the new blocks: {error}; trying again until it works")
            pause = _RETRY_SECONDS[min(self._attempts, len(_RETRY_SECONDS) - 1)]
            self._attempts += 1
            self._loop.after("retry", pause, _nothing)
            return
        if self._attempts:
            self._attempts = 0
            self._journal.say("the kernel takes blocks again")
        self._reputation.settled()
        # Once more within a second: by then what hangs on answers is in the desk's own file.
        self._cursor_at, self._cursor_due = time.monotonic(), self._transaction.hanging
        self._healing.written()
        self._arm_endings()

    def _follow_modes(self) -> None:
        """Say when many new blocks switch something on, and when it is over, also by silence."""
        modes = self._pipeline.modes(self._clock())
        for name in sorted(modes.keys() - self._modes):
            (self._warn if name == HIGH_ALERT else self._error)(f"{name} is on: {MEANING[name]}")
        for name in sorted(self._modes - modes.keys()):
            self._journal.say(f"{name} is off again")
        self._modes = frozenset(modes)
        if modes:
            self._loop.after("modes", min(modes.values()), self._follow_modes)

    def _offended(self, blocks: Iterable[Block], at: float) -> None:
        self._history.add(blocks, at, self._clock() - self._config.escalation.memory)

    def _entered(self, entries: Iterable[Entry]) -> None:
        self._endings.add(entries)
        self._saver.changed()

    def _move_cursor(self) -> None:
        """Keep how far was read, where no line had an effect; lines read twice after a kill have none either."""
        if self._tail is None:
            return
        try:
            self._state.move(self._tail.positions())
        except OSError:
            return  # the next batch with an effect reports it
        self._cursor_at, self._cursor_due = time.monotonic(), False

    # -- timers

    def _arm_endings(self) -> None:
        moment = self._endings.next()
        if moment is None:
            self._loop.cancel("endings")
        else:
            self._loop.after("endings", moment - self._clock() + 0.01, self._expire)

    def _expire(self) -> None:
        try:
            self._endings.expire()
        except FirewallError as error:
            self._error(f"cannot see which blocks have ended: {error}")
        self._arm_endings()
        self._touch_status()

    def _note(self, lines: list[Lines]) -> None:
        if self._tail is not None:
            self._transaction.note(lines, self._tail.positions())

    def _arm_alarm(self) -> None:
        """From now on repair the chain when somebody else flushes it, and follow what other writers do."""
        try:
            alarm = self._enforcement.alarm()
            if alarm is not None:
                self._healing.watch(alarm)
        except OSError as error:
            self._warn(f"changes of the rules by others cannot be noticed ({error.strerror}); run as root")
        try:
            self._surroundings.watch()
        except OSError as error:
            self._warn(f"changes of the host's addresses are noticed at the next reload only ({error.strerror})")
        if isinstance(self._enforcement, Enforcement):
            try:
                self._loop.watch(self._enforcement.watch_others(), self._follow_others)
            except OSError as error:
                self._warn(f"blocks lifted by others are noticed late ({error.strerror}); see fs.inotify in sysctl")

    def _follow_others(self) -> None:
        if not isinstance(self._enforcement, Enforcement) or not self._enforcement.others_wrote():
            return
        if not self._caught_up:
            self._catch_up()
            return
        try:
            self._endings.compare()
        except FirewallError as error:
            self._error(f"cannot see what others changed: {error}")
        self._arm_endings()
        self._changed()

    def _moved(self) -> None:
        """The host has other addresses, gateways or resolvers than before."""
        try:
            self._enforcement.repair()
        except FirewallError as error:
            self._error(f"the host's new addresses could not be protected: {error}")
        self._pipeline.own = self._enforcement.own()
        self._journal.say("the host's addresses, gateways or resolvers changed; what is protected follows them")

    def _healed(self) -> None:
        self._metrics.heals += 1
        self._warn("somebody changed our rules or their place; they are as they should be again")
        self._changed()

    # -- for the next start and the next boot

    def _changed(self) -> None:
        self._saver.changed()
        self._touch_status()

    def _prepare_save(self) -> Callable[[], None]:
        """What the child has to write; what can change meanwhile is taken now."""
        enforcement = self._enforcement
        if not isinstance(enforcement, Enforcement):
            return _nothing
        if not self._caught_up:
            self._catch_up()
        entries, mark = self._endings.entries(), self._journal.mark(ALERTS_JSON)

        def save() -> None:
            enforcement.save(self._state.directory / SETS)
            self._state.keep(IN_FORCE, expiry.encode(entries, mark))

        return save

    def _catch_up(self) -> None:
        """Know again which blocks were in force when the last run ended, and journal the end of those that are not."""
        self._loop.cancel("catch up")
        self._caught_up = True
        try:
            if not self._dry_run:
                self._remember()
            self._endings.compare()
        except FirewallError as error:
            self._error(f"cannot see which blocks have ended: {error}")
        self._arm_endings()
        self._touch_status()

    def _remember(self) -> None:
        kept = self._state.load(IN_FORCE, expiry.decode)
        if kept is not None:
            entries, mark = kept
            if mark is not None:
                entries = expiry.follow(entries, self._journal.after(ALERTS_JSON, mark))
            self._endings.add(entry for entry in entries if self._endings.get(entry.block) is None)

    def _watchdog(self, seconds: float) -> None:
        self._notifier.watchdog()
        self._loop.after("watchdog", seconds, partial(self._watchdog, seconds))

    # -- reload

    def _reload(self) -> None:
        self._notifier.reloading()
        self._journal.reopen()
        try:
            config, rules = self._load()
        except ConfigError as error:
            for problem in error.problems:
                self._error(str(problem))
            self._error("the configuration was not reloaded: correct this and reload; what was in force stays")
        else:
            self._adopt(config, rules)
        self._notifier.ready(f"{len(self._rules)} rules in force")
        self._write_status()

    def _adopt(self, config: Config, rules: RuleSet) -> None:
        fixed = [name for name in _FIXED if getattr(config, name) != getattr(self._config, name)]
        if fixed:
            self._warn(f"changes of {', '.join(fixed)} take effect at the next restart only")
        config = replace(config, **{name: getattr(self._config, name) for name in fixed})
        sources = config.sources
        moved = (sources, config.poll_interval) != (self._config.sources, self._config.poll_interval)
        self._config, self._rules = config, rules
        try:
            for warning in self._enforcement.adopt(config):
                self._warn(warning)
        except FirewallError as error:
            self._error(f"the whitelist of the configuration could not be put into the kernel: {error}")
        self._reputation.adopt(config.intel, rules)
        self._pipeline = self._new_pipeline()
        self._pipeline.own = self._enforcement.own()
        if moved and self._tail is not None:
            positions = self._tail.positions()
            self._close_tail()
            self._tail = self._open_tail(positions)
        self._recall()
        self._journal.say(f"reloaded: {len(rules)} rules")
        self._warn_without_rules()

    def _new_pipeline(self) -> Pipeline:
        managed = replace(self._config, families=self._enforcement.families())
        return Pipeline(
            managed,
            self._rules,
            self._enforcement,
            ask=self._reputation.ask,
            history=self._history,
            metrics=self._metrics,
            report=self._warn,
        )

    def _recall(self) -> None:
        """Let the thresholds count again what stands in the logs before the cursor."""
        if self._tail is not None:
            self._pipeline.recall(self._tail.before(RECALL_BYTES))

    # -- reports

    def _touch_status(self) -> None:
        if not self._loop.has_timer("status"):
            self._loop.after("status", self._status_at + _STATUS_SECONDS - time.monotonic(), self._write_status)

    def _write_status(self) -> None:
        """Write the counters for `ngfw status`, at most once a second and only after something happened."""
        self._loop.cancel("status")
        self._status_at = time.monotonic()
        if self._cursor_due and not self._transaction.unfinished:
            self._move_cursor()
        with suppress(FirewallError):  # the last number stays
            self._metrics.active_blocks = self._enforcement.active()
        self._metrics.source_lag_bytes = 0 if self._tail is None else self._tail.lag()
        status = {
            "version": VERSION,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "updated_at": self._clock(),
            "dry_run": self._dry_run,
            "rules": len(self._rules),
            "last_event": self._metrics.last_event,
            "modes": sorted(self._modes),
            "providers": self._reputation.health(),
            "counters": self._metrics.to_dict(),
        }
        with suppress(OSError):  # no more than a display; what matters of a full disk is said elsewhere
            self._state.keep(STATUS_FILE, json.dumps(status).encode() + b"\n")

    def _say(self, text: str, problem: bool) -> None:
        self._journal.say(text, level="WARNING" if problem else "INFO")

    def _warn(self, text: str) -> None:
        self._journal.say(text, level="WARNING")

    def _error(self, text: str) -> None:
        self._metrics.errors += 1
        self._journal.say(text, level="ERROR")


def _nothing() -> None:
    pass
