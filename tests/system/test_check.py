# SPDX-License-Identifier: GPL-3.0-or-later
"""The warnings of `ngfw check` on a network of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ngfw.firewall.bridges import SWITCHES

from ..namespace import Namespace
from .conftest import FILES


@pytest.fixture
def host() -> Iterator[Namespace]:
    off = {f"bridge/{name}": "0" for name in SWITCHES.values()} if Path("/proc/sys/net/bridge").exists() else {}
    namespace = Namespace(off)
    yield namespace
    namespace.close()


def warnings(host: Namespace, config: Path) -> list[str]:
    command = [sys.executable, "-m", "ngfw", "check", "--json", "--config", str(config)]
    done = host.run("env", f"PYTHONPATH={FILES}", *command)
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"]) == (0, True)
    return [text for text in found["warnings"] if not text.startswith("source")]


@pytest.mark.feature("S10")
def test_bridges_and_networks_that_are_not_as_meant(host: Namespace, tmp_path: Path) -> None:
    (tmp_path / "rules.d").mkdir()
    config = tmp_path / "ngfw.yml"
    config.write_text(f"rules_directory: {tmp_path}/rules.d\nhome_links: false\nhooks: [INPUT]\n")
    assert warnings(host, config) == []
    host.ip("link add br0 type bridge", "link add port type veth peer name end", "link set port master br0")
    host.ip("link set br0 up", "address add 203.0.113.1/24 dev br0", "address add 10.0.0.1/24 dev br0")
    (network,) = warnings(host, config)
    assert network.startswith("network 203.0.113.0/24 is on a link of this host and not inside")
    config.write_text(f"rules_directory: {tmp_path}/rules.d\n")
    (bridge,) = warnings(host, config)
    assert bridge.startswith("bridge br0: packets between its ports (port) pass the chain by")
    if Path("/proc/sys/net/bridge").exists():
        host.ip("link set br0 type bridge nf_call_iptables 1 nf_call_ip6tables 1")
        assert warnings(host, config) == []
