# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ngfw.display.explain import explained_lines, history
from ngfw.display.remedies import remedy
from ngfw.firewall.address import parse_network


@pytest.mark.feature("U5")
@pytest.mark.parametrize(
    ("reason", "protocol", "words"),
    [
        ("outbound: INTERNAL/PRIVATE (skipped)", "TCP", "home_net"),
        ("outbound: INTERNAL/PRIVATE (skipped)", "TCP", "home_links to false"),
        ("outbound: NO ADDRESS", None, "names nobody"),
        ("protected: 192.0.2.1 (own address)", "TCP", "never blocked"),
        ("protected: ipv6 is not among the families", "TCP", "families in ngfw.yml"),
        ("whitelist: 203.0.113.0/24 (office)", "TCP", "ngfw whitelist remove"),
        ("stale: 4000 s old", "TCP", "longer duration"),
        ("stale: no time", "TCP", "clocks"),
        ("spoofable", "TCP", "the flowbit ngfw.established"),
        ("spoofable", "UDP", "the source of UDP; a rule with spoofable: true"),
        ("spoofable: ENGINE EVENT (the rule does not name its sid)", "TCP", "names the sid"),
        ("reputation: REPUTATION UNKNOWN (fail-open: all TI providers failed)", "TCP", "is a list loaded"),
        ("reputation: REPUTATION PENDING (abuseipdb: asked)", "TCP", "waited for"),
        ("reputation: REPUTATION CLEAN (source=firehol)", "TCP", "intel: skip"),
        ("reputation: INTERNAL/PRIVATE (skipped)", "TCP", "private space"),
        ("breaker: 5000 blocks in 60 s on evidence that can be forged", "UDP", "circuit_breaker in ngfw.yml"),
    ],
)
def test_each_refusal_has_a_remedy(reason: str, protocol: str | None, words: str) -> None:
    assert words in remedy(reason, protocol)


@pytest.mark.feature("U5", "E5")
def test_the_history_has_the_remedies_and_people_read_each_once(tmp_path: Path) -> None:
    common = {"ts": "2025-09-02T11:24:45.000Z", "ip": "203.0.113.7", "rule": "High", "sid": 7, "msg": "x"}
    skips = [{**common, "action": "skip", "reason": "spoofable", "proto": "UDP"}] * 2
    block = {**common, "action": "block", "reason": "RULE High", "proto": "TCP"}
    lines = [json.dumps(each, separators=(",", ":")) + "\n" for each in (*skips, block)]
    (tmp_path / "alerts.json").write_text("".join(lines))
    found = history(tmp_path, [parse_network("203.0.113.7")], pytest.fail)
    assert [bool(each["remedy"]) for each in found] == [True, True, False]
    kinds = ("blocks", "whitelist", "reputation", "offences", "blocklists", "other_chains", "alerts")
    counts: list[dict[str, Any]] = [
        {"rule": "SSH brute force", "count": 12, "threshold": 20, "distinct": None, "left": 80.2, "forgeable": False},
        {"rule": "Port scan", "count": 3, "threshold": 15, "distinct": "dest_port", "left": 9.0, "forgeable": True},
    ]
    nothing: dict[str, Any] = {kind: [] for kind in kinds}
    text = "\n".join(explained_lines({"address": "203.0.113.7", **nothing, "history": found, "counts": counts}))
    assert "\n  12 of 20 for SSH brute force, 80 s left\n" in text
    assert "\n  3 of 15 different dest_port for Port scan, 9 s left; without proof of a handshake" in text
    assert text.count("anybody can write the source of UDP") == 1
    lost = "\n".join(explained_lines({"address": "203.0.113.7", **nothing, "history": [], "counts": None}))
    assert "see ngfw check" in lost
