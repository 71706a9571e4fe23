"""Where collected files go: a directory here, or whatever fsspec reaches (`remote_store`).

A file is written under a name that nobody sees, and put in place only when all of it is there and right; a file that
is there already with the same content is left alone. Files may be malware: they are never opened, and only their owner
can read them (mode 0600).
"""

from __future__ import annotations

import abc
import contextlib
import errno
import hashlib
import math
import os
import secrets
import threading
import time
from typing import IO, TYPE_CHECKING

from typing_extensions import override

from tap_defender_lr.errors import StoreFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BLOCK = 5 * 1024 * 1024
"""Bytes at a time; the smallest part of an S3 upload, so what a file takes in memory."""
_STALE_SECONDS = 3600.0
_CLOSING_SECONDS = 2.0


class FileWriter(abc.ABC):
    """One file that is being written. Its end is `discard`, which does nothing more after a `commit`.

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
        self._begun: set[FileWriter] = set()
        self._is_closed = False
        self._changes = threading.Condition()

    @abc.abstractmethod
    def new_writer(self, parts: Sequence[str]) -> FileWriter:
        """A writer for the path of these parts, which are safe names.

        Raises:
            StoreFailedError: The store is not there, is full, does not answer, or does not let the tap in.
        """

    def check(self) -> None:
        """Write a little and take it back, which tells all that can go wrong.

        Raises:
            StoreFailedError: No file can be stored.
        """
        writer = self.begin(["check"])
        try:
            writer.write(bytes(BLOCK))
        finally:
            self.end(writer)

    def begin(self, parts: Sequence[str]) -> FileWriter:
        """Like `new_writer`; every file that is begun must be brought to its end."""
        writer = self.new_writer(parts)
        with self._changes:
            if not self._is_closed:
                self._begun.add(writer)
                return writer
        writer.discard()
        raise StoreFailedError("the run has ended")

    def end(self, writer: FileWriter) -> None:
        """Leave nothing behind, unless it was committed."""
        writer.discard()
        with self._changes:
            self._begun.discard(writer)
            self._changes.notify_all()

    def close(self) -> None:
        """At the end of the process: give workers that were stopped a moment to tidy up, then do it for them."""
        with self._changes:
            self._is_closed = True
            self._changes.wait_for(lambda: not self._begun, timeout=_CLOSING_SECONDS)
            left = list(self._begun)
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
        try:
            # Above the root nothing is made: a file server that is not mounted must not be mistaken for a directory.
            for folder in (self._root, *reversed(path.relative_to(self._root).parents[:-1])):
                folder = self._root / folder  # noqa: PLW2901
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, exist_ok=True)
            _remove_parts(path.parent, older_than=time.time() - _STALE_SECONDS)
            return _DirectoryWriter(path)
        except OSError as error:
            raise _failed(path.parent, error) from None


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
            raise _failed(self._path.parent, error) from None

    @override
    def commit(self, size: int, sha256: str) -> None:
        try:
            self._file.flush()
            _sync(self._file.fileno())  # the row says that it is there, so a power cut must not take it away
            self._file.close()
            if not _is_same(self._path, size, sha256):
                self._put_in_place(size, sha256)
            _remove_parts(self._path.parent)
        except OSError as error:
            raise _failed(self._path.parent, error) from None

    def _put_in_place(self, size: int, sha256: str) -> None:
        try:
            self._part.replace(self._path)
        except FileNotFoundError:  # another run has stored the same file meanwhile, and has tidied up
            if not _is_same(self._path, size, sha256):
                raise
        with contextlib.suppress(OSError):  # not every system lets a directory be opened
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @override
    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)


def _failed(folder: Path, error: OSError) -> StoreFailedError:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        reason = "a file is where a directory should be"
    elif isinstance(error, FileNotFoundError):
        reason = "the directory above it is not there"
    else:
        reason = error.strerror or type(error).__name__
    return StoreFailedError(f"{folder}: {reason}")


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some file servers cannot do that
            raise


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


def _remove_parts(folder: Path, *, older_than: float = math.inf) -> None:
    """Remove what killed processes have left behind. A folder belongs to one command, so it is looked at in time."""
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if part.lstat().st_mtime < older_than:
                part.unlink()
