# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints every row of tests/features.md with the tests that prove it and their last result (`make features`).

A pytest test names its rows by `@pytest.mark.feature("A1")`, a playbook (Molecule, integration) by `# feature: A1`.
A row is proven if it has a test and all its tests passed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from results import load

ROWS = Path(__file__).with_name("features.md")


def rows() -> list[tuple[str, str]]:
    return re.findall(r"^\| ([A-Z]\d+) \| (.+?) \|$", ROWS.read_text(encoding="utf-8"), re.M)


def main() -> int:
    outcomes = load()
    known = rows()
    proven = 0
    for row, text in known:
        tests = [outcome for outcome in outcomes if row in outcome["features"]]
        states = {test["outcome"] for test in tests}
        state = "failed" if "failed" in states else "passed" if states == {"passed"} else "skipped" if tests else "-"
        proven += state == "passed"
        print(f"{row:4} {state:8} {text}")
        for test in tests:
            mark = "" if test["outcome"] == "passed" else f"  ({test['outcome']})"
            print(f"              {test['name']}{mark}")
    unknown = sorted({row for outcome in outcomes for row in outcome["features"]} - {row for row, _ in known})
    if unknown:
        print(f"Tests name rows that {ROWS.name} does not have: {', '.join(unknown)}", file=sys.stderr)
    print(f"\n{proven} of {len(known)} rows are proven by the last runs of `make unit`, `kernel` and `molecule`.")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
