"""A proxy as companies have them: it ends the TLS of its clients with a certificate of its own and reads along."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import tempfile
import threading
from base64 import b64encode
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import trustme
from typing_extensions import Self, override

if TYPE_CHECKING:
    from types import TracebackType

_KEPT_OUT = {"connection", "content-length", "keep-alive", "proxy-connection", "transfer-encoding"}
"""Headers that concern one connection, not the message."""


@dataclass
class InterceptingProxy:
    """A context manager: listens on a free port of 127.0.0.1, and trusts `upstream_ca_file` itself.

    Attributes:
        uninspected: To these `host:port` it only passes bytes on.
        refused: Status with which it answers a CONNECT to that `host:port`.
        login: `user:password` that it asks for, if any.
        connects: `host:port` of every CONNECT, in the order of arrival.
        requests: `host:port` and request line of everything it has read.
        ca_file: PEM of the authority whose certificates it shows.
    """

    upstream_ca_file: str
    uninspected: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    login: str = ""
    connects: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""
    ca_file: str = ""
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="intercepting-proxy-")))
            authority = trustme.CA()
            self.ca_file = str(folder / "ca.pem")
            authority.cert_pem.write_to_path(self.ca_file)
            self.inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost").configure_cert(self.inside)
            self.outside = ssl.create_default_context(cafile=self.upstream_ca_file)
            server = stack.enter_context(_Server(self))
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="intercepting-proxy")
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # joined by `server_close`: no connection outlives the proxy

    def __init__(self, proxy: InterceptingProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client: a CONNECT, and then what comes through the tunnel."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 20
    server: _Server
    _target = ""
    _upstream: http.client.HTTPSConnection | None = None

    def do_CONNECT(self) -> None:
        proxy, self._target = self.server.proxy, self.path
        proxy.connects.append(self._target)
        status = proxy.refused.get(self._target)
        if (
            proxy.login
            and self.headers.get("Proxy-Authorization") != f"Basic {b64encode(proxy.login.encode()).decode()}"
        ):
            status = 407
        if status:
            self.close_connection = True
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.close_connection = False  # Python up to 3.11 says CONNECT in HTTP/1.0
        self.send_response(200, "Connection established")
        self.end_headers()
        host, port = self._target.split(":")
        if self._target in proxy.uninspected:
            self.close_connection = True
            with socket.create_connection((host, int(port))) as upstream:
                _pass_on(self.connection, upstream)
            return
        try:
            self.connection = proxy.inside.wrap_socket(self.connection, server_side=True)
        except OSError:  # the client does not trust the certificate
            self.close_connection = True
            return
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self._upstream = http.client.HTTPSConnection(host, int(port), context=proxy.outside)

    def do_GET(self) -> None:
        assert self._upstream is not None, "only https goes through this proxy"
        self.server.proxy.requests.append((self._target, self.requestline))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            self._upstream.putheader(name, value)
        self._upstream.endheaders(body)
        with self._upstream.getresponse() as response:
            content = response.read()
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _KEPT_OUT:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    @override
    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client has gone
            super().handle()

    @override
    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.connection.close()
        if self._upstream is not None:
            self._upstream.close()

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Bytes in both directions, until one side has enough."""
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)
