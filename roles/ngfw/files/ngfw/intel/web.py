# SPDX-License-Identifier: GPL-3.0-or-later
"""One GET at a time over `requests`, with bounds on everything that a server decides.

`requests` is imported by the first request: at a start it would be most of the time.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from ..firewall.errors import InvalidInput
from ..firewall.weburl import MAX_REDIRECTS, REDIRECTS, redirected

if TYPE_CHECKING:
    import requests
    from requests.adapters import HTTPAdapter

_PIECE = 1 << 14
_LATE = "timeout: the answer did not end in time"
_SAFE = re.compile(r"[\x20-\x7e]{1,256}")


class WebError(Exception):
    """No usable answer; the text says why. `sent`: the request may have reached the server."""

    def __init__(self, text: str, *, sent: bool = True, stale: bool = False) -> None:
        super().__init__(text)
        self.sent = sent
        self.stale = stale
        """The server had closed a connection that was kept open: worth one more try."""


class Reply(NamedTuple):
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header that is short and printable, or None."""
        value = self.headers.get(name)
        return value if value is not None and _SAFE.fullmatch(value) else None


class Web:
    """A session, for one thread. Needs no closing if it is just dropped."""

    def __init__(self, user_agent: str) -> None:
        self._user_agent = user_agent
        self._session: requests.Session | None = None
        self._connections: WeakKeyDictionary[object, socket.socket] = WeakKeyDictionary()

    def prepare(self) -> None:
        """Import what is needed, which takes a while the first time."""
        if self._session is None:
            import requests

            self._session = requests.Session()
            adapter = _watched(self._connections)
            self._session.mount("http://", adapter)
            self._session.mount("https://", adapter)
            # Identity: so the bytes that are counted are the bytes that are kept.
            self._session.headers.update({"User-Agent": self._user_agent, "Accept-Encoding": "identity"})
            self._session.auth = _no_auth
            # Even where it is not to follow, requests reads the whole body of a redirect, however long, to look ahead.
            self._session.get_redirect_target = lambda response: None  # type: ignore[assignment, method-assign]

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout: float,
        most: int,
        params: Mapping[str, str] | None = None,
        follow: bool = False,
        sink: Callable[[bytes], object] | None = None,
        within: float | None = None,
    ) -> Reply:
        """GET with at most `most` bytes of body, given to `sink` piece by piece where there is one.

        `timeout` bounds the connection and each pause of the server, `within` the whole: then the connection is cut,
        whatever it waits for. Redirects are followed only with `follow`, a few, and never from https to http. Raises
        WebError.
        """
        import requests

        self.prepare()
        session = self._session
        assert session is not None  # noqa: S101
        with _cut_after(within, self._connections) as is_late:
            try:
                for _hop in range(MAX_REDIRECTS + 1):
                    with session.get(
                        url,
                        headers=dict(headers),
                        params=params,
                        timeout=(timeout, timeout),
                        allow_redirects=False,
                        stream=True,
                    ) as response:
                        if not (follow and response.status_code in REDIRECTS):
                            body = _body(response, most, sink, is_late)
                            if is_late():  # where a header is cut it looks as if it had ended there
                                raise WebError(_LATE)
                            return Reply(response.status_code, response.headers, body)
                        url = redirected(url, response.headers.get("Location"))
                raise WebError(f"redirect: more than {MAX_REDIRECTS}")
            except InvalidInput as error:
                raise WebError(f"redirect: {error}") from None
            except requests.RequestException as error:
                raise WebError(_LATE) if is_late() else _web_error(error, timeout) from None

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


def _watched(connections: WeakKeyDictionary[object, socket.socket]) -> HTTPAdapter:
    """An adapter whose connections have a second handle on their socket in `connections`, from the beginning on.

    A socket's own time-out is that of one pause. Only who holds the socket can end a header that drips for hours.
    """
    from requests.adapters import HTTPAdapter

    def pool_of(pool: Any) -> Any:
        class Connection(pool.ConnectionCls):  # type: ignore[misc]
            def _new_conn(self) -> Any:
                made = super()._new_conn()
                connections[self] = made.dup()
                return made

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

    def watch(manager: Any) -> None:
        pools = manager.pool_classes_by_scheme.items()
        manager.pool_classes_by_scheme = {scheme: pool_of(pool) for scheme, pool in pools}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **keywords: Any) -> None:
            super().init_poolmanager(*arguments, **keywords)
            watch(self.poolmanager)

        def proxy_manager_for(self, proxy: Any, **keywords: Any) -> Any:
            known = proxy in self.proxy_manager
            manager = super().proxy_manager_for(proxy, **keywords)
            if not known:
                watch(manager)
            return manager

    return Adapter()


@contextmanager
def _cut_after(
    seconds: float | None, connections: WeakKeyDictionary[object, socket.socket]
) -> Iterator[Callable[[], bool]]:
    """Shut the connections down after that time, and tell by what is yielded whether that has happened."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        for each in list(connections.values()):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    timer = None if seconds is None else threading.Timer(seconds, cut)
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield late.is_set
    finally:
        if timer is not None:
            timer.cancel()


def _body(
    response: requests.Response, most: int, sink: Callable[[bytes], object] | None, is_late: Callable[[], bool]
) -> bytes:
    size = 0
    pieces: list[bytes] = []
    for piece in response.iter_content(_PIECE):
        size += len(piece)
        if size > most:
            raise WebError(f"huge: more than {most} bytes")
        if is_late():
            raise WebError(_LATE)
        if sink is None or response.status_code != HTTPStatus.OK:
            pieces.append(piece)
        else:
            sink(piece)
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and "Content-Encoding" not in response.headers and int(announced) != size:
        raise WebError(f"cut short: {size} of {announced} bytes")
    return b"".join(pieces)


def _web_error(error: requests.RequestException, timeout: float) -> WebError:
    from requests import exceptions

    if isinstance(error, exceptions.ConnectTimeout):
        return WebError(f"timeout: no connection within {timeout:g} s", sent=False)
    if isinstance(error, exceptions.Timeout) or "timed out" in str(error).lower():
        return WebError(f"timeout: no answer within {timeout:g} s")
    if isinstance(error, exceptions.TooManyRedirects):
        return WebError(f"redirect: more than {MAX_REDIRECTS}")
    if isinstance(error, exceptions.SSLError):
        return WebError("TLS: the server could not be verified", sent=False)
    if isinstance(error, exceptions.ProxyError):
        return WebError("connection: the proxy did not connect", sent=False)
    if isinstance(error, (exceptions.ChunkedEncodingError, exceptions.ContentDecodingError)):
        return WebError("cut short: the answer broke off or was garbled")
    if isinstance(error, exceptions.ConnectionError):
        cause = _innermost(error)
        if isinstance(cause, ConnectionRefusedError):
            return WebError("connection: refused", sent=False)
        if type(error.args[0] if error.args else None).__name__ == "ProtocolError":
            return WebError("connection: closed without an answer", stale=True)
        return WebError(f"connection: failed ({type(cause).__name__})", sent=False)
    return WebError(f"request: {type(error).__name__}")


def _innermost(error: BaseException) -> BaseException:
    """What lies at the bottom of an exception that libraries wrapped several times."""
    for _depth in range(8):
        inner: Any = getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(inner, BaseException):
            inner = next((each for each in error.args if isinstance(each, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps `requests` from looking for credentials in a .netrc."""
    return request


def describe_status(status: int) -> str:
    """A status code in words: `HTTP 404 (Not Found)`."""
    try:
        return f"HTTP {status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return f"HTTP {status}"


def is_redirect(status: int) -> bool:
    return status in REDIRECTS


def retry_after(reply: Reply, now: float) -> float | None:
    """Seconds that the server asks to wait, as a number or a date (RFC 9110, 10.2.3); None if it says nothing."""
    value = reply.header("Retry-After")
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    from email.utils import parsedate_to_datetime  # a start of the watcher does not wait for it

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
