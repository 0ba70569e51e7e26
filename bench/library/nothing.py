#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that takes a list of addresses and does nothing with it: the floor under every module of its size."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(argument_spec={"addresses": {"type": "list", "elements": "str", "required": True}})
    module.exit_json(changed=False, count=len(module.params["addresses"]))


if __name__ == "__main__":
    main()
