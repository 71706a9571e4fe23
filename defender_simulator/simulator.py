"""The simulator as a whole: three servers in one background thread, from `with` to the end of its block."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import trustme
import uvicorn
from typing_extensions import Self, override

from defender_simulator.api import DefenderApi
from defender_simulator.blobs import BlobStore
from defender_simulator.calls import Call, CallLog, worst_window
from defender_simulator.connections import Connection, Server
from defender_simulator.exchange import Exchange, Latency
from defender_simulator.links import Links
from defender_simulator.quota import Quota
from defender_simulator.sign_in import SignIn
from defender_simulator.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from starlette.applications import Starlette

    from defender_simulator.rules import Rule
    from defender_simulator.tenant import App, Tenant

_AUDIENCE = "https://api.securitycenter.microsoft.com"


class Simulator:
    """A context manager. URLs, tokens, links and the CA live as long as its block; the log stays readable.

    Args:
        tenant: May be changed while the simulator runs: the next request sees it.
        calls_per_minute: Quota of each app, in any window of `minute` seconds; likewise `calls_per_hour` and `hour`.
        link_lifetime: Seconds that a download link works.
        token_lifetime: Seconds that an access token works.
        page_size: Largest page of the list.
        api_latency: Shortest and longest time to an answer, in seconds; likewise `blob_latency`.
        clock: Gives the time in seconds since 1970, for everything but the latencies and the delays of rules.
        ports: Of sign-in, API and blob store. 0: any free one.
        seed: Of the latencies.
        count_rejected: Whether calls answered with 429 fill the quota, too.

    Attributes:
        rules: Faults, see `Rule`; may be changed at any time.
        ca_file: PEM of the throw-away authority that signed the certificate of the three servers.
    """

    login_url: str
    api_url: str
    blob_url: str
    ca_file: str
    token_scope = f"{_AUDIENCE}/.default"

    def __init__(
        self,
        tenant: Tenant,
        *,
        calls_per_minute: int = 100,
        calls_per_hour: int = 1500,
        minute: float = 60.0,
        hour: float = 3600.0,
        link_lifetime: float = 1800.0,
        token_lifetime: int = 3599,
        page_size: int = 10_000,
        api_latency: Latency = (0.0, 0.0),
        blob_latency: Latency = (0.0, 0.0),
        clock: Callable[[], float] = time.time,
        ports: tuple[int, int, int] = (0, 0, 0),
        seed: int = 0,
        count_rejected: bool = False,
    ) -> None:
        self.tenant = tenant
        self.rules: list[Rule] = []
        self._windows = [(calls_per_minute, minute), (calls_per_hour, hour)]
        self._count_rejected = count_rejected
        self._link_lifetime = link_lifetime
        self._page_size = page_size
        self._latencies = (api_latency, blob_latency)
        self._ports = ports
        self._log = CallLog()
        self._tokens = Tokens(audience=_AUDIENCE, lifetime=token_lifetime)
        random = Random(seed)  # noqa: S311  latencies are no secret
        self._exchange = Exchange(clock=clock, log=self._log, rules=self.rules, random=random)
        self._minted: list[Links] = []
        self._stack = contextlib.ExitStack()

    @property
    def log(self) -> list[Call]:
        """Every request so far in the order of arrival, on all three servers."""
        return self._log.snapshot()

    def calls(self, endpoint: str) -> list[Call]:
        return [call for call in self.log if call.endpoint == endpoint]

    def clear_log(self) -> None:
        """Forgets the calls so far; the quota does not."""
        self._log.clear()

    def worst_window(self, seconds: float) -> int:
        """The largest number of API calls of one app that were accepted within any window of that length."""
        return worst_window(self.log, seconds)

    def settings(self, app: App | None = None) -> dict[str, Any]:
        """Settings for the tap to sign in as that app; default is the tenant's first one."""
        app = app or self.tenant.apps[0]
        return {
            "tenant_id": self.tenant.tenant_id,
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "api_url": self.api_url,
            "login_url": self.login_url,
            "token_scope": self.token_scope,
        }

    def environment(self) -> dict[str, str]:
        """Environment variables with which Python programs trust the simulator's certificate."""
        return {"REQUESTS_CA_BUNDLE": self.ca_file, "SSL_CERT_FILE": self.ca_file}

    def secrets(self) -> set[str]:
        """What must never be seen in any output: client secrets, access tokens, signatures of links."""
        signatures = set[str]().union(*(links.signatures() for links in self._minted))
        return {app.client_secret for app in self.tenant.apps} | self._tokens.issued() | signatures

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(_listener(port)) for port in self._ports]
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="defender-simulator-")))
            self.login_url, self.api_url, self.blob_url = (
                f"https://localhost:{listener.getsockname()[1]}" for listener in sockets
            )
            certificate = self._make_certificate(directory)
            thread = _ServerThread(self._apps(), sockets, certificate)
            thread.start()
            stack.callback(thread.stop)
            thread.wait_until_serving()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _make_certificate(self, directory: Path) -> Path:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        self.ca_file = str(directory / "ca.pem")
        certificate = directory / "server.pem"
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        return certificate

    def _apps(self) -> list[Starlette]:
        exchange, tenant, tokens = self._exchange, self.tenant, self._tokens
        api_latency, blob_latency = self._latencies
        links = Links(url=self.blob_url, tenant_id=tenant.tenant_id, lifetime=self._link_lifetime)
        self._minted.append(links)
        sign_in = SignIn(exchange=exchange, tenant=tenant, tokens=tokens, url=self.login_url, scope=self.token_scope)
        api = DefenderApi(
            exchange=exchange,
            tenant=tenant,
            tokens=tokens,
            quota=Quota(self._windows, count_rejected=self._count_rejected),
            links=links,
            url=self.api_url,
            page_size=self._page_size,
            latency=api_latency,
        )
        blobs = BlobStore(exchange=exchange, tenant=tenant, links=links, latency=blob_latency)
        return [sign_in.app(), api.app(), blobs.app()]


class _ServerThread(threading.Thread):
    """One event loop with all servers in it."""

    def __init__(self, apps: list[Starlette], sockets: list[socket.socket], certificate: Path) -> None:
        super().__init__(name="defender-simulator", daemon=True)
        self._apps = apps
        self._sockets = sockets
        self._certificate = certificate
        self._serving = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: list[Server] = []

    @override
    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  told to whoever waits
            self._error = error
        finally:
            self._serving.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._servers = [Server(self._config(app), on_serving=self._count_serving) for app in self._apps]
        pairs = zip(self._servers, self._sockets, strict=True)
        await asyncio.gather(*(server.serve([listener]) for server, listener in pairs))

    def _count_serving(self) -> None:
        if all(server.started for server in self._servers):
            self._serving.set()

    def _config(self, app: Starlette) -> uvicorn.Config:
        return uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            server_header=False,
            date_header=False,  # the exchange writes it, by the simulator's clock
            timeout_keep_alive=75,
            ssl_certfile=self._certificate,
            ssl_keyfile=self._certificate,
        )

    def wait_until_serving(self) -> None:
        self._serving.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop may have ended by an error
                for server in self._servers:
                    self._loop.call_soon_threadsafe(server.stop)
        self.join()


def _listener(port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; without that, an answer takes 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    return listener
