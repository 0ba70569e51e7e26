# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP server for the metrics that asks no name server and logs nothing."""

from __future__ import annotations

import socket
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # WSGIServer's would look up the host's name
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Who asks for metrics asks often."""


def open_server(host: str, port: int, application: Any) -> WSGIServer:
    """A server that listens; raises OSError if it cannot."""
    server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
    server.set_app(application)
    return server
