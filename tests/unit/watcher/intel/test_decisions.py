# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/decisions.md says what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from ngfw.intel.verdict import Kind, Open, Standing, Step

ROOT = Path(__file__).resolve().parents[4]
PAGE = ROOT / "docs" / "decisions.md"


@pytest.fixture(name="tool", scope="module")
def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("decisions", ROOT / "tools" / "decisions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_what_the_code_does(tool: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert tool.filled(text) == text, "run python3 tools/decisions.py"


def test_a_table_that_is_out_of_date_is_noticed(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "decisions.md"
    page.write_text(
        PAGE.read_text(encoding="utf-8").replace("| extend | keep |", "| lift | keep |", 1), encoding="utf-8"
    )
    monkeypatch.setattr(tool, "PAGE", page)
    assert tool.main(["--check"]) == 1
    assert tool.main([]) == 0
    assert tool.main(["--check"]) == 0
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
    page.write_text("no tables", encoding="utf-8")
    with pytest.raises(SystemExit, match="no place for the table"):
        tool.main([])


def test_nothing_is_missing_from_the_tables(tool: ModuleType) -> None:
    assert len(list(tool.findings())) == 2 + 4 * 6
    rows = [line.strip("| ").split(" | ") for line in list(tool.steps())[2:]]
    kinds = {re.split(", ", row[0])[0] for row in rows}
    assert kinds == {kind.value for kind in Kind}
    assert {row[0].partition(", ")[2].replace(" ", "_") or "no" for row in rows} == {each.value for each in Open}
    assert set(tool.STANDINGS.values()) == set(Standing)
    used = {word for row in rows for word in row[3:]}
    assert used == {step.value for step in Step}
