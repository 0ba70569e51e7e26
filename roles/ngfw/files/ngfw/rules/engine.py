# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules an event hits: expression, window, distinct values, sequence.

All state is in memory and is rebuilt by feeding the last lines of the log again without acting on the hits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Callable, NamedTuple

from ..firewall.address import parse_host
from ..firewall.errors import AddressError
from ..rules import fields
from .doubles import Doubles
from .glance import Glance, either
from .model import Rule
from .regex import Patience
from .windows import MAX_GROUPS, Counter, DistinctCounter, Memory

Record = dict[str, Any]
Getter = Callable[[Record], Any]
NetworkOf = Callable[[str], str]
IsForgeable = Callable[[Record], bool]

# What rules are indexed by, the most selective first.
_INDEXED = ("alert.signature_id", "dest_port", "src_port", "alert.severity", "app_proto", "proto")
_WORTH_AN_INDEX = 4  # asking three rules costs as much as looking one up
_LONGEST_KEY = 64
_IPV4_BITS = 32
_KNOWN_NETWORKS = 4096
_SCALARS = frozenset((str, int, float, bool))
_FORGEABLE = b"forgeable"  # ends the group of what may be forged, where the rule wants proof
# A rule keeps at least this many groups, however many rules count.
_MIN_GROUPS = 20_000
_ALL_GROUPS = 400_000


class Hit(NamedTuple):
    """An event that a rule acts on: its time (epoch seconds), and the count with which it reached the threshold."""

    rule: Rule
    record: Record
    time: float
    reached: int


class Count(NamedTuple):
    """How far a group is on its way to a rule's threshold, and until when (epoch seconds) its first event counts.

    `forgeable`: these are the events that are counted apart, and of which a hit would be refused.
    """

    rule: Rule
    reached: int
    until: float
    forgeable: bool


class _Runner:
    """One enabled rule with its state."""

    __slots__ = (
        "after",
        "counter",
        "counts",
        "distinct",
        "group",
        "is_forgeable",
        "matches",
        "memory",
        "position",
        "rule",
        "values",
    )

    def __init__(
        self, rule: Rule, position: int, max_groups: int, network_of: NetworkOf, is_forgeable: IsForgeable | None
    ) -> None:
        self.rule = rule
        self.position = position
        self.matches = rule.expression.matches
        self.group = _group_getter(rule.group_by, network_of)
        self.is_forgeable = None if rule.spoofable else is_forgeable
        self.counter: Counter | None = None
        self.distinct: Getter | None = None
        self.values: DistinctCounter | None = None
        self.memory: Memory | None = None
        self.after: Memory | None = None
        if rule.threshold > 1 and rule.distinct is None:
            self.counter = Counter(rule.threshold, rule.window, max_groups)
        if rule.distinct is not None:
            self.distinct = _getter(rule.distinct)
            self.values = DistinctCounter(rule.threshold, rule.window, max_groups)
        self.counts = self.counter is not None or self.values is not None or rule.sequence is not None

    def count(self, record: Record, time: float) -> int:
        """Count a matching event; the count if it is a hit, else 0."""
        group = self.group(record)
        if group is None:
            return 0
        sequence = self.rule.sequence
        if self.after is not None and sequence is not None and not self.after.recalls(group, time, sequence.within):
            return 0
        count = 1
        if self.is_forgeable is not None and self.is_forgeable(record):
            # By itself: it must neither fill the window of somebody who spoke with us, nor empty it.
            group = (*group, _FORGEABLE) if isinstance(group, tuple) else (group, _FORGEABLE)
        if self.counter is not None:
            count = self.counter.add(group, time)
        elif self.values is not None and self.distinct is not None:
            value = self.distinct(record)
            if value is None:
                return 0
            count = self.values.add(group, _key(value), time)
        return count if count >= self.rule.threshold else 0


class _Plan:
    """The rules of one event type: some to be found by the value of a field, the others asked for every event."""

    def __init__(self, runners: list[_Runner]) -> None:
        self._always: list[_Runner] = []
        indexes: dict[str, dict[Any, list[_Runner]]] = {}
        names = [next((each for each in _INDEXED if each in runner.rule.expression.required), "") for runner in runners]
        for runner, name in zip(runners, names):
            if not name or names.count(name) < _WORTH_AN_INDEX:
                self._always.append(runner)
                continue
            for value in runner.rule.expression.required[name]:
                indexes.setdefault(name, {}).setdefault(value, []).append(runner)
        self._indexes = [(_getter(name), table) for name, table in indexes.items()]
        self.glance = either(runner.rule.expression.glance for runner in runners)

    def candidates(self, record: Record) -> list[_Runner]:
        """The rules that the record may meet, in their order."""
        found = self._always
        for getter, table in self._indexes:
            value = getter(record)
            if value.__class__ in _SCALARS:
                more = table.get(value)
                if more:
                    found = found + more if found else more
        if len(found) > 1 and self._indexes:
            return sorted(found, key=_position)
        return found


class Engine:
    """Feeds events to the enabled ones of the rules.

    ``network_of`` may name, for the text of an IPv6 offender, what is blocked in its place, so that somebody who has
    a whole network to choose addresses from is counted as one. ``patience`` is what all their regexes may take.
    ``is_forgeable`` tells events that are counted apart by rules that are not ``spoofable``.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        *,
        network_of: NetworkOf = str,
        patience: Patience | None = None,
        is_forgeable: IsForgeable | None = None,
    ) -> None:
        enabled = [rule for rule in rules if rule.enabled]
        self._limited = [(rule.name, regex) for rule in enabled for regex in rule.expression.limited]
        for _name, regex in self._limited:
            regex.patience = patience
        counting = sum(1 for rule in enabled if rule.threshold > 1 or rule.distinct is not None)
        max_groups = min(MAX_GROUPS, max(_MIN_GROUPS, _ALL_GROUPS // max(counting, 1)))
        self._runners = [
            _Runner(rule, position, max_groups, network_of, is_forgeable) for position, rule in enumerate(enabled)
        ]
        by_name = {runner.rule.name: runner for runner in self._runners}
        for runner in self._runners:
            sequence = runner.rule.sequence
            if sequence is not None:
                first = by_name[sequence.after]
                longest = max(
                    r.rule.sequence.within
                    for r in self._runners
                    if r.rule.sequence and r.rule.sequence.after == sequence.after
                )
                if first.memory is None:
                    first.memory = Memory(longest, max_groups)
                runner.after = first.memory
        by_type: dict[str, list[_Runner]] = {}
        for runner in self._runners:
            by_type.setdefault(runner.rule.type, []).append(runner)
        self._plans = {event_type: _Plan(runners) for event_type, runners in by_type.items()}
        self._doubles = Doubles()
        self.types = frozenset(self._plans)
        """The event types that enabled rules are of."""

    def glances(self) -> dict[str, Glance | None]:
        """The event types that rules are of, with a look that tells lines which none of them matches, or None."""
        return {event_type: plan.glance for event_type, plan in self._plans.items()}

    @property
    def evicted(self) -> dict[str, int]:
        """How many groups each rule forgot before their time for lack of room; rules without any are left out."""
        counts = {}
        for runner in self._runners:
            parts = (runner.counter, runner.values, runner.memory)
            count = sum(part.evicted for part in parts if part is not None)
            if count:
                counts[runner.rule.name] = count
        return counts

    def cut_off(self) -> list[tuple[str, str, int]]:
        """The rule, the pattern and the number of searches that were given up since the last call."""
        found = [(name, regex.pattern, regex.cut_off) for name, regex in self._limited if regex.cut_off]
        for _name, regex in self._limited:
            regex.cut_off = 0
        return found

    def counts(self, is_about: Callable[[Hashable], bool], time: float) -> list[Count]:
        """The counts of groups that have something at that time (epoch seconds), in the order of the rules."""
        found = []
        for runner in self._runners:
            part = runner.counter or runner.values
            if part is None:
                continue
            for group in filter(is_about, part.groups()):
                reached, until = part.open(group, time)
                if reached:
                    forgeable = isinstance(group, tuple) and group[-1] == _FORGEABLE
                    found.append(Count(runner.rule, reached, until, forgeable))
        return found

    def forget_after(self, time: float) -> None:
        """The clock was set back to that time (epoch seconds): what was counted in its future counts no more."""
        for runner in self._runners:
            for part in (runner.counter, runner.values, runner.memory):
                if part is not None:
                    part.forget_after(time)

    def feed(
        self, event_type: str, record: Record, time: float, *, dated: bool = True, stamped: float | None = None
    ) -> list[Hit]:
        """The hits of an event that counts at this time (epoch seconds), in the order of the rules.

        One that is not `dated` counts for nothing: it hits rules that count nothing, and no rule remembers it.
        `stamped` is its own time where that is another, NaN where it has none: only this tells doubles.
        """
        hits: list[Hit] = []
        plan = self._plans.get(event_type)
        if plan is None:
            return hits
        remembered: list[tuple[Memory, Hashable]] = []
        double = None if dated else True
        for runner in plan.candidates(record):
            if runner.matches(record):
                count = 1
                if runner.counts:
                    if double is None:
                        double = self._doubles.is_double(event_type, record, time if stamped is None else stamped)
                    count = 0 if double else runner.count(record, time)
                if count:
                    hits.append(Hit(runner.rule, record, time, count))
                    if runner.memory is not None and dated:
                        group = runner.group(record)
                        if group is not None:
                            remembered.append((runner.memory, group))
        # Only now: a rule that waits for another does not take the same event for both.
        for memory, group in remembered:
            memory.note(group, time)
        return hits


def _position(runner: _Runner) -> int:
    return runner.position


def _getter(name: str) -> Getter:
    path = fields.parse_field(name)
    if len(path) == 1:
        return lambda record: record.get(name)
    *parents, last = path

    def get(record: Record) -> Any:
        value: Any = record
        for step in parents:
            value = value.get(step)
            if value.__class__ is not dict:
                return None
        return value.get(last)

    return get


def _group_getter(names: tuple[str, ...], network_of: NetworkOf) -> Callable[[Record], Hashable | None]:
    getters = [_part_getter(name, network_of) for name in names]
    if len(getters) == 1:
        single = getters[0]

        def get(record: Record) -> Hashable | None:
            value = single(record)
            return value if value.__class__ is str and len(value) <= _LONGEST_KEY else _key(value)

        return get

    def get_all(record: Record) -> Hashable | None:
        keys = tuple(_key(getter(record)) for getter in getters)
        return None if None in keys else keys

    return get_all


def _part_getter(text: str, network_of: NetworkOf) -> Getter:
    name, prefix = fields.parse_group(text)
    get = _offender(network_of) if name == "offender" else _getter(name)
    if prefix is None:
        return get
    width, raw = prefix, _sender if name == "offender" else get

    @lru_cache(maxsize=_KNOWN_NETWORKS)
    def network(address: str) -> str | None:
        """None for an address of the other family, and for what is none."""
        try:
            host = parse_host(address)
        except AddressError:
            return None
        return str(host.widened(width)) if (host.family == "ipv4") == (width <= _IPV4_BITS) else None

    def get_network(record: Record) -> Any:
        address = raw(record)
        found = network(address) if address.__class__ is str and len(address) <= _LONGEST_KEY else None
        return get(record) if found is None else found

    return get_network


def _sender(record: Record) -> Any:
    # Where nobody can be named, events are still counted by their sender: hits without effect are journaled.
    return record.get("offender") or record.get("src_ip")


def _offender(network_of: NetworkOf) -> Getter:
    def get(record: Record) -> Any:
        address = _sender(record)
        return network_of(address) if address.__class__ is str and ":" in address else address

    return get


def _key(value: Any) -> Hashable | None:
    """What stands for a value in a group: itself if it is small, else a digest, so that its size costs nothing."""
    if value is None:
        return None
    kind = value.__class__
    if kind is float and value.is_integer():
        return _key(int(value))
    if (kind is str and len(value) <= _LONGEST_KEY) or kind is bool or (kind is int and value.bit_length() <= 64):
        key: Hashable = value
        return key
    try:
        return blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    except RecursionError:
        return None
