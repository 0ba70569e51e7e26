# SPDX-License-Identifier: GPL-3.0-or-later
"""What the configuration overrides of rules, as people read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from ..firewall.duration import format_duration
from ..rules.load import RuleSet
from ..rules.model import Rule, RuleAction, Sequence


def overridden(rules: RuleSet) -> dict[str, list[str]]:
    """What `rule_overrides` changes in each rule that it names: "threshold 20 -> 8"."""
    now = {rule.name: rule for rule in rules.rules}
    return {before.name: list(_changes(before, now[before.name])) for before in rules.overridden}


def _changes(before: Rule, after: Rule) -> Iterator[str]:
    for key in fields(Rule):
        old, new = getattr(before, key.name), getattr(after, key.name)
        if key.name == "expression":
            old, new = old.text, new.text
        if old != new:
            yield f"{'threshold_window' if key.name == 'window' else key.name} {_told(old)} -> {_told(new)}"


def _told(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, RuleAction):
        length = format_duration(value.duration) if value.duration else "permanent"
        return f"{value.action.value} {value.target} {length}"
    if isinstance(value, Sequence):
        return f"after {value.after} within {value.within} s"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_told, value))}]"
    return str(value)
