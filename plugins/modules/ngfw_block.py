#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ngfw_block
short_description: Block addresses and networks in the kernel, for a time or for good
version_added: 0.1.0
description:
  - Holds blocks of hosts and networks, IPv4 and IPv6, in a declared state. They live in sets of the kernel, so 100,000
    of them cost a packet no more than one, and they run out in the kernel to the second.
  - Chain and sets are made if they are missing, so one task is a working block.
  - Whitelisted and protected addresses are refused, and pass even inside a blocked network.
author:
  - The reflex.ngfw authors (@reflex-ngfw)
extends_documentation_fragment:
  - reflex.ngfw.common
  - reflex.ngfw.common.diff
options:
  addresses:
    description:
      - Hosts or networks, as V(192.0.2.7), V(198.51.100.0/24) or V(2001:db8::/64). Host bits are dropped.
      - V(0.0.0.0/0) and V(::/0) are refused.
    type: list
    elements: str
    required: true
    aliases: [address]
  state:
    description:
      - With V(present) the addresses are blocked. A block in force of the same or a longer duration is left as it is, a
        longer request extends it to its full length from now.
      - With V(absent) exactly these entries are lifted, of whatever rule. An address that is still inside a blocked
        network gets a warning.
    type: str
    choices: [present, absent]
    default: present
  action:
    description:
      - What happens to packets. V(drop) discards them, V(reject) answers with a TCP reset or an ICMP error, V(log) lets
        the kernel log them and pass, V(rate_limit) discards what exceeds O(rate).
      - Left out, it means V(drop) for O(state=present), and every action for O(state=absent).
      - Different actions on one address stand side by side.
    type: str
    choices: [drop, reject, log, rate_limit]
  target:
    description:
      - Whether packets from the address, to it, or both are meant.
      - Left out, it means V(source) for O(state=present), and both for O(state=absent).
    type: str
    choices: [source, destination, both]
  duration:
    description:
      - How long, as V(45s), V(30m), V(2h), V(1d), V(1w) or a sum such as V(1h30m); V(0) means for good.
      - The kernel's limit is 24d20h31m23s.
    type: str
    default: 30m
  rule_name:
    description: The rule that the entries belong to, 1 to 64 bytes without quotes and control characters.
    type: str
    default: manual
  reason:
    description: Why, for those who look later. It is cut to what the kernel's comment holds.
    type: str
    default: ''
  rate:
    description: For O(action=rate_limit), packets of one address (IPv6, of one /64) that may pass in a unit of time.
    type: str
    default: 10/minute
  burst:
    description: For O(action=rate_limit), packets that may pass before the rate counts, 1 to 10000, and no more than
      what a day brings.
    type: int
    default: 5
  log_prefix:
    description: For O(action=log), what the kernel's line begins with, at most 28 printable ASCII characters.
    type: str
    default: 'NGFW: '
  refresh:
    description: Restart the clock of blocks that are in force, which may shorten them. This is always a change.
    type: bool
    default: false
  purge:
    description: Lift every other entry of the same O(rule_name), in any action or target, within O(families).
    type: bool
    default: false
  on_protected:
    description: Whether a whitelisted or protected address is left out (V(skip)) or an error (V(fail)).
    type: str
    choices: [skip, fail]
    default: skip
  allow_wide:
    description:
      - Allow addresses that together cover more than an eighth of the IPv4 addresses or of V(2000::/3), which would
        otherwise be an error. What is blocked already in the same action and direction counts with them, unless it
        covers so much by itself.
    type: bool
    default: false
notes:
  - ansible-core itself takes about 1.4 seconds to hand over a list of 100,000 addresses, and three times that if the
    list stands inline in the playbook. Give it by a lookup of a file, as in the last example.
seealso:
  - module: reflex.ngfw.ngfw_whitelist
  - module: reflex.ngfw.ngfw_info
"""

EXAMPLES = r"""
- name: Block a host for two hours
  reflex.ngfw.ngfw_block:
    address: 203.0.113.7
    duration: 2h
    reason: scanned us

- name: Answer a network with resets, for good, in both directions
  reflex.ngfw.ngfw_block:
    addresses: [198.51.100.0/24, "2001:db8:bad::/48"]
    action: reject
    target: both
    duration: "0"

- name: Slow a host down
  reflex.ngfw.ngfw_block:
    address: 203.0.113.8
    action: rate_limit
    rate: 10/minute
    burst: 5

- name: Let the kernel log what a host sends, and let it pass
  reflex.ngfw.ngfw_block:
    address: 203.0.113.9
    action: log
    log_prefix: "SUSPECT: "
    duration: 1d

- name: Block for two hours from now, whatever was left of an earlier block
  reflex.ngfw.ngfw_block:
    address: 203.0.113.7
    duration: 2h
    refresh: true

- name: Fail if one of them is whitelisted or protected
  reflex.ngfw.ngfw_block:
    addresses: "{{ bad_hosts }}"
    on_protected: fail

- name: Hold exactly the blocks of one rule, and lift those no longer listed
  reflex.ngfw.ngfw_block:
    addresses: "{{ bad_hosts }}"
    rule_name: incident-42
    duration: 1d
    purge: true

- name: Lift a block, whatever its form
  reflex.ngfw.ngfw_block:
    address: 203.0.113.7
    state: absent

- name: Block all addresses of a file
  reflex.ngfw.ngfw_block:
    addresses: "{{ lookup('ansible.builtin.file', 'bad_hosts.txt') | split }}"
    duration: 1d
"""

RETURN = r"""
blocked:
  description: Addresses that are newly blocked, extended or refreshed, at most 200.
  returned: success
  type: list
  elements: str
  sample: [203.0.113.7]
unblocked:
  description: Addresses of which a block was lifted, at most 200.
  returned: success
  type: list
  elements: str
  sample: []
already:
  description: Addresses that were as asked for, at most 200.
  returned: success
  type: list
  elements: str
  sample: []
refused:
  description: Addresses that were left alone, at most 200.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The address.
      type: str
      returned: always
      sample: 127.0.0.1
    reason:
      description: What it is protected or whitelisted by.
      type: str
      returned: always
      sample: "protected: 127.0.0.0/8 (loopback)"
count:
  description: True totals of the lists.
  returned: success
  type: dict
  sample: {blocked: 1, unblocked: 0, already: 0, refused: 0}
"""

from typing import Any

from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_networks
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.duration import parse_block_duration
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import (
    Action,
    Block,
    valid_burst,
    valid_log_prefix,
    valid_rate,
    valid_rule_name,
)
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.firewall import Firewall
from ansible_collections.reflex.ngfw.plugins.module_utils._module import directions, report, run

OPTIONS = {
    "addresses": {"type": "list", "elements": "str", "required": True, "aliases": ["address"]},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "action": {"type": "str", "choices": ["drop", "reject", "log", "rate_limit"]},
    "target": {"type": "str", "choices": ["source", "destination", "both"]},
    "duration": {"type": "str", "default": "30m"},
    "rule_name": {"type": "str", "default": "manual"},
    "reason": {"type": "str", "default": ""},
    "rate": {"type": "str", "default": "10/minute"},
    "burst": {"type": "int", "default": 5},
    "log_prefix": {"type": "str", "default": "NGFW: "},
    "refresh": {"type": "bool", "default": False},
    "purge": {"type": "bool", "default": False},
    "on_protected": {"type": "str", "choices": ["skip", "fail"], "default": "skip"},
    "allow_wide": {"type": "bool", "default": False},
}


def act(firewall: Firewall, parameters: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    networks = parse_networks(parameters["addresses"])
    sample = wanted(parameters)
    if parameters["state"] == "absent":
        action = None if parameters["action"] is None else sample.action
        result = firewall.unblock(networks, action=action, directions=directions(parameters["target"]), dry_run=dry_run)
    else:
        result = firewall.block(
            [
                Block(network, sample.action, direction, *sample[3:])
                for direction in directions(parameters["target"] or "source")
                for network in networks
            ],
            refresh=parameters["refresh"],
            purge=parameters["rule_name"] if parameters["purge"] else "",
            on_protected=parameters["on_protected"],
            allow_wide=parameters["allow_wide"],
            dry_run=dry_run,
        )
    return report(result, "blocked", "unblocked", "already", "refused")


def wanted(parameters: dict[str, Any]) -> Block:
    """What is asked for, as a block of no address yet; raises InvalidInput."""
    rate = valid_rate(parameters["rate"])
    return Block(
        network=None,
        action=Action(parameters["action"] or "drop"),
        duration=parse_block_duration(parameters["duration"]),
        rule_name=valid_rule_name(parameters["rule_name"]),
        reason=parameters["reason"],
        rate=rate,
        burst=valid_burst(parameters["burst"], rate),
        log_prefix=valid_log_prefix(parameters["log_prefix"]),
    )


def main() -> None:
    run(OPTIONS, act)


if __name__ == "__main__":
    main()
