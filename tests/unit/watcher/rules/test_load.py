# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.firewall.entry import Action
from ngfw.rules.load import RuleSet, load_rules, parse_rules
from ngfw.rules.model import RuleAction, Sequence
from ngfw.settings.config import Defaults
from ngfw.settings.yamlfile import ConfigError

GOOD = """\
rules:
  - name: Block SSH Brute Force
    description: Block hosts after 10 SSH attempts in 5 minutes
    type: ssh
    expression: dest_port == 22
    severity: high
    threshold: 10
    threshold_window: 300
    group_by: [offender]
    distinct: null
    sequence: null
    intel: skip
    spoofable: false
    actions:
      - {type: iptables_block, config: {target: offender, duration: 2h}}
      - {type: iptables_log, config: {prefix: "SSH: "}}
    enabled: true
    mitre: [T1110]
    tags: [ssh]
  - name: Slow down scanners
    type: alert
    expression: |
      alert.severity == 2
      and matches(http.url, "(?i)union.*select")
    threshold: 3
    threshold_window: 1m
    group_by: [src_ip, dest_port]
    distinct: alert.signature_id
    intel: confirm
    spoofable: true
    actions:
      - type: iptables_rate_limit
        config:
          rate: 5/second
          burst: 20
          target: src
          duration: 10m
  - name: After the scan
    type: flow
    expression: flow.state == "closed"
    threshold: 2
    threshold_window: 1m
    group_by: [src_ip, dest_port]
    sequence: {after: Slow down scanners, within: 2m}
    actions:
      - {type: iptables_reject, config: {target: destination}}
"""
"""Every key of a rule stands here at least once."""


def load(text: str) -> RuleSet:
    return parse_rules(text.encode("utf-8", "surrogatepass"), "web.yml")


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.feature("F1", "F5")
def test_every_key_is_taken() -> None:
    first, second, third = load(GOOD).rules
    assert first.name == "Block SSH Brute Force"
    assert (first.type, first.severity, first.threshold, first.window) == ("ssh", "high", 10, 300)
    assert (first.group_by, first.distinct, first.sequence) == (("offender",), None, None)
    assert (first.intel, first.spoofable, first.enabled) == ("skip", False, True)
    assert (first.mitre, first.tags, first.line, first.path) == (("T1110",), ("ssh",), 2, "web.yml")
    assert first.actions == (
        RuleAction(Action.DROP, "offender", 7200),
        RuleAction(Action.LOG, "offender", 1800, log_prefix="SSH: "),
    )
    assert first.expression.matches({"dest_port": 22})
    assert second.actions == (RuleAction(Action.RATE_LIMIT, "source", 600, rate="5/second", burst=20),)
    assert (second.distinct, second.window, second.intel) == ("alert.signature_id", 60, "confirm")
    assert third.sequence == Sequence("Slow down scanners", 120)
    assert third.actions[0].target == "destination"


def test_what_a_rule_leaves_out_comes_from_the_configuration() -> None:
    text = b"rules: [{name: a, type: ssh, expression: true}]"
    rule = parse_rules(text, "x.yml", Defaults("iptables_reject", "destination", 60)).rules[0]
    assert rule.actions == (RuleAction(Action.REJECT, "destination", 60),)
    assert (rule.threshold, rule.window, rule.severity, rule.intel) == (1, 60, "medium", "skip")
    assert rule.expression.matches({})
    assert parse_rules(text, "x.yml").rules[0].actions == (RuleAction(Action.DROP, "offender", 1800),)


@pytest.mark.parametrize(
    ("target", "group"),
    [("offender", "offender"), ("source", "src_ip"), ("src", "src_ip"), ("destination", "dest_ip"), ("dst", "dest_ip")],
)
def test_the_default_group_is_the_address_that_the_first_action_hits(target: str, group: str) -> None:
    text = f"rules: [{{name: a, type: ssh, expression: true, actions: [{{config: {{target: {target}}}}}]}}]"
    assert load(text).rules[0].group_by == (group,)


def test_a_rule_may_have_no_action_and_only_be_noted() -> None:
    rule = load("rules: [{name: a, type: ssh, expression: true, actions: []}]").rules[0]
    assert rule.actions == ()
    assert rule.group_by == ("offender",)


def test_disabled_rules_are_checked_but_not_run() -> None:
    rules = load("rules: [{name: a, type: ssh, expression: true, enabled: false}]")
    assert len(rules.rules) == 1
    assert len(rules) == 0
    assert list(rules) == []
    assert problems("rules: [{name: a, type: ssh, expression: nonsense, enabled: false}]")


def test_the_longest_window_is_that_of_an_enabled_rule_that_counts() -> None:
    assert load(GOOD).longest_window == 300
    assert load("rules: []").longest_window == 0
    assert load("rules: [{name: a, type: ssh, expression: true, threshold_window: 1h}]").longest_window == 0
    assert (
        load("rules: [{name: a, type: ssh, expression: true, distinct: src_port, threshold: 2}]").longest_window == 60
    )


def test_files_of_a_directory_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    rule = "rules: [{{name: {name}, type: ssh, expression: true}}]"
    for name in ("20-b.yml", "10-c.yaml", "30-a.yml", ".hidden.yml", "notes.txt", "old.yml.bak"):
        (tmp_path / name).write_text(rule.format(name=name), encoding="utf-8")
    (tmp_path / "15-empty.yml").write_text("# nothing\n", encoding="utf-8")
    rules = load_rules([tmp_path])
    assert [each.name for each in rules.rules] == ["10-c.yaml", "20-b.yml", "30-a.yml"]
    assert rules.rules[0].path == str(tmp_path / "10-c.yaml")
    assert [each.name for each in load_rules([tmp_path / "20-b.yml", tmp_path]).rules] == [
        "20-b.yml",
        "10-c.yaml",
        "30-a.yml",
    ]


@pytest.mark.feature("F1")
def test_all_problems_of_all_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("rules:\n  - name: x\n    type: ssh\n", encoding="utf-8")
    (tmp_path / "b.yml").write_text("rules: [\n", encoding="utf-8")
    (tmp_path / "c.yml").write_text("rule: []\n", encoding="utf-8")
    (tmp_path / "d.yml").mkdir()
    with pytest.raises(ConfigError) as caught:
        load_rules([tmp_path, tmp_path / "missing.yml"])
    assert {Path(problem.path).name for problem in caught.value.problems} == {
        "a.yml",
        "b.yml",
        "c.yml",
        "d.yml",
        "missing.yml",
    }


@pytest.mark.feature("F1")
def test_a_name_is_unique_over_all_files(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text("rules:\n  - {name: x, type: ssh, expression: true}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_rules([tmp_path])
    assert [str(problem) for problem in caught.value.problems] == [
        f"{tmp_path}/b.yml:2: a rule named 'x' is there already, {tmp_path}/a.yml:2; give this one another name"
    ]


@pytest.mark.feature("S5")
@pytest.mark.parametrize("group", ["offender/1", "offender/24", "src_ip/32", "flow.dest_ip/33", "dest_ip/128"])
def test_a_group_may_be_a_network(group: str) -> None:
    text = f"rules:\n  - {{name: x, type: flow, expression: true, group_by: [{group}]}}\n"
    assert load(text).rules[0].group_by == (group,)


@pytest.mark.feature("S5")
@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("offender/0", "'0' is no prefix; write offender/24, up to 32 for networks of IPv4 addresses, or offender/48"),
        ("offender/129", "'129' is no prefix"),
        ("offender/024", "'024' is no prefix"),
        ("offender/24/48", "'offender/24' is no address"),
        ("offender/", "'' is no prefix"),
        ("offender/٢", "'٢' is no prefix"),
        ("dest_port/24", "'dest_port' is no address, so it has no prefix; write it alone, or offender/24"),
        ("tunnel.src_ip/xx", "'xx' is no prefix"),
    ],
)
def test_a_wrong_network_to_group_by_is_one_problem(group: str, message: str) -> None:
    text = f"rules:\n  - {{name: x, type: flow, expression: true, group_by: ['{group}']}}\n"
    (problem,) = problems(text)
    assert problem.startswith("web.yml:2: an item of 'group_by' cannot be used: ")
    assert message in problem


def test_a_group_by_a_wrong_field_is_one_problem() -> None:
    text = "rules:\n  - {name: x, type: ssh, expression: true, group_by: [srcip]}\n"
    assert problems(text) == [
        "web.yml:2: an item of 'group_by' cannot be used: unknown field 'srcip'; did you mean 'src_ip'?"
    ]


def test_a_problem_in_a_block_of_text_has_the_line_within_it() -> None:
    text = GOOD.replace('      and matches(http.url, "(?i)union.*select")', "      and http.uri == 'x'")
    assert problems(text) == ["web.yml:24: 'expression': unknown field 'http.uri'; did you mean 'http.url'?"]


@pytest.mark.feature("F1")
def test_a_key_of_another_action_is_refused_with_its_place() -> None:
    text = GOOD.replace("duration: 2h}", "duration: 2h, rate: 5/second}")
    expected = "'rate' belongs to iptables_rate_limit, not to iptables_block; remove it"
    assert problems(text) == [f"web.yml:15: {expected}"]


SEQUENCES = [
    ("{after: zzz}", "names no rule"),
    ("{after: Slow down scaners}", "did you mean 'Slow down scanners'?"),
    ("{after: After the scan}", "comes back to itself"),
    ("{within: 5}", "'sequence.after' is missing"),
    ("{after: Slow down scanners, within: 0}", "from 1 to 86400"),
    ("{after: Slow down scanners, withing: 5}", "did you mean 'within'?"),
    ("Slow down scanners", "must be a mapping"),
]


@pytest.mark.feature("F1", "F4")
@pytest.mark.parametrize(("sequence", "words"), SEQUENCES)
def test_bad_sequences_are_refused(sequence: str, words: str) -> None:
    line = GOOD[: GOOD.index("{after:")].count("\n") + 1
    (found,) = problems(GOOD.replace("{after: Slow down scanners, within: 2m}", sequence))
    assert found.startswith(f"web.yml:{line}: ")
    assert words in found


@pytest.mark.feature("F1", "F4")
def test_a_circle_of_sequences_is_refused() -> None:
    rule = "  - {{name: {0}, type: ssh, expression: true, sequence: {{after: {1}}}}}\n"
    found = problems("rules:\n" + rule.format("a", "b") + rule.format("b", "c") + rule.format("c", "a"))
    assert len(found) == 3
    assert all("comes back to itself" in problem for problem in found)


@pytest.mark.feature("F4")
def test_a_sequence_wants_the_same_groups_and_an_enabled_rule() -> None:
    assert (
        "write the same 'group_by' in both"
        in problems(GOOD.replace("group_by: [src_ip, dest_port]\n    seq", "seq"))[0]
    )
    disabled = GOOD.replace("    intel: confirm", "    enabled: false\n    intel: confirm")
    assert "which is disabled; enable that rule" in problems(disabled)[0]


VALUES = {
    "name": ["", "null", "''", "[a]", "{a: b}", "12", "true", '"a\\"b"', '"a\\nb"', "x" * 65, '"a\'b"'],
    "description": ["[a]", "5", "true", "null"],
    "type": ["", "ssl", "Alert", "syslog", "[ssh]", "22", "true"],
    "expression": [
        "",
        "null",
        "22",
        "[a]",
        "{a: b}",
        "dest_prt == 22",
        "dest_port = 22",
        "dest_port == '22'",
        "dest_port ==",
        "(dest_port == 22",
        "dest_port == 22 zzz",
        "http.url == 'x'",
        "lenght(proto) == 1",
        "matches(proto, '[')",
        "matches(proto, '(a{999}){999}')",
        "in_subnet(src_ip, '10.0.0.0/99')",
        "src_ip == '10.0.0.0/8'",
        "proto.__class__ == 'x'",
        "__import__('os')",
        "null == dest_port",
        "'just text'",
        "1",
        "dest_port == 22h",
        "dest_port in []",
    ],
    "severity": ["", "urgent", "High", "1", "null", "[high]"],
    "threshold": ["", "0", "-1", "1.5", "'10'", "ten", "true", "010", "1_0", "100001", "[1]", "1e3", "null"],
    "threshold_window": ["", "0", "-5", "1.5", "'300'", "5 m", "5x", "1:30", "2d", "true", "[60]", "null"],
    "group_by": [
        "",
        "offender",
        "[]",
        "[ofender]",
        "[http.url]",
        "[1]",
        "[null]",
        "{a: b}",
        "[src_ip, nothing]",
        "null",
    ],
    "distinct": ["dst_port", "http.url", "[dest_port]", "5", "true", "''", "a..b"],
    "intel": ["", "maybe", "true", "Skip", "null"],
    "spoofable": ["", "yes", "'true'", "1", "null"],
    "enabled": ["", "on", "'false'", "0", "null"],
    "mitre": ["", "T1110", "[1110]", "[X1110]", "[T11]", "['T1110.1']", "null"],
    "tags": ["", "ssh", "[1]", "[[a]]", "{a: b}", "null"],
    "actions": [
        "",
        "iptables_block",
        "{type: iptables_block}",
        "[iptables_block]",
        "[{type: block}]",
        "[{type: iptables_drop}]",
        "[{type: 5}]",
        "[{typ: iptables_block}]",
        "[{type: iptables_block, target: offender}]",
        "[{type: iptables_block, config: 5}]",
        "[{type: iptables_block, config: null}]",
        "[{type: iptables_block, config: {target: victim}}]",
        "[{type: iptables_block, config: {target: both}}]",
        "[{type: iptables_block, config: {target: 1.2.3.4}}]",
        "[{type: iptables_block, config: {duration: 30}}]",
        "[{type: iptables_block, config: {duration: forever}}]",
        "[{type: iptables_block, config: {duration: -1h}}]",
        "[{type: iptables_block, config: {duration: 30d}}]",
        "[{type: iptables_block, config: {duration: 1.5h}}]",
        "[{type: iptables_block, config: {duration: true}}]",
        "[{type: iptables_block, config: {duratoin: 1h}}]",
        "[{type: iptables_block, config: {prefix: 'x'}}]",
        "[{type: iptables_block, config: {rate: 5/second}}]",
        "[{type: iptables_reject, config: {burst: 5}}]",
        "[{type: iptables_log, config: {rate: 5/second}}]",
        "[{type: iptables_log, config: {prefix: 12345}}]",
        "[{type: iptables_log, config: {prefix: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}}]",
        '[{type: iptables_log, config: {prefix: "a\\nb"}}]',
        "[{type: iptables_log, config: {prefix: 'a\"b'}}]",
        "[{type: iptables_log, config: {prefix: \u00e4}}]",
        "[{type: iptables_rate_limit, config: {rate: 5}}]",
        "[{type: iptables_rate_limit, config: {rate: 0/second}}]",
        "[{type: iptables_rate_limit, config: {rate: 5/fortnight}}]",
        "[{type: iptables_rate_limit, config: {rate: 99999/second}}]",
        "[{type: iptables_rate_limit, config: {rate: 1/day}}]",
        "[{type: iptables_rate_limit, config: {rate: 1/hour, burst: 25}}]",
        "[{type: iptables_rate_limit, config: {burst: 0}}]",
        "[{type: iptables_rate_limit, config: {burst: '5'}}]",
        "[{type: iptables_rate_limit, config: {prefix: x}}]",
        "[{type: iptables_block}, 5]",
        "[[]]",
        "null",
    ],
}
"""Values that are wrong for a key of the first rule of GOOD."""

FILES = [
    "- name: x\n",
    "rules\n",
    "5\n",
    "rule: []\n",
    "rules: {name: x}\n",
    "rules:\n",
    "rules: 5\n",
    "rules: [5]\n",
    "rules: [[]]\n",
    "rules: [{}]\n",
    "rules: []\nextra: 1\n",
    "rules: []\nrules: []\n",
    "rules: [\n",
    "rules:\n\t- name: x\n",
    "rules: &a []\nb: *a\n",
    "rules: !!python/name:os.system ''\n",
    "rules: []\n---\nrules: []\n",
    "rules: \x07\n",
]


def mutations() -> list[tuple[str, str]]:
    """(what was changed, the text of a bad file): the same list every time."""
    bad = [(repr(text), text) for text in FILES]
    lines = GOOD.splitlines(keepends=True)
    for key, values in VALUES.items():
        at = next(n for n, line in enumerate(lines) if line.strip(" -").startswith(f"{key}:"))
        indent = lines[at][: lines[at].index(key)]
        end = next(n for n in range(at + 1, len(lines)) if lines[n][:5].strip() or lines[n].startswith("  - "))
        for value in values:
            bad.append((f"{key}: {value}", "".join([*lines[:at], f"{indent}{key}: {value}\n", *lines[end:]])))
    for key in ("name", "type", "expression"):
        at = next(n for n, line in enumerate(lines) if line.strip(" -").startswith(f"{key}:"))
        without = "  -\n" if key == "name" else ""
        bad.append((f"no {key}", "".join([*lines[:at], without, *lines[at + 1 :]])))
    for key in (
        "description",
        "type",
        "severity",
        "threshold",
        "threshold_window",
        "group_by",
        "intel",
        "actions",
        "tags",
    ):
        bad.append((f"{key} misspelt", GOOD.replace(f"{key}:", f"{key[:-1]}:", 1)))
        at = next(n for n, line in enumerate(lines) if line.strip(" -").startswith(f"{key}:"))
        bad.append(
            (
                f"{key} twice",
                "".join([*lines[:at], lines[at] if key != "actions" else "    actions: []\n", *lines[at:]]),
            )
        )
    return bad


MUTATIONS = mutations()
REMEDY = re.compile(r"; |\?$|: (use|write|leave out) |must be")


def test_there_are_enough_mutations() -> None:
    assert len(MUTATIONS) >= 150
    assert load(GOOD)


@pytest.mark.feature("F1")
@pytest.mark.parametrize(("change", "text"), MUTATIONS, ids=[change for change, _text in MUTATIONS])
def test_bad_files_are_refused_with_file_line_and_remedy(change: str, text: str) -> None:
    found = problems(text)
    for problem in found:
        file, line, message = problem.split(":", 2)
        assert file == "web.yml"
        assert 1 <= int(line) <= text.count("\n") + 1
        assert REMEDY.search(message), problem
        assert len(problem) < 800


@given(st.sampled_from(GOOD.splitlines()), st.text("ab:-[]{}'\"#|> \n\t01,", max_size=20))
def test_a_changed_line_is_taken_or_refused(line: str, change: str) -> None:
    found: list[str] = []
    try:
        load(GOOD.replace(line, line[: len(line) // 2] + change, 1))
    except ConfigError as error:
        found = [str(problem) for problem in error.problems]
    assert all(problem.startswith("web.yml:") for problem in found)
