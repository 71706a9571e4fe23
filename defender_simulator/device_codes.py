"""Sign-in on another device: codes that wait for a person."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from defender_simulator.aadsts import bad_request

if TYPE_CHECKING:
    from defender_simulator.scopes import Scopes

ANALYST = "analyst@contoso.example"
_INTERVAL = 1
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


class DeviceCode(NamedTuple):
    device_code: str
    user_code: str
    expires_in: int
    interval: int


@dataclass
class _Request:
    user_code: str
    client_id: str
    scopes: Scopes
    ends: float
    state: Literal["pending", "approved", "declined", "redeemed"] = "pending"
    user: str = ANALYST
    polls: int = 0


class DeviceCodes:
    """Made by the sign-in service, approved from any thread.

    Args:
        lifetime: Seconds that a code can be used.
        approved_after: So many polls are answered "pending"; then somebody has signed in. None: nobody does by himself.
    """

    def __init__(self, *, lifetime: int, approved_after: int | None) -> None:
        self._lifetime = lifetime
        self._approved_after = approved_after
        self._requests: dict[str, _Request] = {}
        self._lock = threading.Lock()

    def start(self, client_id: str, scopes: Scopes, now: float) -> DeviceCode:
        code = DeviceCode(
            device_code=secrets.token_urlsafe(96),
            user_code="".join(secrets.choice(_LETTERS) for _ in range(9)),
            expires_in=self._lifetime,
            interval=_INTERVAL,
        )
        with self._lock:
            self._requests[code.device_code] = _Request(code.user_code, client_id, scopes, now + self._lifetime)
        return code

    def decide(self, state: Literal["approved", "declined"], user: str, user_code: str | None) -> None:
        """Somebody signs in, or refuses to. Without a `user_code`, it is about the newest code that waits."""
        with self._lock:
            for request in reversed(self._requests.values()):
                if request.state == "pending" and user_code in {None, request.user_code}:
                    request.state = state
                    request.user = user
                    return
        raise LookupError("no device code waits for approval" + (f" as {user_code}" if user_code else ""))

    def poll(self, device_code: str, client_id: str, now: float) -> tuple[str, Scopes]:
        """Who has signed in, and for what. Raises SignInError while nobody has."""
        with self._lock:
            request = self._requests.get(device_code)
            if request is None or request.client_id != client_id or request.state == "redeemed":
                raise bad_request(
                    70018,
                    "bad_verification_code",
                    "Invalid verification code due to User typing in wrong user code for device code flow. "
                    "Authorization is not approved.",
                )
            if now >= request.ends:
                raise bad_request(
                    70020,
                    "expired_token",
                    "The provided value for the input parameter 'device_code' is not valid. This device code has "
                    "expired.",
                )
            if request.state == "pending" and request.polls == self._approved_after:
                request.state = "approved"
            request.polls += 1
            if request.state == "declined":
                text = "The end user has denied the authorization request."
                raise bad_request(70017, "authorization_declined", text)
            if request.state == "pending":
                raise bad_request(
                    70016,
                    "authorization_pending",
                    "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
                )
            return request.user, request.scopes

    def redeemed(self, device_code: str) -> None:
        """From now on the code is good for nothing."""
        with self._lock:
            self._requests[device_code].state = "redeemed"

    def issued(self) -> set[str]:
        with self._lock:
            return set(self._requests)
