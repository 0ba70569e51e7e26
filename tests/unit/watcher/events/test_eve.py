# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import calendar
import gc
import json
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.events import eve
from ngfw.events.event import Event, LineError, each

ALERT = (
    b'{"timestamp":"2016-07-13T22:42:07.388078+0000","flow_id":2019292027467198,"pcap_cnt":7,"event_type":"alert",'
    b'"src_ip":"10.16.1.11","src_port":54186,"dest_ip":"82.165.177.154","dest_port":80,"proto":"TCP","alert":'
    b'{"action":"allowed","gid":1,"signature_id":1,"rev":0,"signature":"\\"event_type\\":\\"flow\\", {x}","category":""'
    b',"severity":3},"http":{"url":"/\\u0000\xc3\xbc"},"direction":"to_server","verdict":{"action":"alert"}}\n'
)


def line(**fields: object) -> bytes:
    return json.dumps({"event_type": "alert", **fields}).encode() + b"\n"


@pytest.mark.feature("A10")
def test_an_alert_is_read_whole() -> None:
    event = eve.decode(ALERT)
    assert event.type == "alert"
    assert event.time == 1468449727.388078
    assert event.record["alert"]["signature"] == '"event_type":"flow", {x}'
    assert event.record["verdict"] == {"action": "alert"}
    assert "alert" in repr(event)


@pytest.mark.parametrize("prefix", [b"@cee: ", b"@cee:", b"<134>Nov 22 11:09:20 sensor suricata[7]: ", b" ", b""])
@pytest.mark.feature("A10")
def test_a_prefix_of_the_line_is_skipped(prefix: bytes) -> None:
    assert eve.decode(prefix + ALERT).record == eve.decode(ALERT).record


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" \n"])
def test_any_end_of_line_will_do(end: bytes) -> None:
    assert eve.decode(ALERT.rstrip() + end).type == "alert"


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (b"", "json"),
        (b"\n", "json"),
        (b"null\n", "json"),
        (b'["event_type"]\n', "json"),
        (b'"event_type":"alert"}\n', "json"),
        (ALERT[:200] + b"\n", "json"),
        (ALERT[100:], "json"),  # the end of a line whose start is lost holds whole objects
        (ALERT.rstrip() + ALERT, "json"),
        (b'{"event_type":"alert","a":NaN}\n', "json"),
        (b'{"event_type":"alert","a":-Infinity}\n', "json"),
        (b'{"event_type":"alert","a":1e999}\n', "json"),
        (b'{"event_type":"alert","a":"\x00"}\n', "json"),
        (b'{"a":' * 200_000 + b"\n", "json"),
        (b'{"event_type":"alert","a":"\xff"}\n', "encoding"),
        (b'{"event_type":"alert","a":"\\ud800"}\n', "encoding"),
        (b'{"event_type":"alert","\\uDFFF":1}\n', "encoding"),
        (b"{}\n", "shape"),
        (b'{"event_type":1}\n', "shape"),
        (b'{"event_type":""}\n', "shape"),
        (b'{"event_type":{"event_type":"alert"}}\n', "shape"),
    ],
)
@pytest.mark.feature("A4")
def test_what_is_no_event_is_refused_with_its_kind(bad: bytes, kind: str) -> None:
    with pytest.raises(LineError) as caught:
        eve.decode(bad)
    assert caught.value.kind == kind
    assert caught.value.text


def test_a_number_of_any_length_raises_nothing_else() -> None:
    try:
        assert eve.decode(b'{"event_type":"alert","a":' + b"9" * 10_000 + b"}").type == "alert"
    except LineError as error:  # Pythons that limit the conversion of integers
        assert error.kind == "json"  # noqa: PT017


def test_escaped_characters_and_pairs_of_surrogates_are_kept() -> None:
    event = eve.decode(b'{"event_type":"http","a":"\\u0000 \\ud83d\\ude00"}')
    assert event.record["a"] == "\0 \U0001f600"


@pytest.mark.feature("A10")
def test_of_duplicate_keys_the_last_counts() -> None:
    event = eve.decode(b'{"event_type":"alert","src_ip":"192.0.2.1","event_type":"http","src_ip":"192.0.2.2"}')
    assert (event.type, event.record["src_ip"]) == ("http", "192.0.2.2")


@pytest.mark.parametrize("stamp", [None, 5, "", "yesterday", ["2016-07-13T22:42:07.388078+0000"]])
def test_an_event_without_a_readable_time_has_none(stamp: object) -> None:
    assert eve.decode(line(timestamp=stamp)).time is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T11:09:20.936002+0000", 1795345760.936002),
        ("2026-11-22T11:09:20.936002-0000", 1795345760.936002),
        ("2026-11-22T11:09:20.936002", 1795345760.936002),
        ("2026-11-22T11:09:20.936002Z", 1795345760.936002),
        ("2016-07-14T04:27:07.388078+0545", 1468449727.388078),
        ("2016-07-14T04:27:07.388078+05:45", 1468449727.388078),
        ("2021-02-04T19:06:13.926665-0330", 1612478173.926665),
        ("2026-11-22T11:09:20+0000", 1795345760.0),
        ("2026-11-22T11:09:20", 1795345760.0),
        ("2026-11-22T11:09:20.9", 1795345760.9),
        ("2026-11-22T11:09:20.936002123+0000", 1795345760.936002123),
        ("2026-11-22 11:09:20.936002", 1795345760.936002),
        ("1970-01-01T00:00:00.000000+0000", 0.0),
        ("1969-12-31T23:59:59.500000+0000", -0.5),
        ("2016-12-31T23:59:60.000000+0000", 1483228800.0),
        ("2026-02-29T00:00:00.000000+0000", None),
        ("2026-13-01T00:00:00.000000+0000", None),
        ("0000-01-01T00:00:00.000000+0000", None),
        ("2026-11-22T24:00:00.000000+0000", None),
        ("2026-11-22T11:60:00.000000+0000", None),
        ("2026-11-22T11:09:61.000000+0000", None),
        ("2026-11-22T11:09:+infinity", None),
        ("2026-11-22T11:09: 20.93600", None),
        ("2026-11-22T11:09:2_0.93600", None),
        ("2026-11-22T11:09:20.936002 +0000", None),
        ("2026-11-22T11:09:20.936002+00", None),
        ("2026-11-22T11:09:20.936002+0060", None),
        ("2026-11-22T11:09:20.936002+0000\n", None),
        ("\uff12026-11-22T11:09:20.936002+0000", None),
        ("2026-11-22T11:09:20.93600\u0662+0000", None),
        ("11/22/2026-11:09:20.936002", None),
        ("", None),
    ],
)
@pytest.mark.feature("A10")
def test_times(text: str, expected: float | None) -> None:
    assert eve.parse_time(text) == (None if expected is None else pytest.approx(expected, abs=1e-6))


@given(st.datetimes(timezones=st.just(timezone.utc)))
def test_every_time_comes_back(moment: datetime) -> None:
    text = moment.strftime("%Y").zfill(4) + moment.strftime("-%m-%dT%H:%M:%S.%f%z")
    expected = calendar.timegm(moment.timetuple()) + moment.microsecond / 1e6
    assert eve.parse_time(text) == pytest.approx(expected, abs=1e-4)


def told(found: Event | LineError) -> tuple[object, ...]:
    if isinstance(found, Event):
        return found.type, found.time, found.record
    return found.kind, found.text


def decoded(lines: list[bytes]) -> list[tuple[object, ...]]:
    return [told(found) for found in each(eve.decode, lines)]


@pytest.mark.feature("A4")
@pytest.mark.parametrize("bad", [b'{"event_type":"alert"', b"no object", b'{"a":"\xff"}', b"[" * 100_000, b'{"a":1}'])
def test_a_bad_line_is_not_kept_in_memory(bad: bytes) -> None:
    """An error that holds its traceback is a cycle, with the line in it, until somebody looks for cycles."""
    gc.collect()
    gc.disable()
    try:
        assert all(isinstance(found, LineError) for found in eve.decode_all([bad] * 3))
        assert gc.collect() == 0
    finally:
        gc.enable()


# What lines can do to their neighbours when all of them are parsed as one array.
@pytest.mark.parametrize(
    "lines",
    [
        [],
        [ALERT],
        [ALERT, ALERT.rstrip(), b" " + ALERT, ALERT.rstrip() + b"\r\n"],
        [b'{"event_type":"flow","a":[1', b"2]}"],
        [b'{"event_type":"flow","a":[1', b'2]},{"event_type":"dns"},{"event_type":"tls"}'],
        [b'{"event_type":"flow"},{"event_type":"dns"},{"event_type":"tls"}', b'{"event_type":"ssh","a":[', b"]}"],
        [b'{"event_type":"flow"},7,{"event_type":"dns"}', b'{"event_type":"tls"}'],
        [b'{"event_type":"flow","a":"', b'"}', ALERT],
        [ALERT, b"", ALERT],
        [ALERT, b"7", b"null", b"[]", ALERT],
        [ALERT, b'{"event_type":"alert","a":"\\ud800"}', b'{"event_type":"alert","a":"\\ud83d\\ude00"}'],
        [ALERT, b'{"event_type":"alert","a":"\xff"}', ALERT],
        [ALERT, b"@cee: " + ALERT],
        [ALERT, b'{"a":' * 200_000],
        [ALERT, b"]", b"["],
    ],
)
@pytest.mark.feature("A4")
def test_lines_that_are_parsed_together_are_what_each_is_alone(lines: list[bytes]) -> None:
    assert [told(found) for found in eve.decode_all(lines)] == decoded(lines)


@given(st.lists(st.integers(0, len(ALERT)), max_size=8), st.integers(0, 3))
def test_lines_cut_anywhere_are_parsed_together_as_alone(cuts: list[int], whole: int) -> None:
    places = sorted({0, *cuts, len(ALERT)})
    pieces = [ALERT[start:end] for start, end in zip(places, places[1:])]
    lines = [ALERT] * whole + pieces + [ALERT] * whole
    assert [told(found) for found in eve.decode_all(lines)] == decoded(lines)


@given(st.text(max_size=40))
def test_no_text_makes_parse_time_raise(text: str) -> None:
    assert eve.parse_time(text) is None or len(text) >= 19


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ALERT, b"alert"),
        (b'{"event_type":"stats","stats":{"detect":{"alert":5}}}', b"stats"),
        (b'@cee: {"timestamp":"x","event_type":"flow"}', b"flow"),
        (b'{"timestamp":"x","vlan":[23],"event_type":"dns"}', b"dns"),
        (b'{"event_type":"drop","alert":{"signature":"\\"event_type\\":\\"alert\\""}}', b"drop"),
        # In doubt the whole line has to be parsed:
        (b'{"alert":{"event_type":"alert"},"event_type":"flow"}', None),
        (b'{"event_type":"flow","event_type":"alert"}', None),
        (b'{"event_type":"flow","event_type": "alert"}', None),
        (b'{"event_type":"flow","mqtt":{"event_type":"alert"}}', None),
        (b'{"in_iface":"{","event_type":"flow"}', None),
        (b'{"a\\"event_type":"flow","event_type":"alert"}', None),
        (b'{"event_type" : "flow"}', None),
        (b'{ "event_type":"flow"}', None),
        (b'{"event_type":"fl\\u006fw"}', None),
        (b'{"event_type":"fl\\"ow"}', None),
        (b'{"event_type":""}', None),
        (b'{"event_type":"flow', None),
        (b'"event_type":"flow"}', None),
        (b"", None),
    ],
)
@pytest.mark.feature("A10")
def test_the_type_is_told_without_parsing_or_not_at_all(text: bytes, expected: bytes | None) -> None:
    assert eve.event_type_of(text) == expected


MUTATIONS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "splice", "drop"]), st.integers(0, 1000), st.integers(0, 1000)),
    max_size=6,
)


def mutate(text: bytes, mutations: list[tuple[str, int, int]]) -> bytes:
    for kind, first, second in mutations:
        if not text:
            return text
        at, to = sorted((first % len(text), second % len(text)))
        if kind == "flip":
            text = text[:at] + bytes([text[at] ^ (1 << second % 8)]) + text[at + 1 :]
        elif kind == "cut":
            text = text[:at]
        elif kind == "splice":
            text = text[:to] + text[at:]
        else:
            text = text[:at] + text[to:]
    return text


@given(MUTATIONS)
@pytest.mark.feature("A4", "A10")
def test_a_damaged_line_is_refused_or_read_and_the_short_look_agrees(mutations: list[tuple[str, int, int]]) -> None:
    text = mutate(ALERT, mutations)
    short = eve.event_type_of(text)
    try:
        event = eve.decode(text)
    except LineError:
        return
    json.dumps(event.record, ensure_ascii=False).encode()
    assert short is None or short.decode() == event.type


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(text: bytes) -> None:
    eve.event_type_of(text)
    with suppress(LineError):
        eve.decode(b'{"event_type":"x",' + text)


@pytest.mark.feature("A10")
def test_all_recorded_lines_are_read(corpus_folder: Path) -> None:
    for text in (corpus_folder / "eve.json").read_bytes().splitlines(keepends=True):
        event = eve.decode(text)
        record = json.loads(text)
        if "queries" in record.get("dns", ()) or "query" in record.get("dns", ()):
            for key in ("rrname", "rrtype"):  # see the test of the name asked for
                record["dns"][key] = event.record["dns"][key]
        assert event.record == record
        kind = eve.event_type_of(text)
        assert kind is not None
        assert kind.decode() == event.type == event.record["event_type"]
        stamp = event.record["timestamp"]
        moment = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%f%z")
        assert event.time == pytest.approx(moment.timestamp(), abs=1e-6)


def test_reading_is_fast_enough() -> None:
    """Generous bounds, for a slow and busy machine: they catch a change of the order of magnitude."""
    stamps = [f"2026-11-22T11:09:20.{number:06d}+0000" for number in range(20_000)]
    start = time.process_time()
    for stamp in stamps:
        eve.parse_time(stamp)
    for _ in range(20_000):
        eve.event_type_of(ALERT)
    assert (time.process_time() - start) / 20_000 < 15e-6


@pytest.mark.feature("S8")
@pytest.mark.parametrize(
    ("dns", "name"),
    [
        ('{"version":3,"type":"request","queries":[{"rrname":"a.example","rrtype":"A"}]}', "a.example"),
        ('{"query":[{"type":"query","rrname":"a.example","rrtype":"A"}]}', "a.example"),
        ('{"type":"query","rrname":"a.example","rrtype":"A"}', "a.example"),
        ('{"rrname":"b.example","queries":[{"rrname":"a.example"}]}', "b.example"),
        ('{"version":3,"type":"request","queries":[]}', None),
        ('{"version":3,"type":"request","queries":[7]}', None),
        ('{"queries":{"0":{"rrname":"a.example"}}}', None),
        ('{"query":"a.example"}', None),
        ("7", None),
    ],
)
def test_the_name_asked_for_has_one_place_whatever_the_version(dns: str, name: str | None) -> None:
    line = f'{{"event_type":"dns","dns":{dns}}}'.encode()
    for event in (eve.decode(line), *eve.decode_all([line, line])):
        assert isinstance(event, Event)
        found = event.record["dns"]
        assert (found.get("rrname") if isinstance(found, dict) else None) == name
