# SPDX-License-Identifier: GPL-3.0-or-later
"""How the watcher is: what it last wrote about itself, and whether it is alive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .firewall.duration import format_duration
from .service import STATUS_FILE
from .state import holder
from .wording import local_time, quoted


def read_status(directory: Path) -> dict[str, Any]:
    """The watcher's own words with `alive` and `pid` as they are now. Raises PermissionError."""
    pid = holder(directory)
    found: dict[str, Any] = {}
    try:
        found = json.loads((directory / STATUS_FILE).read_bytes())
    except FileNotFoundError:
        pass
    except ValueError:
        found = {}
    return {**found, "alive": pid is not None, "pid": pid}


def status_lines(status: dict[str, Any], now: float) -> list[str]:
    """The status for people."""
    if status["alive"]:
        since = status.get("started_at")
        ago = f" for {_ago(now, since)}" if since else ""
        lines = [f"watcher   alive{ago}, process {status['pid']}" + (" (dry run)" if status.get("dry_run") else "")]
    else:
        lines = ["watcher   not running (systemctl start ngfw-watcher); blocks stay in the kernel until they end"]
    counters = status.get("counters")
    if not counters:
        return lines
    last = status.get("last_event")
    reaction = counters["ngfw_reaction_seconds"]
    mean = f"{reaction['sum'] / reaction['count'] * 1000:.1f} ms on average" if reaction["count"] else "-"
    events = sum(counters["ngfw_events_total"].values())
    invalid, behind = counters["ngfw_lines_invalid_total"], counters["ngfw_source_lag_bytes"]
    made, expired = counters["ngfw_blocks_created_total"], counters["ngfw_blocks_expired_total"]
    active, further = counters["ngfw_active_blocks"], counters["ngfw_duplicates_skip_total"]
    lines.append(f"rules     {status['rules']} in force")
    lines.append(f"events    {events}, last {local_time(last) if last else '-'}; {invalid} lines that are none")
    lines.append(f"lag       {behind} bytes")
    lines.append(f"blocks    {active} in force; {made} made, {expired} expired, {further} further hits on them")
    lines.append(f"reaction  {mean} from event to kernel")
    if counters["ngfw_skips_total"]:
        skips = ", ".join(f"{count} {quoted(word)}" for word, count in sorted(counters["ngfw_skips_total"].items()))
        lines.append(f"refused   {skips}")
    if counters["ngfw_errors_total"]:
        lines.append(f"errors    {counters['ngfw_errors_total']}; see daemon.log")
    for rule, count in sorted(counters["ngfw_rule_hits_total"].items(), key=lambda item: -item[1]):
        lines.append(f"  {count:>9} hits  {quoted(rule)}")
    return lines


def _ago(now: float, then: float) -> str:
    seconds = max(0, int(now - then))
    return format_duration(seconds) if seconds else "0s"
