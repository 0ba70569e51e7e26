# SPDX-License-Identifier: GPL-3.0-or-later
"""Small servers that answer a lab's traffic: they say what a real one would, and do nothing.

    python3 servers.py 198.51.100.11 http ftp rdp

serves on that address until it is stopped. The one login that works is alice's, with the password "correct horse".
"""

from __future__ import annotations

import argparse
import ipaddress
import socket
import socketserver
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

USER, PASSWORD = "alice", "correct horse"
PAGES = ("/", "/news", "/search", "/style.css", "/logo.png", "/favicon.ico", "/account", "/login")
LONGEST_FORM = 65_536
# X.224 connection confirm; the server chooses TLS.
RDP_CONFIRM = bytes.fromhex("030000130ed00000123400021f080001000000")


class Web(BaseHTTPRequestHandler):
    """A site with a search, a contact form and a login."""

    protocol_version = "HTTP/1.1"
    server_version = "lab"

    def do_GET(self) -> None:
        self._answer(200 if self.path.partition("?")[0] in PAGES else 404)

    def do_POST(self) -> None:
        size = min(int(self.headers.get("Content-Length") or 0), LONGEST_FORM)
        fields = {key: values[0] for key, values in parse_qs(self.rfile.read(size).decode("latin-1")).items()}
        if self.path != "/login":
            self._answer(200)
        elif (fields.get("user"), fields.get("password")) == (USER, PASSWORD):
            self._answer(303, Location="/account")
        else:
            self._answer(401)

    def _answer(self, status: int, **headers: str) -> None:
        body = f"<html><body>{status}</body></html>".encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "text/html", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


class Ftp(socketserver.StreamRequestHandler):
    """Lets alice in, and nobody else."""

    timeout = 10

    def handle(self) -> None:
        user = ""
        self._say("220 lab FTP server ready")
        for line in self.rfile:
            command, _space, value = line.decode("latin-1").strip().partition(" ")
            if command.upper() == "USER":
                user = value
                self._say("331 Password required")
            elif command.upper() == "PASS":
                allowed = (user, value) == (USER, PASSWORD)
                self._say("230 Logged in" if allowed else "530 Login incorrect")
            elif command.upper() == "QUIT":
                self._say("221 Goodbye")
                return
            else:
                self._say("502 Not implemented")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class Rdp(socketserver.BaseRequestHandler):
    """The first answer of an RDP server."""

    def handle(self) -> None:
        self.request.settimeout(10)
        if self.request.recv(4096):
            self.request.sendall(RDP_CONFIRM)
            self.request.recv(4096)


class Dns(socketserver.BaseRequestHandler):
    """Answers each question: an address of a documentation range for A, a short text for TXT, else nothing."""

    def handle(self) -> None:
        data, server = self.request
        end = data.find(b"\0", 12) + 5
        if len(data) < 17 or end < 17:
            return
        kind = struct.unpack("!H", data[end - 4 : end - 2])[0]
        value = {1: bytes([192, 0, 2, 10]), 16: b"\x02ok"}.get(kind, b"")
        answer = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(value)) + value if value else b""
        counts = struct.pack("!5H", 0x8580, 1, 1 if value else 0, 0, 0)
        server.sendto(data[:2] + counts + data[12:end] + answer, self.client_address)


PORTS = {"http": 80, "ftp": 21, "rdp": 3389, "dns": 53}
HANDLERS = {"http": Web, "ftp": Ftp, "rdp": Rdp, "dns": Dns}


def serve(address: str, name: str) -> socketserver.BaseServer:
    """A server that runs in a thread of its own. Raises OSError if the port is taken."""
    base = {"dns": socketserver.ThreadingUDPServer, "http": ThreadingHTTPServer}.get(
        name, socketserver.ThreadingTCPServer
    )
    options = {
        "address_family": socket.AF_INET6 if ":" in address else socket.AF_INET,
        "allow_reuse_address": True,
        "daemon_threads": True,
        "request_queue_size": 64,
    }
    made: socketserver.BaseServer = type("Server", (base,), options)((address, PORTS[name]), HANDLERS[name])
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", type=lambda text: str(ipaddress.ip_address(text)))
    parser.add_argument("names", nargs="+", choices=PORTS, metavar="NAME", help=", ".join(PORTS))
    arguments = parser.parse_args()
    for name in arguments.names:
        serve(arguments.address, name)
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
