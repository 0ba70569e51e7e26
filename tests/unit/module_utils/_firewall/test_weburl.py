# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.weburl import redirected

pytestmark = pytest.mark.feature("S4")


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("https://a.example/x", "https://b.example/y", "https://b.example/y"),
        ("https://a.example/x", "/y", "https://a.example/y"),
        ("https://a.example/x", "//b.example/y", "https://b.example/y"),
        ("http://a.example/x", "http://b.example/", "http://b.example/"),
        ("http://a.example/x", "https://a.example/x", "https://a.example/x"),
    ],
)
def test_redirects_that_are_followed(url, location, target):
    assert redirected(url, location) == target


@pytest.mark.parametrize(
    ("url", "location", "why"),
    [
        ("https://a.example/x", "http://a.example/x", "from https to http"),
        ("https://a.example/x", "HTTP://a.example/x", "from https to http"),
        ("http://a.example/x", "file:///etc/shadow", "to no http or https address"),
        ("http://a.example/x", "ftp://a.example/x", "to no http or https address"),
        ("http://a.example/x", "https://", "to no http or https address"),
        ("http://a.example/x", "http://[", "to no http or https address"),
        ("http://a.example/x", None, "to no http or https address"),
    ],
)
def test_redirects_that_are_not_followed(url, location, why):
    with pytest.raises(InvalidInput, match=why):
        redirected(url, location)
