"""The Defender API: list and get machine actions, and mint links to the results of their commands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import jwt
from starlette.responses import JSONResponse, Response

from defender_simulator.exchange import Exchange, Handler, Latency, RefusedError
from defender_simulator.odata import Query, QueryError
from defender_simulator.quota import Quota, QuotaExceededError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from defender_simulator.links import Links
    from defender_simulator.tenant import Tenant
    from defender_simulator.tokens import Tokens

#: Either is enough, say the API's own refusals of 2026.
REQUIRED_ROLES = ("Machine.Read.All", "Machine.ReadWrite.All")
#: The same for the tokens of people.
REQUIRED_SCOPES = {
    "list": ("Machine.Read", "Machine.ReadWrite"),
    "get": ("Machine.Read", "Machine.ReadWrite"),
    "link": ("Machine.LiveResponse",),
}
FINAL = frozenset({"Succeeded", "Failed", "TimeOut", "Cancelled"})

_GUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class DefenderApi:
    """Also the gate to itself: a valid token, and quota left."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        tenant: Tenant,
        tokens: Tokens,
        quota: Quota,
        links: Links,
        url: str,
        page_size: int,
        latency: Latency,
    ) -> None:
        self._exchange = exchange
        self._tenant = tenant
        self._tokens = tokens
        self._quota = quota
        self._links = links
        self._url = url
        self._page_size = page_size
        self._latency = latency

    def app(self) -> Starlette:
        handlers = {
            "": ("list", self._list),
            "/{action_id}": ("get", self._get),
            "/{action_id}/GetLiveResponseResultDownloadLink(index={index})": ("link", self._link),
        }
        return self._exchange.app(
            *(
                self._exchange.route(
                    f"{base}/machineactions{path}",
                    name,
                    self._for_permitted(name, handler),
                    gate=self,
                    latency=self._latency,
                )
                for base in ("/api", "/api/v1.0")
                for path, (name, handler) in handlers.items()
            )
        )

    def admit(self, request: Request, now: float) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            claims = self._tokens.read(token.strip() if scheme.lower() == "bearer" else "", now)
        except jwt.InvalidTokenError as error:
            raise self._refused(401, "Unauthorized", f"Unauthorized: {error}") from error
        client_id: str = claims["appid"]
        try:
            self._quota.admit(client_id, now)
        except QuotaExceededError as error:
            raise self._refused(429, "429", str(error), {"Retry-After": str(error.wait)}) from error
        request.state.claims = claims
        return client_id

    def take_back(self, client_id: str, arrived: float) -> None:
        self._quota.take_back(client_id, arrived)

    def _for_permitted(self, endpoint: str, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            claims: dict[str, Any] = request.state.claims
            if "scp" in claims:
                word, required, given = "scopes", REQUIRED_SCOPES[endpoint], claims["scp"].split()
            else:
                word, required, given = "roles", REQUIRED_ROLES, claims.get("roles", [])
            if not set(given) & set(required):
                raise self._refused(
                    403,
                    "Forbidden",
                    f"Missing application {word}. API required {word}: {','.join(required)}, "
                    f"application {word}: {','.join(given)}.",
                )
            return await handler(request)

        return handle

    async def _list(self, request: Request) -> Response:
        try:
            query = Query.parse(request.scope["query_string"].decode("latin-1"))
        except QueryError as error:
            raise self._refused(400, error.code, str(error)) from error
        page, following = query.page(list(self._tenant.actions), self._page_size)
        document = {"@odata.context": f"{self._url}/api/$metadata#MachineActions", "value": page}
        if following is not None:
            document["@odata.nextLink"] = f"{self._url}/api/machineactions?{following}"
        return JSONResponse(document)

    async def _get(self, request: Request) -> Response:
        context = f"{self._url}/api/$metadata#MachineActions/$entity"
        return JSONResponse({"@odata.context": context, **self._action(request)})

    async def _link(self, request: Request) -> Response:
        action = self._action(request)
        index = self._index(request)
        if action["status"] not in FINAL:
            raise self._refused(400, "BadRequest", f"Machine action {action['id']} is still {action['status']}.")
        command = next((command for command in action["commands"] if command["index"] == index), None)
        if command is not None and command["command"]["type"] == "PutFile":
            raise self._refused(400, "BadRequest", f"Command {index} of {action['id']} is a PutFile: it has no result.")
        if command is None or (action["id"], index) not in self._tenant.results:
            raise self._refused(404, "ResourceNotFound", f"Machine action {action['id']} has no result {index}.")
        link = self._links.mint(action["id"], index, self._exchange.clock())
        return JSONResponse({"@odata.context": f"{self._url}/api/$metadata#Edm.String", "value": link})

    def _action(self, request: Request) -> dict[str, Any]:
        action_id: str = request.path_params["action_id"]
        if _GUID.fullmatch(action_id) is None:
            raise self._refused(400, "BadRequest", f"'{action_id}' is not the id of a machine action.")
        for action in list(self._tenant.actions):
            if action["id"].lower() == action_id.lower():
                return action
        raise self._refused(404, "ResourceNotFound", f"Machine action {action_id} was not found.")

    def _index(self, request: Request) -> int:
        text: str = request.path_params["index"]
        if re.fullmatch("[0-9]{1,9}", text) is None:
            raise self._refused(400, "BadRequest", f"'{text}' is not the index of a command.")
        return int(text)

    def _refused(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> RefusedError:
        # The documentation calls `target` a correlation id; in real answers it is the tenant's id.
        error = {"code": code, "message": message, "target": self._tenant.tenant_id}
        return RefusedError(JSONResponse({"error": error}, status, headers=headers))
