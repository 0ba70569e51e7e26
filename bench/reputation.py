# SPDX-License-Identifier: GPL-3.0-or-later
"""Reputation: a list of a million entries, and what the loop pays for asking while it is read beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from figures import Figure

ENTRIES = 1_000_000
WATCHER = Path(__file__).resolve().parents[1] / "roles" / "ngfw" / "files"

# In a process of its own, so that its memory is nobody else's.
_PROGRAM = """
import json, os, random, sys, time
from pathlib import Path
from ngfw.settings.config import Netset
from ngfw.firewall.address import parse_host
from ngfw.intel.mailbox import Mailbox
from ngfw.intel.netsets import Netsets
from ngfw.intel.upkeep import Upkeep

path, entries = Path(sys.argv[1]), int(sys.argv[2])
generator = random.Random(1)
with open(path, "w") as file:
    for number in range(entries):
        a = generator.randrange(0x0b000000, 0x60000000)
        tail = f"/{generator.randrange(20, 31)}" if number % 10 == 0 else ""
        file.write(f"{a >> 24}.{a >> 16 & 255}.{a >> 8 & 255}.{a & 255}{tail}\\n")

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten; getrusage() has the parent's in it
before = peak()
netsets = Netsets([Netset("million", str(path))])
began = time.monotonic()
netsets.load(0.0)
load = time.monotonic() - began
memory = (peak() - before) / 1024

addresses = [parse_host(f"{a}.{b}.7.9") for a in range(11, 96) for b in range(0, 250, 25)]
began = time.perf_counter()
for _each in range(20):
    for address in addresses:
        netsets.verdicts(address)
look = (time.perf_counter() - began) / (20 * len(addresses))

os.utime(path)
upkeep = Upkeep(netsets, Mailbox(), clock=lambda: 1.0)
reader, writer = os.pipe()
passes = []
upkeep.start()
while netsets.verdicts(addresses[0])[0].at != 1.0:
    began = time.perf_counter()
    for _call in range(5):  # a pass of the loop gives up the interpreter about as often
        os.write(writer, b"x")
        os.read(reader, 1)
    passes.append(time.perf_counter() - began)
    time.sleep(0.001)
passes.sort()
print(json.dumps({"load": load, "memory": memory, "look": look, "pass": passes[int(len(passes) * 0.99)]}))
"""


def measure(directory: Path) -> list[Figure]:
    done = subprocess.run(
        (sys.executable, "-c", _PROGRAM, str(directory / "list"), str(ENTRIES)),
        env={"PYTHONPATH": str(WATCHER)},
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    what = f"{ENTRIES} IPv4 entries in no order, a tenth of them networks"
    return [
        Figure("a netset is read", found["load"], "s", "<= 3", what),
        Figure("memory that reading it adds", found["memory"], "MB", "<= 200", "peak, over the process before"),
        Figure("one verdict of it", found["look"] * 1e6, "us", "<= 5", "mean of 17000, one list"),
        Figure("a pass of the loop while it is read again", found["pass"] * 1e3, "ms", "<= 5", "99th percentile"),
    ]
