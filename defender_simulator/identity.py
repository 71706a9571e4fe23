"""Managed identity, as an Azure machine (IMDS) and App Service present it to what runs there. Plain HTTP, as it is."""

from __future__ import annotations

import hmac
import secrets
import uuid
from typing import TYPE_CHECKING, Any, Literal, get_args

from starlette.responses import JSONResponse, Response

from defender_simulator.aadsts import SignInError, unknown_resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.applications import Starlette
    from starlette.requests import Request

    from defender_simulator.exchange import Exchange
    from defender_simulator.tenant import ManagedIdentity, Tenant
    from defender_simulator.tokens import Tokens

Kind = Literal["imds", "app_service"]

_IMDS = "/metadata/identity/oauth2/token"
_APP_SERVICE = "/msi/token"
_NAMES = {"client_id": "client_id", "object_id": "object_id", "msi_res_id": "resource_id", "mi_res_id": "resource_id"}


class _NoIdentityError(Exception):
    """Its text is what IMDS says."""


class IdentityEndpoints:
    def __init__(self, *, exchange: Exchange, tenant: Tenant, tokens: Tokens) -> None:
        self._exchange = exchange
        self._tenant = tenant
        self._tokens = tokens
        self.header = secrets.token_hex(16).upper()

    def app(self) -> Starlette:
        route = self._exchange.route
        return self._exchange.app(
            route(_IMDS, "identity", self._imds), route(_APP_SERVICE, "identity", self._app_service)
        )

    def environment(self, kind: Kind, url: str) -> dict[str, str]:
        if kind not in get_args(Kind):
            raise ValueError(f"no kind {kind!r}; there are {', '.join(get_args(Kind))}")
        if kind == "imds":
            return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": url}
        return {"IDENTITY_ENDPOINT": url + _APP_SERVICE, "IDENTITY_HEADER": self.header}

    async def _imds(self, request: Request) -> Response:
        query = request.query_params
        mistake = _imds_mistake(request)
        if mistake is not None:
            return _imds_refusal(mistake)
        try:
            answer = self._answer(self._identity(query), query["resource"])
        except _NoIdentityError as error:
            return _imds_refusal(str(error))
        except SignInError as refusal:
            return _imds_refusal(str(refusal), refusal.error)
        lifetime = str(self._tokens.lifetime)
        return JSONResponse({**answer, "expires_in": lifetime, "ext_expires_in": lifetime})

    async def _app_service(self, request: Request) -> Response:
        query = request.query_params
        if not hmac.compare_digest(request.headers.get("x-identity-header", "").encode(), self.header.encode()):
            return _app_service_refusal(401, "Invalid or missing X-IDENTITY-HEADER.")
        if query.get("api-version") != "2019-08-01" or "resource" not in query:
            return _app_service_refusal(400, "The parameters 'api-version' and 'resource' are required.")
        try:
            answer = self._answer(self._identity(query), query["resource"])
        except _NoIdentityError:
            return _app_service_refusal(400, "Unable to load the proper Managed Identity.")
        except SignInError:
            return _app_service_refusal(500, "An unexpected error occurred while fetching the AAD Token.")
        return JSONResponse(answer)

    def _identity(self, query: Mapping[str, str]) -> ManagedIdentity:
        for name, attribute in _NAMES.items():
            if name in query:
                for identity in self._tenant.identities:
                    if (getattr(identity, attribute) or "").lower() == query[name].lower():
                        return identity
                raise _NoIdentityError("Identity not found")
        own = [identity for identity in self._tenant.identities if identity.system_assigned]
        # Without an own identity, the machine gives a token of its only user-assigned one.
        candidates = own or self._tenant.identities
        if len(candidates) > 1:
            raise _NoIdentityError(
                "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in "
                "the token request"
            )
        if not candidates:
            raise _NoIdentityError("Identity not found")
        return candidates[0]

    def _answer(self, identity: ManagedIdentity, resource: str) -> dict[str, Any]:
        """What both answer. All numbers are strings, as in the real ones."""
        if resource.rstrip("/") != self._tokens.audience:
            raise unknown_resource(resource, self._tenant.tenant_id)
        now = self._exchange.clock()
        return {
            "access_token": self._tokens.issue(self._tenant.tenant_id, identity, now),
            "client_id": identity.client_id,
            "expires_on": str(int(now) + self._tokens.lifetime),
            "not_before": str(int(now)),
            "resource": resource,
            "token_type": "Bearer",
        }


def _imds_mistake(request: Request) -> str | None:
    query = request.query_params
    if "x-forwarded-for" in request.headers:
        return "Requests with an X-Forwarded-For header are not supported"
    if request.headers.get("metadata", "").lower() != "true":
        return "Required metadata header not specified"
    if query.get("api-version") not in {"2018-02-01", "2019-08-01", "2021-02-01"}:
        return "Required api-version parameter not specified or not supported"
    return None if "resource" in query else "Required audience parameter not specified"


def _imds_refusal(text: str, error: str = "invalid_request") -> Response:
    return JSONResponse({"error": error, "error_description": text}, 400)


def _app_service_refusal(status: int, text: str) -> Response:
    return JSONResponse({"statusCode": status, "message": text, "correlationId": str(uuid.uuid4())}, status)
