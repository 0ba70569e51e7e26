# SPDX-License-Identifier: GPL-3.0-or-later
"""A rule as it was loaded and checked. All durations and windows are in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ..firewall.entry import Action, Direction
from .expression import Expression

SEVERITIES = ("info", "low", "medium", "high", "critical")
INTEL = ("skip", "require", "confirm")


@dataclass(frozen=True)
class RuleAction:
    """What a hit does to an address; ``duration`` 0 is permanent. ``target``: offender, source or destination."""

    action: Action
    target: str
    duration: int
    rate: str = "10/minute"
    burst: int = 5
    log_prefix: str = "NGFW: "

    @cached_property
    def direction(self) -> Direction:
        """The side of a packet that the target stands on."""
        return Direction.DESTINATION if self.target == "destination" else Direction.SOURCE

    @cached_property
    def side(self) -> str:
        """The same, as people read it."""
        return self.direction.value


@dataclass(frozen=True)
class Sequence:
    """The rule counts only events whose group the rule ``after`` hit at most ``within`` seconds before."""

    after: str
    within: int
    path: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Rule:
    """One rule of a rule file.

    It is hit by the ``threshold``-th event of its ``type`` that meets the expression within ``window`` and one group:
    the values of the fields ``group_by``, which names at least one; ``offender/24`` is the network of that prefix.
    With ``distinct`` it counts different values of that field instead of events. A hit clears the group's window, so
    the next one needs as many events again.
    """

    name: str
    description: str
    type: str
    expression: Expression
    severity: str
    threshold: int
    window: int
    group_by: tuple[str, ...]
    distinct: str | None
    sequence: Sequence | None
    intel: str
    spoofable: bool
    actions: tuple[RuleAction, ...]
    enabled: bool
    mitre: tuple[str, ...]
    tags: tuple[str, ...]
    path: str
    line: int
