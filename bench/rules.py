# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped rules: what one costs for an event, how many lines a core decides, what many sources weigh."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from figures import Figure

ROOT = Path(__file__).resolve().parents[1]
WATCHER = ROOT / "roles" / "ngfw" / "files"
RECORDINGS = ROOT / "tests" / "data" / "eve"
LINES = 150_000
SOURCES = 200_000

# In a process of its own, so that its memory and caches are nobody else's. Processor time, not the clock's.
_PROGRAM = """
import json, sys, time, tracemalloc
from collections import Counter
from pathlib import Path
from ngfw.commands import SHIPPED_RULES
from ngfw.settings.config import Config
from ngfw.events import eve
from ngfw.events.tail import Chunk
from ngfw.decisions.pipeline import Pipeline
from ngfw.effects.recorder import Recorder
from ngfw.rules.engine import Engine
from ngfw.rules.load import load_rules

recordings, wanted_lines, sources = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rules = load_rules([SHIPPED_RULES])
result = {}

# One rule on one event of its type: all recorded events, and each rule as often as there are events for it.
events = [eve.decode(line) for path in sorted(recordings.glob("*.json")) for line in path.read_bytes().splitlines()]
costs = {}
for rule in rules:
    records = [event.record for event in events if event.type == rule.type]
    matches, rounds = rule.expression.matches, max(1, 40_000 // len(records))
    best = 1.0
    for _again in range(5):
        start = time.process_time()
        for _round in range(rounds):
            for record in records:
                matches(record)
        best = min(best, (time.process_time() - start) / (rounds * len(records)))
    costs[rule.name] = best * 1e6
result["costs"] = costs

# Everyday lines, each round from another client, and in one line of fifty an attack.
def addressed(line, number):
    return line.replace(b"198.51.100.66", b"203.%d.%d.%d" % (number >> 16 & 255, number >> 8 & 255, number & 255))

def lines_of(name):
    return (recordings / f"{name}.json").read_bytes().splitlines()

everyday = lines_of("benign")
attacks = [line for path in sorted(recordings.glob("*.json")) if path.stem != "benign" for line in lines_of(path.stem)]
mixed = []
while len(mixed) < wanted_lines:
    number = len(mixed) // 50
    mixed += [addressed(line, number) for line in everyday]
    mixed += [addressed(attacks[(number + each) % len(attacks)], number) for each in range(len(everyday) // 50)]
mix = Counter(eve.decode(line).type for line in mixed)
result["mix"] = {name: round(100 * count / len(mixed)) for name, count in mix.most_common()}
chunks = [Chunk("eve", "bench", b"\\n".join(mixed[at : at + 1500]) + b"\\n", 0) for at in range(0, len(mixed), 1500)]
rates = []
for _again in range(3):
    pipeline = Pipeline(Config.default(), rules, Recorder())
    start = time.process_time()
    for chunk in chunks:
        pipeline.process([chunk], now=None)
    rates.append(len(mixed) / (time.process_time() - start))
result["rates"] = rates

# A flood of sources, one event each: the rule that counts most simply alone, then all rules and each type in turn.
def weight(chosen, types):
    engine = Engine(chosen)
    kept = [next(event for event in events if event.type == name and any(
        rule.type == name and rule.expression.matches(event.record) for rule in chosen)) for name in types]
    tracemalloc.start()
    for number in range(sources):
        event = kept[number % len(kept)]
        address = f"203.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        engine.feed(event.type, {**event.record, "offender": address, "src_ip": address}, 1000.0 + number * 1e-5)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / (1 << 20), sum(engine.evicted.values())

# The same rule with a window full of sources, beside one with few: 20,000 events from new ones each.
def seconds(engine, event, first, at):
    start = time.process_time()
    for number in range(first, first + 20_000):
        address = f"203.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        engine.feed(event.type, {**event.record, "offender": address, "src_ip": address}, at)
    return time.process_time() - start

ssh = [rule for rule in rules if rule.type == "ssh"]
event = next(event for event in events if event.type == "ssh" and ssh[0].expression.matches(event.record))
empty, full = Engine(ssh), Engine(ssh)
quiet = min(seconds(empty, event, 0, at) for at in (1e6, 2e6, 3e6))
for first in range(0, sources, 20_000):
    seconds(full, event, first, 1e6)
result["slower"] = min(seconds(full, event, sources + 20_000 * each, 1e6) for each in range(3)) / quiet

result["one"] = weight([rule for rule in rules if rule.type == "ssh"], ["ssh"])
result["all"] = weight(list(rules), ["alert", "ssh", "ftp", "rdp", "http", "dns"])
print(json.dumps(result))
"""


def measure(directory: Path) -> list[Figure]:
    """Run all of it; nothing is written to `directory`."""
    done = subprocess.run(
        (sys.executable, "-c", _PROGRAM, str(RECORDINGS), str(LINES), str(SOURCES)),
        env={"PYTHONPATH": str(WATCHER)},
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    costs, rates = found["costs"], sorted(found["rates"])
    dearest = max(costs, key=costs.__getitem__)
    mix = ", ".join(f"{share} % {name}" for name, share in found["mix"].items() if share)
    return [
        Figure(
            "a shipped rule on an event of its type",
            sum(costs.values()) / len(costs),
            "us",
            "< 2",
            f"{len(costs)} rules, recorded events; the dearest {costs[dearest]:.2f}, {dearest}",
        ),
        Figure(
            "mixed EVE, all shipped rules, one core",
            rates[len(rates) // 2],
            "lines/s",
            ">= 55000",
            f"{LINES} lines: {mix}; {len(rates)} runs, {rates[0]:.0f}-{rates[-1]:.0f}",
        ),
        Figure(
            f"{SOURCES} sources in the window of a rule",
            found["one"][0],
            "MB",
            "<= 64",
            f"SSH brute force; {found['one'][1]} forgotten",
        ),
        Figure(
            f"an event among {SOURCES} sources of a rule",
            found["slower"],
            "x (among few)",
            "<= 2",
            "SSH brute force, each event from a new source",
        ),
        Figure(
            f"{SOURCES} sources in the windows of all shipped rules",
            found["all"][0],
            "MB",
            "<= 64",
            f"six event types in turn; {found['all'][1]} forgotten",
        ),
    ]
