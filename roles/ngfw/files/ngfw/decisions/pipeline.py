# SPDX-License-Identifier: GPL-3.0-or-later
"""From the bytes of a log, and from late answers about an address, to decisions, with no clock, file or socket.

The service drives it with what has just been written, the replay with recorded files: the same code decides.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, Optional

from ..events import eve, fastlog
from ..events.event import Event, LineError, each, groups
from ..events.offender import Proof, Resolution, proof, resolve
from ..events.tail import Chunk
from ..firewall.address import Network, NetworkSet, parse_host
from ..firewall.errors import AddressError, FirewallError
from ..intel.mailbox import Answer, Case
from ..metrics import Metrics
from ..rules.engine import Count, Engine, Hit
from ..rules.load import RuleSet
from ..rules.model import RuleAction
from ..rules.regex import Patience
from ..settings.config import Config
from .cases import decode
from .decision import Decision, Lift, Outcome, counted, noted, signature, skipped
from .history import History
from .past import decoded, last_time, worth_reading
from .policy import OF_ANY_ZONE, Sight, Terms, decide, reconsider, widened
from .skips import Skips
from .surge import Surges
from .view import Ask, View

_SET_BACK = 1.0
"""A correction of the clock by up to so many seconds makes nothing be forgotten."""

_Key = tuple[int, Optional[Network]]
"""The id() of a rule's action, and an offender."""

_MANY_TYPES = _LONGEST_TYPE = 64


class Batch(NamedTuple):
    """What a batch of lines comes to, in the order of the lines.

    `decisions` are those that have an effect or a line of their own; `alerts` has one decision for each alert that
    a rule hit; `repeats` the first hit on each entry that was in force before the batch; `lookups` what hangs on
    answers about an address.
    """

    decisions: list[Decision]
    alerts: list[Decision]
    repeats: list[Decision]
    lookups: list[tuple[Network, Case]]

    @property
    def has_effect(self) -> bool:
        return bool(self.decisions or self.alerts or self.repeats or self.lookups)


class _Match(NamedTuple):
    """An event that rules were hit by, its time (epoch seconds) and who is behind it; `slack` is as for decide()."""

    event: Event
    time: float
    slack: float | None
    resolution: Resolution
    hits: list[Hit]


class Pipeline:
    """Decodes, matches and decides; what it remembers are the thresholds' counts and recent skips."""

    def __init__(
        self,
        config: Config,
        rules: RuleSet,
        look: Callable[[], Sight],
        *,
        host_networks: Iterable[Network] = (),
        ask: Ask | None = None,
        knows: Callable[[], bool] | None = None,
        history: History | None = None,
        metrics: Metrics | None = None,
        report: Callable[[str], None] | None = None,
        patience: Patience | None = None,
        alive: Callable[[], None] | None = None,
    ) -> None:
        """`look` says what is in force, for one batch after the other; `host_networks` are inside beside
        `home_net`; `report` is told the first bad line of each kind; `patience` is what all regexes may take;
        `alive` is called every some hundred lines.

        Without `ask` there are no providers, without `history` no offender was blocked before. `knows` says whether
        anybody can be of bad reputation now: while nobody can, what rules that ask would refuse is only counted.
        """
        self.metrics = metrics or Metrics()
        self._rules = rules
        self._engine = Engine(
            rules,
            network_of=self._network_of,
            patience=patience,
            is_forgeable=self._is_forgeable if config.spoof_guard else None,
        )
        self._window = rules.longest_window
        self._counted = _counted_types(rules)
        self._only_counting = _only_counting(rules)
        glances = self._engine.glances()
        self._sieve = eve.Sieve(glances)
        self._sieve_of_counted = eve.Sieve({kind: look for kind, look in glances.items() if kind in self._counted})
        self._surges = Surges(config.high_alert, config.circuit_breaker)
        self._proxies = NetworkSet(config.trusted_proxies) if config.trusted_proxies else None
        self._view = View(look, ask, history, config.escalation.memory, self._surges.high_alert)
        self._wide: dict[str, str] = {}
        self._met: dict[_Key, tuple[Network, str]] = {}  # what is blocked, and why
        self._counted_again: dict[_Key, Decision] = {}
        self._terms = _terms(config)
        asking = [rule.name for rule in rules if rule.intel != "skip" and not self._terms.fail_closed]
        self._skips = Skips(self.metrics, asking, knows, report or _ignore)
        self._home_net = config.home_net
        self._tunnels = NetworkSet(config.trusted_tunnels)
        self._resolution = Resolution(None, False)
        self._report, self._alive = report or _ignore, alive or _nothing
        self._reported: set[str] = set()
        self._time = self._now = 0.0
        self._newest: Chunk | None = None  # looked into when somebody asks
        self._last_event: float | None = None
        self.host_networks = host_networks

    @property
    def host_networks(self) -> Iterable[Network]:
        """The host's own addresses, and the networks on its links: what they start is outbound."""
        return self._host_networks

    @host_networks.setter
    def host_networks(self, networks: Iterable[Network]) -> None:
        self._host_networks = tuple(networks)
        self._inside = NetworkSet((*self._home_net, *self._host_networks))

    def process(self, chunks: Iterable[Chunk], *, now: float | None, goes_on: bool = False) -> Batch:
        """Decide all lines of the chunks, at the time `now` (epoch seconds), or each at its event's own time.

        `goes_on`: they belong to the same moment as those before, whose blocks have been put in force.
        """
        if now is not None:
            self._set_clock(now)
        batch = Batch([], [], [], self._view.begin())
        if not goes_on:
            self._wide.clear()
            self._met.clear()
            self._counted_again.clear()
        seen: defaultdict[str, int] = defaultdict(int)
        for chunk in chunks:
            if chunk.discarded:
                self._invalid("length", "too long, torn, or NUL bytes", chunk.path, chunk.discarded)
            for lines in groups(self._worth_parsing(chunk, seen)):
                self._alive()
                for match in self._matches(lines, chunk, seen, now):
                    try:
                        self._decide(match, batch, now)
                    except Exception as error:
                        self._broken(error, chunk.path)
        if seen:
            self._count(seen)
            self._newest = chunk
        for name, pattern, count in self._engine.cut_off():
            self.metrics.errors += count
            text = f"rule '{name}': searching for the regex {pattern!r} took too long and was given up, as no match"
            self._tell(f"{text}; write it without repeats that overlap; further ones are only counted")
        return batch

    def answered(self, answers: Iterable[Answer], *, now: float) -> tuple[Batch, list[Lift]]:
        """Decide again what these answers were waited for, at the time `now` (epoch seconds)."""
        self._set_clock(now)
        batch, lifts = Batch([], [], [], self._view.begin()), []
        for answer in answers:
            hung_on = [hung for hung in (decode(text, self._rules) for text in answer.cases.values()) if hung]
            # What is proven first: behind a block that is not, it would not count.
            for hung in sorted(hung_on, key=lambda hung: not hung.proven):
                decision = reconsider(hung, answer.address, answer.verdicts, self._view, self._terms, now=now)
                if isinstance(decision, Lift):
                    lifts.append(decision)
                elif decision is not None:
                    if decision.outcome is Outcome.NEW and hung.action.action.stops_packets:
                        decision = self._limited(decision, hung.hit, hung.action, hung.proven, now)
                    self._file(decision, batch, now)
        return batch, lifts

    def last_event(self) -> float | None:
        """The newest event's own time (epoch seconds), None before the first."""
        if self._newest is not None:
            self._last_event, self._newest = last_time(self._newest) or self._last_event, None
        return self._last_event

    def modes(self, now: float) -> dict[str, float]:
        """What many new blocks have switched on, with the seconds until silence alone ends it."""
        self._set_clock(now)
        return self._surges.modes(now)

    def _set_clock(self, now: float) -> None:
        """What time it is. If the clock was set back, what was counted in its future counts no more."""
        if now < self._now - _SET_BACK:
            self._engine.forget_after(now)
            self._surges.forget_after(now)
            self._skips.forget()
        self._now = now

    def counts(self, address: Network, now: float) -> list[Count]:
        """How far the address, or a network around it, is on its way to thresholds at that time (epoch seconds)."""
        names = {str(address.widened(prefix)) for prefix in range(1, address.prefix + 1)}

        def is_about(group: Hashable) -> bool:
            return not names.isdisjoint(group) if isinstance(group, tuple) else group in names

        return self._engine.counts(is_about, now)

    def idle_rules(self) -> list[str]:
        """The rules that act on nobody since nothing is known of anybody's reputation; nothing if none was hit."""
        return self._skips.idle_rules()

    def recall(self, chunks: Iterable[Chunk], *, now: float = math.inf) -> None:
        """Count the lines that were decided by an earlier run, without any effect but the thresholds' counts.

        Of each file only what lies within the longest window before its last line matters. What is later than that, or
        than `now` (epoch seconds), was written before the clock was set back.
        """
        if not self._counted:
            return
        self._wide.clear()
        for chunk, since, until in worth_reading(chunks, self._window, now):
            fast = chunk.format == "fast"
            for lines in groups(chunk.data.split(b"\n") if fast else self._sieve_of_counted.sift(chunk.data)[0]):
                self._alive()
                for line in lines:
                    event = decoded(chunk.format, line)
                    if event is None or event.time is None or event.type not in self._counted:
                        continue
                    if since <= event.time <= until:
                        self._count_again(event, event.time)

    def _count_again(self, event: Event, time: float) -> None:
        try:
            self._resolve(event.record)
            self._engine.feed(event.type, event.record, time)
        except FirewallError:
            raise
        except Exception:  # it was reported when the line was decided
            return

    def _resolve(self, record: dict[str, Any]) -> Resolution:
        """Who is behind the event; the record is told as well."""
        resolution = self._resolution = resolve(record, self._inside, self._proxies)
        if resolution.address is not None:
            record["offender"] = str(resolution.address)
        else:
            record.pop("offender", None)
        return resolution

    def _is_forgeable(self, record: dict[str, Any]) -> bool:
        """Whether nothing shows that whoever is behind the event that was resolved last spoke with us."""
        return proof(record, self._resolution, self._tunnels) is Proof.NONE

    def _network_of(self, address: str) -> str:
        """Whoever can choose addresses from a whole network is counted as one."""
        found = self._wide.get(address)
        if found is None:
            try:
                found = str(widened(parse_host(address), self._view, self._terms))
            except AddressError:
                found = address
            self._wide[address] = found
        return found

    def _worth_parsing(self, chunk: Chunk, seen: defaultdict[str, int]) -> list[bytes]:
        """The lines that rules may match, or that may be broken; the others are counted, by their event types."""
        if chunk.format == "fast":
            return [line for line in chunk.data.split(b"\n") if line]
        lines, others = self._sieve.sift(chunk.data)
        for kind, count in others.items():
            seen[kind.decode("utf-8", "replace")] += count
        return lines

    def _matches(
        self, lines: Sequence[bytes], chunk: Chunk, seen: defaultdict[str, int], now: float | None
    ) -> list[_Match]:
        """The events that rules were hit by; all are counted, by their types."""
        fast, needed, found = chunk.format == "fast", self._engine.types, []
        slack = OF_ANY_ZONE if fast else 0.0
        for event in each(fastlog.decode, lines) if fast else eve.decode_all(lines):
            if isinstance(event, LineError):
                self._invalid(event.kind, event.text, chunk.path)
                continue
            seen[event.type] += 1
            if event.type not in needed:
                continue
            dated = event.time is not None or now is not None
            try:
                time = self._time = (self._time if now is None else now) if event.time is None else event.time
                resolution = self._resolve(event.record)
                # The clock of another sensor may be ahead, or ours was set back.
                counted = time if now is None or time <= now else now
                stamped = math.nan if event.time is None else time
                hits = self._engine.feed(event.type, event.record, counted, dated=dated, stamped=stamped)
            except Exception as error:
                self._broken(error, chunk.path)
            else:
                if hits:
                    if counted < time:
                        hits = [hit._replace(time=time) for hit in hits]
                    found.append(_Match(event, time, slack if dated else None, resolution, hits))
        return found

    def _decide(self, match: _Match, batch: Batch, now: float | None) -> None:
        event, time, slack, resolution, hits = match
        moment = time if now is None else now
        first: Decision | None = None
        shown: Proof | None = None
        for hit in hits:
            self.metrics.rule_hits[hit.rule.name] += 1
            for action in hit.rule.actions:
                key = (id(action), resolution.address)
                met = self._met.get(key)
                if met is not None:
                    decision = self._met_again(key, met, hit, action)
                else:
                    if shown is None:
                        shown = proof(event.record, resolution, self._tunnels)
                    decision = decide(hit, action, resolution, shown, self._view, self._terms, now=moment, slack=slack)
                    if decision.outcome is Outcome.NEW and action.action.stops_packets:
                        decision = self._limited(decision, hit, action, shown is Proof.HANDSHAKE, moment)
                    block = decision.block
                    if now is not None and block is not None and id(action) in self._only_counting:
                        self._met[key] = (block.network, decision.what.reason)
                self._file(decision, batch, moment)
                first = first or decision
            if not hit.rule.actions:
                first = first or noted(hit, resolution.address)
        if first is not None and event.type == "alert":
            batch.alerts.append(first)

    def _met_again(self, key: _Key, met: tuple[Network, str], hit: Hit, action: RuleAction) -> Decision:
        """The action's further hits on an offender, in one moment, only count; hardly ever one tells anything new."""
        known = self._counted_again.get(key)
        if known is None or signature(hit.record) != (known.what.sid, known.what.msg):
            known = self._counted_again[key] = counted(hit, action, *met, None)
        return known

    def _limited(self, decision: Decision, hit: Hit, action: RuleAction, proven: bool, now: float) -> Decision:
        """A new block, or its refusal by the circuit breaker."""
        refusal = self._surges.refusal(proven, now)
        if refusal is None or decision.block is None:
            return decision
        return skipped(hit, action, decision.block.network, refusal)

    def _file(self, decision: Decision, batch: Batch, now: float) -> None:
        outcome, block = decision.outcome, decision.block
        if outcome is Outcome.SKIPPED:
            if self._skips.is_told(decision):
                batch.decisions.append(decision)
        elif outcome is Outcome.ACTIVE:
            self.metrics.duplicates_skip += 1
            if block is not None:
                self._view.repeat(block)
                batch.repeats.append(decision)
        elif block is not None:
            self._view.put(block, now, offence=decision.offence)
            batch.decisions.append(decision)

    def _count(self, seen: dict[str, int]) -> None:
        events = self.metrics.events
        for name, count in seen.items():
            known = name in events or (len(events) < _MANY_TYPES and len(name) <= _LONGEST_TYPE)
            events[name if known else "other"] += count

    def _broken(self, error: Exception, path: str) -> None:
        """No single line may stop the watcher; a kernel that cannot be asked does."""
        if isinstance(error, FirewallError):
            raise error
        self._invalid("internal", f"an error of this program, {type(error).__name__}: {error}", path)

    def _invalid(self, kind: str, text: str, path: str, count: int = 1) -> None:
        self.metrics.lines_invalid += count
        self._tell(f"{path}: a line was skipped: {text}; further ones of this kind are only counted", kind)

    def _tell(self, text: str, kind: str = "") -> None:
        """Report once for each kind; by default each text is one."""
        if (kind or text) not in self._reported:
            self._reported.add(kind or text)
            self._report(text)


def _only_counting(rules: RuleSet) -> frozenset[int]:
    """The id() of each action whose further hits on what it has blocked, in the same moment, only count.

    Where reputation has a say, the reason of each is that of the entry in force, which can change.
    """
    asking_nobody = (rule for rule in rules if rule.intel == "skip")
    return frozenset(id(action) for rule in asking_nobody for action in rule.actions if action.target == "offender")


def _terms(config: Config) -> Terms:
    return Terms(
        ipv6_prefix=config.ipv6_prefix,
        spoof_guard=config.spoof_guard,
        fail_closed=config.intel.fail_policy == "closed",
        families=config.families,
        threshold=config.intel.threshold,
        provisional=config.intel.provisional,
        factor=config.escalation.factor,
        longest=config.escalation.max,
    )


def _counted_types(rules: RuleSet) -> frozenset[str]:
    """The event types that some rule remembers: it counts them, or another rule waits for its hits."""
    awaited = {rule.sequence.after for rule in rules if rule.sequence is not None}
    return frozenset(rule.type for rule in rules if rule.threshold > 1 or rule.name in awaited)


def _ignore(_text: str) -> None:
    pass


def _nothing() -> None:
    pass
