#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ngfw_whitelist
short_description: Whitelist addresses and networks, so that no block touches them
version_added: 0.1.0
description:
  - Holds the whitelist that lives in the kernel. A packet from or to a whitelisted address passes every block of this
    chain, whoever added it and however wide it is.
  - The guard speaks of the entry's own side. A whitelisted host that talks to a blocked destination is stopped by the
    destination's block.
author:
  - The reflex.ngfw authors (@reflex-ngfw)
extends_documentation_fragment:
  - reflex.ngfw.common
  - reflex.ngfw.common.diff
options:
  entries:
    description:
      - Hosts or networks, each an address or a dictionary with C(address) and C(comment).
    type: list
    elements: raw
    required: true
  state:
    description:
      - With V(present) the entries are whitelisted, with V(absent) exactly they are not.
      - With V(exact) the whitelist is these entries and no others. Protected addresses stay, and what the watcher's
        configuration put there.
    type: str
    choices: [present, absent, exact]
    default: present
  lift:
    description: Lift blocks in force that lie wholly inside the entries.
    type: bool
    default: true
seealso:
  - module: reflex.ngfw.ngfw_block
"""

EXAMPLES = r"""
- name: Whitelist the office and a monitoring host
  reflex.ngfw.ngfw_whitelist:
    entries:
      - {address: 198.51.100.0/28, comment: office}
      - 2001:db8:1::10

- name: The whitelist is this, and nothing else
  reflex.ngfw.ngfw_whitelist:
    entries: "{{ whitelist }}"
    state: exact

- name: Take one entry back
  reflex.ngfw.ngfw_whitelist:
    entries: [198.51.100.0/28]
    state: absent
"""

RETURN = r"""
added:
  description: Entries that are new or have a new comment, at most 200.
  returned: success
  type: list
  elements: str
  sample: [198.51.100.0/28]
removed:
  description: Entries that are gone, at most 200.
  returned: success
  type: list
  elements: str
  sample: []
already:
  description: Entries that were as asked for, at most 200.
  returned: success
  type: list
  elements: str
  sample: []
refused:
  description: Entries that were left alone. Here it is always empty; all modules have it.
  returned: success
  type: list
  elements: dict
  sample: []
unblocked:
  description: Addresses of which a block was lifted, at most 200.
  returned: success
  type: list
  elements: str
  sample: [198.51.100.3]
count:
  description: True totals of the lists.
  returned: success
  type: dict
  sample: {added: 1, removed: 0, already: 0, refused: 0, unblocked: 1}
"""

from typing import Any

from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_networks
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.firewall import Firewall
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem
from ansible_collections.reflex.ngfw.plugins.module_utils._module import report, run

OPTIONS = {
    "entries": {"type": "list", "elements": "raw", "required": True},
    "state": {"type": "str", "choices": ["present", "absent", "exact"], "default": "present"},
    "lift": {"type": "bool", "default": True},
}


def act(firewall: Firewall, parameters: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    result = firewall.whitelist(
        items(parameters["entries"]), state=parameters["state"], lift=parameters["lift"], dry_run=dry_run
    )
    return report(result, "added", "removed", "already", "refused", "unblocked")


def items(entries: list[Any]) -> list[WhitelistItem]:
    """The entries in one form; raises InvalidInput for what is neither an address nor such a dictionary."""
    addresses, comments = [], []
    for entry in entries:
        if isinstance(entry, str):
            entry = {"address": entry}
        if isinstance(entry, dict) and "duration" in entry:
            raise InvalidInput("entries: 'duration' is not supported yet; leave it out, the entry stays until removed")
        if not isinstance(entry, dict) or "address" not in entry or set(entry) - {"address", "comment"}:
            raise InvalidInput(f"entries: '{entry}' is neither an address nor a dictionary of address and comment")
        addresses.append(str(entry["address"]).strip())
        comments.append(str(entry.get("comment") or ""))
    return [WhitelistItem(network, comment) for network, comment in zip(parse_networks(addresses), comments)]


def main() -> None:
    run(OPTIONS, act)


if __name__ == "__main__":
    main()
