# SPDX-License-Identifier: GPL-3.0-or-later
"""The repository that users copy works: its playbooks parse, its variables and rules are accepted, its rules decide."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ngfw import cli

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "infrastructure"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


VARIABLES = {**read(EXAMPLE / "inventory/group_vars/defended/main.yml"), "ngfw_abuseipdb_key": ""}
OPTIONS = read(ROOT / "roles/ngfw/meta/argument_specs.yml")["argument_specs"]["main"]["options"]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy, beside a collections path that holds this checkout only."""
    (tmp_path / "collections/ansible_collections/reflex").mkdir(parents=True)
    (tmp_path / "collections/ansible_collections/reflex/ngfw").symlink_to(ROOT)
    return Path(shutil.copytree(EXAMPLE, tmp_path / "infrastructure"))


def ran(copy: Path, *command: str) -> str:
    """All output of one of Ansible's commands there; it has to succeed."""
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(copy.parent / "collections"),
        "ANSIBLE_HOME": str(copy.parent / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TEST_HOST": "192.0.2.10",
    }
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_playbooks_run_from_there(copied: Path) -> None:
    own = ["site.yml", "molecule/default/converge.yml", "molecule/default/verify.yml"]
    ours = [f"reflex.ngfw.{path.stem}" for path in sorted((ROOT / "playbooks").glob("*.yml"))]
    assert len(ours) == 7
    ran(copied, "ansible-playbook", "--syntax-check", *own, *ours)
    shown = ran(copied, "ansible-playbook", "--list-hosts", *own, *ours)
    for host in ("web1.example.net", "web2.example.net", "gateway.example.net"):
        assert shown.count(host) >= len(own + ours)


def test_its_molecule_test_knows_the_test_host_only(copied: Path) -> None:
    scenario = copied / "molecule" / "default"
    (argument,) = read(scenario / "molecule.yml")["ansible"]["executor"]["args"]["ansible_playbook"]
    argument = argument.replace("${MOLECULE_SCENARIO_DIRECTORY}", str(scenario))
    shown = ran(copied, "ansible-playbook", argument, "--list-hosts", "molecule/default/converge.yml")
    assert set(re.findall(r"^ {6}(\S+)$", shown, re.M)) == {"test"}
    assert "Unable to parse" not in ran(copied, "molecule", "syntax")


def test_collection_in_place_is_what_it_requires(copied: Path) -> None:
    shown = ran(copied, "ansible-galaxy", "collection", "install", "--offline", "-r", "requirements.yml")
    assert "already installed" in shown


@pytest.mark.feature("U7")
def test_key_in_its_vault_reaches_the_hosts(copied: Path) -> None:
    vault, password = copied / "inventory/group_vars/defended/vault.yml", copied / "password"
    vault.write_text('vault_abuseipdb_key: "0123456789abcdef"\n', encoding="utf-8")
    password.write_text("of a test\n", encoding="utf-8")
    with_password = ("--vault-password-file", str(password))
    ran(copied, "ansible-vault", "encrypt", *with_password, str(vault))
    assert "0123456789abcdef" not in vault.read_text(encoding="utf-8")
    show = ("ansible", "web1.example.net", "-m", "ansible.builtin.debug", "-a", "var=ngfw_abuseipdb_key")
    assert '"ngfw_abuseipdb_key": "0123456789abcdef"' in ran(copied, *show, *with_password)


@pytest.mark.feature("U7")
def test_example_runs_before_there_is_a_key(copied: Path) -> None:
    show = ("ansible", "web1.example.net", "-m", "ansible.builtin.debug", "-a", "var=ngfw_abuseipdb_key")
    assert '"ngfw_abuseipdb_key": ""' in ran(copied, *show)


def test_role_accepts_its_variables() -> None:
    assert set(VARIABLES) <= set(OPTIONS)
    checked = ArgumentSpecValidator(OPTIONS).validate(VARIABLES)
    assert checked.error_messages == []


def test_rules_decide_its_recorded_attack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules.d"
    shutil.copytree(ROOT / "roles/ngfw/files/rules.d", rules)
    (rules / "site.yml").write_text(yaml.safe_dump({"rules": VARIABLES["ngfw_rules"]}))
    keys = {
        name[len("ngfw_") :]: value for name, value in VARIABLES.items() if name in ("ngfw_whitelist", "ngfw_home_net")
    }
    config = tmp_path / "ngfw.yml"
    config.write_text(yaml.safe_dump({**keys, "rules_directory": str(rules)}))
    assert cli.main(["check", "--config", str(config)]) == 0
    capsys.readouterr()
    assert cli.main(["replay", "--config", str(config), str(EXAMPLE / "molecule/default/attack.json")]) == 0
    assert "198.51.100.66 for 30m [RULE Looks for pages that are not there]" in capsys.readouterr().out
