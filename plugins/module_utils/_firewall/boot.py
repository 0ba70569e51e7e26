# SPDX-License-Identifier: GPL-3.0-or-later
"""What the next boot finds: saved rules that name our sets, and fail as a whole where these are missing.

Formats: iptables-save(8), ipset(8) `save`, nft(8) `list ruleset`, which prints our rules so that it cannot read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import UnsafeFile
from .files import read_bytes
from .ipset import IpSets
from .layout import Role, SetSpec, chain_of, own_set, parse_set_name

SAVED_RULES = (
    Path("/etc/iptables/rules.v4"),
    Path("/etc/iptables/rules.v6"),
    Path("/etc/sysconfig/iptables"),
    Path("/etc/sysconfig/ip6tables"),
)
"""Where distributions keep the rules that an administrator saved, ours maybe among them."""

_SAVED_SETS = (Path("/etc/iptables/ipsets"), Path("/etc/sysconfig/ipset"))
_RULESETS = (Path("/etc/nftables.conf"), Path("/etc/sysconfig/nftables.conf"))
_WANTED_AT_BOOT = Path("/etc/systemd/system/sysinit.target.wants/ngfw-sets.service")
_MAX_BYTES = 64 << 20
_MATCH = re.compile(r"--match-set (\S+) ")
_CREATE = re.compile(r"^create (\S+) ", re.MULTILINE)
_NFT_CHAIN = re.compile(r"^\s*chain ([A-Za-z0-9_]{1,12}) \{\n(?:(?!\s*\}).*\n)*?.*\bxt match \"?set\b", re.MULTILINE)


def make_named(rules: Iterable[Path], chain: str, sets: IpSets) -> None:
    """Make, empty, the sets that are missing and that rules in these files name, of this chain or another of ours.

    Rules that name one that is missing are refused as a whole, by the program that puts them back. A file that is not
    there or may not be read is passed over. Raises what IpSets raises.
    """
    present = sets.headers()
    for path in rules:
        for spec in named_sets(path, chain):
            if spec.name not in present:
                sets.create(spec.name, spec.family, plain=spec.role is Role.LIST)


def warnings(chain: str, chains: Iterable[str]) -> list[str]:
    """What of the next boot fails for our sake: `chain` is ours, and so are the other `chains` on this host."""
    found = []
    kept = {name for path in _SAVED_SETS for name in _CREATE.findall(_text(path))}
    for path in SAVED_RULES:
        missing = sorted(spec.name for spec in named_sets(path, chain) if spec.name not in kept)
        if missing and not _WANTED_AT_BOOT.is_symlink():
            more = f" and {len(missing) - 1} more of our sets" if len(missing) > 1 else ", a set of ours"
            found.append(
                f"{path} names {missing[0]}{more}, but nothing makes it at boot before these rules are put back: all "
                f"would fail. Save them without ours (iptables-save | grep -vw {chain_of(missing[0])}), or deploy the "
                "role reflex.ngfw.ngfw"
            )
    for path in _RULESETS:
        ours = {chain, *chains}.intersection(_NFT_CHAIN.findall(_text(path)))
        found += [
            f"{path} has the rules of our chain {name} as nft prints them and cannot read again: the whole file fails "
            "at boot. Take that chain, and the jumps to it, out of the file"
            for name in sorted(ours)
        ]
    return found


def named_sets(path: Path, chain: str) -> Iterator[SetSpec]:
    """The sets of ours that saved rules name: of this chain, or of another one that is guarded as ours are.

    Each rule of a chain of ours names its set of protected addresses.
    """
    names = sorted(set(_MATCH.findall(_text(path))))
    for name in names:
        owner = chain_of(name)
        spec = parse_set_name(owner, name)
        if spec is not None and (owner == chain or own_set(owner, spec.family).name in names):
            yield spec


def _text(path: Path) -> str:
    try:
        return read_bytes(path, _MAX_BYTES, follow=True).decode("utf-8", "replace")
    except (OSError, UnsafeFile):
        return ""
