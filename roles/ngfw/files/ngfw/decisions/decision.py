# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hit comes to, as it goes to the kernel and into the journals."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from ..firewall.address import Network
from ..firewall.entry import Action, Block
from ..intel.verdict import Outcome as Judgement
from ..rules.engine import Hit
from ..rules.model import RuleAction

MAX_MESSAGE = 1024
"""Characters of a signature's message that a decision keeps; Suricata itself allows 1.7 MB lines."""

_OF_RECORD = ("event_type", "src_ip", "src_port", "dest_ip", "dest_port", "proto")
NO_RECORD = (None,) * len(_OF_RECORD)
"""Decision.of_record of what no event tells."""

_SCALARS = frozenset((str, int, bool, type(None)))
_NAMES = {Action.DROP: "block", Action.REJECT: "reject", Action.LOG: "log", Action.RATE_LIMIT: "rate_limit"}


class Outcome(str, Enum):
    """What a hit leads to."""

    NEW = "new"
    EXTENDED = "extended"
    ACTIVE = "active"  # an entry of the same or a longer duration stands: the hit is counted only
    SKIPPED = "skipped"


class What(NamedTuple):
    """What many decisions have in common: `duration` in seconds (0: permanent) or None for a skip, `score` and
    `sources` as reputation has them, `sid` and `msg` of the alert's signature.
    """

    target: str
    rule: str
    reason: str
    duration: int | None
    sid: int | None
    msg: str | None
    score: int | None = None
    sources: tuple[str, ...] = ()


class Decision(NamedTuple):
    """One hit decided, for one action of its rule.

    `time` is the event's own (epoch seconds), `action` as replay prints it, `ip` the network that is blocked or the
    address that is not, `host` the offender itself where that is a network around it. `of_record` has the event's
    `event_type`, `src_ip`, `src_port`, `dest_ip`, `dest_port` and `proto`. `offence`: the next block of that network
    is longer because of this one.
    """

    time: float
    action: str
    ip: str
    host: str
    what: What
    of_record: tuple[object, ...]
    outcome: Outcome
    block: Block | None
    offence: bool = False


class Lift(NamedTuple):
    """A block that an answer has shown to be wrong."""

    block: Block
    reason: str


def decided(
    hit: Hit,
    action: RuleAction,
    network: Network | None,
    reason: str,
    block: Block | None,
    outcome: Outcome,
    judgement: Judgement | None = None,
    *,
    offence: bool = False,
) -> Decision:
    """The decision on one action of a hit; `judgement` is what reputation had to say, if it was asked."""
    record, ip = hit.record, "" if network is None else str(network)
    sid, message = signature(record)
    score, sources = (None, ()) if judgement is None else (judgement.score, judgement.sources)
    return Decision(
        hit.time,
        _NAMES[action.action] if block is not None else "skip",
        ip,
        record.get("offender", ip) if "/" in ip else ip,
        What(
            action.side,
            hit.rule.name,
            reason,
            None if block is None else block.duration,
            sid,
            message,
            score,
            sources,
        ),
        _of_record(record),
        outcome,
        block,
        offence,
    )


def skipped(
    hit: Hit, action: RuleAction, address: Network | None, reason: str, judgement: Judgement | None = None
) -> Decision:
    """Nothing is done, for this reason."""
    return decided(hit, action, address, reason, None, Outcome.SKIPPED, judgement)


def noted(hit: Hit, address: Network | None) -> Decision:
    """A hit of a rule without actions: nothing but a line about its alert."""
    sid, message = signature(hit.record)
    ip, reason = "" if address is None else str(address), f"RULE {hit.rule.name}"
    what = What("source", hit.rule.name, reason, None, sid, message)
    return Decision(hit.time, "skip", ip, ip, what, _of_record(hit.record), Outcome.SKIPPED, None)


def counted(hit: Hit, action: RuleAction, network: Network, reason: str, again: Block | None) -> Decision:
    """A hit on what is blocked already; `again` is put back if somebody has lifted the entry unseen."""
    return decided(hit, action, network, reason, again, Outcome.ACTIVE)


def signature(record: dict[str, Any]) -> tuple[int | None, str | None]:
    """The sid of an alert's record and its message, None for anything else."""
    alert = record.get("alert")
    if not isinstance(alert, dict):
        return None, None
    sid, message = alert.get("signature_id"), alert.get("signature")
    return (
        sid if isinstance(sid, int) and not isinstance(sid, bool) and sid.bit_length() <= 64 else None,
        message[:MAX_MESSAGE] if isinstance(message, str) else None,
    )


def _of_record(record: dict[str, Any]) -> tuple[object, ...]:
    found = tuple(map(record.get, _OF_RECORD))
    if _SCALARS.issuperset(map(type, found)):
        return found
    return tuple(value if type(value) in _SCALARS else None for value in found)
