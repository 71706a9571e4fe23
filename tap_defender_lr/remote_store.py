"""Collected files in any file system of fsspec: an object store, usually."""

from __future__ import annotations

import abc
import contextlib
import logging
import os
import re
import secrets
from typing import TYPE_CHECKING, Any

import fsspec
from typing_extensions import override

from tap_defender_lr import redaction
from tap_defender_lr.errors import StoreFailedError
from tap_defender_lr.file_store import BLOCK, FileStore, FileWriter, hash_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Scheme → the extra of this package that brings its driver.
EXTRAS = {"s3": "s3", "s3a": "s3", "abfs": "azure", "abfss": "azure", "az": "azure", "gs": "gcs", "gcs": "gcs"}
_SECRETS = re.compile("SECRET|TOKEN|PASSWORD|KEY|CREDENTIAL|CONNECTION_STRING", re.IGNORECASE)
"""Names of what drivers take from the environment or from fsspec's configuration, and nobody else may see."""
_CHATTY = ("aiobotocore", "botocore", "s3fs", "azure", "adlfs", "gcsfs", "google", "fsspec")
"""Loggers of drivers: at debug level they write requests with their signatures."""
_S3_SECONDS = 120
"""Completing an upload of gigabytes takes longer than the 15 s that s3fs waits for an answer."""


class RemoteStore(FileStore):
    """Any other file system of fsspec; its driver takes credentials and options from the environment."""

    def __init__(self, files_url: str) -> None:
        super().__init__()
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        for options in (os.environ, *fsspec.config.conf.values()):
            for name, value in options.items():
                if _SECRETS.search(name):
                    redaction.remember(str(value))
        self._url = files_url.rstrip("/")
        scheme = files_url.partition(":")[0].lower()
        self._is_object_store = scheme in EXTRAS
        with self._failing():
            self._fs, root = fsspec.url_to_fs(self._url, **_options(scheme))
        self._root = root.rstrip("/")

    @override
    def new_writer(self, parts: Sequence[str]) -> FileWriter:
        path = "/".join([self._root, *parts])
        with self._failing():
            # Not for object stores: drivers would make a bucket for a name with a typing error in it.
            if not self._is_object_store:
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            kind = _ObjectWriter if self._is_object_store else _PartWriter
            return kind(self._fs, path, "/".join([self._url, *parts]), self._failing)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except StoreFailedError:
            raise
        except Exception as error:  # noqa: BLE001  drivers raise what they like
            reason = redaction.redact(" ".join(str(error).split()))[:300].rstrip(".") or type(error).__name__
            raise StoreFailedError(f"{self._url}: {reason}") from None


def _options(scheme: str) -> dict[str, Any]:
    """What a driver gets unless somebody has configured it otherwise; some hand what they do not know to others."""
    options: dict[str, Any] = {"skip_instance_cache": True}
    if scheme in EXTRAS:
        options["use_listings_cache"] = False  # what another process has stored counts
    if EXTRAS.get(scheme) == "s3" and "config_kwargs" not in fsspec.config.conf.get(scheme, {}):
        options["config_kwargs"] = {"read_timeout": _S3_SECONDS}
    return options


class _RemoteWriter(FileWriter):
    def __init__(
        self, fs: Any, path: str, url: str, failing: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> None:
        self.url = url
        self._fs = fs
        self._path = path
        self._failing = failing
        self._is_done = False
        self._file = self._open()

    @abc.abstractmethod
    def _open(self) -> Any:
        """A file that nobody sees."""

    @abc.abstractmethod
    def _put_in_place(self) -> None:
        """All of it was written."""

    @abc.abstractmethod
    def _throw_away(self) -> None:
        """Nothing of it is to be seen ever."""

    @override
    def write(self, data: bytes) -> None:
        with self._failing():
            self._file.write(data)

    @override
    def commit(self, size: int, sha256: str) -> None:
        with self._failing():
            if self._is_there(size, sha256):
                return
            try:
                self._put_in_place()
            except Exception:  # perhaps only the answer was lost
                if not self._is_there(size, sha256):
                    raise
            self._is_done = True
            stored = self._size()
            if stored != size:
                raise StoreFailedError(f"{self.url} has {stored} bytes instead of {size:,}")

    @override
    def discard(self) -> None:
        if not self._is_done:
            self._is_done = True
            with contextlib.suppress(Exception):
                self._throw_away()

    def _is_there(self, size: int, sha256: str) -> bool:
        if self._size() != size:
            return False
        with self._fs.open(self._path, "rb", block_size=BLOCK) as file:
            return hash_of(file) == sha256

    def _size(self) -> int | None:
        try:
            size = self._fs.info(self._path)["size"]
        except FileNotFoundError:
            return None
        return int(size)


class _ObjectWriter(_RemoteWriter):
    """Uploads part by part: an object store shows nothing before the upload is completed.

    So no right to delete or to copy is needed, and a bucket may be immutable.
    """

    @override
    def _open(self) -> Any:
        file = self._fs.open(self._path, "wb", autocommit=False, block_size=BLOCK)
        self._fs.transaction.files.clear()  # else they would be kept there until the end of the process
        if type(file).__name__ == "ZonalFile":
            file.closed = True
            raise StoreFailedError("a zonal bucket shows files before they are complete")
        return file

    @override
    def _put_in_place(self) -> None:
        self._file.close()  # when this fails, a commit would publish what has been uploaded so far
        self._file.commit()

    @override
    def _throw_away(self) -> None:
        try:
            self._file.discard()
        finally:
            # Closing it, as Python does with what is not needed any more, would upload the rest.
            self._file.closed = True


class _PartWriter(_RemoteWriter):
    """Writes under another name and renames: what drivers make of transactions differs."""

    @override
    def _open(self) -> Any:
        folder, _, name = self._path.rpartition("/")
        self._part = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
        return self._fs.open(self._part, "wb", block_size=BLOCK)

    @override
    def _put_in_place(self) -> None:
        self._file.close()
        try:
            self._fs.mv(self._part, self._path)
        except Exception:  # not every rename replaces what is there
            if not self._fs.exists(self._path):
                raise
            self._fs.rm_file(self._path)
            self._fs.mv(self._part, self._path)
        for part in self._fs.glob(f"{self._path.rpartition('/')[0]}/.*.part"):  # of processes that were killed
            with contextlib.suppress(Exception):
                self._fs.rm_file(part)

    @override
    def _throw_away(self) -> None:
        try:
            self._file.close()
        finally:
            self._fs.rm_file(self._part)
