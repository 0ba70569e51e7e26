# SPDX-License-Identifier: GPL-3.0-or-later
"""Regexes: what generated ones cost on hostile texts, and by how much hostile lines hold up another offender."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from figures import Figure

ROOT = Path(__file__).resolve().parents[1]
PATTERNS, TEXTS, LINES = 5_000, 20, 1_000

# In a process of its own. Processor time, for others on the machine hold up whatever is measured by the clock.
_PROGRAM = """
import json, sys, time
from ngfw.decisions.pipeline import Pipeline
from ngfw.effects.recorder import Recorder
from ngfw.events.tail import Chunk
from ngfw.rules.load import parse_rules
from ngfw.rules.regex import Limited, Patience, RegexError, compile_regex
from ngfw.settings.config import Config
from regexes import patterns, texts

wanted, each, lines = map(int, sys.argv[1:])
longest, limited, cut_off, taken = 0.0, 0, 0, 0
for pattern in patterns(20):
    try:
        compiled = compile_regex(pattern)
    except RegexError:
        continue
    for text in texts(20, pattern, each):
        start = time.thread_time()
        compiled.search(text)
        longest = max(longest, time.thread_time() - start)
    if isinstance(compiled, Limited):
        limited, cut_off = limited + 1, cut_off + compiled.cut_off
    taken += 1
    if taken == wanted:
        break

slow = [r"\\\\w+@", "a.*?b", r"\\\\s+$", r"(\\\\w|-)+=\\\\d", "(?:ab?)+c"]
rules = "rules:\\n" + "".join(
    f"  - {{name: R{n}, type: http, expression: 'matches(http.url, \\"{each}\\")'}}\\n" for n, each in enumerate(slow)
)
pipeline = Pipeline(Config.default(), parse_rules(rules.encode(), "r.yml"), Recorder().look, patience=Patience())
record = {"timestamp": "2026-11-30T10:00:00.0+0000", "event_type": "http", "src_ip": "203.0.113.7",
          "dest_ip": "192.0.2.1", "proto": "TCP"}
urls = ("a" * 8180 + "\\n@!c=0", " " * 8190 + "x")
data = b"".join(json.dumps({**record, "http": {"url": urls[n % 2]}}).encode() + b"\\n" for n in range(lines))
start = time.perf_counter()
pipeline.process([Chunk("eve", "eve.json", data, 0)], now=1.8e9)
print(json.dumps({"longest": longest, "limited": limited, "cut_off": cut_off, "delay": time.perf_counter() - start}))
"""


def measure(directory: Path) -> list[Figure]:
    del directory
    paths = f"{ROOT / 'roles' / 'ngfw' / 'files'}:{ROOT / 'tests' / 'unit' / 'watcher' / 'rules'}"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(PATTERNS), str(TEXTS), str(LINES)],
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found = json.loads(done.stdout)
    made_of = (
        f"{PATTERNS} generated patterns, {found['limited']} of them with a limit, each on {TEXTS} texts of 8 KiB; "
        f"{found['cut_off']} searches cut off; processor time"
    )
    return [
        Figure("longest search for a regex", found["longest"] * 1000, "ms", "< 50", made_of),
        Figure(
            "hostile lines hold up another offender",
            found["delay"],
            "s",
            "< 1",
            f"{LINES} http records with 8 KiB each, five regexes that they make slow",
        ),
    ]
