# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an address is on its way to the thresholds of rules.

The counts are in the memory of the watcher, which nobody asks: they are found as it finds them itself after a restart,
from the last lines of the logs by the same pipeline. So they are there while no watcher runs, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..decisions.pipeline import Pipeline
from ..effects.recorder import Recorder
from ..events.tail import Source, Tail
from ..firewall.address import Network
from ..rules.load import RuleSet
from ..settings.config import Config

READ_BYTES = 8 << 20
"""The most that is read of all logs together, as the watcher does at a start: some tenths of a second."""


def open_counts(
    config: Config,
    rules: RuleSet,
    address: Network,
    *,
    host_networks: Iterable[Network],
    guarded: Iterable[Network],
    now: float,
) -> list[dict[str, Any]]:
    """{rule, count, threshold, distinct, left, forgeable}, `left` in seconds: so long the first event counts.

    Those that are `forgeable` show no handshake: they are counted apart, and would block nobody if they were enough.

    `host_networks` are inside beside `home_net`, `guarded` is what no block may touch; times are held against `now`,
    epoch seconds.
    """
    recorder = Recorder()
    recorder.guard_by(whitelist=dict.fromkeys(guarded, ""), protected={})
    pipeline = Pipeline(config, rules, recorder.look, host_networks=host_networks)
    tail = Tail([Source(each.path, each.format) for each in config.sources], None, "end", report=_ignore)
    try:
        pipeline.recall(tail.before(READ_BYTES), now=now)
    finally:
        tail.close()
    return [
        {
            "rule": each.rule.name,
            "count": each.reached,
            "threshold": each.rule.threshold,
            "distinct": each.rule.distinct,
            "left": round(each.until - now, 1),
            "forgeable": each.forgeable,
        }
        for each in pipeline.counts(address, now)
    ]


def _ignore(_text: str) -> None:
    pass
