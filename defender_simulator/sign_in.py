"""The sign-in service: Entra's discovery document and its token endpoint for the client credentials flow."""

from __future__ import annotations

import hmac
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response

from defender_simulator.exchange import Exchange, RefusedError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from defender_simulator.tenant import App, Tenant
    from defender_simulator.tokens import Tokens


class SignIn:
    def __init__(self, *, exchange: Exchange, tenant: Tenant, tokens: Tokens, url: str, scope: str) -> None:
        self._exchange = exchange
        self._tenant = tenant
        self._tokens = tokens
        self._url = url
        self._scope = scope

    def app(self) -> Starlette:
        route = self._exchange.route
        return self._exchange.app(
            route("/{tenant}/v2.0/.well-known/openid-configuration", "discovery", self._discovery),
            route("/{tenant}/.well-known/openid-configuration", "discovery", self._discovery),
            route("/{tenant}/oauth2/v2.0/token", "token", self._token, methods=["POST"]),
        )

    async def _discovery(self, request: Request) -> Response:
        tenant_url = f"{self._url}/{self._known_tenant(request)}"
        return JSONResponse(
            {
                "token_endpoint": f"{tenant_url}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "issuer": f"{tenant_url}/v2.0",
                "authorization_endpoint": f"{tenant_url}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{tenant_url}/oauth2/v2.0/devicecode",
            }
        )

    async def _token(self, request: Request) -> Response:
        tenant_id = self._known_tenant(request)
        form = {name: values[-1] for name, values in parse_qs((await request.body()).decode()).items()}
        if form.get("grant_type") != "client_credentials":
            raise self._refused(400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.")
        app = self._known_app(form)
        self._check_scope(form.get("scope", ""))
        return JSONResponse(
            {
                "token_type": "Bearer",
                "expires_in": self._tokens.lifetime,
                "ext_expires_in": self._tokens.lifetime,
                "access_token": self._tokens.issue(tenant_id, app, self._exchange.clock()),
            },
            headers={"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"},
        )

    def _known_tenant(self, request: Request) -> str:
        asked: str = request.path_params["tenant"]
        if asked.lower() == self._tenant.tenant_id.lower():
            return self._tenant.tenant_id
        raise self._refused(
            400,
            "invalid_tenant",
            90002,
            f"Tenant '{asked}' not found. Check to make sure you have the correct tenant ID and are signing into the "
            "correct cloud. Check with your subscription administrator, this may happen if there are no active "
            "subscriptions for the tenant.",
        )

    def _known_app(self, form: dict[str, str]) -> App:
        client_id = form.get("client_id", "")
        app = next((app for app in self._tenant.apps if app.client_id.lower() == client_id.lower()), None)
        if app is None:
            raise self._refused(
                400,
                "unauthorized_client",
                700016,
                f"Application with identifier '{client_id}' was not found in the directory '{self._tenant.tenant_id}'. "
                "This can happen if the application has not been installed by the administrator of the tenant or "
                "consented to by any user in the tenant. You may have sent your authentication request to the wrong "
                "tenant.",
            )
        if "client_secret" not in form:
            raise self._refused(
                401,
                "invalid_client",
                7000218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            )
        if not hmac.compare_digest(form["client_secret"].encode(), app.client_secret.encode()):
            raise self._refused(
                401,
                "invalid_client",
                7000215,
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
                f"value, not the client secret ID, for a secret added to app '{app.client_id}'.",
            )
        return app

    def _check_scope(self, scope: str) -> None:
        if scope == self._scope:
            return
        if not scope.endswith("/.default"):
            raise self._refused(
                400,
                "invalid_scope",
                1002012,
                f"The provided value for scope {scope} is not valid. Client credential flows must have a scope value "
                "with /.default suffixed to the resource identifier (application ID URI).",
            )
        resource = scope[: -len("/.default")]
        raise self._refused(
            400,
            "invalid_resource",
            500011,
            f"The resource principal named {resource} was not found in the tenant named {self._tenant.tenant_id}. This "
            "can happen if the application has not been installed by the administrator of the tenant or consented to "
            "by any user in the tenant.",
        )

    def _refused(self, status: int, error: str, number: int, text: str) -> RefusedError:
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        now = datetime.fromtimestamp(self._exchange.clock(), timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
        document = {
            "error": error,
            "error_description": (
                f"AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {now}"
            ),
            "error_codes": [number],
            "timestamp": now,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"{self._url}/error?code={number}",
        }
        return RefusedError(JSONResponse(document, status))
