"""What a simulated tenant holds: apps that may sign in, machine actions, and the bytes behind their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: The role that Microsoft's newest pages name for listing actions and for the result link.
READ_WRITE_ALL = "Machine.ReadWrite.All"


@dataclass
class App:
    """An app registration: who may sign in, with which secret, and which roles its tokens carry."""

    client_id: str
    client_secret: str
    roles: list[str] = field(default_factory=lambda: [READ_WRITE_ALL])


@dataclass
class Result:
    """The blob behind one download link, exactly as the blob store sends it."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Tenant:
    """A simulated Entra tenant with Defender for Endpoint.

    Attributes:
        tenant_id: GUID; the only name the sign-in service knows it by.
        actions: Machine actions as the API writes them (camelCase keys, nulls written out, 0 to 7 decimals in times).
        results: Blob by (action id, command index). A command without an entry has no result: the link call says 404.
    """

    tenant_id: str
    apps: list[App]
    actions: list[dict[str, Any]] = field(default_factory=list)
    results: dict[tuple[str, int], Result] = field(default_factory=dict)
