"""Work on daemon threads, taken back in order by the one thread that writes records and state.

Daemon threads, because those of a `ThreadPoolExecutor` are joined when the interpreter exits, and a download that
hangs would then hold up the exit for a minute.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tap_defender_lr.lifetime import Lifetime

_T = TypeVar("_T")
_R = TypeVar("_R")
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


def take(future: Future[_R], lifetime: Lifetime, tick: Callable[[], None] = lambda: None) -> _R:
    """Wait for a worker on the main thread: a signal ends the wait at once, `tick` is called now and then.

    Raises:
        InterruptedRunError: A signal came.
        Exception: Whatever the work raised.
    """
    while not future.done():
        lifetime.raise_if_interrupted()
        tick()
        wait([future], timeout=_LOOK_EVERY)
    lifetime.raise_if_interrupted()
    return future.result()


class OrderedWindow(Generic[_T, _R]):
    """Iterates over (item, future) in the order of the items, with at most `size` of them under way."""

    def __init__(self, items: Iterable[_T], begin: Callable[[_T], Future[_R]], *, size: int) -> None:
        self._items = iter(items)
        self._begin = begin
        self._size = size
        self._closed = False
        self._under_way: deque[tuple[_T, Future[_R]]] = deque()

    def close(self) -> None:
        """Begin no more items; those under way are still handed out."""
        self._closed = True

    def __iter__(self) -> Iterator[tuple[_T, Future[_R]]]:
        while True:
            while not self._closed and len(self._under_way) < self._size:
                for item in self._items:
                    self._under_way.append((item, self._begin(item)))
                    break
                else:
                    self._closed = True
            if not self._under_way:
                return
            yield self._under_way.popleft()
