# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ngfw.rules import fields
from ngfw.rules.fields import FieldError

ROOT = Path(__file__).resolve().parents[4]
DATA = Path(os.environ.get("NGFW_DATA", ROOT.parent / "shared" / "data")) / "suricata"


def paths_of(value: Any, path: fields.Path = ()) -> Iterator[fields.Path]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_of(inner, (*path, index))


@pytest.mark.skipif(not DATA.is_dir(), reason="the recorded output of Suricata is not here (NGFW_DATA names its place)")
@pytest.mark.feature("F1")
def test_every_field_of_real_records_is_known_with_its_type() -> None:
    letters = {str: "s", int: "i", float: "n", bool: "b", dict: "o", list: "a"}
    records = 0
    for file in sorted(DATA.glob("*/eve.json")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            records += 1
            assert record["event_type"] in fields.EVENT_TYPES
            for path in paths_of(record):
                types = fields.types_of(path, record["event_type"])
                value: Any = record
                for step in path:
                    value = value[step]
                letter = letters[type(value)]
                assert types == "?" or letter in types or (letter == "i" and "n" in types), (path, types, value)
    assert records > 3000


@pytest.mark.parametrize(
    ("name", "event_type", "types"),
    [
        ("dest_port", "flow", "i"),
        ("alert.severity", "alert", "i"),
        ("alert.metadata.anything", "alert", "?"),
        ("stats.any.thing", "stats", "?"),
        ("offender", "ssh", "s"),
        ("http.url", "alert", "s"),
        ("http.url", "fileinfo", "s"),
        ("flow.state", "flow", "s"),
        ("tls.sni", "tls", "s"),
        ("dns.rrname", "dns", "s"),
        ("vlan", "ssh", "a"),
    ],
)
def test_fields_have_types(name: str, event_type: str, types: str) -> None:
    assert fields.types_of(fields.parse_field(name), event_type) == types


@pytest.mark.feature("F1")
@pytest.mark.parametrize(
    ("name", "event_type", "words"),
    [
        ("http.uri", "http", "unknown field 'http.uri'; did you mean 'http.url'?"),
        ("severity", "alert", "did you mean 'alert.severity'?"),
        ("alert.sid", "alert", "unknown field 'alert.sid'"),
        ("destport", "flow", "did you mean 'dest_port'?"),
        ("http.url", "ssh", "not a field of ssh records; it occurs in alert"),
        ("flow.state", "ssh", "it occurs in alert, flow"),
        ("alert.severity", "http", "it occurs in alert, drop"),
        ("dns.answers.rrname", "dns", "write dns.answers[0].rrname"),
        ("zzzzzz", "dns", "see Suricata's documentation"),
        ("dest_port.x", "dns", "unknown field 'dest_port.x'"),
        ("alert.__class__", "alert", "unknown field"),
    ],
)
def test_unknown_fields_are_refused_with_a_suggestion(name: str, event_type: str, words: str) -> None:
    with pytest.raises(FieldError) as caught:
        fields.types_of(fields.parse_field(name), event_type)
    assert words in str(caught.value)


def test_an_index_wants_a_list() -> None:
    assert fields.types_of(("vlan", 0), "ssh") == "n"
    with pytest.raises(FieldError, match=r"'dest_port' is not a list; leave out \[0\]"):
        fields.types_of(("dest_port", 0), "ssh")


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b"])
def test_a_name_with_an_empty_part_is_refused(name: str) -> None:
    with pytest.raises(FieldError, match="is not the name of a field"):
        fields.parse_field(name)


def test_paths_are_written_as_rules_have_them() -> None:
    assert fields.dotted(("dns", "answers", -1, "rdata")) == "dns.answers[-1].rdata"
    assert fields.dotted(("alert", "metadata", "a-b", "1x")) == 'alert.metadata["a-b"]["1x"]'


def test_every_object_is_carried_by_some_event_type() -> None:
    for name, letters in fields.table().items():
        if "." not in name and "[" not in name and letters in ("o", "*"):
            assert any(fields.occurs_in(name, event_type) for event_type in fields.EVENT_TYPES), name
