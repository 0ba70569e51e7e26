# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from ngfw.rules import fields

TOOL = Path(__file__).resolve().parents[4] / "tools" / "eve_fields.py"
SCHEMA = {
    "type": "object",
    "$defs": {"when": {"type": "string"}},
    "properties": {
        "src_port": {"type": "integer", "description": "not taken over"},
        "start": {"$ref": "#/$defs/when"},
        "raw": {"type": ["string", "number"]},
        "flag": {"oneOf": [{"const": "aa"}]},
        "free": {"type": "object"},
        "closed": {"type": "object", "additionalProperties": False},
        "stats": {"type": "object", "properties": {"uptime": {"type": "integer"}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"x-y": {"type": "boolean"}}}},
        "bare": {"type": "array"},
    },
}


@pytest.fixture(name="tool")
def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("eve_fields", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_types_are_taken_from_the_schema(tool: ModuleType) -> None:
    table = tool.table_of(SCHEMA)
    for name in tool.ADDED:
        assert table.pop(name)
    assert table == {
        "src_port": "i",
        "start": "s",
        "raw": "ns",
        "flag": "s",
        "free": "*",
        "closed": "o",
        "stats": "*",
        "list": "a",
        "list[]": "o",
        "list[].x-y": "b",
        "bare": "a",
        "bare[]": "?",
    }
    assert "not taken over" not in tool.module_of(table)


def test_the_module_gives_the_table_back(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tool.table_of(SCHEMA)
    written: dict[str, str] = {}
    exec(compile(tool.module_of(table), "eve_table.py", "exec"), {}, written)  # noqa: S102
    monkeypatch.setattr(fields, "TABLE", written["TABLE"])
    fields.table.cache_clear()
    try:
        assert fields.table() == table
    finally:
        fields.table.cache_clear()


def test_the_table_in_use_holds_what_the_tool_adds(tool: ModuleType) -> None:
    known = fields.table()
    assert len(known) > 1500
    assert {name: known[name] for name in tool.ADDED} == {name: letters for name, (letters, _why) in tool.ADDED.items()}
    assert all(known[name] == "*" for name in tool.OPEN)
