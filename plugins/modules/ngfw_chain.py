#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ngfw_chain
short_description: Set up, repair or remove the chain that blocks stand in
version_added: 0.1.0
description:
  - Makes a chain in the C(filter) table of iptables and ip6tables that is jumped to first of all from the hooks chosen,
    together with the sets of whitelisted and protected addresses.
  - Repairs whatever others did to it, such as a lost, moved or doubled jump, foreign rules in the chain, or a family
    that is missing.
  - Other modules make the chain themselves when they need it. This one is for choosing hooks, repair and removal.
author:
  - The reflex.ngfw authors (@reflex-ngfw)
extends_documentation_fragment:
  - reflex.ngfw.common
  - reflex.ngfw.common.diff
options:
  state:
    description:
      - With V(present) chain, jumps and sets are as they should be.
      - With V(absent) the jumps, the chain and all its sets are removed, and nothing else.
    type: str
    choices: [present, absent]
    default: present
  hooks:
    description:
      - Built-in chains that jump to the chain, from their first position.
      - They are remembered, and the other modules repair these and add none.
      - Left out, what is remembered stays; on a host that remembers nothing all three are chosen.
    type: list
    elements: str
    choices: [INPUT, FORWARD, OUTPUT]
seealso:
  - module: reflex.ngfw.ngfw_block
"""

EXAMPLES = r"""
- name: Block on the host itself and on what it forwards
  reflex.ngfw.ngfw_chain:
    hooks: [INPUT, FORWARD]

- name: Put the chain back in order after another program rewrote the firewall
  reflex.ngfw.ngfw_chain:

- name: Remove every rule and set
  reflex.ngfw.ngfw_chain:
    state: absent
"""

RETURN = r"""
chain:
  description: The chain as it is, or in check mode as it was.
  returned: success
  type: dict
  contains:
    present:
      description: Whether the chain exists.
      type: bool
      returned: always
      sample: true
    hooks:
      description: Built-in chains that jump to it.
      type: list
      elements: str
      returned: always
      sample: [INPUT, FORWARD, OUTPUT]
    backend:
      description: Kind of iptables on the host, V(nft) or V(legacy).
      type: str
      returned: always
      sample: nft
    families:
      description: Families that have the chain.
      type: list
      elements: str
      returned: always
      sample: [ipv4, ipv6]
"""

from typing import Any

from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.firewall import Firewall
from ansible_collections.reflex.ngfw.plugins.module_utils._module import report, run

OPTIONS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "hooks": {"type": "list", "elements": "str", "choices": ["INPUT", "FORWARD", "OUTPUT"]},
}


def act(firewall: Firewall, parameters: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    ensure = firewall.ensure if parameters["state"] == "present" else firewall.remove
    result = ensure(dry_run=dry_run)
    return {**report(result), "chain": firewall.info(("chain",)).chain_dict()}


def main() -> None:
    run(OPTIONS, act)


if __name__ == "__main__":
    main()
