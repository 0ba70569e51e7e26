# SPDX-License-Identifier: GPL-3.0-or-later
"""What each command of `ngfw` does. One function a command; it returns the exit code.

What only some commands need is imported by these alone: the watcher must be up quickly.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from . import VERSION
from .settings.config import Config
from .settings.config import load as load_config
from .settings.yamlfile import ConfigError
from .terminal import complain, show, show_json, written

if TYPE_CHECKING:
    from .firewall.firewall import Firewall
    from .firewall.result import Result
    from .rules.load import RuleSet

_T = TypeVar("_T")

DONE, FAILED, USAGE, FORBIDDEN = 0, 1, 2, 3

DEFAULT_CONFIG = "/etc/ngfw/ngfw.yml"

SHIPPED_RULES = Path(__file__).resolve().parent.parent / "rules.d"
"""The rule files beside the package in a checkout."""


class CommandError(Exception):
    """A command could not do its work; the text says what to do, `code` is the exit code."""

    def __init__(self, text: object, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


def watch(arguments: Namespace) -> int:
    from .effects.state import StateError, StateForbidden
    from .service import Service

    path = arguments.config or DEFAULT_CONFIG

    def load() -> tuple[Config, RuleSet]:
        config = load_config(path)
        return config, _rules([Path(config.rules_directory)], config)

    service = Service(load, dry_run=arguments.dry_run)
    try:
        service.run()
    except StateForbidden as error:
        raise CommandError(error, FORBIDDEN) from None
    except StateError as error:
        raise CommandError(error) from None
    written()
    os._exit(DONE)  # to take the memory of 100,000 blocks apart would take seconds


def check(arguments: Namespace) -> int:
    from .check import warnings
    from .display.overrides import overridden

    path = arguments.config or DEFAULT_CONFIG
    try:
        config = load_config(path)
        rules = _rules([Path(config.rules_directory)], config)
    except ConfigError as error:
        if arguments.json:
            problems = [each._asdict() for each in error.problems]
            show_json({"valid": False, "problems": problems, "warnings": []})
        else:
            show(*map(str, error.problems))
        return USAGE
    found, changes = warnings(config), overridden(rules)
    if arguments.json:
        verdict = {"valid": True, "problems": [], "warnings": found, "rules": len(rules)}
        show_json({**verdict, "overridden": changes} if changes else verdict)
    else:
        show(*(f"{name}: {', '.join(texts) or 'overridden by what it says itself'}" for name, texts in changes.items()))
        show(*(f"warning: {warning}" for warning in found))
        show(f"{path} and {len(rules)} enabled rules in {config.rules_directory} are valid")
    return DONE


def replay(arguments: Namespace) -> int:
    from .replay import replay as run
    from .replay import summary_lines, to_dict, to_text

    config, rules = _replay_setup(arguments)
    summary = run(
        [Path(name) for name in arguments.files],
        config,
        rules,
        log_format=arguments.format,
        online=arguments.online,
        on_decision=lambda decision: (
            show_json(to_dict(decision), compact=True) if arguments.json else show(to_text(decision))
        ),
        report=complain,
    )
    if not arguments.json:
        show(*summary_lines(summary))
    return DONE


def status(arguments: Namespace) -> int:
    from .display.status import block_summary, read_status, source_states, status_lines
    from .firewall.errors import FirewallError

    config = _config(arguments)
    found = read_status(Path(config.state_directory), _note)
    found["sources"] = source_states(config.sources, found)
    try:
        with _firewall(arguments) as firewall:
            info = firewall.info(("blocks", "blocklists"))
            found["blocks"] = block_summary(info.blocks_dict())
            found["blocklists"] = info.blocklists_dict()
            others = _others(firewall, lambda other: len(other.entries()))
            found["other_chains"] = [{"chain": chain, "blocks": count} for chain, count in others]
    except FirewallError as error:
        found["blocks"] = found["blocklists"] = found["other_chains"] = None
        if not arguments.json:
            complain(f"ngfw: the blocks cannot be read: {error}")
    if arguments.json:
        show_json(found)
    else:
        show(*status_lines(found, time.time()))
    return DONE if found["alive"] else FAILED


def list_blocks(arguments: Namespace) -> int:
    from .display.tables import blocklist_lines, blocks_table

    with _firewall(arguments) as firewall:
        info = firewall.info(("blocks", "blocklists"))
    blocks = info.blocks_dict()
    if arguments.json:
        show_json(blocks)
    else:
        show(*blocks_table(blocks))
        lists = blocklist_lines(info.blocklists_dict())
        if lists:
            show("", *lists)
    return DONE


def block(arguments: Namespace) -> int:
    from .firewall.address import parse_network
    from .firewall.duration import parse_block_duration
    from .firewall.entry import Action, Block, Direction, valid_rule_name

    directions = [Direction.SOURCE, Direction.DESTINATION]
    if arguments.target != "both":
        directions = [Direction(arguments.target)]
    duration = parse_block_duration(arguments.duration)
    rule = valid_rule_name(arguments.rule)
    wanted = [
        Block(parse_network(text), Action(arguments.action), direction, duration, rule, arguments.reason)
        for text in arguments.addresses
        for direction in directions
    ]
    with _firewall(arguments) as firewall:
        result = firewall.block(wanted, later=True, allow_wide=arguments.allow_wide)
    lines = [f"blocked {entry.block.network}" for entry in result.blocked]
    lines += [f"extended {entry.block.network}" for entry in result.extended]
    lines += [f"{each.network} is blocked for as long already" for each in result.already]
    return _told(arguments, result, lines)


def unblock(arguments: Namespace) -> int:
    from .firewall.address import parse_network

    networks = [parse_network(text) for text in arguments.addresses]
    with _firewall(arguments) as firewall:
        result = firewall.unblock(networks)
        for chain, entries in _others(firewall, lambda other: other.entries()):
            held = {entry.block.network for entry in entries}
            result.warnings += [
                f"{network} is blocked by another chain, {chain}; lift it by ngfw_block, chain: {chain}"
                for network in networks
                if network in held
            ]
    lines = [
        f"unblocked {entry.block.network} ({entry.block.action.value}, {entry.block.direction.value})"
        for entry in result.unblocked
    ]
    lines += [f"{each.network} was not blocked" for each in result.already]
    return _told(arguments, result, lines)


def whitelist(arguments: Namespace) -> int:
    from .display.tables import whitelist_table
    from .firewall.address import parse_network
    from .firewall.guards import WhitelistItem

    if arguments.step == "list":
        with _firewall(arguments) as firewall:
            items = firewall.info(("whitelist",)).to_dict()["whitelist"]
        if arguments.json:
            show_json(items)
        else:
            show(*whitelist_table(items))
        return DONE
    adding = arguments.step == "add"
    comment = arguments.comment if adding else ""
    wanted = [WhitelistItem(parse_network(text), comment) for text in arguments.addresses]
    with _firewall(arguments) as firewall:
        result = firewall.whitelist(wanted, state="present" if adding else "absent")
    verb, state = ("whitelisted", "on the whitelist already") if adding else ("removed", "not on the whitelist")
    lines = [f"{verb} {entry.network}" for entry in (result.added if adding else result.removed)]
    lines += [f"{item.network} is {state}" for item in result.kept]
    lines += [f"unblocked {lifted.block.network}" for lifted in result.unblocked]
    return _told(arguments, result, lines)


def flush(arguments: Namespace) -> int:
    with _firewall(arguments) as firewall:
        result = firewall.flush(rule_name=arguments.rule)
    return _told(arguments, result, [f"lifted {len(result.unblocked)} blocks"])


def explain(arguments: Namespace) -> int:
    from .display.counts import open_counts
    from .display.explain import alerts, explained_lines, history, listing_dicts, offences, reputation, touching
    from .effects.enforcement import inside
    from .firewall.address import parse_network

    network = parse_network(arguments.address)
    config = _config(arguments)
    with _firewall(arguments) as firewall:
        info = firewall.info(("blocks", "whitelist"))
        listings = firewall.listings([network])
        others = _others(firewall, lambda other: (other.info(("blocks",)).blocks_dict(), other.listings([network])))
    try:
        rules = _rules([Path(config.rules_directory)], config)
        guarded = [parse_network(item["address"]) for item in info.whitelist_dict()]
        counts = open_counts(config, rules, network, host_networks=inside(config), guarded=guarded, now=time.time())
    except ConfigError:
        counts = None
    logs = Path(config.log_directory)
    wide = network.widened(config.ipv6_prefix) if network.family == "ipv6" else network
    found = {
        "address": str(network),
        "blocks": touching(info.blocks_dict(), network),
        "whitelist": touching(info.whitelist_dict(), network),
        "blocklists": listing_dicts(listings),
        "other_chains": [
            {"chain": chain, "blocks": touching(blocks, network), "blocklists": listing_dicts(listed)}
            for chain, (blocks, listed) in others
            if listed or touching(blocks, network)
        ],
        "reputation": reputation(config, network, _note),
        "counts": counts,
        "offences": offences(Path(config.state_directory), sorted({network, wide}), _note),
        "history": history(logs, sorted({network, wide}), _note),
        "alerts": alerts(logs, network, _note),
    }
    if arguments.json:
        show_json(found)
    else:
        show(*explained_lines(found))
    return DONE


def save(arguments: Namespace) -> int:
    path = _saved_sets(arguments)
    with _firewall(arguments) as firewall:
        count = firewall.save(path)
    if arguments.json:
        show_json({"saved": count, "path": str(path)})
    else:
        show(f"saved {count} entries in {path}")
    return DONE


def restore(arguments: Namespace) -> int:
    path = _saved_sets(arguments)
    count, changed, warnings = 0, False, []
    with _firewall(arguments, hooks=_config(arguments).hooks) as firewall:
        if not arguments.chain:
            count = firewall.restore_sets(path)
        if not arguments.sets:
            result = firewall.ensure()
            changed, warnings = result.changed, result.warnings
    if arguments.json:
        show_json({"restored": count, "chain_changed": changed})
    elif arguments.chain:
        show("the chain was made as it should be" if changed else "the chain is as it should be")
    else:
        show(f"restored {count} entries from {path}")
    for warning in warnings:
        complain(f"ngfw: {warning}")
    return DONE


def version(arguments: Namespace) -> int:
    if arguments.json:
        show_json({"version": VERSION})
    else:
        show(f"ngfw {VERSION}")
    return DONE


def _note(text: str) -> None:
    """Say what went wrong and kept nothing else from being done."""
    complain(f"ngfw: {text}")


def _told(arguments: Namespace, result: Result, lines: list[str]) -> int:
    """Print what was done, refusals and warnings; a refusal is a failure."""
    from .display.tables import result_dict

    if arguments.json:
        show_json(result_dict(result))
    else:
        show(*dict.fromkeys(lines))  # one line for both directions
    for refusal in result.refused:
        complain(f"ngfw: {refusal.address} was left alone: {refusal.reason}")
    for warning in result.warnings:
        complain(f"ngfw: {warning}")
    return FAILED if result.refused else DONE


def _config(arguments: Namespace) -> Config:
    """The configuration named; the default one may be missing, then everything is as by default."""
    if arguments.config is None and not Path(DEFAULT_CONFIG).exists():
        return Config.default()
    return load_config(arguments.config or DEFAULT_CONFIG)


@contextmanager
def _firewall(arguments: Namespace, hooks: Sequence[str] | None = None) -> Iterator[Firewall]:
    """Closed at the end. Without `hooks` those remembered in the kernel stay, else they are the configuration's."""
    from .firewall.entry import Origin
    from .firewall.firewall import Firewall

    config = _config(arguments)
    firewall = Firewall(
        chain=config.chain, families=config.families, hooks=hooks, usual_hooks=config.hooks, origin=Origin.COMMAND
    )
    try:
        yield firewall
    finally:
        firewall.close()


def _others(firewall: Firewall, ask: Callable[[Firewall], _T]) -> list[tuple[str, _T]]:
    """What each other chain of ours on this host answers."""
    found = []
    for chain in firewall.other_chains():
        other = firewall.beside(chain)
        try:
            found.append((chain, ask(other)))
        finally:
            other.close()
    return found


def _saved_sets(arguments: Namespace) -> Path:
    from .effects.state import SETS

    return Path(_config(arguments).state_directory) / SETS


def _rules(paths: list[Path], config: Config, *, all_rules: bool = True) -> RuleSet:
    from .rules.load import load_rules

    return load_rules(paths, config.defaults, config.rule_overrides, all_rules=all_rules)


def _replay_setup(arguments: Namespace) -> tuple[Config, RuleSet]:
    config = _config(arguments)
    configured = arguments.config is not None or Path(DEFAULT_CONFIG).exists()
    if arguments.rules:
        return config, _rules([Path(path) for path in arguments.rules], config, all_rules=False)
    if configured or not SHIPPED_RULES.is_dir():
        return config, _rules([Path(config.rules_directory)], config)
    return config, _rules([SHIPPED_RULES], config)
