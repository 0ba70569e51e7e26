# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a download may be led: URLs of redirects, checked the same for modules and watcher."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urljoin, urlsplit

from .errors import InvalidInput

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)


def redirected(url: str, location: str | None) -> str:
    """Where an answer of `url` leads; raises InvalidInput for what is not followed.

    From https only to https, so that nobody on the way can change what was asked for over TLS.
    """
    target = ""
    with suppress(ValueError):
        target = urljoin(url, location or "")
        parts = urlsplit(target)
    if not location or not target or not parts.hostname or parts.scheme not in ("http", "https"):
        raise InvalidInput("a redirect to no http or https address, which is not followed")
    if parts.scheme == "http" and urlsplit(url).scheme == "https":
        raise InvalidInput("a redirect from https to http, which is not followed")
    return target
