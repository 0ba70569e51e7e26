# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks and the role with variables as people give them: mistyped, misplaced, and as text by `-e`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

Task = dict[str, Any]
ROOT = Path(__file__).resolve().parents[3]
INVENTORY = "here ansible_connection=local ansible_python_interpreter=/usr/bin/python3 "
# Ends before anything is done on the host: what is wrong is wrong before a connection.
SIGNATURE = 'alert tcp any any -> any any (msg:"a, b; sid:1900001;"; sid:{sid}; rev:1;)'


class Run:
    """Runs playbooks of this checkout on a host that is this machine, without a change to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "collections/ansible_collections/reflex").mkdir(parents=True)
        (directory / "collections/ansible_collections/reflex/ngfw").symlink_to(ROOT)
        (directory / "templates").symlink_to(ROOT / "roles/ngfw/templates")

    def __call__(self, playbook: str, *extra: str, inventory: str = "") -> subprocess.CompletedProcess[str]:
        hosts = self.directory / "hosts.ini"
        hosts.write_text(INVENTORY + inventory + "\n")
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(self.directory / "collections"),
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        options = [word for each in extra for word in ("-e", each)]
        argv = ["ansible-playbook", "--check", "--diff", "-i", str(hosts), playbook, *options]
        return subprocess.run(argv, cwd=self.directory, env=environment, capture_output=True, text=True, check=False)

    def refused(self, playbook: str, *extra: str, inventory: str = "") -> str:
        """The output of a run that ends at the check of its variables."""
        done = self(f"reflex.ngfw.{playbook}", *extra, inventory=inventory)
        output = done.stdout + done.stderr
        assert done.returncode != 0, output
        assert "ngfw.ngfw : Check the variables" in done.stdout, output
        assert "Reach the host" not in done.stdout.partition("Check the variables")[2], output
        return output

    def values(self, *extra: str, inventory: str = "", tasks: Sequence[Task] = (), **names: str) -> dict[str, Any]:
        """What expressions in the role's own terms come to, after its variables were checked, and after `tasks`."""
        role = {"name": "reflex.ngfw.ngfw", "tasks_from": "variables", "public": True}
        content = "{{ {" + ", ".join(f"'{name}': {value}" for name, value in names.items()) + "} | to_json }}"
        tasks = [
            {"ansible.builtin.include_role": role, "vars": {"__ngfw_entry": "main"}},
            *tasks,
            {"ansible.builtin.copy": {"content": content, "dest": str(self.directory / "found.json")},
             "check_mode": False},
        ]  # fmt: skip
        play = [
            {"hosts": "all", "gather_facts": False, "vars": {"role_path": str(ROOT / "roles/ngfw")}, "tasks": tasks}
        ]
        (self.directory / "play.yml").write_text(yaml.safe_dump(play))
        done = self(str(self.directory / "play.yml"), *extra, inventory=inventory)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads((self.directory / "found.json").read_text())
        return found


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.mark.feature("U4")
def test_an_unknown_variable_is_an_error_with_a_suggestion_wherever_it_was_set(run: Run) -> None:
    output = run.refused("site", "ngfw_whitelst=192.0.2.1", inventory="ngfw_homenet=10.0.0.0/8 ngfw_xyzzy=1")
    assert "ngfw_whitelst is no variable of reflex.ngfw; did you mean ngfw_whitelist?" in output
    assert "ngfw_homenet is no variable of reflex.ngfw; did you mean ngfw_home_net?" in output
    assert "ngfw_xyzzy is no variable of reflex.ngfw; ansible-doc -t role reflex.ngfw.ngfw lists all" in output


@pytest.mark.feature("U4")
@pytest.mark.parametrize(
    ("playbook", "extra", "message"),
    [
        # All blocks would have been lifted.
        ("flush", "ngfw_rule_name=High", "ngfw_rule_name means nothing to the playbook flush; write ngfw_flush_rule"),
        # The entry would have been added.
        ("whitelist", "ngfw_state=absent", "write ngfw_whitelist_state=absent"),
    ],
)
def test_an_option_of_a_module_is_no_variable_of_its_playbook(
    run: Run, playbook: str, extra: str, message: str
) -> None:
    assert message in run.refused(playbook, extra)


@pytest.mark.feature("U4")
@pytest.mark.parametrize("entry", ["main", "block", "unblock", "flush", "whitelist", "status"])
def test_every_part_of_the_role_checks_its_variables_before_all_else(entry: str) -> None:
    tasks = yaml.safe_load((ROOT / f"roles/ngfw/tasks/{'preflight' if entry == 'main' else entry}.yml").read_text())
    first = tasks[1 if entry == "status" else 0]  # status: what the report needs of a host that fails here
    assert first["ansible.builtin.include_tasks"] == "variables.yml"
    assert first.get("vars", {"__ngfw_entry": "main"}) == {"__ngfw_entry": entry}


@pytest.mark.feature("U4", "S13")
def test_what_is_of_another_kind_is_named_with_a_remedy(run: Run) -> None:
    given = {
        "ngfw_home_net": {"a": 1},
        "ngfw_trusted_proxies": ["192.0.2.1", 5],
        "ngfw_shipped_rules": "",
        "ngfw_rules": "High",
        "ngfw_escalation": "twice",
        "ngfw_whitelist": [{"addres": "192.0.2.1"}, {"address": "192.0.2.1", "duration": "1d"}],
        "ngfw_suricata_rules": [SIGNATURE.format(sid=1000001), SIGNATURE.format(sid=1900005)],
    }
    # Some of it Ansible itself would refuse before the role has a say, so the playbook's part that has no such check.
    play = [{"hosts": "all", "gather_facts": False, "tasks": [
        {"ansible.builtin.include_role": {"name": "reflex.ngfw.ngfw", "tasks_from": "variables"},
         "vars": {"__ngfw_entry": "main"}}]}]  # fmt: skip
    (run.directory / "play.yml").write_text(yaml.safe_dump(play))
    done = run(str(run.directory / "play.yml"), json.dumps(given))
    output = (done.stdout + done.stderr).replace("\\n", "\n").replace('\\"', '"')
    assert done.returncode != 0
    for message in (
        "ngfw_home_net must be a list, not the dictionary {'a': 1}; write [a, b], or by -e words with commas",
        "ngfw_trusted_proxies, item 2 must be a text, not the number 5",
        "ngfw_shipped_rules is an empty text; write [] for a list without items",
        "ngfw_rules must be a list, not 'High'; in a text, write it as JSON",
        "ngfw_escalation must be a dictionary, not 'twice'; write {KEY: VALUE}, by -e as JSON",
        "ngfw_whitelist, item 1: the dictionary {'addres': '192.0.2.1'} is neither an address nor a dictionary of",
        "item 2: 'duration' is not supported yet",
        "ngfw_suricata_rules, item 2: sid 1900005 is one of the signatures that come with the role (1900000 to 1900",
    ):
        assert message in output


@pytest.mark.feature("S13", "U4")
def test_lists_and_dictionaries_may_be_given_as_text(run: Run) -> None:
    found = run.values(
        "ngfw_whitelist='198.51.100.7, 192.0.2.0/28 2001:DB8::1'",
        "ngfw_home_net=10.0.0.0/8,192.168.0.0/16",
        json.dumps({"ngfw_shipped_rules": '["ngfw-alerts.yml"]', "ngfw_trusted_proxies": "192.0.2.9\n192.0.2.10\n"}),
        "ngfw_families='ipv4, ipv6'",
        "ngfw_hooks=INPUT,FORWARD",
        "ngfw_suricata_interface='eth0 eth1'",
        json.dumps({"ngfw_suricata_rules": SIGNATURE.format(sid=1000001) + "\n# mine\n\n" + SIGNATURE.format(sid=7)}),
        json.dumps({"ngfw_intel": '{"threshold": 90}', "ngfw_rules": '[{"name": "x"}]'}),
        "ngfw_addresses='203.0.113.7, 203.0.113.8'",
        "ngfw_dry_run=yes ngfw_poll_interval=3 ngfw_ipv6_prefix=56",
        config="__ngfw_config",
        files="__ngfw_rule_files.keys() | list",
        interfaces="__ngfw_interfaces_wanted",
        signatures="__ngfw_signatures",
        addresses="__ngfw_addresses",
        families="__ngfw_defended",
        shows="__ngfw_config_diff",
    )
    assert found["shows"] is True
    config = found["config"]
    assert config["whitelist"] == ["192.0.2.0/28", "198.51.100.7", "2001:db8::1"]
    assert config["home_net"] == ["10.0.0.0/8", "192.168.0.0/16"]
    assert config["trusted_proxies"] == ["192.0.2.9", "192.0.2.10"]
    assert config["hooks"] == ["INPUT", "FORWARD"]
    assert config["families"] == found["families"] == ["ipv4", "ipv6"]
    assert config["intel"]["threshold"] == 90
    assert config["intel"]["abuseipdb"]["per_minute"] == 20
    assert (config["dry_run"], config["poll_interval"], config["ipv6_prefix"]) == (True, 3.0, 56)
    assert found["files"] == ["ngfw-alerts.yml", "site.yml"]
    assert found["interfaces"] == ["eth0", "eth1"]
    assert found["signatures"] == [SIGNATURE.format(sid=1000001), SIGNATURE.format(sid=7)]
    assert found["addresses"] == ["203.0.113.7", "203.0.113.8"]


@pytest.mark.feature("S12", "S13", "U4")
def test_a_whitelist_keeps_its_comments_and_a_secret_is_not_shown_in_a_difference(run: Run) -> None:
    entries = [{"address": "198.51.100.7/32", "comment": "office"}, "192.0.2.0/28"]
    netset = {"name": "x", "path": "/var/lib/ngfw/x.netset", "url": "https://joe:hunter2@lists.example/a"}
    found = run.values(
        json.dumps({"ngfw_whitelist": entries, "ngfw_intel": {"netsets": [netset]}}),
        config="__ngfw_config.whitelist",
        pushed="__ngfw_config.whitelist | reflex.ngfw.whitelist_after(['198.51.100.7', '192.0.2.99'], 'present')",
        shows="__ngfw_config_diff",
    )
    assert found["config"] == ["192.0.2.0/28", {"address": "198.51.100.7", "comment": "office"}]
    assert found["pushed"] == ["192.0.2.0/28", "192.0.2.99", {"address": "198.51.100.7", "comment": "office"}]
    assert found["shows"] is False


@pytest.mark.feature("S12")
def test_nor_is_a_secret_shown_that_leaves_the_configuration(run: Run) -> None:
    """By the role's own tasks up to the one that writes it."""
    tasks = yaml.safe_load((ROOT / "roles/ngfw/tasks/config.yml").read_text(encoding="utf-8"))
    looking = ("ansible.builtin.find", "ansible.builtin.set_fact", "ansible.builtin.slurp")
    looks = [task for task in tasks if any(module in task for module in looking)]
    place = json.dumps({"__ngfw_config_file": str(run.directory / "ngfw.yml"), "ngfw_suricata_manage": False})
    written = run.directory / "ngfw.yml"
    for url, shown in (("https://joe:hunter2@lists.example/a", False), ("https://lists.example/a", True)):
        written.write_text(f"intel: {{netsets: [{{name: x, path: /x, url: '{url}'}}]}}\n")
        assert run.values(place, tasks=looks, shows="__ngfw_config_diff")["shows"] is shown
