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
        self._values: list[Any] = []
        self._packed = b""

    @property
    def is_full(self) -> bool:
        return bool(self._packed)

    def add(self, value: Any) -> int:
        """Keep one more value, and return its place."""
        self._values.append(value)
        place = len(self._values) - 1
        if len(self._values) == BLOCK:
            self._packed = zlib.compress(_pickle(self._values), level=1)
            self._values = []
        return place

    def __getitem__(self, place: int) -> Any:
        """The value; not to be changed."""
        return _unpack(self._packed)[place] if self._packed else self._values[place]


def _pickle(values: list[Any]) -> bytes:
    try:
        return pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    except RecursionError:  # one of them is nested more deeply than can be written
        return pickle.dumps([clean(value) for value in values], pickle.HIGHEST_PROTOCOL)


@lru_cache(maxsize=32)
def _unpack(packed: bytes) -> list[Any]:
    """Neighbours are read one after the other, so the last few blocks are kept unpacked."""
    values: list[Any] = pickle.loads(zlib.decompress(packed))  # noqa: S301  this process has written it
    return values
