# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of networks against lists; documented in the .yml file of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from ansible.errors import AnsibleFilterError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import Network, NetworkSet, merge
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import AddressError
from ansible_collections.reflex.ngfw.plugins.plugin_utils._inputs import as_list
from ansible_collections.reflex.ngfw.plugins.plugin_utils._networks import parse_list, parse_text


def covered_by(entry: object, networks: object) -> bool:
    others = _others(networks)
    return all(others.covering(network) is not None for network in _parts(entry))


def overlaps(entry: object, networks: object) -> bool:
    others = _others(networks)
    return any(others.overlaps(network) for network in _parts(entry))


def _parts(entry: object) -> list[Network]:
    try:
        return parse_text(entry)
    except AddressError as error:
        raise AnsibleFilterError(str(error)) from None


def _others(networks: object) -> NetworkSet:
    """The list, merged: then what lies in all of it together lies in one of its networks."""
    texts = as_list(networks, "write a list of networks, as in ['192.0.2.0/24']")
    try:
        return _made(tuple(texts))
    except TypeError:  # something that is no text, and cannot be remembered either
        return NetworkSet(merge(parse_list(texts)))


@lru_cache(maxsize=8)
def _made(networks: tuple[object, ...]) -> NetworkSet:
    """With `select`, one list is asked again for each entry."""
    return NetworkSet(merge(parse_list(networks)))


class TestModule:
    def tests(self) -> dict[str, Callable[..., bool]]:
        return {"covered_by": covered_by, "overlaps": overlaps}
