#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ngfw_flush
short_description: Lift all blocks, or those of one rule, or empty lists
version_added: 0.1.0
description:
  - Empties what O(scope) names. Chain, jumps and protected addresses stay.
author:
  - The reflex.ngfw authors (@reflex-ngfw)
extends_documentation_fragment:
  - reflex.ngfw.common
  - reflex.ngfw.common.diff
options:
  scope:
    description: What to empty.
    type: list
    elements: str
    choices: [blocks, blocklists, whitelist]
    default: [blocks]
  rule_name:
    description:
      - Lift only blocks of this rule; nothing else is emptied then. A warning says so if it has none, and which rules
        have.
    type: str
seealso:
  - module: reflex.ngfw.ngfw_block
"""

EXAMPLES = r"""
- name: Lift all blocks
  reflex.ngfw.ngfw_flush:

- name: Lift what one rule blocked
  reflex.ngfw.ngfw_flush:
    rule_name: Block SSH Brute Force

- name: Lift all blocks and empty all lists
  reflex.ngfw.ngfw_flush:
    scope: [blocks, blocklists, whitelist]
"""

RETURN = r"""
unblocked:
  description: Addresses of which a block was lifted, at most 200.
  returned: success
  type: list
  elements: str
  sample: [203.0.113.7]
removed:
  description: Entries that left the whitelist or a blocklist, at most 200.
  returned: success
  type: list
  elements: str
  sample: []
count:
  description: True totals of the lists.
  returned: success
  type: dict
  sample: {unblocked: 1, removed: 0}
"""

from typing import Any

from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.firewall import Firewall
from ansible_collections.reflex.ngfw.plugins.module_utils._module import report, run

OPTIONS = {
    "scope": {
        "type": "list",
        "elements": "str",
        "choices": ["blocks", "blocklists", "whitelist"],
        "default": ["blocks"],
    },
    "rule_name": {"type": "str"},
}


def act(firewall: Firewall, parameters: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    result = firewall.flush(scope=parameters["scope"], rule_name=parameters["rule_name"], dry_run=dry_run)
    return report(result, "unblocked", "removed")


def main() -> None:
    run(OPTIONS, act)


if __name__ == "__main__":
    main()
