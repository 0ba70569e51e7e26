# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import unicodedata

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.text import (
    has_secret,
    masked,
    masked_url,
    printable,
    quoted,
    shown,
    unquoted,
)
from hypothesis import given
from hypothesis import strategies as st

UNSEEN = {
    "escape": "\x1b[2J",
    "newline": "\n",
    "carriage return": "\r",
    "delete": "\x7f",
    "CSI in one byte": "\x9b31m",
    "line separator": "\u2028",
    "right to left override": "\u202e",
    "isolate": "\u2066",
    "zero width space": "\u200b",
    "zero width joiner": "\u200d",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "no-break space": "\u00a0",
    "ideographic space": "\u3000",
    "Hangul filler": "\u3164",
    "braille blank": "\u2800",
    "grapheme joiner": "\u034f",
    "variation selector": "\ufe0f",
    "supplementary variation selector": "\U000e0101",
    "tag": "\U000e0041",
    "lone surrogate": "\udc80",
    "unassigned": "\u0378",
    "private use": "\ue000",
}


@pytest.mark.feature("S12", "E1")
@pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN.keys())
def test_what_nobody_would_see_is_escaped(text: str) -> None:
    for escape in (printable, quoted, shown):
        escaped = escape(f"a{text}b")
        assert escaped.startswith(("a\\x", "a\\u", "a\\U"))
        assert escaped.isascii()


@pytest.mark.feature("S12")
@pytest.mark.parametrize("text", ["", "plain", "Zugriff verweigert: größer", "中文", "\U0001f600", "e\u0301", "a b"])
def test_what_can_be_read_stays(text: str) -> None:
    assert printable(text) == quoted(text) == shown(text) == text


@pytest.mark.feature("S12", "E1")
@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_one_line_without_anything_unseen_and_nothing_is_lost(text: str) -> None:
    escaped = quoted(text)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in escaped)
    assert escaped.splitlines() in ([escaped], [])
    assert unquoted(escaped) == text
    assert printable(escaped) == escaped
    assert '"' not in escaped.replace('\\"', "")


@pytest.mark.feature("S12")
@pytest.mark.parametrize(
    ("url", "shown_as"),
    [
        ("https://lists.example/a.netset", "https://lists.example/a.netset"),
        ("https://lists.example:8443/a?b", "https://lists.example:8443/a?***"),
        ("https://joe:hunter2@lists.example/a", "https://***@lists.example/a"),
        ("https://token@lists.example/a", "https://***@lists.example/a"),
        ("https://joe:p@ss@lists.example/a", "https://***@lists.example/a"),
        ("https://joe:pa/ss@lists.example/a", "https://***@lists.example/a"),
        ("https://joe:pa?ss#x@lists.example/a", "https://***@lists.example/a"),
        ("https://joe:hunter2", "https://***"),
        ("https://[2001:db8::1]:8080/a", "https://[2001:db8::1]:8080/a"),
        ("https://joe:hunter2@[2001:db8::1]/a", "https://***@[2001:db8::1]/a"),
        ("https://h.example/a?key=hunter2", "https://h.example/a?key=***"),
        ("https://h.example/a?key=hunter2&list=all;x=y#top", "https://h.example/a?key=***&list=***;x=***#top"),
        ("https://h.example/a?key=hun=ter2", "https://h.example/a?key=***"),
        ("https://h.example/@me/a", "https://h.example/@me/a"),
        ("https://h.example/?u=https://joe:hunter2@x/", "https://h.example/?u=***"),
        ("joe:hunter2@lists.example/a", "***@lists.example/a"),
    ],
)
def test_secrets_of_a_url_are_masked(url: str, shown_as: str) -> None:
    assert masked_url(url) == shown_as
    assert has_secret(f"url: {url}\n") == (shown_as != url and "://" in url)
    if "://" in url:
        assert masked(f"netset x: {url} was not taken") == f"netset x: {shown_as} was not taken"
    assert "hunter2" not in shown(masked_url(url))


@pytest.mark.feature("S12")
def test_parts_of_a_url_in_errors_of_libraries_are_masked() -> None:
    url = "https://joe:hunter2@lists.example/a?key=s3cr3t-key&format=txt"
    for text in (
        "HTTPSConnectionPool(host='lists.example'): Max retries exceeded with url: /a?key=s3cr3t-key&format=txt",
        "nonnumeric port: 'hunter2@lists.example'",
        f"No connection adapters were found for '{url}'",
        "URL can't contain control characters. '/a?key=s3cr3t-key' (found at least ' ')",
    ):
        for secret in ("hunter2", "s3cr3t-key"):
            assert secret not in masked(text, url)
        assert "***" in masked(text, url)


@pytest.mark.feature("S12")
def test_a_quoted_value_is_short_and_hides_what_its_cut_might_show() -> None:
    assert len(shown("x" * 1000)) == 60
    assert "hunter2" not in shown("https://joe:hunter2" + "x" * 10000 + "@lists.example/")
    assert shown("\x1b" * 100).isprintable()


@pytest.mark.feature("S12", "S3")
def test_masking_a_long_text_is_no_work_for_minutes() -> None:
    for text in ("a." * 50_000 + "://", "http://" + "a=" * 50_000 + "&", "http://" + "@:" * 50_000, "://" * 50_000):
        assert masked(text)
