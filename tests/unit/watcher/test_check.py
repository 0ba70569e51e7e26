# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ngfw import check
from ngfw.firewall.address import Network, parse_network
from ngfw.firewall.bridges import Bridge
from ngfw.settings.config import Config, LogSource

CONFIG = Config.default()


BOTH = frozenset(("ipv4", "ipv6"))


@pytest.mark.feature("S10")
@pytest.mark.parametrize(
    ("bridge", "changes", "named"),
    [
        (Bridge("br0", ("eth0", "tap1"), frozenset()), {}, True),
        (Bridge("br0", ("eth0",), frozenset(("ipv4",))), {}, True),
        (Bridge("br0", ("eth0",), frozenset(("ipv4",))), {"families": ("ipv4",)}, False),
        (Bridge("br0", ("eth0",), BOTH), {}, False),
        (Bridge("br0", (), frozenset()), {}, False),
        (Bridge("br0", ("eth0",), frozenset()), {"hooks": ("INPUT", "OUTPUT")}, False),
    ],
)
def test_a_bridge_that_passes_the_chain_by_is_named(bridge: Bridge, changes: dict[str, Any], named: bool) -> None:
    found = list(check.bridges(replace(CONFIG, **changes), lambda: [bridge]))
    assert len(found) == named
    for text in found:
        assert text.startswith(f"bridge br0: packets between its ports ({', '.join(bridge.ports)}) pass the chain by")
        assert "net.bridge.bridge-nf-call-ip6tables=1" in text


@pytest.mark.feature("S10", "S5")
def test_a_network_of_the_host_that_is_not_inside_is_named() -> None:
    def links() -> list[Network]:
        return [parse_network(text) for text in ("10.1.0.0/16", "198.51.100.0/24", "203.0.113.7", "2001:db8:1::/64")]

    alone = replace(CONFIG, home_links=False)
    assert [text.partition(" is")[0] for text in check.networks(alone, links)] == [
        "network 198.51.100.0/24",
        "network 2001:db8:1::/64",
    ]
    assert list(check.networks(CONFIG, links)) == []
    assert list(check.networks(replace(alone, home_net=()), links)) == [], "a lab"


@pytest.mark.feature("S10", "S4")
@pytest.mark.parametrize(
    ("key", "networks", "warned"),
    [
        ("whitelist", ["0.0.0.0/1", "203.0.113.7"], "whitelist: its networks cover 50% of all IPv4 addresses, so no"),
        ("home_net", ["::/1"], "home_net: its networks cover 100% of 2000::/3, the public IPv6 addresses, so nobody"),
        ("whitelist", [f"{octet}.0.0.0/8" for octet in range(1, 40)], "whitelist: its networks cover 15% of all"),
        ("home_net", ["10.0.0.0/8", "203.0.113.0/24", "2001:db8::/32", "fc00::/7"], ""),
    ],
)
def test_networks_that_leave_hardly_anybody_to_block(key: str, networks: list[str], warned: str) -> None:
    found = list(check.halves(replace(CONFIG, **{key: tuple(map(parse_network, networks))})))
    assert [text[: len(warned)] for text in found] == ([warned] if warned else [])
    assert list(check.halves(CONFIG)) == []


@pytest.mark.feature("S2")
def test_a_suricata_without_our_flowbits_is_named(tmp_path: Path) -> None:
    log = tmp_path / "eve.json"
    config = replace(CONFIG, sources=(LogSource(str(log)),))
    plain = b'{"event_type":"alert","proto":"TCP","app_proto":"http","flow":{"pkts_toserver":4,"pkts_toclient":3}}\n'
    marked = plain.replace(b'"flow"', b'"metadata":{"flowbits":["ngfw.syn"]},"flow"')
    assert list(check.flowbits(config)) == []
    log.write_bytes(b'{"event_type":"dns","proto":"UDP","app_proto":"dns","flow":{}}\nnonsense\n')
    assert list(check.flowbits(config)) == []
    log.write_bytes(plain * 4)
    assert list(check.flowbits(config)) == [], "too few to tell"
    log.write_bytes(plain * 5)
    (warning,) = check.flowbits(config)
    assert warning.startswith(f"source {log}: none of its last 5 records")
    assert "ngfw.rules" in warning
    assert list(check.flowbits(replace(config, spoof_guard=False))) == []
    log.write_bytes(plain * 5 + marked)
    assert list(check.flowbits(config)) == []
