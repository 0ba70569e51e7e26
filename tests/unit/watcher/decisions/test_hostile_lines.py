# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever stands in a line, it costs no more than in proportion to its length, and nothing of it is kept for long."""

from __future__ import annotations

import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from ngfw.decisions.pipeline import Pipeline
from ngfw.effects.recorder import Recorder
from ngfw.events.tail import Chunk
from ngfw.rules.load import parse_rules
from ngfw.settings.config import Config

LENGTH = 1_000_000
RULES = b"""rules:
  - {name: Group, type: alert, expression: alert.severity == 1, threshold: 5, group_by: [src_ip, proto]}
  - {name: Network, type: alert, expression: alert.severity == 1, threshold: 5, group_by: [src_ip/24]}
  - {name: Distinct, type: alert, expression: alert.severity > 0, threshold: 9, distinct: alert.signature}
  - {name: Text, type: alert, expression: 'contains(alert.signature, "zz") or lower(alert.signature) == "q"'}
  - {name: Address, type: alert, expression: 'in_subnet(src_ip, "10.0.0.0/8") or is_private(http.hostname)'}
  - {name: Time, type: alert, expression: hour_of_day(timestamp) == 30}
"""


def pipeline() -> Pipeline:
    return Pipeline(Config.default(), parse_rules(RULES, "test.yml"), Recorder().look)


def alert(**changes: Any) -> bytes:
    record = {
        "timestamp": "2026-11-30T10:00:00.000000+0000",
        "event_type": "alert",
        "flow_id": 1,
        "src_ip": "203.0.113.7",
        "dest_ip": "192.0.2.1",
        "dest_port": 80,
        "proto": "TCP",
        "alert": {"gid": 1, "signature_id": 1, "signature": "x", "severity": 1},
    }
    return json.dumps({**record, **changes}, separators=(",", ":")).encode()


def with_value(value: bytes) -> bytes:
    return alert(x=1).replace(b'"x":1', b'"x":' + value)


def in_alert(**changes: Any) -> bytes:
    return alert(alert={"gid": 1, "signature_id": 1, "signature": "x", "severity": 1, **changes})


EVE = {
    "deep list": lambda n: with_value(b"[" * (n // 2) + b"]" * (n // 2)),
    "deep object": lambda n: with_value(b'{"a":' * (n // 6) + b"1" + b"}" * (n // 6)),
    "digits": lambda n: with_value(b"9" * n),
    "many long numbers": lambda n: with_value(b"[" + b",".join([b"9" * 4290] * (n // 4291)) + b"]"),
    "fraction": lambda n: with_value(b"0." + b"9" * n),
    "keys": lambda n: with_value(b"1," + b",".join(b'"k%d":1' % number for number in range(n // 10))),
    "escapes": lambda n: with_value(b'"' + b"\\u0041" * (n // 6) + b'"'),
    "half surrogates": lambda n: with_value(b'"' + b"\\ud83d" * (n // 6) + b'"'),
    "backslashes": lambda n: with_value(b'"' + b"\\\\" * (n // 2) + b'"'),
    "no end": lambda n: with_value(b'"' + b"a" * n),
    "keys in a text": lambda n: with_value(b'"' + b'\\"event_type\\":' * (n // 16) + b'"'),
    "severities": lambda n: with_value(b"[" + b",".join([b'{"severity":2}'] * (n // 15)) + b"]"),
    "braces": lambda n: b"{" * n,
    "quotes": lambda n: b'"' * n,
    "signature": lambda n: in_alert(signature="a" * n),
    "colons": lambda n: alert(src_ip=":" * n),
    "dots": lambda n: alert(src_ip="1." * (n // 2)),
    "list in a group": lambda n: alert(proto=[1] * (n // 2)),
    "xff": lambda n: in_alert(xff="1.1.1.1, " * (n // 9)),
}
START = b"11/30/2026-10:00:00.000000  [**] [1:1:1] "
FAST = {
    "stars": lambda n: START + b"[**] " * (n // 5),
    "priorities": lambda n: START + b" [Priority: " * (n // 12),
    "classes": lambda n: START + b" [**] [Classification: " * (n // 23),
    "braces": lambda n: START + b" {" * (n // 2),
    "end points": lambda n: START + b"x {T} " + b"a" * (n // 2) + b" -> " + b"b" * (n // 2),
    "packets": lambda n: START + b"x [**] [Raw pkt: " + b"0 " * (n // 2),
    "blanks": lambda n: b"a" * 20 + b" " * n,
    "words": lambda n: b"a " * (n // 2),
    "colons": lambda n: START + b"x [**] [Priority: 1] {TCP} " + b":" * (n // 2) + b" -> " + b":" * (n // 2),
}
HOSTILE = [("eve", name, make) for name, make in EVE.items()] + [("fast", name, make) for name, make in FAST.items()]


@pytest.mark.feature("S3")
@pytest.mark.parametrize(("log_format", "name", "make"), HOSTILE, ids=[f"{kind}-{name}" for kind, name, _ in HOSTILE])
def test_the_cost_of_a_line_grows_with_its_length_only(log_format: str, name: str, make: Any) -> None:
    """What grew with the square would take 64 times as long; in processor time, and with room for a slow moment."""
    pipe = pipeline()
    took = []
    for length in (LENGTH // 8, LENGTH):
        chunk = Chunk(log_format, "log", make(length) + b"\n", 0)
        best = float("inf")
        for _attempt in range(3):
            start = time.thread_time()
            pipe.process([chunk], now=1.8e9)
            best = min(best, time.thread_time() - start)
        took.append(best)
    assert took[1] < 32 * took[0] + 0.02


def long_values(number: int) -> Iterator[bytes]:
    text = f"{number}:" + "x" * LENGTH
    for key in ("src_ip", "dest_ip", "proto", "event_type", "in_iface", "src_port", "tx_id", "flow_id"):
        yield alert(**{key: text})
    yield alert(timestamp="2026-11-30T10:00:00.000000" + text)
    yield alert(timestamp="2026-11-30T10:00:00" + text)
    yield alert(http={"hostname": text})
    yield alert(flow={"src_ip": text, "dest_ip": text, "state": text})
    yield in_alert(xff=text)
    yield in_alert(signature=text)
    yield in_alert(source={"ip": text})


@pytest.mark.feature("S3")
@pytest.mark.skipif(sys.version_info < (3, 10), reason="tracing is slow here")
def test_nothing_of_a_long_line_is_kept() -> None:
    pipe = pipeline()
    tracemalloc.start()
    try:
        for number in range(6):
            for line in long_values(number):
                pipe.process([Chunk("eve", "log", line + b"\n", 0)], now=1.8e9 + number)
        pipe.process([Chunk("eve", "log", alert() + b"\n", 0)], now=1.8e9 + 10)
        gc.collect()
        kept, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 * LENGTH
