# SPDX-License-Identifier: GPL-3.0-or-later
"""What providers say about an address, and what follows from it: two pure functions, weigh() and resolve().

docs/decisions.md has both as tables, generated from this file.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class State(str, Enum):
    """What became of asking one provider."""

    LISTED = "listed"
    CLEAN = "clean"
    UNKNOWN = "unknown"  # it cannot be asked: no key, or no budget at all
    ERROR = "error"
    OVER_BUDGET = "over_budget"  # not asked now; the lookup is kept for later
    LIST_MISSING = "list_missing"
    PENDING = "pending"  # asked, and the answer is not there yet
    PRIVATE = "private"  # nobody is asked about private space


OPEN_STATES = frozenset((State.PENDING, State.OVER_BUDGET, State.ERROR))
"""In these the provider may still give an answer."""


class Verdict(NamedTuple):
    """One provider's word on one address; `at` is when it was found out, in epoch seconds.

    Only a provider that rates has a `score` (0 to 100); its `state` follows from the threshold at that time.
    """

    provider: str
    state: State
    score: int | None = None
    detail: str = ""
    at: float = 0.0


PENDING_REASON, UNKNOWN_REASON = "REPUTATION PENDING", "REPUTATION UNKNOWN"
"""How the reasons begin of a block that waits for an answer, and of one that nobody's answer led to."""

PRIVATE_SPACE = (Verdict("", State.PRIVATE),)
"""The verdicts on any address that is not public."""


def rated(provider: str, score: int, threshold: int, at: float) -> Verdict:
    """The verdict of a provider that answered with a score."""
    state = State.LISTED if score >= threshold else State.CLEAN
    return Verdict(provider, state, score, f"score {score}", at)


class Kind(str, Enum):
    """What all providers together say, in order of precedence."""

    PRIVATE = "private"
    LISTED = "listed"  # on a list
    SCORED = "scored"  # rated at the threshold or above
    CLEAN = "clean"  # somebody answered, and nobody accused
    NOBODY = "nobody"  # nobody could answer


class Open(str, Enum):
    """Whether an answer that could change it is still to come."""

    NO = "no"
    PENDING = "pending"  # within moments
    OVER_BUDGET = "over_budget"  # some time later


class Finding(NamedTuple):
    """The verdicts on an address, combined. `open` is the provider that an answer is still expected of."""

    kind: Kind
    open: Open = Open.NO
    score: int | None = None
    sources: tuple[str, ...] = ()
    waiting_for: str = ""


def weigh(verdicts: Iterable[Verdict], threshold: int) -> Finding:
    """Combine verdicts: a list hit, then a score of at least `threshold`, then anybody's clean, then nobody."""
    lists: list[str] = []
    scores: list[str] = []
    clean: list[str] = []
    pending: list[str] = []
    later: list[str] = []
    score: int | None = None
    for verdict in verdicts:
        name, state = verdict.provider, verdict.state
        if state is State.PRIVATE:
            return Finding(Kind.PRIVATE)
        if verdict.score is not None:
            score = verdict.score if score is None else max(score, verdict.score)
            (scores if verdict.score >= threshold else clean).append(name)
        elif state is State.LISTED:
            lists.append(name)
        elif state is State.CLEAN:
            clean.append(name)
        elif state is State.PENDING:
            pending.append(name)
        elif state is State.OVER_BUDGET:
            later.append(name)
    if lists:
        return Finding(Kind.LISTED, score=score, sources=(*lists, *scores))
    if scores:
        return Finding(Kind.SCORED, score=score, sources=tuple(scores))
    kind = Kind.CLEAN if clean else Kind.NOBODY
    if pending or later:
        expected = Open.PENDING if pending else Open.OVER_BUDGET
        return Finding(kind, expected, score, tuple(clean), (pending or later)[0])
    return Finding(kind, Open.NO, score, tuple(clean))


class Standing(str, Enum):
    """What an earlier decision on the same address, rule and action left behind."""

    NONE = "none"
    WAITING = "waiting"  # nothing in force (any more), an answer was waited for
    PROVISIONAL = "provisional"  # the short block of `confirm`
    FAIL_CLOSED = "fail_closed"  # a block of full length because nobody could answer


class Step(str, Enum):
    """What is to be done."""

    BLOCK = "block"  # for the rule's duration
    ALLOW = "allow"  # nothing: a skip with this reason
    WAIT = "wait"  # nothing yet: decide again with the answer
    PROVISIONAL = "provisional"  # block for a short while, decide again with the answer
    EXTEND = "extend"  # make the block that stands as long as the rule wants
    LIFT = "lift"  # remove the block that stands
    KEEP = "keep"  # leave the block that stands to its end


class Outcome(NamedTuple):
    """What follows from a finding."""

    step: Step
    reason: str
    score: int | None = None
    sources: tuple[str, ...] = ()


_ACCUSED = {Standing.PROVISIONAL: Step.EXTEND, Standing.FAIL_CLOSED: Step.KEEP}
_CLEARED = {Standing.PROVISIONAL: Step.LIFT, Standing.FAIL_CLOSED: Step.LIFT}
_UNKNOWN = {Standing.PROVISIONAL: Step.LIFT, Standing.FAIL_CLOSED: Step.KEEP}


def resolve(
    finding: Finding,
    *,
    rule: str,
    mode: str,
    fail_closed: bool,
    high_alert: bool = False,
    standing: Standing = Standing.NONE,
) -> Outcome:
    """What a rule does with a finding; `mode` is its `intel`: skip, require or confirm.

    In high-alert mode `require` is taken for `confirm`. The same function decides again when an answer has come:
    `standing` then says what the first decision left.
    """
    if mode == "skip":
        return Outcome(_ACCUSED.get(standing, Step.BLOCK), f"RULE {rule}")
    reason = reason_of(finding, fail_closed=fail_closed)
    score, sources = finding.score, finding.sources
    if finding.kind in (Kind.LISTED, Kind.SCORED):
        return Outcome(_ACCUSED.get(standing, Step.BLOCK), reason, score, sources)
    confirm = mode == "confirm" or high_alert
    step = _while_open(finding.open, standing, confirm=confirm)
    if step is not None:
        return Outcome(step, _pending(finding), score, sources)
    if finding.kind is Kind.NOBODY and fail_closed:
        return Outcome(_ACCUSED.get(standing, Step.BLOCK), reason, score, sources)
    steps = _UNKNOWN if finding.kind is Kind.NOBODY else _CLEARED
    return Outcome(steps.get(standing, Step.ALLOW), reason, score, sources)


def _while_open(expected: Open, standing: Standing, *, confirm: bool) -> Step | None:
    """What to do until the answer comes; None if what is known now decides."""
    if expected is Open.NO:
        return None
    if standing in (Standing.PROVISIONAL, Standing.FAIL_CLOSED):
        return Step.KEEP
    if expected is Open.OVER_BUDGET and not confirm:
        return None  # that answer may be a day away
    return Step.PROVISIONAL if confirm and standing is Standing.NONE else Step.WAIT


def reason_of(finding: Finding, *, fail_closed: bool) -> str:
    """The text that journals and the kernel's comments give for what is known now."""
    kind = finding.kind
    if kind is Kind.PRIVATE:
        return "INTERNAL/PRIVATE (skipped)"
    if kind is Kind.NOBODY:
        return f"{UNKNOWN_REASON} (fail-{'closed' if fail_closed else 'open'}: all TI providers failed)"
    if kind is Kind.LISTED:
        return f"REPUTATION BLOCK (source={source_name(finding.sources[0])})"
    names = "+".join(dict.fromkeys(source_name(source) for source in finding.sources))
    score = "" if finding.score is None else f",score={finding.score}"
    return f"REPUTATION {'BLOCK' if kind is Kind.SCORED else 'CLEAN'} (source={names}{score})"


def source_name(provider: str) -> str:
    """A provider as reasons name it: a netset by the maker that its name begins with, `firehol` for firehol_level1."""
    return provider.partition("_")[0] or provider


def _pending(finding: Finding) -> str:
    why = "over budget" if finding.open is Open.OVER_BUDGET else "asked"
    return f"{PENDING_REASON} ({source_name(finding.waiting_for)}: {why})"
