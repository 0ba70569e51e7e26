# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools

import pytest
from ngfw.intel.verdict import (
    PRIVATE_SPACE,
    Finding,
    Kind,
    Open,
    Standing,
    State,
    Step,
    Verdict,
    rated,
    resolve,
    source_name,
    weigh,
)

THRESHOLD = 70

# Every state that a list and AbuseIPDB can be in; None: not configured.
LIST_STATES = (None, State.LISTED, State.CLEAN, State.LIST_MISSING)
RATING_STATES = (None, 90, 70, 69, 0, State.UNKNOWN, State.ERROR, State.OVER_BUDGET, State.PENDING)


def verdicts(listed: State | None, rating: State | int | None) -> list[Verdict]:
    found = [] if listed is None else [Verdict("firehol_level1", listed)]
    if isinstance(rating, int):
        found.append(rated("abuseipdb", rating, THRESHOLD, 0.0))
    elif rating is not None:
        found.append(Verdict("abuseipdb", rating))
    return found


def expected_reason(listed: State | None, rating: State | int | None, *, closed: bool) -> str:
    """The reason as row B6 of the features has it, written down once more and in another way."""
    score = rating if isinstance(rating, int) else None
    if listed is State.LISTED:
        return "REPUTATION BLOCK (source=firehol)"
    if score is not None and score >= 70:
        return f"REPUTATION BLOCK (source=abuseipdb,score={score})"
    if listed is State.CLEAN and score is not None:
        return f"REPUTATION CLEAN (source=firehol+abuseipdb,score={score})"
    if listed is State.CLEAN:
        return "REPUTATION CLEAN (source=firehol)"
    if score is not None:
        return f"REPUTATION CLEAN (source=abuseipdb,score={score})"
    return f"REPUTATION UNKNOWN (fail-{'closed' if closed else 'open'}: all TI providers failed)"


N, W, P, F = Standing.NONE, Standing.WAITING, Standing.PROVISIONAL, Standing.FAIL_CLOSED

# What follows, by finding, mode and policy: one column for each standing, in the order N W P F.
# `any`: whatever the mode, or the policy.
TABLE = {
    ("accused", "any", "any"): "block block extend keep",
    ("clean", "any", "any"): "allow allow lift lift",
    ("nobody", "any", "closed"): "block block extend keep",
    ("nobody", "any", "open"): "allow allow lift keep",
    ("clean, pending", "require", "any"): "wait wait keep keep",
    ("clean, pending", "confirm", "any"): "provisional wait keep keep",
    ("nobody, pending", "require", "any"): "wait wait keep keep",
    ("nobody, pending", "confirm", "any"): "provisional wait keep keep",
    ("clean, over budget", "require", "any"): "allow allow keep keep",
    ("clean, over budget", "confirm", "any"): "provisional wait keep keep",
    ("nobody, over budget", "require", "closed"): "block block keep keep",
    ("nobody, over budget", "require", "open"): "allow allow keep keep",
    ("nobody, over budget", "confirm", "any"): "provisional wait keep keep",
}


def expected_step(
    listed: State | None, rating: State | int | None, mode: str, standing: Standing, *, closed: bool
) -> str:
    score = rating if isinstance(rating, int) else None
    if listed is State.LISTED or (score is not None and score >= 70):
        word = "accused"
    else:
        word = "clean" if listed is State.CLEAN or score is not None else "nobody"
        word += {State.PENDING: ", pending", State.OVER_BUDGET: ", over budget"}.get(rating, "")  # type: ignore[arg-type]
    rows = [
        row
        for (words, modes, policies), row in TABLE.items()
        if words == word and modes in ("any", mode) and policies in ("any", "closed" if closed else "open")
    ]
    assert len(rows) == 1
    return rows[0].split()[[N, W, P, F].index(standing)]


ALL = list(
    itertools.product(
        LIST_STATES, RATING_STATES, ("skip", "require", "confirm"), (False, True), (False, True), (N, W, P, F)
    )
)


def test_the_table_is_whole() -> None:
    assert len(ALL) == 4 * 9 * 3 * 2 * 2 * 4


@pytest.mark.parametrize("mode", ["skip", "require", "confirm"])
@pytest.mark.parametrize("standing", [N, W, P, F])
def test_every_combination(mode: str, standing: Standing) -> None:
    combinations = [each for each in ALL if each[2] == mode and each[5] is standing]
    assert len(combinations) == len(ALL) / 12
    for listed, rating, _mode, closed, high_alert, _standing in combinations:
        outcome = resolve(
            weigh(verdicts(listed, rating), THRESHOLD),
            rule="R",
            mode=mode,
            fail_closed=closed,
            high_alert=high_alert,
            standing=standing,
        )
        where = (listed, rating, mode, closed, high_alert, standing)
        if mode == "skip":
            assert outcome.step.value == {N: "block", W: "block", P: "extend", F: "keep"}[standing], where
            assert outcome.reason == "RULE R", where
            continue
        effective = "confirm" if high_alert else mode
        assert outcome.step.value == expected_step(listed, rating, effective, standing, closed=closed), where
        if outcome.reason.startswith("REPUTATION PENDING"):
            why = "asked" if rating is State.PENDING else "over budget"
            assert outcome.reason == f"REPUTATION PENDING (abuseipdb: {why})", where
            assert outcome.step in (Step.WAIT, Step.PROVISIONAL, Step.KEEP), where
        else:
            assert outcome.reason == expected_reason(listed, rating, closed=closed), where


@pytest.mark.parametrize("standing", [N, W, P, F])
@pytest.mark.parametrize("mode", ["require", "confirm"])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("high_alert", [False, True])
def test_private_space_is_never_blocked_by_reputation(
    mode: str, standing: Standing, closed: bool, high_alert: bool
) -> None:
    finding = weigh(PRIVATE_SPACE, THRESHOLD)
    outcome = resolve(finding, rule="R", mode=mode, fail_closed=closed, high_alert=high_alert, standing=standing)
    assert outcome.reason == "INTERNAL/PRIVATE (skipped)"
    assert outcome.step is (Step.ALLOW if standing in (N, W) else Step.LIFT)


def test_several_lists() -> None:
    first, second = "firehol_level1", "spamhaus_drop"
    found = weigh([Verdict(first, State.LIST_MISSING), Verdict(second, State.LISTED)], THRESHOLD)
    assert found == Finding(Kind.LISTED, sources=(second,))
    found = weigh([Verdict(first, State.LISTED), Verdict(second, State.LISTED)], THRESHOLD)
    assert found.sources == (first, second)
    # One list that answers is enough, the other's absence is no failure of all.
    found = weigh([Verdict(first, State.LIST_MISSING), Verdict(second, State.CLEAN)], THRESHOLD)
    assert found == Finding(Kind.CLEAN, sources=(second,))
    found = weigh([Verdict(first, State.LIST_MISSING), Verdict(second, State.LIST_MISSING)], THRESHOLD)
    assert found.kind is Kind.NOBODY


def test_a_score_is_kept_beside_a_list_hit() -> None:
    found = weigh([Verdict("firehol_level1", State.LISTED), rated("abuseipdb", 3, THRESHOLD, 0.0)], THRESHOLD)
    assert found == Finding(Kind.LISTED, Open.NO, 3, ("firehol_level1",))
    outcome = resolve(found, rule="R", mode="require", fail_closed=False)
    assert (outcome.reason, outcome.score) == ("REPUTATION BLOCK (source=firehol)", 3)


def test_a_score_is_held_against_the_threshold_of_now() -> None:
    verdict = rated("abuseipdb", 60, 50, 0.0)
    assert verdict.state is State.LISTED
    assert weigh([verdict], 70).kind is Kind.CLEAN
    assert weigh([verdict], 60).kind is Kind.SCORED
    assert weigh([rated("abuseipdb", 0, 0, 0.0)], 0).kind is Kind.SCORED


@pytest.mark.parametrize(
    ("name", "source"),
    [("firehol_level1", "firehol"), ("abuseipdb", "abuseipdb"), ("my-list", "my-list"), ("_x", "_x")],
)
def test_sources_are_named_by_their_makers(name: str, source: str) -> None:
    assert source_name(name) == source


def test_lists_of_one_maker_are_one_source_of_a_clean_answer() -> None:
    found = weigh([Verdict("firehol_level1", State.CLEAN), Verdict("firehol_level2", State.CLEAN)], THRESHOLD)
    assert resolve(found, rule="R", mode="require", fail_closed=True).reason == "REPUTATION CLEAN (source=firehol)"
