# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of the test stages: one JSON file each under .cache/results/, a list of {name, outcome, features}.

results.py step STAGE NAME [--features IDS] [--log FILE] -- COMMAND...
                                                            run a command, add its outcome to the stage; with a file,
                                                            its output goes there and is shown only if it fails
results.py rows PATH                                        print the rows that "# feature: A1" lines below PATH name
results.py count                                            print "N passed, M failed, K skipped" over all stages
"""

from __future__ import annotations

import argparse
import fcntl
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TypedDict

DIRECTORY = Path(__file__).resolve().parent.parent / ".cache" / "results"


class Outcome(TypedDict):
    name: str
    outcome: str  # passed, failed, skipped
    features: list[str]


def load() -> list[Outcome]:
    """All outcomes of all stages; the name begins with the stage."""
    found: list[Outcome] = []
    for path in sorted(DIRECTORY.glob("*.json")):
        for outcome in json.loads(path.read_text(encoding="utf-8")):
            found.append({**outcome, "name": f"{path.stem}: {outcome['name']}"})
    return found


def add(stage: str, outcomes: list[Outcome]) -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with (DIRECTORY / f"{stage}.json").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two steps may end at the same time
        file.seek(0)
        present = json.loads(file.read() or "[]")
        file.truncate(0)
        file.write(json.dumps(present + outcomes, indent=1) + "\n")


def step(stage: str, name: str, features: list[str], log: Path | None, command: list[str]) -> int:
    print(f"--- {name}", flush=True)
    start = time.monotonic()
    if log is None:
        code = subprocess.call(command)
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as output:
            code = subprocess.call(command, stdout=output, stderr=subprocess.STDOUT)
        if code:
            print(log.read_text(encoding="utf-8", errors="replace"), end="", flush=True)
    outcome = "failed" if code else "passed"
    print(f"--- {name}: {outcome} ({time.monotonic() - start:.1f} s)", flush=True)
    add(stage, [{"name": name, "outcome": outcome, "features": features}])
    return code


def count() -> str:
    counts = Counter(outcome["outcome"] for outcome in load())
    return f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"


def rows(path: Path) -> str:
    """Rows named in a file, or in the files of a directory, joined by commas."""
    files = sorted(path.rglob("*.yml")) if path.is_dir() else [path] if path.exists() else []
    found = (re.findall(r"^\s*# features?: (.+)$", file.read_text(encoding="utf-8"), re.M) for file in files)
    return ",".join(sorted({row for lines in found for line in lines for row in re.findall(r"[A-Z]\d+", line)}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("count")
    commands.add_parser("rows").add_argument("path", type=Path)
    step_parser = commands.add_parser("step")
    step_parser.add_argument("stage")
    step_parser.add_argument("name")
    step_parser.add_argument("--features", default="", help="rows of tests/features.md, joined by commas")
    step_parser.add_argument("--log", type=Path, metavar="FILE")
    step_parser.add_argument("argv", nargs="+", metavar="COMMAND")
    arguments = parser.parse_args()
    if arguments.command == "count":
        print(count())
        return 0
    if arguments.command == "rows":
        print(rows(arguments.path))
        return 0
    features = [row for row in arguments.features.split(",") if row]
    return step(arguments.stage, arguments.name, features, arguments.log, arguments.argv)


if __name__ == "__main__":
    sys.exit(main())
