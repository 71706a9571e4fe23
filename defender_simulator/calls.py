"""The log: every request that reached one of the servers, in the order of arrival."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal, get_args

Endpoint = Literal["discovery", "token", "devicecode", "identity", "list", "get", "link", "blob", "unknown"]
ENDPOINTS: tuple[str, ...] = get_args(Endpoint)


@dataclass(frozen=True)
class Call:
    """One request, and how it was answered.

    Attributes:
        arrived: Time of the simulator's clock, in seconds.
        path: As it came over the wire, percent-escapes untouched; so is `query`.
        headers: Names in lower case.
        status: The status answered; 0 while the answer is under way, and for ever when the connection was dropped.
        client_id: The app whose valid token came along, within its quota. API calls only.
    """

    endpoint: str
    arrived: float
    path: str
    query: str
    headers: dict[str, str]
    status: int = 0
    action_id: str | None = None
    index: int | None = None
    client_id: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the service counted the call against the app's quota."""
        return self.client_id is not None and self.status != 429


class CallLog:
    """Written by the servers' thread, read by any other."""

    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}
        self._numbers = count()
        self._lock = threading.Lock()

    def add(self, call: Call) -> int:
        number = next(self._numbers)
        with self._lock:
            self._calls[number] = call
        return number

    def update(self, number: int, **changes: Any) -> None:
        with self._lock:
            if number in self._calls:  # it may have been cleared while the answer was under way
                self._calls[number] = replace(self._calls[number], **changes)

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()

    def snapshot(self) -> list[Call]:
        with self._lock:
            return list(self._calls.values())


def worst_window(calls: list[Call], seconds: float) -> int:
    """The largest number of accepted calls of one app within any window of that length.

    Windows are half open: two calls exactly `seconds` apart are never in the same one.
    """
    arrivals: dict[str, list[float]] = {}
    for call in calls:
        if call.client_id is not None and call.accepted:
            arrivals.setdefault(call.client_id, []).append(call.arrived)
    worst = 0
    for times in arrivals.values():
        first = 0
        for last, now in enumerate(times):
            while now - times[first] >= seconds:
                first += 1
            worst = max(worst, last - first + 1)
    return worst
