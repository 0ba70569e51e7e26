# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching a list: only if it changed, and only a good one takes the place of what is there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from ..firewall.files import read_bytes, replace
from ..firewall.listformat import MAX_BYTES
from .ranges import Ranges
from .web import Web, WebError, describe_status

_MAX_VALIDATORS = 1 << 16
_TIMEOUT = 20.0
_WITHIN = 30.0


class DownloadError(Exception):
    """The download was not taken; what was in force stays. The text says why."""


class Validators(NamedTuple):
    """What a server said about the file that is there, and when it was last asked (epoch seconds)."""

    source: str = ""
    """fingerprint() of the URL, which may hold a secret."""
    etag: str | None = None
    last_modified: str | None = None
    checked_at: float = 0.0
    file: tuple[int, ...] = ()


def signature(path: Path) -> tuple[int, ...]:
    """What changes when a file does; empty if it cannot be looked at."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def fingerprint(url: str) -> str:
    """What tells a URL from others without its secrets."""
    return hashlib.sha256(url.encode()).hexdigest()


def read_validators(path: Path) -> Validators:
    """The validators kept beside the list at `path`; empty ones if there are none that can be used."""
    try:
        fields = json.loads(read_bytes(_beside(path), _MAX_VALIDATORS))
        return Validators(
            str(fields["source"]),
            _text(fields["etag"]),
            _text(fields["last_modified"]),
            float(fields["checked_at"]),
            tuple(int(number) for number in fields["file"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Validators()


def fetch(web: Web, url: str, path: Path, *, now: float, read: Callable[[Path], Ranges]) -> Ranges | None:
    """Fetch a list into `path`; None if it is unchanged.

    `read` makes ranges of a file, raising ValueError if it is no list to take. Raises DownloadError.
    """
    known = read_validators(path)
    valid = known.source == fingerprint(url) and known.file != () and known.file == signature(path)
    headers = {}
    if valid and known.etag:
        headers["If-None-Match"] = known.etag
    if valid and known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    fresh = path.with_name(path.name + ".new")
    try:
        with open(fresh, "wb", opener=_private) as file:
            reply = web.get(
                url, headers=headers, timeout=_TIMEOUT, most=MAX_BYTES, follow=True, sink=file.write, within=_WITHIN
            )
        if reply.status == HTTPStatus.NOT_MODIFIED and headers:
            _write_validators(path, known._replace(checked_at=now))
            return None
        if reply.status != HTTPStatus.OK:
            raise DownloadError(describe_status(reply.status))
        try:
            ranges = read(fresh)
        except ValueError as error:
            raise DownloadError(str(error)) from None
        os.replace(fresh, path)
        validators = Validators(
            fingerprint(url), reply.header("ETag"), reply.header("Last-Modified"), now, signature(path)
        )
        _write_validators(path, validators)
    except WebError as error:
        raise DownloadError(str(error)) from None
    except OSError as error:
        raise DownloadError(f"cannot write {path} ({error.strerror}); let the watcher's user write there") from None
    finally:
        with suppress(OSError):
            os.unlink(fresh)
    return ranges


def _write_validators(path: Path, validators: Validators) -> None:
    replace(_beside(path), json.dumps(validators._asdict()).encode("ascii"))


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".http")


def _private(path: str, flags: int) -> int:
    with suppress(FileNotFoundError):  # whatever lies there: only that name of it goes
        os.unlink(path)
    return os.open(path, flags | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
