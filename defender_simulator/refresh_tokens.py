"""Refresh tokens: what keeps a person signed in."""

from __future__ import annotations

import secrets
import threading
from datetime import datetime, timezone
from typing import NamedTuple

from defender_simulator.aadsts import bad_request

#: Unused for so long, they are worthless.
_IDLE = 90 * 86_400


class _Grant(NamedTuple):
    client_id: str
    user: str
    issued: float


class RefreshTokens:
    """Each use gives a new one and leaves the old one good, as the service does."""

    def __init__(self) -> None:
        self._grants: dict[str, _Grant] = {}
        self._revoked: set[str] = set()
        self._lock = threading.Lock()

    def issue(self, client_id: str, user: str, now: float) -> str:
        token = "1." + secrets.token_urlsafe(150)
        with self._lock:
            self._grants[token] = _Grant(client_id, user, now)
        return token

    def user(self, token: str, client_id: str, now: float) -> str:
        """Whom the token keeps signed in. Raises SignInError when it keeps nobody."""
        with self._lock:
            grant, revoked = self._grants.get(token), token in self._revoked
        if grant is None or grant.client_id != client_id:
            raise bad_request(70000, "invalid_grant", "Provided grant is invalid or malformed.")
        if revoked:
            raise bad_request(
                50173,
                "invalid_grant",
                "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might "
                f"have changed or reset their password. The grant was issued on '{_day(grant.issued)}' and the "
                f"TokensValidFrom date (before which tokens are not valid) for this user is '{_day(now)}'.",
                suberror="bad_token",
            )
        if now - grant.issued >= _IDLE:
            raise bad_request(
                700082,
                "invalid_grant",
                f"The refresh token has expired due to inactivity. The token was issued on {_day(grant.issued)} and "
                "was inactive for 90.00:00:00.",
                suberror="bad_token",
            )
        return grant.user

    def revoke(self) -> None:
        """All so far: somebody has changed the password."""
        with self._lock:
            self._revoked.update(self._grants)

    def issued(self) -> set[str]:
        with self._lock:
            return set(self._grants)


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S.%f}0Z"
