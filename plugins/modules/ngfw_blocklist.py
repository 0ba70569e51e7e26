#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ngfw_blocklist
short_description: Hold a whole list of networks as one set of the kernel
version_added: 0.1.0
description:
  - Drops packets from or to the networks of a list, as threat intelligence publishes them. The list is filled beside
    the one in force and swapped in, so a refresh leaves no gap.
  - Whitelisted and protected addresses pass, even if the list holds them.
author:
  - The reflex.ngfw authors (@reflex-ngfw)
extends_documentation_fragment:
  - reflex.ngfw.common
  - reflex.ngfw.common.diff
options:
  name:
    description: Name of the list, 1 to 12 lower-case letters, digits or underscores.
    type: str
    required: true
  entries:
    description: The list itself. An empty one empties the blocklist.
    type: list
    elements: str
  src:
    description:
      - Regular file on the managed host, which M(ansible.builtin.copy) can bring there. For one on the controller see
        the examples.
    type: path
  url:
    description:
      - Address of the list. It is fetched anew only if it, or the kernel's set, is not the one of the last time.
      - A user and password in it, and the values of its query, are neither shown nor logged. What is secret in its path
        is.
    type: str
  state:
    description: Whether the list is in force, or removed with its rule.
    type: str
    choices: [present, absent]
    default: present
  exclude_private:
    description: Refuse entries that overlap address space that is not public, such as V(10.0.0.0/8).
    type: bool
    default: true
  min_prefix_ipv4:
    description: Refuse IPv4 networks wider than this prefix length.
    type: int
    default: 8
  min_prefix_ipv6:
    description: Refuse IPv6 networks wider than this prefix length.
    type: int
    default: 19
  target:
    description: Whether packets from the networks, to them, or both are dropped.
    type: str
    choices: [source, destination, both]
    default: source
  sanity:
    description:
      - Refuse, and keep the list in force, if more than a tenth of the entries are no addresses, if fewer than half
        as many are left of a list of 100 or more, or if the networks cover more than an eighth of the IPv4 addresses
        or of V(2000::/3). This does not keep O(entries=[]) from emptying a list.
      - A list may lose up to half of its entries each time, so it may also come to an end.
    type: bool
    default: true
notes:
  - The form of a list is told by its first lines that are no comments (C(#), C(;), C(//)). These are read, as UTF-8,
    plain or packed by gzip, and any other form is an error that keeps the old list.
  - One address, CIDR network (also with a dotted mask) or range C(FIRST-LAST) a line, alone or as the first column
    before blanks, C(,), C(;), C(#) or C(|), as FireHOL, Spamhaus DROP, blocklist.de, Emerging Threats, IPsum and
    AlienVault publish.
  - One JSON object with C(cidr) or C(ip) a line (Spamhaus), the table C(start end bits) (DShield), lines
    C(ExitAddress A ...) (Tor), and C(name:a-b) (P2P).
  - Entries that cannot be used are left out, named and counted, and a warning names the first.
  - A file or URL without one usable address is an error, and the old list stays.
  - A download may take 30 seconds in all, and 128 MiB. Redirects are followed to C(https), and from C(http) to either.
seealso:
  - module: reflex.ngfw.ngfw_block
"""

EXAMPLES = r"""
- name: Drop what FireHOL level 1 lists
  reflex.ngfw.ngfw_blocklist:
    name: firehol1
    url: https://iplists.firehol.org/files/firehol_level1.netset

- name: Drop the networks of a file on the host
  reflex.ngfw.ngfw_blocklist:
    name: bad_networks
    src: /etc/bad_networks.txt
    target: both

- name: Drop these
  reflex.ngfw.ngfw_blocklist:
    name: few
    entries: [203.0.113.0/24, 198.51.100.10-198.51.100.20]

- name: Drop what a file on the controller lists
  reflex.ngfw.ngfw_blocklist:
    name: ours
    entries: "{{ lookup('ansible.builtin.file', 'bad_networks.txt') | reflex.ngfw.netset }}"

- name: Remove a list
  reflex.ngfw.ngfw_blocklist:
    name: few
    state: absent
"""

RETURN = r"""
added:
  description: Networks that are new, at most 200.
  returned: success
  type: list
  elements: str
  sample: [203.0.113.0/24]
removed:
  description: Networks that are gone, at most 200.
  returned: success
  type: list
  elements: str
  sample: []
already:
  description: Networks that were there, at most 200.
  returned: success
  type: list
  elements: str
  sample: []
refused:
  description: Entries that were left out, at most 200.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The entry.
      type: str
      returned: always
      sample: 10.0.0.0/8
    reason:
      description: Why it was left out.
      type: str
      returned: always
      sample: "not public address space; allow it with exclude_private: false if it is meant"
count:
  description: True totals of the lists.
  returned: success
  type: dict
  sample: {added: 1, removed: 0, already: 0, refused: 1}
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.reflex.ngfw.plugins.module_utils._download import Download
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput, UnsafeFile
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.files import open_for_reading
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.firewall import Firewall
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.listformat import ListFormatError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netset import (
    Limits,
    Netset,
    by_family,
    read_netset,
)
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.result import Result
from ansible_collections.reflex.ngfw.plugins.module_utils._module import directions, report, run

OPTIONS = {
    "name": {"type": "str", "required": True},
    "entries": {"type": "list", "elements": "str"},
    "src": {"type": "path"},
    "url": {"type": "str", "no_log": True},  # in no log of the host; run() shows it where it holds no secret
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "exclude_private": {"type": "bool", "default": True},
    "min_prefix_ipv4": {"type": "int", "default": 8},
    "min_prefix_ipv6": {"type": "int", "default": 19},
    "target": {"type": "str", "choices": ["source", "destination", "both"], "default": "source"},
    "sanity": {"type": "bool", "default": True},
}
_BLOCK = 1 << 16
KINDS = ("added", "removed", "already", "refused")


def act(firewall: Firewall, parameters: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    limits = limits_of(parameters)
    name = parameters["name"]
    download = Download(parameters["chain"], name, parameters["url"] or "", repr((limits, parameters["target"])))
    if parameters["state"] == "absent":
        result = firewall.remove_blocklist(name, dry_run=dry_run)
        if not dry_run:
            download.forget()
    elif parameters["url"] is not None:
        result = from_url(firewall, parameters, download, limits, dry_run)
    else:
        result = put(firewall, parameters, local(parameters, limits), dry_run)
    return report(result, *KINDS)


def limits_of(parameters: dict[str, Any]) -> Limits:
    """What the list may hold; raises InvalidInput."""
    for option, longest in (("min_prefix_ipv4", 32), ("min_prefix_ipv6", 128)):
        if not 1 <= parameters[option] <= longest:
            raise InvalidInput(f"{option} {parameters[option]}: use 1 to {longest}")
    return Limits(
        parameters["exclude_private"],
        parameters["min_prefix_ipv4"],
        parameters["min_prefix_ipv6"],
        tuple(parameters["families"]),
    )


def put(firewall: Firewall, parameters: dict[str, Any], netset: Netset, dry_run: bool) -> Result:
    return firewall.blocklist(
        parameters["name"],
        netset,
        directions(parameters["target"]),
        sanity=parameters["sanity"],
        dry_run=dry_run,
    )


def local(parameters: dict[str, Any], limits: Limits) -> Netset:
    """The list that is given, or that is in a file of this host; raises InvalidInput."""
    if parameters["src"] is None:
        text = "\n".join(parameters["entries"]).encode("utf-8", "replace")
        return read("entries", [text], limits) if parameters["entries"] else Netset()
    if not parameters["src"]:
        raise InvalidInput("src is empty; name a file of the managed host. The old list stays")
    try:
        with open_for_reading(Path(parameters["src"]), follow=True) as file:
            return read(parameters["src"], iter(partial(file.read, _BLOCK), b""), limits)
    except UnsafeFile as error:
        raise InvalidInput(f"{error}; the old list stays") from None
    except OSError as error:
        raise InvalidInput(f"{parameters['src']}: {error.strerror}; the old list stays") from None


def from_url(
    firewall: Firewall, parameters: dict[str, Any], download: Download, limits: Limits, dry_run: bool
) -> Result:
    """Fetch the list if it is another one than the kernel's; else what the kernel has is what is wanted."""
    in_force = firewall.blocklist_members(parameters["name"])
    text = download.fetch(in_force)
    if text is None:
        netset = by_family(set().union(*in_force.values()))
        download.left_out(netset)
        return put(firewall, parameters, netset, dry_run)
    netset = read(download.shown, [text], limits)
    result = put(firewall, parameters, netset, dry_run)
    if not dry_run:
        download.remember(firewall.blocklist_members(parameters["name"]), netset)
    return result


def read(source: str, blocks: Iterable[bytes], limits: Limits) -> Netset:
    """The list in these pieces of text; raises InvalidInput if it is none, or has nothing that may be on it."""
    try:
        netset = read_netset(blocks, limits)
    except ListFormatError as error:
        raise InvalidInput(f"{source} has no usable address: {error}; the old list stays") from None
    if not netset:
        first = f", the first is '{netset.refused[0].entry}': {netset.refused[0].reason}" if netset.refused else ""
        raise InvalidInput(
            f"{source} has no usable address ({netset.refusals} entries were refused{first}); the old list stays"
        )
    return netset


def main() -> None:
    run(
        OPTIONS,
        act,
        mutually_exclusive=[("entries", "src", "url")],
        required_if=[("state", "present", ("entries", "src", "url"), True)],
    )


if __name__ == "__main__":
    main()
