#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ngfw_info
short_description: Tell what is blocked, whitelisted and protected
version_added: 0.1.0
description:
  - Reads the kernel's state. It never changes anything.
author:
  - The reflex.ngfw authors (@reflex-ngfw)
extends_documentation_fragment:
  - reflex.ngfw.common
attributes:
  diff_mode:
    support: none
    description: There is nothing that changes.
options:
  gather:
    description: Parts to return.
    type: list
    elements: str
    choices: [chain, blocks, whitelist, blocklists, stats]
    default: [chain, blocks, whitelist, blocklists, stats]
seealso:
  - module: reflex.ngfw.ngfw_block
"""

EXAMPLES = r"""
- name: Look at what is blocked
  reflex.ngfw.ngfw_info:
    gather: [blocks]
  register: ngfw

- name: Show the ten that sent most
  ansible.builtin.debug:
    msg: "{{ (ngfw.blocks | sort(attribute='packets', reverse=true))[:10] | map(attribute='address') }}"

- name: Look at the chain and at totals only
  reflex.ngfw.ngfw_info:
    gather: [chain, stats]
  register: ngfw

- name: Fail where the chain is not in force
  ansible.builtin.assert:
    that: ngfw.chain.hooks == ['INPUT', 'FORWARD', 'OUTPUT']
"""

RETURN = r"""
blocks:
  description: Blocks in force, one item for each direction.
  returned: when gathered
  type: list
  elements: dict
  contains:
    address: {description: Host or network., type: str, returned: always, sample: 203.0.113.7}
    family: {description: V(ipv4) or V(ipv6)., type: str, returned: always, sample: ipv4}
    action: {description: "V(drop), V(reject), V(log) or V(rate_limit).", type: str, returned: always, sample: drop}
    target: {description: V(source) or V(destination)., type: str, returned: always, sample: source}
    rule_name: {description: The rule that set the present end., type: str, returned: always, sample: manual}
    reason: {description: Why., type: str, returned: always, sample: scanned us}
    origin: {description: "V(module), V(command) or V(watcher).", type: str, returned: always, sample: module}
    created_at:
      description: When the present end was set, ISO 8601 in UTC; null if not known.
      type: str
      returned: always
      sample: "2026-01-31T12:00:00Z"
    expires_at:
      description: When it runs out, ISO 8601 in UTC; null for never.
      type: str
      returned: always
      sample: "2026-01-31T14:00:00Z"
    remaining: {description: Seconds until then; null for never., type: int, returned: always, sample: 7123}
    packets: {description: "Packets matched, whitelisted ones too.", type: int, returned: always, sample: 12}
    bytes: {description: Bytes matched., type: int, returned: always, sample: 1008}
    rate: {description: Rate of a rate limit., type: str, returned: always, sample: 10/minute}
    burst: {description: Burst of a rate limit., type: int, returned: always, sample: 5}
    log_prefix: {description: Prefix of a log., type: str, returned: always, sample: "NGFW: "}
whitelist:
  description: Whitelisted and protected addresses.
  returned: when gathered
  type: list
  elements: dict
  contains:
    address: {description: Host or network., type: str, returned: always, sample: 198.51.100.0/28}
    family: {description: V(ipv4) or V(ipv6)., type: str, returned: always, sample: ipv4}
    comment: {description: What was said of it., type: str, returned: always, sample: office}
    origin:
      description: V(module), V(command), V(config), or V(protected) for protected addresses.
      type: str
      returned: always
      sample: module
blocklists:
  description: Blocklists, one item for each family and direction.
  returned: when gathered
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str, returned: always, sample: firehol1}
    family: {description: V(ipv4) or V(ipv6)., type: str, returned: always, sample: ipv4}
    target: {description: V(source) or V(destination)., type: str, returned: always, sample: source}
    count: {description: Networks in it., type: int, returned: always, sample: 4321}
chain:
  description: The chain.
  returned: when gathered
  type: dict
  contains:
    present: {description: Whether it exists., type: bool, returned: always, sample: true}
    hooks:
      description: Built-in chains that jump to it.
      type: list
      elements: str
      returned: always
      sample: [INPUT, FORWARD, OUTPUT]
    backend: {description: "Kind of iptables, V(nft) or V(legacy).", type: str, returned: always, sample: nft}
    families:
      description: Families that have the chain.
      type: list
      elements: str
      returned: always
      sample: [ipv4, ipv6]
stats:
  description: Totals.
  returned: when gathered
  type: dict
  contains:
    blocks: {description: Blocks in force., type: int, returned: always, sample: 1}
    whitelist: {description: "Whitelist entries, without protected addresses.", type: int, returned: always, sample: 2}
    blocklists: {description: Blocklists., type: int, returned: always, sample: 0}
    packets: {description: Packets that the blocks matched., type: int, returned: always, sample: 12}
    bytes: {description: Bytes that the blocks matched., type: int, returned: always, sample: 1008}
"""

from typing import Any

from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.firewall import Firewall
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.info import GATHER
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.text import printable
from ansible_collections.reflex.ngfw.plugins.module_utils._module import run

_TEXTS = ("rule_name", "reason", "comment", "log_prefix")
"""What others may have written into the kernel, and Ansible prints as it is."""

OPTIONS = {"gather": {"type": "list", "elements": "str", "choices": list(GATHER), "default": list(GATHER)}}


def act(firewall: Firewall, parameters: dict[str, Any], _dry_run: bool) -> dict[str, Any]:
    found = firewall.info(parameters["gather"]).to_dict()
    for item in (*found.get("blocks", ()), *found.get("whitelist", ())):
        item.update((name, printable(item[name])) for name in _TEXTS if item.get(name))
    return found


def main() -> None:
    run(OPTIONS, act)


if __name__ == "__main__":
    main()
