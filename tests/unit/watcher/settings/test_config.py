# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.firewall.address import parse_network
from ngfw.settings import config
from ngfw.settings.config import Config, Listen, LogSource
from ngfw.settings.yamlfile import ConfigError

PRINTED = """
chain: NGFW
families: [ipv4, ipv6]
hooks: [INPUT, FORWARD, OUTPUT]
rules_directory: /etc/ngfw/rules.d
state_directory: /var/lib/ngfw
log_directory: /var/log/ngfw
home_net: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, "fc00::/7"]
home_links: true
trusted_proxies: []
trusted_tunnels: []
whitelist: []
sources:
  - {path: /var/log/suricata/eve.json, format: eve}
start_at: end
poll_interval: 15
high_alert: {blocks: 50, window: 60, poll_interval: 1}
defaults: {action: iptables_block, target: offender, duration: 30m}
ipv6_prefix: 64
spoof_guard: true
circuit_breaker: {blocks: 5000, window: 60}
escalation: {factor: 2, max: 7d, memory: 30d}
intel:
  fail_policy: open
  threshold: 70
  provisional: 60s
  netsets: [{name: firehol_level1, path: /var/lib/ngfw/firehol_level1.netset, url: null, refresh: 1h}]
  abuseipdb: {key_file: /etc/ngfw/abuseipdb.key, url: "https://api.abuseipdb.com/api/v2/check", timeout: 0.8s,
              cache: 30m, per_minute: 20, per_day: 1000}
rule_overrides: {}
metrics: {listen: "127.0.0.1:9910"}
on_stop: keep
dry_run: false
"""
"""The file as the documentation prints it."""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.loads(text)
    return [str(problem) for problem in caught.value.problems]


def test_the_printed_file_names_every_key_with_its_default() -> None:
    assert config.loads(PRINTED) == Config.default()
    written = {line.partition(":")[0] for line in PRINTED.splitlines() if line[:1].isalpha()}
    assert written == {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_is_all_defaults(text: str) -> None:
    assert config.loads(text) == Config.default()


def test_an_absent_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ngfw\.yml:1: there is no such file; create it"):
        config.load(tmp_path / "ngfw.yml")


def test_a_file_is_read_with_its_name_in_messages(tmp_path: Path) -> None:
    file = tmp_path / "ngfw.yml"
    file.write_text("chain: BLOCKS\n", encoding="utf-8")
    assert config.load(file).chain == "BLOCKS"
    file.write_text("\nchain: no-dash\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{file}:2: 'chain'"):
        config.load(str(file))


def test_every_key_is_taken() -> None:
    got = config.loads(
        """
chain: Other_1
families: [ipv6, ipv4, ipv6]
hooks: [FORWARD]
home_net: []
trusted_proxies: [192.0.2.7]
whitelist: [192.0.2.77/24, "::ffff:198.51.100.1", "2001:DB8::/32"]
sources:
  - {path: /a/eve.*.json}
  - {path: /a/fast.log, format: fast}
start_at: beginning
poll_interval: 0.5
high_alert: {window: 5m}
defaults: {action: iptables_reject, target: src, duration: 0}
ipv6_prefix: 56
spoof_guard: false
escalation: {factor: 1.5, max: 1h30m}
intel:
  fail_policy: closed
  netsets: [{name: x, path: /x, url: "https://lists.example.net/x.netset", refresh: 2h}]
  abuseipdb: {timeout: 2s}
metrics: {listen: "[::1]:9000"}
on_stop: flush
dry_run: true
"""
    )
    assert got.families == ("ipv4", "ipv6")
    assert got.hooks == ("FORWARD",)
    assert got.home_net == ()
    assert [str(network) for network in got.whitelist] == ["192.0.2.0/24", "198.51.100.1", "2001:db8::/32"]
    assert got.trusted_proxies == (parse_network("192.0.2.7"),)
    assert got.sources == (LogSource("/a/eve.*.json", "eve"), LogSource("/a/fast.log", "fast"))
    assert (got.poll_interval, got.high_alert.window, got.high_alert.blocks) == (0.5, 300, 50)
    assert (got.defaults.target, got.defaults.duration) == ("source", 0)
    assert (got.escalation.factor, got.escalation.max, got.escalation.memory) == (1.5, 5400, 2592000)
    assert got.intel.netsets[0].url == "https://lists.example.net/x.netset"
    assert got.intel.abuseipdb.timeout == 2.0
    assert got.metrics.listen == Listen("::1", 9000)
    assert got.dry_run is True


def test_metrics_can_be_switched_off() -> None:
    assert config.loads("metrics: {listen: null}").metrics.listen is None


BAD = [
    ("chain: INPUT", "a name of iptables' own"),
    ("chain: drop", "a name of iptables' own"),
    ("chain: DOCKER", "or of another program"),
    ("chain: abcdefghijklm", "1 to 12"),
    ("chain: a-b", "1 to 12"),
    ("chain: ''", "1 to 12"),
    ("chain: \u0661", "1 to 12"),
    ("chain: 12", "put it in quotes"),
    ("chain: [NGFW]", "must be a text, not a list"),
    ("chain:", "has no value"),
    ("chian: NGFW", "did you mean 'chain'?"),
    ("families: ipv4", "must be a list"),
    ("families: []", "names nothing"),
    ("families: [ip4]", "did you mean 'ipv4'?"),
    ("hooks: [PREROUTING]", "cannot be 'PREROUTING'"),
    ("rules_directory: rules.d", "absolute path"),
    ('log_directory: "/a\\nb"', "absolute path"),
    ("home_net: [10.0.0.0/0]", "every address there is"),
    ('home_net: ["::/0"]', "every address there is"),
    ("home_net: [example.org]", "is not an address"),
    ("home_net: [10]", "put it in quotes"),
    ("home_net: [10.0.0.1-10.0.0.9]", "ranges are for blocklists"),
    ("home_net: [null]", "must be a text"),
    ("home_net:", "has no value"),
    ("whitelist: {a: b}", "must be a list"),
    ("whitelist: [{comment: x}]", "has no address"),
    ("whitelist: [{address: 192.0.2.1, coment: x}]", "unknown key 'coment'; did you mean 'comment'?"),
    ("whitelist: [{address: 192.0.2.1, duration: 1d}]", "'duration', which is not supported yet"),
    ("whitelist: [{address: 192.0.2.1, comment: 5}]", "put it in quotes"),
    ("whitelist: [{address: [x]}]", "must be a text"),
    ("sources: []", "is empty"),
    ("sources: [/var/log/x]", "must be a mapping"),
    ("sources: [{format: eve}]", "'sources.path' is missing"),
    ("sources: [{path: eve.json}]", "absolute path"),
    ("sources: [{path: /a, format: json}]", "cannot be 'json'"),
    ("sources: [{path: /a, fromat: eve}]", "did you mean 'format'?"),
    ("sources: [{path: /a}, {path: /a, format: fast}]", "twice"),
    ("start_at: start", "cannot be 'start'"),
    ('poll_interval: "15"', "without quotes"),
    ("poll_interval: true", "not the boolean true"),
    ("poll_interval: 1:30", "not the text '1:30'"),
    ("poll_interval: 0", "from 0.1 to 3600"),
    ("poll_interval: 15s", "must be a number"),
    ("poll_interval: .nan", "must be a number"),
    ("poll_interval: 1e999", "must be a number"),
    ("high_alert: 5", "must be a mapping"),
    ("high_alert:", "has no value"),
    ("high_alert: {blocks: 1.5}", "whole number"),
    ("high_alert: {blocks: 010}", "leading zeros"),
    ("high_alert: {blocks: \u0665}", "write it with the digits 0 to 9"),
    ("high_alert: {blocks: 0}", "from 1 to"),
    ("high_alert: {window: 1m30}", "is not a duration"),
    ("high_alert: {window: 2d}", "from 1s to 1d"),
    ("high_alert: {window: 0}", "from 1 to 86400"),
    ("defaults: {action: block}", "did you mean 'iptables_block'?"),
    ("defaults: {target: victim}", "cannot be 'victim'"),
    ("defaults: {target: both}", "cannot be 'both'"),
    ("defaults: {duration: 30}", "is not a duration"),
    ("defaults: {duration: 30 min}", "is not a duration"),
    ("defaults: {duration: 25d}", "too long"),
    ("defaults: {duration: -1h}", "is not a duration"),
    ("defaults: {duration: true}", "must be a duration"),
    ("defaults: {durations: 1h}", "did you mean 'duration'?"),
    ("ipv6_prefix: 129", "from 32 to 128"),
    ("ipv6_prefix: /64", "whole number"),
    ("spoof_guard: yes", "write true or false"),
    ("spoof_guard: 'true'", "without quotes"),
    ("spoof_guard: 1", "must be true or false"),
    ("circuit_breaker: {blocks: many}", "whole number"),
    ("escalation: {factor: 0.5}", "from 1 to 1000"),
    ("escalation: {max: 0}", "from 1s"),
    ("escalation: {memory: 2y}", "is not a duration"),
    ("intel: {fail_policy: shut}", "cannot be 'shut'"),
    ("intel: {threshold: 101}", "from 0 to 100"),
    ("intel: {netsets: [{path: /x}]}", "'intel.netsets.name' is missing"),
    ("intel: {netsets: [{name: ../x, path: /x}]}", "letters, digits"),
    ("intel: {netsets: [{name: x, path: /x}, {name: x, path: /y}]}", "is there already"),
    ("intel: {netsets: [{name: x, path: /x, url: ftp://a/b}]}", "http or https"),
    ("intel: {netsets: [{name: x, path: /x, refresh: 1s}]}", "from 1m"),
    ('intel: {abuseipdb: {url: "https:///x"}}', "http or https"),
    ('intel: {abuseipdb: {url: "https://a b/x"}}', "http or https"),
    ('intel: {abuseipdb: {url: "https://a:99999/x"}}', "http or https"),
    ("intel: {abuseipdb: {timeout: 0.8}}", "is not a duration"),
    ("intel: {abuseipdb: {timeout: 0}}", "longer than nothing"),
    ("intel: {abuseipdb: {timeout: 5m}}", "from 0.05s to 1m"),
    ("intel: {abuseipdb: {key: secret}}", "did you mean 'key_file'?"),
    ("metrics: {listen: 9910}", "must be a text"),
    ('metrics: {listen: "9910"}', "HOST:PORT"),
    ('metrics: {listen: ":9910"}', "no usable host"),
    ('metrics: {listen: "::1:9910"}', "no usable host"),
    ('metrics: {listen: "[x]:9910"}', "is not an address"),
    ('metrics: {listen: "localhost:0"}', "HOST:PORT"),
    ('metrics: {listen: "localhost:65536"}', "HOST:PORT"),
    ("on_stop: keep_all", "did you mean 'keep'?"),
    ("dry_run: null", "has no value"),
    ("- chain", "must be a mapping"),
    ("just text", "must be a mapping"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_bad_values_are_refused_with_line_and_remedy(text: str, words: str) -> None:
    found = problems("# first line\n" + text)
    assert len(found) == 1
    assert found[0].startswith("ngfw.yml:2: ")
    assert words in found[0]
    assert ";" in found[0] or "?" in found[0]


def test_all_problems_are_reported_in_the_order_of_their_lines() -> None:
    found = problems("on_stop: x\nintel:\n  threshold: x\n  foo: 1\nchain: DROP\nhome_net: [a, 10.0.0.0/8, b]\n")
    assert [problem.split(":")[1] for problem in found] == ["1", "3", "4", "5", "6", "6"]


@given(st.sampled_from(PRINTED.splitlines()), st.text(max_size=12))
def test_any_other_value_is_taken_or_refused_with_file_and_line(line: str, value: str) -> None:
    key = line.partition(":")[0] or "x"
    found: list[str] = []
    try:
        config.loads(f"{key}: {value}")
    except ConfigError as error:
        found = [str(problem) for problem in error.problems]
    assert all(problem.startswith("ngfw.yml:") for problem in found)


@given(st.integers(), st.sampled_from(["poll_interval", "ipv6_prefix"]))
def test_numbers_are_taken_within_their_limits_only(number: int, key: str) -> None:
    inside = 1 <= number <= 3600 if key == "poll_interval" else 32 <= number <= 128
    if inside:
        assert getattr(config.loads(f"{key}: {number}"), key) == number
    else:
        assert len(problems(f"{key}: {number}")) == 1


@pytest.mark.feature("S13")
def test_a_whitelist_may_have_comments() -> None:
    text = "whitelist: [192.0.2.1, {address: 198.51.100.77/28, comment: the office}, {address: '::2', comment: ''}]"
    got = config.loads(text).whitelist
    assert {str(network): comment for network, comment in got.items()} == {
        "192.0.2.1": "",
        "198.51.100.64/28": "the office",
        "::2": "",
    }


@pytest.mark.feature("S12")
@pytest.mark.parametrize(
    "text",
    [
        "intel: {abuseipdb: {url: 'https://joe:hunter2@x y/'}}",
        "intel: {abuseipdb: {url: 'ftp://x/?key=hunter2'}}",
        "intel: {abuseipdb: {url: 'joe:hunter2@lists.example/'}}",
        "intel: {abuseipdb: {url: 'https://joe:hun/hunter2@lists.example:x/'}}",
        "chain: https://joe:hunter2@lists.example/",
        "'https://joe:hunter2@lists.example/': 1",
        "metrics: {listen: 'http://joe:hunter2@lists.example/'}",
        "whitelist: ['https://joe:hunter2@lists.example/']",
    ],
)
def test_no_problem_quotes_the_secret_of_an_address(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.loads(text)
    assert "hunter2" not in str(caught.value)
    assert "***" in str(caught.value)
