"""What a well-behaved ASGI server never does: hang up without an answer or amid one, or answer in drops."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from defender_simulator.streaming import Streamed

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

#: How long a client may leave a connection open that the server has closed in the middle of a body, in seconds.
_LINGER = 5.0


class Connection(H11Protocol):
    """Hands the transport to the application as `scope["state"]["transport"]`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Download links are credentials: they must not reach the log of a process that configures uvicorn's loggers.
        self.access_log = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Server(uvicorn.Server):
    """Serves until `stop`, and stops at once: what is under way is cut off, not waited for."""

    def __init__(self, config: uvicorn.Config, *, on_serving: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_serving = on_serving
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    @override
    async def main_loop(self) -> None:
        self._on_serving()
        await self._stopped.wait()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.001)
        for server in self.servers:
            await server.wait_closed()


async def hung_up(receive: Receive) -> None:
    """Returns when the client is gone. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def pause(receive: Receive, seconds: float) -> bool:
    """Waits, but not for a client that is gone; tells whether it is."""
    if seconds <= 0:
        return False
    try:
        await asyncio.wait_for(hung_up(receive), seconds)
    except asyncio.TimeoutError:
        return False
    return True


class Dropped:
    """An ASGI answer that is none: the connection is closed before a single byte."""

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        scope["state"]["transport"].abort()
        await hung_up(receive)


class Mangled:
    """An answer whose body comes drop by drop (`drip`: seconds between bytes), or ends early (`cut`: bytes sent)."""

    def __init__(self, response: Response, *, cut: int | None, drip: float | None) -> None:
        self._response = response
        self._cut = cut
        self._drip = drip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response, transport = self._response, scope["state"]["transport"]
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        first = True
        async for piece in self._pieces():
            if transport.is_closing():  # the client is gone
                await hung_up(receive)
                return
            if not first and await pause(receive, self._drip or 0.0):
                return
            first = False
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if self._cut is None:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        transport.close()  # unlike abort, this sends what is still in the buffer
        if not await pause(receive, _LINGER):
            transport.abort()
            await hung_up(receive)

    async def _pieces(self) -> AsyncIterator[bytes]:
        left = sys.maxsize if self._cut is None else self._cut
        async for piece in _body(self._response):
            wanted = piece[:left]
            if self._drip is None:
                yield wanted
            else:
                for byte in wanted:
                    yield bytes([byte])
            left -= len(wanted)
            if not left:
                return


async def _body(response: Response) -> AsyncIterator[bytes]:
    if isinstance(response, Streamed):
        async for piece in response.body_iterator:
            yield piece
    else:
        yield bytes(response.body)
