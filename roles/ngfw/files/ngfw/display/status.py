# SPDX-License-Identifier: GPL-3.0-or-later
"""How the watcher is: what it last wrote about itself, and whether it is alive."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..effects.state import holder
from ..effects.wording import local_time
from ..events.sources import USER, examine, reader_for
from ..firewall.duration import format_duration
from ..firewall.errors import UnsafeFile
from ..firewall.files import read_bytes
from ..firewall.text import quoted
from ..running.sensor import ALIVE, DEAF, STOPPED, UNKNOWN, Sensor, advice, look
from ..service import STATUS_FILE
from ..settings.config import LogSource
from .tables import blocklist_lines

_TOP = 5
_MAX_STATUS = 16 << 20
_SEEN = ("alive", "pid", "sensor", "blocks", "blocklists", "other_chains")
"""What of a status the command has seen itself, and not read in the watcher's file."""


def read_status(directory: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """The watcher's own words with `alive` and `pid` as they are now. Raises PermissionError.

    `report` is told what lies there instead of the watcher's files.
    """
    pid: int | None = None
    found: Any = {}
    try:
        pid = holder(directory)
        found = json.loads(read_bytes(directory / STATUS_FILE, _MAX_STATUS))
    except FileNotFoundError:
        pass
    except UnsafeFile as error:
        report(str(error))
    except (ValueError, RecursionError):
        report(f"{directory / STATUS_FILE} is damaged; a running watcher writes it anew")
    if not isinstance(found, dict):
        found = {}
    return {**found, "alive": pid is not None, "pid": pid, "sensor": sensor_status(found.get("sensor"), look())}


def sensor_status(known: Any, now: Sensor) -> dict[str, Any]:
    """Suricata as it is now; that it is deaf only the watcher knows, which has listened for a while."""
    state = UNKNOWN if now.running is None else ALIVE if now.running else STOPPED
    if state == ALIVE and isinstance(known, dict) and known.get("state") == DEAF:
        state = DEAF
    return {"state": state, **now._asdict()}


def block_summary(blocks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many blocks each rule has in force, and whose packets they stop most; from the items of `ngfw_info`."""
    rules = Counter(block["rule_name"] for block in blocks)
    packets: Counter[str] = Counter()
    for block in blocks:
        packets[block["address"]] += block["packets"]
    return {
        "count": len(blocks),
        "by_rule": dict(rules.most_common()),
        "top_offenders": [
            {"address": address, "packets": count} for address, count in packets.most_common(_TOP) if count
        ],
    }


def source_states(sources: Sequence[LogSource], status: dict[str, Any]) -> list[dict[str, Any]]:
    """Each source as it is now, with how far a watcher that is alive has come in it."""
    listed = status.get("sources")  # whoever is the watcher's user may have written it
    entries = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    told = {each["path"]: each for each in entries if isinstance(each.get("path"), str)}
    may_read = reader_for(USER)
    states = []
    for source in sources:
        found, known = examine(source.path, source.format, may_read), told.get(source.path, {})
        states.append(
            {
                "path": source.path,
                "format": source.format,
                "exists": found.exists,
                "problem": found.problem or (known.get("problem", "") if status["alive"] else ""),
                "lag": known.get("lag") if status["alive"] else None,
                "last_event": known.get("last_event"),
            }
        )
    return states


def source_lines(states: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for each in states:
        there = "exists" if each["exists"] else "does not exist"
        lag = "-" if each["lag"] is None else f"{each['lag']} bytes"
        last = local_time(each["last_event"]) if each["last_event"] else "-"
        problem = each["problem"].removeprefix("does not exist").lstrip(",; ")
        lines.append(
            f"source    {quoted(each['path'])}: {there}, format {each['format']}, lag {lag}, last event {last}"
            + (f"; {quoted(problem)}" if problem else "")
        )
    return lines


def would_have_made(counters: dict[str, Any]) -> int:
    """How many blocks and other entries a dry run only recorded."""
    return sum(each["count"] for each in counters["ngfw_actions_total"] if each["result"] == "dry_run")


def status_lines(status: dict[str, Any], now: float) -> list[str]:
    """The status for people. Its form is not relied on: whoever is the watcher's user may have written it."""
    try:
        return _lines(status, now)
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError):
        known = {name: status[name] for name in _SEEN if name in status}
        return [*_lines(known, now), f"status    {STATUS_FILE} has another form than the watcher's; it is written anew"]


def _lines(status: dict[str, Any], now: float) -> list[str]:
    if status["alive"]:
        since = status.get("started_at")
        ago = f" for {_ago(now, since)}" if since else ""
        lines = [f"watcher   alive{ago}, process {status['pid']}" + (" (dry run)" if status.get("dry_run") else "")]
    else:
        lines = ["watcher   not running (systemctl start ngfw-watcher); blocks stay in the kernel until they end"]
    lines.append(f"sensor    {_sensor_text(status['sensor'], now)}")
    lines += source_lines(status.get("sources", ()))
    counters = status.get("counters")
    if not counters:
        return lines + _kernel_lines(status)
    last = status.get("last_event")
    reaction = counters["ngfw_reaction_seconds"]
    mean = f"{reaction['sum'] / reaction['count'] * 1000:.1f} ms on average" if reaction["count"] else "-"
    events = sum(counters["ngfw_events_total"].values())
    invalid, behind = counters["ngfw_lines_invalid_total"], counters["ngfw_source_lag_bytes"]
    made, expired = counters["ngfw_blocks_created_total"], counters["ngfw_blocks_expired_total"]
    lifted, further = counters["ngfw_blocks_removed_total"], counters["ngfw_duplicates_skip_total"]
    lines.append(f"rules     {status['rules']} in force")
    lines.append(f"events    {events}, last {local_time(last) if last else '-'}; {invalid} invalid lines")
    if status.get("poison"):
        lines.append(f"poison    {status['poison']} lines at which the watcher died are set aside; please report this")
    lines.append(f"lag       {behind} bytes")
    if status.get("dry_run"):
        lines.append(f"dry run   would have made {would_have_made(counters)} blocks; {further} further hits on them")
    else:
        lines.append(f"made      {made} blocks; {expired} expired, {lifted} lifted, {further} further hits on them")
    lines.append(f"reaction  {mean} from event to kernel")
    if counters["ngfw_skips_total"]:
        skips = ", ".join(f"{count} {quoted(word)}" for word, count in sorted(counters["ngfw_skips_total"].items()))
        lines.append(f"refused   {skips}")
    if counters["ngfw_errors_total"]:
        lines.append(f"errors    {counters['ngfw_errors_total']}; see daemon.log")
    if counters["ngfw_heals_total"]:
        lines.append(f"healed    {counters['ngfw_heals_total']} times, after somebody changed our rules")
    lines += [f"mode      {quoted(mode)} is on" for mode in status.get("modes", ())]
    for rule in status.get("idle_rules", ()):
        lines.append(f"idle      {quoted(rule)}: it asks for reputation, and there is no list and no key")
    for provider in status.get("providers", ()):
        lines.append(f"provider  {provider['name']}: {provider['state']}, {quoted(provider['detail'])}")
    hits = sorted(counters["ngfw_rule_hits_total"].items(), key=lambda item: -item[1])
    lines += [f"  {count:>9} hits    {quoted(rule)}" for rule, count in hits[:_TOP]]
    return lines + _kernel_lines(status)


def _sensor_text(found: dict[str, Any], now: float) -> str:
    """How Suricata is: where it listens, and what is wrong."""
    if found["state"] == UNKNOWN:
        return "unknown: there is no suricata.service on this host"
    sensor = Sensor(found["running"], found["since"], tuple(found["listening"]), tuple(found["others"]))
    if found["state"] != ALIVE:
        return f"{found['state'].upper()}: {quoted(advice(found['state'], sensor))}"
    ago = f" for {_ago(now, sensor.since)}" if sensor.since else ""
    others = f", not on {', '.join(sensor.others)}" if sensor.others else ""
    return quoted(f"alive{ago}, listens on {', '.join(sensor.listening) or 'no interface'}{others}")


def _kernel_lines(status: dict[str, Any]) -> list[str]:
    """What is in force, if it could be read."""
    blocks = status.get("blocks")
    if blocks is None:
        return []
    lines = [f"blocks    {blocks['count']} in force"]
    lines += [f"  {count:>9} blocks  {quoted(rule)}" for rule, count in list(blocks["by_rule"].items())[:_TOP]]
    if blocks["top_offenders"]:
        lines.append("offenders, by packets stopped")
        lines += [f"  {item['packets']:>9} packets {item['address']}" for item in blocks["top_offenders"]]
    lines += blocklist_lines(status["blocklists"])
    return lines + [
        f"chain     {other['chain']}, another one of ours, has {other['blocks']} blocks in force; see ngfw check"
        for other in status["other_chains"]
    ]


def _ago(now: float, then: float) -> str:
    seconds = max(0, int(now - then))
    return format_duration(seconds) if seconds else "0s"
