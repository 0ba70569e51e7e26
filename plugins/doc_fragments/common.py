# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of what all modules share; pairs with module_utils/_module.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  chain:
    description:
      - Name of the chain in the C(filter) table, 1 to 12 letters, digits or underscores.
      - Its sets are named after it, as C(NGFW-drop-src4).
      - Names of built-in chains and targets are refused, and so is a chain that holds rules of which none is from here.
    type: str
    default: NGFW
  families:
    description:
      - Address families to manage. What lies outside is not touched, and an address of a family left out is an error.
      - On a kernel without IPv6 there is a warning, only IPv4 is managed, and IPv6 addresses are told as refused.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
requirements:
  - iptables (nft or legacy) and a kernel with ipset, on the managed host
  - root on the managed host
notes:
  - Protected addresses are never blocked. These are loopback, unspecified, limited broadcast, multicast and link-local
    addresses, the host's own addresses, its default gateways and resolvers, and for one day the address from which
    the running SSH connection comes. A network that covers one can be blocked, the protected address still passes.
  - The address of the SSH connection is also found under C(become). For a task with C(async) and C(become) it is
    systemd-logind that knows it.
  - Every change is one transaction under a lock that modules, the watcher and the C(ngfw) command share.
  - Without the role P(reflex.ngfw.ngfw#role) nothing of this outlasts a reboot, and rules that were saved by
    C(iptables-save) with those of the chain among them are refused as a whole at boot, for the sets that they name are
    missing. Save them without (C(iptables-save | grep -vw NGFW)), or have the sets saved too (C(ipset-persistent),
    C(ipset-service)). There is a warning if it would come to that. What C(nft list ruleset) prints of the chain cannot
    be read again by C(nft) at all.
  - Sets of blocks that are empty are removed with their rules. Addresses that others took out of the whitelist with
    C(ipset) come back by themselves only where the watcher runs.
attributes:
  check_mode:
    support: full
    description: Predicts what would change, and changes nothing.
  platform:
    support: full
    description: Systems that the module manages.
    platforms: Linux
"""

    DIFF = r"""
attributes:
  diff_mode:
    support: full
    description: Shows one line for each entry that changes, at most 200 and then a count.
"""
