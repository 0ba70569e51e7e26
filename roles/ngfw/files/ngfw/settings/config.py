# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher's configuration file, ``ngfw.yml``: every key with its type, limits and default.

All durations and windows are in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..firewall.address import FAMILIES, Network, parse_host, parse_network
from ..firewall.duration import MAX_BLOCK_SECONDS
from ..firewall.layout import CHAIN_NAME, HOOKS, TAKEN_CHAIN
from ..firewall.text import shown
from . import values
from .section import Section
from .values import DAY, WrongValueError, suggestion
from .yamlfile import ConfigError, MapNode, Node, Problem, parse, read

ACTIONS = ("iptables_block", "iptables_reject", "iptables_log", "iptables_rate_limit")
YEAR = 365 * DAY

_NETSET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL}){{0,8}}")


@dataclass(frozen=True)
class LogSource:
    """A log of Suricata's to follow; ``path`` may be a glob, ``format`` is ``eve`` or ``fast``."""

    path: str
    format: str = "eve"


@dataclass(frozen=True)
class HighAlert:
    """At this many new blocks in the window, polling is faster and `confirm` takes the place of `require`."""

    blocks: int = 50
    window: int = 60
    poll_interval: float = 1.0


@dataclass(frozen=True)
class Defaults:
    """What a rule's action does where the rule does not say."""

    action: str = "iptables_block"
    target: str = "offender"
    duration: int = 1800


@dataclass(frozen=True)
class CircuitBreaker:
    """More new blocks than this in the window are refused, where their evidence can be forged."""

    blocks: int = 5000
    window: int = 60


@dataclass(frozen=True)
class Escalation:
    """Each further block of an offender is longer by ``factor``, up to ``max``; ``memory`` is how long it counts."""

    factor: float = 2.0
    max: int = 7 * DAY
    memory: int = 30 * DAY


@dataclass(frozen=True)
class Netset:
    """A list of bad networks in a file, fetched from ``url`` every ``refresh`` seconds where there is one."""

    name: str
    path: str
    url: str | None = None
    refresh: int = 3600


@dataclass(frozen=True)
class AbuseIPDB:
    """How AbuseIPDB is asked; ``timeout`` and ``cache`` in seconds, the budgets in requests."""

    key_file: str = "/etc/ngfw/abuseipdb.key"
    url: str = "https://api.abuseipdb.com/api/v2/check"
    timeout: float = 0.8
    cache: int = 1800
    per_minute: int = 20
    per_day: int = 1000


@dataclass(frozen=True)
class Intel:
    """Reputation: what counts as bad (``threshold``, 0 to 100), and what nobody's answer means (``fail_policy``)."""

    fail_policy: str = "open"
    threshold: int = 70
    provisional: int = 60
    netsets: tuple[Netset, ...] = (Netset("firehol_level1", "/var/lib/ngfw/firehol_level1.netset"),)
    abuseipdb: AbuseIPDB = AbuseIPDB()


@dataclass(frozen=True)
class Listen:
    """Where to listen: a host (an IPv6 address without brackets) and a port."""

    host: str
    port: int


@dataclass(frozen=True)
class Metrics:
    """The Prometheus endpoint; ``listen: null`` switches it off."""

    listen: Listen | None = Listen("127.0.0.1", 9910)


@dataclass(frozen=True)
class RuleOverrides:
    """What stands in place of keys of rules: by the rule's name, as it was written. It is checked with the rules."""

    rules: Mapping[str, MapNode] = field(default_factory=dict)
    path: str = field(default="", compare=False)

    def section(self, name: str, problems: list[Problem]) -> Section:
        """The keys for one of the rules named."""
        return Section(self.rules[name], self.path, problems, f"rule_overrides.{shown(name)}")


_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
_HOME_NET = tuple(parse_network(each) for each in _PRIVATE)


@dataclass(frozen=True)
class Config:
    """All of ``ngfw.yml``. An absent key has the value given here."""

    chain: str = "NGFW"
    families: tuple[str, ...] = FAMILIES
    hooks: tuple[str, ...] = HOOKS
    rules_directory: str = "/etc/ngfw/rules.d"
    state_directory: str = "/var/lib/ngfw"
    log_directory: str = "/var/log/ngfw"
    home_net: tuple[Network, ...] = _HOME_NET
    home_links: bool = True
    trusted_proxies: tuple[Network, ...] = ()
    trusted_tunnels: tuple[Network, ...] = ()
    whitelist: Mapping[Network, str] = field(default_factory=dict)
    """The networks that no block may touch, each with a comment."""
    sources: tuple[LogSource, ...] = (LogSource("/var/log/suricata/eve.json"),)
    start_at: str = "end"
    poll_interval: float = 15.0
    high_alert: HighAlert = HighAlert()
    defaults: Defaults = Defaults()
    ipv6_prefix: int = 64
    spoof_guard: bool = True
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    escalation: Escalation = Escalation()
    intel: Intel = field(default_factory=Intel)
    rule_overrides: RuleOverrides = field(default_factory=RuleOverrides)
    metrics: Metrics = field(default_factory=Metrics)
    on_stop: str = "keep"
    dry_run: bool = False

    @property
    def guarded(self) -> Mapping[Network, str]:
        """What is whitelisted by this file, each with a comment: whoever blocks a proxy cuts off all its clients."""
        return {**dict.fromkeys(self.trusted_proxies, "trusted proxy"), **self.whitelist}

    @classmethod
    def default(cls) -> Config:
        """What an empty file means."""
        return cls()


def load(path: str | Path) -> Config:
    """Read a configuration file; an empty one is all defaults. Raises ConfigError with every problem in it."""
    hint = "create it (an empty one means all defaults), or name another with --config"
    return _config(read(Path(path), if_missing=hint), str(path))


def loads(source: str, path: str = "ngfw.yml") -> Config:
    """Like ``load`` for a text at hand; ``path`` is only used in messages. Raises ConfigError."""
    return _config(parse(source.encode("utf-8", "surrogatepass"), path), path)


def _config(root: Node | None, path: str) -> Config:
    problems: list[Problem] = []
    top = Section(root, path, problems)
    default = Config.default()
    config = Config(
        chain=top.take("chain", _chain, default.chain),
        families=_words(top, "families", FAMILIES),
        hooks=_words(top, "hooks", HOOKS),
        rules_directory=top.take("rules_directory", values.absolute_path, default.rules_directory),
        state_directory=top.take("state_directory", values.absolute_path, default.state_directory),
        log_directory=top.take("log_directory", values.absolute_path, default.log_directory),
        home_net=top.items("home_net", values.parsed(parse_network), default.home_net),
        home_links=top.take("home_links", values.boolean, default.home_links),
        trusted_proxies=top.items("trusted_proxies", values.parsed(parse_network), default.trusted_proxies),
        trusted_tunnels=top.items("trusted_tunnels", values.parsed(parse_network), default.trusted_tunnels),
        whitelist=dict(top.items("whitelist", _whitelist_entry, ())),
        sources=_sources(top, default.sources),
        start_at=top.take("start_at", values.choice("end", "beginning"), default.start_at),
        poll_interval=top.take("poll_interval", values.number(0.1, 3600), default.poll_interval),
        high_alert=_high_alert(top.section("high_alert")),
        defaults=_defaults(top.section("defaults")),
        ipv6_prefix=top.take("ipv6_prefix", values.integer(32, 128), default.ipv6_prefix),
        spoof_guard=top.take("spoof_guard", values.boolean, default.spoof_guard),
        circuit_breaker=_circuit_breaker(top.section("circuit_breaker")),
        escalation=_escalation(top.section("escalation")),
        intel=_intel(top.section("intel")),
        rule_overrides=_rule_overrides(top),
        metrics=_metrics(top.section("metrics")),
        on_stop=top.take("on_stop", values.choice("keep", "flush"), default.on_stop),
        dry_run=top.take("dry_run", values.boolean, default.dry_run),
    )
    top.close()
    if problems:
        raise ConfigError(sorted(problems))
    return config


def _words(top: Section, key: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    before = len(top.problems)
    words = top.items(key, values.choice(*allowed), allowed)
    if not words and len(top.problems) == before:
        top.problem_of(key, f"'{key}' names nothing; name at least one of {', '.join(allowed)}")
    return tuple(word for word in allowed if word in words)


def _sources(top: Section, default: tuple[LogSource, ...]) -> tuple[LogSource, ...]:
    sections = top.sections("sources")
    if sections is None:
        return default
    if not sections:
        top.problem_of("sources", "'sources' is empty; name at least one log, {path: ..., format: eve}")
    sources: dict[str, LogSource] = {}
    for section in sections:
        path = section.require("path", values.absolute_path, "path: /var/log/suricata/eve.json")
        source = LogSource(path or "", section.take("format", values.choice("eve", "fast"), "eve"))
        section.close()
        if path in sources:
            section.problem(section.line, f"'sources' names {shown(path)} twice; remove one of the two")
        sources[source.path] = source
    return tuple(sources.values())


def _high_alert(section: Section) -> HighAlert:
    default = HighAlert()
    value = HighAlert(
        blocks=section.take("blocks", values.integer(1, 1_000_000), default.blocks),
        window=section.take("window", values.window, default.window),
        poll_interval=section.take("poll_interval", values.number(0.1, 3600), default.poll_interval),
    )
    section.close()
    return value


def _defaults(section: Section) -> Defaults:
    default = Defaults()
    value = Defaults(
        action=section.take("action", values.choice(*ACTIONS), default.action),
        target=section.take("target", values.target, default.target),
        duration=section.take("duration", values.block_duration, default.duration),
    )
    section.close()
    return value


def _circuit_breaker(section: Section) -> CircuitBreaker:
    default = CircuitBreaker()
    value = CircuitBreaker(
        blocks=section.take("blocks", values.integer(1, 1_000_000), default.blocks),
        window=section.take("window", values.window, default.window),
    )
    section.close()
    return value


def _escalation(section: Section) -> Escalation:
    default = Escalation()
    value = Escalation(
        factor=section.take("factor", values.number(1, 1000), default.factor),
        max=section.take("max", values.duration(1, MAX_BLOCK_SECONDS), default.max),
        memory=section.take("memory", values.duration(1, YEAR), default.memory),
    )
    section.close()
    return value


def _intel(section: Section) -> Intel:
    default = Intel()
    value = Intel(
        fail_policy=section.take("fail_policy", values.choice("open", "closed"), default.fail_policy),
        threshold=section.take("threshold", values.integer(0, 100), default.threshold),
        provisional=section.take("provisional", values.duration(1, DAY), default.provisional),
        netsets=_netsets(section, default.netsets),
        abuseipdb=_abuseipdb(section.section("abuseipdb")),
    )
    section.close()
    return value


def _netsets(intel: Section, default: tuple[Netset, ...]) -> tuple[Netset, ...]:
    sections = intel.sections("netsets")
    if sections is None:
        return default
    netsets: dict[str, Netset] = {}
    for section in sections:
        name = section.require("name", _netset_name, "name: firehol_level1")
        netset = Netset(
            name=name or "",
            path=section.require("path", values.absolute_path, "path: /var/lib/ngfw/firehol_level1.netset") or "",
            url=section.optional("url", values.web_address),
            refresh=section.take("refresh", values.duration(60, 30 * DAY), 3600),
        )
        section.close()
        if name in netsets:
            section.problem_of("name", f"a netset named '{name}' is there already; choose another name")
        netsets[netset.name] = netset
    return tuple(netsets.values())


def _abuseipdb(section: Section) -> AbuseIPDB:
    default = AbuseIPDB()
    value = AbuseIPDB(
        key_file=section.take("key_file", values.absolute_path, default.key_file),
        url=section.take("url", values.web_address, default.url),
        timeout=section.take("timeout", values.timeout, default.timeout),
        cache=section.take("cache", values.duration(1, 30 * DAY), default.cache),
        per_minute=section.take("per_minute", values.integer(0, 100_000), default.per_minute),
        per_day=section.take("per_day", values.integer(0, 10_000_000), default.per_day),
    )
    section.close()
    return value


def _rule_overrides(top: Section) -> RuleOverrides:
    rules: dict[str, MapNode] = {}
    nothing: dict[str, tuple[int, Node]] = {}
    for name, (line, node) in top.take("rule_overrides", _mapping, nothing).items():
        key = f"'rule_overrides.{shown(name)}'"
        if not isinstance(node, MapNode):
            top.problem(node.line, f"{key} must be a mapping, not {values.kind_of(node)}; write {{threshold: 8}}")
        elif "name" in node.entries:
            message = f"{key} cannot give the rule another name; disable it, and write one of your own"
            top.problem(node.entries["name"][0], message)
        else:
            rules[name] = MapNode(line, node.entries)
    return RuleOverrides(rules, top.path)


def _mapping(node: Node) -> dict[str, tuple[int, Node]]:
    if not isinstance(node, MapNode):
        hint = "write RULE NAME: {threshold: 8} under it"
        raise WrongValueError(f"must be a mapping, not {values.kind_of(node)}; {hint}")
    return node.entries


def _metrics(section: Section) -> Metrics:
    listen = None if section.has_null("listen") else section.take("listen", _listen, Listen("127.0.0.1", 9910))
    value = Metrics(listen)
    section.close()
    return value


def _whitelist_entry(node: Node) -> tuple[Network, str]:
    """An address or network, or one with a comment: ``{address: ..., comment: ...}``."""
    if not isinstance(node, MapNode):
        return parse_network(values.text(node)), ""
    for key, (line, _value) in node.entries.items():
        if key == "duration":
            raise WrongValueError("has a 'duration', which is not supported yet; leave it out", line)
        if key not in ("address", "comment"):
            raise WrongValueError(f"has the unknown key '{shown(key)}'{suggestion(key, ('address', 'comment'))}", line)
    if "address" not in node.entries:
        raise WrongValueError("has no address; write 'address: 192.0.2.7', and 'comment: WHY' beside it", node.line)
    comment = node.entries.get("comment")
    address = parse_network(values.text(node.entries["address"][1]))
    return address, "" if comment is None else values.text(comment[1])


def _chain(node: Node) -> str:
    name = values.text(node)
    if not CHAIN_NAME.fullmatch(name):
        raise WrongValueError(f"cannot be '{shown(name)}'; use 1 to 12 of A-Z, a-z, 0-9 and _")
    if TAKEN_CHAIN.fullmatch(name):
        raise WrongValueError(
            f"cannot be '{name}', a name of iptables' own or of another program; choose one such as NGFW"
        )
    return name


def _netset_name(node: Node) -> str:
    name = values.text(node)
    if not _NETSET_NAME.fullmatch(name):
        raise WrongValueError(f"cannot be '{shown(name)}'; use 1 to 64 letters, digits, '_', '-' and '.'")
    return name


def _listen(node: Node) -> Listen:
    address = values.text(node)
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        raise WrongValueError(
            f"must be HOST:PORT, not '{shown(address)}'; write for example 127.0.0.1:9910 or [::1]:9910"
        )
    if bracketed:
        return Listen(str(parse_host(host[1:-1])), int(port))
    if not _HOST_NAME.fullmatch(host):
        raise WrongValueError(
            f"has no usable host in '{shown(address)}'; write for example 127.0.0.1:9910 or [::1]:9910"
        )
    return Listen(host, int(port))
