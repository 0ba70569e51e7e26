# SPDX-License-Identifier: GPL-3.0-or-later
"""A whitelist as inventories have it: addresses, and dictionaries of an address and a comment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import Network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import AddressError
from ansible_collections.reflex.ngfw.plugins.plugin_utils._inputs import FilterTypeError, as_list, shown
from ansible_collections.reflex.ngfw.plugins.plugin_utils._networks import parse_text

_KEYS = {"address", "comment"}

Comments = dict[Network, str]


def parse_whitelist(items: object) -> list[Any]:
    """The items in one spelling and order, each network once; the error names the first bad ones."""
    return written(comments(items))


def changed_whitelist(present: object, pushed: object, state: str) -> list[Any]:
    """A whitelist after entries were added (`present`), taken out (`absent`), or put in its place (`exact`).

    As in the kernel, an entry that is pushed without a comment keeps the one it has.
    """
    old, new = comments(present), comments(pushed)
    if state == "absent":
        return written({network: comment for network, comment in old.items() if network not in new})
    kept = {network: comment or old.get(network, "") for network, comment in new.items()}
    return written(kept if state == "exact" else {**old, **kept})


def comments(items: object) -> Comments:
    """The networks of a whitelist, each with its comment; the last of a network counts."""
    found: Comments = {}
    complaints = []
    for number, item in enumerate(as_list(items, "write a list of addresses, as in ['192.0.2.7']"), 1):
        try:
            address, comment = _parts(item)
            found.update(dict.fromkeys(parse_text(address), comment))
        except (AddressError, FilterTypeError) as error:
            complaints.append(f"item {number}: {error}")
    if complaints:
        more = f" (and {len(complaints) - 5} more)" if len(complaints) > 5 else ""
        raise AnsibleFilterError("; ".join(complaints[:5]) + more)
    return found


def written(whitelist: Mapping[Network, str]) -> list[Any]:
    """The whitelist as lists and files have it: sorted, IPv4 first; a text where there is no comment."""
    ordered: Iterable[Network] = sorted(whitelist, key=lambda network: (len(network.packed), network))
    return [
        {"address": str(network), "comment": whitelist[network]} if whitelist[network] else str(network)
        for network in ordered
    ]


def _parts(item: object) -> tuple[str, str]:
    """The address and the comment of an item; raises FilterTypeError."""
    if isinstance(item, str):
        return item.strip(), ""
    if not isinstance(item, Mapping) or not isinstance(item.get("address"), str):
        raise FilterTypeError(f"{shown(item)} is neither an address nor a dictionary of address and comment")
    unknown = set(item) - _KEYS
    if "duration" in unknown:
        raise FilterTypeError("'duration' is not supported yet; leave it out, the entry stays until it is removed")
    if unknown:
        raise FilterTypeError(f"{shown(sorted(unknown)[0])} is no key of an entry; there is address, comment")
    comment = item.get("comment")
    if comment is not None and not isinstance(comment, str):
        raise FilterTypeError(f"comment must be a text, not {shown(comment)}; put it in quotes")
    return item["address"].strip(), comment or ""
