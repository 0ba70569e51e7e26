# SPDX-License-Identifier: GPL-3.0-or-later
"""A list from a URL, fetched only if it is not the one that the kernel holds already.

Conditional requests: RFC 9110, section 13.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from ansible.module_utils.urls import open_url

from ._firewall.address import Key
from ._firewall.errors import FirewallError, InvalidInput, UnsafeFile
from ._firewall.files import make_private_directory, read_bytes, replace
from ._firewall.listformat import MAX_BYTES
from ._firewall.netset import Netset, Refused
from ._firewall.text import masked, masked_url, shown
from ._firewall.weburl import MAX_REDIRECTS, REDIRECTS, redirected

STATE_DIRECTORY = Path("/var/lib/ngfw-blocklists")
"""Written by root alone: whoever could write here could tell root that an old list is still the newest."""

_MAX_STATE_BYTES = 1 << 20
_SECONDS = 30
_OK, _NOT_MODIFIED = 200, 304


class Download:
    """One blocklist's URL; what is remembered of it is in a file of its own under STATE_DIRECTORY.

    `request` is what the list is made with (limits, target): if that changes, the list is fetched anew. `shown` is the
    URL as people may see it.
    """

    def __init__(self, chain: str, name: str, url: str, request: str) -> None:
        self._path = STATE_DIRECTORY / f"{chain}.{name}.json"
        self._url, self.shown = url, masked_url(url)
        self._request = hashlib.sha256(f"{url}\n{request}".encode()).hexdigest()
        self._validators: dict[str, str] = {}
        self._remembered: dict[str, Any] = {}

    def fetch(self, in_force: Mapping[str, set[Key]]) -> bytes | None:
        """The list's text, or None if the server says that it is still the one in force. Raises InvalidInput."""
        if not self._url:
            raise InvalidInput("the url is empty; the old list stays")
        known = self._remembered = self._known(in_force)
        headers = {}
        if known.get("etag"):
            headers["If-None-Match"] = known["etag"]
        if known.get("last_modified"):
            headers["If-Modified-Since"] = known["last_modified"]
        try:
            with _at_most(_SECONDS):
                return self._fetched(headers)
        except HTTPError as error:
            if error.code == _NOT_MODIFIED and headers:
                return None
            answer = f"{error.code} {shown(error.reason)}"
            raise InvalidInput(f"{self.shown} answered {answer}; the old list stays") from None
        except _TimeIsUp:
            raise InvalidInput(f"{self.shown} was not done within {_SECONDS} seconds; the old list stays") from None
        except Exception as error:  # open_url raises whatever the transport does
            text = masked(str(error), self._url)
            raise InvalidInput(f"{self.shown} cannot be fetched: {text}; the old list stays") from None

    def left_out(self, netset: Netset) -> None:
        """Add what was refused of the list in force when it was fetched, where it has not changed since."""
        known = self._remembered
        netset.refused += [Refused(entry, reason) for entry, reason in known.get("refused", ())]
        netset.refusals += known.get("refusals", 0)

    def remember(self, in_force: Mapping[str, set[Key]], netset: Netset) -> None:
        """Keep what the next conditional request needs, now that the list is in force."""
        refused = [(each.entry, each.reason) for each in netset.refused]
        kept = {
            "request": self._request,
            "digest": _digest(in_force),
            "refused": refused,
            "refusals": netset.refusals,
            **self._validators,
        }
        try:
            make_private_directory(self._path.parent)
            replace(self._path, json.dumps(kept).encode("ascii"), 0o600)
        except UnsafeFile as error:
            raise FirewallError(f"the list is in force, but {error}") from None
        except OSError as error:
            raise FirewallError(f"the list is in force, but {self._path} cannot be written: {error.strerror}") from None

    def forget(self) -> None:
        """Remove what is remembered."""
        self._path.unlink(missing_ok=True)

    def _fetched(self, headers: Mapping[str, str]) -> bytes:
        """The body of a complete answer; the validators that came with it are noted."""
        url = self._url
        for _hop in range(MAX_REDIRECTS + 1):
            try:
                # Packed answers are not asked for, so what is counted is what came.
                response = open_url(
                    url,
                    headers=dict(headers),
                    timeout=_SECONDS,
                    http_agent="reflex.ngfw",
                    follow_redirects="none",
                    decompress=False,
                )
            except HTTPError as error:
                if error.code not in REDIRECTS:
                    raise
                url = redirected(url, error.headers.get("Location"))
                continue
            body: bytes = response.read(MAX_BYTES + 1)
            if len(body) > MAX_BYTES:
                raise InvalidInput(f"it is larger than {MAX_BYTES >> 20} MiB")
            missing = getattr(response, "length", 0)  # http.client says nothing where an answer is cut short
            if missing:
                raise InvalidInput(f"{missing} bytes are missing at its end")
            status = response.getcode()  # None for ftp: and file:
            if status not in (None, _OK):
                raise InvalidInput(f"it answered {status} and no whole list")
            self._validators = {
                "etag": response.headers.get("ETag", ""),
                "last_modified": response.headers.get("Last-Modified", ""),
            }
            return body
        raise InvalidInput(f"more than {MAX_REDIRECTS} redirects")

    def _known(self, in_force: Mapping[str, set[Key]]) -> dict[str, Any]:
        """What was remembered, if it is about the list that is in force."""
        try:
            kept = json.loads(read_bytes(self._path, _MAX_STATE_BYTES))
            same = (kept["request"], kept["digest"]) == (self._request, _digest(in_force))
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return kept if same else {}


class _TimeIsUp(BaseException):
    """No `Exception`: libraries go on after those with the next address of a host."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """End what is done inside by _TimeIsUp, wherever it waits: for a connection, a header, a drop of the body."""

    def end(_signal: int, _frame: object) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _digest(in_force: Mapping[str, set[Key]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(in_force):
        digest.update(name.encode() + b"\0")
        digest.update(b"".join(sorted(in_force[name])))
    return digest.hexdigest()
