"""Files that GetFile collects: from the bytes on the wire into the store, unpacked and hashed on the way."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from tap_defender_lr.downloads import ReceiveAgainError, Sink
from tap_defender_lr.errors import StoreFailedError
from tap_defender_lr.file_names import NAMELESS, name_in_gzip, name_in_headers, safe_name
from tap_defender_lr.files_url import open_store
from tap_defender_lr.unpacking import MAGIC, DamagedError, Gunzip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_defender_lr.file_store import FileStore, FileWriter
    from tap_defender_lr.machine_action import Command, MachineAction

_MOST_DAMAGES = 2
_MAX_GZIP_HEAD = 4096
"""Bytes that are looked at for the name in the header of a gzip stream, if nothing else tells it."""


@dataclass(frozen=True)
class CollectedFile:
    """A file as columns of `live_response_results`.

    Attributes:
        size: Bytes of the file, without what the service packed it into; likewise `sha256`.
        url: Where it was stored; None if it was not.
        download_size: Bytes as they came over the wire; likewise `download_sha256`. None if not all of them were read.
        problem: Why it is not stored, or stored as it came.
    """

    name: str
    size: int | None
    sha256: str | None
    url: str | None
    download_size: int | None
    download_sha256: str | None
    problem: str | None = None


class FileCollector:
    """Makes the sinks of a run's files, and knows whether their store works.

    Args:
        url: The setting `files_url`.
        tenant_id: Gives the tenant's GUID, once the tap has signed in.
        max_bytes: A larger file is not stored.

    Attributes:
        received: Bytes that came over the wire so far.
        stored: Files that were stored so far, and `stored_bytes` their bytes.
        trouble: Why nothing can be stored, once that has turned out.
    """

    def __init__(self, url: str, tenant_id: Callable[[], str], *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.received = self.stored = self.stored_bytes = 0
        self.trouble: str | None = None
        self._url = url
        self._tenant_id = tenant_id
        self._store: FileStore | None = None
        self._lock = threading.Lock()

    @property
    def store(self) -> FileStore:
        """Opened by the first file: a run without one does not need it.

        Raises:
            StoreFailedError: It cannot be opened.
        """
        with self._lock:
            if self._store is None:
                self._store = open_store(self._url)
            return self._store

    def is_in_trouble(self) -> bool:
        """Find out whether anything can be stored at all."""
        if self.trouble is None:
            try:
                self.store.check()
            except StoreFailedError as error:
                self.trouble = str(error)
        return self.trouble is not None

    def close(self) -> None:
        """No half-written file stays behind."""
        if self._store is not None:
            self._store.close()

    def sink(self, action: MachineAction, command: Command) -> FileSink:
        """For the file of one command, at `<tenant>/<action id>/<command index>/<safe name>`."""
        folder = (safe_name(self._tenant_id()), safe_name(action.id), str(command.index))
        return FileSink(self, folder, command.file_name)

    def count(self, *, received: int = 0, stored: int | None = None) -> None:
        with self._lock:
            self.received += received
            if stored is not None:
                self.stored += 1
                self.stored_bytes += stored


class FileSink(Sink[CollectedFile]):
    """Takes one file.

    The service sends it as gzip, but not always (SOAR products met both). If the gzip is damaged, the file is received
    once more, since it may have suffered on the way; if it is damaged again, it is stored as it came.
    """

    def __init__(self, collector: FileCollector, folder: tuple[str, str, str], name: str | None) -> None:
        self._collector = collector
        self._folder = folder
        self._name = self._given_name = name
        # Packing adds a little to what cannot be packed.
        self._most_received = collector.max_bytes + collector.max_bytes // 100 + 1024
        self._damages: list[str] = []
        self._writer: FileWriter | None = None

    @override
    def begin(self, headers: Mapping[str, str], size: int | None) -> None:
        self.close()
        self._name = self._given_name or name_in_headers(headers)
        self._expected, self._received, self._size = size or 0, 0, 0
        self._sha256 = hashlib.sha256()
        self._head: bytes | None = b""  # until it is known how it is packed, and what it is called
        self._gunzip: Gunzip | None = None

    @property
    @override
    def is_full(self) -> bool:
        return max(self._expected, self._received) > self._most_received

    @override
    def write(self, chunk: bytes) -> None:
        self._received += len(chunk)
        self._collector.count(received=len(chunk))
        if self._head is None:
            self._take(chunk)
            return
        self._head += chunk
        if len(self._head) >= (len(MAGIC) if self._name else _MAX_GZIP_HEAD):
            self._start()

    @override
    def finish(self, size: int | None, sha256: str | None) -> CollectedFile:
        if self.is_full:
            self.close()
        elif self._head is not None:
            self._start()
        name = self._name or NAMELESS
        if self._writer is None:
            most = f"{self._collector.max_bytes:,} bytes (`max_file_bytes`)"
            reason = f"the file is larger than {most}: it is not stored"
            return CollectedFile(name, None, None, None, size, sha256, reason)
        if self._gunzip is not None:
            try:
                self._gunzip.finish()
            except DamagedError as damage:
                raise self._again(damage) from None
        content = self._sha256.hexdigest() if self._gunzip is not None else str(sha256)
        self._writer.commit(self._size, content)
        self._collector.count(stored=self._size)
        url = self._writer.url
        self.close()
        problem = f"{self._damages[-1]}: the file is stored as it came" if self._is_kept_as_it_comes else None
        return CollectedFile(name, self._size, content, url, size, sha256, problem)

    @override
    def close(self) -> None:
        if self._writer is not None:
            self._collector.store.end(self._writer)
            self._writer = None

    @property
    def _is_kept_as_it_comes(self) -> bool:
        return len(self._damages) >= _MOST_DAMAGES

    def _start(self) -> None:
        head, self._head = self._head or b"", None
        if head.startswith(MAGIC):
            self._name = self._name or name_in_gzip(head)
            self._gunzip = None if self._is_kept_as_it_comes else Gunzip()
        self._writer = self._collector.store.begin((*self._folder, safe_name(self._name or NAMELESS)))
        self._take(head)

    def _take(self, chunk: bytes) -> None:
        if self._writer is None:  # what is too large is only counted and hashed to its end
            return
        try:
            for piece in self._gunzip.feed(chunk) if self._gunzip else (chunk,):
                self._size += len(piece)
                if self._size > self._collector.max_bytes:
                    self.close()
                    return
                if self._gunzip is not None:  # else the hash is that of the download
                    self._sha256.update(piece)
                self._writer.write(piece)
        except DamagedError as damage:
            raise self._again(damage) from None

    def _again(self, damage: DamagedError) -> ReceiveAgainError:
        self._damages.append(str(damage))
        return ReceiveAgainError(str(damage))
