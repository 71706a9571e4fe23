"""Access tokens: real signed JWTs, made by the sign-in service and checked by the API."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from defender_simulator.tenant import App


class Tokens:
    """A signing key of its own per simulator: no token of one is good for another.

    Args:
        audience: The resource that tokens are for.
        lifetime: Seconds.
    """

    def __init__(self, *, audience: str, lifetime: int) -> None:
        self._audience = audience
        self.lifetime = lifetime
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key_id = uuid.uuid4().hex
        self._issued: set[str] = set()
        self._lock = threading.Lock()

    def issue(self, tenant_id: str, app: App, now: float) -> str:
        claims = {
            "aud": self._audience,
            "iss": f"https://sts.windows.net/{tenant_id}/",
            "tid": tenant_id,
            "appid": app.client_id,
            "app_displayname": "Simulated app",
            "roles": app.roles,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + self.lifetime,
            "jti": uuid.uuid4().hex,
        }
        token = jwt.encode(claims, self._key, "RS256", {"kid": self._key_id})
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
            token, self._key.public_key(), ["RS256"], audience=self._audience, options=options
        )
        if not claims["nbf"] <= now < claims["exp"]:
            raise jwt.ExpiredSignatureError("The token is expired or not yet valid.")
        return claims

    def issued(self) -> set[str]:
        with self._lock:
            return set(self._issued)
