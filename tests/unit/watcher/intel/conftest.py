# SPDX-License-Identifier: GPL-3.0-or-later
"""A server on 127.0.0.1 that does whatever a test wants of it, on the level of bytes."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
from ngfw.settings.config import AbuseIPDB


class Request(NamedTuple):
    path: str
    query: dict[str, str]
    headers: dict[str, str]


Behaviour = Callable[[Request], "bytes | Iterator[bytes] | None"]
"""What to send: all at once, bit by bit, or (None) nothing, and then close the connection."""


def http(status: int = 200, body: bytes | str = b"", **headers: str) -> bytes:
    """An answer; `_` in the names of headers stands for `-`."""
    body = body if isinstance(body, bytes) else body.encode()
    fields = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Something\r\n{head}\r\n".encode() + body


def scored(score: Any) -> Behaviour:
    """What AbuseIPDB answers."""

    def behave(request: Request) -> bytes:
        data = {"ipAddress": request.query["ipAddress"], "abuseConfidenceScore": score}
        return http(body=json.dumps({"data": data}), Content_Type="application/json")

    return behave


class Server:
    """Answers every request by `behave`, which may be replaced at any time; `requests` are those that came."""

    def __init__(self) -> None:
        self.behave: Behaviour = scored(0)
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api/v2/check"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Refuse further connections, and cut those that are there."""
        self.ended.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _address = self._listener.accept()
                self._sockets.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):
            file = connection.makefile("rb")
            while True:
                line = file.readline().split()
                if len(line) < 2:
                    return
                headers = {}
                for header in iter(file.readline, b"\r\n"):
                    name, _colon, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                parts = urlsplit(line[1].decode())
                request = Request(parts.path, dict(parse_qsl(parts.query)), headers)
                self.requests.append(request)
                answer = self.behave(request)
                if answer is None:
                    return
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    connection.sendall(piece)

    def hang(self, _request: Request) -> None:
        """Take the request and say nothing until the test is over."""
        self.ended.wait(30)

    def drip(self, answer: bytes, pause: float) -> Behaviour:
        """Send an answer byte by byte."""

        def behave(_request: Request) -> Iterator[bytes]:
            for byte in answer:
                if self.ended.wait(pause):
                    return
                yield bytes((byte,))

        return behave


@pytest.fixture(name="server")
def _server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(name="abuseipdb")
def _abuseipdb(server: Server, tmp_path: Path) -> AbuseIPDB:
    """Settings that ask the server, with a key."""
    key_file = tmp_path / "abuseipdb.key"
    key_file.write_text("sesame\n")
    return AbuseIPDB(str(key_file), server.url, timeout=0.3, cache=1800, per_minute=1000, per_day=10000)


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="helper")
def _helper() -> Any:
    """The functions of this file, for tests to call."""

    class Helper:
        http = staticmethod(http)
        scored = staticmethod(scored)

        @staticmethod
        def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
            """Wait until something is true, and return it."""
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                value = condition()
                if value:
                    return value
                time.sleep(0.005)
            raise AssertionError("it did not happen in time")

        @staticmethod
        def readable(descriptor: int, seconds: float = 10.0) -> bool:
            return bool(select.select([descriptor], [], [], seconds)[0])

    return Helper
