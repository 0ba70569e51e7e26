# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs no kernel; tests/kernel/test_modules.py runs the modules."""

from __future__ import annotations

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Direction
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.result import Result
from ansible_collections.reflex.ngfw.plugins.modules.ngfw_block import OPTIONS, act, wanted

DEFAULTS = {name: option.get("default") for name, option in OPTIONS.items()}


class Recorder:
    """Stands for the firewall: keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def block(self, blocks, **options):
        self.asked.append((list(blocks), options))
        return Result()

    def unblock(self, networks, **options):
        self.asked.append(([str(network) for network in networks], options))
        return Result()


def asked(**options):
    recorder = Recorder()
    act(recorder, {**DEFAULTS, **options}, False)
    return recorder.asked[0]


@pytest.mark.parametrize(
    ("target", "directions"),
    [
        (None, [Direction.SOURCE]),
        ("source", [Direction.SOURCE]),
        ("destination", [Direction.DESTINATION]),
        ("both", [Direction.SOURCE, Direction.DESTINATION]),
    ],
)
def test_a_target_is_one_or_two_directions(target, directions):
    blocks, options = asked(addresses=["203.0.113.7"], target=target)

    assert [block.direction for block in blocks] == directions
    assert options == {"refresh": False, "purge": "", "on_protected": "skip", "allow_wide": False, "dry_run": False}


@pytest.mark.parametrize(
    ("options", "action", "directions"),
    [
        ({}, None, tuple(Direction)),
        ({"action": "log"}, Action.LOG, tuple(Direction)),
        ({"target": "destination"}, None, (Direction.DESTINATION,)),
        ({"target": "both", "action": "drop"}, Action.DROP, tuple(Direction)),
    ],
)
def test_absent_means_every_form_that_is_not_named(options, action, directions):
    networks, found = asked(addresses=["203.0.113.7/24"], state="absent", **options)

    assert networks == ["203.0.113.0/24"]
    assert found == {"action": action, "directions": directions, "dry_run": False}


def test_defaults_are_those_of_the_contract():
    block = wanted(DEFAULTS)

    assert (block.action, block.duration, block.rule_name, block.reason) == (Action.DROP, 1800, "manual", "")
    assert (block.rate, block.burst, block.log_prefix) == ("10/minute", 5, "NGFW: ")


def test_purge_names_the_rule():
    _blocks, options = asked(addresses=[], purge=True, rule_name="list")

    assert options["purge"] == "list"


@pytest.mark.parametrize(
    ("option", "value"),
    [("duration", "30"), ("rule_name", ""), ("rate", "fast"), ("burst", 0), ("log_prefix", "ü")],
)
def test_every_option_is_checked_whether_the_action_needs_it_or_not(option, value):
    with pytest.raises(InvalidInput):
        wanted({**DEFAULTS, option: value})
    with pytest.raises(InvalidInput):
        asked(addresses=["203.0.113.7"], state="absent", **{option: value})
