"""The Defender API: list machine actions, get one, ask for the download link of a result.

Every call, repetitions included, goes through the ledger. What an answer means is decided in one table (`_MEANING`),
what is done about it in one loop (`_get`).
"""

from __future__ import annotations

import enum
import logging
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tap_defender_lr.errors import (
    CallsSpentError,
    NotFoundError,
    PermissionDeniedError,
    ReadFailedError,
    ServiceError,
    SignInError,
)
from tap_defender_lr.machine_action import LIVE_RESPONSE
from tap_defender_lr.redaction import redact
from tap_defender_lr.text import clean_text, parse_json
from tap_defender_lr.transport import (
    CONNECT_SECONDS,
    READ_SECONDS,
    Authorization,
    describe,
    new_session,
    pauses,
    read_body,
    retry_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import requests

    from tap_defender_lr.auth import Credential
    from tap_defender_lr.lifetime import Lifetime
    from tap_defender_lr.quota.ledger import Ledger

PAGE_SIZE = 10_000
"""The most that `$top` may ask for (Microsoft, get-machineactions-collection)."""
_MAX_PAGE_BYTES = 256 * 1024 * 1024
_MAX_ENTITY_BYTES = 16 * 1024 * 1024
_PAGE_SECONDS = 300.0
_ENTITY_SECONDS = 60.0
_MAX_TRIES = 5
_MAX_SERVER_PAUSE_SECONDS = 120.0

logger = logging.getLogger(__name__)


class _Meaning(enum.Enum):
    """What an answer of the API asks for."""

    TAKE = "take it"
    RENEW = "renew the token, once"
    DENY = "stop: a permission is missing"
    ABSENT = "there is no such thing"
    THROTTLE = "everybody waits"
    REPEAT = "try again a little later"
    NOT_SENT = "ask the ledger again"
    REFUSE = "stop: the service does not want this request"


_MEANING = {
    200: _Meaning.TAKE,
    401: _Meaning.RENEW,
    403: _Meaning.DENY,
    408: _Meaning.REPEAT,
    429: _Meaning.THROTTLE,
}


@dataclass(frozen=True)
class _Request:
    """A GET of the API, with bounds for its answer."""

    path: str
    query: Mapping[str, str]
    max_bytes: int
    seconds: float
    wait: Callable[[float], None]


@dataclass(frozen=True)
class _Answer:
    """What came back: its meaning, the reason in words, and what else the meaning needs."""

    meaning: _Meaning
    reason: str
    document: dict[str, Any] = field(default_factory=dict)
    retry_after: float = 0.0
    token: str = ""


class DefenderClient:
    """Safe to use from several threads."""

    def __init__(
        self, api_url: str, credential: Credential, ledger: Ledger, lifetime: Lifetime, *, connections: int = 10
    ) -> None:
        self._api_url = api_url
        self._credential = credential
        self._ledger = ledger
        self._lifetime = lifetime
        self._session = new_session(connections)
        self._counting = threading.Lock()
        self.calls = 0
        """Calls made so far."""
        self.most_calls: int | None = None
        """How many may be made at most, retries included."""

    def machine_actions(self, created_from: str | None) -> Iterator[dict[str, Any]]:
        """All Live Response actions created at or after a time, or all that the service has; some may come twice.

        Only documented filter fields are used. Pages overlap a little, so that rows that move up while pages are read
        are not lost. A next-page link is never followed: it may lead to another host, and the token must not.

        Raises:
            ServiceError: The listing cannot be read.
        """
        condition = f"type eq '{LIVE_RESPONSE}'"
        if created_from is not None:
            condition += f" and creationDateTimeUtc ge {created_from[:19]}Z"
        skip, seen = 0, set[str]()
        while True:
            query = {"$filter": condition, "$top": str(PAGE_SIZE), "$skip": str(skip)}
            try:
                page = self._get("/api/machineactions", query, max_bytes=_MAX_PAGE_BYTES, seconds=_PAGE_SECONDS)
            except (NotFoundError, ReadFailedError) as error:
                raise ServiceError(f"The list of machine actions cannot be read: {error}.") from None
            if not isinstance(page.get("value"), list):
                raise ServiceError("The list of machine actions cannot be read: the answer holds no list.")
            rows = [row for row in page["value"] if isinstance(row, dict)]
            known, number = len(seen), len(page["value"])
            is_last = number < PAGE_SIZE and not page.get("@odata.nextLink")
            seen.update(str(row.get("id")) for row in rows)
            yield from rows
            del page, rows  # the next page is as large
            if is_last:
                return
            if len(seen) == known:
                raise ServiceError("The list of machine actions cannot be read: the service sends the same page again.")
            skip += number - number // 100

    def machine_action(self, action_id: str) -> dict[str, Any]:
        """One machine action.

        Raises:
            NotFoundError: The service does not know it.
            ReadFailedError: It could not be read.
        """
        return self._get(f"/api/machineactions/{action_id}")

    def download_link(self, action_id: str, command_index: int, *, begun: bool = False) -> str:
        """A fresh link to the result of a command: a credential, good for 30 minutes.

        Args:
            action_id: Of the machine action.
            command_index: Of the command in it.
            begun: A part of the result is here, so the end of `max_run_minutes` does not stop it.

        Raises:
            NotFoundError: The service has no result, or no usable link.
            ReadFailedError: The service kept failing.
        """
        # Parentheses and "=" literally, as Microsoft documents the path.
        path = f"/api/machineactions/{action_id}/GetLiveResponseResultDownloadLink(index={command_index})"
        value = self._get(path, wait=self._lifetime.pause if begun else None).get("value")
        if not isinstance(value, str) or not value.strip():
            raise NotFoundError(f"the service answered with {_kind(value)} instead of a download link")
        link = value.strip()
        if "&amp;" in link:  # one client met links that were escaped for HTML
            link = link.replace("&amp;", "&")
        try:
            parts = urlsplit(link)
            usable = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0 and " " not in parts.netloc
        except ValueError:
            usable = False
        if not usable:
            raise NotFoundError("the service answered with a download link that is not an https address")
        return link

    def _get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        max_bytes: int = _MAX_ENTITY_BYTES,
        seconds: float = _ENTITY_SECONDS,
        wait: Callable[[float], None] | None = None,
    ) -> dict[str, Any]:
        request = _Request(path, query or {}, max_bytes, seconds, wait or self._lifetime.wait)
        waits = pauses()
        tries = throttled = 0
        refused_token: str | None = None
        reason = ""
        while True:
            if self.most_calls is not None and self.calls >= self.most_calls:
                raise CallsSpentError(reason)
            answer = self._call(request, refused_token, throttled)
            reason = answer.reason
            if answer.meaning is _Meaning.TAKE:
                return answer.document
            if answer.meaning is _Meaning.NOT_SENT:
                continue
            if answer.meaning is _Meaning.ABSENT:
                raise NotFoundError(answer.reason)
            if answer.meaning is _Meaning.DENY:
                raise PermissionDeniedError(_denied(answer.reason))
            if answer.meaning is _Meaning.REFUSE:
                resource = path.partition("(")[0]
                raise ServiceError(f"{self._api_url} refuses {resource}: {answer.reason}. Is `api_url` right?")
            if answer.meaning is _Meaning.RENEW:
                if refused_token is not None:
                    raise SignInError(
                        f"{self._api_url} refuses the access token: {answer.reason}. Check `token_scope`, and that "
                        "the tenant has an active Defender for Endpoint licence."
                    )
                refused_token = answer.token
            elif answer.meaning is _Meaning.THROTTLE:
                throttled += 1
            else:
                tries += 1
                if tries >= _MAX_TRIES:
                    raise ReadFailedError(f"{answer.reason}, {tries} times in a row")
                request.wait(max(next(waits), min(answer.retry_after, _MAX_SERVER_PAUSE_SECONDS)))

    def _call(self, request: _Request, refused_token: str | None, throttled: int) -> _Answer:
        """Send the request once, as soon as the quota allows.

        Args:
            request: What to send.
            refused_token: A token that the API has refused before.
            throttled: How often this request was throttled before.
        """
        reservation = self._ledger.acquire(request.wait)
        answered, throttled_for = False, None
        try:
            # Only now, since the wait for the quota may have taken an hour.
            token = self._credential.token(refused=refused_token)
            if reservation.is_stale:
                return _Answer(_Meaning.NOT_SENT, "the sign-in took long, or this process was stopped")
            with self._counting:
                self.calls += 1
            response = self._session.get(
                self._api_url + request.path,
                params=request.query,
                auth=Authorization(f"Bearer {token}"),
                headers={"Accept": "application/json"},
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=True,
            )
            answered = True
            if response.status_code == 429:
                throttled_for = _throttle_seconds(response, request, throttled)
        except OSError as error:  # requests' own errors, and a bundle of authorities that is not there
            return _Answer(_Meaning.REPEAT, describe(error))
        finally:
            # The headers are in, or nothing is: either way the call has reached the service by now.
            self._ledger.settle(reservation, answered=answered, throttled_for=throttled_for)
        if throttled_for is not None:
            return _Answer(_Meaning.THROTTLE, "status 429")
        with response:
            try:
                body = read_body(response, max_bytes=request.max_bytes, seconds=request.seconds)
            except ReadFailedError as error:
                return _Answer(_Meaning.REPEAT, str(error))
        status = response.status_code
        # What else the service may answer for an odd command is not documented: it concerns only that command.
        others = _Meaning.REPEAT if status >= 500 else _Meaning.ABSENT if status >= 400 else _Meaning.REFUSE
        meaning = _MEANING.get(status, others)
        document = _document(body)
        if meaning is _Meaning.TAKE and document is None:
            return _Answer(_Meaning.REPEAT, "the answer is not JSON")
        return _Answer(meaning, _explain(status, document), document or {}, retry_after(response) or 0.0, token)


def _throttle_seconds(response: requests.Response, request: _Request, throttled: int) -> float:
    """How long everybody waits: the header, or the sentence in the text, or a guess that doubles."""
    asked = retry_after(response)
    if asked is None:
        try:
            body = read_body(response, max_bytes=request.max_bytes, seconds=request.seconds)
        except ReadFailedError:
            body = b""
        found = re.search(rb"in (\d{1,6}) second", body)
        asked = float(found[1]) if found else min(5.0 * 2**throttled, 600.0)
    response.close()
    logger.warning("The service throttles (status 429): no calls for %.0f s.", max(asked, 1.0))
    return max(asked, 1.0)


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = parse_json(body.decode("utf-8-sig", errors="replace"))
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _explain(status: int, document: Mapping[str, Any] | None) -> str:
    """Status, code and message of an error in one line; gateways send HTML, of which only the status is of use."""
    error = (document or {}).get("error")
    error = error if isinstance(error, dict) else {}
    code, message = error.get("code"), error.get("message")
    text = f"status {status}"
    if isinstance(code, str) and code and code != str(status):
        text += f" {code}"
    if isinstance(message, str) and message.strip() and "<" not in message:
        text += f": {message}"
    return redact(clean_text(" ".join(text.split())))[:500].rstrip(".")


def _denied(reason: str) -> str:
    roles = re.search(r"API required roles: ([\w.,\s]+?), application roles", reason)
    role = "Machine.ReadWrite.All"
    named = f" (it names {' or '.join(roles[1].replace(' ', '').split(','))})" if roles else ""
    return (
        f"The API denies access: {reason}. Grant the app the application permission {role} of WindowsDefenderATP"
        f"{named} in its app registration, give admin consent, and wait a few minutes."
    )


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds: dict[type, str] = {str: "an empty text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "something else")
