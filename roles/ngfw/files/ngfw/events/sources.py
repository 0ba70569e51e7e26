# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configured log is: whether it is there, is a file that can be read, and holds lines of the format named."""

from __future__ import annotations

import difflib
import errno
import os
import pwd
import re
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from glob import glob, has_magic
from typing import NamedTuple

from . import eve, fastlog
from .event import LineError
from .logfile import MAX_LINE
from .packed import ENDINGS

COMPRESSED = (*ENDINGS, ".lz4", ".lzo", ".zip", ".Z")
"""Endings of packed files, which a glob of logs does not mean."""

USER = "ngfw"
"""Whom the watcher runs as where the role has installed it."""

NAMES = {"eve": "EVE", "fast": "fast.log"}

_SURICATA_CONFIG = "/etc/suricata/suricata.yaml"
_LOG_DIRECTORY = re.compile(r"^default-log-dir:\s*[\"']?(/[^\s\"'#]+)", re.MULTILINE)
_TAIL = 64 << 10
_ENOUGH = 20
_FILES = 64
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Examined(NamedTuple):
    """`files` are those that the path leads to, `problem` what is wrong and what to do about it, "" if nothing is."""

    path: str
    format: str
    files: tuple[str, ...]
    problem: str

    @property
    def exists(self) -> bool:
        return bool(self.files)


def matching(pattern: str) -> list[str]:
    """The files that a glob of logs leads to, packed ones left out."""
    return sorted(path for path in glob(pattern) if not path.endswith(COMPRESSED))


def examine(path: str, log_format: str, may_read: Callable[[str], bool] | None = None) -> Examined:
    """Look at a source, a path or a glob; never waits, whatever lies there.

    `may_read` tells whether the watcher may, where it is somebody else who asks.
    """
    if not has_magic(path):
        problem = _problem(path, log_format, may_read)
        return Examined(path, log_format, (path,) if os.path.exists(path) else (), problem)
    files = matching(path)
    if not files:
        return Examined(path, log_format, (), f"matches no file yet{_suggestion(path)}")
    for file in files[-_FILES:]:
        problem = _problem(file, log_format, may_read)
        if problem:
            return Examined(path, log_format, tuple(files), f"{file} {problem}")
    return Examined(path, log_format, tuple(files), "")


def reader_for(user: str) -> Callable[[str], bool] | None:
    """Whether a file can be read by the watcher's user, asked as root; None where nobody else is meant."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return None
    return partial(_can_read, account) if os.geteuid() == 0 else None


def _can_read(account: pwd.struct_passwd, path: str) -> bool:
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    command = ["test", "-r", path]
    done = subprocess.run(command, user=account.pw_uid, group=account.pw_gid, extra_groups=groups, check=False)
    return done.returncode == 0


def _problem(path: str, log_format: str, may_read: Callable[[str], bool] | None) -> str:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "no file")
            return f"is {kind}; name a regular file that Suricata writes"
        if may_read is not None and not may_read(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        lines = last_lines(path)[-_ENOUGH:]
    except (FileNotFoundError, NotADirectoryError):
        return f"does not exist{_suggestion(path)}"
    except PermissionError:
        return "cannot be read by the watcher; let its user ngfw read the file and enter each directory above it"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return _other_format(lines, log_format)


def last_lines(path: str) -> list[bytes]:
    """The last lines of a regular file, as far as 64 KiB hold; of one without a newline what is there of its first.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        size = os.fstat(descriptor).st_size
        start = max(0, size - _TAIL)
        lines = os.pread(descriptor, _TAIL, start).split(b"\n")
    finally:
        os.close(descriptor)
    lines = lines[1:] if start else lines
    return [line for line in (lines[:-1] or lines) if line.strip(b"\0\r \t")]


def _other_format(lines: list[bytes], log_format: str) -> str:
    if not lines or any(_is_of(log_format, line) for line in lines):
        return ""
    other = "fast" if log_format == "eve" else "eve"
    if any(_is_of(other, line) for line in lines):
        return (
            f"holds lines of {NAMES[other]}, not of {NAMES[log_format]}; write 'format: {other}' or name another file"
        )
    return f"holds no lines of {NAMES[log_format]}; name the log that Suricata writes in this format"


def _is_of(log_format: str, line: bytes) -> bool:
    try:
        (fastlog if log_format == "fast" else eve).decode(line)
    except LineError as error:
        # Of a writer that has just begun; of an alert of fast.log whose addresses cannot be read.
        begins = line[:1] == b"{" and b'"timestamp"' in line[:64]
        return error.kind == "address" or (log_format == "eve" and begins)
    return True


def _suggestion(path: str) -> str:
    """The end of a sentence: where the log may be instead."""
    directory, name = os.path.split(path)
    there = {each: os.path.join(where, each) for where in (_log_directory(), directory) for each in _names(where)}
    close = [name] if name in there else difflib.get_close_matches(name, there, n=1, cutoff=0.7)
    if close:
        return f"; did you mean {there[close[0]]}?"
    if not has_magic(directory) and not os.path.isdir(directory):
        return f", nor does {directory}; name the log that Suricata writes"
    return "; name the log that Suricata writes, and see that Suricata runs"


def _log_directory() -> str:
    """Where Suricata writes by its own configuration, as far as this may be read."""
    try:
        with open(_SURICATA_CONFIG, encoding="utf-8", errors="replace") as file:
            found = _LOG_DIRECTORY.search(file.read(MAX_LINE))
    except OSError:
        found = None
    return found[1].rstrip("/") if found else "/var/log/suricata"


def _names(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [each.name for each in entries if each.is_file() and not each.name.endswith(COMPRESSED)][:1000]
    except OSError:
        return []
