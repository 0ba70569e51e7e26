# SPDX-License-Identifier: GPL-3.0-or-later
"""What all modules share: options, the one way to run, and the form of what they return."""

from __future__ import annotations

import gc
import heapq
import re
from collections.abc import Sequence
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ._firewall.address import FAMILIES, Key, from_key
from ._firewall.duration import format_duration
from ._firewall.entry import Action, Direction, Entry, Origin
from ._firewall.errors import FirewallError, InvalidInput
from ._firewall.firewall import Firewall
from ._firewall.guards import WhitelistEntry
from ._firewall.layout import SetSpec
from ._firewall.result import Result
from ._firewall.text import has_secret, printable, shown

COMMON = {
    "chain": {"type": "str", "default": "NGFW"},
    "families": {"type": "list", "elements": "str", "choices": list(FAMILIES), "default": list(FAMILIES)},
}

_SHOWN = 200
_INTEGER = re.compile(r"\s*-?[0-9]+\s*", re.ASCII)

Parameters = dict[str, Any]
Act = Callable[[Firewall, Parameters, bool], Parameters]


class _Module(AnsibleModule):
    """Keeps options as they were given: ansible-core makes an integer of any text that Python's int() takes."""

    def _load_params(self) -> None:
        super()._load_params()
        self.given = dict(self.params)


def run(options: Parameters, act: Act, **module_arguments: Any) -> None:
    """Run one module: `act(firewall, parameters, dry_run)` returns what it exits with.

    An error of the library becomes the module's failure, with its message.
    """
    gc.disable()  # short-lived and full of small tuples without cycles: a fifth of the time at 100,000 entries
    module = _Module(argument_spec={**COMMON, **options}, supports_check_mode=True, **module_arguments)
    parameters = module.params
    for name in (name for name, option in options.items() if option.get("no_log")):
        if not has_secret(parameters[name] or ""):
            module.no_log_values.discard(parameters[name])
    try:
        _refuse_odd_numbers(options, module.given)
        firewall = Firewall(
            chain=parameters["chain"],
            families=parameters["families"],
            hooks=parameters.get("hooks"),
            origin=Origin.MODULE,
        )
        returned = act(firewall, parameters, module.check_mode)
        for warning in firewall.warnings() + returned.pop("warnings", []):
            module.warn(printable(warning))
    except FirewallError as error:
        module.fail_json(msg=printable(str(error)))
    module.exit_json(**returned)


def _refuse_odd_numbers(options: Parameters, given: Parameters) -> None:
    """Raise InvalidInput for an integer that is written with other digits than ASCII's, or with underscores."""
    for name, spec in options.items():
        text = given.get(name)
        if spec["type"] == "int" and isinstance(text, str) and not _INTEGER.fullmatch(text):
            raise InvalidInput(f"{name} '{shown(text)}' is not a number; write it with the digits 0 to 9")


def directions(target: str | None) -> tuple[Direction, ...]:
    """The sides that a `target` means; all if none is named."""
    return tuple(Direction) if target in (None, "both") else (Direction(target),)


def report(result: Result, *kinds: str) -> Parameters:
    """What a module returns of a result: the lists of these kinds, cut, their true totals, and the diff."""
    networks = result.networks()
    counts = {kind: len(items) for kind, items in networks.items()} | {"refused": len(result.refused) + result.unnamed}
    lists: dict[str, list[Any]] = {kind: [*map(str, items[:_SHOWN])] for kind, items in networks.items()}
    lists["refused"] = [
        {"address": printable(refusal.address), "reason": printable(refusal.reason)}
        for refusal in result.refused[:_SHOWN]
    ]
    for kind, listed in (("added", result.listed), ("removed", result.unlisted), ("already", result.same)):
        keys = {key for _spec, members in listed for key in members}
        lists[kind] = [*lists[kind], *(str(from_key(key)) for key in heapq.nsmallest(_SHOWN, keys))]
        counts[kind] += len(keys)
    before = [_line(e) for e in (*result.unblocked, *result.replaced)] + [_whitelist_line(i) for i in result.removed]
    after = [_line(e) for e in (*result.blocked, *result.extended)] + [_whitelist_line(i) for i in result.added]
    return {
        "changed": result.changed,
        **{kind: lists[kind][:_SHOWN] for kind in kinds},
        **({"count": {kind: counts[kind] for kind in kinds}} if kinds else {}),
        "diff": {
            "before": _text(result.chain_before, before, result.unlisted),
            "after": _text(result.chain_after, after, result.listed),
        },
        "warnings": result.warnings,
    }


def _text(chain_lines: Sequence[str], lines: Sequence[str], listed: Sequence[tuple[SetSpec, set[Key]]]) -> str:
    """Lines about the chain, then sorted lines about entries: so many, and the number of the rest."""
    total = len(lines) + sum(len(members) for _spec, members in listed)
    some = list(lines)
    for spec, members in listed:
        first = heapq.nsmallest(_SHOWN, members)
        some += [f"blocklist {spec.label} {spec.direction.value} {from_key(key)}" for key in first]
    shown = sorted(some)[:_SHOWN]
    more = [f"... and {total - len(shown)} more entries"] if total > len(shown) else []
    return "".join(line + "\n" for line in (*chain_lines, *shown, *more))


def _line(entry: Entry) -> str:
    block = entry.block
    parameters = f" {block.parameters.strip()}" if block.action in (Action.LOG, Action.RATE_LIMIT) else ""
    end = "permanent" if entry.expires_at is None else f"for {format_duration(block.duration)}"
    rule = printable(block.rule_name)
    return f"{block.action.value}{parameters} {block.direction.value} {block.network} {end} by {rule}"


def _whitelist_line(item: WhitelistEntry) -> str:
    return f"whitelist {item.network}" + (f" ({printable(item.comment)})" if item.comment else "")
