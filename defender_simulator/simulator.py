"""The simulator as a whole: all its servers in one background thread, from `with` to the end of its block."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import trustme
from typing_extensions import Self

from defender_simulator.api import DefenderApi
from defender_simulator.blobs import BlobStore
from defender_simulator.calls import Call, CallLog, worst_window
from defender_simulator.clients import Clients
from defender_simulator.device_codes import ANALYST, DeviceCodes
from defender_simulator.exchange import Exchange, Latency
from defender_simulator.identity import IdentityEndpoints, Kind
from defender_simulator.links import Links
from defender_simulator.quota import Quota
from defender_simulator.refresh_tokens import RefreshTokens
from defender_simulator.serving import ServerThread, Service, listen
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
        device_code_lifetime: Seconds that a device code waits for a person.
        device_code_approved_after: So many polls are answered "pending"; then somebody has signed in. None: only
            `approve_device_code` lets somebody in.

    Attributes:
        rules: Faults, see `Rule`; may be changed at any time.
        ca_file: PEM of the throw-away authority that signed the certificate of the first three servers.
        identity_url: Where a managed identity gets its tokens, over plain HTTP.
    """

    login_url: str
    api_url: str
    blob_url: str
    identity_url: str
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
        device_code_lifetime: int = 900,
        device_code_approved_after: int | None = None,
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
        self._clients = Clients(tenant)
        self._refresh_tokens = RefreshTokens()
        self._device_codes = DeviceCodes(lifetime=device_code_lifetime, approved_after=device_code_approved_after)
        self._identity = IdentityEndpoints(exchange=self._exchange, tenant=tenant, tokens=self._tokens)
        self._minted: list[Links] = []
        self._stack = contextlib.ExitStack()

    @property
    def log(self) -> list[Call]:
        """Every request so far in the order of arrival, on all servers."""
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
            **({"client_secret": app.client_secret} if app.client_secret else {}),
            "api_url": self.api_url,
            "login_url": self.login_url,
            "token_scope": self.token_scope,
        }

    def environment(self) -> dict[str, str]:
        """Environment variables with which Python programs trust the simulator's certificate."""
        return {"REQUESTS_CA_BUNDLE": self.ca_file, "SSL_CERT_FILE": self.ca_file}

    def managed_identity_environment(self, kind: Kind) -> dict[str, str]:
        """Environment variables that lead a managed identity here: on a virtual machine, or on App Service."""
        return self._identity.environment(kind, self.identity_url)

    def approve_device_code(self, user: str = ANALYST, *, user_code: str | None = None) -> None:
        """Somebody signs in for the newest device code that waits, or for the one with that user code."""
        self._device_codes.decide("approved", user, user_code)

    def decline_device_code(self, user: str = ANALYST, *, user_code: str | None = None) -> None:
        self._device_codes.decide("declined", user, user_code)

    def revoke_refresh_tokens(self) -> None:
        """Signs out everybody so far: none of their refresh tokens works any more."""
        self._refresh_tokens.revoke()

    def secrets(self) -> set[str]:
        """What must never be seen in any output.

        Client secrets, assertions (also outside tokens that came as one), tokens of all kinds, device codes, the
        header of App Service, signatures of links. Passwords of certificates are not known here.
        """
        parts = [
            {app.client_secret for app in self.tenant.apps},
            {self._identity.header},
            self._clients.assertions(),
            self._tokens.issued(),
            self._refresh_tokens.issued(),
            self._device_codes.issued(),
            *(links.signatures() for links in self._minted),
        ]
        return set[str]().union(*parts) - {""}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(listen(port)) for port in (*self._ports, 0)]
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="defender-simulator-")))
            self.login_url, self.api_url, self.blob_url, plain = (
                f"https://localhost:{listener.getsockname()[1]}" for listener in sockets
            )
            self.identity_url = plain.replace("https://localhost", "http://127.0.0.1")
            certificate = self._make_certificate(directory)
            certificates = [certificate, certificate, certificate, None]
            thread = ServerThread([Service(*each) for each in zip(self._apps(), sockets, certificates, strict=True)])
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
        sign_in = SignIn(
            exchange=exchange,
            tenant=tenant,
            clients=self._clients,
            tokens=tokens,
            refresh_tokens=self._refresh_tokens,
            device_codes=self._device_codes,
            url=self.login_url,
        )
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
        return [sign_in.app(), api.app(), blobs.app(), self._identity.app()]
