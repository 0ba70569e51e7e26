# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's defaults, its argument specification, its shipped files and the watcher's own defaults say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ngfw import service
from ngfw.settings import config

ROLE = Path(__file__).resolve().parents[3] / "roles" / "ngfw"


def read(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROLE / name).read_text(encoding="utf-8"))
    return loaded


DEFAULTS = read("defaults/main.yml")
INNER = read("vars/main.yml")
SPECS = read("meta/argument_specs.yml")["argument_specs"]
OPTIONS = SPECS["main"]["options"]
TYPES = {
    "raw": object,
    "str": str,
    "path": str,
    "bool": bool,
    "int": int,
    "float": (int, float),
    "list": list,
    "dict": dict,
}
TASKS = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("tasks", "handlers", "templates", "vars")
    for path in sorted((ROLE / folder).rglob("*"))
    if path.is_file()
)


def test_every_variable_has_a_default_and_a_specification() -> None:
    assert set(DEFAULTS) == set(OPTIONS)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_default_is_what_the_specification_says(name: str) -> None:
    assert OPTIONS[name]["default"] == DEFAULTS[name]
    assert isinstance(DEFAULTS[name], TYPES[OPTIONS[name]["type"]])
    assert not isinstance(DEFAULTS[name], bool) or OPTIONS[name]["type"] == "bool"
    choices = OPTIONS[name].get("choices")
    for value in DEFAULTS[name] if isinstance(DEFAULTS[name], list) else [DEFAULTS[name]]:
        assert choices is None or value in choices


@pytest.mark.parametrize("entry", sorted(SPECS))
def test_everything_is_described(entry: str) -> None:
    for name, option in SPECS[entry]["options"].items():
        assert option["description"], name


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_every_variable_does_something(name: str) -> None:
    key = name[len("ngfw_") :]
    assert re.search(rf"\b{name}\b", TASKS) or key in INNER["__ngfw_keys"]


def test_variables_are_the_keys_of_the_configuration() -> None:
    assert set(INNER["__ngfw_keys"]) == set(config.Config.__dataclass_fields__)


def test_a_change_of_what_is_read_at_a_start_only_is_a_restart() -> None:
    assert set(INNER["__ngfw_start_only"]) == set(service._FIXED)


def test_defaults_are_the_watchers() -> None:
    written = {key: DEFAULTS[f"ngfw_{key}"] for key in INNER["__ngfw_keys"]}
    # The one that differs: a list that only the role says where to fetch.
    for netset in written["intel"]["netsets"]:
        assert netset.pop("url").startswith("https://")
    assert config.loads(yaml.safe_dump(written)) == config.Config.default()


def test_every_directory_of_the_code_is_copied() -> None:
    code = ROLE / "files" / "ngfw"
    packages = {f"{path.name}/" for path in code.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert packages | {""} == set(INNER["__ngfw_code_packages"])
    assert not list(code.glob("*/*/*.py")), "deeper directories are not copied"


def test_every_shipped_rule_file_is_installed() -> None:
    shipped = sorted(path.name for path in (ROLE / "files" / "rules.d").iterdir())
    assert DEFAULTS["ngfw_shipped_rules"] == shipped
    assert all(re.fullmatch(r"ngfw-[a-z-]+\.yml", name) for name in shipped), "others are the administrator's"


def test_signatures_are_numbered_once_and_in_our_range() -> None:
    lines = (ROLE / "files/suricata/ngfw.rules").read_text(encoding="utf-8").splitlines()
    signatures = [line for line in lines if line and not line.startswith("#")]
    numbers = [int(number) for line in signatures for number in re.findall(r"\bsid:(\d+);", line)]
    assert len(numbers) == len(set(numbers)) == len(signatures)
    assert all(1900001 <= number <= 1900999 for number in numbers)


@pytest.mark.feature("S1", "D4")
@pytest.mark.parametrize("unit", [path.name for path in sorted((ROLE / "templates").glob("*.service.j2"))])
def test_no_unit_waits_without_end(unit: str) -> None:
    """The manager's own limit is not for units of this type: systemd.service(5)."""
    text = (ROLE / "templates" / unit).read_text(encoding="utf-8")
    assert "Type=oneshot" not in text or re.search(r"^TimeoutStartSec=\d+(min)?$", text, re.M)
