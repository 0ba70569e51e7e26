# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between a hit and the kernel: a pure function from a hit to a decision.

The refusals come in the order of CONTRACT.md section 4; the first that holds names the reason.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple, Protocol

from .events.offender import Resolution, engine_event, may_be_forged
from .firewall.address import FAMILIES, Network, parse_host
from .firewall.duration import is_longer
from .firewall.entry import Action, Block, Direction, Entry
from .firewall.errors import AddressError
from .rules.engine import Hit
from .rules.model import Rule, RuleAction

MAX_MESSAGE = 1024
"""Characters of a signature's message that a decision keeps; Suricata itself allows 1.7 MB lines."""

_REORDERED = 60.0
"""Seconds that a record may be stamped before the entry that covers it (several threads write one log)."""

_NAMES = {Action.DROP: "block", Action.REJECT: "reject", Action.LOG: "log", Action.RATE_LIMIT: "rate_limit"}


class Guard(Protocol):
    """Why an address is out of reach; `network` is what covers it."""

    @property
    def kind(self) -> str: ...

    @property
    def network(self) -> Network: ...

    @property
    def comment(self) -> str: ...


class Enforcer(Protocol):
    """What a decision asks of the state in force: the kernel's mirror, or the recorder of a replay."""

    def look(self) -> None:
        """A batch begins: its questions may be answered from what is in force now."""

    def standing(self, block: Block) -> Entry | None:
        """The entry of the block's network, action and direction, or None."""

    def guard(self, network: Network) -> Guard | None:
        """The protected or whitelisted network that wholly covers `network`, or None."""

    def guards_near(self, network: Network) -> bool:
        """Whether a protected or whitelisted network shares an address with `network`."""


class Terms(NamedTuple):
    """The parts of the configuration that decisions depend on."""

    ipv6_prefix: int = 64
    spoof_guard: bool = True
    fail_closed: bool = False
    families: tuple[str, ...] = FAMILIES


class Outcome(str, Enum):
    """What a hit leads to."""

    NEW = "new"
    EXTENDED = "extended"
    ACTIVE = "active"  # an entry of the same or a longer duration stands: the hit is counted only
    SKIPPED = "skipped"


class Decision(NamedTuple):
    """One hit decided, for one action of its rule.

    `time` is the event's own (epoch seconds), `action` as replay prints it, `ip` the network that is blocked or the
    address that is not, `duration` in seconds (0: permanent) or None for a skip.
    """

    time: float
    action: str
    ip: str
    target: str
    rule: str
    reason: str
    duration: int | None
    sid: int | None
    msg: str | None
    score: int | None
    sources: tuple[str, ...]
    outcome: Outcome
    block: Block | None
    record: dict[str, Any]


def decide(
    hit: Hit,
    action: RuleAction,
    resolution: Resolution,
    enforcer: Enforcer,
    terms: Terms,
    *,
    now: float,
    stamped: bool = True,
) -> Decision:
    """Decide one action of the rule that was hit, at the time `now` (epoch seconds).

    `stamped` says whether the event's time can be trusted to the zone: fast.log's cannot, so it is never stale.
    """
    rule, record = hit.rule, hit.record
    direction = Direction.DESTINATION if action.target == "destination" else Direction.SOURCE
    address = resolution.address if action.target == "offender" else _named(record, action.target)
    refusal = _out_of_reach(action.target, address, resolution, enforcer, terms)
    if address is None or refusal is not None:
        return _decision(hit, action, direction, address, refusal or "", None, Outcome.SKIPPED)

    network = widened(address, enforcer, terms) if action.target == "offender" else address
    reason, refusal = _verdict(rule, terms)
    block = Block(
        network,
        action.action,
        direction,
        action.duration,
        rule.name,
        reason,
        action.rate,
        action.burst,
        action.log_prefix,
    )
    standing = enforcer.standing(block)
    if standing is not None and in_force(standing, now):
        outcome = Outcome.EXTENDED if is_longer(block.duration, standing.block.duration) else Outcome.ACTIVE
    else:
        outcome = Outcome.NEW
    refused = _untrustworthy(hit, action, resolution, terms, now if stamped else None) or refusal
    if refused is not None and outcome is Outcome.ACTIVE:
        # It counts, but it is no reason to block again if somebody has lifted the entry meanwhile.
        return _decision(hit, action, direction, network, reason, None, outcome)
    if refused is not None:
        return _decision(hit, action, direction, address, refused, None, Outcome.SKIPPED)
    return _decision(hit, action, direction, network, reason, block, outcome)


def widened(address: Network, enforcer: Enforcer, terms: Terms) -> Network:
    """What is blocked in place of an offender: the network around it, where that is IPv6 and holds nobody guarded."""
    if len(address.packed) == 4 or terms.ipv6_prefix == 128:
        return address
    wide = address.widened(terms.ipv6_prefix)
    return address if enforcer.guards_near(wide) else wide


def in_force(entry: Entry, now: float) -> bool:
    """Whether an entry covers the moment `now`; recorded logs may jump back to before it was made."""
    return entry.created_at - _REORDERED <= now and (entry.expires_at is None or now < entry.expires_at)


def _named(record: dict[str, Any], target: str) -> Network | None:
    try:
        return parse_host(record.get("src_ip" if target == "source" else "dest_ip", ""))
    except AddressError:
        return None


def _out_of_reach(
    target: str, address: Network | None, resolution: Resolution, enforcer: Enforcer, terms: Terms
) -> str | None:
    if address is None:
        return "outbound: NO ADDRESS"
    if target == "offender" and resolution.outbound:
        return "outbound: INTERNAL/PRIVATE (skipped)"
    if address.family not in terms.families:
        return f"protected: {address.family} is not among the families"
    guard = enforcer.guard(address)
    if guard is None:
        return None
    word = "protected" if guard.kind == "protected" else "whitelist"
    return f"{word}: {guard.network} ({guard.comment})" if guard.comment else f"{word}: {guard.network}"


def _verdict(rule: Rule, terms: Terms) -> tuple[str, str | None]:
    """The reason of a block by this rule, and the refusal if reputation forbids it.

    No provider is asked yet, so for `require` and `confirm` all of them count as unable to answer.
    """
    if rule.intel == "skip":
        return f"RULE {rule.name}", None
    if terms.fail_closed:
        return "REPUTATION UNKNOWN (fail-closed: all TI providers failed)", None
    unknown = "REPUTATION UNKNOWN (fail-open: all TI providers failed)"
    return unknown, f"reputation: {unknown}"


def _untrustworthy(hit: Hit, action: RuleAction, resolution: Resolution, terms: Terms, now: float | None) -> str | None:
    rule = hit.rule
    if now is not None and action.duration and now - hit.time > action.duration:
        return f"stale: {now - hit.time:.0f} s old"
    if engine_event(hit.record) and _sid(hit.record) not in rule.expression.literals:
        return "spoofable: ENGINE EVENT (the rule does not name its sid)"
    if terms.spoof_guard and not rule.spoofable and may_be_forged(hit.record, resolution):
        return "spoofable"
    return None


def _sid(record: dict[str, Any]) -> int | None:
    alert = record.get("alert")
    sid = alert.get("signature_id") if isinstance(alert, dict) else None
    return sid if isinstance(sid, int) and not isinstance(sid, bool) else None


def _message(record: dict[str, Any]) -> str | None:
    alert = record.get("alert")
    message = alert.get("signature") if isinstance(alert, dict) else None
    return message[:MAX_MESSAGE] if isinstance(message, str) else None


def _decision(
    hit: Hit,
    action: RuleAction,
    direction: Direction,
    network: Network | None,
    reason: str,
    block: Block | None,
    outcome: Outcome,
) -> Decision:
    return Decision(
        hit.time,
        _NAMES[action.action] if block is not None else "skip",
        "" if network is None else str(network),
        direction.value,
        hit.rule.name,
        reason,
        None if block is None else action.duration,
        _sid(hit.record),
        _message(hit.record),
        None,
        (),
        outcome,
        block,
        hit.record,
    )
