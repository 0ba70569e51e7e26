# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads rule files: every check at load, every problem at once with file and line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..firewall.entry import Action, valid_burst, valid_log_prefix, valid_rate, valid_rule_name
from ..firewall.errors import InvalidInput
from ..firewall.text import shown
from ..rules import fields
from ..settings import values
from ..settings.config import ACTIONS, Defaults, RuleOverrides
from ..settings.section import Section
from ..settings.values import WrongValueError, suggestion
from ..settings.yamlfile import ConfigError, Node, Problem, ScalarNode, parse, read
from .expression import Expression, compile_expression
from .model import INTEL, SEVERITIES, Rule, RuleAction, Sequence
from .syntax import ExpressionError

MAX_THRESHOLD = 100_000
MAX_DISTINCT = 10_000
SUFFIXES = (".yml", ".yaml")

_MITRE = re.compile(r"TA?[0-9]{4}(\.[0-9]{3})?", re.ASCII)
_ACTIONS = {
    "iptables_block": Action.DROP,
    "iptables_reject": Action.REJECT,
    "iptables_log": Action.LOG,
    "iptables_rate_limit": Action.RATE_LIMIT,
}
_OWN_KEYS = {"prefix": "iptables_log", "rate": "iptables_rate_limit", "burst": "iptables_rate_limit"}
_GROUP_OF_TARGET = {"offender": "offender", "source": "src_ip", "destination": "dest_ip"}


@dataclass(frozen=True)
class RuleSet:
    """All rules of some files, in the order of the files and within them; the disabled ones too.

    `overridden` are the rules as their files have them of which the configuration overrides something.
    """

    rules: tuple[Rule, ...]
    files: tuple[str, ...] = ()
    overridden: tuple[Rule, ...] = ()

    @property
    def longest_window(self) -> int:
        """Seconds back from now that an event can still count; 0 if no rule counts anything."""
        windows = [rule.window for rule in self if rule.threshold > 1]
        return max(windows + [rule.sequence.within for rule in self if rule.sequence], default=0)

    def named(self, name: str) -> Rule | None:
        """The enabled rule of that name."""
        return next((rule for rule in self if rule.name == name), None)

    def __iter__(self) -> Iterator[Rule]:
        return (rule for rule in self.rules if rule.enabled)

    def __len__(self) -> int:
        return sum(1 for _rule in self)


def load_rules(
    paths: Iterable[Path],
    defaults: Defaults | None = None,
    overrides: RuleOverrides | None = None,
    *,
    all_rules: bool = True,
) -> RuleSet:
    """The rules of files and of the ``*.yml`` and ``*.yaml`` files of directories, these in the order of their names.

    ``overrides`` may only name rules that are there, unless these are not ``all_rules``.
    Raises ConfigError with all problems of all files.
    """
    loader = _Loader(defaults or Defaults(), overrides or RuleOverrides(), all_rules)
    files = _files(paths, loader.problems)
    for file in files:
        try:
            loader.take(read(file), str(file))
        except ConfigError as error:
            loader.problems += error.problems
    return RuleSet(loader.finish(), tuple(map(str, files)), tuple(loader.overridden))


def parse_rules(source: bytes, path: str, defaults: Defaults | None = None) -> RuleSet:
    """The rules of a file at hand; ``path`` is only used in messages. Raises ConfigError."""
    loader = _Loader(defaults or Defaults(), RuleOverrides(), all_rules=True)
    loader.take(parse(source, path), path)
    return RuleSet(loader.finish(), (path,))


def _files(paths: Iterable[Path], problems: list[Problem]) -> list[Path]:
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        try:
            found = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES) if path.is_dir() else [path]
        except OSError as error:
            problems.append(Problem(str(path), 1, f"cannot be read: {error.strerror}; check its permissions"))
            continue
        if found == [path] and not path.exists():
            message = "there is no such file or directory; create it, or correct the path"
            problems.append(Problem(str(path), 1, message))
            continue
        files.update(dict.fromkeys(each for each in found if not each.name.startswith(".")))
    return list(files)


class _Loader:
    """Collects rules and problems over several files, then checks the rules against each other."""

    def __init__(self, defaults: Defaults, overrides: RuleOverrides, all_rules: bool) -> None:
        self.problems: list[Problem] = []
        self.overridden: list[Rule] = []
        self._defaults, self._overrides, self._all_rules = defaults, overrides, all_rules
        self._rules: list[Rule] = []
        self._refused: set[str] = set()

    def take(self, root: Node | None, path: str) -> None:
        """The rules of one file."""
        if root is None:
            return
        top = Section(root, path, self.problems)
        sections = top.sections("rules", "a rule")
        if sections is None and not top.broken and not top.has_null("rules"):
            top.problem(top.line, "'rules' is missing; begin the file with 'rules:' and list rules under it")
        top.close()
        for section in sections or ():
            name = section.require("name", values.parsed(valid_rule_name), "name: What It Does")
            rule = _rule(section, name, self._defaults)
            if rule is not None and rule.name in self._overrides.rules:
                self.overridden.append(rule)
                above = self._overrides.section(rule.name, self.problems)
                rule = _rule(section.overlaid(above), name, self._defaults)
            if rule is not None:
                self._rules.append(rule)
            elif name is not None:
                self._refused.add(name)

    def finish(self) -> tuple[Rule, ...]:
        """All rules; raises ConfigError if anything was wrong."""
        named: dict[str, Rule] = {}
        for rule in self._rules:
            first = named.setdefault(rule.name, rule)
            if first is not rule:
                place = f"{first.path}:{first.line}"
                message = f"a rule named '{rule.name}' is there already, {place}; give this one another name"
                self.problems.append(Problem(rule.path, rule.line, message))
        for rule in named.values():
            if rule.sequence is not None and rule.sequence.after not in self._refused:
                message = _sequence_problem(rule, rule.sequence.after, named)
                if message:
                    self.problems.append(
                        Problem(rule.sequence.path, rule.sequence.line, f"rule '{rule.name}': {message}")
                    )
        for name, node in self._overrides.rules.items():
            if self._all_rules and name not in named and name not in self._refused:
                hint = suggestion(name, named) or "; name a rule of these files"
                message = f"'rule_overrides' names no rule, '{shown(name)}'{hint}"
                self.problems.append(Problem(self._overrides.path, node.line, message))
        if self.problems:
            raise ConfigError(sorted(self.problems))
        return tuple(self._rules)


def _rule(section: Section, name: str | None, defaults: Defaults) -> Rule | None:
    before = len(section.problems)
    event_type = section.require("type", _event_type, "type: alert, or another event type of EVE")
    expression = _expression(section, event_type)
    threshold = section.take("threshold", values.integer(1, MAX_THRESHOLD), 1)
    distinct = section.optional("distinct", _field(event_type))
    if distinct is not None and threshold > MAX_DISTINCT:
        message = f"'threshold' is at most {MAX_DISTINCT} where 'distinct' values are counted; write a smaller one"
        section.problem_of("threshold", message)
    actions = _actions(section, defaults)
    group = _GROUP_OF_TARGET[actions[0].target if actions else "offender"]
    known = len(section.problems)
    group_by = section.items("group_by", _group(event_type), (group,))
    if not group_by and len(section.problems) == known:
        section.problem_of("group_by", "'group_by' names no field; name one, or remove the key")
    fixed = {
        "description": section.take("description", values.text, ""),
        "severity": section.take("severity", values.choice(*SEVERITIES), "medium"),
        "intel": section.take("intel", values.choice(*INTEL), "skip"),
    }
    window = section.take("threshold_window", values.window, 60)
    sequence = _sequence(section)
    spoofable = section.take("spoofable", values.boolean, False)
    enabled = section.take("enabled", values.boolean, True)
    mitre = section.items("mitre", _mitre, ())
    tags = section.items("tags", values.text, ())
    section.close()
    if name is None or event_type is None or expression is None or len(section.problems) > before:
        return None
    return Rule(
        name=name,
        type=event_type,
        expression=expression,
        threshold=threshold,
        window=window,
        group_by=tuple(dict.fromkeys(group_by)),
        distinct=distinct,
        sequence=sequence,
        spoofable=spoofable,
        actions=actions,
        enabled=enabled,
        mitre=mitre,
        tags=tags,
        path=section.path,
        line=section.line,
        **fixed,
    )


def _expression(section: Section, event_type: str | None) -> Expression | None:
    node = section.node("expression")
    text = section.require("expression", _expression_text, "expression: dest_port == 22, or whatever an event must be")
    if text is None or event_type is None or not isinstance(node, ScalarNode):
        return None
    try:
        return compile_expression(text, event_type=event_type)
    except ExpressionError as error:
        line = node.first_line + (0 if node.folded else text.count("\n", 0, error.offset))
        section.problem_of("expression", f"'expression': {error}", line)
        return None


def _expression_text(node: Node) -> str:
    # `expression: true` is a boolean to YAML, and means every event of the type.
    if isinstance(node, ScalarNode) and isinstance(node.value, bool):
        return node.text
    return values.text(node)


def _event_type(node: Node) -> str:
    word = values.text(node)
    if word not in fields.EVENT_TYPES:
        hint = suggestion(word, fields.EVENT_TYPES) or "; write an event type of EVE, such as alert"
        raise WrongValueError(f"cannot be '{shown(word)}'{hint}")
    return word


def _field(event_type: str | None) -> values.Converter[str]:
    def convert(node: Node) -> str:
        name = values.text(node)
        if event_type is None:
            return name
        try:
            fields.types_of(fields.parse_field(name), event_type)
        except fields.FieldError as error:
            raise WrongValueError(f"cannot be used: {error}") from None
        return name

    return convert


def _group(event_type: str | None) -> values.Converter[str]:
    known = _field(event_type)

    def convert(node: Node) -> str:
        if not isinstance(node, ScalarNode) or "/" not in node.text:
            return known(node)
        try:
            name, _prefix = fields.parse_group(node.text)
            if event_type is not None:
                fields.types_of(fields.parse_field(name), event_type)
        except fields.FieldError as error:
            raise WrongValueError(f"cannot be used: {error}") from None
        return node.text

    return convert


def _sequence(section: Section) -> Sequence | None:
    if section.node("sequence") is None:
        return None
    inner = section.section("sequence")
    after = inner.require("after", values.text, "after: NAME OF THE RULE that must have been hit before")
    within = inner.take("within", values.window, 60)
    inner.close()
    return None if after is None else Sequence(after, within, *inner.place_of("after"))


def _actions(section: Section, defaults: Defaults) -> tuple[RuleAction, ...]:
    sections = section.sections("actions")
    if sections is None:
        return (RuleAction(_ACTIONS[defaults.action], defaults.target, defaults.duration),)
    return tuple(_action(each, defaults) for each in sections)


def _action(section: Section, defaults: Defaults) -> RuleAction:
    kind = section.take("type", values.choice(*ACTIONS), defaults.action)
    config = section.section("config")
    target = config.take("target", values.target, defaults.target)
    duration = config.take("duration", values.block_duration, defaults.duration)
    own = RuleAction(_ACTIONS[kind], target, duration)
    prefix, rate, burst = own.log_prefix, own.rate, own.burst
    for key, owner in _OWN_KEYS.items():
        if kind != owner and config.has(key):
            config.node(key)
            config.problem_of(key, f"'{key}' belongs to {owner}, not to {kind}; remove it")
    if kind == "iptables_log":
        prefix = config.take("prefix", values.parsed(valid_log_prefix), prefix)
    if kind == "iptables_rate_limit":
        rate = config.take("rate", values.parsed(valid_rate), rate)
        burst = config.take("burst", values.integer(1, 10_000), burst)
        try:
            valid_burst(burst, rate)
        except InvalidInput as error:
            config.problem_of("burst" if config.has("burst") else "rate", str(error))
    config.close()
    section.close()
    return RuleAction(_ACTIONS[kind], target, duration, rate, burst, prefix)


def _mitre(node: Node) -> str:
    word = values.text(node)
    if not _MITRE.fullmatch(word):
        raise WrongValueError(f"cannot be '{shown(word)}'; write an ATT&CK number such as T1110 or T1110.001")
    return word


def _sequence_problem(rule: Rule, after: str, named: dict[str, Rule]) -> str:
    if after not in named:
        hint = suggestion(after, named) or "; name a rule of these files"
        return f"'sequence.after' names no rule, '{shown(after)}'{hint}"
    first = named[after]
    if rule.enabled and not first.enabled:
        return f"it waits for '{after}', which is disabled; enable that rule, or disable this one"
    if rule.group_by != first.group_by:
        ours, theirs = ", ".join(rule.group_by), ", ".join(first.group_by)
        return f"it groups by [{ours}] and '{after}' by [{theirs}]; write the same 'group_by' in both"
    seen = {rule.name}
    step: Rule | None = first
    while step is not None:
        if step.name in seen:
            return "its sequence comes back to itself; let one rule of the circle do without"
        seen.add(step.name)
        step = named.get(step.sequence.after) if step.sequence else None
    return ""
