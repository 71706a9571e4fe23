"""Access tokens: real signed JWTs, made by the sign-in service and checked by the API."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from defender_simulator.tenant import App, ManagedIdentity


class Tokens:
    """A signing key of its own per simulator: no token of one is good for another.

    Args:
        audience: The resource that tokens are for.
        lifetime: Seconds.
    """

    def __init__(self, *, audience: str, lifetime: int) -> None:
        self.audience = audience
        self.lifetime = lifetime
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key_id = uuid.uuid4().hex
        self._issued: set[str] = set()
        self._lock = threading.Lock()

    def issue(self, tenant_id: str, app: App | ManagedIdentity, now: float) -> str:
        """A token of an app for itself. Without a role it has no `roles`, as in the service."""
        claims = {"appid": app.client_id, "app_displayname": "Simulated app"}
        return self._sign(tenant_id, {**claims, **({"roles": app.roles} if app.roles else {})}, now)

    def issue_delegated(self, tenant_id: str, app: App, user: str, now: float) -> str:
        """A token of an app for a person: what both are allowed to."""
        claims = {
            "appid": app.client_id,
            "app_displayname": "Simulated app",
            "scp": " ".join(sorted(app.delegated)),
            "oid": object_id(tenant_id, user),
            "name": user.partition("@")[0],
            "upn": user,
            "unique_name": user,
        }
        return self._sign(tenant_id, claims, now)

    def issue_id(self, tenant_id: str, app: App, user: str, now: float, *, issuer: str) -> str:
        """Tells the app who has signed in; no use with the API."""
        claims = {
            "aud": app.client_id,
            "iss": issuer,
            "ver": "2.0",
            "sub": object_id(app.client_id, user),
            "oid": object_id(tenant_id, user),
            "name": user.partition("@")[0],
            "preferred_username": user,
        }
        return self._sign(tenant_id, claims, now)

    def _sign(self, tenant_id: str, claims: dict[str, Any], now: float) -> str:
        usual = {
            "aud": self.audience,
            "iss": f"https://sts.windows.net/{tenant_id}/",
            "tid": tenant_id,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + self.lifetime,
            "jti": uuid.uuid4().hex,
        }
        token = jwt.encode({**usual, **claims}, self._key, "RS256", {"kid": self._key_id})
        with self._lock:
            self._issued.add(token)
        return token

    def read(self, token: str, now: float) -> dict[str, Any]:
        """Gives the claims of a token that is good now.

        Raises:
            jwt.InvalidTokenError: when it is not.
        """
        # Times are checked below, by the simulator's clock.
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        claims: dict[str, Any] = jwt.decode(
            token, self._key.public_key(), ["RS256"], audience=self.audience, options=options
        )
        if not claims["nbf"] <= now < claims["exp"]:
            raise jwt.ExpiredSignatureError("The token is expired or not yet valid.")
        return claims

    def issued(self) -> set[str]:
        with self._lock:
            return set(self._issued)


def object_id(tenant_id: str, user: str) -> str:
    """The directory's id of a person: the same for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{tenant_id}/{user.lower()}"))
