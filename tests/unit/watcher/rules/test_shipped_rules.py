# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped rules on what live Suricata 7 and 8 wrote of attacks and everyday traffic (tests/data/eve/ORIGIN.md)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from ngfw.commands import SHIPPED_RULES
from ngfw.decisions.decision import Decision
from ngfw.firewall.address import parse_network
from ngfw.replay import Summary, replay
from ngfw.rules.fields import types_of
from ngfw.rules.load import RuleSet, load_rules
from ngfw.rules.model import Rule
from ngfw.settings.config import Config, Intel, Netset

DATA = Path(__file__).parents[3] / "data"
SIGNATURES = SHIPPED_RULES.parent / "suricata" / "ngfw.rules"
SHARED = Path(os.environ.get("NGFW_DATA", Path(__file__).parents[4].parent / "shared" / "data"))
CORPUS = SHARED / "suricata"

HOST, HOST6 = "198.51.100.11", "2001:db8:198:51::b"
ATTACKER, ATTACKER6 = "198.51.100.66", "2001:db8:198:51::/64"
CONFIG = Config.default()
# In a watch the host knows its own addresses; a replay has only the home net.
CONFIG = replace(
    CONFIG,
    home_net=(*CONFIG.home_net, parse_network(HOST), parse_network(HOST6)),
    intel=Intel(netsets=()),
)
RULES = load_rules([SHIPPED_RULES])
REPUTATION = "Alert from an address of bad reputation"
DURATIONS = {"low": 600, "medium": 1800, "high": 3600}


class Case(NamedTuple):
    """The first decision of a rule on a recording: what is done to whom, for how long, or why nothing is."""

    rule: str
    recording: str
    action: str = "block"
    ip: str = ATTACKER
    reason: str = ""


CASES = (
    Case("SQL injection", "sql"),
    Case("SQL injection", "sql-ipv6", ip=ATTACKER6),
    Case("Path traversal", "traversal"),
    Case("Exploit user agent", "agents"),
    Case("Cross-site scripting", "xss"),
    Case("High-severity alert", "holes"),
    Case("Several medium-severity alerts", "files"),
    Case(REPUTATION, "secret", "skip", reason="reputation: REPUTATION "),
    Case("DNS tunnelling", "dns-tunnel", "skip", HOST, "outbound: INTERNAL/PRIVATE (skipped)"),
    Case("SSH brute force", "ssh"),
    Case("FTP brute force", "ftp"),
    Case("RDP brute force", "rdp"),
    Case("HTTP login brute force", "web-login"),
    Case("Port scan", "syn-scan"),
    Case("SYN flood", "syn-flood", "rate_limit"),
)

# Recorded in the wild or by Suricata's own tests, and no attack in them: what fires there is about broken stacks,
# checksums left to the network card, or a rule that describes ordinary traffic.
BENIGN = (
    "alert-distance-within-1@builtin",
    "bug-1450-04@builtin",
    "bug-2511@builtin",
    "bug-76@builtin",
    "decode-too-many-layers@builtin",
    "dhcp-eve-extended",
    "dhcp-option-52-overload-both@builtin",
    "dns__v2__dns-z-bit",
    "dns__v2__dns-z-bit@live",
    "http-evader__http-evader-374@builtin",
    "ja4-rules-requires-off",
    "output-eve-smb-01",
    "quic-v2",
    "security-4710-02@builtin",
    "smtp-errors@builtin",
    "ssh-hassh-only",
    "ssh-hassh-reassembled",
    "ssh-hassh-reassembled@live",
    "ssh-newkeys",
    "tls__tls-cert-chain-len",
    "tls__tls-cert-validity",
)


@pytest.fixture(params=["eve", "eve8"], ids=["Suricata 7", "Suricata 8"])
def recordings(request: pytest.FixtureRequest) -> Path:
    """The recordings of one version; a test that asks for it runs with each."""
    return DATA / str(request.param)


def run(path: Path, rules: Iterable[Rule] = RULES, config: Config = CONFIG) -> tuple[list[Decision], Summary]:
    decisions: list[Decision] = []
    said: list[str] = []
    summary = replay([path], config, RuleSet(tuple(rules)), on_decision=decisions.append, report=said.append)
    assert said == []
    return decisions, summary


def rule_named(name: str) -> Rule:
    return next(rule for rule in RULES.rules if rule.name == name)


@pytest.mark.feature("F7")
def test_every_shipped_rule_has_a_recording_on_which_it_fires() -> None:
    assert {case.rule for case in CASES} == {rule.name for rule in RULES.rules}
    assert all(rule.enabled for rule in RULES.rules)


@pytest.mark.feature("F7", "S8")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.recording}")
def test_a_rule_alone_decides_as_expected(case: Case, recordings: Path) -> None:
    rule = rule_named(case.rule)
    decisions, _summary = run(recordings / f"{case.recording}.json", [rule])
    first = decisions[0]
    assert (first.action, first.ip, first.what.rule) == (case.action, case.ip, case.rule)
    assert first.what.target == "source"
    if case.action == "skip":
        assert first.what.reason.startswith(case.reason)
        assert first.what.duration is None
    else:
        assert first.what.reason == f"RULE {case.rule}"
        assert first.what.duration == DURATIONS[rule.severity]
    assert {decision.ip for decision in decisions} == {case.ip}


@pytest.mark.feature("F7", "B4", "B6")
def test_any_alert_of_an_address_on_a_list_blocks_it(tmp_path: Path, recordings: Path) -> None:
    netset = tmp_path / "list.netset"
    netset.write_text(f"# bad ones\n{ATTACKER}\n")
    config = replace(CONFIG, intel=Intel(netsets=(Netset("firehol_level1", str(netset)),)))
    decisions, _summary = run(recordings / "secret.json", [rule_named(REPUTATION)], config)
    assert [(each.action, each.ip, each.what.reason, each.what.sources, each.what.duration) for each in decisions] == [
        ("block", ATTACKER, "REPUTATION BLOCK (source=firehol)", ("firehol_level1",), 3600)
    ]


@pytest.mark.feature("F7", "S8")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.recording}")
def test_among_all_rules_it_gives_the_block_its_name(case: Case, recordings: Path) -> None:
    decisions, summary = run(recordings / f"{case.recording}.json")
    acted = [decision for decision in decisions if decision.action != "skip"]
    assert summary.metrics.rule_hits[case.rule] >= 1
    assert {decision.ip for decision in acted} <= {ATTACKER, ATTACKER6}
    if case.action == "skip":
        assert acted == []
    else:
        assert (acted[0].what.rule, acted[0].action, acted[0].ip) == (case.rule, case.action, case.ip)


@pytest.mark.feature("F7", "S8")
def test_nothing_is_hit_by_everyday_traffic(recordings: Path) -> None:
    decisions, summary = run(recordings / "benign.json", (rule for rule in RULES.rules if rule.name != REPUTATION))
    assert decisions == []
    assert not summary.metrics.rule_hits
    assert sum(summary.metrics.events.values()) > 100
    assert {"http", "ssh", "ftp", "rdp", "dns", "flow", "alert"} <= set(summary.metrics.events)
    decisions, _summary = run(recordings / "benign.json")
    assert {decision.action for decision in decisions} <= {"skip"}


@pytest.mark.feature("F7")
@pytest.mark.parametrize("name", BENIGN)
def test_nothing_is_hit_by_benign_captures(name: str) -> None:
    path = CORPUS / name / "eve.json"
    if not path.exists():
        pytest.skip(f"no recorded Suricata output in {CORPUS}")
    decisions, summary = run(path)
    assert set(summary.metrics.rule_hits) <= {REPUTATION}
    assert {decision.action for decision in decisions} <= {"skip"}


@pytest.mark.feature("S8")
@pytest.mark.parametrize("name", sorted(path.name for path in (SHARED / "suricata8").glob("*.json")) or ["absent"])
def test_the_rules_hit_on_other_recordings_of_suricata_8_alike(name: str) -> None:
    path = SHARED / "suricata8" / name
    if not path.exists():
        pytest.skip(f"no recorded output of Suricata 8 in {SHARED}")
    _decisions, summary = run(path)
    _decisions, known = run(DATA / "eve8" / name)
    assert set(summary.metrics.rule_hits) == set(known.metrics.rule_hits)


@pytest.mark.feature("S8", "F1")
def test_rules_can_name_every_field_of_both_versions(recordings: Path) -> None:
    for path in sorted(recordings.glob("*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            for field in paths(record):
                types_of(field, record["event_type"])


def paths(value: object, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all that is in a record, as expressions write them."""
    items: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:1])
    for name, inner in items:
        yield (*above, name)
        yield from paths(inner, (*above, name))


@pytest.mark.feature("F7", "S8")
def test_every_signature_has_fired_in_live_suricata(recordings: Path) -> None:
    signatures = [line for line in SIGNATURES.read_text(encoding="utf-8").splitlines() if line.startswith("alert ")]
    shipped = {int(sid) for line in signatures if "noalert" not in line for sid in re.findall(r"\bsid:(\d+);", line)}
    seen = {
        json.loads(line)["alert"]["signature_id"]
        for path in recordings.glob("*.json")
        for line in path.read_text(encoding="utf-8").splitlines()
        if '"event_type":"alert"' in line
    }
    assert shipped <= seen


def test_no_shipped_signature_fires_on_everyday_traffic(recordings: Path) -> None:
    lines = (recordings / "benign.json").read_text(encoding="utf-8").splitlines()
    sids = {json.loads(line).get("alert", {}).get("signature_id", 0) for line in lines}
    assert not {sid for sid in sids if 1900001 <= sid <= 1900999}


@pytest.mark.parametrize("rule", RULES.rules, ids=lambda rule: rule.name)
def test_a_shipped_rule_says_all_of_itself(rule: Rule) -> None:
    assert rule.description
    assert rule.mitre
    assert rule.tags
    for action in rule.actions:
        assert (action.target, action.duration) == ("offender", DURATIONS[rule.severity])
    # What can be forged never costs an address more than ten minutes.
    assert not rule.spoofable or rule.severity == "low"


@pytest.mark.parametrize("rule", RULES.rules, ids=lambda rule: rule.name)
def test_rules_name_only_signatures_that_exist(rule: Rule) -> None:
    text = SIGNATURES.read_text(encoding="utf-8")
    for sid in rule.expression.required.get("alert.signature_id", ()):
        assert f"sid:{sid};" in text


@pytest.mark.feature("G8")
@pytest.mark.parametrize(
    ("recording", "sids"),
    [("ping", {1000001}), ("secret", {1000003}), ("banner", {1000004}), ("dns", {1000005}), ("sql", {1900005})],
)
def test_the_lab_sees_what_its_generator_sends(recording: str, sids: set[int], recordings: Path) -> None:
    lines = (recordings / f"{recording}.json").read_text(encoding="utf-8").splitlines()
    assert sids <= {json.loads(line).get("alert", {}).get("signature_id") for line in lines}
