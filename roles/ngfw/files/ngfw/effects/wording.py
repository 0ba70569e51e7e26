# SPDX-License-Identifier: GPL-3.0-or-later
"""How a decision reads in the journals: lines of text for people, JSON for SIEMs (CONTRACT.md section 5).

Whatever stands in a message from the network, a line stays one line, and its fields stay where they are.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ..decisions.decision import MAX_MESSAGE, Decision, Outcome, What
from ..firewall.duration import format_duration
from ..firewall.entry import Action, Block, Entry

# Controls, quotes, line and paragraph separators, lone surrogates, and what turns the direction of text around.
_text = json.encoder.encode_basestring_ascii
_UNSAFE = re.compile('[\x00-\x1f"\\\\\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')

_ESCAPED = re.compile(r'\\(?:(["\\])|x([0-9a-f]{2})|u([0-9a-f]{4}))')


_OF_RECORD = ("event_type", "src_ip", "src_port", "dest_ip", "dest_port", "proto")


class Lines(NamedTuple):
    """What one decision adds to blocks.log (may be empty) and to alerts.json."""

    text: str
    record: str


def quoted(text: str) -> str:
    """`text` with everything escaped that could end its line, its quotes, or mislead a reader."""
    return _UNSAFE.sub(_escape, text)


def unquoted(text: str) -> str:
    """The text that quoted() made this of."""
    return _ESCAPED.sub(lambda match: match[1] or chr(int(match[2] or match[3], 16)), text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if character in '"\\':
        return "\\" + character
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def local_time(moment: float) -> str:
    """`2025-09-02 11:24:45` in the host's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


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
    ip = decision.ip
    if "/" in ip:
        ip = decision.record.get("offender") or ip
    return f"{stamp} ALERT {ip or '-'} {_tail(decision.what)}"


@lru_cache(maxsize=1024)
def _tail(what: What) -> str:
    _target, _rule, reason, _duration, sid, msg, score, _sources = what
    return (
        f"(REPUTATION SCORE: {'-' if score is None else score}) [{quoted(reason)}] "
        f'SID={"-" if sid is None else sid} MSG="{quoted(msg or "")}"\n'
    )


def _json_line(
    moment: float,
    action: str,
    ip: str,
    what: What,
    expires_at: float | None,
    dry_run: bool,
    record: Mapping[str, Any],
) -> str:
    """One line of alerts.json; `record` is the EVE record that led to it, empty if none did."""
    event_type, src_ip, src_port, dest_ip, dest_port, proto = map(_json, map(record.get, _OF_RECORD))
    return (
        f'{{"ts":"{iso_time(moment)}","ip":"{ip}",{_often_the_same(action, what)},"expires_at":{_end(expires_at)},'
        f'"event_type":{event_type},"src_ip":{src_ip},"src_port":{src_port},"dest_ip":{dest_ip},'
        f'"dest_port":{dest_port},"proto":{proto},"dry_run":{"true" if dry_run else "false"}}}\n'
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
    """A text (cut), whole number or truth value as JSON; null for anything else that a record may hold."""
    kind = value.__class__
    if kind is str:
        return _text(value[:MAX_MESSAGE])  # type: ignore[index]
    if kind is int:
        return str(value)
    return "null" if kind is not bool else "true" if value else "false"


def decision_lines(decision: Decision, *, now: float, stamp: str, dry_run: bool) -> Lines:
    """What a decision other than Outcome.ACTIVE leaves in the journal, decided at `now` (epoch seconds)."""
    block = decision.block
    what, ip = decision.what, decision.ip
    action, verb = ("extend", "EXTENDED") if decision.outcome is Outcome.EXTENDED else (decision.action, "BLOCKED")
    text = ""
    if block is not None and is_cut_off(block) and not dry_run:
        text = f"{stamp} {verb} {ip} {_tail(what)}"
    ends = now + block.duration if block is not None and block.duration else None
    return Lines(text, _json_line(decision.time, action, ip, what, ends, dry_run, decision.record))


def plain_line(fields: Mapping[str, Any]) -> str:
    """A decision as people read it on a screen; `fields` are those of alerts.json."""
    length, sid, msg = "", fields["sid"], fields["msg"]
    if fields["duration"] is not None:
        length = f" for {format_duration(fields['duration'])}" if fields["duration"] else " for ever"
    signature = f" SID={sid}" if sid is not None else ""
    message = f' "{quoted(msg)}"' if msg else ""
    return (
        f"{fields['ts']} {fields['action']:<10} {fields['ip'] or '-'}{length}"
        f" [{quoted(fields['reason'])}] by {quoted(fields['rule'])}{signature}{message}"
    )


def refused_lines(lines: Lines, reason: str) -> Lines:
    """The same decision after the kernel did not take it: no block, and the reason why."""
    fields = json.loads(lines.record)
    fields.update(action="skip", reason=reason, duration=None, expires_at=None)
    return Lines("", json.dumps(fields, separators=(",", ":")) + "\n")


def ending_lines(action: str, entry: Entry, *, now: float, reason: str | None = None, dry_run: bool = False) -> Lines:
    """What the end of a block leaves: `action` is `expire` or `unblock`."""
    block = entry.block
    why = block.reason if reason is None else reason
    verb = "EXPIRED" if action == "expire" else "UNBLOCKED"
    what = (block.direction.value, block.rule_name, why, block.duration, None, None, None, ())
    text = f"{local_time(now)} {verb} {block.network} {_tail(what)}"
    record = _json_line(now, action, str(block.network), what, entry.expires_at, dry_run, {})
    return Lines(text if is_cut_off(block) and not dry_run else "", record)


def is_cut_off(block: Block) -> bool:
    """Whether the action stops packets: only such blocks are lines of blocks.log."""
    return block.action in (Action.DROP, Action.REJECT)
