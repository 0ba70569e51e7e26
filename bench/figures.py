# SPDX-License-Identifier: GPL-3.0-or-later
"""What a measurement gives, and the namespace that it runs in."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple


class Figure(NamedTuple):
    """One line of the results: `value` with its unit, the bound it is wanted under or over, and what it was made of."""

    name: str
    value: float
    unit: str
    wanted: str
    made_of: str


@contextmanager
def namespace(name: str) -> Iterator[Callable[[Sequence[str]], list[str]]]:
    """A network namespace with a loopback; gives a function that puts a command inside."""
    name = f"{name}-{os.getpid()}"
    subprocess.run(("ip", "netns", "add", name), check=True)
    try:
        subprocess.run(("ip", "-n", name, "link", "set", "lo", "up"), check=True)
        yield lambda argv: ["ip", "netns", "exec", name, *argv]
    finally:
        subprocess.run(("ip", "netns", "del", name), check=True)


def seconds(argv: Sequence[str], **arguments: object) -> float:
    """The wall time of a command that must succeed."""
    start = time.monotonic()
    done = subprocess.run(argv, check=False, capture_output=True, text=True, **arguments)
    if done.returncode:
        raise RuntimeError(f"'{' '.join(argv)}' failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.monotonic() - start


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """The median of the first over the second, pair by pair, so that a machine's drift does not count."""
    return statistics.median(first / second for first, second in pairs)


def shown(values: Sequence[float]) -> str:
    """Median and range of some seconds."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"
