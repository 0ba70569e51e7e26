# SPDX-License-Identifier: GPL-3.0-or-later
"""All measurements: `run.py [NAME...]` prints them and writes results.md and results.json beside it."""

from __future__ import annotations

import importlib
import json
import platform
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUBJECTS = ("answers", "modules", "packets", "regexes", "reputation", "rules", "watcher")


def main(names: list[str]) -> int:
    subjects = names or list(SUBJECTS)
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for subject in subjects:
        print(f"    measuring {subject}", flush=True)
        with tempfile.TemporaryDirectory() as directory:
            figures = importlib.import_module(subject).measure(Path(directory))
        results[subject] = [figure._asdict() for figure in figures]
        for figure in figures:
            print(f"      {figure.name}: {figure.value:.3g} {figure.unit}, wanted {figure.wanted} ({figure.made_of})")
    path.write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "results.md").write_text(table(results))
    return 0


def table(results: dict[str, list[dict[str, object]]]) -> str:
    lines = [
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
        "# Measurements",
        "",
        f"Linux {platform.release()}, Python {platform.python_version()}; by `make bench`. Ratios: medians of pairs.",
    ]
    for subject, figures in results.items():
        lines += ["", f"## {subject}", "", "| what | measured | wanted | made of |", "|---|---|---|---|"]
        lines += [f"| {f['name']} | {f['value']:.3g} {f['unit']} | {f['wanted']} | {f['made_of']} |" for f in figures]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
