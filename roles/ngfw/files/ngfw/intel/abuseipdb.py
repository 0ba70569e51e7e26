# SPDX-License-Identifier: GPL-3.0-or-later
"""AbuseIPDB's `check` (APIv2, https://docs.abuseipdb.com/#check-endpoint): one address, one answer, one text.

The key goes to the configured address and nowhere else: a redirect is an error.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from .. import VERSION
from ..firewall.address import Network, parse_host
from ..firewall.errors import AddressError
from ..firewall.files import read_bytes
from ..settings.config import AbuseIPDB
from .budget import Budget, subject
from .verdict import State, Verdict, rated
from .web import Reply, Web, WebError, describe_status, is_redirect, retry_after

NAME = "abuseipdb"
MAX_AGE_DAYS = 90
"""Reports older than this do not count for the score."""

MAX_BODY = 65536
MAX_PAUSE = 86400.0

_KEY = re.compile(r"[!-~]{1,256}")
_NO_KEY_PAUSE = 30.0
_BAD_KEY_PAUSE = 300.0
_LIMIT_PAUSE = 60.0


class Result(NamedTuple):
    """What a request came to.

    `pause`: no address needs to be asked for these seconds. `sent`: it counts as used. `again`: the server closed a
    connection that was kept open, probably before it saw the request: one more try is safe (RFC 9110, 9.2.2).
    `outage`: the next address would probably fare no better.
    """

    state: State
    score: int | None = None
    detail: str = ""
    pause: float = 0.0
    sent: bool = True
    again: bool = False
    outage: bool = False


class Client:
    """Asks about one address at a time; check() blocks, so it belongs into a thread beside the loop."""

    def __init__(self, settings: AbuseIPDB, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._web = Web(f"reflex.ngfw/{VERSION}")

    def check(self, address: Network, key: str) -> Result:
        """Ask about a public host. Never raises."""
        settings = self._settings
        headers = {"Key": key, "Accept": "application/json"}
        params = {"ipAddress": str(address), "maxAgeInDays": str(MAX_AGE_DAYS)}
        try:
            reply = self._web.get(
                settings.url,
                headers=headers,
                params=params,
                timeout=settings.timeout,
                most=MAX_BODY,
                within=longest(settings),
            )
            return self._understand(reply, address)
        except WebError as error:
            return Result(State.ERROR, None, str(error), sent=error.sent, again=error.stale, outage=True)
        except Exception as error:  # whatever a library does with what a server sends, the thread goes on
            return Result(State.ERROR, None, f"an error of this program, {type(error).__name__}")

    def prepare(self) -> None:
        """Import what requests need, so that the first of them is not late for it."""
        self._web.prepare()

    def _understand(self, reply: Reply, address: Network) -> Result:
        status = reply.status
        if is_redirect(status):
            return Result(State.ERROR, None, f"redirect: {describe_status(status)}, which is not followed")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            wanted = retry_after(reply, self._clock())
            pause = _LIMIT_PAUSE if wanted is None else min(max(wanted, 1.0), MAX_PAUSE)
            return Result(State.OVER_BUDGET, None, f"{describe_status(status)}: again in {pause:.0f} s", pause)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            detail = f"{describe_status(status)}: the key in {self._settings.key_file} was not accepted"
            return Result(State.ERROR, None, detail, _BAD_KEY_PAUSE)
        if status != HTTPStatus.OK:
            outage = status >= HTTPStatus.INTERNAL_SERVER_ERROR
            return Result(State.ERROR, None, describe_status(status), outage=outage)
        return _score(reply.body, address)


class Direct:
    """Asks and waits, once for each address and as often as the budget of a minute allows; for a replay."""

    def __init__(self, settings: AbuseIPDB, threshold: int, *, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._threshold, self._clock = settings, threshold, clock
        self._client = Client(settings, clock=clock)
        self._budget = Budget(settings.per_minute, settings.per_day)
        self._verdicts: dict[Network, Verdict] = {}

    def verdict(self, address: Network) -> Verdict:
        """The provider's word on a public host; never raises."""
        about = subject(address)
        known = self._verdicts.get(about)
        if known is None:
            known = self._verdicts[about] = self._ask(address)
        return known

    def _ask(self, address: Network) -> Verdict:
        now = self._clock()
        key = read_key(self._settings)
        if isinstance(key, Result):
            return Verdict(NAME, key.state, None, key.detail, now)
        if self._budget.wait(now) or self._budget.share_wait(address, now):
            return Verdict(NAME, State.UNKNOWN, None, "the budget is used up", now)
        self._budget.spend(address, now)
        result = self._client.check(address, key)
        if result.score is None:
            state = State.ERROR if result.state is State.OVER_BUDGET else result.state
            return Verdict(NAME, state, None, result.detail, now)
        return rated(NAME, result.score, self._threshold, now)


def longest(settings: AbuseIPDB) -> float:
    """After how many seconds a request is given up, however slowly its answer drips."""
    return 3 * settings.timeout


def read_key(settings: AbuseIPDB) -> str | Result:
    """The API key, or why nothing can be asked without one."""
    path = settings.key_file
    if not settings.per_minute or not settings.per_day:
        return Result(State.UNKNOWN, None, "switched off by a budget of 0", _NO_KEY_PAUSE, sent=False)
    try:
        key = read_bytes(Path(path), 1024, follow=True).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return Result(State.UNKNOWN, None, f"no key: {path} is not there", _NO_KEY_PAUSE, sent=False)
    except OSError as error:
        return Result(State.UNKNOWN, None, f"no key: cannot read {path} ({error.strerror})", _NO_KEY_PAUSE, sent=False)
    if not _KEY.fullmatch(key):
        return Result(State.UNKNOWN, None, f"no key: {path} does not hold one", _NO_KEY_PAUSE, sent=False)
    return key


def _score(body: bytes, address: Network) -> Result:
    if body.lstrip()[:1] == b"<":
        return Result(State.ERROR, None, "HTML instead of JSON")
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        return Result(State.ERROR, None, "bad JSON")
    data = data.get("data") if isinstance(data, dict) else None
    if not isinstance(data, dict) or "abuseConfidenceScore" not in data:
        return Result(State.ERROR, None, "no score in the answer")
    score = data["abuseConfidenceScore"]
    if not isinstance(score, int) or isinstance(score, bool) or not 0 <= score <= 100:
        return Result(State.ERROR, None, "the score is not a number from 0 to 100")
    if not _is_about(data.get("ipAddress"), address):
        return Result(State.ERROR, None, "the answer is about another address")
    return Result(State.CLEAN, score)


def _is_about(text: object, address: Network) -> bool:
    if text is None:
        return True
    try:
        return isinstance(text, str) and parse_host(text) == address
    except AddressError:
        return False
