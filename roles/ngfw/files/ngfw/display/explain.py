# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is known of one address: what the kernel does with it now, and what the journals tell of it.

The journals are the history: alerts.json has the decisions, alert.log every alert that a rule hit. Rotated files are
read as well, compressed ones too.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..decisions import history as past
from ..effects.journal import ALERT_LOG, ALERTS_JSON
from ..effects.wording import shown_action
from ..firewall.address import PRIVATE, Network, parse_network
from ..firewall.errors import UnsafeFile
from ..firewall.info import Listing
from ..firewall.text import quoted, unquoted
from ..intel import cache
from ..intel.abuseipdb import NAME as ABUSEIPDB
from ..intel.netsets import Netsets
from ..intel.verdict import PRIVATE_SPACE, State, Verdict, rated
from ..settings.config import Config
from .journals import lines_with
from .remedies import remedy
from .tables import remaining, table

MAX_HISTORY = 200
"""The newest decisions that are shown."""

MAX_ALERTS = 100
"""Different signatures that are shown."""

_FIELDS = (
    "ts",
    "action",
    "ip",
    "target",
    "rule",
    "reason",
    "score",
    "sources",
    "sid",
    "msg",
    "duration",
    "expires_at",
    "dry_run",
)

Report = Callable[[str], None]
"""Is told what could not be read, and what to do about it."""


def touching(blocks: Sequence[dict[str, Any]], network: Network) -> list[dict[str, Any]]:
    """Those of the items (each with an `address`) that cover the network or lie inside it."""
    found = []
    for item in blocks:
        other = parse_network(item["address"])
        if other.contains(network) or network.contains(other):
            found.append(item)
    return found


def listing_dicts(listings: Iterable[Listing]) -> list[dict[str, Any]]:
    """The blocklists that cover an address."""
    return [{"name": each.name, "target": each.direction.value, "network": str(each.cover)} for each in listings]


def reputation(config: Config, network: Network, report: Report) -> list[dict[str, Any]]:
    """What lists and AbuseIPDB are known to say of a host, asking nobody: {provider, state, score, detail, at}."""
    if not network.is_host:
        return []
    if PRIVATE.covering(network) is not None:
        return [_verdict_dict(verdict) for verdict in PRIVATE_SPACE]
    lists = Netsets(config.intel.netsets)
    lists.load(time.time())
    found = [_verdict_dict(verdict) for verdict in lists.verdicts(network)]
    try:
        memory = cache.look(Path(config.state_directory) / cache.FILE, network)
    except UnsafeFile as error:
        report(str(error))
        return found
    if memory.known is not None:
        known = memory.known
        found.append(_verdict_dict(rated(ABUSEIPDB, known.score, config.intel.threshold, known.at)))
    elif memory.asked_at is not None:
        found.append(_verdict_dict(Verdict(ABUSEIPDB, State.PENDING, None, "not answered yet", memory.asked_at)))
    return found


def _verdict_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "provider": verdict.provider,
        "state": verdict.state.value,
        "score": verdict.score,
        "detail": verdict.detail,
        "at": _utc_time(verdict.at) if verdict.at else None,
    }


def offences(directory: Path, networks: Sequence[Network], report: Report) -> list[str]:
    """When these networks were blocked, as far as it makes the next block longer; ISO 8601, oldest first."""
    try:
        return [_utc_time(moment) for moment in past.offences(directory / past.FILE, networks)]
    except UnsafeFile as error:
        report(str(error))
        return []


def history(directory: Path, networks: Sequence[Network], report: Report) -> list[dict[str, Any]]:
    """The newest decisions about exactly these networks, oldest first; a skip has its `remedy`. Raises OSError."""
    marks = [f'"ip":"{network}"'.encode() for network in networks]
    found: deque[dict[str, Any]] = deque(maxlen=MAX_HISTORY)
    for line in lines_with(directory, ALERTS_JSON, marks, report):
        with suppress(ValueError, RecursionError):
            fields = json.loads(line)
            if isinstance(fields, dict) and isinstance(fields.get("action"), str):
                item = {name: fields.get(name) for name in _FIELDS}
                reason = item["reason"] if item["action"] == "skip" else None
                advised = remedy(reason, str(fields.get("proto"))) if isinstance(reason, str) else None
                found.append({**item, "remedy": advised})
    return list(found)


def alerts(directory: Path, network: Network, report: Report) -> list[dict[str, Any]]:
    """The signatures that fired for the network, the most frequent first. Raises OSError."""
    mark = f" ALERT {network} ".encode()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines_with(directory, ALERT_LOG, [mark], report):
        fields = _alert_fields(line.decode("utf-8", "replace"), str(network))
        if fields is None:
            continue
        moment, sid, msg = fields
        item = found.get((sid, msg))
        if item is None:
            if len(found) >= MAX_ALERTS:
                continue
            number = int(sid) if re.fullmatch("[0-9]{1,10}", sid) else None
            item = found[sid, msg] = {"sid": number, "msg": unquoted(msg), "count": 0, "first": moment}
        item["count"] += 1
        item["last"] = moment
    return sorted(found.values(), key=lambda item: -item["count"])


def _alert_fields(line: str, address: str) -> tuple[str, str, str] | None:
    """Time, sid and message of a line of alert.log about the address; in time that grows with the line only."""
    head, has_message, msg = line.rpartition(' MSG="')
    head, has_sid, sid = head.rpartition("] SID=")
    day, moment, verb, ip, *_rest = [*head.split(" ", 4), "", "", "", ""][:5]
    if not (has_message and has_sid and msg.endswith('"') and (verb, ip) == ("ALERT", address)):
        return None
    try:
        return _utc(f"{day} {moment}"), sid, msg[:-1]
    except ValueError:
        return None


def explained_lines(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [found["address"], *(f"  {_block_line(block)}" for block in found["blocks"])]
    exempt = any(_covers(item["address"], found["address"]) for item in found["whitelist"])
    for item in found["blocklists"]:
        verb = "on" if exempt else "dropped by"
        lines.append(f"  {verb} blocklist {item['name']} ({item['target']}) as {item['network']}")
    if not found["blocks"] and (exempt or not found["blocklists"]):
        lines.append("  not blocked")
    for other in found["other_chains"]:
        lines += [f"  in another chain, {other['chain']}: {_block_line(block)}" for block in other["blocks"]]
        lines += [
            f"  in another chain, {other['chain']}: on blocklist {item['name']} ({item['target']}) as {item['network']}"
            for item in other["blocklists"]
        ]
    for item in found["whitelist"]:
        word = "protected by" if item["origin"] == "protected" else f"whitelisted ({item['origin']}) by"
        comment = f" ({quoted(item['comment'])})" if item["comment"] else ""
        lines.append(f"  {word} {item['address']}{comment}: no block stops its packets")
    for item in found["reputation"]:
        if item["state"] == State.PRIVATE.value:
            lines.append("  no provider is asked about a private address")
        else:
            lines.append(f"  {item['provider']}: {item['state']}{_told(item['detail'])}")
    if found["offences"]:
        lines.append(f"  blocked {len(found['offences'])} times that are remembered, last {found['offences'][-1]}")
    for item in found.get("counts") or ():
        values = f" different {quoted(item['distinct'])}" if item["distinct"] else ""
        left = f"{item['left']:.0f} s left"
        if item["forgeable"]:
            left += "; without proof of a handshake, so it would be refused as spoofable"
        lines.append(f"  {item['count']} of {item['threshold']}{values} for {quoted(item['rule'])}, {left}")
    if found.get("counts", ()) is None:
        lines.append("  the rules are not valid, so nobody can tell what is counted; see ngfw check")
    if found["history"]:
        rows = (
            [
                item["ts"],
                shown_action(item["action"], dry_run=bool(item.get("dry_run"))),
                item["ip"],
                item["rule"],
                item["reason"],
                item["sid"] or "-",
                item["msg"] or "",
            ]
            for item in found["history"]
        )
        lines += ["", *table(("TIME", "DECISION", "ADDRESS", "RULE", "REASON", "SID", "MESSAGE"), rows)]
    explained = [item for item in found["history"] if item.get("remedy")]
    remedies = {item["reason"].partition(":")[0]: item["remedy"] for item in explained}
    if remedies:
        lines += ["", *table(("REFUSED AS", "WHAT IT MEANS"), ([word, text] for word, text in remedies.items()))]
    if found["alerts"]:
        rows = ([item["count"], item["last"], item["sid"] or "-", item["msg"]] for item in found["alerts"])
        lines += ["", *table(("ALERTS", "LAST", "SID", "MESSAGE"), rows)]
    return lines


def _block_line(block: dict[str, Any]) -> str:
    return (
        f"{block['action']} by {block['target']} as {block['address']}: rule {quoted(block['rule_name'])}"
        f" [{quoted(block['reason'])}], {_end(block)}, {block['packets']} packets"
    )


def _covers(wide: str, narrow: str) -> bool:
    return parse_network(wide).contains(parse_network(narrow))


def _end(block: dict[str, Any]) -> str:
    left = remaining(block["remaining"])
    return left if block["expires_at"] is None else f"{left} left, until {block['expires_at']}"


def _told(detail: str) -> str:
    return f" ({quoted(detail)})" if detail else ""


def _utc_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _utc(local: str) -> str:
    return _utc_time(datetime.strptime(local, "%Y-%m-%d %H:%M:%S").timestamp())
