# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import listformat
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import from_key
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.listformat import (
    OBJECTS,
    P2P,
    PLAIN,
    TABLE,
    TOR,
    ListFormatError,
    read_lines,
    with_form,
)
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netset import Limits, parse_netset, read_netset
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.feature("S11")

CASES = Path(__file__).resolve().parents[4].parent / "shared" / "cases"

DROP = """\
; Spamhaus DROP List 2026/05/20
; Expires: Wed, 20 May 2026 10:14:02 GMT
192.0.2.0/25 ; SBL100001
198.51.100.0/24 ; SBL100002
"""
OBJECTS_TEXT = """\
{"cidr":"192.0.2.0/25","sblid":"SBL100001","rir":"arin"}
{"ip":"198.51.100.7"}
{"type":"metadata","timestamp":1779184000,"size":300,"records":2}
"""
DSHIELD = """\
# primary URL: https://feeds.example.org/block.txt
Start\tEnd\tNetmask\tAttacks\tName\tCountry\temail
198.51.100.0\t198.51.100.255\t24\t3154\tEXAMPLE-NET\tZZ\tabuse@example.org
203.0.113.0\t203.0.113.127\t25\t2054\tEXAMPLE-2\tZZ\tabuse@example.com
"""
TOR_TEXT = """\
ExitNode 0011BD2485AD45D984EC4159C88FC066E5E3300E
Published 2026-05-20 05:50:57
LastStatus 2026-05-20 07:00:00
ExitAddress 198.51.100.30 2026-05-20 07:05:44
ExitNode 0111BD2485AD45D984EC4159C88FC066E5E3300E
ExitAddress 203.0.113.9 2026-05-20 07:05:44
"""
P2P_TEXT = "P2P: a blocklist:198.51.100.0-198.51.100.255\nBad guys, Inc.:203.0.113.5-203.0.113.5\n"


def read(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    netset = read_netset([data[at : at + 7] for at in range(0, len(data), 7)], Limits())
    assert netset.refused == []
    return [str(from_key(key)) for members in netset.members.values() for key in sorted(members)]


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        (DROP, ["192.0.2.0/25", "198.51.100.0/24"]),
        (OBJECTS_TEXT, ["192.0.2.0/25", "198.51.100.7"]),
        (DSHIELD, ["198.51.100.0/24", "203.0.113.0/25"]),
        (DSHIELD.partition("email\n")[2], ["198.51.100.0/24", "203.0.113.0/25"]),
        (TOR_TEXT, ["198.51.100.30", "203.0.113.9"]),
        (P2P_TEXT, ["198.51.100.0/24", "203.0.113.5"]),
        ("198.51.100.4\n2001:db8::5\n\n203.0.113.0/25\n", ["198.51.100.4", "203.0.113.0/25", "2001:db8::5"]),
        ("# ip-score\n198.51.100.7\t9\n203.0.113.9\t3\n", ["198.51.100.7", "203.0.113.9"]),
        ("198.51.100.9#4#2#Malicious Host#ZZ##0.0,0.0#3\n", ["198.51.100.9"]),
        ("198.51.100.9,2026-05-20,bad\n203.0.113.9|x\n", ["198.51.100.9", "203.0.113.9"]),
        ("// comment\n198.51.100.7\n", ["198.51.100.7"]),
        ("198.51.100.0/255.255.255.128\n203.0.113.7/255.255.255.255 ; x\n", ["198.51.100.0/25", "203.0.113.7"]),
        ("192.0.2.0 - 192.0.2.255 # a range\n203.0.113.8-203.0.113.9,x\n", ["192.0.2.0/24", "203.0.113.8/31"]),
        ("203.0.113.7 - - [20/May/2026] GET /\n", ["203.0.113.7"]),
        ("a heading\n203.0.113.7\n", None),
        ("# nothing\n", []),
        ("", []),
    ],
)
def test_forms_that_people_use(text: str, networks: list[str] | None) -> None:
    if networks is None:  # one line that is no address makes no other form of it
        netset = parse_netset(text.split("\n"), Limits())
        assert (netset.accepted, netset.unreadable) == (1, 1)
        return
    for packing in (str.encode, lambda t: gzip.compress(t.encode()), lambda t: b"\xef\xbb\xbf" + t.encode()):
        assert read(packing(text)) == networks
    assert read(text.replace("\n", "\r\n")) == networks
    members = parse_netset(text.split("\n"), Limits()).members.values()
    assert [str(from_key(key)) for keys in members for key in sorted(keys)] == networks


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("\n<html><title>Just a moment</title>", "line 2, '<html>", "a page of HTML"),
        ("<!DOCTYPE html>\n192.0.2.7\n", "line 1, '<!DOCTYPE html>'", "a page of HTML"),
        ("# x\n<?xml version='1.0'?>", "line 2", "XML"),
        ('["192.0.2.7", "192.0.2.8"]', "line 1", "a JSON array"),
        ('[\n{"ip": "192.0.2.7"}\n]', "line 1", "a JSON array"),
        ('{\n"ip": "192.0.2.7"\n}', "line 1", "a JSON document over several lines"),
        ('{"asn": 64496}\n', "line 1", "JSON objects without cidr or ip"),
        ('# c\n"2026-05-20","198.51.100.9","443"\n', "line 2", "CSV with quotes"),
        ("198.051.100.009\n061.219.011.153\n", "line 1: '198.051.100.009'", "leading zeros"),
        ("192.0.2.7 192.0.2.8\n", "line 1", "several addresses in a line"),
        ("192.0.2.0, 192.0.2.255, ZZ\n", "line 1", "several addresses in a line"),
        ("198.51.100.0 255.255.255.0\n", "line 1", "several addresses in a line"),
        ("192.0.2.7\r192.0.2.8\r", "line 1", "no address"),
        ("example.org\nexample.com\n", "line 1, 'example.org'", "no address"),
        ("203.0.113.9-203.0.113.1\n", "line 1: '203.0.113.9-203.0.113.1'", "is no range"),
        ("1" * 5000, "line 1", "is not an address"),
    ],
)
def test_any_other_form_is_refused_as_a_whole(text: str, where: str, what: str) -> None:
    with pytest.raises(ListFormatError) as caught:
        read(text)
    message = str(caught.value)
    assert where in message
    assert what in message
    assert "what is read: an address, CIDR network or range" in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\x03\x04whatever", "a zip archive"),
        (b"BZh91AY&SY", "bzip2"),
        ("192.0.2.7\n".encode("utf-16"), "UTF-16"),
        (b"\x7fELF\x02\x01\x01\0\0", "no address"),
        (b"1\x009\x002\x00.\x000\x00", "binary data, or UTF-16"),
        (gzip.compress(b"192.0.2.7\n" * 50, mtime=0)[:-12], "cut off"),
        (gzip.compress(b"192.0.2.7\n", mtime=0)[:-6] + b"xxxxxx", "damaged"),
        (gzip.compress(b"PK\x03\x04whatever", mtime=0), "a zip archive"),
    ],
)
def test_what_is_no_text_is_named(data: bytes, what: str) -> None:
    with pytest.raises(ListFormatError, match=what):
        read(data)


def test_gzip_in_several_parts_and_with_padding() -> None:
    data = gzip.compress(b"192.0.2.7\n192.0.") + gzip.compress(b"2.9\n") + bytes(40)
    assert read(data) == ["192.0.2.7", "192.0.2.9"]


@pytest.mark.feature("S4")
def test_what_is_packed_to_nothing_is_read_no_further_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listformat, "MAX_BYTES", 1 << 20)
    sizes = []

    def blocks():  # type: ignore[no-untyped-def]
        data = gzip.compress(bytes(200 << 20).replace(b"\0", b"#"), 9)
        for at in range(0, len(data), 1024):
            sizes.append(at)
            yield data[at : at + 1024]

    with pytest.raises(ListFormatError, match="huge: more than 1048576 bytes"):
        list(read_lines(blocks()))
    assert len(sizes) <= 4  # a thousandth of a mebibyte for each byte, so a few pieces are the limit


@pytest.mark.feature("S4")
@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_LINES"])
def test_a_list_without_end_is_left(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(listformat, limit, 3000)
    with pytest.raises(ListFormatError, match="huge: more than 3000"):
        list(read_lines(b"# c\n" for _endless in iter(int, 1)))


def test_comments_before_the_list_may_be_many() -> None:
    assert read("# a comment\n" * 5000 + DROP) == ["192.0.2.0/25", "198.51.100.0/24"]


@pytest.mark.parametrize(
    ("text", "form"), [(DROP, PLAIN), (OBJECTS_TEXT, OBJECTS), (DSHIELD, TABLE), (TOR_TEXT, TOR), (P2P_TEXT, P2P)]
)
@pytest.mark.parametrize("line", ["nonsense", "{", "1.2.3.4 bad", "x:y", "192.0.2.0\t192.0.2.255\t99"])
def test_a_line_of_another_form_is_refused_by_itself(text: str, form: listformat.Form, line: str) -> None:
    lines = [*text.split("\n"), line]
    assert {found.name for found, _lines in with_form([lines])} == {form.name}
    netset = parse_netset(lines, Limits())
    taken = form is PLAIN and line.startswith(("1.2", "192"))
    assert (netset.accepted, netset.unreadable) == ((3, 0) if taken else (2, 1))


@given(st.lists(st.binary(max_size=200), max_size=5), st.sampled_from([b"", b"\x1f\x8b\x08", b"{", b"a:1.1.1.1-"]))
def test_any_bytes_are_read_or_refused(blocks: list[bytes], start: bytes) -> None:
    try:
        read_netset([start, *blocks], Limits())
    except ListFormatError as error:
        assert str(error).isprintable()  # noqa: PT017 - some are read


@pytest.mark.skipif(not CASES.is_dir(), reason="the collected cases are not on this machine")
@pytest.mark.parametrize("name", ["1-spamhaus-drop", "2-other-feeds"])
def test_the_collected_cases(name: str) -> None:
    refused = {"abusech.csv": "CSV with quotes", "html.txt": "HTML", "zero-padded.txt": "leading zeros"}
    for path in sorted((CASES / name).iterdir()):
        if path.name in refused:
            with pytest.raises(ListFormatError, match=refused[path.name]):
                read(path.read_bytes())
        else:
            assert read(path.read_bytes()), path
