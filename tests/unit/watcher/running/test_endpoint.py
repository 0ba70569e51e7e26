# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from ngfw.running import endpoint
from ngfw.running.endpoint import MOST_CONNECTIONS, MOST_REQUEST, Endpoint

ASK = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"


class Server:
    """An endpoint in a thread, on a port of its own; `page` can be another one, or raise."""

    def __init__(self) -> None:
        listener = endpoint.listen("127.0.0.1", 0)
        self.address = listener.getsockname()
        self.page = b"ngfw_events_total 1\n"
        self.broken = False
        self._ends = False
        self.endpoint = Endpoint(listener, self._made, "text/plain")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _made(self) -> bytes:
        if self.broken:
            raise ValueError("broken")
        return self.page

    def _run(self) -> None:
        while not self._ends:
            self.endpoint.step()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def ask(self, data: bytes = ASK) -> bytes:
        with self.connect() as client:
            client.sendall(data)
            return b"".join(iter(lambda: client.recv(65536), b""))

    def end(self) -> None:
        self._ends = True
        while self._thread.is_alive():  # one that has just ended takes no connection any more
            with suppress(OSError):
                socket.create_connection(self.address, timeout=1).close()
            self._thread.join(0.1)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.end()


@pytest.mark.feature("S14", "E4")
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (ASK, b"200 OK"),
        (b"GET / HTTP/1.0\n\n", b"200 OK"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET /x HTTP/1.0\r\n\r\n", b"404 "),
        (b"POST / HTTP/1.0\r\n\r\n", b"405 "),
        (b"\x16\x03\x01 hello\r\n\r\n", b"400 "),
        (b"\r\n\r\n", b"400 "),
        (b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * (MOST_REQUEST // 6 + 2), b"431 "),
    ],
)
def test_what_is_asked_is_answered(server: Server, request_: bytes, answer: bytes) -> None:
    head, _blank, body = server.ask(request_).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 " + answer)
    assert body == (server.page if answer.startswith(b"200") else b"")


@pytest.mark.feature("S14")
def test_a_page_that_cannot_be_made_ends_nothing(server: Server) -> None:
    server.broken = True
    assert b"500 " in server.ask()
    server.broken = False
    assert server.page in server.ask()


@pytest.mark.feature("S14")
def test_many_idle_connections_keep_nobody_out_and_take_few_descriptors(server: Server) -> None:
    with ExitStack() as stack:
        for number in range(140):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.address)
            if number % 3 == 0:
                client.settimeout(0.2)
                with suppress(OSError):
                    client.send(b"GET /met")
        before = len(os.listdir("/proc/self/fd"))
        assert server.page in server.ask()
        assert len(server.endpoint._connections) <= MOST_CONNECTIONS
        assert len(os.listdir("/proc/self/fd")) <= before + MOST_CONNECTIONS


@pytest.mark.feature("S14")
def test_a_connection_lasts_so_long_and_no_longer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "CONNECTION_SECONDS", 0.2)
    server.page = b"x" * (32 << 20)  # more than any buffer between them holds
    with server.connect() as idle, server.connect() as half, server.connect() as slow:
        half.sendall(ASK[:10])
        slow.sendall(ASK)
        for client in (idle, half):
            with suppress(ConnectionResetError):
                assert client.recv(100) == b""
        got = 0
        with suppress(ConnectionResetError):
            while data := slow.recv(1 << 20):
                got += len(data)
                threading.Event().wait(0.1)  # it reads, but slowly
        assert got < len(server.page)
    server.page = b"short\n"
    assert b"short" in server.ask()


@pytest.mark.feature("S14")
def test_whoever_resets_the_connection_ends_nothing(server: Server) -> None:
    for data in (b"", b"GET", ASK):
        client = server.connect()
        client.sendall(data)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert server.page in server.ask()


def test_ipv6() -> None:
    try:
        listener = endpoint.listen("::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    listener.close()
