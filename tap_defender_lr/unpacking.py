"""gzip, unpacked piece by piece in bounded memory. Pure."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\x1f\x8b"
_PIECE = 1024 * 1024


class DamagedError(Exception):
    """The text says what is wrong with the stream."""


class Gunzip:
    """One gzip stream (RFC 1952): several members one after another, and zeros between and behind them."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out of these bytes, at most 1 MiB at a time, however much it is.

        Raises:
            DamagedError: They do not continue the stream.
        """
        while data:
            if self._inflate.eof:
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._inflate = zlib.decompressobj(wbits=31)
            try:
                piece = self._inflate.decompress(data, _PIECE)
            except zlib.error:
                raise DamagedError("the gzip stream is damaged") from None
            if piece:
                yield piece
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail

    def finish(self) -> None:
        """Raises: DamagedError: The stream has no end."""
        if not self._inflate.eof:
            raise DamagedError("the gzip stream ends too early")
