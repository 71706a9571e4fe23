"""What a simulated tenant holds: who may sign in, machine actions, and the bytes behind their results."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The role that Microsoft's newest pages name for listing actions and for the result link.
READ_WRITE_ALL = "Machine.ReadWrite.All"


@dataclass(frozen=True)
class FederatedCredential:
    """Trust in the tokens that an outside issuer signs for one subject: workload identity federation.

    Attributes:
        issuer: Compared letter by letter with the token's `iss`; so is `subject` with `sub`.
        public_key: PEM of the issuer's key. The real service looks it up at the issuer.
        audience: What the token's `aud` must hold.
    """

    issuer: str
    subject: str
    public_key: bytes
    audience: str = "api://AzureADTokenExchange"


@dataclass
class App:
    """An app registration: who may sign in, how it proves who it is, and what its tokens allow.

    Attributes:
        client_secret: Empty: the app has none.
        roles: Application permissions, granted and consented to.
        certificates: PEM of each registered certificate.
        trusts_issuer: PEM of an authority: what it has issued is as good as registered when the app sends it along
            (`x5c`; "subject name and issuer").
        federated: Outside issuers whose tokens are as good as a credential.
        public_client: Whether people may sign in without a credential of the app ("Allow public client flows").
        delegated: Delegated permissions, consented to for everybody.
    """

    client_id: str
    client_secret: str = ""
    roles: list[str] = field(default_factory=lambda: [READ_WRITE_ALL])
    certificates: list[bytes] = field(default_factory=list)
    trusts_issuer: bytes | None = None
    federated: list[FederatedCredential] = field(default_factory=list)
    public_client: bool = False
    delegated: list[str] = field(default_factory=lambda: ["Machine.LiveResponse", "Machine.Read"])


@dataclass
class ManagedIdentity:
    """An identity of the machine that asks for the token; no credential needed.

    Attributes:
        system_assigned: Whether it is the machine's own; a machine has at most one of these.
        object_id: Names a user-assigned identity as well as `client_id` does; so does `resource_id`.
    """

    client_id: str
    roles: list[str] = field(default_factory=lambda: [READ_WRITE_ALL])
    system_assigned: bool = False
    object_id: str | None = None
    resource_id: str | None = None


@dataclass
class Result:
    """The blob behind one download link, exactly as the blob store sends it.

    Attributes:
        pieces: Makes what is sent instead of `body`: the bytes from this offset on, piece by piece and anew for each
            download, so that a blob of gigabytes is never held in memory. It must not wait for anything: the event loop
            of all servers runs it. Of rules, `transform` does not change it.
        size: Bytes of `pieces` in all; what they yield beyond it is not sent. None: the answer is chunked, and ranges
            are not served.
    """

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Callable[[int], Iterator[bytes]] | None = None
    size: int | None = None
    _version: str = field(default_factory=lambda: uuid.uuid4().hex, init=False, repr=False, compare=False)

    @property
    def length(self) -> int | None:
        return len(self.body) if self.pieces is None else self.size

    @property
    def etag(self) -> str:
        """The hash of `body`. `pieces` are not read for it: each Result with some has an ETag of its own."""
        digest = self._version if self.pieces else hashlib.sha256(self.body).hexdigest()
        return f'"0x{digest[:16].upper()}"'


@dataclass
class Tenant:
    """A simulated Entra tenant with Defender for Endpoint.

    Attributes:
        tenant_id: GUID; the only name the sign-in service knows it by.
        actions: Machine actions as the API writes them (camelCase keys, nulls written out, 0 to 7 decimals in times).
        results: Blob by (action id, command index). A command without an entry has no result: the link call says 404.
        identities: Managed identities of the machine that the tests run on.
    """

    tenant_id: str
    apps: list[App]
    actions: list[dict[str, Any]] = field(default_factory=list)
    results: dict[tuple[str, int], Result] = field(default_factory=dict)
    identities: list[ManagedIdentity] = field(default_factory=list)
