"""Files that GetFile collects, in the tests: how they are added, and where they are found again."""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from defender_simulator.fleet import command
from tests.conftest import NOON, Run, World, action_id

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT_LOG = b"ElfFile\0" + Random(1).randbytes(3_000_000) + bytes(2_000_000)


def pack(content: bytes, name: str = "") -> bytes:
    """As the service does it."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename=name, mode="wb", fileobj=buffer, mtime=0, compresslevel=1) as archive:
        archive.write(content)
    return buffer.getvalue()


def add_file(
    world: World,
    number: int,
    body: bytes,
    path: str | None = "C:\\Logs\\Security.evtx",
    *,
    updated: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    params = {} if path is None else {"Path": path}
    # Real GetFile commands have no start, even when they are completed.
    collected = command(0, "GetFile", "Completed", params, ended=NOON + number - 1)
    world.add(number, body=None, commands=[collected], updated=updated)
    world.give_result(number, 0, body, **(headers or {}))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def record(run: Run, number: int) -> dict[str, Any]:
    (found,) = [found for found in run.records() if found["machine_action_id"] == action_id(number)]
    return found


def stored(run: Run, number: int) -> Path:
    """The file that a row names."""
    return Path(unquote(urlsplit(record(run, number)["file_url"]).path))


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
