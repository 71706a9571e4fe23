"""Where collected files go: a directory here, or whatever fsspec reaches (`remote_store`).

A file is written under a name that nobody sees, and put in place only when all of it is there and right; a file that
is there already with the same content is left alone. Files may be malware: they are never opened, and only their owner
can read them (mode 0600).
"""

from __future__ import annotations

import abc
import contextlib
import hashlib
import os
import secrets
import threading
import time
from typing import IO, TYPE_CHECKING

from typing_extensions import override

from tap_defender_lr.errors import StoreFailedError, StoreRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BLOCK = 5 * 1024 * 1024
"""Bytes at a time; the smallest part of an S3 upload, so what a file takes in memory."""
_STALE_SECONDS = 3600.0
_CLOSING_SECONDS = 2.0


class FileWriter(abc.ABC):
    """One file that is being written. Ends with `commit` or `discard`; the latter may also come after either.

    Attributes:
        url: Where the file is going to be.
    """

    url: str

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """Raises: StoreFailedError: There is no room, or the store does not answer."""

    @abc.abstractmethod
    def commit(self, size: int, sha256: str) -> None:
        """Put the file in place, unless the very same one is there already.

        Raises:
            StoreFailedError: It could not be put there.
        """

    @abc.abstractmethod
    def discard(self) -> None:
        """Leave nothing behind."""


class FileStore(abc.ABC):
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._open: set[FileWriter] = set()
        self._changes = threading.Condition()

    @abc.abstractmethod
    def new_writer(self, parts: Sequence[str]) -> FileWriter:
        """Begin the file at the path of these parts, which are safe names.

        Raises:
            StoreRefusedError: The store is not there, or does not let the tap in.
            StoreFailedError: There is no room, or it does not answer.
        """

    @abc.abstractmethod
    def check(self) -> None:
        """Raises: StoreRefusedError, StoreFailedError: Files could not be written here."""

    def begin(self, parts: Sequence[str]) -> FileWriter:
        """Like `new_writer`; every file that is begun must be brought to its end."""
        writer = self.new_writer(parts)
        with self._changes:
            self._open.add(writer)
        return writer

    def end(self, writer: FileWriter) -> None:
        """Leave nothing behind, unless it was committed."""
        writer.discard()
        with self._changes:
            self._open.discard(writer)
            self._changes.notify_all()

    def close(self) -> None:
        """At the end of the process: give workers that were stopped a moment to tidy up, then do it for them."""
        with self._changes:
            self._changes.wait_for(lambda: not self._open, timeout=_CLOSING_SECONDS)
            left = list(self._open)
        for writer in left:
            writer.discard()


class DirectoryStore(FileStore):
    """A directory of this machine, or of a file server."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    @override
    def new_writer(self, parts: Sequence[str]) -> FileWriter:
        path = self._root.joinpath(*parts)
        with self._failing():
            for folder in [*reversed(path.parents)]:
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, exist_ok=True)
            _remove_stale(path.parent)
            return _DirectoryWriter(path)

    @override
    def check(self) -> None:
        self.end(self.begin(["check"]))

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            is_denied = isinstance(error, PermissionError)
            reason = error.strerror if is_denied else "a file is where a directory should be"
            raise StoreRefusedError(
                f"`files_url`: nothing can be written into {self._root} ({reason}). Give the tap's user the right to "
                "write there, or name another directory."
            ) from None
        except OSError as error:
            raise StoreFailedError(f"{self._root}: {error.strerror}") from None


class _DirectoryWriter(FileWriter):
    def __init__(self, path: Path) -> None:
        self.url = path.as_uri()
        self._path = path
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        # Exclusively: whatever link somebody puts there is not followed.
        self._file: IO[bytes] = open(self._part, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115

    @override
    def write(self, data: bytes) -> None:
        try:  # a context manager for each piece would cost more than the piece
            self._file.write(data)
        except OSError as error:
            raise self._failed(error) from None

    @override
    def commit(self, size: int, sha256: str) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())  # the row says that it is there, so a power cut must not take it away
            self._file.close()
            if _is_same(self._path, size, sha256):
                return
            self._part.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise self._failed(error) from None

    @override
    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> StoreFailedError:
        return StoreFailedError(f"{self._path.parent}: {error.strerror}")


def _is_same(path: Path, size: int, sha256: str) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        return hash_of(file) == sha256


def hash_of(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(BLOCK):
        digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a directory be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Remove what a killed process has left behind. A folder belongs to one command, so this is looked at in time."""
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.lstat().st_mtime > _STALE_SECONDS:
                part.unlink()
