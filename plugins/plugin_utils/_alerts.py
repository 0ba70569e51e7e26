# SPDX-License-Identifier: GPL-3.0-or-later
"""Alerts of Suricata's logs as short records. The watcher's own decoders read the lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import tzinfo
from functools import partial
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.reflex.ngfw.plugins.plugin_utils._inputs import FilterTypeError, shown
from ansible_collections.reflex.ngfw.roles.ngfw.files.ngfw.events import eve, fastlog
from ansible_collections.reflex.ngfw.roles.ngfw.files.ngfw.events.event import Event, LineError

Alert = dict[str, Any]


def eve_alerts(text: object) -> list[Alert]:
    """The alerts in a text of EVE lines; what other events it holds is left out."""
    return _alerts(text, "EVE", _decode_eve, "for lines of fast.log use reflex.ngfw.fastlog_alerts")


def fastlog_alerts(text: object, zone: tzinfo | None) -> list[Alert]:
    """The alerts in a text of fast.log lines, whose times are of `zone`; None is the controller's own."""
    decode = partial(fastlog.decode, zone=zone)
    return _alerts(text, "fast.log", decode, "for lines of eve.json use reflex.ngfw.eve_alerts")


def _decode_eve(line: bytes) -> Event | None:
    """The event of a line, or None if it is surely none that counts: looking is cheaper than parsing."""
    return eve.decode(line) if eve.event_type_of(line) in (None, b"alert") else None


def _alerts(text: object, name: str, decode: Callable[[bytes], Event | None], hint: str) -> list[Alert]:
    if not isinstance(text, str):
        hint = "join its lines with join('\\n')" if isinstance(text, (list, tuple)) else "give it the log's content"
        raise FilterTypeError(f"{shown(text)} is not the text of a log; {hint}")
    found: list[Alert] = []
    lines, bad, first = 0, 0, ""
    for number, line in _lines(text):
        lines += 1
        try:
            event = decode(line)
        except LineError as error:
            bad += 1
            first = first or f"line {number}: {error.text}"
            continue
        if event is not None and event.type == "alert":
            found.append(_alert(event))
    if bad and bad == lines:
        raise AnsibleFilterError(f"none of {lines} lines is a line of {name}, {first}; {hint}")
    if bad:
        Display().warning(f"{bad} of {lines} lines are not lines of {name} and were left out, the first is {first}")
    return found


def _lines(text: str) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers; what was not UTF-8 in the file is not UTF-8 again."""
    for number, line in enumerate(text.encode("utf-8", "surrogatepass").split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _alert(event: Event) -> Alert:
    """An alert in short. Its texts come from the network, so ansible-core must never take them for templates."""
    record, alert = event.record, event.record.get("alert")
    detail = alert if isinstance(alert, dict) else {}
    short: Alert = wrap_var(
        {
            "ts": None if event.time is None else iso_time(event.time),
            "src_ip": record.get("src_ip"),
            "dest_ip": record.get("dest_ip"),
            "proto": record.get("proto"),
            "sid": detail.get("signature_id"),
            "msg": detail.get("signature"),
            "severity": detail.get("severity"),
            "category": detail.get("category"),
        }
    )
    return short


def iso_time(moment: float) -> str | None:
    """ISO 8601 in UTC with milliseconds, as in alerts.json; None for a time beyond the calendar."""
    whole, milliseconds = divmod(round(moment * 1000), 1000)
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"
    except (ValueError, OverflowError, OSError):
        return None
