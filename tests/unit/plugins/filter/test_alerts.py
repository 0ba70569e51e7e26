# SPDX-License-Identifier: GPL-3.0-or-later
"""eve_alerts, fastlog_alerts and top_offenders; on recorded output they agree with the watcher's decoders."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timezone
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.reflex.ngfw.plugins.filter.alerts import eve_alerts, fastlog_alerts, top_offenders
from ansible_collections.reflex.ngfw.plugins.plugin_utils import _alerts
from hypothesis import given
from hypothesis import strategies as st
from ngfw.effects import wording
from ngfw.events import eve, fastlog
from ngfw.events.event import Event

pytestmark = pytest.mark.feature("G1")

KEYS = ["ts", "src_ip", "dest_ip", "proto", "sid", "msg", "severity", "category"]
EVE = {
    "timestamp": "2026-11-22T11:09:20.936002+0100",
    "event_type": "alert",
    "src_ip": "203.0.113.7",
    "dest_ip": "198.51.100.2",
    "proto": "TCP",
    "alert": {"signature_id": 2001219, "signature": "ET SCAN", "severity": 2, "category": "Bad", "gid": 1},
}
FAST = (
    "11/22/2026-11:09:20.936002  [Drop] [**] [1:2001219:20] ET SCAN [**] [Classification: Bad] [Priority: 2] "
    "{TCP} 203.0.113.7:4711 -> 198.51.100.2:22"
)
DECODER = "11/22/2026-11:09:20.936002  [**] [1:2200000:1] (null) [**] [Classification: (null)] [Priority: 3] [**] "
DECODER += "[Raw pkt: 00 01 ]"
ALERT = dict(
    zip(KEYS, ["2026-11-22T10:09:20.936Z", "203.0.113.7", "198.51.100.2", "TCP", 2001219, "ET SCAN", 2, "Bad"])
)


def lines(*records: Any) -> str:
    return "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the filters warn of."""
    found: list[str] = []
    monkeypatch.setattr(_alerts.Display, "warning", lambda _self, text: found.append(text))
    return found


@pytest.fixture(params=["UTC", "Europe/Berlin"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The controller is in another place."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    fastlog._minute.cache_clear()
    _alerts.fastlog._minute.cache_clear()
    yield request.param
    monkeypatch.undo()
    time.tzset()
    fastlog._minute.cache_clear()
    _alerts.fastlog._minute.cache_clear()


# --- eve_alerts ----------------------------------------------------------------------------------------------------


def test_an_eve_alert() -> None:
    assert eve_alerts(lines(EVE)) == [ALERT]
    assert list(eve_alerts(lines(EVE))[0]) == KEYS


@pytest.mark.parametrize("text", ["", "\n\n", lines({"event_type": "stats", "alert": {"signature": "no"}})])
def test_no_alerts(text: str, warnings: list[str]) -> None:
    assert eve_alerts(text) == []
    assert warnings == []


def test_only_alerts_of_all_events() -> None:
    drop = {**EVE, "event_type": "drop"}
    assert eve_alerts(lines({"event_type": "flow"}, EVE, drop) + "@cee: " + lines(EVE)) == [ALERT, ALERT]


@pytest.mark.parametrize("change", [{}, {"alert": None}, {"alert": []}, {"timestamp": "soon"}, {"timestamp": 5}])
def test_an_alert_with_little_in_it(change: dict[str, Any]) -> None:
    assert eve_alerts(lines({"event_type": "alert", **change})) == [dict.fromkeys(KEYS)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"event_type":"alert",', "property name"),
        ("nonsense", "no JSON object"),
        ("\udcff{}", "not UTF-8 at byte 0"),
        ("{}", "no event_type"),
    ],
)
def test_a_bad_line_is_named(bad: str, reason: str, warnings: list[str]) -> None:
    assert eve_alerts(lines(EVE) + "\n" + bad) == [ALERT]
    assert len(warnings) == 1
    assert warnings[0].startswith("1 of 2 lines are not lines of EVE and were left out, the first is line 3: ")
    assert reason in warnings[0]


def test_fast_log_is_not_eve() -> None:
    with pytest.raises(AnsibleFilterError, match=r"none of 2 lines is a line of EVE, line 1: .*ngfw.fastlog_alerts"):
        eve_alerts(FAST + "\n" + FAST)


# --- fastlog_alerts ------------------------------------------------------------------------------------------------


def test_a_line_of_fast_log() -> None:
    found = fastlog_alerts(FAST, zone="Europe/Berlin")
    assert found == [ALERT]
    assert list(found[0]) == KEYS


def test_its_time_is_the_controllers(local_zone: str) -> None:
    hour = {"UTC": 11, "Europe/Berlin": 10}[local_zone]
    assert fastlog_alerts(FAST)[0]["ts"] == f"2026-11-22T{hour}:09:20.936Z"


def test_an_event_of_the_decoder_has_no_address() -> None:
    (found,) = fastlog_alerts(DECODER, zone="UTC")
    nothing = {"src_ip": None, "dest_ip": None, "proto": None, "msg": "", "category": ""}
    assert found == {"ts": "2026-11-22T11:09:20.936Z", "sid": 2200000, "severity": 3, **nothing}


def test_a_torn_line_is_named(warnings: list[str]) -> None:
    assert len(fastlog_alerts(FAST + "\n" + FAST[:70])) == 1
    assert "1 of 2 lines are not lines of fast.log and were left out, the first is line 2: no" in warnings[0]


def test_eve_is_not_fast_log() -> None:
    with pytest.raises(AnsibleFilterError, match=r"none of 1 lines is a line of fast.log, line 1: .* use .*eve_alerts"):
        fastlog_alerts(lines(EVE))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", 5, "\0"])
def test_an_unknown_zone(zone: object) -> None:
    with pytest.raises(AnsibleFilterError, match="is not known; write one such as UTC"):
        fastlog_alerts(FAST, zone)


# --- both ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [eve_alerts, fastlog_alerts])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ([FAST], r"the list .* is not the text of a log; join its lines with join\('\\n'\)"),
        (None, "None is not the text of a log; give it the log's content"),
        ({"content": "x"}, "the dictionary {'content': 'x'} is not"),
        (5, "the number 5 is not"),
    ],
)
def test_what_is_no_text(function: Any, text: object, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message) as caught:
        function(text)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("function", [eve_alerts, fastlog_alerts])
@given(text=st.text())
def test_any_text_is_read_or_refused(function: Any, text: str) -> None:
    try:
        assert isinstance(function(text), list)
    except AnsibleFilterError as error:
        assert "is a line of" in str(error)  # noqa: PT017 - a text may as well be empty, and fine


def test_a_message_is_never_a_template() -> None:
    """Up to ansible-core 2.18 it is of a class of its own; later ones evaluate only texts that playbooks hold."""
    (found,) = eve_alerts(lines({**EVE, "alert": {"signature": "{{ lookup('pipe', 'id') }}"}}))
    assert found["msg"] == "{{ lookup('pipe', 'id') }}"
    assert type(found["msg"]) is type(wrap_var("text"))


def test_a_hundred_thousand() -> None:
    start = time.monotonic()
    found = eve_alerts(lines(EVE) * 100_000) + fastlog_alerts((FAST + "\n") * 100_000)
    assert len(found) == 200_000
    assert top_offenders(found)[0]["count"] == 200_000
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("moment", [0, 1.0005, 1795342160.9364, -1.5, 253402300799.9999, 1e9 + 0.9999])
def test_times_are_written_as_in_the_journal(moment: float) -> None:
    assert _alerts.iso_time(moment) == wording.iso_time(moment)


def test_a_time_beyond_the_calendar() -> None:
    assert _alerts.iso_time(1e30) is None


# --- the recorded runs ---------------------------------------------------------------------------------------------

_DATA = Path(os.environ.get("NGFW_DATA", Path(__file__).parents[5] / "shared" / "data")) / "suricata"
_RUNS = sorted(path.parent for path in _DATA.glob("*/eve.json"))
_absent = pytest.param(None, marks=pytest.mark.skip(f"no recorded Suricata output in {_DATA}"), id="absent")
_recorded = [pytest.param(run, id=run.name) for run in _RUNS] or [_absent]
recorded = pytest.mark.parametrize("run", _recorded)


def as_decoded(event: Event) -> dict[str, Any]:
    record, detail = event.record, event.record["alert"]
    return {
        "ts": wording.iso_time(event.time),
        "src_ip": record.get("src_ip"),
        "dest_ip": record.get("dest_ip"),
        "proto": record.get("proto"),
        "sid": detail["signature_id"],
        "msg": detail["signature"],
        "severity": detail.get("severity"),
        "category": detail["category"],
    }


@recorded
def test_eve_as_the_watcher_decodes_it(run: Path, warnings: list[str]) -> None:
    events = [eve.decode(line) for line in (run / "eve.json").read_bytes().splitlines()]
    expected = [as_decoded(event) for event in events if event.type == "alert"]
    assert eve_alerts((run / "eve.json").read_text(encoding="utf-8", errors="surrogateescape")) == expected
    assert warnings == []


@recorded
def test_fast_log_as_the_watcher_decodes_it(run: Path, warnings: list[str]) -> None:
    events = [fastlog.decode(line, zone=timezone.utc) for line in (run / "fast.log").read_bytes().splitlines()]
    text = (run / "fast.log").read_text(encoding="utf-8", errors="surrogateescape")
    assert fastlog_alerts(text, zone="UTC") == [as_decoded(event) for event in events]
    assert warnings == []


@recorded
def test_both_logs_tell_the_same(run: Path) -> None:
    """But fast.log is in the host's zone, and only EVE has what Suricata's xff option makes of addresses."""
    from_eve = eve_alerts((run / "eve.json").read_text(encoding="utf-8", errors="surrogateescape"))
    from_fast = fastlog_alerts((run / "fast.log").read_text(encoding="utf-8", errors="surrogateescape"), zone="UTC")
    other = {"ts"} if run.name.endswith("@tz") else {"src_ip", "dest_ip"} if "xff" in run.name else set()
    for key in (key for key in KEYS if key not in other):
        assert [alert[key] for alert in from_eve] == [alert[key] for alert in from_fast]


# --- top_offenders -------------------------------------------------------------------------------------------------


def alert(
    address: str | None, sid: int = 1, ts: str | None = "2026-01-01T00:00:00.000Z", **more: Any
) -> dict[str, Any]:
    return {**ALERT, "src_ip": address, "sid": sid, "ts": ts, **more}


def test_counting() -> None:
    alerts = [
        alert("203.0.113.7", 2, "2026-01-01T00:00:02.000Z"),
        alert("2001:0db8:0000:0000:0000:0000:0000:0001", 1),
        alert("203.0.113.7", 9, "2026-01-01T00:00:01.000Z"),
        alert("203.0.113.7", 2, None),
        alert("2001:db8::1", 1),
        alert("203.0.113.10"),
        alert("203.0.113.9"),
        alert(None),
    ]
    ts = "2026-01-01T00:00:00.000Z"
    first, second, *rest = top_offenders(alerts)
    assert first == {
        "address": "203.0.113.7",
        "count": 3,
        "sids": [2, 9],
        "first": "2026-01-01T00:00:01.000Z",
        "last": "2026-01-01T00:00:02.000Z",
    }
    assert second == {"address": "2001:db8::1", "count": 2, "sids": [1], "first": ts, "last": ts}
    assert [offender["address"] for offender in rest] == ["203.0.113.9", "203.0.113.10"]
    assert top_offenders(alerts, 1) == [first]
    assert top_offenders(alerts, n=99, by="dest_ip")[0]["count"] == 8


def test_nothing_to_count() -> None:
    assert top_offenders([]) == []
    assert top_offenders([alert(None)]) == []
    assert top_offenders([{"src_ip": "192.0.2.1"}]) == [
        {"address": "192.0.2.1", "count": 1, "sids": [], "first": None, "last": None}
    ]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3))), st.integers(1, 12))
def test_counts_are_true_and_descend(pairs: list[tuple[int, int]], n: int) -> None:
    alerts = [alert(f"192.0.2.{host}", sid) for host, sid in pairs]
    found = top_offenders(random.sample(alerts, len(alerts)), n)
    counts = Counter(alert["src_ip"] for alert in alerts)
    assert [offender["count"] for offender in found] == sorted(counts.values(), reverse=True)[:n]
    for offender in found:
        assert offender["count"] == counts[offender["address"]]
        assert offender["sids"] == sorted({a["sid"] for a in alerts if a["src_ip"] == offender["address"]})


@pytest.mark.parametrize(
    ("alerts", "options", "message", "is_type"),
    [
        ("text", {}, "'text' is not a list; make a list of alerts with reflex.ngfw.eve_alerts", True),
        (None, {}, "None is not a list", True),
        (["203.0.113.7"], {}, "'203.0.113.7' is not an alert with a src_ip", True),
        ([{"address": "203.0.113.7"}], {}, "is not an alert with a src_ip; make them with", True),
        ([], {"n": 0}, "n is the number 0; write how many are wanted, 1 or more", True),
        ([], {"n": "5"}, "n is '5'", True),
        ([], {"n": True}, "n is True", True),
        ([], {"by": "proto"}, "by is 'proto'; write src_ip or dest_ip", False),
        ([alert("nowhere")], {}, "'nowhere' is not an address", False),
        ([alert("192.0.2.0/24")], {}, "'192.0.2.0/24' is a network; a single address is wanted here", False),
    ],
)
def test_top_offenders_of_something_else(alerts: Any, options: dict[str, Any], message: str, is_type: bool) -> None:
    with pytest.raises(AnsibleFilterError, match=message) as caught:
        top_offenders(alerts, **options)
    assert isinstance(caught.value, TypeError) == is_type
