"""Work on daemon threads, taken back in order by the one thread that writes records and state.

Daemon threads, because those of a `ThreadPoolExecutor` are joined when the interpreter exits, and a download that
hangs would then hold up the exit for a minute.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Generic, TypeVar

from tap_defender_lr.errors import TapError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tap_defender_lr.lifetime import Lifetime

_T = TypeVar("_T")
_R = TypeVar("_R")
_AHEAD = 8
"""How many results may wait for their turn beyond the ones that are worked on."""
_LOOK_EVERY = 0.2
"""Seconds between two looks for a signal while waiting for a worker."""


def start(work: Callable[[], _R]) -> Future[_R]:
    """Run on a thread of its own. Threads are few (`max_concurrency`) and calls are slow: no pool is needed."""
    future: Future[_R] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  it surfaces where the result is taken
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="tap-defender-lr-worker").start()
    return future


def finished(result: _R) -> Future[_R]:
    """A result for which no work has to be done."""
    future: Future[_R] = Future()
    future.set_result(result)
    return future


def take(future: Future[_R], lifetime: Lifetime) -> _R:
    """Wait for a worker on the main thread; a signal ends the wait at once.

    Raises:
        InterruptedRunError: A signal came.
        Exception: Whatever the work raised.
    """
    while not future.done():
        lifetime.raise_if_interrupted()
        wait([future], timeout=_LOOK_EVERY)
    lifetime.raise_if_interrupted()
    return future.result()


class OrderedWindow(Generic[_T, _R]):
    """Iterates over (item, finished future) in the order of the items while later ones are already worked on.

    Args:
        items: What is to be done.
        begin: Begins the work on one item.
        size: How many items are worked on at the same time. A few more may be finished and wait for their turn, so
            that one slow result does not leave the others idle.
        lifetime: A signal ends the iteration.
        tick: Called now and then while waiting.
    """

    def __init__(
        self,
        items: Iterable[_T],
        begin: Callable[[_T], Future[_R]],
        *,
        size: int,
        lifetime: Lifetime,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._items = iter(items)
        self._begin = begin
        self._size = size
        self._lifetime = lifetime
        self._tick = tick
        self._closed = False
        self._begun: deque[tuple[_T, Future[_R]]] = deque()

    def close(self) -> None:
        """Begin no more items; those that were begun are still handed out."""
        self._closed = True

    def __iter__(self) -> Iterator[tuple[_T, Future[_R]]]:
        """Hand out one item after the other.

        Raises:
            InterruptedRunError: A signal came.
        """
        while True:
            working = self._fill()
            if not self._begun:
                return
            if self._begun[0][1].done():
                self._lifetime.raise_if_interrupted()
                yield self._begun.popleft()
            else:
                self._lifetime.raise_if_interrupted()
                self._tick()
                wait(working, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)

    def _fill(self) -> list[Future[_R]]:
        """Begin as many items as there is room for, and return those that are worked on."""
        done = [future for _, future in self._begun if future.done()]
        # What ends the run is raised when its turn comes; until then it must not cost further calls.
        self._closed = self._closed or any(isinstance(future.exception(), TapError) for future in done)
        working = [future for _, future in self._begun if future not in done]
        while not self._closed and len(working) < self._size and len(self._begun) < self._size + _AHEAD:
            try:
                item = next(self._items)
            except StopIteration:
                self._closed = True
                break
            self._begun.append((item, self._begin(item)))
            working += [self._begun[-1][1]] if not self._begun[-1][1].done() else []
        return working
