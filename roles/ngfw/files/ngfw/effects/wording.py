# SPDX-License-Identifier: GPL-3.0-or-later
"""How a decision reads in the journals: lines of text for people, JSON for SIEMs (docs/interface.md, section 5).

Whatever stands in a message from the network, a line stays one line, and its fields stay where they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ..decisions.decision import MAX_MESSAGE, NO_RECORD, Decision, Outcome, What
from ..firewall.duration import format_duration
from ..firewall.entry import Entry
from ..firewall.text import quoted

_text = json.encoder.encode_basestring_ascii
_DONE = frozenset(("block", "reject", "log", "rate_limit", "extend"))
_VERBS = {"extend": "EXTENDED", "unblock": "UNBLOCKED", "expire": "EXPIRED"}


class Told(NamedTuple):
    """What blocks.log and alerts.json tell of one decision, or of the end of a block.

    `ts` is the event's own time, `at` when it was decided, `expires_at` the block's end (epoch seconds), `of_record`
    and `what` are as Decision has them. `cut_off`: it is about an action that stops packets, so blocks.log tells of it
    too.
    """

    ip: str
    ts: float
    of_record: tuple[object, ...]
    at: float
    action: str
    what: What
    expires_at: float | None
    dry_run: bool
    cut_off: bool

    def refused(self, reason: str) -> Told:
        """The same decision after the kernel did not take it: no block, and the reason why."""
        what = self.what._replace(reason=reason, duration=None)
        return self._replace(action="skip", what=what, expires_at=None, cut_off=False)


def told_of(decision: Decision, *, now: float, dry_run: bool) -> Told:
    """What is told of a decision other than Outcome.ACTIVE, decided at `now` (epoch seconds)."""
    block = decision.block
    return Told(
        decision.ip,
        decision.time,
        decision.of_record,
        now,
        "extend" if decision.outcome is Outcome.EXTENDED else decision.action,
        decision.what,
        now + block.duration if block is not None and block.duration else None,
        dry_run,
        block is not None and block.action.stops_packets and not dry_run,
    )


def told_of_end(action: str, entry: Entry, *, now: float, reason: str | None = None, dry_run: bool = False) -> Told:
    """What is told of the end of a block: `action` is `expire` or `unblock`."""
    block = entry.block
    why = block.reason if reason is None else reason
    what = What(block.direction.value, block.rule_name, why, block.duration, None, None)
    cut_off = block.action.stops_packets and not dry_run
    return Told(str(block.network), now, NO_RECORD, now, action, what, entry.expires_at, dry_run, cut_off)


def local_time(moment: float) -> str:
    """`2025-09-02 11:24:45` in the host's zone."""
    return _local_second(int(moment))


@lru_cache(maxsize=64)
def _local_second(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


def iso_time(moment: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    try:
        whole, milliseconds = divmod(round(moment * 1000), 1000)
        return f"{_iso_second(whole)}.{milliseconds:03d}Z"
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00.000Z"


@lru_cache(maxsize=1024)
def _iso_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def alert_line(decision: Decision, stamp: str) -> str:
    """The line of alert.log for the alert that led to a decision: it names the host, not the network around it."""
    return f"{stamp} ALERT {decision.host or '-'} {_tail(decision.what)}"


def block_line(told: Told) -> str:
    """The line of blocks.log."""
    return f"{local_time(told.at)} {_VERBS.get(told.action, 'BLOCKED')} {told.ip} {_tail(told.what)}"


@lru_cache(maxsize=1024)
def _tail(what: What) -> str:
    return (
        f"(REPUTATION SCORE: {'-' if what.score is None else what.score}) [{quoted(what.reason)}] "
        f'SID={"-" if what.sid is None else what.sid} MSG="{quoted(what.msg or "")}"\n'
    )


def json_line(told: Told) -> str:
    """The line of alerts.json."""
    event_type, src_ip, src_port, dest_ip, dest_port, proto = map(_json, told.of_record)
    return (
        f'{{"ts":"{iso_time(told.ts)}","ip":"{told.ip}",{_often_the_same(told.action, told.what)},'
        f'"expires_at":{_end(told.expires_at)},"event_type":{event_type},"src_ip":{src_ip},"src_port":{src_port},'
        f'"dest_ip":{dest_ip},"dest_port":{dest_port},"proto":{proto},"dry_run":{_json(told.dry_run)}}}\n'
    )


@lru_cache(maxsize=1024)
def _end(expires_at: float | None) -> str:
    return "null" if expires_at is None else f'"{iso_time(expires_at)}"'


@lru_cache(maxsize=1024)
def _often_the_same(action: str, what: What) -> str:
    target, rule, reason, duration, sid, msg, score, sources = what
    return (
        f'"action":"{action}","target":"{target}","rule":{_text(rule)},"reason":{_text(reason)},"score":{_json(score)},'
        f'"sources":{json.dumps(sources) if sources else "[]"},"sid":{_json(sid)},"msg":{_json(msg)},'
        f'"duration":{_json(duration)}'
    )


def _json(value: object) -> str:
    """A text (cut), whole number, truth value or None as JSON."""
    kind = value.__class__
    if kind is str:
        return _text(value[:MAX_MESSAGE])  # type: ignore[index]
    if kind is int:
        return str(value)
    return "null" if value is None else "true" if value else "false"


def shown_action(action: str, *, dry_run: bool) -> str:
    """An action as people are shown it: what a dry run only recorded `would` be done."""
    return f"would {action}" if dry_run and action in _DONE else action


def plain_line(fields: Mapping[str, Any]) -> str:
    """A decision that was not put into effect, as people read it on a screen; `fields` are those of alerts.json."""
    length, sid, msg = "", fields["sid"], fields["msg"]
    if fields["duration"] is not None:
        length = f" for {format_duration(fields['duration'])}" if fields["duration"] else " permanently"
    signature = f" SID={sid}" if sid is not None else ""
    message = f' "{quoted(msg)}"' if msg else ""
    return (
        f"{fields['ts']} {shown_action(fields['action'], dry_run=True):<11} {fields['ip'] or '-'}{length}"
        f" [{quoted(fields['reason'])}] by {quoted(fields['rule'])}{signature}{message}"
    )
