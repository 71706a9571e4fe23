"""An outside identity provider, such as a Kubernetes cluster: its key, and the tokens that it signs."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from defender_simulator.certificates import key_pem

if TYPE_CHECKING:
    from collections.abc import Sequence


class KeyPair(NamedTuple):
    """Both in PEM."""

    public: bytes
    private: bytes


def make_key() -> KeyPair:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(public, key_pem(key))


def mint(
    issuer: str,
    subject: str,
    key: bytes,
    *,
    audience: str | Sequence[str] = "api://AzureADTokenExchange",
    lifetime: float = 3600,
    now: float | None = None,
    **claims: Any,
) -> str:
    """A token of that issuer, signed with its private key, as a projected service account token looks.

    A negative lifetime makes one that has expired. Further claims are added or replace the usual ones; None leaves one
    out.
    """
    now = time.time() if now is None else now
    usual = {
        "iss": issuer,
        "sub": subject,
        "aud": audience if isinstance(audience, str) else list(audience),
        "iat": int(now),
        "nbf": int(min(now, now + lifetime)),
        "exp": int(now + lifetime),
        "jti": str(uuid.uuid4()),
    }
    payload = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(payload, key, "RS256", {"kid": "simulated-issuer"})
