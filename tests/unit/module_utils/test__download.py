# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import signal
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

import pytest

pytest.importorskip("ansible", reason="downloads use ansible.module_utils.urls")

from ansible_collections.reflex.ngfw.plugins.module_utils import _download
from ansible_collections.reflex.ngfw.plugins.module_utils._download import Download
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network, to_key
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import FirewallError, InvalidInput
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netset import Limits, by_family, parse_netset

IN_FORCE = {"NGFW.mine.s4": {to_key(parse_network("203.0.113.7"))}}
OTHER = {"NGFW.mine.s4": {to_key(parse_network("203.0.113.8"))}}
NETSET = parse_netset(["203.0.113.7", "10.0.0.1", "nonsense"], Limits())
STAMP = "Tue, 02 Sep 2025 11:24:45 GMT"


@pytest.fixture(autouse=True)
def state_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(_download, "STATE_DIRECTORY", tmp_path / "lists")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "lists"


@pytest.fixture
def server():
    """Serves one list with an ETag and a date; `server.requests` has the conditions it was asked under."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            conditions = (self.headers.get("If-None-Match"), self.headers.get("If-Modified-Since"))
            self.server.requests.append(conditions)
            status = 304 if conditions[0] == '"one"' and self.server.status == 200 else self.server.status
            self.send_response(status, self.server.reason)
            self.send_header("ETag", '"one"')
            self.send_header("Last-Modified", STAMP)
            body = b"" if status == 304 else self.server.body
            self.send_header("Content-Length", str(len(body) + self.server.missing))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    served = HTTPServer(("127.0.0.1", 0), Handler)
    served.requests, served.status, served.body, served.missing = [], 200, b"203.0.113.7\n", 0
    served.reason = None
    served.url = f"http://127.0.0.1:{served.server_port}/list.netset"
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def fetched(server, in_force=IN_FORCE, *, url=None, request="limits"):
    """Fetch, and remember if there was anything new."""
    download = Download("NGFW", "mine", url or server.url, request)
    text = download.fetch(in_force)
    if text is not None:
        download.remember(IN_FORCE, NETSET)
    return text


def test_a_list_is_fetched_once_and_then_only_asked_about(server):
    assert fetched(server) == b"203.0.113.7\n"
    assert fetched(server) is None

    assert server.requests == [(None, None), ('"one"', STAMP)]


def test_a_304_counts_only_if_the_kernel_still_has_that_list(server):
    fetched(server)

    assert fetched(server, OTHER) == b"203.0.113.7\n"
    assert fetched(server, {}) == b"203.0.113.7\n"
    assert server.requests == [(None, None)] * 3


@pytest.mark.parametrize("change", [{"request": "other limits"}, {"url": "?other"}])
def test_another_request_is_fetched_anew(server, change):
    fetched(server)

    if "url" in change:
        change = {"url": server.url + change["url"]}
    assert fetched(server, **change) == b"203.0.113.7\n"
    assert server.requests[1] == (None, None)


def test_what_is_remembered_may_be_damaged_or_forgotten(server, state_directory):
    fetched(server)
    (file,) = state_directory.iterdir()
    file.write_text("{", encoding="utf-8")
    assert fetched(server) == b"203.0.113.7\n"

    Download("NGFW", "mine", server.url, "limits").forget()
    assert not file.exists()
    Download("NGFW", "mine", server.url, "limits").forget()


@pytest.mark.feature("S1")
def test_what_is_remembered_lies_where_nobody_else_may_write(server, state_directory, tmp_path):
    fetched(server)
    (file,) = state_directory.iterdir()
    assert stat.S_IMODE(state_directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    precious = tmp_path / "precious"
    precious.write_text("precious", encoding="ascii")
    file.unlink()
    file.symlink_to(precious)
    file.with_suffix(".new").symlink_to(precious)
    assert fetched(server) == b"203.0.113.7\n"
    assert precious.read_text(encoding="ascii") == "precious"
    assert not file.is_symlink()

    state_directory.chmod(0o770)
    with pytest.raises(FirewallError, match=r"the list is in force, but .* is no directory that only this user may"):
        fetched(server, OTHER)


def test_a_password_in_the_url_is_neither_shown_nor_kept(server, state_directory):
    url = server.url.replace("http://", "http://user:s3cret@")
    assert fetched(server, url=url) == b"203.0.113.7\n"
    (file,) = state_directory.iterdir()
    assert "s3cret" not in file.read_text(encoding="utf-8")
    server.status = 500
    with pytest.raises(InvalidInput, match=r"http://\*\*\*@.* answered 500"):
        fetched(server, url=url)
    with pytest.raises(InvalidInput, match=r"http://\*\*\*@127.0.0.1:9/ cannot be fetched") as caught:
        fetched(server, url="http://user:s3cret@127.0.0.1:9/")
    assert "s3cret" not in str(caught.value)


@pytest.mark.feature("S12")
@pytest.mark.parametrize("tail", ["?key=s3cret", ":s3cret/list", "/a b?key=s3cret", "/\n?key=s3cret"])
def test_no_error_of_a_library_shows_a_secret(tail):
    with pytest.raises(InvalidInput) as caught:
        Download("NGFW", "mine", f"http://user:s3cret@127.0.0.1:9{tail}", "limits").fetch({})
    assert "s3cret" not in str(caught.value)


@pytest.mark.feature("S12")
def test_what_a_server_says_is_shown_on_one_line(server):
    server.status, server.reason = 503, "Sorry \x1b[2J\x9b31m\u202e".encode().decode("latin-1")
    with pytest.raises(InvalidInput, match=r"answered 503 Sorry \\x1b\[2J") as caught:
        fetched(server)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("status", [204, 206, 403, 404, 500])
def test_an_answer_that_is_an_error_keeps_the_old_list(server, status):
    fetched(server)
    server.status = status

    with pytest.raises(InvalidInput, match=f"{server.url} .*answered {status} .*the old list stays"):
        fetched(server)


def test_a_server_that_is_not_there():
    with pytest.raises(InvalidInput, match=r"cannot be fetched: .*the old list stays"):
        Download("NGFW", "mine", "http://127.0.0.1:9/list", "limits").fetch({})


def test_a_list_that_is_cut_short_keeps_the_old_one(server):
    server.missing = 100

    with pytest.raises(InvalidInput, match=r"100 bytes are missing at its end; the old list stays"):
        fetched(server)


def test_a_list_that_is_too_large(server, monkeypatch):
    monkeypatch.setattr(_download, "MAX_BYTES", 8)

    with pytest.raises(InvalidInput, match=r"is larger than .*the old list stays"):
        fetched(server)


@pytest.mark.feature("S4")
def test_a_304_names_what_was_left_out_of_the_list_as_a_200_did(server):
    fetched(server)
    again = Download("NGFW", "mine", server.url, "limits")
    assert again.fetch(IN_FORCE) is None
    netset = by_family(IN_FORCE["NGFW.mine.s4"])
    again.left_out(netset)

    assert netset.refusals == 2
    assert [each.entry for each in netset.refused] == ["10.0.0.1", "nonsense"]


@pytest.fixture
def raw():
    """Serves bytes: `raw.behave(path, send)` is called for each request, in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.paths.append(self.path)
            with contextlib.suppress(OSError):
                self.server.behave(self.path, self.wfile.write)
            self.close_connection = True

        def log_message(self, *_arguments):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.daemon_threads = True
    served.over = threading.Event()
    served.paths, served.url = [], f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.over.set()
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.mark.feature("S4")
@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n", b""])
def test_a_server_that_drips_is_left_in_time_wherever_it_does(raw, monkeypatch, start):
    monkeypatch.setattr(_download, "_SECONDS", 0.5)
    before = signal.getsignal(signal.SIGALRM)

    def drip(_path, send):
        send(start)
        while not raw.over.wait(0.02):
            send(b"1")

    raw.behave = drip
    with pytest.raises(InvalidInput, match=r"was not done within 0.5 seconds; the old list stays"):
        Download("NGFW", "mine", raw.url, "limits").fetch({})
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.feature("S4")
def test_redirects_are_followed_a_few_times_and_nowhere_else(raw):
    def lead(path, send):
        target = {"/file": "file:///etc/passwd", "/a": "/b", "/b": "/list"}.get(path, path)
        head = "200 OK" if path == "/list" else f"302 Found\r\nLocation: {target}"
        send(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode())

    raw.behave = lead
    assert Download("NGFW", "mine", raw.url + "/a", "limits").fetch({}) == b""
    assert raw.paths == ["/a", "/b", "/list"]
    for path, why in (("/loop", "more than 5 redirects"), ("/file", "302|redirect")):
        with pytest.raises(InvalidInput, match=f"({why}).*the old list stays"):
            Download("NGFW", "mine", raw.url + path, "limits").fetch({})
