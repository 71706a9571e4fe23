"""Faults: what a test wants to go wrong, for which requests, how often."""

from __future__ import annotations

import json
import math
from dataclasses import KW_ONLY, dataclass, field
from email.utils import formatdate
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from starlette.responses import Response

from defender_simulator.calls import ENDPOINTS
from defender_simulator.streaming import Streamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Unset(Enum):
    """Tells "no value given" from the value None."""

    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(eq=False)
class Rule:
    """A fault. The first live rule in `Simulator.rules` that matches a request takes it.

    Requests that the API refuses by itself, for their token or for the quota, never reach a rule. What a rule answers
    counts against the quota like any other call, unless it is a 429.

        Rule("link", 503, times=2)                             # the first two link calls fail
        Rule("list", 500, "<html>Bad gateway</html>")          # an error page instead of JSON
        Rule("link", times=1, **throttled(8))                  # wait 8 seconds, says the service
        Rule("blob", action_id=guid, index=0, cut=100)         # a download that breaks off
        Rule("link", value=None)                               # an answer without a link

    Attributes:
        endpoint: `discovery`, `token`, `devicecode`, `identity`, `list`, `get`, `link`, `blob` or `unknown`.
        status: Answer with this status instead of the normal answer. With a `body` only, the status is 200.
        body: Bytes and text are sent as they are, anything else as JSON.
        headers: Laid over those of the answer; the value None takes a header away. A callable gets the simulator's time
            when the answer is made.
        action_id: Only requests about this machine action (get, link, blob).
        index: Only requests about this command (link, blob).
        if_range: Only requests with (True) or without (False) a Range header, or Azure's x-ms-range.
        times: How often the rule fires; None: always.
        after: How many matching requests pass it untouched first.
        delay: Seconds to wait before going on.
        drop: Close the connection without an answer.
        cut: Close the connection after so many bytes of the body; Content-Length, if any, still tells the full size.
        value: Replaces the link in a link answer: None, "", a list, another URL.
        drip: Seconds between the single bytes of the body.
        transform: Changes the body of the normal answer, but not of one that is made in pieces (`Result.pieces`).
        seen: How many matching requests reached the rule.
        fired: How many of them it took.
    """

    endpoint: str
    status: int | None = None
    body: Any = None
    headers: Mapping[str, str | None] | Callable[[float], Mapping[str, str | None]] | None = None
    _: KW_ONLY
    action_id: str | None = None
    index: int | None = None
    if_range: bool | None = None
    times: int | None = None
    after: int = 0
    delay: float = 0.0
    drop: bool = False
    cut: int | None = None
    value: Any = UNSET
    drip: float | None = None
    transform: Callable[[bytes], bytes] | None = None
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.endpoint not in ENDPOINTS:
            raise ValueError(f"no endpoint {self.endpoint!r}; there are {', '.join(ENDPOINTS)}")

    def takes(self, endpoint: str, action_id: str | None, index: int | None, *, ranged: bool) -> bool:
        """Whether the rule fires for this request; counts it."""
        if endpoint != self.endpoint or (self.index is not None and index != self.index):
            return False
        if self.action_id is not None and (action_id or "").lower() != self.action_id.lower():
            return False
        if self.if_range is not None and ranged != self.if_range:
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.fired >= self.times):
            return False
        self.fired += 1
        return True

    def canned_answer(self) -> Response | None:
        """The answer that replaces the normal one, if the rule has one."""
        if self.status is None and self.body is None:
            return None
        if self.body is None or isinstance(self.body, (bytes, str)):
            content, media_type = self.body, "text/html" if self.body else None
        else:
            content, media_type = json.dumps(self.body), "application/json"
        return Response(content, status_code=self.status or 200, media_type=media_type)

    def bend(self, response: Response, now: float) -> None:
        """Lays what the rule says about the value, the body and the headers over an answer."""
        if not isinstance(response, Streamed):
            self._bend_body(response)
        for name, value in ((self.headers(now) if callable(self.headers) else self.headers) or {}).items():
            if value is None:
                del response.headers[name]
            else:
                response.headers[name] = value

    def _bend_body(self, response: Response) -> None:
        body = bytes(getattr(response, "body", b""))
        if self.value is not UNSET and response.status_code == 200:
            body = json.dumps({**json.loads(body), "value": self.value}).encode()
        if self.transform is not None:
            body = self.transform(body)
        if body != getattr(response, "body", b""):
            response.body = body
            response.headers["content-length"] = str(len(body))


def first_taker(
    rules: Iterable[Rule], endpoint: str, action_id: str | None, index: int | None, *, ranged: bool
) -> Rule | None:
    return next((rule for rule in rules if rule.takes(endpoint, action_id, index, ranged=ranged)), None)


def quota_text(limit: int, window: float, wait: int) -> str:
    """What a real 429 of Defender says; windows are written hh:mm:ss."""
    hours, seconds = divmod(math.ceil(window), 3600)
    span = f"{hours:02}:{seconds // 60:02}:{seconds % 60:02}"
    return (
        f"API calls quota exceeded! Maximum allowed {limit} per {span} for the key Destination+TenantID+AppID. "
        f"You can send requests again in {wait} seconds."
    )


def throttled(
    seconds: int, header: Literal["seconds", "date"] | None = "seconds", *, in_text: bool = True
) -> dict[str, Any]:
    """Arguments of a rule that answers 429: `Rule("link", times=1, **throttled(8))`.

    Args:
        seconds: How long to wait, as told to the client. The simulator itself does not enforce it.
        header: Form of the Retry-After header: a number, an HTTP date, or no such header.
        in_text: Whether the message tells the seconds, too.
    """
    message = quota_text(100, 60, seconds) if in_text else "API calls quota exceeded!"

    def headers(now: float) -> dict[str, str]:
        if header is None:
            return {}
        return {"Retry-After": str(seconds) if header == "seconds" else formatdate(now + seconds, usegmt=True)}

    return {"status": 429, "body": {"error": {"code": "429", "message": message}}, "headers": headers}
