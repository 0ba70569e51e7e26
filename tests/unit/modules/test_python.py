# SPDX-License-Identifier: GPL-3.0-or-later
"""A managed host with an older Python than the modules can be read by is told so, by each of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("ngfw_*.py"))
LIBRARY = ROOT / "plugins" / "module_utils" / "_firewall" / "__init__.py"
# Ansible's own part works on 3.8; ours is imported afterwards, as on a host.
PRETEND = """
import sys
import ansible.module_utils.basic, ansible.module_utils.urls
sys.version_info = (3, 8, 18, "final", 0)
import ansible_collections.reflex.ngfw.plugins.modules.{module}
"""


@pytest.mark.feature("S13")
@pytest.mark.parametrize("module", MODULES)
def test_every_module_names_a_python_that_is_too_old(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRETEND.format(module=module)],
        env={"PYTHONPATH": str(ROOT / "collections"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"ImportError: Python 3.9 or newer is needed on the managed host, this is 3.8 ({sys.executable});"
    )


@pytest.mark.feature("S13")
@pytest.mark.parametrize(
    "path", [LIBRARY, *(ROOT / "plugins" / "modules").glob("ngfw_*.py")], ids=lambda path: path.stem
)
def test_what_an_old_python_reads_first_it_understands(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))
