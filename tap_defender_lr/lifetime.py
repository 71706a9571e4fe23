"""When a run has to end: a signal asked for it, or `max_run_minutes` is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tap_defender_lr.errors import InterruptedRunError, TimeIsUpError

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_EVERY = 0.2
"""Seconds between two looks for a signal. The signal handler sets a plain attribute, since setting a
`threading.Event` from a handler can deadlock with a main thread that holds the event's lock."""


class Lifetime:
    """Shared by all threads of a run; every wait of the tap goes through `wait`.

    Args:
        max_seconds: Length of the run, or None for no limit.
        clock: Monotonic seconds.
        sleep: Replaced in tests.
    """

    def __init__(
        self,
        max_seconds: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.signal_number: int | None = None
        self._is_ended = False
        self._clock = clock
        self._sleep = sleep
        self.refused_seconds = 0.0
        """Length of the last wait that was not begun, since it would have ended too late."""
        self.end_in(max_seconds)

    def end_in(self, max_seconds: float | None) -> None:
        """The run ends so many seconds from now, or not by itself."""
        self._end = None if max_seconds is None else self._clock() + max_seconds

    def seconds_left(self) -> float:
        """Seconds until `max_run_minutes` is over, infinite without the setting."""
        return float("inf") if self._end is None else self._end - self._clock()

    def end(self) -> None:
        """The process is about to end: workers stop as after a signal."""
        self._is_ended = True

    def raise_if_interrupted(self) -> None:
        if self.signal_number is not None or self._is_ended:
            raise InterruptedRunError

    def raise_if_over(self) -> None:
        """Called before work is started.

        Raises:
            InterruptedRunError: A signal came.
            TimeIsUpError: `max_run_minutes` is over.
        """
        self.raise_if_interrupted()
        if self.seconds_left() <= 0:
            raise TimeIsUpError

    def wait(self, seconds: float) -> None:
        """Wait so many seconds, or not at all when the run is over before the wait is.

        Raises:
            InterruptedRunError: A signal came.
            TimeIsUpError: `max_run_minutes` ends first, so that waiting is of no use.
        """
        self.raise_if_interrupted()
        if self.seconds_left() < seconds:
            self.refused_seconds = seconds
            raise TimeIsUpError
        self.pause(seconds)

    def pause(self, seconds: float) -> None:
        """A short wait in the middle of work, which is finished whatever `max_run_minutes` says.

        Raises:
            InterruptedRunError: A signal came.
        """
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0:
            self._sleep(min(left, _LOOK_EVERY))
            self.raise_if_interrupted()
