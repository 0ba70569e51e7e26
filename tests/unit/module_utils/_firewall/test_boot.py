# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewall that would not come up at the next boot is said while there is time."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import boot

pytestmark = pytest.mark.feature("S6")

GUARDS = "-m set ! --match-set {0}-allow4 src -m set ! --match-set {0}-own4 src"
SAVED = """*filter
:INPUT ACCEPT [0:0]
:{0} - [0:0]
-A INPUT -j {0}
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A {0} -m set --match-set {0}-drop-src4 src GUARDS -j DROP
COMMIT
""".replace("GUARDS", GUARDS)
# As printed by nft 1.0.6 and 1.1.3 of rules that iptables-nft 1.8.9 made.
NFT = """table ip filter {
\tchain EDGE {
\t\tmeta l4proto tcp counter packets 0 bytes 0 accept
\t\txt match set xt match set counter packets 0 bytes 0 drop
\t}

\tchain INPUT {
\t\ttype filter hook input priority filter; policy accept;
\t\tcounter packets 0 bytes 0 jump EDGE
\t}
}
"""


class Host:
    def __init__(self, directory: Path) -> None:
        self.rules, self.sets = directory / "rules.v4", directory / "ipsets"
        self.ruleset, self.unit = directory / "nftables.conf", directory / "ngfw-sets.service"

    def warnings(self, *others: str) -> list[str]:
        return boot.warnings("NGFW", others)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(boot, "SAVED_RULES", (made.rules,))
    monkeypatch.setattr(boot, "_SAVED_SETS", (made.sets,))
    monkeypatch.setattr(boot, "_RULESETS", (made.ruleset,))
    monkeypatch.setattr(boot, "_WANTED_AT_BOOT", made.unit)
    return made


def test_nothing_saved_is_nothing_to_say(host: Host) -> None:
    assert host.warnings() == []


@pytest.mark.parametrize("chain", ["NGFW", "EDGE"])
def test_saved_rules_that_name_our_sets_are_said(host: Host, chain: str) -> None:
    host.rules.write_text(SAVED.format(chain))
    (found,) = host.warnings()
    assert found.startswith(f"{host.rules} names {chain}-allow4 and 2 more of our sets, but nothing makes it at boot")
    assert f"(iptables-save | grep -vw {chain})" in found


def test_the_remedy_leaves_no_line_of_ours() -> None:
    left = [line for line in SAVED.format("NGFW").splitlines() if "NGFW" not in line]
    assert [line for line in left if line.startswith("-A")] == ["-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"]


def test_the_roles_unit_makes_them(host: Host) -> None:
    host.rules.write_text(SAVED.format("EDGE"))
    host.unit.symlink_to("/etc/systemd/system/ngfw-sets.service")
    assert host.warnings() == []


def test_sets_that_are_saved_beside_the_rules_are_there_in_time(host: Host) -> None:
    host.rules.write_text(SAVED.format("NGFW"))
    sets = ["NGFW-drop-src4", "NGFW-allow4", "NGFW-own4"]
    host.sets.write_text("".join(f"create {name} hash:net family inet\n" for name in sets))
    assert host.warnings() == []
    host.sets.write_text("create NGFW-drop-src4 hash:net family inet\n")
    assert len(host.warnings()) == 1


def test_names_of_others_are_not_ours(host: Host) -> None:
    host.rules.write_text("*filter\n-A INPUT -m set --match-set web-allow4 src -j ACCEPT\nCOMMIT\n")
    assert host.warnings() == []


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_ruleset_that_nft_cannot_read_again_is_said(host: Host, quote: str) -> None:
    host.unit.symlink_to("/etc/systemd/system/ngfw-sets.service")
    host.ruleset.write_text(NFT.replace("match set", f"match {quote}set{quote}"))
    assert host.warnings() == []
    (found,) = host.warnings("EDGE")
    assert found.startswith(f"{host.ruleset} has the rules of our chain EDGE as nft prints them")


def test_a_chain_of_that_name_without_sets_is_somebody_elses(host: Host) -> None:
    host.ruleset.write_text(NFT.replace("xt match set ", ""))
    assert host.warnings("EDGE") == []
    host.ruleset.write_text(NFT.replace("chain EDGE", "chain USERS"))
    assert host.warnings("EDGE") == []
