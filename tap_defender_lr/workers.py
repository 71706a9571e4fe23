"""Work on daemon threads, taken back in order by the one thread that writes records and state.

Daemon threads, because those of a `ThreadPoolExecutor` are joined when the interpreter exits, and a download that
hangs would then hold up the exit for a minute.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from tap_defender_lr.errors import TapError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tap_defender_lr.lifetime import Lifetime

_T = TypeVar("_T")
_R = TypeVar("_R")
_AHEAD = 8
"""How many results may wait for their turn beyond the ones that are worked on."""
_AHEAD_BYTES = 64 * 1024 * 1024
"""When those hold more than this, no more work is begun."""
_REACH = 500
"""How far behind a long item others are handed out: the state has to remember each of them."""
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


@dataclass(eq=False)
class _Entry(Generic[_T, _R]):
    """An item between its begin and its turn; a long one may still wait for its begin."""

    item: _T
    number: int
    is_long: bool
    future: Future[_R] | None = None
    is_done: bool = False
    held: int = 0


class OrderedWindow(Generic[_T, _R]):
    """Iterates over (item, finished future) in the order of the items while later ones are already worked on.

    Long items (files of gigabytes) hold up nobody: they take half of the workers at most, and what is finished behind
    one is handed out, up to `_REACH` items further on.

    Args:
        items: What is to be done.
        begin: Begins the work on one item.
        size: How many items are worked on at the same time. A few more may be finished and wait for their turn, so
            that one slow result does not leave the others idle.
        lifetime: A signal ends the iteration.
        tick: Called now and then while waiting.
        is_long: Whether an item is a long one.
        held: Bytes that a finished item holds while it waits for its turn.
    """

    def __init__(
        self,
        items: Iterable[_T],
        begin: Callable[[_T], Future[_R]],
        *,
        size: int,
        lifetime: Lifetime,
        tick: Callable[[], None] = lambda: None,
        is_long: Callable[[_T], bool] = lambda _: False,
        held: Callable[[_R], int] = lambda _: 0,
    ) -> None:
        self._items = enumerate(items)
        self._begin = begin
        self._size = size
        self._lifetime = lifetime
        self._tick = tick
        self._is_long = is_long
        self._held = held
        self._next_number = 0
        self._closed = False
        self._entries: deque[_Entry[_T, _R]] = deque()
        self._news = threading.Event()
        """Some work has ended since it was looked for."""

    def close(self) -> None:
        """Begin no more items; those that were begun are still handed out."""
        self._closed = True
        self._entries = deque(entry for entry in self._entries if entry.future is not None)

    def __iter__(self) -> Iterator[tuple[_T, Future[_R]]]:
        """Hand out one item after the other.

        Raises:
            InterruptedRunError: A signal came.
        """
        while True:
            self._fill()
            if not self._entries:
                return
            entry = self._next_turn()
            self._lifetime.raise_if_interrupted()
            if entry is not None and entry.future is not None:
                self._entries.remove(entry)
                yield entry.item, entry.future
            else:
                self._tick()
                self._news.wait(_LOOK_EVERY)

    def _next_turn(self) -> _Entry[_T, _R] | None:
        """The first one that is done, if only long ones are before it."""
        for entry in self._entries:
            if entry.is_done:
                return entry
            if not entry.is_long:
                break
        return None

    def _fill(self) -> None:
        """Begin as many items as there is room for."""
        self._news.clear()
        for entry in self._entries:
            self._look_at(entry)
        while not self._closed and self._has_room():
            begun = self._next_entry()
            if begun is None:
                break
            begun.future = self._begin(begun.item)
            begun.future.add_done_callback(lambda _: self._news.set())
            self._look_at(begun)

    def _look_at(self, entry: _Entry[_T, _R]) -> None:
        """See whether the work on an item has ended."""
        if entry.is_done or entry.future is None or not entry.future.done():
            return
        entry.is_done = True
        error = entry.future.exception()
        if error is None:
            entry.held = self._held(entry.future.result())
        elif isinstance(error, TapError):
            # What ends the run is raised when its turn comes; until then it must not cost further calls.
            self.close()

    def _has_room(self) -> bool:
        begun = [entry for entry in self._entries if entry.future is not None]
        working = sum(not entry.is_done for entry in begun)
        held = sum(entry.held for entry in begun)
        return working < self._size and len(begun) < self._size + _AHEAD and held < _AHEAD_BYTES

    def _next_entry(self) -> _Entry[_T, _R] | None:
        """The next item to begin: a long one that was passed over, if its time has come, or a new one."""
        working = sum(entry.is_long and entry.future is not None and not entry.is_done for entry in self._entries)
        may_be_long = working < max(self._size // 2, 1)
        if may_be_long:
            passed_over = next((entry for entry in self._entries if entry.future is None), None)
            if passed_over is not None:
                return passed_over
        while not self._entries or self._next_number - self._entries[0].number < _REACH:
            found = next(self._items, None)
            if found is None:
                return None
            entry: _Entry[_T, _R] = _Entry(found[1], found[0], self._is_long(found[1]))
            self._next_number = found[0] + 1
            self._entries.append(entry)
            if may_be_long or not entry.is_long:
                return entry
        return None
