"""What the API client and the downloads share: sessions, bodies read within bounds, failures in plain words."""

from __future__ import annotations

import os
import time
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING

import backoff
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from typing_extensions import override

from tap_defender_lr.errors import ReadFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""Longest silence between two bytes. `requests` has no limit for a whole answer, `chunks` has."""
_CHUNK = 64 * 1024
_NOT_TRUSTED = (
    "the TLS certificate is not trusted; behind a proxy that inspects TLS, set REQUESTS_CA_BUNDLE to its certificate"
)


class Authorization(AuthBase):
    """Exactly this authorization, or none: without it `requests` takes one for the host from a .netrc file."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    @override
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.pop("Authorization", None)
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


def trust_the_same_everywhere() -> None:
    """Let `SSL_CERT_FILE` count for `requests`, and so for MSAL, as it does for most other programs."""
    own = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    if os.environ.get("SSL_CERT_FILE") and not any(os.environ.get(name) for name in own):
        os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"]


def new_session(connections: int) -> requests.Session:
    """A session for several threads: enough pooled connections, no cookies, no retries of its own."""
    session = requests.Session()
    session.mount("https://", HTTPAdapter(pool_maxsize=connections, max_retries=0))
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def chunks(
    response: requests.Response, *, seconds: float, decode: bool, clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """The body as it arrives, for at most so many seconds in all, even if it drips.

    Raises:
        ReadFailedError: The body was cut off, came too slowly, or is no valid encoding.
    """
    end = clock() + seconds
    try:
        while True:
            chunk = response.raw.read1(_CHUNK, decode_content=decode)
            if not chunk:
                return
            yield chunk
            if clock() > end:
                raise ReadFailedError(f"the answer was not complete after {seconds:.0f} s")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ReadFailedError(describe(error)) from None


def read_body(response: requests.Response, *, max_bytes: int, seconds: float) -> bytes:
    """The whole decoded body, refused when it is larger than `max_bytes`."""
    body = bytearray()
    for chunk in chunks(response, seconds=seconds, decode=True):
        body += chunk
        if len(body) > max_bytes:
            raise ReadFailedError(f"the answer is larger than {max_bytes:,} bytes")
    return bytes(body)


def describe(error: BaseException) -> str:
    """A network failure in plain words, never in its own: those hold the URL and so the secret in it."""
    kinds: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
        ((requests.exceptions.SSLError, urllib3.exceptions.SSLError), _NOT_TRUSTED),
        (
            (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError),
            "the proxy refused the connection (see HTTPS_PROXY and NO_PROXY)",
        ),
        ((requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError), "no connection in time"),
        ((requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError), "no answer in time"),
        ((urllib3.exceptions.IncompleteRead, urllib3.exceptions.ProtocolError), "the answer was cut off"),
        ((requests.exceptions.ChunkedEncodingError,), "the answer was cut off"),
        ((urllib3.exceptions.DecodeError, requests.exceptions.ContentDecodingError), "the answer is badly encoded"),
        ((requests.exceptions.InvalidProxyURL, requests.exceptions.InvalidSchema), "HTTPS_PROXY is no usable address"),
        ((requests.exceptions.ConnectionError, OSError), "the connection failed"),
    )
    if "CA certificate bundle" in str(error):  # a bare OSError of requests
        return "the file that REQUESTS_CA_BUNDLE or SSL_CERT_FILE names is not there"
    for types, words in kinds:
        if isinstance(error, types):
            return words
    return f"the request failed ({type(error).__name__})"


def pauses() -> Iterator[float]:
    """Seconds between tries: doubling up to half a minute, with jitter, never less than half a second."""
    steps = backoff.expo(base=2, factor=1, max_value=30)
    next(steps)
    return (max(backoff.full_jitter(step), 0.5) for step in steps)


def retry_after(response: requests.Response) -> float | None:
    """Seconds of a `Retry-After` header, which is a number or an HTTP date.

    A date is compared with the `Date` header of the same answer, so that a wrong clock on either side does not matter.
    """
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
        sent = response.headers.get("Date")
        now = parsedate_to_datetime(sent).timestamp() if sent else time.time()
        return max(until.timestamp() - now, 0.0)
    except (TypeError, ValueError):
        return None
