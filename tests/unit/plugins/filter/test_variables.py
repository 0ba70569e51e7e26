# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of the variables of role and playbooks, and what a text given for one comes to."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.reflex.ngfw.plugins.filter.variables import (
    presentable,
    variable_problems,
    variable_value,
    variable_values,
    whitelist_after,
)

pytestmark = pytest.mark.feature("S13", "U4")

SIGNATURE = 'alert tcp any any -> any any (msg:"{message}"; sid:{sid}; rev:1;)'


@pytest.mark.parametrize(
    ("entry", "name", "message"),
    [
        ("main", "ngfw_whitelst", "did you mean ngfw_whitelist?"),
        ("main", "ngfw_suricata_rule", "did you mean ngfw_suricata_rules?"),
        ("main", "ngfw_host", "did you mean ngfw_hosts?"),
        ("main", "ngfw_colour", "ansible-doc -t role reflex.ngfw.ngfw lists all"),
        ("block", "ngfw_address", "did you mean ngfw_addresses?"),
        ("status", "ngfw_statusfile", "did you mean ngfw_status_file?"),
        ("flush", "ngfw_rule_name", "write ngfw_flush_rule"),
        ("whitelist", "ngfw_addresses", "write ngfw_whitelist"),
    ],
)
def test_a_name_that_nobody_reads(entry: str, name: str, message: str) -> None:
    (problem, *_more) = variable_problems({name: "x"}, entry)
    assert problem.startswith(f"{name} ")
    assert message in problem


def test_what_is_known_is_no_problem() -> None:
    known = {"ngfw_hosts": "all", "ngfw_serial": 2, "ngfw_status_file": "x", "ngfw_state": "absent"}
    assert variable_problems(known, "main") == []
    assert variable_problems({"ngfw_addresses": "203.0.113.7", "ngfw_duration": "2h"}, "block") == []


@pytest.mark.parametrize(
    ("entry", "values", "message"),
    [
        ("block", {}, "missing required arguments: ngfw_addresses"),
        ("whitelist", {"ngfw_whitelist": [], "ngfw_whitelist_state": "gone"}, "must be one of: present, absent, exact"),
        ("main", {"ngfw_state": "gone"}, "must be one of: present, absent"),
        ("main", {"ngfw_dry_run": "perhaps"}, "ngfw_dry_run must be true or false, not 'perhaps'"),
        ("main", {"ngfw_ipv6_prefix": "wide"}, "ngfw_ipv6_prefix must be a whole number, not 'wide'"),
        ("main", {"ngfw_home_net": None}, "ngfw_home_net must be a list, not None"),
        ("main", {"ngfw_intel": ["x"]}, "ngfw_intel must be a dictionary"),
        ("main", {"ngfw_sources": ["/var/log/eve.json"]}, "ngfw_sources, item 1 must be a dictionary"),
        ("block", {"ngfw_addresses": "x", "ngfw_state": "absent"}, "use the playbook unblock"),
    ],
)
def test_a_value_that_cannot_be_meant(entry: str, values: dict[str, Any], message: str) -> None:
    (problem,) = variable_problems(values, entry)
    assert message in problem


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.1,192.0.2.2",
        "192.0.2.1, 192.0.2.2",
        " 192.0.2.1  192.0.2.2 ",
        "192.0.2.1\n192.0.2.2\n",
        '["192.0.2.1", "192.0.2.2"]',
        "[192.0.2.1, 192.0.2.2]",
    ],
)
@pytest.mark.parametrize("name", ["ngfw_home_net", "ngfw_whitelist", "ngfw_addresses", "ngfw_trusted_proxies"])
def test_a_list_as_text(name: str, text: str) -> None:
    assert variable_value(text, name) == ["192.0.2.1", "192.0.2.2"]
    assert variable_value(["192.0.2.1", "192.0.2.2"], name) == ["192.0.2.1", "192.0.2.2"]


def test_signatures_stand_on_lines() -> None:
    one, two = SIGNATURE.format(message="a, b", sid=1000001), SIGNATURE.format(message="c", sid=1000002)
    assert variable_value(f"{one}\n\n  # mine\n{two}\n", "ngfw_suricata_rules") == [one, two]
    broken = one.replace(" (", " \\\n(")
    assert [" ".join(each.split()) for each in variable_value(broken, "ngfw_suricata_rules")] == [one]


@pytest.mark.feature("U6")
@pytest.mark.parametrize("sid", [1900000, 1900001, 1900999, 2200000, 2299999])
@pytest.mark.parametrize("form", ["sid:{};", "sid: {} ;", "classtype:x; sid:{};"])
def test_reserved_numbers_of_signatures_are_refused(sid: int, form: str) -> None:
    signature = f'alert ip any any -> any any (msg:"x"; {form.format(sid)} rev:1;)'
    (problem,) = variable_problems({"ngfw_suricata_rules": [SIGNATURE.format(message="ok", sid=7), signature]}, "main")
    assert f"ngfw_suricata_rules, item 2: sid {sid} is one" in problem
    assert "take one from 1000000 to 1899999" in problem


@pytest.mark.feature("U6")
@pytest.mark.parametrize("sid", [1, 1000001, 1899999, 1901000, 2199999, 2300000])
def test_other_numbers_are_yours_also_where_a_message_names_one(sid: int) -> None:
    signature = SIGNATURE.format(message="not sid:1900001; this", sid=sid)
    assert variable_problems({"ngfw_suricata_rules": [signature]}, "main") == []


def test_dictionaries_and_scalars_as_text() -> None:
    given = {"ngfw_intel": '{"threshold": 90}', "ngfw_dry_run": "yes", "ngfw_poll_interval": "3", "ngfw_chain": "NGFW"}
    assert variable_values(given) == {
        "ngfw_intel": {"threshold": 90},
        "ngfw_dry_run": True,
        "ngfw_poll_interval": 3.0,
        "ngfw_chain": "NGFW",
    }


OFFICE = {"address": "198.51.100.7", "comment": "office"}


@pytest.mark.parametrize(
    ("state", "pushed", "after"),
    [
        ("present", ["192.0.2.1"], ["192.0.2.1", OFFICE, "2001:db8::/64"]),
        ("present", ["198.51.100.7"], [OFFICE, "2001:db8::/64"]),
        ("present", [{**OFFICE, "comment": "new"}], [{**OFFICE, "comment": "new"}, "2001:db8::/64"]),
        ("absent", ["198.51.100.7/32"], ["2001:db8::/64"]),
        ("exact", ["198.51.100.7"], [OFFICE]),
        ("exact", ["192.0.2.1"], ["192.0.2.1"]),
    ],
)
def test_a_whitelist_after_a_push(state: str, pushed: list[Any], after: list[Any]) -> None:
    assert whitelist_after(["2001:db8::/64", OFFICE], pushed, state) == after


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("office", "'office' is not an address"),
        ({"comment": "x"}, "is neither an address nor a dictionary of address and comment"),
        ({"address": "192.0.2.1", "duration": "1d"}, "'duration' is not supported yet"),
        ({"address": "192.0.2.1", "coment": "x"}, "'coment' is no key of an entry"),
        ({"address": "192.0.2.1", "comment": 5}, "comment must be a text"),
    ],
)
def test_an_entry_that_cannot_be_meant(item: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message) as caught:
        variable_value(["192.0.2.1", item], "ngfw_whitelist")
    assert str(caught.value).startswith("ngfw_whitelist, item 2: ")


@pytest.mark.feature("S12")
def test_a_text_for_people() -> None:
    text = "\x1b[31m https://joe:hunter2@lists.example/a?key=s3cr3t\u202e"
    assert presentable(text) == "\\x1b[31m https://***@lists.example/a?key=***"
