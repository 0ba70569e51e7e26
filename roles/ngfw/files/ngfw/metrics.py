# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters of the watcher, under the names of docs/interface.md, section 8."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any

REACTION_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

_OF_SURICATA = ("stats", "engine")


class Histogram:
    """Observations in seconds, counted by upper bound; the last bucket holds what exceeds every bound."""

    def __init__(self, bounds: tuple[float, ...] = REACTION_BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.last: float | None = None

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds
        self.last = seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def to_dict(self) -> dict[str, Any]:
        total = 0
        buckets: dict[str, int] = {}
        for bound, count in zip(self.bounds, self.counts):
            total += count
            buckets[str(bound)] = total
        buckets["+Inf"] = self.count
        return {"count": self.count, "sum": round(self.sum, 6), "last": self.last, "buckets": buckets}


class Metrics:
    """Every counter of one watcher or one replay; the owner adds to the attributes directly."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.lines_invalid = 0
        self.rule_hits: Counter[str] = Counter()
        self.actions: Counter[tuple[str, str]] = Counter()  # (type as replay's action, success | failed | dry_run)
        self.blocks_created = 0
        self.blocks_removed = 0
        self.blocks_expired = 0
        self.duplicates_skip = 0
        self.whitelist_skip = 0
        self.skips: Counter[str] = Counter()  # by the word before the colon
        self.errors = 0
        self.active_blocks = 0
        self.source_lag_bytes = 0
        self.heals = 0
        self.sensor_up: int | None = None  # 0: Suricata does not run, or is deaf; None: nothing is known of it
        self.intel_lookups: Counter[tuple[str, str]] = Counter()  # (provider, result)
        self.reaction = Histogram()

    def events_seen(self) -> int:
        """All events that tell of packets: not what Suricata writes about itself, which comes without any, too."""
        return sum(self.events.values()) - sum(self.events[kind] for kind in _OF_SURICATA)

    def only_alerts(self) -> bool:
        """Whether all that was seen so far is alerts, as in a log that has no records of flows."""
        return 0 < self.events_seen() == self.events["alert"]

    def to_dict(self) -> dict[str, Any]:
        """The counters as `ngfw status --json` prints them."""
        return {
            "ngfw_events_total": dict(self.events),
            "ngfw_lines_invalid_total": self.lines_invalid,
            "ngfw_rule_hits_total": dict(self.rule_hits),
            "ngfw_actions_total": [
                {"type": kind, "result": result, "count": count}
                for (kind, result), count in sorted(self.actions.items())
            ],
            "ngfw_blocks_created_total": self.blocks_created,
            "ngfw_blocks_removed_total": self.blocks_removed,
            "ngfw_blocks_expired_total": self.blocks_expired,
            "ngfw_duplicates_skip_total": self.duplicates_skip,
            "ngfw_whitelist_skip_total": self.whitelist_skip,
            "ngfw_skips_total": dict(self.skips),
            "ngfw_errors_total": self.errors,
            "ngfw_intel_lookups_total": [
                {"provider": provider, "result": result, "count": count}
                for (provider, result), count in sorted(self.intel_lookups.items())
            ],
            "ngfw_active_blocks": self.active_blocks,
            "ngfw_reaction_seconds": self.reaction.to_dict(),
            "ngfw_source_lag_bytes": self.source_lag_bytes,
            "ngfw_heals_total": self.heals,
            **({} if self.sensor_up is None else {"ngfw_sensor_up": self.sensor_up}),
        }
