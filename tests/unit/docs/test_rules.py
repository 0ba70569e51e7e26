# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/rules.md is true: its commands print what it says, its rules load, its tables leave nothing out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ngfw.rules import fields
from ngfw.rules.functions import FUNCTIONS
from ngfw.rules.load import parse_rules
from ngfw.settings.yamlfile import ConfigError

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
BLOCKS = [(kind, body) for kind, body in re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.S | re.M)]
YAML = [body for kind, body in BLOCKS if kind == "yaml"]
KEYS = {
    *("name", "description", "type", "expression", "severity", "threshold", "threshold_window", "group_by", "distinct"),
    *("sequence", "intel", "spoofable", "actions", "enabled", "mitre", "tags"),
}


def commands() -> list[tuple[str, str]]:
    """The commands of the console blocks, each with what it prints."""
    text = "".join(body for kind, body in BLOCKS if kind == "console")
    parts = re.split(r"^\$ (.*)\n", text, flags=re.M)
    return list(zip(parts[1::2], parts[2::2]))


@pytest.mark.feature("F7")
def test_the_worked_example_runs_as_shown(tmp_path: Path) -> None:
    for name in ("roles", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "site.yml").write_text(YAML[0])
    (tmp_path / "bad.yml").write_text(YAML[1])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = ":".join(filter(None, ["roles/ngfw/files", *sys.path]))
    shown = commands()
    assert len(shown) == 4
    for command, output in shown[1:]:
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == (output, ""), command


@pytest.mark.parametrize("body", [body for body in YAML if "rules:" in body])
def test_the_rules_in_it_load_but_the_bad_ones(body: str) -> None:
    found = yaml.safe_load(body)
    rules = yaml.safe_dump({"rules": found.get("rules") or found["ngfw_rules"]}).encode()
    if body == YAML[1]:
        with pytest.raises(ConfigError) as caught:
            parse_rules(rules, "bad.yml")
        assert len(caught.value.problems) == 7
    else:
        assert len(parse_rules(rules, "doc.yml")) == 1


def test_no_key_and_no_function_is_left_out() -> None:
    for key in KEYS:
        assert f"\n| `{key}` | " in TEXT
    for name in FUNCTIONS:
        assert f"`{name}(" in TEXT


def test_the_fields_beside_netcaps_exist() -> None:
    table = TEXT[TEXT.index("| NETCAP | here |") : TEXT.index("NETCAP's example for SSH")]
    named = set(re.findall(r"\b(?:flow|tcp|http|dns|ssh)\.[a-z_.]+[a-z]", table)) | {"src_ip", "dest_ip", "proto"}
    assert len(named) > 20
    for name in named:
        path = fields.parse_field(name)
        types = ("flow", "http", "dns", "ssh", "alert")
        assert any(fields.occurs_in(str(path[0]), each) and fields.types_of(path, each) for each in types), name
