# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as Ansible starts them, on the kernel: check mode, do, repeat, repeat in check mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import host

ATTACKER, HOST = "203.0.113.7", "198.51.100.1"


def plain(returned):
    """What was returned, without how it was asked, and without the chain as it is (in check mode: as it was)."""
    return {key: value for key, value in returned.items() if key not in ("invocation", "warnings", "chain")}


STEPS = {
    "chain": [("ngfw_chain", {}), ("ngfw_chain", {"hooks": ["INPUT"]}), ("ngfw_chain", {"state": "absent"})],
    "block": [
        ("ngfw_block", {"address": ATTACKER}),
        ("ngfw_block", {"addresses": [ATTACKER, "203.0.113.8", "2001:db8:a::/64"], "duration": "1h", "target": "both"}),
        ("ngfw_block", {"addresses": [ATTACKER], "action": "reject", "duration": "0"}),
        ("ngfw_block", {"addresses": [ATTACKER], "action": "log", "log_prefix": "x: "}),
        ("ngfw_block", {"addresses": [ATTACKER], "action": "rate_limit", "rate": "60/minute", "burst": 3}),
        ("ngfw_block", {"addresses": [ATTACKER], "action": "rate_limit", "rate": "60/minute", "burst": 4}),
        ("ngfw_block", {"addresses": ["203.0.113.9"], "purge": True}),
        ("ngfw_block", {"addresses": [], "purge": True}),
    ],
    "unblock": [
        ("ngfw_block", {"addresses": [ATTACKER, "203.0.113.0/24"]}),
        ("ngfw_block", {"addresses": [ATTACKER], "state": "absent"}),
    ],
    "whitelist": [
        ("ngfw_whitelist", {"entries": [ATTACKER, {"address": "2001:db8:a::/64", "comment": "friends"}]}),
        ("ngfw_whitelist", {"entries": [{"address": ATTACKER, "comment": "x" * 300}]}),
        ("ngfw_whitelist", {"entries": ["203.0.113.9"], "state": "exact"}),
        ("ngfw_whitelist", {"entries": ["203.0.113.9"], "state": "absent"}),
    ],
    "blocklist": [
        ("ngfw_blocklist", {"name": "mine", "entries": [ATTACKER, "203.0.113.16-203.0.113.31", "10.0.0.0/8"]}),
        ("ngfw_blocklist", {"name": "mine", "entries": ["203.0.113.8"], "target": "both"}),
        ("ngfw_blocklist", {"name": "mine", "entries": []}),
        ("ngfw_blocklist", {"name": "mine", "state": "absent"}),
    ],
    "flush": [
        ("ngfw_block", {"addresses": [ATTACKER, "203.0.113.8"], "rule_name": "one"}),
        ("ngfw_block", {"addresses": ["203.0.113.9"], "rule_name": "two"}),
        ("ngfw_flush", {"rule_name": "one"}),
        ("ngfw_flush", {}),
        ("ngfw_flush", {"scope": ["blocks", "whitelist", "blocklists"]}),
    ],
}


@pytest.mark.feature("C12", "G1")
@pytest.mark.parametrize("name", STEPS)
def test_check_do_repeat_and_check_again(lab, module, name):
    for number, (step, options) in enumerate(STEPS[name]):
        before = lab.kernel()

        checked = module(step, check=True, **options)
        assert "msg" not in checked, checked
        assert lab.kernel() == before
        done = module(step, **options)
        assert plain(done) == plain(checked)
        after = lab.kernel()
        assert done["changed"] == (after != before)
        assert done["changed"] or (name, number) == ("flush", 4)
        if done["changed"]:
            assert done["diff"]["before"] != done["diff"]["after"]

        repeated = module(step, **options)
        assert not repeated["changed"]
        assert repeated["diff"]["before"] == repeated["diff"]["after"]
        assert not module(step, check=True, **options)["changed"]
        assert lab.kernel() == after


@pytest.mark.feature("G1")
def test_one_task_is_a_working_block_and_says_what_it_did(lab, module):
    module("ngfw_whitelist", entries=["203.0.113.9"])

    returned = module(
        "ngfw_block", addresses=[ATTACKER, "203.0.113.64/26", "203.0.113.9", "127.0.0.1"], duration="1h", reason="why"
    )

    assert returned["blocked"] == [ATTACKER, "203.0.113.64/26"]
    assert returned["count"] == {"blocked": 2, "unblocked": 0, "already": 0, "refused": 2}
    assert returned["refused"] == [
        {"address": "203.0.113.9", "reason": "whitelisted: 203.0.113.9"},
        {"address": "127.0.0.1", "reason": "protected: 127.0.0.0/8 (loopback)"},
    ]
    assert returned["diff"]["after"].splitlines()[-2:] == [
        "drop source 203.0.113.64/26 for 1h by manual",
        f"drop source {ATTACKER} for 1h by manual",
    ]
    assert not lab.arrives(ATTACKER, HOST)
    assert not lab.arrives("203.0.113.99", HOST)
    assert lab.arrives("203.0.113.9", HOST)


@pytest.mark.feature("G1")
def test_what_is_in_force_is_told_in_full(lab, module):
    module("ngfw_chain", hooks=["INPUT", "OUTPUT"])
    module("ngfw_block", addresses=[ATTACKER], action="rate_limit", rate="60/min", burst=3, duration="0", target="both")
    module("ngfw_block", addresses=["2001:db8:a::/64"], duration="10m", rule_name="rule", reason="why")
    module("ngfw_whitelist", entries=[{"address": "203.0.113.9", "comment": "friend"}])
    module("ngfw_blocklist", name="mine", entries=["203.0.113.16/28", "203.0.113.99"])
    lab.count("2001:db8:a::7", "2001:db8:1::1", 2)
    before = lab.kernel()

    found = module("ngfw_info")

    assert lab.kernel() == before
    assert found["chain"] == {
        "present": True,
        "hooks": ["INPUT", "OUTPUT"],
        "backend": lab.tools.directory.name.rstrip("0123456789"),
        "families": ["ipv4", "ipv6"],
    }
    by_target = {(item["address"], item["target"]): item for item in found["blocks"]}
    assert set(by_target) == {(ATTACKER, "source"), (ATTACKER, "destination"), ("2001:db8:a::/64", "source")}
    limited, dropped = by_target[ATTACKER, "source"], by_target["2001:db8:a::/64", "source"]
    assert (limited["rate"], limited["burst"], limited["remaining"]) == ("60/minute", 3, None)
    assert (dropped["rule_name"], dropped["reason"], dropped["packets"]) == ("rule", "why", 2)
    assert 550 <= dropped["remaining"] <= 600
    assert {"address": "203.0.113.9", "family": "ipv4", "comment": "friend", "origin": "module"} in found["whitelist"]
    assert {item["origin"] for item in found["whitelist"]} == {"module", "protected"}
    assert found["blocklists"] == [{"name": "mine", "family": "ipv4", "target": "source", "count": 2}]
    assert found["stats"]["blocks"] == 3
    assert found["stats"]["whitelist"] == 1
    assert found["stats"]["blocklists"] == 1
    assert set(module("ngfw_info", gather=["stats", "chain"])) & {"blocks", "chain", "stats"} == {"chain", "stats"}


def test_the_lines_of_a_diff_are_sorted(module):
    entries = ["203.0.113.7", "203.0.113.16/28", "9.0.0.0/8", "100.0.0.0/10"]

    lines = module("ngfw_blocklist", name="mine", entries=entries, target="both")["diff"]["after"].splitlines()

    about_entries = [line for line in lines if line.startswith("blocklist ")]
    assert len(about_entries) == 2 * len(entries)
    assert about_entries == sorted(about_entries)


def test_long_lists_are_cut_and_counted(module):
    addresses = [f"203.0.{third}.{last}" for third in range(2) for last in range(200)]

    returned = module("ngfw_block", addresses=addresses)

    assert len(returned["blocked"]) == 200
    assert returned["count"]["blocked"] == 400
    assert returned["diff"]["after"].splitlines()[-1] == "... and 200 more entries"


def test_refresh_restarts_the_clock_and_is_always_a_change(module):
    module("ngfw_block", addresses=[ATTACKER], duration="1h")

    for _round in range(2):
        assert module("ngfw_block", addresses=[ATTACKER], duration="10m", refresh=True)["blocked"] == [ATTACKER]
    assert module("ngfw_info", gather=["blocks"])["blocks"][0]["remaining"] <= 600


def test_lifting_an_address_inside_a_blocked_network_warns(lab, module):
    module("ngfw_block", addresses=["203.0.113.0/24"])

    returned = module("ngfw_block", addresses=[ATTACKER], state="absent")

    assert not returned["changed"]
    assert any(f"{ATTACKER} is still inside the blocked network 203.0.113.0/24" in str(w) for w in returned["warnings"])


@pytest.mark.feature("U4")
def test_a_flush_of_a_rule_without_blocks_says_which_rules_have_some(lab, module):
    module("ngfw_block", addresses=[ATTACKER, "203.0.113.8"], rule_name="SSH brute force")
    module("ngfw_block", addresses=["203.0.113.9"], rule_name="scan")

    for check in (True, False):
        returned = module("ngfw_flush", rule_name="SSH brute froce", check=check)
        assert not returned["changed"]
        (warning,) = map(str, returned["warnings"])
        assert "rule 'SSH brute froce' has no block in force; did you mean 'SSH brute force'?" in warning
        assert "those in force are of 'SSH brute force' (2), 'scan' (1)" in warning
    assert "warnings" not in module("ngfw_flush", rule_name="scan")
    module("ngfw_flush")
    (warning,) = map(str, module("ngfw_flush", rule_name="scan")["warnings"])
    assert "those in force are of no rule" in warning


@pytest.mark.feature("S12")
@pytest.mark.parametrize("url", ["http://joe:hunter2@127.0.0.1:9/list", "http://127.0.0.1:9/list?key=hunter2"])
def test_the_secret_of_a_url_is_in_nothing_that_a_module_returns_or_logs(lab, module, url, monkeypatch):
    logged = []
    monkeypatch.setattr(AnsibleModule, "log", lambda self, msg, log_args=None: logged.append(f"{msg} {log_args}"))

    returned = module("ngfw_blocklist", name="mine", url=url)

    assert "cannot be fetched" in returned["msg"]
    assert "***" in returned["msg"]
    assert logged
    assert "hunter2" not in json.dumps(returned) + "".join(logged)


def test_a_url_without_a_secret_is_shown(lab, module):
    returned = module("ngfw_blocklist", name="mine", url="http://127.0.0.1:9/list")

    assert returned["msg"].startswith("http://127.0.0.1:9/list cannot be fetched")
    assert returned["invocation"]["module_args"]["url"] == "http://127.0.0.1:9/list"


@pytest.mark.feature("S12")
def test_what_others_wrote_into_the_kernel_is_shown_as_text(lab, module):
    module("ngfw_block", addresses=[ATTACKER])
    module("ngfw_whitelist", entries=[{"address": "198.51.100.77", "comment": "\u202e office"}])
    comment = "module\t1\t60\tru\x1b[31mle\u200b\t\twhy\x9b31m"
    assert lab.tools.run(["ipset", "add", "NGFW-drop-src4", "203.0.113.99", "comment", comment]).code == 0

    seen = [
        module("ngfw_flush", rule_name="none"),
        module("ngfw_info"),
        module("ngfw_block", addresses=["198.51.100.77"]),
        module("ngfw_whitelist", entries=["198.51.100.77"], state="absent"),
        module("ngfw_flush"),
    ]

    assert r"'ru\\x1b[31mle\\u200b' (1)" in str(seen[0]["warnings"][0])
    assert "by ru\\x1b[31mle\\u200b\n" in seen[4]["diff"]["before"]
    # As Ansible prints it: JSON that escapes ASCII's own control characters only, and differences line by line.
    texts = [json.dumps(each, ensure_ascii=False) for each in seen]
    texts += [line for each in seen if "diff" in each for line in each["diff"]["before"].splitlines()]
    assert all(text.isprintable() for text in texts)


def test_nothing_is_fetched_for_a_list_of_a_bad_name(lab, module):
    returned = module("ngfw_blocklist", name="../mine", url="http://127.0.0.1:9/list")

    assert "use 1 to 12 lower-case letters" in returned["msg"]


def test_a_list_from_a_file(lab, module, tmp_path):
    source = tmp_path / "list.netset"
    source.write_text(f"# comment\n{ATTACKER} # it\n203.0.113.16/28\n10.0.0.1\n", encoding="utf-8")

    returned = module("ngfw_blocklist", name="mine", src=str(source))

    assert returned["added"] == [ATTACKER, "203.0.113.16/28"]
    assert [refused["address"] for refused in returned["refused"]] == ["10.0.0.1"]
    assert not lab.arrives("203.0.113.17", HOST)
    source.write_text("<html><body>error</body></html>\n", encoding="utf-8")
    failed = module("ngfw_blocklist", name="mine", src=str(source))
    assert failed["failed"]
    assert "looks like a page of HTML" in failed["msg"]
    assert "the old list stays" in failed["msg"]
    assert not lab.arrives("203.0.113.17", HOST)


@pytest.mark.feature("G1")
def test_a_kernel_without_ipv6_gets_a_warning_and_ipv4(lab, module, monkeypatch):
    monkeypatch.setattr(host, "has_ipv6", lambda: False)
    before = lab.run("ip6tables-save")
    mixed = [ATTACKER, "2001:db8:a::7"]
    refused = [{"address": "2001:db8:a::7", "reason": "this kernel has no IPv6"}]

    blocked = module("ngfw_block", addresses=mixed, target="both", on_protected="fail")
    whitelisted = module("ngfw_whitelist", entries=["203.0.113.9", "2001:db8:a::7"])
    listed = module("ngfw_blocklist", name="mine", entries=["203.0.113.8", "2001:db8:a::7"])
    lifted = module("ngfw_block", addresses=mixed, state="absent")

    for returned in (blocked, whitelisted, listed, lifted):
        assert returned["refused"] == refused
        assert any("this kernel has no IPv6; only IPv4 is managed" in str(w) for w in returned["warnings"])
    assert blocked["blocked"] == lifted["unblocked"] == [ATTACKER]
    assert lab.run("ip6tables-save") == before
    assert "families is [ipv4]; add the family" in module("ngfw_block", addresses=mixed, families=["ipv4"])["msg"]
    assert "this kernel has no IPv6; use [ipv4]" in module("ngfw_chain", families=["ipv6"])["msg"]


def test_rules_in_the_other_kind_of_iptables_are_warned_of_and_looking_makes_none(lab, module, tools):
    kind = tools.directory.name.rstrip("0123456789")
    other = {"nft": "legacy", "legacy": "nft"}[kind]
    legacy_tables = Path("/proc/self/net/ip_tables_names")

    assert module("ngfw_info").get("warnings", []) == []
    assert kind == "legacy" or not legacy_tables.exists() or not legacy_tables.read_text()
    lab.run(f"iptables-{other} -A INPUT -s 203.0.113.200 -j DROP")

    warnings = [str(warning) for warning in module("ngfw_block", addresses=[ATTACKER])["warnings"]]
    assert any(f"iptables here is {kind}, but there are rules in iptables-{other} too" in text for text in warnings)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ngfw_block", {"addresses": [ATTACKER], "state": "absent"}),
        ("ngfw_whitelist", {"entries": [ATTACKER], "state": "absent"}),
        ("ngfw_blocklist", {"name": "mine", "state": "absent"}),
        ("ngfw_flush", {"scope": ["blocks", "blocklists", "whitelist"]}),
        ("ngfw_chain", {"state": "absent"}),
    ],
)
def test_lifting_makes_no_chain_where_there_is_none(lab, module, name, options):
    before = lab.kernel()

    assert not module(name, check=True, **options)["changed"]
    assert not module(name, **options)["changed"]

    assert lab.kernel() == before
