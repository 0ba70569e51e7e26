# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters over lists of networks; documented in the .yml file of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import PRIVATE, from_key
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.listformat import ListFormatError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netset import Limits, parse_netset
from ansible_collections.reflex.ngfw.plugins.plugin_utils._inputs import FilterTypeError, shown
from ansible_collections.reflex.ngfw.plugins.plugin_utils._networks import merged, parse_list, without
from ansible_collections.reflex.ngfw.plugins.plugin_utils._whitelist import parse_whitelist

_ANYTHING = Limits(exclude_private=False, min_prefix_ipv4=1, min_prefix_ipv6=1)


def cidr_merge(entries: object) -> list[str]:
    return [str(network) for network in merged(parse_list(entries))]


def cidr_normalise(entries: object) -> list[Any]:
    return parse_whitelist(entries)


def cidr_exclude(entries: object, networks: object) -> list[str]:
    return [str(network) for network in without(parse_list(entries), parse_list(networks))]


def cidr_public(entries: object) -> list[str]:
    return [str(network) for network in without(parse_list(entries), list(PRIVATE))]


def netset(text: object) -> list[str]:
    if not isinstance(text, str):
        hint = "for a list use reflex.ngfw.cidr_merge" if isinstance(text, list) else "give it the content of a file"
        raise FilterTypeError(f"{shown(text)} is not the text of a netset; {hint}")
    try:
        found = parse_netset(text.split("\n"), _ANYTHING)
    except ListFormatError as error:
        raise AnsibleFilterError(str(error)) from None
    if found.refused:
        total = found.refusals
        first = f"the first is {shown(found.refused[0].entry)}: {found.refused[0].reason}"
        if not found:
            raise AnsibleFilterError(
                f"there is no usable address, {total} entries were refused, {first}. "
                "A netset has one address, network or range FIRST-LAST a line, and # begins a comment"
            )
        Display().warning(f"{total} entries of the netset were left out, {first}")
    return [str(from_key(key)) for family in ("ipv4", "ipv6") for key in sorted(found.members[family])]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "cidr_merge": cidr_merge,
            "cidr_normalise": cidr_normalise,
            "cidr_exclude": cidr_exclude,
            "cidr_public": cidr_public,
            "netset": netset,
        }
