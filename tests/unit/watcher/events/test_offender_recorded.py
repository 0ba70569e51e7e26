# SPDX-License-Identifier: GPL-3.0-or-later
"""What Suricata 7 and 8 wrote of forged packets and of real conversations: tests/data/proof.py says which."""

from __future__ import annotations

import importlib.util
import json
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from ngfw.decisions.decision import Decision
from ngfw.events.offender import Proof, proof, resolve
from ngfw.firewall.address import NetworkSet, parse_network
from ngfw.replay import replay
from ngfw.rules.load import parse_rules
from ngfw.settings.config import Config

DATA = Path(__file__).resolve().parents[3] / "data"
INSIDE = NetworkSet([parse_network("10.0.0.0/8")])
NOBODY = NetworkSet()


def _maker() -> Any:
    spec = importlib.util.spec_from_file_location("proof_maker", DATA / "proof.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = _maker()
RELEASES = ["7", "8"]


@lru_cache
def recorded(release: str) -> dict[str, list[dict[str, Any]]]:
    """The records of each scene."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in (DATA / "proof" / f"suricata{release}.json").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        found[MAKER.ADDRESSES[event["src_ip" if event["src_ip"] != MAKER.SERVER else "dest_ip"]]].append(event)
    return found


def shown(event: dict[str, Any]) -> Proof:
    return proof(event, resolve(event, INSIDE, NOBODY), NOBODY)


def without_flowbits(event: dict[str, Any]) -> dict[str, Any]:
    """As a Suricata writes it that has not the role's signatures."""
    return {key: value for key, value in event.items() if key != "metadata"}


@pytest.mark.parametrize("release", RELEASES)
def test_each_scene_is_recorded(release: str) -> None:
    assert recorded(release).keys() == MAKER.SCENES.keys()


@pytest.mark.feature("S2", "S8")
@pytest.mark.parametrize("name", [*MAKER.FORGED, *MAKER.UNSEEN])
@pytest.mark.parametrize("release", RELEASES)
def test_nothing_is_proven_by_forged_packets_or_by_half_of_a_conversation(release: str, name: str) -> None:
    events = recorded(release)[name]
    assert [event for event in events if shown(event) is not Proof.NONE] == []
    assert any(event["event_type"] == "alert" for event in events)
    assert not any(event.get("app_proto") == "failed" for event in events)


@pytest.mark.feature("S2", "S8")
@pytest.mark.parametrize("name", MAKER.REAL)
@pytest.mark.parametrize("release", RELEASES)
def test_a_conversation_is_proven_from_the_first_alert_on_payload(release: str, name: str) -> None:
    events = recorded(release)[name]
    alerts = [event for event in events if event["event_type"] == "alert"]
    others = [event for event in events if event["event_type"] != "alert"]
    proven = [shown(event) is Proof.HANDSHAKE for event in alerts]
    assert proven == sorted(proven), "once and for all"
    assert sum(not each for each in proven) <= (3 if name == "http-again" else 2), "SYN and ACK"
    assert all(shown(event) is Proof.HANDSHAKE for event in others)
    assert any(event.get("app_proto") == "failed" for event in events) == (name == "unknown-longer")
    if name in ("http", "ssh"):
        assert name in {event["event_type"] for event in others}


@pytest.mark.feature("S2")
@pytest.mark.parametrize("name", MAKER.SCENES)
@pytest.mark.parametrize("release", RELEASES)
def test_without_the_flowbits_alerts_go_by_the_protocol(release: str, name: str) -> None:
    alerts = [without_flowbits(event) for event in recorded(release)[name] if event["event_type"] == "alert"]
    proven = [shown(event) is Proof.HANDSHAKE for event in alerts]
    assert any(proven) == (name in ("http", "http-again", "ssh", "tls", "data-in-the-third-packet"))
    flows = [without_flowbits(event) for event in recorded(release)[name] if event["event_type"] == "flow"]
    if name in MAKER.REAL and name != "unknown-reset":
        assert {shown(event) for event in flows} == {Proof.HANDSHAKE}
    elif name in MAKER.FORGED and not any("app_proto" in event for event in flows):
        assert {shown(event) for event in flows} == {Proof.NONE}


@pytest.mark.feature("S5")
@pytest.mark.parametrize("release", RELEASES)
def test_the_server_of_a_connection_picked_up_midway_is_no_offender(release: str) -> None:
    ours = NetworkSet([parse_network("203.0.113.0/24")])
    for event in recorded(release)["midway-server-first"]:
        resolution = resolve(event, ours, NOBODY)
        assert resolution.address is None or resolution.outbound
        if event["event_type"] == "alert":
            assert event["flow"]["src_ip"] == MAKER.SERVER, "Suricata takes the server for the one who began"


RULES = b"""
rules:
  - name: Any alert
    type: alert
    expression: proto == "TCP"
    severity: high
    actions:
      - {type: iptables_block, config: {duration: 30m}}
  - name: Any flow
    type: flow
    expression: proto == "TCP"
    severity: high
    actions:
      - {type: iptables_block, config: {duration: 30m}}
  - name: Any page
    type: http
    expression: http.url != ""
    severity: high
    actions:
      - {type: iptables_block, config: {duration: 30m}}
"""


@pytest.mark.feature("S2", "S8")
@pytest.mark.parametrize("release", RELEASES)
def test_whoever_held_a_conversation_is_blocked_and_nobody_whose_address_was_forged(release: str) -> None:
    decisions: list[Decision] = []
    path = DATA / "proof" / f"suricata{release}.json"
    rules = parse_rules(RULES, "test.yml")
    replay([path], Config.default(), rules, on_decision=decisions.append, report=lambda text: None)
    blocked = {MAKER.ADDRESSES[decision.ip] for decision in decisions if decision.block is not None}
    assert blocked == set(MAKER.REAL)
    skipped = {MAKER.ADDRESSES[each.ip] for each in decisions if each.what.reason == "spoofable"}
    assert skipped >= set(MAKER.FORGED), "and the skip is said"
