"""The blob behind a download link: a session of its own without the token, read within bounds."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import IO, TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import requests

from tap_defender_lr.errors import NotFoundError, ReadFailedError
from tap_defender_lr.transport import CONNECT_SECONDS, READ_SECONDS, Authorization, chunks, describe, new_session

if TYPE_CHECKING:
    from collections.abc import Callable

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


class BlobStore:
    """Downloads from whatever host a link names. Safe to use from several threads."""

    def __init__(self, *, connections: int = 10) -> None:
        self._session = new_session(connections)
        self._session.auth = Authorization(None)

    def download(self, link: str, *, keep_bytes: int, seconds: float, stop: Callable[[], None]) -> Download:
        """Download the result behind a link, keeping at most its first `keep_bytes` bytes.

        Args:
            link: From `DefenderClient.download_link`.
            keep_bytes: The rest is only counted and hashed.
            seconds: Longest time for the whole body.
            stop: Called between chunks; may raise to give up.

        Raises:
            LinkRefusedError: Status 403.
            NotFoundError: There is no blob (status 404 or 410).
            ReadFailedError: Anything else.
        """
        # Not through Session.get: that rewrites percent-escapes, and the signature stands for the very text.
        try:
            plain = requests.Request("GET", link, headers={"Accept-Encoding": "identity"})
            request = self._session.prepare_request(plain)
            request.url = link
            environment = self._session.merge_environment_settings(link, {}, True, None, None)  # noqa: FBT003
            response = self._session.send(
                request, timeout=(CONNECT_SECONDS, READ_SECONDS), allow_redirects=False, **environment
            )
        except (OSError, ValueError) as error:
            raise ReadFailedError(f"download: {describe(error)}") from None
        with response:
            if response.status_code != 200:
                raise _refusal(response)
            try:
                return _spool(response, keep_bytes, seconds, stop)
            except ReadFailedError as error:
                raise ReadFailedError(f"download: {error}") from None
            except OSError as error:
                raise ReadFailedError(f"no room for a temporary file: {error.strerror}") from None


def _spool(response: requests.Response, keep_bytes: int, seconds: float, stop: Callable[[], None]) -> Download:
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    body: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115  closed by its reader
    try:
        for chunk in chunks(response, seconds=seconds, decode=False):
            stop()
            body.write(chunk[: max(keep_bytes - size, 0)])
            size += len(chunk)
            sha256.update(chunk)
            md5.update(chunk)
        expected = response.headers.get("Content-MD5")
        if expected and expected != base64.b64encode(md5.digest()).decode():
            raise ReadFailedError("the bytes do not match their checksum (Content-MD5)")
        body.seek(0)
    except BaseException:
        body.close()
        raise
    return Download(body, size, sha256.hexdigest(), complete=size <= keep_bytes)


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
