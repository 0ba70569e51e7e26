# SPDX-License-Identifier: GPL-3.0-or-later
"""The four log files of CONTRACT.md section 5: alert.log, blocks.log, daemon.log for people, alerts.json for SIEMs.

Whatever stands in a message from the network, a line stays one line, and its fields stay where they are.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from .firewall.entry import Action, Block, Entry
from .policy import MAX_MESSAGE, Decision, Outcome

ALERT_LOG = "alert.log"
BLOCKS_LOG = "blocks.log"
DAEMON_LOG = "daemon.log"
ALERTS_JSON = "alerts.json"
DECISION_LOGS = (ALERT_LOG, BLOCKS_LOG, ALERTS_JSON)
"""The files that a batch of decisions is written to; daemon.log stands beside them."""

MAX_HELD_BYTES = 4 << 20
"""What is kept of each file while it cannot be written."""

# Controls, quotes, line and paragraph separators, lone surrogates, and what turns the direction of text around.
_NO_RECORD: Mapping[str, Any] = {}
_text = json.encoder.encode_basestring_ascii
_UNSAFE = re.compile('[\x00-\x1f"\\\\\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')


class Mark(NamedTuple):
    """Where a file ends: its inode and its size in bytes."""

    inode: int
    size: int


class Lines(NamedTuple):
    """What one decision adds to blocks.log (may be empty) and to alerts.json."""

    text: str
    record: str


def quoted(text: str) -> str:
    """`text` with everything escaped that could end its line, its quotes, or mislead a reader."""
    return _UNSAFE.sub(_escape, text)


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
    wide = decision.block is not None and not decision.block.network.is_host
    return text_line("ALERT", decision, stamp, decision.record.get("offender") if wide else None)


def text_line(verb: str, decision: Decision, stamp: str, ip: str | None = None) -> str:
    """One line of alert.log or blocks.log; `stamp` is the decision's local time, `ip` stands in for the decision's."""
    tail = _tail(decision.score, decision.reason, decision.sid, decision.msg)
    return f"{stamp} {verb} {ip or decision.ip or '-'} {tail}"


@lru_cache(maxsize=1024)
def _tail(score: int | None, reason: str, sid: int | None, msg: str | None) -> str:
    return (
        f"(REPUTATION SCORE: {'-' if score is None else score}) [{quoted(reason)}] "
        f'SID={"-" if sid is None else sid} MSG="{quoted(msg or "")}"\n'
    )


def json_line(
    *,
    moment: float,
    action: str,
    ip: str,
    target: str,
    rule: str,
    reason: str,
    duration: int | None,
    expires_at: float | None,
    dry_run: bool,
    sid: int | None = None,
    msg: str | None = None,
    score: int | None = None,
    sources: Sequence[str] = (),
    record: Mapping[str, Any] = _NO_RECORD,
) -> str:
    """One line of alerts.json; `record` is the EVE record that led to it, if one did."""
    get = record.get
    ends = "null" if expires_at is None else f'"{iso_time(expires_at)}"'
    return (
        f'{{"ts":"{iso_time(moment)}","ip":"{ip}","action":"{action}","target":"{target}",{_reasons(rule, reason)},'
        f'"score":{_json(score)},"sources":{json.dumps(sources) if sources else "[]"},"sid":{_json(sid)},'
        f'"msg":{_json(msg)},"duration":{_json(duration)},"expires_at":{ends},"event_type":{_json(get("event_type"))},'
        f'"src_ip":{_json(get("src_ip"))},"src_port":{_json(get("src_port"))},"dest_ip":{_json(get("dest_ip"))},'
        f'"dest_port":{_json(get("dest_port"))},"proto":{_json(get("proto"))},"dry_run":{_json(dry_run)}}}\n'
    )


@lru_cache(maxsize=1024)
def _reasons(rule: str, reason: str) -> str:
    return f'"rule":{_text(rule)},"reason":{_text(reason)}'


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
    extends = decision.outcome is Outcome.EXTENDED
    text = ""
    if block is not None and is_cut_off(block) and not dry_run:
        text = text_line("EXTENDED" if extends else "BLOCKED", decision, stamp)
    record = json_line(
        moment=decision.time,
        action="extend" if extends else decision.action,
        ip=decision.ip,
        target=decision.target,
        rule=decision.rule,
        reason=decision.reason,
        duration=decision.duration,
        expires_at=now + block.duration if block is not None and block.duration else None,
        dry_run=dry_run,
        sid=decision.sid,
        msg=decision.msg,
        score=decision.score,
        sources=decision.sources,
        record=decision.record,
    )
    return Lines(text, record)


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
    text = f'{local_time(now)} {verb} {block.network} (REPUTATION SCORE: -) [{quoted(why)}] SID=- MSG=""\n'
    record = json_line(
        moment=now,
        action=action,
        ip=str(block.network),
        target=block.direction.value,
        rule=block.rule_name,
        reason=why,
        duration=block.duration,
        expires_at=entry.expires_at,
        dry_run=dry_run,
    )
    return Lines(text if is_cut_off(block) and not dry_run else "", record)


def is_cut_off(block: Block) -> bool:
    """Whether the action stops packets: only such blocks are lines of blocks.log."""
    return block.action in (Action.DROP, Action.REJECT)


def encoded(text: str) -> bytes:
    """The bytes of a log's text; never raises, for whatever was in a message."""
    return text.encode("utf-8", "backslashreplace")


def found(wanted: bytes, present: bytes) -> int:
    """How many of the lines `wanted` stand in `present`, where they were written in order, others between them."""
    lines = _lines(wanted)
    count = 0
    for line in _lines(present):
        if count < len(lines) and line == lines[count]:
            count += 1
    return count


def missing(wanted: bytes, present: bytes) -> bytes:
    """What of the lines `wanted` does not stand in `present`; a last line of it that was cut off is completed."""
    lines = _lines(wanted)
    count = found(wanted, present)
    fragment = present[present.rfind(b"\n") + 1 :]
    if not fragment:
        return b"".join(lines[count:])
    if count < len(lines) and lines[count].startswith(fragment):
        return b"".join(lines[count:])[len(fragment) :]
    return b"\n" + b"".join(lines[count:])


def _lines(data: bytes) -> list[bytes]:
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _siblings(path: Path) -> list[Path]:
    try:
        return sorted(path.parent.glob(f"{path.name}*"))
    except OSError:
        return []


class _LogFile:
    """One file that is appended to with whole lines; what cannot be written is held and tried again."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        self.path = path
        self._complain = complain
        self._descriptor = -1
        self._held = b""
        self._lost = 0
        self._failing = False

    def reopen(self) -> None:
        self.close()
        self.append(b"")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def append(self, data: bytes) -> None:
        data = self._held + data
        try:
            if self._descriptor < 0:
                self._descriptor = open_log(self.path)
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self._keep(data)
            if not self._failing:
                self._failing = True
                self._complain(f"cannot write {self.path}: {error.strerror}; {_remedy(error)}; blocking goes on")
            return
        self._held = b""
        if self._failing:
            self._failing = False
            missing = f"; {self._lost} bytes were dropped" if self._lost else ""
            self._lost = 0
            self._complain(f"{self.path} is written again{missing}")

    def mark(self) -> Mark | None:
        """The end of the file, None while it cannot be written."""
        if self._descriptor < 0 or self._held:
            self.append(b"")
        if self._descriptor < 0 or self._held:
            return None
        status = os.fstat(self._descriptor)
        return Mark(status.st_ino, status.st_size)

    def _keep(self, data: bytes) -> None:
        if len(data) > MAX_HELD_BYTES:
            kept = data.rfind(b"\n", 0, MAX_HELD_BYTES) + 1
            self._lost += len(data) - kept
            data = data[:kept]
        self._held = data


def open_log(path: Path) -> int:
    """A descriptor that appends to `path`, made with mode 0640 if it is not there. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o640)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return os.open(path, flags, 0o640)


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on that file system"
    return "let the watcher's user write there"


class Journal:
    """The files of one log directory. No method raises for a log that cannot be written."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float] = time.time,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        """`echo` is given every message of daemon.log as well; by default it goes to standard error."""
        self._clock = clock
        self._echo = echo or _to_stderr
        self._files = {name: _LogFile(directory / name, self._log_problem) for name in DECISION_LOGS}
        self._daemon = _LogFile(directory / DAEMON_LOG, self._echo)

    def say(self, text: str, *, level: str = "INFO") -> None:
        """One line of daemon.log, and to standard error."""
        line = quoted(text)
        self._echo(line)
        stamp = local_time(self._clock())
        self._daemon.append(f"{stamp} {level} {line}\n".encode())

    def marks(self) -> dict[str, Mark | None]:
        """Where the files of decisions end now."""
        return {name: file.mark() for name, file in self._files.items()}

    def append(self, texts: Mapping[str, str]) -> None:
        """Add whole lines to the files named."""
        for name, text in texts.items():
            self.append_bytes(name, encoded(text))

    def add_lines(self, lines: Lines) -> None:
        """Add one decision's lines at once, outside of any batch."""
        self.append({BLOCKS_LOG: lines.text, ALERTS_JSON: lines.record})

    def append_bytes(self, name: str, data: bytes) -> None:
        """Add bytes that end a line to one file."""
        if data:
            self._files[name].append(data)

    def mark(self, name: str) -> Mark | None:
        """Where one file ends now; None while it cannot be written."""
        return self._files[name].mark()

    def since(self, name: str, mark: Mark | None) -> tuple[bytes, bool]:
        """What was added to a file after `mark`, and whether it is still the file of that name (and not rotated or lost)."""
        path = self._files[name].path
        if mark is None:
            return b"", False
        for candidate in (path, *_siblings(path)):
            try:
                with candidate.open("rb") as stream:
                    status = os.fstat(stream.fileno())
                    if status.st_ino == mark.inode and status.st_size >= mark.size:
                        stream.seek(mark.size)
                        return stream.read(), candidate == path
            except OSError:
                continue
        return b"", False

    def reopen(self) -> None:
        """Open all files anew, as after a rotation."""
        for file in (*self._files.values(), self._daemon):
            file.reopen()

    def close(self) -> None:
        for file in (*self._files.values(), self._daemon):
            file.append(b"")
            file.close()

    def _log_problem(self, text: str) -> None:
        self.say(text, level="ERROR")


def _to_stderr(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads it: the files are the record
        print(text, file=sys.stderr, flush=True)
