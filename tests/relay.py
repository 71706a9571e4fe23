"""A wire between a program and a PostgreSQL server that can be cut."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from typing_extensions import Self

if TYPE_CHECKING:
    from types import TracebackType

_LOOK_EVERY = 0.05


@dataclass
class Relay:
    """A context manager: passes on what arrives at a port of 127.0.0.1 to a server that listens on a Unix socket.

    Attributes:
        closed: Ends all connections, and each new one.
        silent: Passes on nothing, as if the other host were gone; what was sent meanwhile arrives afterwards.
    """

    socket_path: str
    closed: bool = False
    silent: bool = False
    port: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK_EVERY)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as ready:
            if self._is_cut():
                return
            server.connect(self.socket_path)
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while not self._is_cut():
                for key, _ in ready.select(_LOOK_EVERY):
                    if self.silent:
                        self._ended.wait(_LOOK_EVERY)
                        continue
                    try:
                        data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                        key.data.sendall(data)
                    except OSError:
                        return
                    if not data:
                        return

    def _is_cut(self) -> bool:
        return self.closed or self._ended.is_set()
