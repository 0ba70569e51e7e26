# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of the README, as printed and in their order, as far as one can go without a fleet."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "examples/infrastructure/README.md").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """The lines of the blocks of code without a language, without what is said about them."""
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.M | re.S)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if re.match(r"(ansible|cp|make)", line) and line.isascii()]


@pytest.mark.feature("U7")
def test_install_and_the_first_playbooks_work_as_printed(tmp_path: Path) -> None:
    """In a home of its own: what is installed is the version just built, also where another one was before."""
    printed = [line for line in commands(README) if not line.startswith("make")]
    assert [line.split()[0] for line in printed[:3]] == ["ansible-galaxy", "ansible-galaxy", "cp"]
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    environment = {**os.environ, "HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for name in ("ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_HOME"):
        environment.pop(name, None)
    place = ROOT

    def run(line: str) -> str:
        line = line.replace("/tmp", str(out)).replace("~", str(home))
        done = subprocess.run(line, shell=True, cwd=place, env=environment, capture_output=True, text=True, check=False)  # noqa: S602
        assert done.returncode == 0, line + done.stdout + done.stderr
        return done.stdout

    for _time in range(2):  # an upgrade is the same two commands
        for line in printed[:2]:
            run(line)
    run(printed[2].partition("&&")[0])
    place = home / "fleet"
    assert len(printed) >= 7
    for line in (*printed[3:], *commands(EXAMPLE)):
        if line.startswith("ansible-playbook"):
            assert "web1.example.net" in run(f"{line} --list-hosts"), line
    installed = home / ".ansible/collections/ansible_collections/reflex/ngfw/MANIFEST.json"
    assert yaml.safe_load(installed.read_text())["collection_info"]["name"] == "ngfw"


@pytest.mark.feature("U7")
def test_readme_names_the_version_that_is_built() -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    assert f"reflex-ngfw-{version}.tar.gz" in README


def test_readme_names_every_make_target_that_it_speaks_of() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for line in commands(README):
        if line.startswith("make"):
            assert line.split()[1] in targets
