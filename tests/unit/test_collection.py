# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive that users build in a checkout holds what git knows and they need, whatever else lies about."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEVELOPMENT = (
    ".",
    "Makefile",
    "bench/",
    "extensions/",
    "galaxy.yml",
    "lab/",
    "pyproject.toml",
    "requirements/",
    "tests/",
    "tools/",
)


def test_archive_of_a_used_checkout(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["ANSIBLE_HOME"] = str(tmp_path / "home")
    build = ["ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), str(ROOT)]
    subprocess.run(build, env=environment, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {member.name for member in opened.getmembers() if not member.isdir()} - {"MANIFEST.json", "FILES.json"}
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    known = {name for name in listed.splitlines() if (ROOT / name).exists()}
    assert packed - known == set()
    assert {name for name in known if not name.startswith(DEVELOPMENT)} - packed == set()
