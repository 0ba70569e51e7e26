# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of sets, and the rules that a chain has for the sets that exist, in their order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from .address import IPV4, IPV6
from .entry import Action, Block, Direction, rate_unit_seconds
from .errors import InvalidInput

HOOKS = ("INPUT", "FORWARD", "OUTPUT")

TAKEN_CHAIN = re.compile(
    "INPUT|OUTPUT|FORWARD|PREROUTING|POSTROUTING|ACCEPT|DROP|REJECT|LOG|RETURN|QUEUE|NFQUEUE|NFLOG|MARK|CONNMARK"
    "|CONNSECMARK|SECMARK|CT|DNAT|SNAT|MASQUERADE|REDIRECT|NETMAP|TOS|DSCP|ECN|TTL|HL|TCPMSS|TCPOPTSTRIP|TEE|TPROXY"
    "|TRACE|ULOG|AUDIT|CHECKSUM|CLASSIFY|CLUSTERIP|HMARK|IDLETIMER|LED|NOTRACK|RATEEST|SET|SNPT|DNPT|SYNPROXY|ERROR"
    "|DOCKER|LIBVIRT_.*",
    re.IGNORECASE,
)
CHAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,12}", re.ASCII)
_LIST = re.compile(r"[a-z0-9_]{1,12}", re.ASCII)
_ACTIONS = {Action.LOG: "log", Action.RATE_LIMIT: "rate", Action.REJECT: "reject", Action.DROP: "drop"}
_DIRECTIONS = {Direction.SOURCE: "src", Direction.DESTINATION: "dst"}
_DIGITS = {IPV4: "4", IPV6: "6"}
_OPPOSITE = {Direction.SOURCE: Direction.DESTINATION, Direction.DESTINATION: Direction.SOURCE}
_ACTION_NAMES = {name: action for action, name in _ACTIONS.items()}
_DIRECTION_NAMES = {name: direction for direction, name in _DIRECTIONS.items()}
_FAMILY_DIGITS = {digit: family for family, digit in _DIGITS.items()}
_ORDER = {Action.LOG: 0, Action.RATE_LIMIT: 1, Action.REJECT: 2, Action.DROP: 3}

Rule = tuple[str, ...]
"""A rule's arguments as iptables takes them, without `-A CHAIN`."""


class Role(Enum):
    """What a set is for."""

    BLOCK = "block"
    ALLOW = "allow"
    OWN = "own"
    LIST = "list"
    FILLING = "filling"


GUARDING = (Role.ALLOW, Role.OWN)
"""Sets that no block may touch: they are never left empty."""


class SetSpec(NamedTuple):
    """A set as its name tells; `label` is a blocklist's name, or the hash of a log or rate set's parameters."""

    name: str
    role: Role
    family: str
    action: Action = Action.DROP
    direction: Direction = Direction.SOURCE
    label: str = ""

    def is_like(self, other: SetSpec) -> bool:
        """Whether the two differ in nothing but what the label tells."""
        return self[1:5] == other[1:5]


def valid_chain(name: str) -> str:
    """`name` if a chain may be called so; raises InvalidInput."""
    if not CHAIN_NAME.fullmatch(name):
        raise InvalidInput(f"chain '{name[:40]}': use 1 to 12 letters, digits or underscores")
    if TAKEN_CHAIN.fullmatch(name):
        raise InvalidInput(f"chain '{name}' is a name that iptables or another program uses; choose one such as NGFW")
    return name


def valid_list_name(name: str) -> str:
    """`name` if a blocklist may be called so; raises InvalidInput."""
    if not _LIST.fullmatch(name):
        raise InvalidInput(f"blocklist name '{name[:40]}': use 1 to 12 lower-case letters, digits or underscores")
    return name


def block_set(chain: str, block: Block) -> SetSpec:
    """The set that holds such a block."""
    parameters = block.parameters if block.action in _HASHED else ""
    return _block_set(chain, block.network.family, block.action, block.direction, parameters)


@lru_cache(maxsize=256)
def _block_set(chain: str, family: str, action: Action, direction: Direction, parameters: str) -> SetSpec:
    label = label_of(parameters) if action in _HASHED else ""
    name = f"{chain}-{_ACTIONS[action]}-{_DIRECTIONS[direction]}{_DIGITS[family]}"
    return SetSpec(f"{name}-{label}" if label else name, Role.BLOCK, family, action, direction, label)


def label_of(parameters: str) -> str:
    """How the name of a log or rate set tells what its entries have in common."""
    return hashlib.sha256(parameters.encode()).hexdigest()[:8]


@lru_cache(maxsize=256)
def allow_set(chain: str, family: str) -> SetSpec:
    """The set of whitelisted networks."""
    return SetSpec(f"{chain}-allow{_DIGITS[family]}", Role.ALLOW, family)


@lru_cache(maxsize=256)
def own_set(chain: str, family: str) -> SetSpec:
    """The set of protected addresses."""
    return SetSpec(f"{chain}-own{_DIGITS[family]}", Role.OWN, family)


def list_set(chain: str, name: str, family: str, direction: Direction) -> SetSpec:
    """The set of a blocklist."""
    return SetSpec(
        f"{chain}.{name}.{_DIRECTIONS[direction][0]}{_DIGITS[family]}", Role.LIST, family, Action.DROP, direction, name
    )


def filling(spec: SetSpec) -> SetSpec:
    """The set beside a blocklist's, while it is filled; what a killed writer leaves is found by its role."""
    return spec._replace(name=spec.name + "~", role=Role.FILLING)


def parse_set_name(chain: str, name: str) -> SetSpec | None:
    """What a set of this chain is for; None for a set of somebody else's."""
    match = re.fullmatch(
        re.escape(chain)
        + r"(?:-(?P<guard>allow|own)(?P<guarded>[46])"
        + r"|-(?P<action>drop|reject|log|rate)-(?P<side>src|dst)(?P<digit>[46])(?:-(?P<hash>[0-9a-f]{8}))?"
        + r"|\.(?P<list>[a-z0-9_]{1,12})\.(?P<way>[sd])(?P<last>[46])(?P<filling>~)?)",
        name,
        re.ASCII,
    )
    if match is None:
        return None
    found = match.groupdict()
    if found["guard"]:
        role = Role.ALLOW if found["guard"] == "allow" else Role.OWN
        return SetSpec(name, role, _FAMILY_DIGITS[found["guarded"]])
    if found["list"]:
        direction = Direction.SOURCE if found["way"] == "s" else Direction.DESTINATION
        role = Role.FILLING if found["filling"] else Role.LIST
        return SetSpec(name, role, _FAMILY_DIGITS[found["last"]], Action.DROP, direction, found["list"])
    action = _ACTION_NAMES[found["action"]]
    if (found["hash"] is not None) != (action in _HASHED):
        return None
    direction = _DIRECTION_NAMES[found["side"]]
    return SetSpec(name, Role.BLOCK, _FAMILY_DIGITS[found["digit"]], action, direction, found["hash"] or "")


def chain_of(name: str) -> str:
    """The chain that a set of this name belongs to, if it is one of ours."""
    return re.split("[-.]", name, maxsplit=1)[0]


def renamed(spec: SetSpec, chain: str) -> SetSpec:
    """The set of the same use of another chain."""
    return spec._replace(name=chain + spec.name[len(chain_of(spec.name)) :])


def sibling_chains(names: Iterable[str]) -> frozenset[str]:
    """The chains that sets of these names belong to: each chain has a set of protected addresses."""
    ends = tuple(f"-own{digit}" for digit in _FAMILY_DIGITS)
    chains = {name[: -len(ends[0])] for name in names if name.endswith(ends)}
    return frozenset(chain for chain in chains if CHAIN_NAME.fullmatch(chain) and not TAKEN_CHAIN.fullmatch(chain))


def chain_rules(chain: str, family: str, sets: Iterable[SetSpec], parameters: Mapping[str, str]) -> list[Rule]:
    """The rules of the chain in one family, for these sets of it.

    `parameters` has `RATE/BURST` or the prefix of each log and rate set; a set without is left out, for its rule
    cannot be known (it is empty then).
    """
    wanted = sorted(
        (s for s in sets if s.family == family and s.role in (Role.BLOCK, Role.LIST)),
        key=lambda s: (s.role is Role.LIST, _ORDER[s.action], s.direction is Direction.DESTINATION, s.name),
    )
    guards = {direction: _guards(chain, family, direction) for direction in Direction}
    rejects = [s for s in wanted if s.action is Action.REJECT]
    rules: list[Rule] = []
    if family == IPV6:
        rules += [rule for spec in rejects for rule in _neighbour_returns(spec)]
    returns = [rule for spec in rejects for rule in _reject_returns(spec)]
    for spec in wanted:
        matches = _match(spec.name, spec.direction) + guards[spec.direction]
        if spec.action is Action.LOG and spec.name in parameters:
            rules.append(matches + _LOG_LIMIT + _log_target(parameters[spec.name]))
        elif spec.action is Action.RATE_LIMIT and spec.name in parameters:
            rules.append(matches + _hashlimit(spec, parameters[spec.name]) + ("-j", "DROP"))
        elif spec.action is Action.REJECT:
            rules += returns
            returns = []
            unreachable = "icmp-port-unreachable" if family == IPV4 else "icmp6-port-unreachable"
            rules.append(("-p", "tcp", *matches, "-j", "REJECT", "--reject-with", "tcp-reset"))
            rules.append((*matches, "-j", "REJECT", "--reject-with", unreachable))
        elif spec.action is Action.DROP:
            rules.append((*matches, "-j", "DROP"))
    return rules


_HASHED = (Action.LOG, Action.RATE_LIMIT)
_LOG_LIMIT: Rule = ("-m", "limit", "--limit", "10/sec", "--limit-burst", "20")


def _match(name: str, direction: Direction) -> Rule:
    return ("-m", "set", "--match-set", name, _DIRECTIONS[direction])


def _guards(chain: str, family: str, direction: Direction) -> Rule:
    side = _DIRECTIONS[direction]
    allow, own = allow_set(chain, family).name, own_set(chain, family).name
    return ("-m", "set", "!", "--match-set", allow, side, "-m", "set", "!", "--match-set", own, side)


def _log_target(prefix: str) -> Rule:
    return ("-j", "LOG", "--log-prefix", prefix) if prefix else ("-j", "LOG")


def _hashlimit(spec: SetSpec, parameters: str) -> Rule:
    """The kernel forgets an address `expire` ms after its last packet: not before its tokens would be back anyway."""
    rate, _slash, burst = parameters.rpartition("/")
    number, unit = rate_unit_seconds(rate)
    expire = max(unit, -(-int(burst) * unit // number)) * 1000
    side = _DIRECTIONS[spec.direction]
    mask = ("--hashlimit-" + side + "mask", "64") if spec.family == IPV6 else ()
    return (
        *("-m", "hashlimit", "--hashlimit-above", _short_rate(rate), "--hashlimit-burst", burst),
        *("--hashlimit-mode", side + "ip", *mask),
        *("--hashlimit-htable-expire", str(expire), "--hashlimit-name", spec.name),
    )


def _short_rate(rate: str) -> str:
    return rate.replace("second", "sec").replace("minute", "min")


def _neighbour_returns(spec: SetSpec) -> list[Rule]:
    """An answer reaches a host on the link only if both may ask for and tell their addresses on it.

    It is no other's business: of a host that is dropped these are dropped, too.
    """
    return [
        ("-p", "ipv6-icmp", "-m", "icmp6", "--icmpv6-type", kind, *_match(spec.name, direction), "-j", "RETURN")
        for kind in ("135", "136")
        for direction in Direction
    ]


def _reject_returns(spec: SetSpec) -> list[Rule]:
    """What REJECT itself sends goes out through OUTPUT and must not meet our own rules for the other direction.

    Whatever else the host or the peer sends of that form does. Only of an answer of REJECT does the connection tracking
    know that it is one (nf_conntrack_attach in the kernel); so packets that it does not track are rejected in silence
    where the other direction is blocked, too.
    """
    match = ("-m", "conntrack", "--ctstate", "RELATED", *_match(spec.name, _OPPOSITE[spec.direction]))
    icmp: Rule = ("-p", "icmp", "-m", "icmp", "--icmp-type", "3/3")
    if spec.family == IPV6:
        icmp = ("-p", "ipv6-icmp", "-m", "icmp6", "--icmpv6-type", "1/4")
    return [
        ("-p", "tcp", "-m", "tcp", "--tcp-flags", "RST", "RST", *match, "-j", "RETURN"),
        (*icmp, *match, "-j", "RETURN"),
    ]
