# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pwd
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from ngfw import check
from ngfw.firewall.address import parse_network
from ngfw.settings.config import Config, LogSource

CONFIG = Config.default()


class Interfaces:
    """A `/sys/class/net` with bridges, and the switches of br_netfilter."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.settings = directory / "net", directory / "bridge"
        self.directory.mkdir()
        (self.directory / "eth9").mkdir()

    def bridge(self, name: str, *ports: str, filtered: bool = False) -> None:
        for family in ("iptables", "ip6tables"):
            switch = self.directory / name / "bridge" / f"nf_call_{family}"
            switch.parent.mkdir(parents=True, exist_ok=True)
            switch.write_text(f"{int(filtered)}\n")
        for port in ports:
            (self.directory / name / "brif" / port).mkdir(parents=True)

    def load_module(self, *, four: int = 1, six: int = 1) -> None:
        self.settings.mkdir()
        (self.settings / "bridge-nf-call-iptables").write_text(f"{four}\n")
        (self.settings / "bridge-nf-call-ip6tables").write_text(f"{six}\n")

    def warnings(self, config: Config = CONFIG) -> list[str]:
        return list(check.bridges(config, self.directory, self.settings))


@pytest.fixture
def here(tmp_path: Path) -> Interfaces:
    return Interfaces(tmp_path)


@pytest.mark.feature("S10")
def test_a_bridge_that_passes_the_chain_by_is_named(here: Interfaces) -> None:
    here.bridge("br0", "eth0", "tap1")
    here.bridge("br1")
    (warning,) = here.warnings()
    assert warning.startswith("bridge br0: packets between its ports (eth0, tap1) pass")
    assert "net.bridge.bridge-nf-call-ip6tables=1" in warning
    assert "ip6tables" not in here.warnings(replace(CONFIG, families=("ipv4",)))[0]


@pytest.mark.feature("S10")
@pytest.mark.parametrize(("four", "six", "named"), [(1, 1, False), (0, 1, True), (1, 0, True)])
def test_a_bridge_is_well_where_each_family_meets_the_chain(here: Interfaces, four: int, six: int, named: bool) -> None:
    here.bridge("br0", "eth0")
    here.load_module(four=four, six=six)
    assert bool(here.warnings()) is named


@pytest.mark.feature("S10")
def test_a_bridge_can_be_switched_on_alone(here: Interfaces) -> None:
    here.bridge("br0", "eth0", filtered=True)
    assert here.warnings()
    here.load_module(four=0, six=0)
    assert here.warnings() == []


def test_what_is_forwarded_is_of_no_concern_without_that_hook(here: Interfaces) -> None:
    here.bridge("br0", "eth0")
    assert here.warnings(replace(CONFIG, hooks=("INPUT",))) == []


@pytest.mark.feature("S10")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask for somebody else")
def test_a_file_is_tried_as_the_watchers_user() -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as name:
        directory, path = Path(name), Path(name, "eve.json")
        path.touch(0o644)
        directory.chmod(0o755)
        assert check._can_read(nobody, str(path))
        path.chmod(0o600)
        assert not check._can_read(nobody, str(path))
        path.chmod(0o644)
        directory.chmod(0o700)
        assert not check._can_read(nobody, str(path))


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
    assert "docs/decisions.md" in warning
    assert list(check.flowbits(replace(config, spoof_guard=False))) == []
    log.write_bytes(plain * 5 + marked)
    assert list(check.flowbits(config)) == []
