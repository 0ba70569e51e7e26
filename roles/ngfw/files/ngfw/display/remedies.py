# SPDX-License-Identifier: GPL-3.0-or-later
"""What each refusal means, and what changes it: for people who ask why somebody was not blocked."""

from __future__ import annotations

_FORGEABLE = frozenset(("UDP", "ICMP", "IPv6-ICMP"))


def remedy(reason: str, protocol: str | None = None) -> str:
    """What to do about a skip of that reason; `protocol` is the record's. Empty where there is nothing to say."""
    word, _colon, detail = reason.partition(":")
    detail = detail.strip()
    if word == "spoofable":
        return _spoofable(detail, protocol)
    if word == "outbound":
        if detail.startswith("NO ADDRESS"):
            return "the record names nobody who could be blocked"
        return (
            "the offender lies inside: in home_net, or on a link of the host's while home_links is true; if its "
            "network is not yours, take it out of home_net in ngfw.yml, or set home_links to false"
        )
    if word == "reputation":
        return _reputation(detail)
    if word == "protected" and "families" in detail:
        return "name its family in families in ngfw.yml"
    return _REMEDIES.get(word, "")


_REMEDIES = {
    "protected": "an own address, gateway, resolver or SSH peer is never blocked: a block would lock you out",
    "whitelist": "ngfw whitelist remove takes the entry away; one of origin config stands in whitelist in ngfw.yml",
    "stale": (
        "the event was older than its block would have lasted: see lag in ngfw status and the clocks of host and "
        "sensor, or give the rule's action a longer duration"
    ),
    "breaker": (
        "there were more new blocks than circuit_breaker in ngfw.yml allows; raise its blocks if the attack is real, "
        "or use rate limits, which are not counted"
    ),
}


def _spoofable(detail: str, protocol: str | None) -> str:
    if detail.startswith("ENGINE EVENT"):
        return "an event of Suricata's own decoder: a rule acts on it only if its expression names the sid"
    if protocol in _FORGEABLE:
        return (
            f"anybody can write the source of {protocol}; a rule with spoofable: true acts all the same: keep it short"
        )
    return (
        "no proof of a handshake: the role's signatures set the flowbit ngfw.established after one (metadata: yes "
        "under alert in eve-log shows it; only where they are missing, a protocol that Suricata recognised counts); "
        "spoofable: true needs no proof"
    )


def _reputation(detail: str) -> str:
    if detail.startswith("REPUTATION UNKNOWN"):
        return "nobody could say: is a list loaded, is there a key (ngfw status)? intel: skip in the rule asks nobody"
    if detail.startswith("REPUTATION PENDING"):
        return "an answer is waited for; it decides again when it comes"
    if detail.startswith("REPUTATION CLEAN"):
        return "lists and providers know nothing bad; intel: skip in the rule blocks without asking"
    return "reputation is not asked about private space; intel: skip in the rule blocks without asking"
