"""The blob behind a download link: a session of its own without the token, read within bounds."""

from __future__ import annotations

import abc
import base64
import hashlib
import math
import re
import tempfile
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import IO, TYPE_CHECKING, Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

import requests
from typing_extensions import override

from tap_defender_lr.errors import NotFoundError, ReadFailedError, StoreFailedError
from tap_defender_lr.transport import CONNECT_SECONDS, READ_SECONDS, Authorization, chunks, describe, new_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_R = TypeVar("_R")
_MEMORY_BYTES = 512 * 1024
"""A result up to this size waits in memory for its turn, a larger one in a temporary file."""
_MAX_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True)
class Download:
    """A result as it came over the wire.

    Attributes:
        body: At its start; holds at most as many bytes as were asked to be kept.
        size: Bytes of the whole body, before any decompression.
        sha256: Of the whole body, as lower-case hexadecimal digits.
    """

    body: IO[bytes]
    size: int
    sha256: str
    complete: bool
    kept: int = 0
    """Bytes in `body`."""


class LinkRefusedError(Exception):
    """The link is not taken, or leads to something else.

    Attributes:
        renewable: A new link may help: this one has expired, say.
        valid_in: Seconds until the very same link is going to be taken, when the clocks of the service differ.
    """

    def __init__(self, reason: str, *, renewable: bool, valid_in: float | None = None) -> None:
        super().__init__(reason)
        self.renewable = renewable
        self.valid_in = valid_in


class ReceiveAgainError(ReadFailedError):
    """What came is of no use: it has to be received once more from its beginning."""


class Sink(abc.ABC, Generic[_R]):
    """Takes the bytes of one blob as they come over the wire."""

    @abc.abstractmethod
    def begin(self, headers: Mapping[str, str], size: int | None) -> None:
        """The first byte comes next, and nothing of what came before counts.

        Args:
            headers: Of the answer.
            size: Bytes in all, if the blob store tells.
        """

    @property
    def is_full(self) -> bool:
        """Whether no more bytes are wanted."""
        return False

    @abc.abstractmethod
    def write(self, chunk: bytes) -> None:
        """Raises: StoreFailedError: It cannot be kept."""

    @abc.abstractmethod
    def finish(self, size: int | None, sha256: str | None) -> _R:
        """All bytes have come, so many with this hash; None if no more were wanted."""

    @abc.abstractmethod
    def close(self) -> None:
        """Leave nothing behind, unless it was finished."""


class Spool(Sink[Download]):
    """Keeps at most the first `keep_bytes` bytes; the rest is only counted and hashed."""

    def __init__(self, keep_bytes: int) -> None:
        self._keep_bytes = keep_bytes
        self._room = keep_bytes
        self._body: IO[bytes] | None = None

    @override
    def begin(self, headers: Mapping[str, str], size: int | None) -> None:
        self.close()
        self._body = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115  closed by its reader
        self._room = self._keep_bytes

    @override
    def write(self, chunk: bytes) -> None:
        kept = chunk[: self._room]
        self._room -= len(kept)
        try:
            self._opened.write(kept)
        except OSError as error:
            raise StoreFailedError(f"no room for a temporary file: {error.strerror}") from None

    @override
    def finish(self, size: int | None, sha256: str | None) -> Download:
        assert size is not None  # noqa: S101  a spool is never full
        assert sha256 is not None  # noqa: S101
        body, self._body = self._opened, None
        body.seek(0)
        return Download(body, size, sha256, complete=size <= self._keep_bytes, kept=min(size, self._keep_bytes))

    @override
    def close(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    @property
    def _opened(self) -> IO[bytes]:
        assert self._body is not None  # noqa: S101  `begin` comes first
        return self._body


class BlobStore:
    """Whatever hosts the links name. Safe to use from several threads."""

    def __init__(self, *, connections: int = 10) -> None:
        self._session = new_session(connections)
        self._session.auth = Authorization(None)

    def transfer(self, sink: Sink[_R]) -> Transfer[_R]:
        return Transfer(self, sink)

    def get(self, link: str, headers: Mapping[str, str]) -> requests.Response:
        """Ask for a blob, for its text byte for byte: not through Session.get, which rewrites percent-escapes.

        Raises:
            ReadFailedError: There is no answer.
        """
        try:
            request = self._session.prepare_request(requests.Request("GET", link, headers=dict(headers)))
            request.url = link
            environment = self._session.merge_environment_settings(link, {}, True, None, None)  # noqa: FBT003
            return self._session.send(
                request, timeout=(CONNECT_SECONDS, READ_SECONDS), allow_redirects=False, **environment
            )
        except (OSError, ValueError) as error:
            raise ReadFailedError(f"download: {describe(error)}") from None


class Transfer(Generic[_R]):
    """One blob on its way into a sink. It goes on where it was when a connection breaks or a link expires.

    Attributes:
        size: Bytes of the blob that have come so far.
        received: Bytes that have come in all, also those that were of no use.
    """

    def __init__(self, blobs: BlobStore, sink: Sink[_R]) -> None:
        self._blobs = blobs
        self._sink = sink
        self.received = 0
        self._forget()

    def _forget(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._total: int | None = None
        self._etag: str | None = None
        self._md5: str | None = None
        self._own_md5 = hashlib.md5(usedforsecurity=False)

    def receive(self, link: str, check: Callable[[], None]) -> _R:
        """Receive what has not come yet.

        Args:
            link: From `DefenderClient.download_link`.
            check: Called between chunks; may raise to give up.

        Raises:
            LinkRefusedError: Status 403.
            NotFoundError: There is no blob (status 404 or 410).
            ReadFailedError: It did not come to its end; to be called again.
            StoreFailedError: What has come cannot be kept.
        """
        with self._ask(link) as response:
            self._begin(response)
            try:
                for chunk in () if self._sink.is_full else chunks(response, seconds=math.inf, decode=False):
                    check()
                    self._take(chunk)
                    if self._sink.is_full:
                        break
                return self._finish()
            except ReceiveAgainError as error:
                self._forget()
                raise ReadFailedError(f"download: {error}") from None
            except ReadFailedError as error:
                raise ReadFailedError(f"download: {error}") from None

    def close(self) -> None:
        """Leave nothing behind, unless it was received."""
        self._sink.close()

    def _ask(self, link: str) -> requests.Response:
        """An answer with what has not come yet, or else with the whole blob."""
        headers = {"Accept-Encoding": "identity"}
        if self.size and self._etag:
            more = {"Range": f"bytes={self.size}-", "If-Match": self._etag}
            response = self._blobs.get(link, headers | more)
            if response.status_code not in {206, 412, 416} or self._continues(response):
                return response
            response.close()  # it is another blob by now
        # Without a tag, nothing tells whether the rest would be of the same blob.
        self._forget()
        return self._blobs.get(link, headers)

    def _begin(self, response: requests.Response) -> None:
        headers, status = response.headers, response.status_code
        if status == 200:
            self._forget()
            self._total = int(length) if (length := headers.get("Content-Length", "")).isdecimal() else None
            etag = headers.get("ETag", "")
            self._etag = etag if etag.startswith('"') else None  # a weak one does not stand for the same bytes
            self._md5 = headers.get("Content-MD5")
            self._sink.begin(headers, self._total)
        elif status != 206 or not self.size:
            raise _refusal(response)

    def _continues(self, response: requests.Response) -> bool:
        """Whether the bytes that come are the next ones of the same blob."""
        headers = response.headers
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        if span is None or int(span[1]) != self.size or headers.get("ETag", self._etag) != self._etag:
            return False
        return self._total is None or span[2] in {str(self._total), "*"}

    def _take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.received += len(chunk)
        self._sha256.update(chunk)
        if self._md5:
            self._own_md5.update(chunk)
        self._sink.write(chunk)

    def _finish(self) -> _R:
        if self._sink.is_full:
            return self._sink.finish(None, None)
        if self._total is not None and self.size != self._total:
            raise ReadFailedError("the answer was cut off")
        if self._md5 and self._md5 != base64.b64encode(self._own_md5.digest()).decode():
            raise ReceiveAgainError("the bytes do not match their checksum (Content-MD5)")
        return self._sink.finish(self.size, self._sha256.hexdigest())


def _refusal(response: requests.Response) -> Exception:
    status = response.status_code
    code = response.headers.get("x-ms-error-code", "")
    detail = b""
    try:
        for chunk in chunks(response, seconds=READ_SECONDS, decode=True):
            detail += chunk
            if len(detail) > _MAX_ERROR_BYTES:
                break
    except ReadFailedError:
        pass
    code = code or (found[1].decode() if (found := re.search(rb"<Code>(\w+)</Code>", detail)) else "")
    reason = f"download: status {status}{f' {code}' if re.fullmatch('[A-Za-z]+', code) else ''}"
    if status == 403:
        return LinkRefusedError(reason, renewable=code in {"", "AuthenticationFailed"}, valid_in=_valid_in(detail))
    if status in {404, 410}:
        return NotFoundError(reason)
    return ReadFailedError(reason)


def _valid_in(detail: bytes) -> float | None:
    """Seconds between "now" and the start of a link that is not valid yet, both as the blob store tells them."""
    found = re.search(rb"Start \[([^]]+)\].*Current \[([^]]+)\]", detail, re.DOTALL)
    try:
        start, current = (parsedate_to_datetime(found[n].decode()) for n in (1, 2)) if found else (None, None)
    except (TypeError, ValueError):
        return None
    if start is None or current is None or current >= start:
        return None
    return (start - current).total_seconds()


def check_link(link: str, action_id: str, command_index: int) -> None:
    """Make sure that a link leads to the result of this command, as far as it tells.

    The file name that the blob store is asked to give the download (`rscd`) is `output_<action>_<index>.json`.

    Raises:
        LinkRefusedError: It names another command.
    """
    disposition = parse_qs(urlsplit(link).query).get("rscd", [""])[0]
    named = re.search(r"output_([0-9a-fA-F-]{36})_(\d+)\b", disposition)
    if named and (named[1].lower(), int(named[2])) != (action_id.lower(), command_index):
        raise LinkRefusedError("the download link leads to the result of another command", renewable=True)
