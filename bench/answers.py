# SPDX-License-Identifier: GPL-3.0-or-later
"""What reputation costs the watcher: rules that ask beside rules that do not, and how soon an answer takes effect."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import watcher as live

ALERTS, ANSWERS = 100, 50
CONFIRM = live.RULES.replace("    severity: high\n", "    severity: high\n    intel: confirm\n")


class Provider(BaseHTTPRequestHandler):
    """Says that everybody is clean, once it may; notes when it has."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet
    may_answer = threading.Event()
    answered: ClassVar[dict[str, float]] = {}

    def do_GET(self) -> None:
        self.may_answer.wait(60)
        address = self.path.partition("ipAddress=")[2].partition("&")[0]
        body = json.dumps({"data": {"ipAddress": address, "abuseConfidenceScore": 0}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.answered[address] = time.perf_counter()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Nobody reads it."""


def measure(directory: Path) -> list:
    """Run all of it in a namespace; files go into `directory`."""
    from figures import Figure, namespace

    with namespace("bench-answers") as inside:
        argv = inside([live.PYTHON, str(Path(__file__)), str(directory)])
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])
    return [Figure(*fields) for fields in json.loads(done.stdout)]


def main(directory: Path) -> list[tuple[str, float, str, str, str]]:
    """Inside the namespace."""
    sys.path.insert(0, str(live.FILES))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    key = directory / "key"
    key.write_text("sesame\n")
    provider = {"key_file": str(key), "url": f"http://127.0.0.1:{server.server_port}/", "timeout": "2s"}
    # `closed`, for where nobody can answer nothing else would be blocked.
    intel = {"netsets": [], "fail_policy": "closed", "abuseipdb": {**provider, "per_minute": 10_000}}
    asking = {"rules": CONFIRM, "intel": intel}
    with live.watcher(directory) as log:
        plain = [1000 * live.waited(log, number) for number in range(ALERTS)]
    with live.watcher(directory, **asking) as log:
        hanging = [1000 * live.waited(log, number) for number in range(ALERTS)]
        Provider.may_answer.set()
    with live.watcher(directory, **asking) as log:
        lifted = [1000 * lift(log, 1000 + number) for number in range(ANSWERS)]
    median = statistics.median
    slowest = f"the slowest {max(hanging):.1f} and {max(plain):.1f} ms"
    made = f"{median(hanging):.2f} ms over {median(plain):.2f} ms; {slowest}"
    return [
        ("confirm, a provider that hangs", median(hanging) / median(plain), "x (a rule that does not ask)", "-", made),
        ("an answer to the lift", median(lifted), "ms", "<= 100", f"the slowest {max(lifted):.1f} ms"),
    ]


def lift(log: Path, number: int) -> float:
    """Seconds from a clean answer to the end of the provisional block."""
    from ngfw.firewall.address import parse_network

    Provider.may_answer.clear()
    live.waited(log, number)
    Provider.may_answer.set()
    address = str(live.FIRST + number)
    network, sets = parse_network(address), live.kernel_sets()
    deadline = time.monotonic() + 10
    while address not in Provider.answered or live.holds(sets, network):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{address} was not lifted")
    return time.perf_counter() - Provider.answered[address]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
