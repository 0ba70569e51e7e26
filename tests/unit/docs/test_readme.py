# SPDX-License-Identifier: GPL-3.0-or-later
"""What the READMEs and the playbooks name exists: files, playbooks, variables, modules, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.reflex.ngfw.plugins.filter.variables import variable_problems
from ngfw import cli
from ngfw.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/decisions.md",
    "docs/design.md",
    "docs/interface.md",
    "docs/kernel.md",
    "docs/rules.md",
    "docs/threat-model.md",
    "docs/troubleshooting.md",
    "roles/ngfw/README.md",
    "examples/infrastructure/README.md",
]
PLAYBOOKS = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
SPECS = yaml.safe_load((ROOT / "roles/ngfw/meta/argument_specs.yml").read_text())["argument_specs"]
VARIABLES = {name for entry in SPECS.values() for name in entry["options"]} | {"ngfw_hosts", "ngfw_serial"}
MODULES = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}
PLUGINS = {path.stem for kind in ("filter", "test") for path in (ROOT / "plugins" / kind).glob("*.yml")}
METRICS = {*Metrics().to_dict(), "ngfw_sensor_up"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", read(page)):
        assert target.startswith("https://") or (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_lines_fit_a_screen(page: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", read(page), flags=re.S | re.M).splitlines()
    assert [line for line in prose if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("folder", ["plugins/module_utils/_firewall", "roles/ngfw/files/ngfw"])
def test_contributing_says_what_each_file_holds(folder: str) -> None:
    table = "".join(line for line in read("CONTRIBUTING.md").splitlines() if line.startswith("|"))
    names = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in (ROOT / folder).glob("*/__init__.py") if not path.parent.is_symlink()}
    assert sorted(name for name in names | folders if f"`{name}`" not in table) == []


@pytest.mark.parametrize("page", [*PAGES, *(f"playbooks/{name}.yml" for name in sorted(PLAYBOOKS))])
def test_names_of_ours_exist(page: str) -> None:
    for name in re.findall(r"(?<![\w./-])ngfw_[a-z_]+\b(?!\*|\.| is no variable)", read(page)):
        assert name in VARIABLES | MODULES | METRICS, name
    for name in re.findall(r"reflex\.ngfw\.([a-z_]+)", read(page)):
        assert name in PLAYBOOKS | MODULES | PLUGINS | {"ngfw"}, name


def test_every_playbook_is_described() -> None:
    described = re.findall(r"^\| (`[a-z`, ]+`) \|", read("README.md"), re.M)
    assert {name for cell in described for name in re.findall(r"[a-z]+", cell)} == PLAYBOOKS


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    parser = cli.parser()
    choices = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    for command in re.findall(r"`ngfw ([a-z]+)", read(page)):
        assert command in choices


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_exist(page: str) -> None:
    targets = re.findall(r"^([a-z-]+):", read("Makefile"), re.M)
    for target in re.findall(r"\bmake ([a-z-]+)", "".join(re.findall(r"`.*?`|^```.*?^```", read(page), re.S | re.M))):
        assert target in targets


@pytest.mark.feature("U4", "U6")
@pytest.mark.parametrize(
    ("entry", "values"),
    [
        ("main", {"ngfw_whitelst": ["192.0.2.1"]}),
        ("flush", {"ngfw_rule_name": "High"}),
        ("main", {"ngfw_rules": "High"}),
        ("main", {"ngfw_suricata_rules": ["alert tcp any any -> any any (sid:1900001;)"]}),
    ],
)
def test_troubleshooting_shows_the_messages_as_they_are(entry: str, values: dict[str, object]) -> None:
    (problem,) = variable_problems(values, entry)
    assert f"Action failed: {problem}\n" in read("docs/troubleshooting.md")
