# SPDX-License-Identifier: GPL-3.0-or-later
"""Arithmetic with lists of networks, by netaddr; the texts are read by the enforcement library, as the modules do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

try:
    import netaddr
except ImportError:  # said when it is needed, so that the other filters work without
    netaddr = None

from ansible.errors import AnsibleFilterError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import Network, parse_range
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import AddressError
from ansible_collections.reflex.ngfw.plugins.plugin_utils._inputs import FilterTypeError, as_list, shown

_NAMED = 5


def parse_list(value: object) -> list[Network]:
    """The networks of a list of addresses, networks and ranges; raises an error that names the first bad ones."""
    networks: list[Network] = []
    complaints = []
    for text in as_list(value, "write a list of addresses, as in ['192.0.2.7']"):
        try:
            networks += parse_text(text)
        except AddressError as error:
            complaints.append(str(error))
    if complaints:
        more = f" (and {len(complaints) - _NAMED} more)" if len(complaints) > _NAMED else ""
        raise AnsibleFilterError("; ".join(complaints[:_NAMED]) + more)
    return networks


def parse_text(text: object) -> list[Network]:
    """The networks of one address, network or range; raises AddressError, or FilterTypeError if it is no text."""
    if not isinstance(text, str):
        hint = "; take its address, as with map(attribute='address')" if isinstance(text, dict) else ""
        raise FilterTypeError(f"{shown(text)} is not a text with an address, a network or a range{hint}")
    return parse_range(text)


def merged(networks: Iterable[Network]) -> list[Network]:
    """The fewest networks that are equal to these, IPv4 first, in rising order."""
    return _from_netaddr(_library().cidr_merge(_to_netaddr(networks)))


def without(networks: Sequence[Network], others: Sequence[Network]) -> list[Network]:
    """The fewest networks that hold the addresses of `networks` which none of `others` holds, in order."""
    ip_set = _library().IPSet
    return _from_netaddr((ip_set(_to_netaddr(networks)) - ip_set(_to_netaddr(others))).iter_cidrs())


def _library() -> Any:
    if netaddr is None:
        raise AnsibleFilterError(
            "this needs the Python library netaddr on the controller; install the package python3-netaddr, "
            "or netaddr by pip into the environment that ansible runs in"
        )
    return netaddr


def _to_netaddr(networks: Iterable[Network]) -> list[Any]:
    make = _library().IPNetwork
    return [
        make((int.from_bytes(packed, "big"), prefix), version=4 if len(packed) == 4 else 6)
        for packed, prefix in networks
    ]


def _from_netaddr(found: Iterable[Any]) -> list[Network]:
    return [
        Network(int(network.first).to_bytes(4 if network.version == 4 else 16, "big"), network.prefixlen)
        for network in found
    ]
