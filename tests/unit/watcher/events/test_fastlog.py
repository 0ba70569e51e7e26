# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngfw.events import eve, fastlog
from ngfw.events.event import LineError

UTC = timezone.utc
V6 = "2001:0db8:0002:0000:8e16:45ff:fee5:5ba2"
V6_TARGET = "2001:0db8:0001:0000:0000:0000:0000:0001"
START = "11/22/2026-11:09:20.936002  "


def decode(text: str) -> dict[str, Any]:
    return fastlog.decode(text.encode() + b"\n", zone=UTC).record


@pytest.fixture
def kathmandu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fastlog._minute.cache_clear()
    monkeypatch.setenv("TZ", "XXX-5:45")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
    fastlog._minute.cache_clear()


@pytest.mark.feature("A6")
def test_a_line_becomes_the_alert_of_the_same_meaning() -> None:
    event = fastlog.decode(
        b"07/13/2016-22:42:07.573103  [**] [1:2100498:7] GPL ATTACK_RESPONSE id check returned root [**] "
        b"[Classification: Potentially Bad Traffic] [Priority: 2] {TCP} 82.165.177.154:80 -> 10.16.1.11:54186\n",
        zone=UTC,
    )
    assert event.type == "alert"
    assert event.time == pytest.approx(1468449727.573103)
    assert event.record == {
        "timestamp": "2016-07-13T22:42:07.573103+0000",
        "event_type": "alert",
        "src_ip": "82.165.177.154",
        "dest_ip": "10.16.1.11",
        "src_port": 80,
        "dest_port": 54186,
        "proto": "TCP",
        "alert": {
            "action": "allowed",
            "gid": 1,
            "signature_id": 2100498,
            "rev": 7,
            "signature": "GPL ATTACK_RESPONSE id check returned root",
            "category": "Potentially Bad Traffic",
            "severity": 2,
        },
    }


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ("{TCP} 192.0.2.1:1 -> 198.51.100.2:65535", ("192.0.2.1", 1, "198.51.100.2", 65535, "TCP")),
        ("{UDP} 192.0.2.1:53 -> 198.51.100.2:53", ("192.0.2.1", 53, "198.51.100.2", 53, "UDP")),
        (f"{{TCP}} {V6}:58307 -> {V6_TARGET}:80", (V6, 58307, V6_TARGET, 80, "TCP")),
        (f"{{TCP}} {V6} -> {V6_TARGET}", (V6, 0, V6_TARGET, 0, "TCP")),
        (f"{{TCP}} [2001:db8::1]:5 -> [{V6_TARGET}]:80", ("2001:db8::1", 5, V6_TARGET, 80, "TCP")),
        ("{SCTP} 192.0.2.1:0 -> 198.51.100.2:0", ("192.0.2.1", 0, "198.51.100.2", 0, "SCTP")),
        ("{PROTO:132} 192.0.2.1:9 -> 198.51.100.2:8", ("192.0.2.1", 9, "198.51.100.2", 8, "SCTP")),
        ("{PROTO:006} 192.0.2.1:9 -> 198.51.100.2:8", ("192.0.2.1", 9, "198.51.100.2", 8, "TCP")),
        ("{17} 192.0.2.1:9 -> 198.51.100.2:8", ("192.0.2.1", 9, "198.51.100.2", 8, "UDP")),
        ("{PROTO:253} 192.0.2.1:0 -> 198.51.100.2:0", ("192.0.2.1", None, "198.51.100.2", None, "253")),
        ("{GRE} 192.0.2.1:0 -> 198.51.100.2:0", ("192.0.2.1", None, "198.51.100.2", None, "GRE")),
        (f"{{IPv6-Frag}} {V6}:0 -> {V6_TARGET}:0", (V6, None, V6_TARGET, None, "IPv6-Frag")),
        ("{IP-in-IP} 192.0.2.1 -> 198.51.100.2", ("192.0.2.1", None, "198.51.100.2", None, "IP-in-IP")),
    ],
)
@pytest.mark.feature("A6")
def test_addresses_and_ports(ends: str, expected: tuple[object, ...]) -> None:
    record = decode(START + "[**] [1:5:1] message [**] [Classification: c] [Priority: 1] " + ends)
    assert tuple(record.get(key) for key in ("src_ip", "src_port", "dest_ip", "dest_port", "proto")) == expected


@pytest.mark.parametrize("protocol", ["ICMP", "PROTO:001", "IPv6-ICMP", "58"])
@pytest.mark.feature("A6")
def test_icmp_prints_type_and_code_where_ports_stand(protocol: str) -> None:
    record = decode(
        START + f"[**] [1:5:1] m [**] [Classification: c] [Priority: 1] {{{protocol}}} {V6}:128 -> {V6_TARGET}:3"
    )
    assert (record["icmp_type"], record["icmp_code"]) == (128, 3)
    assert record["proto"] in ("ICMP", "IPv6-ICMP")
    assert "src_port" not in record
    assert "dest_port" not in record


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        ("[**] [1:5:1] m [**] [Classification: c] [Priority: 2]", ("allowed", "m", "c", 2)),
        ("[Drop] [**] [1:5:1] m [**] [Classification: c] [Priority: 2]", ("blocked", "m", "c", 2)),
        ("[wDrop] [**] [1:5:1] m [**] [Classification: c] [Priority: 2]", ("allowed", "m", "c", 2)),
        ("[**] [1:5:1] (null) [**] [Classification: (null)] [Priority: 255]", ("allowed", "", "", 255)),
        ("[**] [1:5:1]  [**] [Classification: ] [Priority: 1]", ("allowed", "", "", 1)),
        ("[**] [1:5:1] m [**] [Priority: 2]", ("allowed", "m", "", 2)),
        ("[**] [1:5:1] m [**] [Classification: c]", ("allowed", "m", "c", None)),
        ("[**] [1:5:1] m [**]", ("allowed", "m", "", None)),
        (
            (
                "[**] [1:5:1] a [**] [1:1:1] b [**] [Priority: 1] {TCP} 203.0.113.66:1 -> 198.51.100.7:2 [**] "
                "[Classification: c] [Priority: 3]"
            ),
            ("allowed", "a [**] [1:1:1] b [**] [Priority: 1] {TCP} 203.0.113.66:1 -> 198.51.100.7:2", "c", 3),
        ),
        (
            "[**] [1:5:1] [Drop] [Classification: x] [**] [Classification: c] [Priority: 3]",
            ("allowed", "[Drop] [Classification: x]", "c", 3),
        ),
        ("[**] [1:5:1] x [Priority: 9] [**] [Classification: c]", ("allowed", "x [Priority: 9]", "c", None)),
        (
            "[**] [1:5:1] tab\tand ☃ \x85 end [**] [Classification: c] [Priority: 3]",
            ("allowed", "tab\tand ☃ \x85 end", "c", 3),
        ),
    ],
)
@pytest.mark.feature("A6")
def test_action_message_class_and_priority(middle: str, expected: tuple[object, ...]) -> None:
    record = decode(START + middle + " {UDP} 192.0.2.1:1 -> 198.51.100.2:2")
    alert = record["alert"]
    assert (alert["action"], alert["signature"], alert["category"], alert.get("severity")) == expected
    assert (alert["gid"], alert["signature_id"], alert["rev"]) == (1, 5, 1)
    assert (record["src_ip"], record["dest_ip"]) == ("192.0.2.1", "198.51.100.2")


@pytest.mark.parametrize("end", ["", " [pcap file packet: 3]"])
@pytest.mark.feature("A6")
def test_a_decoder_event_has_no_address_even_if_its_message_shows_one(end: str) -> None:
    record = decode(
        START + "[wDrop] [**] [1:2200005:2] m {TCP} 203.0.113.66:1 -> 198.51.100.7:2 [**] [Classification: c] "
        "[Priority: 3] [**] [Raw pkt: FE 2D CF ]" + end
    )
    assert record["alert"]["signature_id"] == 2200005
    assert record["alert"]["signature"] == "m {TCP} 203.0.113.66:1 -> 198.51.100.7:2"
    assert not {"src_ip", "dest_ip", "src_port", "proto"} & set(record)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ("", "shape"),
        ("no log line", "shape"),
        (START + "[**] [1:5] m [**] [Priority: 1] {TCP} 192.0.2.1:1 -> 192.0.2.2:2", "shape"),
        (START + "[**] [1:5:1] m [**] [Classification: c] [Priority: 3]", "shape"),
        (START + "[**] [1:5:1] m [**] [Classification: c] [Priority: 3] {TCP} 192.0.2.1:1", "shape"),
        (START + "[**] [1:5:1] m {TCP} 192.0.2.1:1 -> 192.0.2.2:2", "shape"),
        (START + "[**] [1:5:1] m {TCP} 192.0.2.1:1 -> 192.0.2.2:2 [**] [Classification: c] [Priority: 3]", "shape"),
        (START + "[**] [1:5:1] m [**] [Priority: 3] {TCP} 192.0.2.1:1 -> 192.0.2.256:2", "address"),
        (START + "[**] [1:5:1] m [**] [Priority: 3] {TCP} 192.0.2.1:1 -> 192.0.2.2:65536", "address"),
        (START + "[**] [1:5:1] m [**] [Priority: 3] {TCP} 192.0.2.1:1 -> 192.0.2.2:-1", "address"),
        (START + "[**] [1:5:1] m [**] [Priority: 3] {TCP} 192.0.2.1:1 -> 192.0.2.2:\u0662", "address"),
        (START + "[**] [1:5:1] m [**] [Priority: 3] {TCP} 010.0.0.1:1 -> 192.0.2.2:2", "address"),
        (START + "[**] [1:5:1] m [**] [Priority: 3] {TCP} 2001:db8::1:80 -> 2001:db8::2:80", "address"),
        (START + "[**] [1:5:1] m [**] [Priority: 3] {TCP} [::1:80 -> 192.0.2.2:80", "address"),
        (START + "[**] [1:5:1] m [**] [Priority: 3] {TCP} victim:1 -> 192.0.2.2:80", "address"),
        # Two lines run together by a crash:
        (START + "[**] [1:5:1] m [**] [Priority: 3] {TCP} 192.0.2.1:1 -> 192.0.2.2:2" + START + "[**] [1:", "shape"),
    ],
)
@pytest.mark.feature("A4", "A6")
def test_what_is_no_alert_is_refused_with_its_kind(bad: str, kind: str) -> None:
    with pytest.raises(LineError) as caught:
        decode(bad)
    assert caught.value.kind == kind


def test_other_encodings_are_refused() -> None:
    with pytest.raises(LineError) as caught:
        fastlog.decode(START.encode() + b"[**] [1:5:1] \xff [**] {TCP} 192.0.2.1:1 -> 192.0.2.2:2")
    assert caught.value.kind == "encoding"


REST = "[**] [1:5:1] m [**] [Classification: c] [Priority: 3] {TCP} 192.0.2.1:1 -> 192.0.2.2:2"


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("11/22/2026-11:09:20.936002", "2026-11-22T11:09:20.936002+0545"),
        ("26/11/22-11:09:20.936002", "2026-11-22T11:09:20.936002+0545"),
        ("11/22/2026-11:09:20", "2026-11-22T11:09:20+0545"),
        ("01/01/1970-00:00:00.000000", "1970-01-01T00:00:00.000000+0545"),
    ],
)
@pytest.mark.feature("A6")
def test_time_is_local_to_the_zone(stamp: str, expected: str) -> None:
    zone = timezone(timedelta(hours=5, minutes=45))
    event = fastlog.decode(f"{stamp}  {REST}".encode(), zone=zone)
    assert event.record["timestamp"] == expected
    assert event.time == eve.parse_time(expected)


@pytest.mark.usefixtures("kathmandu")
@pytest.mark.feature("A6")
def test_without_a_zone_it_is_the_hosts() -> None:
    event = fastlog.decode(f"07/14/2016-04:27:07.388078  {REST}".encode())
    assert event.record["timestamp"] == "2016-07-14T04:27:07.388078+0545"
    assert event.time == pytest.approx(1468449727.388078)


@pytest.mark.parametrize(
    "stamp",
    ["13/45/2026-11:09:20.936002", "11/22/2026-25:09:20.936002", "11/22/2026-11:09:99.000000", "11/22-11:09:20.936002"],
)
def test_an_alert_with_an_unreadable_time_is_an_alert_all_the_same(stamp: str) -> None:
    event = fastlog.decode(f"{stamp}  {REST}".encode(), zone=UTC)
    assert event.time is None
    assert event.record["timestamp"] == stamp
    assert event.record["src_ip"] == "192.0.2.1"


MESSAGES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=80)
TRAPS = st.sampled_from(
    [
        "[**]",
        "[Drop] ",
        " [Classification: x]",
        " [Priority: 1]",
        " {TCP} 203.0.113.66:1 -> 203.0.113.67:2",
        "(null)",
        " ",
    ]
)


@given(st.lists(st.one_of(MESSAGES, TRAPS), max_size=6).map("".join))
@pytest.mark.feature("A6")
def test_no_message_changes_the_addresses(message: str) -> None:
    record = decode(
        f"{START}[**] [1:5:1] {message} [**] [Classification: c] [Priority: 3] {{TCP}} 192.0.2.1:1 -> 192.0.2.2:2"
    )
    assert (record["src_ip"], record["dest_ip"]) == ("192.0.2.1", "192.0.2.2")
    assert record["alert"]["signature"] == ("" if message == "(null)" else message)
    assert (record["alert"]["category"], record["alert"]["severity"]) == ("c", 3)


@given(st.binary(max_size=120), st.integers(0, 200))
@pytest.mark.feature("A4")
def test_no_bytes_raise_anything_else(noise: bytes, at: int) -> None:
    whole = (START + REST).encode()
    for text in (noise, whole[:at] + noise + whole[at:], whole[:at] + noise):
        with suppress(LineError):
            fastlog.decode(text, zone=UTC)


KEYS = ("src_ip", "dest_ip", "src_port", "dest_port", "icmp_type", "icmp_code", "proto")
ALERT_KEYS = ("gid", "signature_id", "rev", "signature", "category", "severity")
ZONES = {
    "alert-testmyids-frames@tz": (5, 45),
    "issue-4280-iprep@tz": (-3, -30),
    "bug-7414-decoder-event-01@tz": (-5, 0),
}


@pytest.mark.feature("A6")
def test_recorded_lines_say_the_same_as_the_eve_log_beside_them(corpus_folder: Path) -> None:
    hours, minutes = ZONES.get(corpus_folder.name, (0, 0))
    zone = timezone(timedelta(hours=hours, minutes=minutes))
    lines = (corpus_folder / "fast.log").read_bytes().splitlines(keepends=True)
    events = (json.loads(text) for text in (corpus_folder / "eve.json").read_bytes().splitlines())
    alerts = [event for event in events if event["event_type"] == "alert"]
    assert len(lines) == len(alerts)
    for text, expected in zip(lines, alerts):
        event = fastlog.decode(text, zone=zone)
        keys = [key for key in KEYS if not (key == "dest_ip" and corpus_folder.name.endswith("@xffow"))]
        assert {key: event.record.get(key) for key in keys} == {key: expected.get(key) for key in keys}
        assert {key: event.record["alert"][key] for key in ALERT_KEYS} == {
            key: expected["alert"][key] for key in ALERT_KEYS
        }
        assert event.record["timestamp"] == expected["timestamp"]
        assert event.time == eve.parse_time(expected["timestamp"])
        if text.split(b"  ", 1)[1].startswith(b"[Drop]"):
            assert event.record["alert"]["action"] == expected["alert"]["action"] == "blocked"
