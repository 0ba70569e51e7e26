# SPDX-License-Identifier: GPL-3.0-or-later
"""The only place that prints. What comes out is lines that a terminal shows as they are, and JSON in ASCII."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from .firewall.text import masked, printable


def show(*lines: str, flush: bool = False) -> None:
    """Print lines to standard output, each on one line whatever is in it. Raises OSError."""
    _write(sys.stdout, lines, flush)


def show_json(value: object, *, compact: bool = False) -> None:
    """Print a value as one line of JSON. Raises OSError."""
    text = json.dumps(value, separators=(",", ":") if compact else None)
    _write(sys.stdout, (text.replace("\x7f", "\\u007f"),), flush=False)  # the one control that json leaves as it is


def complain(*lines: str) -> None:
    """Print lines to standard error, without the secrets of URLs. Raises OSError."""
    _write(sys.stderr, tuple(map(masked, lines)), flush=True)


def written() -> None:
    """Returns when all of it is written, for a process that is about to end as it is. Raises OSError."""
    sys.stdout.flush()


def _write(stream: TextIO, lines: tuple[str, ...], flush: bool) -> None:
    for line in lines:
        text = printable(line)
        if not text.isascii():  # a terminal may know fewer characters than Unicode
            encoding = stream.encoding or "utf-8"
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        stream.write(text + "\n")
    if flush:
        stream.flush()
