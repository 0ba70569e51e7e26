# SPDX-License-Identifier: GPL-3.0-or-later
"""Aligned tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..firewall.duration import format_duration
from ..firewall.result import Result
from ..firewall.text import quoted


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Columns as wide as their widest cell, two spaces apart; nothing in a cell can break its line."""
    cells = [list(titles), *([quoted(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]


def blocks_table(blocks: Sequence[dict[str, Any]]) -> list[str]:
    """The items of `ngfw_info.blocks`."""
    if not blocks:
        return ["nothing is blocked"]
    return table(
        ("ADDRESS", "ACTION", "TARGET", "REMAINING", "PACKETS", "ORIGIN", "RULE", "REASON"),
        (
            (
                block["address"],
                block["action"],
                block["target"],
                remaining(block["remaining"]),
                block["packets"],
                block["origin"],
                block["rule_name"],
                block["reason"],
            )
            for block in blocks
        ),
    )


def blocklist_lines(items: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each blocklist and direction, from the items of `ngfw_info.blocklists`."""
    counts: Counter[tuple[str, str]] = Counter()
    for item in items:
        counts[item["name"], item["target"]] += item["count"]
    return [f"blocklist {name} ({target}): {count} networks" for (name, target), count in sorted(counts.items())]


def remaining(seconds: int | None) -> str:
    """How long a block lasts still, in words."""
    if seconds is None:
        return "permanent"
    return format_duration(seconds) if seconds else "0s"


def result_dict(result: Result) -> dict[str, Any]:
    """What a request came to, as JSON has it; keys and counts are those of the modules' results, without their cut."""
    found: dict[str, Any] = {kind: list(map(str, networks)) for kind, networks in result.networks().items()}
    found["refused"] = [{"address": each.address, "reason": each.reason} for each in result.refused]
    return {**found, "count": {name: len(items) for name, items in found.items()}, "changed": result.changed}


def whitelist_table(items: Sequence[dict[str, Any]]) -> list[str]:
    """The items of `ngfw_info.whitelist`."""
    if not items:
        return ["the whitelist is empty"]
    return table(
        ("ADDRESS", "ORIGIN", "COMMENT"), ((item["address"], item["origin"], item["comment"]) for item in items)
    )
