"""Answers whose body is made while it is sent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

#: asyncio's TLS keeps a whole piece until the client has taken it, and is slow with large ones.
_PORTION = 262_144


class Streamed(StreamingResponse):
    """Sends `pieces` up to `length` bytes; None: all of them, chunked.

    Starlette would fetch each piece in another thread, which takes longer than to encrypt 64 KiB. Here the event loop
    makes them: a piece that waits for something holds up every other answer.
    """

    body_iterator: AsyncIterator[bytes]

    def __init__(
        self, pieces: Iterator[bytes], length: int | None, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        size = {} if length is None else {"Content-Length": str(length)}
        super().__init__(_portions(pieces, length), status, {**size, **(headers or {})})


async def _portions(pieces: Iterator[bytes], length: int | None) -> AsyncIterator[bytes]:
    left = sys.maxsize if length is None else length
    try:
        for piece in pieces:
            wanted = piece[:left]
            for start in range(0, len(wanted), _PORTION):
                yield wanted[start : start + _PORTION]
                await asyncio.sleep(0)  # without it nobody would notice that the client is gone
            left -= len(wanted)
            if not left:
                return
    finally:
        if isinstance(pieces, Generator):
            pieces.close()  # the traceback of a cancelled answer would keep it, and the files it has open
