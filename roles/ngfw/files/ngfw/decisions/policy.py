# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between a hit and the kernel: pure functions from a hit, or a late answer, to a decision.

The refusals come in the order of docs/interface.md, section 4; the first that holds names the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from ..events.offender import Proof, Resolution, engine_event
from ..firewall.address import FAMILIES, Network, parse_host
from ..firewall.duration import is_longer
from ..firewall.entry import Block, Entry, Origin
from ..firewall.errors import AddressError
from ..intel.verdict import PENDING_REASON, UNKNOWN_REASON, Standing, Step, Verdict, resolve, weigh
from ..intel.verdict import Outcome as Judgement
from ..rules.engine import Hit
from ..rules.model import Rule, RuleAction
from .cases import Hung
from .decision import Decision, Lift, Outcome, counted, decided, signature, skipped

OF_ANY_ZONE = 26 * 3600.0
"""Seconds between the same local time in the first zone of the earth and in the last."""

REORDERED = 60.0
"""Seconds that a record may be stamped before the entry that covers it (several threads write one log)."""


class Guard(Protocol):
    """Why an address is out of reach; `network` is what covers it."""

    @property
    def kind(self) -> str: ...

    @property
    def network(self) -> Network: ...

    @property
    def comment(self) -> str: ...


class Sight(Protocol):
    """The state in force: the kernel's mirror, or the recorder of a replay."""

    def standing(self, block: Block) -> Entry | None:
        """The entry of the block's network, action and direction, or None."""

    @property
    def guard(self) -> Callable[[Network], Guard | None]:
        """Gives the protected or whitelisted network that wholly covers a network, or None."""

    @property
    def guards_near(self) -> Callable[[Network], bool]:
        """Tells whether a protected or whitelisted network shares an address with a network."""


class Knowledge(Protocol):
    """All that a decision asks: the state in force, as a Sight has it, the past, and the world."""

    def standing(self, block: Block) -> Entry | None: ...

    def guard(self, network: Network) -> Guard | None: ...

    def guards_near(self, network: Network) -> bool: ...

    def is_repeated(self, block: Block) -> bool:
        """Whether the block's entry is the batch's own, or a hit on it was met before in the batch."""

    def earlier(self, block: Block, now: float) -> int:
        """How often that network was blocked before in this way on proof, as far as it is remembered."""

    def is_offence(self, entry: Entry) -> bool:
        """Whether an entry of the watcher's was begun on proof."""

    def verdicts(self, address: Network, hung: Hung) -> Iterable[Verdict]:
        """What providers say about a host; what hangs on a later answer comes back to reconsider()."""

    def high_alert(self, now: float) -> bool:
        """Whether there are so many new blocks that nobody's answer is waited for."""


class Terms(NamedTuple):
    """The parts of the configuration that decisions depend on; durations in seconds."""

    ipv6_prefix: int = 64
    spoof_guard: bool = True
    fail_closed: bool = False
    families: tuple[str, ...] = FAMILIES
    threshold: int = 70
    provisional: int = 60
    factor: float = 2.0
    longest: int = 604_800


class _Length(NamedTuple):
    """How long a block is to last (seconds, 0: permanent), and whether later ones are longer because of it."""

    seconds: int
    is_offence: bool


def decide(
    hit: Hit,
    action: RuleAction,
    resolution: Resolution,
    proof: Proof,
    known: Knowledge,
    terms: Terms,
    *,
    now: float,
    slack: float | None = 0.0,
) -> Decision:
    """Decide one action of the rule that was hit, at the time `now` (epoch seconds).

    Without a HANDSHAKE as `proof` a block lasts as long as its rule says, and no later one is longer for it.
    `slack` says by how many seconds the event's time may be wrong; None: it has none, and there is no clock to go by.
    """
    rule, record = hit.rule, hit.record
    address = resolution.address if action.target == "offender" else _named(record, action.target)
    out_of_reach = _out_of_reach(action.target, address, resolution, known, terms)
    if address is None or out_of_reach is not None:
        return skipped(hit, action, address, out_of_reach or "")
    network = widened(address, known, terms) if action.target == "offender" else address
    block = _block(hit, action, network)
    standing = _in_force(known.standing(block), now)
    proven = proof is Proof.HANDSHAKE
    if standing is not None and proven and rule.intel == "skip" and is_provisional(standing.block):
        block = _outlasting(block, standing.block)
    length = _length(block, standing, known, terms, now, proven=proven)
    if standing is not None and not is_longer(length.seconds, standing.block.duration):
        reason = block.reason if rule.intel == "skip" else standing.block.reason
        if known.is_repeated(block) or _untrustworthy(hit, action, proof, terms, now, slack):
            # It counts, but is no reason to block again if somebody has lifted the entry meanwhile.
            return counted(hit, action, network, reason, None)
        return counted(hit, action, network, reason, _again(rule, block, standing, proven=proven))
    untrusted = _untrustworthy(hit, action, proof, terms, now, slack)
    if untrusted is not None:
        return skipped(hit, action, address, untrusted)
    if rule.intel == "skip":
        return _blocked(hit, action, block, standing, length)
    verdicts = known.verdicts(address, Hung(hit, action, network, proven))
    judgement = _judged(rule, verdicts, _left_by(rule, standing, Standing.NONE), known, terms, now)
    if judgement.step in (Step.BLOCK, Step.EXTEND):
        return _blocked(hit, action, block, standing, length, judgement)
    if standing is not None:
        return counted(hit, action, network, judgement.reason, None)
    if judgement.step is Step.PROVISIONAL:
        seconds = min(terms.provisional, block.duration or terms.provisional)
        block = block._replace(duration=seconds, reason=judgement.reason)
        return decided(hit, action, network, judgement.reason, block, Outcome.NEW, judgement)
    return skipped(hit, action, address, f"reputation: {judgement.reason}", judgement)


def reconsider(
    hung: Hung, address: Network, verdicts: Iterable[Verdict], known: Knowledge, terms: Terms, *, now: float
) -> Decision | Lift | None:
    """Decide again what decide() left to an answer; None if what is in force stays as it is."""
    hit, action, network, proven = hung
    rule = hit.rule
    guarded = _guarded(address, known)
    if guarded is not None:
        return skipped(hit, action, address, guarded)
    block = _block(hit, action, network)
    standing = _in_force(known.standing(block), now)
    judgement = _judged(rule, verdicts, _left_by(rule, standing, Standing.WAITING), known, terms, now)
    if judgement.step in (Step.BLOCK, Step.EXTEND):
        length = _length(block, standing, known, terms, now, proven=proven)
        if standing is not None and not is_longer(length.seconds, standing.block.duration):
            return None
        return _blocked(hit, action, block, standing, length, judgement)
    if judgement.step is Step.LIFT and standing is not None:
        return Lift(standing.block, judgement.reason)
    if judgement.step is Step.ALLOW:
        return skipped(hit, action, address, f"reputation: {judgement.reason}", judgement)
    return None


def widened(address: Network, known: Knowledge, terms: Terms) -> Network:
    """What is blocked in place of an offender: the network around it, where that is IPv6 and holds nobody guarded."""
    if len(address.packed) == 4 or terms.ipv6_prefix == 128:
        return address
    wide = address.widened(terms.ipv6_prefix)
    return address if known.guards_near(wide) else wide


def is_provisional(block: Block) -> bool:
    """Whether it is the short block of `confirm`, made until the answer comes."""
    return block.reason.startswith(PENDING_REASON)


def _outlasting(block: Block, provisional: Block) -> Block:
    """A block that asks nobody, in place of a provisional one: longer than that, so the other rule does not lift it."""
    if is_longer(block.duration, provisional.duration):
        return block
    return block._replace(duration=provisional.duration + 1)


def _judged(
    rule: Rule, verdicts: Iterable[Verdict], left: Standing, known: Knowledge, terms: Terms, now: float
) -> Judgement:
    return resolve(
        weigh(verdicts, terms.threshold),
        rule=rule.name,
        mode=rule.intel,
        fail_closed=terms.fail_closed,
        high_alert=known.high_alert(now),
        standing=left,
    )


def _in_force(entry: Entry | None, now: float) -> Entry | None:
    """The entry if it covers the moment `now`; recorded logs may jump back to before it was made."""
    if entry is None or entry.created_at - REORDERED > now:
        return None
    return entry if entry.expires_at is None or now < entry.expires_at else None


def _again(rule: Rule, block: Block, standing: Entry, *, proven: bool) -> Block | None:
    """What to put back if somebody has lifted the entry unseen. Where reputation counts, it was asked before.

    An entry with another rate or prefix stays as it is: it lasts at least as long as this block would, and only what
    is proven brings its whole length back.
    """
    if rule.intel == "skip" and block.parameters == standing.block.parameters:
        return block
    if is_provisional(standing.block):
        return None
    return standing.block if proven else standing.block._replace(duration=block.duration)


def _left_by(rule: Rule, standing: Entry | None, nothing: Standing) -> Standing:
    """What an earlier decision of the rule has left in force; `nothing` if there is none."""
    if standing is None or standing.block.rule_name != rule.name:
        return nothing
    if is_provisional(standing.block):
        return Standing.PROVISIONAL
    return Standing.FAIL_CLOSED if standing.block.reason.startswith(UNKNOWN_REASON) else nothing


def _block(hit: Hit, action: RuleAction, network: Network) -> Block:
    name = hit.rule.name
    return Block(
        network,
        action.action,
        action.direction,
        action.duration,
        name,
        f"RULE {name}",
        action.rate,
        action.burst,
        action.log_prefix,
    )


def _blocked(
    hit: Hit,
    action: RuleAction,
    block: Block,
    standing: Entry | None,
    length: _Length,
    judgement: Judgement | None = None,
) -> Decision:
    reason = block.reason if judgement is None else judgement.reason
    outcome = Outcome.NEW if standing is None else Outcome.EXTENDED
    if (length.seconds, reason) != (block.duration, block.reason):
        block = block._replace(duration=length.seconds, reason=reason)
    return decided(hit, action, block.network, reason, block, outcome, judgement, offence=length.is_offence)


def _length(
    block: Block, standing: Entry | None, known: Knowledge, terms: Terms, now: float, *, proven: bool
) -> _Length:
    """A proven block that begins an offence is longer for each earlier one; any other is as long as its rule says.

    It begins one where nothing stands but what is provisional or was itself not proven: whoever forges a packet must
    not be able to use up what comes after.
    """
    if not proven:
        return _Length(block.duration, False)
    if standing is not None and _counts_already(standing, known):
        return _Length(block.duration, False)
    earlier = known.earlier(block, now)
    return _Length(_escalated(block.duration, earlier, terms) if earlier else block.duration, True)


def _counts_already(standing: Entry, known: Knowledge) -> bool:
    """Whether what stands is an offence, or not the watcher's to count."""
    if is_provisional(standing.block):
        return False
    return standing.origin is not Origin.WATCHER or known.is_offence(standing)


def _escalated(duration: int, earlier: int, terms: Terms) -> int:
    if not duration or duration >= terms.longest or terms.factor == 1:
        return duration
    grown = float(duration)
    for _time in range(earlier):
        grown *= terms.factor
        if grown >= terms.longest:
            return terms.longest
    return int(grown)


def _named(record: dict[str, Any], target: str) -> Network | None:
    try:
        return parse_host(record.get("src_ip" if target == "source" else "dest_ip", ""))
    except AddressError:
        return None


def _out_of_reach(
    target: str, address: Network | None, resolution: Resolution, known: Knowledge, terms: Terms
) -> str | None:
    if address is None:
        return "outbound: NO ADDRESS"
    if target == "offender" and resolution.outbound:
        return "outbound: INTERNAL/PRIVATE (skipped)"
    if address.family not in terms.families:
        return f"protected: {address.family} is not among the families"
    return _guarded(address, known)


def _guarded(address: Network, known: Knowledge) -> str | None:
    guard = known.guard(address)
    if guard is None:
        return None
    word = "protected" if guard.kind == "protected" else "whitelist"
    return f"{word}: {guard.network} ({guard.comment})" if guard.comment else f"{word}: {guard.network}"


def _untrustworthy(
    hit: Hit, action: RuleAction, proof: Proof, terms: Terms, now: float, slack: float | None
) -> str | None:
    rule = hit.rule
    if slack is None:
        return "stale: no time"
    if action.duration and now - hit.time > action.duration + slack:
        return f"stale: {now - hit.time:.0f} s old"
    if engine_event(hit.record) and signature(hit.record)[0] not in rule.expression.literals:
        return "spoofable: ENGINE EVENT (the rule does not name its sid)"
    if terms.spoof_guard and not rule.spoofable and proof is Proof.NONE:
        return "spoofable"
    return None
