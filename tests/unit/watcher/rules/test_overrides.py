# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from ngfw.display.overrides import overridden
from ngfw.rules.load import RuleSet, load_rules
from ngfw.settings import config
from ngfw.settings.yamlfile import ConfigError

SHIPPED = Path(__file__).parents[4] / "roles/ngfw/files/rules.d"


def load(text: str, **options: bool) -> RuleSet:
    overrides = config.loads(text).rule_overrides
    return load_rules([SHIPPED], overrides=overrides, **options)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.feature("U6")
def test_keys_of_shipped_rules_are_replaced_and_others_stay() -> None:
    rules = load(
        "rule_overrides:\n  SSH brute force: {threshold: 8, threshold_window: 5m}\n  Port scan: {enabled: false}\n"
    )
    shipped = load_rules([SHIPPED])
    brute, before = rules.named("SSH brute force"), shipped.named("SSH brute force")
    assert brute is not None
    assert before is not None
    assert (brute.threshold, brute.window, brute.actions) == (8, 300, before.actions)
    assert rules.named("Port scan") is None
    assert len(rules) == len(shipped) - 1
    assert [rule.name for rule in rules.rules] == [rule.name for rule in shipped.rules]
    assert overridden(rules) == {
        "SSH brute force": ["threshold 20 -> 8", "threshold_window 120 -> 300"],
        "Port scan": ["enabled true -> false"],
    }


@pytest.mark.feature("U6")
def test_every_key_but_the_name_can_be_replaced_and_null_takes_away() -> None:
    text = """
rule_overrides:
  Port scan:
    description: Ours
    type: flow
    expression: flow.state == "new"
    severity: high
    threshold: 7
    threshold_window: 1m
    group_by: [offender/24]
    distinct: null
    sequence: {after: SYN flood, within: 60}
    intel: confirm
    spoofable: false
    actions: [{type: iptables_log}, {type: iptables_block, config: {duration: 5m}}]
    enabled: true
    mitre: []
    tags: [ours]
  SYN flood:
    group_by: [offender/24]
"""
    rules = load(text)
    assert overridden(rules)["Port scan"] == [
        "description Connections to fifteen or more different ports in two minutes, one in four looked at -> Ours",
        "type alert -> flow",
        'expression alert.signature_id == 1900100 -> flow.state == "new"',
        "severity low -> high",
        "threshold 15 -> 7",
        "threshold_window 120 -> 60",
        "group_by [offender] -> [offender/24]",
        "distinct dest_port -> none",
        "sequence none -> after SYN flood within 60 s",
        "intel skip -> confirm",
        "spoofable true -> false",
        "actions [drop offender 10m] -> [log offender 30m, drop offender 5m]",
        "mitre [T1046] -> []",
        "tags [scan] -> [ours]",
    ]


@pytest.mark.feature("U6", "F1")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule_overrides: [x]", "1: 'rule_overrides' must be a mapping, not a list"),
        ("rule_overrides: {Port scan: 8}", "1: 'rule_overrides.Port scan' must be a mapping, not the number 8"),
        (
            "rule_overrides:\n  Port scan:\n    name: x",
            "3: 'rule_overrides.Port scan' cannot give the rule another name",
        ),
        (
            "rule_overrides:\n  SSH brute forse: {threshold: 8}",
            "2: 'rule_overrides' names no rule, 'SSH brute forse'; did you mean 'SSH brute force'?",
        ),
        (
            "rule_overrides:\n  Port scan:\n    treshold: 8",
            "3: unknown key 'treshold' in 'rule_overrides.Port scan'; did you mean 'threshold'?",
        ),
        (
            "rule_overrides:\n  Port scan:\n    threshold: many",
            "3: 'rule_overrides.Port scan.threshold' must be a whole",
        ),
        ("rule_overrides:\n  Port scan:\n    threshold: null", "3: 'rule_overrides.Port scan.threshold' has no value"),
        ("rule_overrides:\n  Port scan:\n    threshold: 99999", "3: 'threshold' is at most 10000 where 'distinct'"),
        (
            "rule_overrides:\n  Port scan:\n    expression: >-\n      alert.signature == 7",
            "4: 'expression': ",
        ),
        (
            "rule_overrides:\n  Port scan:\n    actions:\n      - type: iptables_log\n        config: {durration: 8m}",
            "5: unknown key 'durration' in 'rule_overrides.Port scan.actions.config'; did you mean 'duration'?",
        ),
        (
            "rule_overrides:\n  Port scan:\n    sequence: {after: SYN flod}",
            "3: rule 'Port scan': 'sequence.after' names no rule, 'SYN flod'; did you mean 'SYN flood'?",
        ),
        (
            "rule_overrides:\n  Port scan:\n    type: nonsense",
            "3: 'rule_overrides.Port scan.type' cannot be 'nonsense'",
        ),
    ],
)
def test_a_mistake_is_named_where_it_stands(text: str, message: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(f"ngfw.yml:{message}")


@pytest.mark.feature("U6")
def test_rules_that_are_not_all_there_are_need_not_have_those_that_are_overridden() -> None:
    text = "rule_overrides:\n  Site rule: {threshold: 8}\n  Port scan: {threshold: 8}\n"
    rules = load(text, all_rules=False)
    assert list(overridden(rules)) == ["Port scan"]
