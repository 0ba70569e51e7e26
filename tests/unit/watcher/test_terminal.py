# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest
from ngfw import cli
from ngfw.terminal import complain, show, show_json

PACKAGE = Path(cli.__file__).resolve().parent
HOSTILE = "a\x1b]0;title\x07b\x7f\x9b31m\u202ec\u200bd\nnext"


@pytest.mark.feature("S12")
def test_nothing_else_prints() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path}:{getattr(node, 'lineno', 0)}"
            assert not (isinstance(node, ast.Name) and node.id == "print"), where
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
                allowed = path.name == "cli.py" and node.attr == "stderr"  # closed where the reader has gone
                assert node.attr not in ("stdout", "stderr", "__stdout__", "__stderr__") or allowed, where


@pytest.mark.feature("S12")
def test_lines_hold_what_can_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    show(HOSTILE, "two")
    complain(HOSTILE + " https://joe:hunter2@lists.example/a?key=hunter2")
    found = capsys.readouterr()
    assert found.out == "a\\x1b]0;title\\x07b\\x7f\\x9b31m\\u202ec\\u200bd\\x0anext\ntwo\n"
    assert found.err.endswith("next https://***@lists.example/a?key=***\n")
    assert found.err.replace("\n", "").isprintable()


@pytest.mark.feature("S12")
def test_json_is_printable_ascii_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({HOSTILE: [HOSTILE]})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert printed[:-1].isprintable()
    assert json.loads(printed) == {HOSTILE: [HOSTILE]}


@pytest.mark.feature("S12")
def test_a_terminal_that_knows_few_characters_gets_all_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    show("Zürich")
    assert raw.getvalue() == b"Z\\xfcrich\n"


@pytest.mark.feature("S12")
@pytest.mark.parametrize(
    "argv",
    [
        ["list", HOSTILE],
        ["block", "192.0.2.1", "--action", HOSTILE],
        [HOSTILE],
        ["unblock", HOSTILE, "--config", HOSTILE],
        ["explain", HOSTILE],
        ["replay", HOSTILE],
    ],
)
def test_wrong_usage_is_complained_of_on_lines_that_are_shown(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = cli.main(argv)
    except SystemExit as error:
        code = int(str(error.code))
    found = capsys.readouterr()
    assert code in (1, 2)
    assert found.err
    assert all(line.isprintable() for line in (found.out + found.err).split("\n"))


@pytest.mark.feature("S12")
def test_a_fault_of_this_program_is_told_the_same_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_arguments: object) -> int:
        raise RuntimeError(HOSTILE)

    monkeypatch.setitem(cli._COMMANDS, "version", fail)
    assert cli.main(["version"]) == 1
    error = capsys.readouterr().err
    assert "RuntimeError: a\\x1b]0" in error
    assert all(line.isprintable() for line in error.split("\n"))
