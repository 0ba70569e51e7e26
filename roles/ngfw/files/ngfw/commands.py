# SPDX-License-Identifier: GPL-3.0-or-later
"""What each command of `ngfw` does. One function a command; it returns the exit code.

What only some commands need is imported by these alone: the watcher must be up quickly.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import VERSION
from .config import Config
from .config import load as load_config
from .yamlfile import ConfigError

if TYPE_CHECKING:
    from .firewall.firewall import Firewall
    from .firewall.result import Result
    from .rules.load import RuleSet

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
    from .service import Service
    from .state import StateError, StateForbidden

    path = arguments.config or DEFAULT_CONFIG

    def load() -> tuple[Config, RuleSet]:
        config = load_config(path)
        return config, _rules([Path(config.rules_directory)], config)

    try:
        Service(load, dry_run=arguments.dry_run).run()
    except StateForbidden as error:
        raise CommandError(error, FORBIDDEN) from None
    except StateError as error:
        raise CommandError(error) from None
    return DONE


def check(arguments: Namespace) -> int:
    path = arguments.config or DEFAULT_CONFIG
    try:
        config = load_config(path)
        rules = _rules([Path(config.rules_directory)], config)
    except ConfigError as error:
        for problem in error.problems:
            print(problem)
        return USAGE
    print(f"{path} and {len(rules)} enabled rules in {config.rules_directory} are valid")
    return DONE


def replay(arguments: Namespace) -> int:
    from .replay import replay as run
    from .replay import summary_lines, to_json, to_text

    config, rules = _replay_setup(arguments)
    print_one = to_json if arguments.json else to_text
    summary = run(
        [Path(name) for name in arguments.files],
        config,
        rules,
        log_format=arguments.format,
        on_decision=lambda decision: print(print_one(decision)),
        report=lambda text: print(text, file=sys.stderr),
    )
    if not arguments.json:
        print("\n".join(summary_lines(summary)))
    return DONE


def status(arguments: Namespace) -> int:
    from .status import read_status, status_lines

    config = _config(arguments)
    found = read_status(Path(config.state_directory))
    if arguments.json:
        print(json.dumps(found))
    else:
        print("\n".join(status_lines(found, time.time())))
    return DONE if found["alive"] else FAILED


def list_blocks(arguments: Namespace) -> int:
    from .tables import blocks_table

    with _firewall(arguments) as firewall:
        blocks = firewall.info(("blocks",)).to_dict()["blocks"]
    print(json.dumps(blocks) if arguments.json else blocks_table(blocks))
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
        result = firewall.block(wanted, later=True)
    for entry in result.blocked:
        print(f"blocked {entry.block.network}")
    for entry in result.extended:
        print(f"extended {entry.block.network}")
    for each in result.already:
        print(f"{each.network} is blocked for as long already")
    return _told(result)


def unblock(arguments: Namespace) -> int:
    from .firewall.address import parse_network

    networks = [parse_network(text) for text in arguments.addresses]
    with _firewall(arguments) as firewall:
        result = firewall.unblock(networks)
    for entry in result.unblocked:
        print(f"unblocked {entry.block.network} ({entry.block.action.value}, {entry.block.direction.value})")
    for each in result.already:
        print(f"{each.network} is not blocked")
    return _told(result)


def whitelist(arguments: Namespace) -> int:
    from .firewall.address import parse_network
    from .firewall.guards import WhitelistItem
    from .tables import whitelist_table

    if arguments.step == "list":
        with _firewall(arguments) as firewall:
            items = firewall.info(("whitelist",)).to_dict()["whitelist"]
        print(json.dumps(items) if arguments.json else whitelist_table(items))
        return DONE
    adding = arguments.step == "add"
    comment = arguments.comment if adding else ""
    wanted = [WhitelistItem(parse_network(text), comment) for text in arguments.addresses]
    with _firewall(arguments) as firewall:
        result = firewall.whitelist(wanted, state="present" if adding else "absent")
    for entry in result.added if adding else result.removed:
        print(f"{'whitelisted' if adding else 'removed'} {entry.network}")
    for item in result.kept:
        print(f"{item.network} is {'on the whitelist already' if adding else 'not on the whitelist'}")
    for lifted in result.unblocked:
        print(f"unblocked {lifted.block.network}")
    return _told(result)


def flush(arguments: Namespace) -> int:
    with _firewall(arguments) as firewall:
        result = firewall.flush(rule_name=arguments.rule)
    print(f"lifted {len(result.unblocked)} blocks")
    return _told(result)


def version(arguments: Namespace) -> int:
    print(json.dumps({"version": VERSION}) if arguments.json else f"ngfw {VERSION}")
    return DONE


def _told(result: Result) -> int:
    """Print refusals and warnings; a refusal is a failure."""
    for refusal in result.refused:
        print(f"ngfw: {refusal.address} was left alone: {refusal.reason}", file=sys.stderr)
    for warning in result.warnings:
        print(f"ngfw: {warning}", file=sys.stderr)
    return FAILED if result.refused else DONE


def _config(arguments: Namespace) -> Config:
    """The configuration named; the default one may be missing, then everything is as by default."""
    if arguments.config is None and not Path(DEFAULT_CONFIG).exists():
        return Config.default()
    return load_config(arguments.config or DEFAULT_CONFIG)


@contextmanager
def _firewall(arguments: Namespace) -> Iterator[Firewall]:
    from .firewall.entry import Origin
    from .firewall.firewall import Firewall

    config = _config(arguments)
    firewall = Firewall(chain=config.chain, families=config.families, origin=Origin.COMMAND)
    try:
        yield firewall
    finally:
        firewall.close()


def _rules(paths: list[Path], config: Config) -> RuleSet:
    from .rules.load import load_rules

    return load_rules(paths, config.defaults)


def _replay_setup(arguments: Namespace) -> tuple[Config, RuleSet]:
    config = _config(arguments)
    configured = arguments.config is not None or Path(DEFAULT_CONFIG).exists()
    if arguments.rules:
        return config, _rules([Path(path) for path in arguments.rules], config)
    if configured or not SHIPPED_RULES.is_dir():
        return config, _rules([Path(config.rules_directory)], config)
    return config, _rules([SHIPPED_RULES], config)
