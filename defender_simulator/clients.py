"""Which app asks for a token, and whether it is the one it says it is."""

from __future__ import annotations

import hmac
import threading
from typing import TYPE_CHECKING

from defender_simulator.aadsts import SignInError, bad_request
from defender_simulator.assertions import check_assertion

if TYPE_CHECKING:
    from defender_simulator.tenant import App, Tenant

_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Clients:
    """The apps of a tenant, as the sign-in service sees them."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._assertions: set[str] = set()
        self._lock = threading.Lock()

    def find(self, form: dict[str, str]) -> App:
        client_id = form.get("client_id", "")
        for app in self._tenant.apps:
            if app.client_id.lower() == client_id.lower():
                return app
        raise bad_request(
            700016,
            "unauthorized_client",
            f"Application with identifier '{client_id}' was not found in the directory '{self._tenant.tenant_id}'. "
            "This can happen if the application has not been installed by the administrator of the tenant or consented "
            "to by any user in the tenant. You may have sent your authentication request to the wrong tenant.",
        )

    def authenticate(self, app: App, form: dict[str, str], *, token_url: str, now: float, public: bool = False) -> None:
        """Raises SignInError unless the form proves that the app has sent it.

        Where a person signs in (`public`), an app with public client flows needs no proof.
        """
        if "client_assertion" in form:
            with self._lock:
                self._assertions.add(form["client_assertion"])
            if form.get("client_assertion_type") != _JWT_BEARER:
                text = "The request body must contain the following parameter: 'client_assertion_type'."
                raise bad_request(900144, "invalid_request", text)
            check_assertion(app, form["client_assertion"], token_url=token_url, now=now)
        elif "client_secret" in form:
            _check_secret(app, form["client_secret"])
        elif not (public and app.public_client):
            raise SignInError(
                7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            )

    def assertions(self) -> set[str]:
        """Every assertion so far, good or bad."""
        with self._lock:
            return set(self._assertions)


def _check_secret(app: App, secret: str) -> None:
    if not app.client_secret or not hmac.compare_digest(secret.encode(), app.client_secret.encode()):
        raise SignInError(
            7000215,
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, "
            f"not the client secret ID, for a secret added to app '{app.client_id}'.",
        )
