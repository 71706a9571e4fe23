"""JSON values in a tenth of the memory that they take as Python objects: a long listing has a million of them."""

from __future__ import annotations

import pickle
import zlib
from functools import lru_cache
from typing import Any

from tap_defender_lr.text import clean

BLOCK = 25
"""Values that are compressed together: what they have in common is kept once."""


class Block:
    """Some values, kept until all that refer to it are gone. It is compressed as soon as it is full."""

    __slots__ = ("_packed", "_values")

    def __init__(self) -> None:
        self._values: list[bytes] = []
        self._packed = b""

    @property
    def is_full(self) -> bool:
        return bool(self._packed)

    def add(self, value: Any) -> int:
        """Keep one more value, and return its place."""
        self._values.append(_write(value))
        place = len(self._values) - 1
        if len(self._values) == BLOCK:
            self._packed = zlib.compress(pickle.dumps(self._values), level=1)
            self._values = []
        return place

    def __getitem__(self, place: int) -> Any:
        values = _unpack(self._packed) if self._packed else self._values
        return pickle.loads(values[place])  # noqa: S301  this process has written it


def _write(value: Any) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except RecursionError:  # it is nested more deeply than can be written
        return pickle.dumps(clean(value), pickle.HIGHEST_PROTOCOL)


@lru_cache(maxsize=32)
def _unpack(packed: bytes) -> list[bytes]:
    """Neighbours are read one after the other, so the last few blocks are kept unpacked."""
    values: list[bytes] = pickle.loads(zlib.decompress(packed))  # noqa: S301
    return values
