# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ngfw.decisions.decision import Decision, Outcome, What
from ngfw.effects.wording import Told, told_of_end
from ngfw.firewall.address import parse_network
from ngfw.firewall.entry import Block, Entry, Origin


def decision(**changes: Any) -> Decision:
    """A block of an ICMP alert, with these fields changed."""
    block = Block(parse_network("203.0.113.7"), duration=1800, rule_name="Ping", reason="RULE Ping")
    what = What("source", "Ping", "RULE Ping", 1800, 2000004, "TEST ICMP Ping Detected")
    values = {
        "time": 1756812285.5,
        "action": "block",
        "ip": "203.0.113.7",
        "outcome": Outcome.NEW,
        "block": block,
        "of_record": ("alert", "203.0.113.7", 40000, "192.0.2.1", 22, "TCP"),
    }
    values.update({name: changes.pop(name) for name in values if name in changes})
    return Decision(host=values["ip"], what=what._replace(**changes), **values)


def end(ip: str, reason: str = "by hand") -> Told:
    """What is told of a block that somebody lifted."""
    block = Block(parse_network(ip), duration=1800, rule_name="Ping", reason="RULE Ping")
    entry = Entry(block, Origin.WATCHER, 1756812285.0, 1756814085.0)
    return told_of_end("unblock", entry, now=1756812290.0, reason=reason)
