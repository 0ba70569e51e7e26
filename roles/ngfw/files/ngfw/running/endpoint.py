# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP server of one page, which nobody can use against its process: few connections, short ones, one thread.

It asks no name server and logs nothing. When there are too many connections the oldest one goes, so whoever keeps
connections open keeps out nobody who asks at once.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress

MOST_CONNECTIONS = 8
CONNECTION_SECONDS = 5.0
"""From the connection to the end of the answer."""

MOST_REQUEST = 8192

_PAUSE_SECONDS = 0.01
"""Between two connections for which others had to go: a flood of them costs next to nothing."""

_PAGE_SECONDS = 0.1
"""So long a page is given again instead of being made anew."""

_ERRORS = {
    400: "400 Bad Request",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
    500: "500 Internal Server Error",
    431: "431 Request Header Fields Too Large",
}


def listen(host: str, port: int) -> socket.socket:
    """A socket for Endpoint. Raises OSError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(MOST_CONNECTIONS)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class _Connection:
    """A connection until its answer is sent."""

    def __init__(self, stream: socket.socket, until: float) -> None:
        self.stream, self.until = stream, until
        self.request, self.answer = b"", b""


class Endpoint:
    """Answers GET / and GET /metrics with the page."""

    def __init__(self, listener: socket.socket, page: Callable[[], bytes], content_type: str) -> None:
        self._listener, self._page, self._type = listener, page, content_type
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, _Connection] = {}  # the oldest first
        self._answer, self._made_at = b"", float("-inf")
        self._accepts_at = 0.0

    def serve(self) -> None:
        """Answer for ever."""
        while True:
            self.step()

    def step(self) -> None:
        """Wait until there is something to do, and do it."""
        now = time.monotonic()
        accepting = now >= self._accepts_at
        registered = self._listener in self._selector.get_map()
        if accepting and not registered:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif registered and not accepting:
            self._selector.unregister(self._listener)
        moments = [each.until for each in self._connections.values()][:1] + ([] if accepting else [self._accepts_at])
        events = self._selector.select(max(0.0, min(moments) - now) if moments else None)
        for key, _events in events:
            if key.data is None:
                self._accept()
            elif key.data.stream.fileno() in self._connections:
                self._go_on(key.data)
        now = time.monotonic()
        for connection in [each for each in self._connections.values() if each.until <= now]:
            self._close(connection)

    def _accept(self) -> None:
        now = time.monotonic()
        try:
            stream, _peer = self._listener.accept()
        except OSError:
            self._accepts_at = now + 1.0  # no descriptor is left, or whoever came has gone
            return
        stream.setblocking(False)
        if len(self._connections) >= MOST_CONNECTIONS:
            self._close(next(iter(self._connections.values())))
            self._accepts_at = now + _PAUSE_SECONDS
        connection = _Connection(stream, now + CONNECTION_SECONDS)
        self._connections[stream.fileno()] = connection
        self._selector.register(stream, selectors.EVENT_READ, connection)

    def _go_on(self, connection: _Connection) -> None:
        try:
            if not connection.answer and not self._read(connection):
                return
            sent = connection.stream.send(connection.answer)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        connection.answer = connection.answer[sent:]
        if not connection.answer:
            self._close(connection)

    def _read(self, connection: _Connection) -> bool:
        """Take what has come; whether it can be answered now. Raises OSError."""
        data = connection.stream.recv(MOST_REQUEST)
        if not data:
            raise ConnectionResetError
        connection.request += data
        head = connection.request.replace(b"\r\n", b"\n")
        if b"\n\n" in head:
            connection.answer = self._answer_to(head.split(b"\n", 1)[0].split())
        elif len(connection.request) > MOST_REQUEST:
            connection.answer = _error(431)
        else:
            return False
        self._selector.modify(connection.stream, selectors.EVENT_WRITE, connection)
        return True

    def _answer_to(self, words: list[bytes]) -> bytes:
        if len(words) != 3 or not words[2].startswith(b"HTTP/"):
            return _error(400)
        if words[0] != b"GET":
            return _error(405)
        if words[1].split(b"?", 1)[0] not in (b"/", b"/metrics"):
            return _error(404)
        now = time.monotonic()
        if now - self._made_at >= _PAGE_SECONDS:
            try:
                page = self._page()
            except Exception:  # the next one may succeed
                return _error(500)
            head = f"HTTP/1.0 200 OK\r\nContent-Type: {self._type}\r\nContent-Length: {len(page)}\r\n\r\n"
            self._answer, self._made_at = head.encode() + page, now
        return self._answer

    def _close(self, connection: _Connection) -> None:
        self._connections.pop(connection.stream.fileno(), None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(connection.stream)
        # What was not read makes the kernel reset the connection, and what was sent may be lost with it.
        with suppress(OSError):
            connection.stream.recv(MOST_REQUEST)
        connection.stream.close()


def _error(code: int) -> bytes:
    return f"HTTP/1.0 {_ERRORS[code]}\r\nContent-Length: 0\r\n\r\n".encode()
