# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a hit until a provider has answered, over a restart too: enough to decide it again.

Format: JSON of {rule, action (its place among the rule's), network, time, proven, record}; of the record only what
the journals show.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ..firewall.address import Network, parse_network
from ..firewall.errors import AddressError
from ..intel.mailbox import Case
from ..rules.engine import Hit
from ..rules.load import RuleSet
from ..rules.model import RuleAction

_MAX_TEXT = {"signature": 128}
_MAX_OTHER_TEXT = 64
_MAX_NUMBER = 1 << 63
_FIELDS = ("event_type", "src_ip", "src_port", "dest_ip", "dest_port", "proto", "offender")
_ALERT_FIELDS = ("signature_id", "signature")


class Hung(NamedTuple):
    """A hit whose decision hangs on an answer. `proven`: its record shows that the address spoke with us."""

    hit: Hit
    action: RuleAction
    network: Network
    proven: bool


def encode(hung: Hung) -> Case:
    """The case that goes with a lookup: one for each action of a rule and each network that it is to hit.

    What is proven and what is not are apart.
    """
    hit, action, network, proven = hung
    place = hit.rule.actions.index(action)
    record = _shown(hit.record, _FIELDS)
    alert = hit.record.get("alert")
    if isinstance(alert, dict):
        record["alert"] = _shown(alert, _ALERT_FIELDS)
    fields = {
        "rule": hit.rule.name,
        "action": place,
        "network": str(network),
        "time": hit.time,
        "proven": proven,
        "record": record,
    }
    return Case(f"{hit.rule.name}\n{place}\n{int(proven)}\n{network}", json.dumps(fields, separators=(",", ":")))


def decode(text: str, rules: RuleSet) -> Hung | None:
    """The hit again; None if its rule is no longer in force, or the text is not encode()'s."""
    try:
        fields = json.loads(text)
        rule = rules.named(fields["rule"])
        if rule is None:
            return None
        hit = Hit(rule, dict(fields["record"]), float(fields["time"]), 0)
        action = rule.actions[int(fields["action"])]
        return Hung(hit, action, parse_network(fields["network"]), bool(fields.get("proven")))
    except (ValueError, KeyError, TypeError, IndexError, AddressError):
        return None


def _shown(fields: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        value = fields.get(name)
        if isinstance(value, str):
            found[name] = value[: _MAX_TEXT.get(name, _MAX_OTHER_TEXT)]
        elif isinstance(value, int) and abs(value) < _MAX_NUMBER:
            found[name] = value
    return found
