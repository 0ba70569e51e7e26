# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes tests/data/proof anew: what real Suricata, with the role's own configuration and signatures, writes of packets
that somebody forged, and of real conversations.

    python3 tests/data/proof.py                  # as root, on Debian; a minute for the first run
    python3 tests/data/proof.py --random 20000   # beside that, so many random conversations that nobody answers

Each scene has an address of its own. In a forged one all packets from 203.0.113.0/24 were written by somebody who does
not get the answers: their acknowledgements are wrong, missing, or (where the name says so) a guess nearby.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).resolve().parent / "proof"
ROOTS = ROOT / ".cache" / "suricata"
RELEASES = {"7": "bookworm", "8": "trixie"}
SERVER, CLIENT_PORT, START = "10.0.0.5", 40000, 1_790_000_000
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
# What a rule might fire on: any packet of the client's, and what the server says.
SIGNATURES = """
alert tcp any any -> $HOME_NET any (msg:"PROOF packet"; flow:stateless; ttl:64; sid:1000001; rev:1;)
alert tcp $HOME_NET any -> any any (msg:"PROOF answer"; flow:stateless; ttl:64; dsize:>0; sid:1000002; rev:1;)
"""
WRONG = 0x12345678
GET = b"GET /?a=1 HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BYTES = bytes(range(1, 255))
MSS = b"\x02\x04\x05\xb4"
COOKIE, COOKIE_WANTED = MSS + b"\x22\x0a12345678", MSS + b"\x22\x02"  # RFC 7413
STAMP = b"\x01\x01\x08\x0a\0\0\0\1\0\0\0\0"


def checksum(data: bytes) -> int:
    words = (
        struct.unpack(f"!{len(data) // 2}H", data)
        if len(data) % 2 == 0
        else struct.unpack(f"!{len(data) // 2 + 1}H", data + b"\0")
    )
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(
    src: str, sport: int, dst: str, dport: int, flags: int, seq: int, ack: int, data: bytes, opts: bytes
) -> bytes:
    """An Ethernet frame with an IPv4 packet with a TCP segment."""
    opts += b"\x01" * (-len(opts) % 4)
    ports = struct.pack("!HHII", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF)
    segment = ports + struct.pack("!BBHHH", (5 + len(opts) // 4) << 4, flags, 64240, 0, 0) + opts + data
    ends = socket.inet_aton(src) + socket.inet_aton(dst)
    total = checksum(ends + struct.pack("!BBH", 0, 6, len(segment)) + segment)
    segment = segment[:16] + struct.pack("!H", total) + segment[18:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0x4000, 64, 6, 0) + ends
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + header + segment


class Talk:
    """Packets between a client and the server, relative to the first sequence number of each."""

    def __init__(self, client: str, port: int = 80) -> None:
        self.client, self.port = client, port
        self.frames: list[bytes] = []
        self.us, self.them = 700_000, 1000
        self.sent, self.answered = 1, 1  # how far each side is, once the handshake is done

    def up(self, flags: int, data: bytes = b"", *, seq: int = 1, ack: int = 0, opts: bytes = b"") -> Talk:
        """A packet of the client's; `ack` is absolute, since whoever forges it does not know ours."""
        ends = (self.client, CLIENT_PORT, SERVER, self.port)
        self.frames.append(frame(*ends, flags, self.them + seq, ack, data, opts))
        return self

    def down(self, flags: int, data: bytes = b"", *, seq: int = 1, ack: int = 1, opts: bytes = b"") -> Talk:
        ends = (SERVER, self.port, self.client, CLIENT_PORT)
        self.frames.append(frame(*ends, flags, self.us + seq, self.them + ack, data, opts))
        return self

    def reset(self) -> Talk:
        """The server's answer to an acknowledgement that it never gave reason for."""
        self.frames.append(frame(SERVER, self.port, self.client, CLIENT_PORT, RST, WRONG, 0, b"", b""))
        return self

    def syn(self, data: bytes = b"", opts: bytes = MSS) -> Talk:
        return self.up(SYN, data, seq=0, opts=opts)

    def synack(self) -> Talk:
        return self.down(SYN | ACK, seq=0, opts=MSS)

    def forge(self, data: bytes = GET, ack: int = WRONG) -> Talk:
        return self.up(PSH | ACK, data, ack=ack)

    def shake(self) -> Talk:
        return self.syn().synack().up(ACK, ack=self.us + 1)

    def say(self, data: bytes) -> Talk:
        self.up(PSH | ACK, data, seq=self.sent, ack=self.us + self.answered)
        self.sent += len(data)
        return self.down(ACK, seq=self.answered, ack=self.sent)

    def answer(self, data: bytes) -> Talk:
        self.down(PSH | ACK, data, seq=self.answered, ack=self.sent)
        self.answered += len(data)
        return self.up(ACK, seq=self.sent, ack=self.us + self.answered)

    def close(self) -> Talk:
        self.up(FIN | ACK, seq=self.sent, ack=self.us + self.answered)
        self.down(FIN | ACK, seq=self.answered, ack=self.sent + 1)
        return self.up(ACK, seq=self.sent + 1, ack=self.us + self.answered + 1)


def many(times: int, step: Callable[[Talk], object]) -> Callable[[Talk], object]:
    return lambda talk: [step(talk) for _time in range(times)]


HELLO = b"\x03\x03" + b"r" * 32 + b"\0\0\x04\x13\x01\x00\x2f\x01\0\0\x14\0\0\0\x10\0\x0e\0\0\x0bexample.org"
HELLO = b"\x01" + struct.pack("!I", len(HELLO))[1:] + HELLO
HELLO = b"\x16\x03\x01" + struct.pack("!H", len(HELLO)) + HELLO

FORGED: dict[str, Callable[[Talk], object]] = {
    "syn": many(4, lambda t: t.syn()),
    "syn-answered": many(4, lambda t: t.syn().synack()),
    "ack-wrong": lambda t: t.syn().synack().up(ACK, ack=WRONG).reset().forge().reset(),
    "ack-wrong-dropped": lambda t: [
        t.syn().synack(),
        *(t.up(ACK, ack=WRONG + n).forge(ack=WRONG + n) for n in range(4)),
    ],
    "data-without-ack": lambda t: [t.syn().synack(), *(t.up(PSH, GET) for _time in range(3))],
    "data-out-of-window": lambda t: t.syn().synack().up(PSH | ACK, GET, seq=90_000, ack=WRONG).forge(),
    "challenge-ack": lambda t: t.syn().synack().up(PSH, GET, seq=900_000).down(ACK).forge().down(ACK),
    "fin": lambda t: t.syn().synack().up(FIN).forge().up(PSH, GET),
    "fin-with-data": lambda t: t.syn().synack().up(FIN | PSH, GET).up(PSH, GET).forge(),
    "fin-ack-wrong": lambda t: t.syn().synack().up(FIN | PSH | ACK, GET, ack=WRONG).reset().forge(),
    "fin-ack-nearby": lambda t: t.syn().synack().up(FIN | PSH | ACK, GET, ack=t.us).forge(ack=t.us),
    "fin-before-the-answer": lambda t: t.syn().up(FIN | PSH, GET).synack().up(FIN | PSH, GET).up(PSH, GET),
    "fin-answered-again": lambda t: t.syn().synack().up(FIN | PSH, GET).synack().synack(),
    "reset-of-the-victim": lambda t: t.syn().synack().up(RST),
    "reset-of-the-victim-again": many(3, lambda t: t.syn().synack().up(RST)),
    "reset-of-a-closed-port": many(3, lambda t: t.syn().down(RST | ACK, seq=-t.us)),
    "reset-then-data": lambda t: (
        t.syn().synack().up(RST).forge().up(FIN | PSH, GET).syn().synack().up(RST).up(ACK, ack=WRONG)
    ),
    "reset-ack-wrong": lambda t: t.syn().synack().up(RST | ACK, ack=WRONG).forge(),
    "reset-with-data": lambda t: t.syn().synack().up(RST | PSH, GET).up(RST | PSH | ACK, GET, ack=WRONG),
    "fast-open": lambda t: t.syn(GET, COOKIE).synack().forge(),
    "fast-open-without-cookie": lambda t: t.syn(GET, COOKIE_WANTED).synack().forge(),
    "fast-open-without-data": lambda t: t.syn(opts=COOKIE).synack().forge(),
    "fast-open-experimental": lambda t: t.syn(GET, MSS + b"\xfe\x0c\xf9\x8912345678").synack().forge(),
    "data-in-the-syn": lambda t: t.syn(GET).synack().forge(),
    "simultaneous-open": lambda t: t.syn().synack().up(SYN | ACK, seq=0, ack=WRONG).down(ACK).forge(),
    "simultaneous-open-nearby": lambda t: t.syn().synack().up(SYN | ACK, seq=0, ack=t.us).forge(ack=t.us),
    "syn-ack-first": lambda t: t.up(SYN | ACK, seq=0, ack=WRONG).reset().forge().reset(),
    "without-a-syn": lambda t: t.up(ACK, ack=9).reset().up(FIN).up(0).up(FIN | PSH | URG).forge().reset().forge(),
    "urgent": lambda t: t.syn().synack().up(URG | PSH, GET).up(URG | PSH | ACK, GET, ack=WRONG),
    "answers-unseen": lambda t: (
        t.syn().up(ACK, ack=t.us + 1).forge(ack=t.us + 1).up(PSH | ACK, GET, seq=61, ack=t.us + 99)
    ),
    "answers-unseen-reset": lambda t: t.syn().up(ACK, ack=t.us + 1).forge(ack=t.us + 1).down(RST),
}
# Nobody forged these, but what Suricata saw does not show it.
UNSEEN: dict[str, Callable[[Talk], object]] = {
    "midway-client-first": lambda t: t.say(GET).answer(OK).say(GET).answer(OK),
    "midway-server-first": lambda t: t.answer(OK).say(GET).answer(OK).say(GET).answer(OK).say(GET).close(),
    "syn-ack-unseen": lambda t: t.syn().up(ACK, ack=t.us + 1).say(GET).answer(OK),
}
REAL: dict[str, Callable[[Talk], object]] = {
    "http": lambda t: t.shake().say(GET).answer(OK).close(),
    "http-again": lambda t: t.syn().synack().syn().synack().up(ACK, ack=t.us + 1).say(GET).answer(OK).close(),
    "ssh": lambda t: t.shake().answer(b"SSH-2.0-OpenSSH_9.2\r\n").say(b"SSH-2.0-Go\r\n").close(),
    "tls": lambda t: t.shake().say(HELLO).close(),
    "unknown": lambda t: t.shake().say(b"\x01\x02\x03zzz").answer(b"\x09\x08qq").say(b"\x01\x02\x03zzz").close(),
    "unknown-server-first": lambda t: t.shake().answer(b"\x09\x08qq").say(b"\x01\x02\x03zzz").close(),
    "unknown-longer": lambda t: t.shake().say(BYTES).answer(BYTES).say(BYTES).close(),
    "unknown-reset": lambda t: t.shake().say(b"\x01\x02").down(RST | ACK, ack=3),
    "data-in-the-third-packet": lambda t: t.syn().synack().say(GET).answer(OK).close(),
}
PORTS = {"ssh": 22, "tls": 443, "midway-server-first": 443}
SCENES = {**FORGED, **UNSEEN, **REAL}
ADDRESSES = {f"203.0.113.{number}": name for number, name in enumerate(SCENES, 1)}


def talks() -> Iterator[list[bytes]]:
    for address, name in ADDRESSES.items():
        talk = Talk(address, PORTS.get(name, 9999 if name.startswith("unknown") else 80))
        SCENES[name](talk)
        yield talk.frames


def random_talks(number: int) -> Iterator[list[bytes]]:
    """What comes to a forger's mind, and what a server whose handshake is not completed may answer: no data, no FIN."""
    choose = random.choice
    plain = (b"", MSS, STAMP, MSS + STAMP + b"\x01\x03\x03\x07")
    for serial in range(number):
        talk = Talk(f"203.{serial >> 16 & 255}.{serial >> 8 & 255}.{serial & 255}")
        for step in range(random.randint(3, 9)):
            if step == 0 and random.random() < 0.9:
                talk.syn(choose((b"", b"", GET)), choose((*plain, COOKIE, COOKIE_WANTED)))
            elif (step == 1 and random.random() < 0.7) or random.random() < 0.2:
                talk.down(SYN | ACK, seq=0, opts=choose(plain))
            elif random.random() < 0.2:
                flags, seq = choose(((ACK, 1), (ACK, 1), (RST, 1), (RST | ACK, -talk.us)))
                talk.down(flags, seq=seq, ack=choose((1, 61, 2)), opts=choose(plain))
            else:
                flags = choose((ACK, PSH | ACK, PSH, FIN, FIN | ACK, RST, SYN, SYN | ACK, random.randrange(256)))
                ack = choose((0, WRONG, talk.us, talk.us + 2, talk.us + 500, random.randrange(1 << 32)))
                opts = choose((*plain, COOKIE))
                seq = choose((0, 1, 1, 1, 61, 2, 50_000, -1000))
                talk.up(flags, choose((b"", GET, GET, b"x")), seq=seq, ack=0 if ack == talk.us + 1 else ack, opts=opts)
        yield talk.frames


def capture(conversations: Iterable[list[bytes]]) -> bytes:
    """A pcap file (libpcap's format 2.4), a tenth of a second for each conversation."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for serial, frames in enumerate(conversations):
        for number, data in enumerate(frames):
            second, tenth = divmod(serial, 10)
            parts.append(struct.pack("<IIII", START + second, tenth * 100_000 + number * 1000, len(data), len(data)))
            parts.append(data)
    return b"".join(parts)


def installed(release: str) -> Path:
    """A directory with Debian and Suricata of that release, which is made where it is missing."""
    sys.path.insert(0, str(ROOT / "lab"))
    from lab import apt_sources

    root, suite = ROOTS / release, RELEASES[release]
    if not (root / "usr/bin/suricata").exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        sources = apt_sources(suite)
        sources.append(sources[0].replace(f" {suite} ", f" {suite}-backports "))
        install = f'chroot "$1" apt-get install -qy --no-install-recommends -t {suite}-backports suricata'
        build = ["mmdebstrap", "--variant=minbase", "--include=ca-certificates", f"--customize-hook={install}"]
        subprocess.run([*build, suite, str(root), *sources], check=True)
    return root


def configuration(rules: str) -> str:
    """The role's template as it is on a host."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(ROOT / "roles/ngfw/templates/suricata"), autoescape=False)  # noqa: S701
    environment.filters["to_json"] = json.dumps
    return environment.get_template("ngfw.yaml.j2").render(
        __ngfw_suricata_home_net="[10.0.0.0/8]",
        __ngfw_interface="eth0",
        __ngfw_suricata_rule_files=[],
        __ngfw_suricata_rules_file=rules,
        __ngfw_suricata_outputs=[],
        __ngfw_trusted_proxies=[],
    )


def record(root: Path, pcap: bytes) -> list[dict[str, Any]]:
    """What Suricata of that root writes of a capture, without `stats` and anomalies."""
    signatures = (ROOT / "roles/ngfw/files/suricata/ngfw.rules").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=root / "tmp") as name:
        here, inside = Path(name), Path("/tmp") / Path(name).name
        (here / "all.pcap").write_bytes(pcap)
        (here / "all.rules").write_text(signatures + SIGNATURES, encoding="utf-8")
        (here / "ngfw.yaml").write_text(configuration(str(inside / "all.rules")), encoding="utf-8")
        main = (root / "etc/suricata/suricata.yaml").read_text(encoding="utf-8")
        (here / "suricata.yaml").write_text(f"{main}\ninclude: {inside}/ngfw.yaml\n", encoding="utf-8")
        command = ["chroot", str(root), "suricata", "-c", f"{inside}/suricata.yaml", "--runmode", "single"]
        command += ["-l", str(inside), "-r", f"{inside}/all.pcap"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"proof.py: {done.stdout}{done.stderr}")
        lines = (here / "eve.json").read_text(encoding="utf-8").splitlines()
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [event for event in events if event["event_type"] not in ("stats", "anomaly")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=0, metavar="NUMBER", help="try so many random conversations too")
    arguments = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    wrong = 0
    for release in RELEASES:
        root = installed(release)
        events = record(root, capture(talks()))
        text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)
        (DATA / f"suricata{release}.json").write_text(text, encoding="utf-8")
        print(f"Suricata {release}: {len(events)} records", flush=True)
        if arguments.random:
            events = record(root, capture(random_talks(arguments.random)))
            bits = [event.get("metadata", {}).get("flowbits", []) for event in events]
            proven = sum("ngfw.established" in each for each in bits)
            parsed = [each for event, each in zip(events, bits) if event.get("app_proto") not in (None, "failed")]
            unseen = sum("ngfw.syn" not in each for each in parsed)
            print(f"  random: {len(events)} records, {len(parsed)} with a protocol, {proven} proven, {unseen} unmarked")
            wrong += proven + unseen
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
