# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain and its jumps: read from iptables-save, written by one iptables-restore, compared by meaning."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .address import IPV4, IPV6
from .errors import FirewallError, KernelError, MissingTool, NotPermitted, SetMissing
from .layout import HOOKS, Rule
from .runner import Output, Runner

_SAVE = {IPV4: "iptables-save", IPV6: "ip6tables-save"}
_RESTORE = {IPV4: "iptables-restore", IPV6: "ip6tables-restore"}
_LEGACY_TABLES = {IPV4: "ip_tables_names", IPV6: "ip6_tables_names"}
_ARITY = {"--match-set": 2, "--tcp-flags": 2}
_RATES = ("--limit", "--hashlimit-above")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ChainState(NamedTuple):
    """The chain in one family: its rules, the positions (from 1) of the plain jumps to it by hook, and the texts of
    all other rules anywhere in the table that lead to it; `doubled` are those of them that do so from a hook without
    any condition, as a jump with a comment does."""

    exists: bool = False
    rules: tuple[Rule, ...] = ()
    jumps: Mapping[str, tuple[int, ...]] = {}
    other_jumps: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()


def parse_save(text: str, chain: str, siblings: Collection[str] = ()) -> ChainState:
    """What an `iptables-save -t filter` says of the chain.

    `siblings` are other chains of ours: jumps to them that come first take no position.
    """
    exists = False
    rules: list[Rule] = []
    jumps: dict[str, list[int]] = {}
    others: list[str] = []
    doubled: list[str] = []
    count: dict[str, int] = {}
    ends = (f" -j {chain}", f" -g {chain}")
    beside = {f"-j {sibling}" for sibling in siblings}
    for line in text.split("\n"):
        if line.startswith(f":{chain} "):
            exists = True
        if not line.startswith("-A "):
            continue
        holder, _space, specification = line[3:].partition(" ")  # a rule that only counts has no more than its holder
        if specification in beside and holder not in count:
            continue
        count[holder] = count.get(holder, 0) + 1
        if holder == chain:
            rules.append(_words(specification))
        elif line.endswith(ends):
            if holder in HOOKS and specification == f"-j {chain}":
                jumps.setdefault(holder, []).append(count[holder])
            else:
                others.append(f"{holder} {specification}")
                if holder in HOOKS and _is_unconditional(_words(specification)):
                    doubled.append(others[-1])
    positions = {hook: tuple(at) for hook, at in jumps.items()}
    return ChainState(exists, tuple(rules), positions, tuple(others), tuple(doubled))


def _words(specification: str) -> Rule:
    """A rule's arguments; one that cannot be parted, for a comment in it goes on in the next line, is one word."""
    try:
        return tuple(shlex.split(specification))
    except ValueError:
        return (specification,)


def _is_unconditional(rule: Rule) -> bool:
    """Whether a rule has nothing but its target and comments."""
    return all(words[0] in ("-j", "-g", "--comment") for words in meaning(rule))


def same_rules(first: Sequence[Rule], second: Sequence[Rule]) -> bool:
    """Whether two chains do the same."""
    return [meaning(rule) for rule in first] == [meaning(rule) for rule in second]


def meaning(rule: Rule) -> tuple[Rule, ...]:
    """A rule as the set of its conditions and its target, however iptables prints it.

    The order of conditions, names of match modules, hashlimit's expiry (the kernel keeps the first anyway) and the
    unit of a rate do not count.
    """
    conditions = []
    position = 0
    while position < len(rule):
        negated = rule[position] == "!"
        option = position + negated
        end = option + 1 + _ARITY.get(rule[option], 1) if option < len(rule) else option
        words = rule[option:end]
        position = end
        if not words or words[0] == "-m" or words[0].startswith("--hashlimit-htable-"):
            continue
        if words[0] in _RATES and len(words) == 2:
            words = (words[0], _per_day(words[1]))
        if words[0] == "-p" and words[-1] in ("icmpv6", "icmp6"):
            words = ("-p", "ipv6-icmp")
        conditions.append(("!", *words) if negated else words)
    return tuple(sorted(conditions))


def jumps_are_right(state: ChainState, hooks: Iterable[str]) -> bool:
    """Whether exactly these hooks jump to the chain, once each and first of all."""
    return dict(state.jumps) == dict.fromkeys(hooks, (1,)) and not state.doubled


def render_present(chain: str, state: ChainState, rules: Sequence[Rule], hooks: Sequence[str]) -> str:
    """Input for one iptables-restore that gives the chain these rules and jumps, in one transaction."""
    lines = [f":{chain} - [0:0]"]
    lines += [f"-A {chain} " + " ".join(_quoted(word) for word in rule) for rule in rules]
    lines += [f"-D {text}" for text in state.doubled]
    for hook in HOOKS:
        present = state.jumps.get(hook, ())
        if present == ((1,) if hook in hooks else ()):
            continue
        lines += [f"-D {hook} -j {chain}"] * len(present)
        if hook in hooks:
            lines.append(f"-I {hook} 1 -j {chain}")
    return "\n".join(("*filter", *lines, "COMMIT", ""))


def render_absent(chain: str, state: ChainState) -> str:
    """Input for one iptables-restore that removes the chain and all that leads to it."""
    lines = [f"-D {hook} -j {chain}" for hook, present in state.jumps.items() for _position in present]
    lines += [f"-D {text}" for text in state.other_jumps]
    return "\n".join(("*filter", *lines, f"-F {chain}", f"-X {chain}", "COMMIT", ""))


class Iptables:
    """The filter tables of this network namespace, by the system's own iptables (nft or legacy)."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._backend = ""

    def backend(self) -> str:
        """`nft` or `legacy`; MissingTool if there is no iptables."""
        if not self._backend:
            said = self.runner.run(("iptables", "-V")).stdout
            self._backend = "nft" if "nf_tables" in said else "legacy"
        return self._backend

    def state(self, family: str, chain: str, siblings: Collection[str] = ()) -> ChainState:
        """The chain as it is, beside other chains of ours; raises NotPermitted, MissingTool or KernelError."""
        if self.backend() == "legacy" and not _legacy_has_filter(family):
            return ChainState()  # asking legacy iptables would create the table
        output = self.runner.run((_SAVE[family], "-t", "filter"))
        if output.code:
            raise _explained(output, "read the rules")
        return parse_save(output.stdout, chain, siblings)

    def restore(self, family: str, text: str) -> None:
        """Commit one transaction; all of it or nothing. Raises as `state` does."""
        wait = ("--wait", "30") if self.backend() == "legacy" else ()
        output = self.runner.run((_RESTORE[family], "--noflush", *wait), text)
        if output.code:
            raise _explained(output, "change the rules")

    def other_backend_in_use(self) -> str:
        """The name of the other backend if that has rules too, or an empty text; creates no table."""
        if self.backend() == "nft":
            return "legacy" if any(_legacy_tables(family) for family in (IPV4, IPV6)) else ""
        try:
            output = self.runner.run(("iptables-nft-save", "-t", "filter"))
        except MissingTool:
            return ""
        return "nft" if "\n-A " in output.stdout else ""


def _legacy_tables(family: str) -> list[str]:
    try:
        return Path("/proc/self/net", _LEGACY_TABLES[family]).read_text(encoding="ascii").split()
    except OSError:
        return []


def _legacy_has_filter(family: str) -> bool:
    path = Path("/proc/self/net", _LEGACY_TABLES[family])
    return not path.exists() or "filter" in _legacy_tables(family)


def _per_day(rate: str) -> str:
    number, _slash, unit = rate.partition("/")
    try:
        return f"{int(number) * 86400 / _UNIT_SECONDS[unit[:1]]:.3g}"
    except (ValueError, KeyError):
        return rate


def _quoted(word: str) -> str:
    if word and not set(word) & set(" \"'\\"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _explained(output: Output, purpose: str) -> FirewallError:
    said = " ".join(output.stderr.split())[:400]
    if "must be root" in said or "Permission denied" in said or "Operation not permitted" in said:
        return NotPermitted(f"this user may not {purpose}; run as root, or with CAP_NET_ADMIN and CAP_NET_RAW")
    kind = SetMissing if re.search(r"\bSet \S+ doesn't exist", said) else KernelError
    return kind(f"iptables could not {purpose}: {said or 'no reason given'}")
