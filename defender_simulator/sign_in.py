"""The sign-in service: Entra's discovery document, token endpoint and device codes."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response

from defender_simulator.aadsts import SignInError, bad_request, unknown_resource
from defender_simulator.scopes import Scopes
from defender_simulator.tokens import object_id

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from defender_simulator.clients import Clients
    from defender_simulator.device_codes import DeviceCodes
    from defender_simulator.exchange import Exchange, Handler
    from defender_simulator.refresh_tokens import RefreshTokens
    from defender_simulator.tenant import App, Tenant
    from defender_simulator.tokens import Tokens

_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_Form = dict[str, str]


class SignIn:
    def __init__(
        self,
        *,
        exchange: Exchange,
        tenant: Tenant,
        clients: Clients,
        tokens: Tokens,
        refresh_tokens: RefreshTokens,
        device_codes: DeviceCodes,
        url: str,
    ) -> None:
        self._exchange = exchange
        self._tenant = tenant
        self._clients = clients
        self._tokens = tokens
        self._refresh_tokens = refresh_tokens
        self._device_codes = device_codes
        self._url = url

    def app(self) -> Starlette:
        def route(path: str, endpoint: str, handler: Handler, methods: list[str] | None = None) -> Any:
            return self._exchange.route(path, endpoint, self._refusing(handler), methods=methods)

        return self._exchange.app(
            route("/{tenant}/v2.0/.well-known/openid-configuration", "discovery", self._discovery),
            route("/{tenant}/.well-known/openid-configuration", "discovery", self._discovery),
            route("/{tenant}/oauth2/v2.0/token", "token", self._token, ["POST"]),
            route("/{tenant}/oauth2/v2.0/devicecode", "devicecode", self._device_code, ["POST"]),
        )

    def _refusing(self, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            try:
                self._check_tenant(request.path_params["tenant"])
                return await handler(request)
            except SignInError as refusal:
                return refusal.response(self._exchange.clock(), self._url)

        return handle

    async def _discovery(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "token_endpoint": self._token_url,
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "issuer": f"{self._tenant_url}/v2.0",
                "authorization_endpoint": f"{self._tenant_url}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{self._tenant_url}/oauth2/v2.0/devicecode",
            }
        )

    async def _device_code(self, request: Request) -> Response:
        form = await _form(request)
        app = self._clients.find(form)
        # Whether the app may do this at all, the service tells only when somebody has signed in.
        code = self._device_codes.start(app.client_id, self._scopes(form, app), self._exchange.clock())
        page = f"{self._url}/device"
        message = f"To sign in, use a web browser to open the page {page} and enter the code {code.user_code} to "
        return JSONResponse({**code._asdict(), "verification_uri": page, "message": f"{message}authenticate."})

    async def _token(self, request: Request) -> Response:
        form = await _form(request)
        grants = {
            "client_credentials": self._by_credential,
            "refresh_token": self._by_refresh_token,
            _DEVICE_CODE: self._by_device_code,
        }
        grant = grants.get(form.get("grant_type", ""))
        if grant is None:
            text = "The app requested an unsupported grant type."
            raise bad_request(70003, "unsupported_grant_type", text)
        answer = {
            "token_type": "Bearer",
            "expires_in": self._tokens.lifetime,
            "ext_expires_in": self._tokens.lifetime,
            **grant(form, self._clients.find(form), self._exchange.clock()),
        }
        return JSONResponse(answer, headers={"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"})

    def _by_credential(self, form: _Form, app: App, now: float) -> dict[str, str]:
        self._clients.authenticate(app, form, token_url=self._token_url, now=now)
        self._check_app_scope(form.get("scope", ""))
        return {"access_token": self._tokens.issue(self._tenant.tenant_id, app, now)}

    def _by_device_code(self, form: _Form, app: App, now: float) -> dict[str, str]:
        device_code = form.get("device_code", "")
        user, scopes = self._device_codes.poll(device_code, app.client_id, now)
        self._clients.authenticate(app, form, token_url=self._token_url, now=now, public=True)
        answer = self._delegated(form, app, user, scopes, now)
        self._device_codes.redeemed(device_code)
        return answer

    def _by_refresh_token(self, form: _Form, app: App, now: float) -> dict[str, str]:
        self._clients.authenticate(app, form, token_url=self._token_url, now=now, public=True)
        user = self._refresh_tokens.user(form.get("refresh_token", ""), app.client_id, now)
        return self._delegated(form, app, user, self._scopes(form, app), now)

    def _delegated(self, form: _Form, app: App, user: str, scopes: Scopes, now: float) -> dict[str, str]:
        tenant_id = self._tenant.tenant_id
        answer = {
            "scope": scopes.granted(app),
            "access_token": self._tokens.issue_delegated(tenant_id, app, user, now),
        }
        if "offline_access" in scopes.openid:
            answer["refresh_token"] = self._refresh_tokens.issue(app.client_id, user, now)
        if "openid" in scopes.openid:
            issuer = f"{self._tenant_url}/v2.0"
            answer["id_token"] = self._tokens.issue_id(tenant_id, app, user, now, issuer=issuer)
        if form.get("client_info") == "1":
            person = json.dumps({"uid": object_id(tenant_id, user), "utid": tenant_id})
            answer["client_info"] = base64.urlsafe_b64encode(person.encode()).decode().rstrip("=")
        return answer

    @property
    def _tenant_url(self) -> str:
        return f"{self._url}/{self._tenant.tenant_id}"

    @property
    def _token_url(self) -> str:
        return f"{self._tenant_url}/oauth2/v2.0/token"

    def _scopes(self, form: _Form, app: App) -> Scopes:
        return Scopes.parse(
            form.get("scope", ""), resource=self._tokens.audience, tenant_id=self._tenant.tenant_id, app=app
        )

    def _check_tenant(self, asked: str) -> None:
        if asked.lower() != self._tenant.tenant_id.lower():
            raise bad_request(
                90002,
                "invalid_tenant",
                f"Tenant '{asked}' not found. Check to make sure you have the correct tenant ID and are signing into "
                "the correct cloud. Check with your subscription administrator, this may happen if there are no active "
                "subscriptions for the tenant.",
            )

    def _check_app_scope(self, scope: str) -> None:
        resource, slash, name = scope.rpartition("/")
        if not (slash and name == ".default"):
            raise bad_request(
                1002012,
                "invalid_scope",
                f"The provided value for scope {scope} is not valid. Client credential flows must have a scope value "
                "with /.default suffixed to the resource identifier (application ID URI).",
            )
        if resource != self._tokens.audience:
            raise unknown_resource(resource, self._tenant.tenant_id)


async def _form(request: Request) -> _Form:
    return {name: values[-1] for name, values in parse_qs((await request.body()).decode()).items()}
