from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_defender_lr.unpacking import DamagedError, Gunzip

CONTENT = bytes(range(256)) * 20_000
PACKED = gzip.compress(CONTENT)


def unpacked(data: bytes, step: int = 65536) -> bytes:
    gunzip = Gunzip()
    pieces = [piece for start in range(0, len(data), step) for piece in gunzip.feed(data[start : start + step])]
    gunzip.finish()
    assert all(len(piece) <= 1024 * 1024 for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("data", "content"),
    [
        pytest.param(PACKED, CONTENT, id="one member"),
        pytest.param(PACKED + gzip.compress(b"more"), CONTENT + b"more", id="two members"),
        pytest.param(PACKED + bytes(500), CONTENT, id="zeros behind it"),
        pytest.param(PACKED + bytes(500) + gzip.compress(b"more"), CONTENT + b"more", id="zeros between members"),
        pytest.param(gzip.compress(b""), b"", id="nothing in it"),
        pytest.param(gzip.compress(PACKED), PACKED, id="packed twice: only once unpacked"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 65536, 10**9])
def test_what_comes_out(data: bytes, content: bytes, step: int) -> None:
    assert unpacked(data, step) == content


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PACKED[:-1], "ends too early"),
        (PACKED[:5000], "ends too early"),
        (b"\x1f\x8b", "ends too early"),
        (PACKED[:5000] + b"\0" * 50 + PACKED[5050:], "damaged"),
        (PACKED[:-8] + b"\0" * 8, "damaged"),
        (PACKED + b"something else", "damaged"),
        (b"\x1f\x8b but no gzip", "damaged"),
    ],
)
@pytest.mark.parametrize("step", [1, 65536])
def test_what_is_wrong_with_it(data: bytes, words: str, step: int) -> None:
    with pytest.raises(DamagedError, match=words):
        unpacked(data, step)


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4), st.integers(1, 3000))
def test_members_of_any_size_in_chunks_of_any_size(members: list[bytes], step: int) -> None:
    assert unpacked(b"".join(map(gzip.compress, members)), step) == b"".join(members)


def test_a_bomb_comes_out_in_pieces() -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=9)
    tracemalloc.start()
    gunzip = Gunzip()
    size = sum(len(piece) for piece in gunzip.feed(bomb))
    gunzip.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 200_000_000
    assert peak < 5_000_000
