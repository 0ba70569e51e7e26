# SPDX-License-Identifier: GPL-3.0-or-later
"""The corpus of real Suricata output, where it is present: `../shared/data`, or what NGFW_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[4]
_DATA = Path(os.environ.get("NGFW_DATA", _ROOT.parent / "shared" / "data"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `corpus_folder` once for each recorded run."""
    if "corpus_folder" in metafunc.fixturenames:
        folders = sorted(path.parent for path in (_DATA / "suricata").glob("*/eve.json"))
        absent = pytest.param(None, marks=pytest.mark.skip(f"no recorded Suricata output in {_DATA}"), id="absent")
        metafunc.parametrize("corpus_folder", [pytest.param(f, id=f.name) for f in folders] or [absent])
