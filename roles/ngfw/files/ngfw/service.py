# SPDX-License-Identifier: GPL-3.0-or-later
"""The running watcher: one loop over the logs' notifications, signals and timers."""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from . import VERSION
from .decisions.history import FILE as HISTORY
from .decisions.history import History
from .decisions.pipeline import Batch, Pipeline
from .decisions.surge import HIGH_ALERT, MEANING
from .effects.console import Console, NoState
from .effects.enforcement import DryRun, Enforcement, Rehearsal
from .effects.journal import Journal
from .effects.recorder import Recorder
from .effects.state import PENDING, SETS, State, StateError, refuse_as_root
from .effects.transaction import Transaction
from .effects.wording import Told, alert_line, json_line, told_of
from .events.tail import Chunk
from .firewall import saved
from .firewall.entry import Block
from .firewall.errors import FirewallError
from .firewall.lock import RUN_DIRECTORY
from .firewall.watch import LOOK_SECONDS
from .intel.mailbox import Answer
from .metrics import Metrics
from .rules.load import RuleSet
from .rules.regex import Patience
from .running.blocks import Blocks
from .running.caution import Caution
from .running.clock import ClockWatch
from .running.directories import Directories
from .running.exporter import Exporter
from .running.healing import Healing
from .running.loop import Loop
from .running.notify import Notifier
from .running.reader import Reader
from .running.reputation import Reputation
from .running.sensor import ALIVE, UNKNOWN, SensorMonitor
from .running.surroundings import Surroundings
from .settings.config import Config
from .settings.yamlfile import ConfigError

STATUS_FILE = "status.json"

_STATUS_SECONDS = 1.0
_GARBAGE = 500_000
"""Objects that may come before cycles among them are looked for: no line leaves any, and to look slows a burst."""

_MOMENT_SECONDS = 0.5
"""So long, in a flood, the journals may lag behind the kernel, and all else waits."""

_MOMENT_LINES = 25_000
"""So many lines of journals may wait meanwhile, in some 15 MB."""

_CLOCK_SAID_SECONDS = 2.0

_YOUNG_SECONDS = 60.0
"""A watcher that cannot get back a directory starts again, but not more often than this."""

UNIT = "ngfw-watcher"

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
        any other, with its journals and its cursor, that gives no blocks to the kernel.
        """
        self._load = load
        self._config, self._rules = load()
        self._dry_run = dry_run or self._config.dry_run
        self._clock = clock
        self._printing = dry_run
        self._notifier = Notifier({} if dry_run else None)
        self._metrics = Metrics()
        self._state = NoState() if dry_run else State(Path(self._config.state_directory), report=self._error)
        journals = Path(self._config.log_directory)
        self._journal = Console() if dry_run else Journal(journals, clock=clock, held=self._state.hold)
        self._loop = Loop(_SIGNALS)
        self._enforcement = self._new_enforcement()
        self._caution = Caution(self._state, self._rehearse, report=self._set_aside, alive=self._go_on, clock=clock)
        directory = Path(self._config.state_directory)
        self._history = History(None if self._dry_run else directory / HISTORY, report=self._say)
        self._reader = Reader(self._loop, self._state, self._config, report=self._warn)
        self._blocks = Blocks(
            self._loop,
            self._enforcement,
            self._state,
            self._journal,
            self._metrics,
            self._history,
            note=self._note,
            changed=self._touch_status,
            failed=self._error,
            clock=clock,
        )
        self._reputation = Reputation(
            self._loop, None if dry_run else directory, self._metrics.intel_lookups, report=self._say
        )
        self._surroundings = Surroundings(self._loop, self._moved)
        self._healing = Healing(
            self._loop,
            self._enforcement.repair,
            self._enforcement.losses,
            healed=self._healed,
            lifted=self._lifted,
            failed=self._error,
        )
        self._sensor = SensorMonitor(self._loop, self._heard, changed=self._sensor_changed)
        self._clock_watch = ClockWatch(self._loop, self._clock_was_set, clock=clock)
        self._directories = Directories(
            {directory: 0o750, Path(self._config.log_directory): 0o750, RUN_DIRECTORY: 0o770},
            self._state,
            self._journal,
            self._reader,
            self._blocks,
            lost=self._directory_lost,
            failed=self._error,
        )
        self._exporter = Exporter(self._loop, self._metrics, failed=self._warn)
        self._transaction = Transaction(
            self._state,
            self._journal,
            self._metrics,
            self._enforcement.apply,
            dry_run=self._dry_run,
            clock=clock,
            on_entries=self._blocks.entered,
            lifted=self._blocks.unseen,
            offended=self._offended,
            after=after,
        )
        self._pipeline = self._new_pipeline()
        self._attempts = 0
        self._modes: frozenset[str] = frozenset()
        self._status_at = 0.0
        self._started_at = clock()
        self._is_stopping = False

    def run(self) -> None:
        """Watch until SIGTERM or SIGINT. Raises StateError or FirewallError if it cannot begin."""
        self._state.lock()
        if not self._printing:
            refuse_as_root(Path(self._config.log_directory))
        gc.set_threshold(_GARBAGE)
        orderly = False
        with self._loop:
            try:
                self._start()
                while not self._told_to_stop():
                    if self._loop.take(signal.SIGHUP):
                        self._reload()
                    self._loop.wait(idle=not self._work())
                orderly = True
            except _Stopped:
                self._reader.stay()
                orderly = True
            except BaseException as error:
                self._reader.stay()
                orderly = isinstance(error, (FirewallError, StateError))  # else a line may have been the reason
                if isinstance(error, FirewallError):
                    if self._told_to_stop():
                        return
                    self._error(f"cannot go on: {error}")
                raise
            finally:
                self._stop()
                if orderly:
                    self._state.ended()
                self._state.unlock()

    def _told_to_stop(self) -> bool:
        return self._loop.came(signal.SIGTERM, signal.SIGINT)

    def _go_on(self) -> None:
        """What long work calls all the while. Raises _Stopped when it should not be finished."""
        self._notifier.alive()
        if self._told_to_stop() and not self._is_stopping:
            raise _Stopped

    def _give_up(self) -> bool:
        """Whether to wait no longer for another writer of the chain."""
        self._notifier.alive()
        return self._told_to_stop()

    # -- start and stop

    def _start(self) -> None:
        if self._state.lost:
            self._error(
                f"the last run ended before it could write {self._state.lost} bytes of lines to "
                f"{self._config.log_directory}, and they are lost; make room on that file system"
            )
        self._caution.begin()
        self._history.open()
        for warning in self._enforcement.prepare(saved.chain_of(self._state.directory / SETS)):
            self._journal.say(warning, level="WARNING")
        self._pipeline.host_networks = self._enforcement.inside()
        announced = (self._state.load(PENDING, bytes) or b"").strip()
        if announced and self._caution.deadly(PENDING, announced):
            aside = self._state.give_up()
            self._error(f"earlier runs died finishing a batch, which is left out; what announced it is in {aside}")
        if self._transaction.resume(self._caution.deadly if self._caution.on else None):
            self._journal.say("finished the batch that the last run had begun")
        self._journal.mend()
        self._reputation.adopt(self._config.intel, self._rules)
        self._reputation.recover(self._state.lookups())
        self._reader.open(self._state.positions())
        if self._caution.deadly("recall"):
            self._error("runs died reading the last lines again, so it is left out: all thresholds count from 0")
        else:
            self._recall()
        self._arm_alarm()
        mode = " (dry run)" if self._dry_run else ""
        self._journal.say(f"ngfw {VERSION} watches{mode}: {len(self._rules)} rules in force")
        self._warn_without_rules()
        self._notifier.ready(f"{len(self._rules)} rules in force")
        self._watchdog()
        self._sensor.start()
        self._write_status()
        if self._config.metrics.listen is not None and not self._printing:
            self._exporter.start(self._config.metrics.listen)

    def _warn_without_rules(self) -> None:
        if not len(self._rules):
            self._warn(f"no rule is enabled in {self._config.rules_directory}, so nothing will be blocked; add one")

    def _stop(self) -> None:
        self._is_stopping = True
        self._notifier.stopping()
        self._transaction.settle()
        if self._reader.is_open:
            if not self._transaction.unfinished:
                self._reader.move()
            self._blocks.stop(flush=self._config.on_stop == "flush")
            self._write_status()
            self._journal.say("stopped")
        self._reader.close()
        self._reputation.close()
        self._history.close()
        self._surroundings.close()
        self._healing.close()
        self._enforcement.close()
        self._journal.close()

    # -- one step of work

    def _work(self) -> bool:
        """Do what there is to do; False if everything is done and it is time to wait."""
        if self._transaction.unfinished:
            if not self._loop.has_timer("retry") and self._finish():
                self._settle()
            return not self._transaction.unfinished
        answers = self._reputation.answers()
        if answers:
            self._answer(answers)
            return True
        chunks = self._reader.read(self._caution.step)
        if not chunks:
            self._caution.end()
            return False
        more = self._work_off(chunks)
        self._touch_status()
        return more

    def _work_off(self, chunks: list[Chunk]) -> bool:
        """Decide and enforce batch after batch of one moment, then journal them together; whether there is more."""
        now, until = self._clock(), time.monotonic() + _MOMENT_SECONDS
        lines, goes_on = 0, False
        while chunks:
            careful = self._caution.on
            batch = self._pipeline.process(self._caution.guarded(chunks), now=now, goes_on=goes_on)
            lines += len(batch.alerts) + len(batch.decisions)
            if not self._carry_out(batch) or careful or lines >= _MOMENT_LINES or time.monotonic() >= until:
                break
            chunks, goes_on = self._reader.read(self._caution.step), True
        self._settle()
        return bool(chunks)

    def _answer(self, answers: list[Answer]) -> None:
        """Let answers of providers take effect."""
        batch, lifts = self._pipeline.answered(answers, now=self._clock())
        for lift in lifts:
            self._blocks.lift(lift)
        if batch.has_effect:
            self._carry_out(batch)
            self._settle()
        else:
            self._reputation.settled()
        self._touch_status()

    def _carry_out(self, batch: Batch) -> bool:
        """Put a batch in force; whether that is done."""
        if not batch.has_effect:
            return True
        self._transaction.begin(batch, self._reader.positions())
        return self._finish()

    def _finish(self) -> bool:
        try:
            self._transaction.finish()
        except FirewallError as error:
            self._metrics.errors += 1
            if self._attempts == 0:
                self._error(f"the kernel cannot be given the new blocks: {error}; trying again until it works")
            pause = _RETRY_SECONDS[min(self._attempts, len(_RETRY_SECONDS) - 1)]
            self._attempts += 1
            self._loop.after("retry", pause, _nothing)
            return False
        self._healing.written()  # at once: what somebody undoes before this is not seen
        if self._attempts:
            self._attempts = 0
            self._journal.say("the kernel takes blocks again")
        return True

    def _settle(self) -> None:
        """Journal what was put in force, and move the cursor."""
        if not self._transaction.settle():
            return
        self._follow_modes()
        if self._transaction.unfinished:
            return
        self._reputation.settled()
        if self._transaction.hanging:
            self._reader.move_later()  # by then what hangs on answers is in the desk's own file
        self._blocks.arm()

    def _follow_modes(self) -> None:
        """Say when many new blocks switch something on, and when it is over, also by silence."""
        modes = self._pipeline.modes(self._clock())
        for name in sorted(modes.keys() - self._modes):
            (self._warn if name == HIGH_ALERT else self._error)(f"{name} is on: {MEANING[name]}")
        for name in sorted(self._modes - modes.keys()):
            self._journal.say(f"{name} is off again")
        self._modes = frozenset(modes)
        config = self._config
        self._reader.poll_every(config.high_alert.poll_interval if HIGH_ALERT in modes else config.poll_interval)
        if modes:
            self._loop.after("modes", min(modes.values()), self._follow_modes)

    def _offended(self, blocks: Iterable[Block], at: float) -> None:
        self._history.add(blocks, at, self._clock() - self._config.escalation.memory)

    def _note(self, ends: list[Told]) -> None:
        if self._reader.is_open:
            self._transaction.note(ends, self._reader.positions())

    # -- what others do

    def _arm_alarm(self) -> None:
        """From now on repair the chain when somebody else flushes it, and follow what other writers do."""
        try:
            alarm = self._enforcement.alarm()
            if alarm is not None:
                self._healing.watch(alarm)
        except OSError as error:
            self._warn(f"changes of the rules by others cannot be noticed ({error.strerror}); run as root")
        self._clock_watch.start()
        if not self._printing:
            self._directories.start()
        self._look_around()
        try:
            self._surroundings.watch()
        except OSError as error:
            self._warn(f"changes of the host's addresses are noticed at the next reload only ({error.strerror})")
        try:
            self._blocks.start()
        except OSError as error:
            self._warn(f"blocks lifted by others are noticed late ({error.strerror}); see fs.inotify in sysctl")

    def _moved(self) -> None:
        """The host has other addresses, gateways or resolvers than before, or other networks on its links."""
        try:
            self._enforcement.repair()
        except FirewallError as error:
            self._error(f"the host's new addresses could not be protected: {error}")
        self._pipeline.host_networks = self._enforcement.inside()
        self._journal.say(
            "the host's addresses, gateways, resolvers or links changed; what is protected or inside follows"
        )

    def _heard(self) -> int | None:
        """How many events there were; None where the logs have alerts only, of which a quiet day has none."""
        is_telling = any(source.format == "eve" for source in self._config.sources) and not self._metrics.only_alerts()
        return self._metrics.events_seen() if is_telling else None

    def _sensor_changed(self, state: str, text: str) -> None:
        (self._journal.say if state == ALIVE else self._warn)(text)
        self._touch_status()

    def _healed(self, missing: list[str]) -> None:
        self._metrics.heals += 1
        for text in missing:
            self._warn(text)
        self._blocks.touch()

    def _look_around(self) -> None:
        """Once a second, what tells nobody that it was changed."""
        self._loop.after("look around", LOOK_SECONDS, self._look_around)
        self._healing.glance()
        if not self._printing:
            self._directories.look()

    def _directory_lost(self, path: Path) -> None:
        self._error(
            f"{path} was removed or replaced, and this user may not make it again; blocking goes on without it. "
            f"'systemctl restart {UNIT}' makes it"
        )
        young = self._clock() - self._started_at < _YOUNG_SECONDS
        if "INVOCATION_ID" not in os.environ or young or self._transaction.unfinished:
            return
        self._transaction.settle()
        with suppress(FirewallError):
            self._enforcement.repair()  # the next run does not know what the sets held
        with suppress(OSError):
            self._state.leave(self._reader.positions())
        raise StateError(f"{path} is made again where the service starts, which it does now")

    def _clock_was_set(self, seconds: float) -> None:
        if abs(seconds) >= _CLOCK_SAID_SECONDS:
            self._journal.say(f"the clock was set by {seconds:+.0f} s; blocks end as before")
        self._started_at += seconds
        self._blocks.clock_was_set(seconds)
        self._enforcement.clock_was_set(seconds)

    def _lifted(self, sets: Collection[str]) -> None:
        self._warn(f"somebody took blocks out of the kernel's set {', '.join(sets)}; they stay lifted")
        self._blocks.others_lifted()

    def _watchdog(self) -> None:
        self._notifier.alive()
        if self._notifier.watchdog_seconds is not None:
            self._loop.after("watchdog", self._notifier.watchdog_seconds, self._watchdog)

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
        self._config, self._rules = config, rules
        try:
            for warning in self._enforcement.adopt(config):
                self._warn(warning)
        except FirewallError as error:
            self._error(f"the whitelist of the configuration could not be put into the kernel: {error}")
        self._reputation.adopt(config.intel, rules)
        self._pipeline = self._new_pipeline()
        self._pipeline.host_networks = self._enforcement.inside()
        self._reader.adopt(config)
        self._recall()
        self._journal.say(f"reloaded: {len(rules)} rules")
        self._warn_without_rules()

    def _new_enforcement(self) -> Enforcement | Rehearsal:
        if self._printing:
            return Rehearsal(self._config, clock=self._clock)
        if self._dry_run:
            return DryRun(self._config, clock=self._clock, give_up=self._give_up)
        return Enforcement(self._config, give_up=self._give_up)

    def _new_pipeline(self) -> Pipeline:
        managed = replace(self._config, families=self._enforcement.families())
        return Pipeline(
            managed,
            self._rules,
            self._enforcement.look,
            ask=self._reputation.ask,
            knows=self._reputation.knows_anything,
            history=self._history,
            metrics=self._metrics,
            report=self._warn,
            patience=Patience(),
            alive=self._go_on,
        )

    def _recall(self) -> None:
        self._pipeline.recall(self._caution.without_poison(self._reader.before()), now=self._clock())

    # -- lines at which earlier runs died

    def _rehearse(self, chunk: Chunk) -> None:
        """Decide lines as if nothing were in force, in a child."""
        pipeline = Pipeline(self._config, self._rules, Recorder().look)
        batch = pipeline.process([chunk], now=self._clock())
        for decision in batch.decisions:
            alert_line(decision, "")
            json_line(told_of(decision, now=decision.time, dry_run=False))

    def _set_aside(self, text: str) -> None:
        self._metrics.lines_invalid += 1
        self._error(text)

    # -- reports

    def _touch_status(self) -> None:
        if not self._loop.has_timer("status"):
            self._loop.after("status", self._status_at + _STATUS_SECONDS - time.monotonic(), self._write_status)

    def _write_status(self) -> None:
        """Write the counters for `ngfw status`, at most once a second and only after something happened."""
        self._loop.cancel("status")
        self._status_at = time.monotonic()
        if not self._transaction.unfinished:
            self._reader.move_if_due()
        with suppress(FirewallError):  # the last number stays
            self._metrics.active_blocks = self._enforcement.active()
        self._metrics.source_lag_bytes = self._reader.lag()
        if self._sensor.state != UNKNOWN:
            self._metrics.sensor_up = int(self._sensor.state == ALIVE)
        status = {
            "version": VERSION,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "updated_at": self._clock(),
            "dry_run": self._dry_run,
            "rules": len(self._rules),
            "last_event": self._pipeline.last_event(),
            "sources": self._reader.sources(),
            "modes": sorted(self._modes),
            "poison": self._caution.count,
            "sensor": self._sensor.to_dict(),
            "idle_rules": self._pipeline.idle_rules(),
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


class _Stopped(BaseException):
    """Long work is not finished, for the watcher is told to stop: what it was about is read again."""


def _nothing() -> None:
    pass
