# SPDX-License-Identifier: GPL-3.0-or-later
"""Text from outside as it may be shown to people: nothing in it is invisible or acts on a terminal, no secret is shown.

Whatever came from a file, a message, the kernel or the network passes one of these functions before it is printed or
written to a log.
"""

from __future__ import annotations

import re

# Printable by Unicode's categories, and yet nobody sees them: fillers, vowel and variation selectors, joiners.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_QUOTES = re.compile(r'["\\]')
_ESCAPED = re.compile(r'\\(?:(["\\])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))')

_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"'<>]+")
_SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.%]*\]|[^:@\[\]]*)(?::[0-9]*)?")
_PARAMETER = re.compile(r"([^=&;]*=|)[^&;]+")
_HIDDEN = "***"


def printable(text: str) -> str:
    """`text` on one line, with everything escaped that a reader would not see as it is (`\\x1b`, `\\u200b`).

    Those are control characters, line ends, what turns the direction of text around, what has no width, tags,
    variation selectors, blanks other than the space, lone surrogates, and what Unicode has not assigned.
    """
    if not text.isascii():
        text = _UNSEEN.sub(lambda match: _escape(match[0]), text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def quoted(text: str) -> str:
    """printable(), with quotes and backslashes escaped as well, so that it can stand in quotes."""
    if '"' in text or "\\" in text:
        text = _QUOTES.sub(r"\\\g<0>", text)
    return printable(text)


def unquoted(text: str) -> str:
    """The text that quoted() made this of."""
    return _ESCAPED.sub(lambda match: match[1] or _character(int(match[2] or match[3] or match[4], 16)), text)


def shown(text: object, most: int = 60) -> str:
    """Foreign text as a message may quote it: without secrets, printable, at most that many characters."""
    plain = printable(masked(str(text)[: 10 * most]))
    return plain if len(plain) <= most else plain[: most - 3] + "..."


def masked(text: str, url: str = "") -> str:
    """`text` with `***` in place of the secrets of every URL in it: user and password, and the values of its query.

    `url` is one whose parts may stand in the text by themselves, as in the errors of libraries.
    """
    if url:
        text = text.replace(url, masked_url(url))
        for part in sorted(_secrets(url), key=len, reverse=True):
            text = text.replace(part, _HIDDEN)
    return _URL.sub(lambda match: masked_url(match[0]), text) if "://" in text else text


def masked_url(url: str) -> str:
    """A URL as people may see it; also for what should have been one and is not."""
    scheme, slashes, rest = url.partition("://") if "://" in url else ("", "", url)
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    user, at, server = authority.rpartition("@")
    if _SERVER.fullmatch(server):
        user, cut = (f"{_HIDDEN}@", len(user) + 1) if at else ("", 0)
    elif "@" in rest[len(authority) :]:  # a password with one of / ? # in it
        user, cut = f"{_HIDDEN}@", rest.rindex("@") + 1
    else:  # no port is one either
        user, cut = _HIDDEN, len(authority)
    path, mark, query = rest[cut:].partition("?")
    query, hash_mark, fragment = query.partition("#")
    query = _PARAMETER.sub(lambda match: match[1] + _HIDDEN, query)
    return f"{scheme}{slashes}{user}{path}{mark}{query}{hash_mark}{fragment}"


def has_secret(text: str) -> bool:
    """Whether there is a URL in the text that is not shown as it is."""
    return masked(text) != text


def _secrets(url: str) -> set[str]:
    """The parts of a URL that are not shown, as long as they are long enough to be found in a text by themselves."""
    _scheme, _slashes, rest = url.partition("://")
    found = set()
    user, at, server = rest.rpartition("@")
    if at:
        found |= {user, *user.split(":", 1)}
    query = (server if at else rest).partition("?")[2].partition("#")[0]
    found |= {query, *(parameter.partition("=")[2] or parameter for parameter in re.split("[&;]", query))}
    return {part for part in found if len(part) >= 4}


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _character(code: int) -> str:
    return chr(code) if code <= 0x10FFFF else "\ufffd"
