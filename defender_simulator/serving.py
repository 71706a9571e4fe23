"""All servers of a simulator in one event loop, in one background thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from typing_extensions import override

from defender_simulator.connections import Connection, Server

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.applications import Starlette


class Service(NamedTuple):
    """An application, where it listens, and the certificate with its key; None: plain HTTP."""

    app: Starlette
    listener: socket.socket
    certificate: Path | None


class ServerThread(threading.Thread):
    """One event loop with all servers in it."""

    def __init__(self, services: list[Service]) -> None:
        super().__init__(name="defender-simulator", daemon=True)
        self._services = services
        self._serving = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: list[Server] = []

    @override
    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  told to whoever waits
            self._error = error
        finally:
            self._serving.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._servers = [Server(_config(service), on_serving=self._count_serving) for service in self._services]
        pairs = zip(self._servers, self._services, strict=True)
        await asyncio.gather(*(server.serve([service.listener]) for server, service in pairs))

    def _count_serving(self) -> None:
        if all(server.started for server in self._servers):
            self._serving.set()

    def wait_until_serving(self) -> None:
        self._serving.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop may have ended by an error
                for server in self._servers:
                    self._loop.call_soon_threadsafe(server.stop)
        self.join()


def _config(service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        service.app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        server_header=False,
        date_header=False,  # the exchange writes it, by the simulator's clock
        timeout_keep_alive=75,
        ssl_certfile=service.certificate,
        ssl_keyfile=service.certificate,
    )


def listen(port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; without that, an answer takes 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    return listener
