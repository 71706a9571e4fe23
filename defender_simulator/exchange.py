"""One request from its arrival to its answer: log, gate, fault, latency, handler."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from defender_simulator.calls import Call, CallLog
from defender_simulator.connections import Dropped, Mangled, pause
from defender_simulator.rules import Rule, first_taker

if TYPE_CHECKING:
    from random import Random

Handler = Callable[[Request], Awaitable[Response]]
#: What a request is about: (action id, command index).
Subject = Callable[[Request], "tuple[str | None, int | None]"]
Latency = tuple[float, float]


class RefusedError(Exception):
    """Raised anywhere in a handler to give the answer it carries."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class Gate(Protocol):
    """Decides who may come in, before any fault or handler."""

    def admit(self, request: Request, now: float) -> str:
        """Gives the app's client id, or raises RefusedError."""

    def take_back(self, client_id: str, arrived: float) -> None:
        """The call was answered with 429 after all."""


def subject_in_path(request: Request) -> tuple[str | None, int | None]:
    index = request.path_params.get("index", "")
    return request.path_params.get("action_id"), int(index) if re.fullmatch("[0-9]{1,10}", index) else None


class Exchange:
    """What the servers share. `rules` and the log live as long as the simulator."""

    def __init__(self, *, clock: Callable[[], float], log: CallLog, rules: list[Rule], random: Random) -> None:
        self.clock = clock
        self._log = log
        self._rules = rules
        self._random = random

    def app(self, *routes: Route) -> Starlette:
        async def unknown(_request: Request) -> Response:
            return JSONResponse({"error": {"code": "NotFound", "message": "No such resource."}}, 404)

        methods = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
        return Starlette(routes=[*routes, self.route("/{rest:path}", "unknown", unknown, methods=methods)])

    def route(
        self,
        path: str,
        endpoint: str,
        handler: Handler,
        *,
        methods: list[str] | None = None,
        gate: Gate | None = None,
        latency: Latency = (0.0, 0.0),
        subject: Subject = subject_in_path,
    ) -> Route:
        async def answer(request: Request) -> Any:
            arrived = self.clock()
            action_id, index = subject(request)
            number = self._log.add(_call(request, endpoint, arrived, action_id, index))
            await request.body()  # from here on, only the client's going away can still be received
            try:
                client_id = gate.admit(request, arrived) if gate else None
            except RefusedError as refused:
                return self._finish(number, refused.response)
            self._log.update(number, client_id=client_id)

            ranged = "range" in request.headers or "x-ms-range" in request.headers
            rule = first_taker(list(self._rules), endpoint, action_id, index, ranged=ranged)
            await pause(request.receive, self._random.uniform(*latency) + (rule.delay if rule else 0.0))
            if rule and rule.drop:
                return Dropped()
            response = (rule.canned_answer() if rule else None) or await _handled(handler, request)
            self._finish(number, response)
            if rule:
                rule.bend(response, self.clock())
            if gate and client_id and response.status_code == 429:
                gate.take_back(client_id, arrived)
            if rule and (rule.cut is not None or rule.drip is not None):
                return Mangled(response, cut=rule.cut, drip=rule.drip)
            return response

        route = Route(path, answer, methods=methods or ["GET"])
        # Microsoft's own pages mix /API/ and /api/: paths are not case-sensitive.
        route.path_regex = re.compile(route.path_regex.pattern, re.IGNORECASE)
        return route

    def _finish(self, number: int, response: Response) -> Response:
        response.headers.setdefault("date", formatdate(self.clock(), usegmt=True))
        self._log.update(number, status=response.status_code)
        return response


async def _handled(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except RefusedError as refused:
        return refused.response


def _call(request: Request, endpoint: str, arrived: float, action_id: str | None, index: int | None) -> Call:
    return Call(
        endpoint=endpoint,
        arrived=arrived,
        path=request.scope["raw_path"].decode("latin-1"),
        query=request.scope["query_string"].decode("latin-1"),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.raw},
        action_id=action_id,
        index=index,
    )
