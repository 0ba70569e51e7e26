# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem
from ansible_collections.reflex.ngfw.plugins.modules.ngfw_whitelist import items


def test_entries_are_addresses_or_dictionaries():
    assert items(["203.0.113.7/24", {"address": "::1", "comment": "us"}, {"address": "::2", "comment": None}]) == [
        WhitelistItem(parse_network("203.0.113.0/24"), ""),
        WhitelistItem(parse_network("::1"), "us"),
        WhitelistItem(parse_network("::2"), ""),
    ]


def test_a_text_that_was_split_at_its_commas_may_have_blanks():
    assert items(["203.0.113.7", " 203.0.113.8"])[1].network == parse_network("203.0.113.8")


def test_an_entry_for_a_time_is_named():
    with pytest.raises(InvalidInput, match="'duration' is not supported yet"):
        items([{"address": "203.0.113.7", "duration": "1d"}])


@pytest.mark.parametrize("entry", [7, None, [], {}, {"comment": "x"}, {"address": "::1", "note": "x"}])
def test_anything_else_is_refused(entry):
    with pytest.raises(InvalidInput, match="neither an address nor a dictionary of address and comment"):
        items(["203.0.113.7", entry])
