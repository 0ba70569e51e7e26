# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ngfw.settings import yamlfile
from ngfw.settings.yamlfile import ConfigError, ListNode, MapNode, Problem, ScalarNode


def problems(data: bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        yamlfile.parse(data, "x.yml")
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture(params=["C parser", "Python parser"], autouse=True)
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Python parser":
        monkeypatch.setattr(yamlfile, "_LOADER", yaml.SafeLoader)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("0", 0),
        ("0.5", 0.5),
        ("1e3", "1e3"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"),
        ('"1"', "1"),
        ("'true'", "true"),
        ("1" * 19, "1" * 19),
        (".inf", ".inf"),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2_has_them(written: str, value: object) -> None:
    root = yamlfile.parse(f"a: {written}\n".encode(), "x.yml")
    assert isinstance(root, MapNode)
    node = root.entries["a"][1]
    assert isinstance(node, ScalarNode)
    assert node.value == value
    assert type(node.value) is type(value)


def test_every_node_keeps_its_line() -> None:
    root = yamlfile.parse(b"# comment\na:\n  - x\n\n  - y\nb: |\n  one\n  two\n", "x.yml")
    assert isinstance(root, MapNode)
    assert root.entries["a"][0] == 2
    items = root.entries["a"][1]
    assert isinstance(items, ListNode)
    assert [item.line for item in items.items] == [3, 5]
    block = root.entries["b"][1]
    assert isinstance(block, ScalarNode)
    assert (block.line, block.first_line, block.folded) == (6, 7, False)


@pytest.mark.parametrize("data", [b"", b"\n", b"# only a comment\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_document_is_none(data: bytes) -> None:
    assert yamlfile.parse(data, "x.yml") is None


@pytest.mark.feature("F1")
@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"a: 1\nb: [1, 2\n", 3, "not valid YAML"),
        (b"a: 1\n\tb: 2\n", 2, "tab"),
        (b"a: 1\nb: 'open\n", 3, "not valid YAML"),
        (b"a: 1\n b: 2\n", 2, "not valid YAML"),
        (b"a: 1\nb: \xff\n", 2, "not valid UTF-8"),
        (b"a: 1\nb: \x00\n", 2, "control character U+0000"),
        ("a: 1\nb: \ud800\n".encode("utf-8", "surrogatepass"), 2, "not valid UTF-8"),
        (b"a: 1\nb: \x1b[31m\n", 2, "control character U+001B"),
        (b"a: 1\na: 2\n", 2, "first in line 1"),
        (b"a:\n  b: 1\n  b: 2\n", 3, "first in line 2"),
        (b"a: &x 1\nb: 2\n", 1, "anchor"),
        (b"a: 1\nb: *x\n", 2, "alias"),
        (b"a: !!python/object/apply:os.system [id]\n", 1, "tag"),
        (b"a: !!int '1'\n", 1, "tag"),
        (b"a: 1\n---\nb: 2\n", 2, "second document"),
        (b"? [a, b]\n: 1\n", 1, "a key must be a plain word"),
        (b"? {a: b}\n: 1\n", 1, "a key must be a plain word"),
        (b": 1\n", 1, "not valid YAML"),
        (b"'': 1\n", 1, "a key must be a plain word"),
        (b"a: " + b"[" * 40 + b"]" * 40, 1, "nested deeper"),
        (b"a: {" * 40 + b"}" * 40, 1, "nested deeper"),
        (b"%YAML 9.9\n---\na: 1\n", 1, "not valid YAML"),
    ],
)
def test_bad_documents_are_refused_with_line_and_remedy(data: bytes, line: int, words: str) -> None:
    found = problems(data)
    assert any(problem.startswith(f"x.yml:{line}: ") and words in problem for problem in found), found
    assert all(";" in problem for problem in found)


def test_all_problems_of_a_document_are_reported() -> None:
    assert len(problems(b"a: &x 1\nb: !t 2\nb: 3\n")) == 3


def test_a_billion_laughs_cost_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert any("alias" in problem for problem in problems("\n".join(lines).encode()))


def test_a_file_beyond_the_limit_is_refused() -> None:
    assert "larger than 1 MiB" in problems(b"a" * (yamlfile.MAX_FILE_BYTES + 1))[0]


def test_nesting_far_beyond_the_limit_is_refused_without_a_crash() -> None:
    assert problems(b"[" * 100_000)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    found = ["x.yml:"]
    try:
        yamlfile.parse(data, "x.yml")
    except ConfigError as error:
        found = [str(problem) for problem in error.problems]
    assert found
    assert all(problem.startswith("x.yml:") for problem in found)


@given(st.text(alphabet="ab:-[]{}&*!|>'\"%@#,? \n\t0", max_size=60))
def test_arbitrary_yaml_like_text_is_read_or_refused(text: str) -> None:
    with suppress(ConfigError):
        yamlfile.parse(text.encode(), "x.yml")


def test_files_that_cannot_be_read_are_refused_with_the_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("missing", "no such file; create it"), ("pipe", "not a regular file"), (".", "regular file")):
        with pytest.raises(ConfigError, match=f":1: .*{words}"):
            yamlfile.read(tmp_path / name)


def test_a_problem_says_where() -> None:
    assert str(Problem("f", 3, "m")) == "f:3: m"
