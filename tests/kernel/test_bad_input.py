# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: each message names what is wrong and what to write instead, and the kernel stays as it was."""

from __future__ import annotations

import pytest

FOREIGN = "holds rules that are not from here, such as '-s 203.0.113.7/32 -j DROP'; choose another name"
NEITHER = "is neither an address nor a dictionary of address and comment"
SIXTY_FIVE, MANY = "x" * 65, list("abcdefg")
TAKEN = "is a name that iptables or another program uses; choose one such as NGFW"

ADDRESSES = [
    ("203.0.113.300", "'203.0.113.300' is not an address; write an IPv4 or IPv6 address, or a network as"),
    ("203.0.113", "'203.0.113' is not an address; write"),
    ("203.0.113.07", "'203.0.113.07' is not an address"),
    ("0xcb.0.113.7", "'0xcb.0.113.7' is not an address"),
    ("3405803783", "'3405803783' is not an address"),
    ("\u0662\u0660\u0663.0.113.7", "'\u0662\u0660\u0663.0.113.7' is not an address"),
    ("203.0.113.0/\u0662\u0664", "the prefix length must be a number from 1 to 32"),
    ("203.0.113.0/33", "'203.0.113.0/33': the prefix length must be a number from 1 to 32"),
    ("203.0.113.0/-1", "'203.0.113.0/-1': the prefix length must be a number"),
    ("203.0.113.0/", "'203.0.113.0/': the prefix length must be a number"),
    ("203.0.113.0/255.255.255.0", "'203.0.113.0/255.255.255.0': the prefix length must be"),
    ("0.0.0.0/0", "'0.0.0.0/0' is every address there is; name a smaller network"),
    ("203.0.113.7/0", "'203.0.113.7/0' is every address there is"),
    ("::/0", "'::/0' is every address there is; name a smaller network"),
    ("::ffff:0:0/96", "'::ffff:0:0/96' is every address there is"),
    ("2001:db8::/129", "'2001:db8::/129': the prefix length must be a number from 1 to 128"),
    ("2001:db8::1::2", "'2001:db8::1::2' is not an address"),
    ("[2001:db8::1]", "'[2001:db8::1]' is not an address"),
    ("fe80::1%eth0", "leave out the interface after '%'"),
    (" 203.0.113.7", "' 203.0.113.7' is not an address; remove the spaces around it"),
    ("203.0.113.7\n", "remove the spaces around it"),
    ("203.0.113.7-203.0.113.9", "'203.0.113.7-203.0.113.9' is not an address; ranges are for blocklists"),
    ("203.0.113.7:22", "'203.0.113.7:22' is not an address"),
    ("", "'' is not an address; write"),
    ("example.org", "'example.org' is not an address; write"),
    ("203.0.113.7; reboot", "'203.0.113.7; reboot' is not an address"),
]
BLOCK = [
    *(({"addresses": ["203.0.113.9", text]}, message) for text, message in ADDRESSES),
    *(({"addresses": [text], "state": "absent"}, message) for text, message in ADDRESSES),
    ({"addresses": MANY}, "'a' is not an address"),
    ({"addresses": MANY}, "(and 2 more)"),
    ({"addresses": None}, "missing required arguments: addresses"),
    (
        {"addresses": ["2001:db8::1"], "families": ["ipv4"]},
        "2001:db8::1 is ipv6, but families is [ipv4]; add the family, or leave the address out",
    ),
    ({"addresses": ["203.0.113.7"], "families": ["ipv6"]}, "203.0.113.7 is ipv4, but families is [ipv6]; add"),
    ({"addresses": ["203.0.113.7"], "families": ["ipv6"], "state": "absent"}, "is ipv4, but families is [ipv6]"),
    ({"families": []}, "families is empty; name at least one of ipv4, ipv6"),
    (
        {"duration": "90"},
        "'90' is not a duration; write it with units, such as 45s, 30m, 2h, 1d, 1w or 1h30m, or 0 for",
    ),
    ({"duration": 90}, "'90' is not a duration"),
    ({"duration": "90", "state": "absent"}, "'90' is not a duration"),
    ({"duration": "1.5h"}, "'1.5h' is not a duration; write it with units"),
    ({"duration": "-30m"}, "'-30m' is not a duration"),
    ({"duration": "30 minutes"}, "'30 minutes' is not a duration"),
    ({"duration": "30M"}, "'30M' is not a duration"),
    ({"duration": "\u0663m"}, "'\u0663m' is not a duration"),
    ({"duration": "forever"}, "'forever' is not a duration"),
    ({"duration": ""}, "'' is not a duration"),
    ({"duration": "0s"}, "'0s' is no time at all; write it with units"),
    ({"duration": "24d20h31m24s"}, "'24d20h31m24s' is too long; the most is 3w3d20h31m23s, or 0 for permanent"),
    ({"duration": "52w"}, "'52w' is too long"),
    ({"rule_name": ""}, "rule_name '' has 0 bytes; use 1 to 64"),
    ({"rule_name": SIXTY_FIVE}, "has 65 bytes; use 1 to 64"),
    ({"rule_name": "ä" * 33}, "has 66 bytes; use 1 to 64"),
    ({"rule_name": 'say "hello"'}, "rule_name 'say \"hello\"': leave out quotes and control characters"),
    ({"rule_name": "two\nlines"}, "leave out quotes and control characters"),
    ({"action": "log", "log_prefix": "x" * 29}, "use at most 28 printable ASCII characters, without quotes"),
    ({"action": "log", "log_prefix": "Größe: "}, "log_prefix 'Größe: ': use at most 28 printable ASCII"),
    ({"action": "log", "log_prefix": "it's"}, "log_prefix 'it's': use at most 28 printable ASCII"),
    ({"rate": "fast"}, "rate 'fast': write 1 to 10000 per unit, as in 10/minute or 5/second"),
    ({"rate": "0/second"}, "rate '0/second': write 1 to 10000 per unit"),
    ({"rate": "10001/second"}, "rate '10001/second': write 1 to 10000"),
    ({"rate": "10/year"}, "rate '10/year': write 1 to 10000"),
    ({"rate": "1/day"}, "burst 5 at 1/day is more than a day's worth; use at most 1, or a faster rate"),
    ({"burst": 0}, "burst 0: use 1 to 10000 packets"),
    ({"burst": 10001}, "burst 10001: use 1 to 10000 packets"),
    ({"burst": "many"}, "burst"),
    ({"burst": "\u0665"}, "burst '\u0665' is not a number; write it with the digits 0 to 9"),
    ({"burst": "1_0"}, "burst '1_0' is not a number; write it with the digits 0 to 9"),
    ({"burst": True}, "burst True: use 1 to 10000 packets"),
    ({"action": "block"}, "value of action must be one of: drop, reject, log, rate_limit, got: block"),
    (
        {"addresses": ["127.0.0.1"], "on_protected": "fail"},
        "127.0.0.1 may not be blocked: protected: 127.0.0.0/8 (loopback); leave it out, or set on_protected to skip",
    ),
    ({"addresses": ["0.0.0.0/1", "128.0.0.0/1"]}, "cover 100% of all IPv4 addresses; check them, and set allow_wide"),
    ({"addresses": ["2000::/5"], "action": "log"}, "cover 25% of 2000::/3, the public IPv6 addresses; check them"),
    ({"on_protected": "never"}, "value of on_protected must be one of: skip, fail, got: never"),
    ({"chain": "DOCKER"}, f"chain 'DOCKER' {TAKEN}"),
]
BLOCKLIST = [
    ({"name": "Short"}, "blocklist name 'Short': use 1 to 12 lower-case letters, digits or underscores"),
    ({"name": ""}, "blocklist name '': use 1 to 12 lower-case letters"),
    ({"name": "a-list"}, "blocklist name 'a-list': use 1 to 12"),
    ({"name": "thirteen_char"}, "blocklist name 'thirteen_char': use 1 to 12"),
    ({"name": "../etc"}, "blocklist name '../etc': use 1 to 12"),
    ({"name": "../etc", "state": "absent"}, "blocklist name '../etc': use 1 to 12"),
    ({"name": "../etc", "entries": None, "url": "http://127.0.0.1:9/"}, "blocklist name '../etc': use 1 to 12"),
    ({"name": "l\u0661st"}, "blocklist name 'l\u0661st': use 1 to 12"),
    ({"chain": "DOCKER"}, f"chain 'DOCKER' {TAKEN}"),
    ({"entries": None, "src": ""}, "src is empty; name a file of the managed host"),
    ({"entries": ["nonsense"]}, "entries has no usable address: line 1, 'nonsense', looks like no address"),
    ({"entries": ["203.0.113.9-203.0.113.1"]}, "'203.0.113.9-203.0.113.1' is no range; write FIRST-LAST, both of one"),
    ({"entries": ["203.0.113.9-::1"]}, "'203.0.113.9-::1' is no range; write FIRST-LAST, both of one family"),
    ({"entries": ["0.0.0.0/0"]}, "'0.0.0.0/0' is every address there is; name a smaller network"),
    ({"entries": ["0.0.0.0-255.255.255.255"]}, "is every address there is; name a smaller range"),
    ({"entries": ["16.0.0.0/5"]}, "wider than /8; allow it with min_prefix_ipv4 if it is meant"),
    ({"entries": ["2000::/3"]}, "wider than /19; allow it with min_prefix_ipv6 if it is meant"),
    ({"entries": ["192.168.1.1"]}, "not public address space; allow it with exclude_private: false if it is meant"),
    ({"entries": ["9.0.0.0-10.0.0.9"]}, "the first is '9.0.0.0-10.0.0.9': not public address space"),
    ({"entries": ["2001:db8::/32"], "families": ["ipv4"]}, "ipv6 is not among the families"),
    ({"entries": None, "src": "page.html"}, "line 1, '<!DOCTYPE html>', looks like a page of HTML; what is read"),
    ({"entries": None, "src": "empty.netset"}, "empty.netset has no usable address"),
    ({"entries": None, "src": "none"}, "none: No such file or directory; the old list stays"),
    ({"entries": None, "src": "."}, ". is a directory, not a regular file"),
    ({"entries": None, "url": "http://127.0.0.1:9/"}, "http://127.0.0.1:9/ cannot be fetched"),
    ({"entries": None, "url": "no address"}, "no address cannot be fetched"),
    ({"entries": None, "url": ""}, "the url is empty; the old list stays"),
    ({"min_prefix_ipv4": 33}, "min_prefix_ipv4 33: use 1 to 32"),
    ({"min_prefix_ipv4": "\u0668"}, "min_prefix_ipv4 '\u0668' is not a number; write it with the digits 0 to 9"),
    ({"min_prefix_ipv4": 0}, "min_prefix_ipv4 0: use 1 to 32"),
    ({"min_prefix_ipv6": 129}, "min_prefix_ipv6 129: use 1 to 128"),
    ({"entries": ["203.0.113.2", "nonsense"]}, "1 of its 2 entries are no addresses; the first: 'nonsense'"),
    (
        {"entries": ["16.0.0.0/3", "203.0.113.2"], "min_prefix_ipv4": 3, "exclude_private": False},
        "it covers 13% of all IPv4 addresses; the old list stays. Look at it, and set sanity to false",
    ),
    ({"target": "all"}, "value of target must be one of: source, destination, both, got: all"),
    ({"src": "/etc/hosts"}, "parameters are mutually exclusive: entries|src|url"),
    ({"entries": None}, "state is present but any of the following are missing: entries, src, url"),
]
CHAIN = [
    *(({"chain": name}, f"chain '{name}' {TAKEN}") for name in ("DOCKER", "INPUT", "input", "ACCEPT", "LIBVIRT_INP")),
    *(
        ({"chain": name}, f"chain '{name}': use 1 to 12 letters, digits or underscores")
        for name in ("", "NGFW-2", "NGFW_NGFW_NGF", "NGFW; reboot", "-F", "NÄHE", "NGFW\u0665")
    ),
    ({"chain": "FOREIGN"}, f"chain 'FOREIGN' (ipv4) {FOREIGN}"),
    ({"chain": "FOREIGN", "state": "absent"}, f"chain 'FOREIGN' (ipv4) {FOREIGN}"),
    ({"chain": "ICMP6"}, "chain 'ICMP6' (ipv6) holds rules that are not from here"),
    ({"hooks": ["PREROUTING"]}, "value of hooks must be one or more of: INPUT, FORWARD, OUTPUT. Got no match for: PRE"),
    ({"hooks": []}, "hooks is empty; name at least one of INPUT, FORWARD, OUTPUT"),
    ({"families": ["inet"]}, "value of families must be one or more of: ipv4, ipv6. Got no match for: inet"),
    ({"families": []}, "families is empty; name at least one of ipv4, ipv6"),
    ({"state": "gone"}, "value of state must be one of: present, absent, got: gone"),
]
WHITELIST = [
    *(({"entries": ["203.0.113.9", text]}, message) for text, message in ADDRESSES if text == text.strip()),
    *(
        ({"entries": [{"address": text, "comment": "office"}]}, message)
        for text, message in ADDRESSES
        if text == text.strip()  # a whitelist's are often lines of a file, with spaces around them
    ),
    ({"entries": [{"comment": "office"}]}, NEITHER),
    ({"entries": [{"address": "203.0.113.7", "name": "office"}]}, NEITHER),
    ({"entries": [5]}, f"entries: '5' {NEITHER}"),
    ({"entries": [["203.0.113.7"]]}, NEITHER),
    ({"entries": ["2001:db8::1"], "families": ["ipv4"]}, "2001:db8::1 is ipv6, but families is [ipv4]; add the family"),
    ({"entries": ["nowhere"], "state": "absent"}, "'nowhere' is not an address"),
    ({"entries": ["nowhere"], "state": "exact"}, "'nowhere' is not an address"),
    ({"state": "only"}, "value of state must be one of: present, absent, exact, got: only"),
]
FLUSH = [
    ({"scope": ["all"]}, "value of scope must be one or more of: blocks, blocklists, whitelist. Got no match for: all"),
    ({"scope": []}, "scope is empty; name at least one of blocks, blocklists, whitelist"),
    ({"rule_name": ""}, "rule_name '' has 0 bytes; use 1 to 64"),
    ({"rule_name": "one", "scope": ["whitelist"]}, "rule_name 'one' names blocks only; add blocks to scope, or leave"),
    ({"chain": "DOCKER"}, f"chain 'DOCKER' {TAKEN}"),
]
INFO = [
    ({"gather": ["rules"]}, "one or more of: chain, blocks, whitelist, blocklists, stats. Got no match for: rules"),
    ({"chain": "no-chain"}, "chain 'no-chain': use 1 to 12 letters, digits or underscores"),
]
TABLES = {
    "ngfw_block": (BLOCK, {"addresses": ["203.0.113.9"]}),
    "ngfw_blocklist": (BLOCKLIST, {"name": "short", "entries": ["203.0.113.9"]}),
    "ngfw_chain": (CHAIN, {}),
    "ngfw_whitelist": (WHITELIST, {"entries": ["203.0.113.9"]}),
    "ngfw_flush": (FLUSH, {}),
    "ngfw_info": (INFO, {}),
}


@pytest.mark.feature("G1")
@pytest.mark.parametrize("tools", ["nft"], indirect=True)
@pytest.mark.parametrize("name", TABLES)
def test_bad_input_is_refused_by_name_and_leaves_the_kernel_as_it_was(lab, module, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.html").write_text("<!DOCTYPE html>\n<html>\n<p>Sign in</p>\n</html>\n")
    (tmp_path / "empty.netset").write_text("# nothing\n\n")
    module("ngfw_block", addresses=["203.0.113.1"], duration="0")
    module("ngfw_blocklist", name="short", entries=["203.0.113.2"])
    lab.run("iptables -N FOREIGN")
    lab.run("iptables -A FOREIGN -s 203.0.113.7 -j DROP")
    lab.run("ip6tables -N ICMP6")
    lab.run("ip6tables -A ICMP6 -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT")
    before = lab.kernel()
    table, usual = TABLES[name]

    for options, message in table:
        given = {option: value for option, value in {**usual, **options}.items() if value is not None}
        returned = module(name, **given)
        assert returned.get("failed"), (options, returned)
        assert message in returned["msg"], options
        assert "Traceback" not in str(returned), options
        assert lab.kernel() == before, options
