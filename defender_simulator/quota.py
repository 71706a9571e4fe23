"""The API's quota: so many calls in any minute and in any hour, per app, over all endpoints."""

from __future__ import annotations

import math
from collections import deque

from defender_simulator.rules import quota_text


class QuotaExceededError(Exception):
    """`wait` is in whole seconds, rounded up."""

    def __init__(self, limit: int, window: float, wait: float) -> None:
        self.wait = math.ceil(wait)
        super().__init__(quota_text(limit, window, self.wait))


class Quota:
    """Exact sliding windows over times of arrival; a call leaves a window when it is exactly as old as the window.

    Microsoft's key is Destination+TenantID+AppID. Whether the destination is one endpoint or the whole API is not
    documented: this is the stricter reading.
    """

    def __init__(self, windows: list[tuple[int, float]], *, count_rejected: bool) -> None:
        """Takes windows as (calls, seconds)."""
        self._windows = windows
        self._count_rejected = count_rejected
        self._arrivals: dict[str, deque[float]] = {}

    def admit(self, client_id: str, now: float) -> None:
        """Counts a call that arrives now.

        Raises:
            QuotaExceededError: when a window is full.
        """
        arrivals = self._arrivals.setdefault(client_id, deque(maxlen=max(limit for limit, _ in self._windows)))
        full = [
            (arrivals[-limit] + seconds - now, limit, seconds)
            for limit, seconds in self._windows
            if len(arrivals) >= limit and now - arrivals[-limit] < seconds
        ]
        if not full or self._count_rejected:
            arrivals.append(now)
        if full:
            wait, limit, seconds = max(full)
            raise QuotaExceededError(limit, seconds, wait)

    def take_back(self, client_id: str, arrived: float) -> None:
        """A call that was answered with 429 after all is not counted, unless rejected calls are."""
        if not self._count_rejected:
            self._arrivals[client_id].remove(arrived)
