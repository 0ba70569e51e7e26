# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the tables of docs/decisions.md out of the code that decides.

python3 tools/decisions.py            rewrite them
python3 tools/decisions.py --check    only say whether they are as they should be
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "roles" / "ngfw" / "files"))

from ngfw.intel.verdict import (  # noqa: E402
    Finding,
    Kind,
    Open,
    Standing,
    State,
    Verdict,
    rated,
    reason_of,
    resolve,
    weigh,
)

PAGE = ROOT / "docs" / "decisions.md"
THRESHOLD = 70

LISTS = {
    "listed": State.LISTED,
    "clean": State.CLEAN,
    "list missing": State.LIST_MISSING,
    "none configured": None,
}
RATINGS: dict[str, int | State] = {
    "score 90": 90,
    "score 12": 12,
    "pending": State.PENDING,
    "over budget": State.OVER_BUDGET,
    "error": State.ERROR,
    "unknown": State.UNKNOWN,
}
STANDINGS = {
    "nothing": Standing.NONE,
    "waiting": Standing.WAITING,
    "provisional block": Standing.PROVISIONAL,
    "block on failure": Standing.FAIL_CLOSED,
}
MODES = {"require": ("require", False), "confirm": ("confirm", False)}


def findings() -> Iterator[str]:
    """What lists and AbuseIPDB say, and what that is together."""
    yield "| lists | AbuseIPDB | finding | reason, where this decides |"
    yield "|---|---|---|---|"
    for list_name, list_state in LISTS.items():
        for name, rating in RATINGS.items():
            verdicts = [] if list_state is None else [Verdict("firehol_level1", list_state)]
            if isinstance(rating, int):
                verdicts.append(rated("abuseipdb", rating, THRESHOLD, 0.0))
            else:
                verdicts.append(Verdict("abuseipdb", rating))
            found = weigh(verdicts, THRESHOLD)
            reasons = dict.fromkeys(f"`{reason_of(found, fail_closed=closed)}`" for closed in (True, False))
            yield f"| {list_name} | {name} | {_name(found)} | {' or '.join(reasons)} |"


def steps() -> Iterator[str]:
    """What a finding leads to, by the rule's mode, the fail policy, and what an earlier decision left."""
    yield f"| finding | `intel` | `fail_policy` | {' | '.join(STANDINGS)} |"
    yield "|---|---|---|" + "---|" * len(STANDINGS)
    for found in _all_findings():
        rows: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for mode in MODES:
            for policy in ("open", "closed"):
                rows.setdefault(_row(found, mode, policy), []).append((mode, policy))
        for row, places in rows.items():
            modes = list(dict.fromkeys(mode for mode, _policy in places))
            policies = list(dict.fromkeys(policy for _mode, policy in places))
            if len(modes) * len(policies) != len(places):
                raise SystemExit(f"{_name(found)}: the rows of this finding cannot be put together")
            mode_text = "any" if len(modes) == len(MODES) else modes[0]
            policy_text = "any" if len(policies) == 2 else policies[0]
            yield f"| {_name(found)} | {mode_text} | {policy_text} | {' | '.join(row)} |"


def _row(found: Finding, mode: str, policy: str) -> tuple[str, ...]:
    return tuple(
        resolve(found, rule="R", mode=mode, fail_closed=policy == "closed", standing=standing).step.value
        for standing in STANDINGS.values()
    )


def _all_findings() -> Iterator[Finding]:
    yield Finding(Kind.PRIVATE)
    for kind in (Kind.LISTED, Kind.SCORED):
        yield Finding(kind, Open.NO, None, ("list",))
    for kind in (Kind.CLEAN, Kind.NOBODY):
        for expected in Open:
            yield Finding(kind, expected, None, ("list",), "abuseipdb")


def _name(found: Finding) -> str:
    if found.open is Open.NO:
        return found.kind.value
    return f"{found.kind.value}, {found.open.value.replace('_', ' ')}"


TABLES: dict[str, Callable[[], Iterator[str]]] = {"findings": findings, "steps": steps}


def filled(page: str) -> str:
    """The page with its tables as they should be."""
    for name, table in TABLES.items():
        begin, end = f"<!-- table: {name} -->\n", "<!-- end of table -->"
        text = begin + "\n" + "".join(f"{line}\n" for line in table()) + "\n" + end
        page, count = re.subn(
            re.escape(begin) + ".*?" + re.escape(end), text.replace("\\", r"\\"), page, count=1, flags=re.DOTALL
        )
        if not count:
            raise SystemExit(f"{PAGE} has no place for the table {name}")
    return page


def main(arguments: list[str]) -> int:
    present = PAGE.read_text(encoding="utf-8")
    wanted = filled(present)
    if arguments == ["--check"]:
        if present != wanted:
            print(f"{PAGE} is not what the code does; run python3 tools/decisions.py", file=sys.stderr)
        return int(present != wanted)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
