from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

import pytest

from tap_defender_lr import workers
from tap_defender_lr.errors import InterruptedRunError, TapError, TimeIsUpError
from tap_defender_lr.lifetime import Lifetime
from tap_defender_lr.workers import OrderedWindow, finished, start, take

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_results_come_in_order_with_so_many_worked_on_and_as_many_finished_ahead() -> None:
    begun: list[int] = []
    events = [threading.Event() for _ in range(20)]

    def begin(item: int) -> Future[int]:
        begun.append(item)
        return start(lambda: (events[item].wait(60), item * item)[1])

    def tick() -> None:
        # The first item is slow: the others finish behind it, until 8 more than are worked on have begun.
        if begun[-1] < 10:
            events[begun[-1]].set()
        else:
            for event in events:
                event.set()

    window = OrderedWindow(range(20), begin, size=3, lifetime=Lifetime(), tick=tick)
    results = []
    for item, future in window:
        if item == 0:
            assert begun == list(range(11))
        results.append(future.result())
    assert results == [n * n for n in range(20)]


def test_a_closed_window_hands_out_what_was_begun_and_no_more() -> None:
    window = OrderedWindow(range(20), finished, size=3, lifetime=Lifetime())
    handed = []
    for item, _ in window:
        handed.append(item)
        if item == 1:
            window.close()
    assert handed == list(range(12))


def test_what_ends_the_run_lets_nothing_more_begin() -> None:
    begun: list[int] = []
    first = threading.Event()

    def begin(item: int) -> Future[int]:
        begun.append(item)
        return start(lambda: work(item))

    def work(item: int) -> int:
        if item == 1:
            raise TapError
        first.wait(60)
        return item

    def tick() -> None:
        if window._closed:
            first.set()

    window = OrderedWindow(range(20), begin, size=2, lifetime=Lifetime(), tick=tick)
    outcomes = [future.exception() for _, future in window]
    assert begun == [0, 1]
    assert [type(outcome) for outcome in outcomes] == [type(None), TapError]


def test_the_end_of_some_work_is_not_waited_for_longer_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LOOK_EVERY", 20.0)
    events = [threading.Event() for _ in range(3)]
    waits: list[int] = []

    def tick() -> None:
        waits.append(len(waits))
        events[waits[-1]].set()

    window = OrderedWindow(
        range(3), lambda n: start(lambda: events[n].wait(60)), size=1, lifetime=Lifetime(), tick=tick
    )
    begun = time.monotonic()
    assert all(future.result() for _, future in window)
    assert time.monotonic() - begun < 20


class TestLongItems:
    """Negative numbers are files of gigabytes, which end when the test says so."""

    def window(self, items: Sequence[int], *, size: int = 4, held: int = 0) -> tuple[OrderedWindow[int, int], Work]:
        work = Work()
        window = OrderedWindow(
            items,
            work.begin,
            size=size,
            lifetime=Lifetime(),
            tick=work.tick,
            is_long=lambda item: item < 0,
            held=lambda _: held,
        )
        return window, work

    def test_what_is_behind_one_is_handed_out_meanwhile(self) -> None:
        window, work = self.window([1, -2, 3, 4, 5])
        work.end_on_idle = [-2]
        assert [item for item, _ in window] == [1, 3, 4, 5, -2]

    def test_a_short_item_that_is_slow_still_holds_up_what_is_behind_it(self) -> None:
        window, work = self.window([1, -2, 3, 4, 5])
        work.blocked = {3}
        work.end_on_idle = [3, -2]
        assert [item for item, _ in window] == [1, 3, 4, 5, -2]

    def test_they_take_half_of_the_workers_at_most(self) -> None:
        window, work = self.window([-1, -2, -3, -4, 5, 6])
        work.end_on_idle = [-2, -1, -4, -3]
        assert [item for item, _ in window] == [5, 6, -2, -1, -4, -3]
        assert work.begun == [-1, -2, 5, 6, -3, -4]

    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_a_single_worker_is_enough_for_them(self, size: int) -> None:
        window, work = self.window([-1, -2, 3], size=size)
        work.end_on_idle = [-1, -2]
        assert sorted(item for item, _ in window) == [-2, -1, 3]
        assert work.begun.index(-1) < work.begun.index(-2)

    def test_they_hold_up_what_is_too_far_behind(self) -> None:
        window, work = self.window([-1, *range(1, 1000)])
        handed = []
        for item, _ in window:
            handed.append(item)
            if item == 499:
                work.end_on_idle = [-1]
        assert handed == [*range(1, 500), -1, *range(500, 1000)]

    def test_closing_forgets_those_that_have_not_begun(self) -> None:
        window, work = self.window([-1, -2, -3, 4, 5])
        work.end_on_idle = [-1, -2]
        handed = []
        for item, _ in window:
            window.close()
            handed.append(item)
        assert handed == [4, 5, -1, -2]
        assert -3 not in work.begun

    def test_nothing_is_begun_while_too_much_waits_for_its_turn(self) -> None:
        window, work = self.window(range(1, 20), held=40 * 1024 * 1024)
        work.blocked = {1}
        work.end_on_idle = [1]
        for item, _ in window:
            if item == 1:
                # Two that hold more than 64 MiB together were waiting.
                assert work.begun == [1, 2, 3]
                break


class Work:
    """Work that ends at once, but for long items and those that are `blocked`: they end one by one when all wait."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.blocked: set[int] = set()
        self.end_on_idle: list[int] = []
        self._futures: dict[int, Future[int]] = {}

    def begin(self, item: int) -> Future[int]:
        self.begun.append(item)
        self._futures[item] = Future()
        if item >= 0 and item not in self.blocked:
            self._futures[item].set_result(item)
        return self._futures[item]

    def tick(self) -> None:
        item = self.end_on_idle.pop(0)
        self._futures[item].set_result(item)


def test_an_exception_surfaces_at_its_turn() -> None:
    def fail() -> int:
        raise TimeIsUpError

    future = start(fail)
    with pytest.raises(TimeIsUpError):
        take(future, Lifetime())


def test_a_signal_ends_the_wait_for_a_worker_that_hangs() -> None:
    lifetime, hang = Lifetime(), threading.Event()

    def tick() -> None:
        lifetime.signal_number = 15

    window = OrderedWindow([1], lambda _: start(hang.wait), size=1, lifetime=lifetime, tick=tick)
    with pytest.raises(InterruptedRunError):
        next(iter(window))
    with pytest.raises(InterruptedRunError):
        take(start(hang.wait), lifetime)
    hang.set()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TestLifetime:
    def test_a_wait_takes_its_time(self) -> None:
        clock = Clock()
        Lifetime(100, clock=clock, sleep=clock.sleep).wait(60)
        assert clock.now == pytest.approx(60)

    def test_a_wait_that_would_end_too_late_is_not_begun(self) -> None:
        clock = Clock()
        lifetime = Lifetime(100, clock=clock, sleep=clock.sleep)
        with pytest.raises(TimeIsUpError):
            lifetime.wait(101)
        assert clock.now == 0

    def test_nothing_is_begun_after_the_end(self) -> None:
        clock = Clock()
        lifetime = Lifetime(100, clock=clock, sleep=clock.sleep)
        lifetime.raise_if_over()
        clock.now = 100
        with pytest.raises(TimeIsUpError):
            lifetime.raise_if_over()

    def test_a_signal_ends_an_hours_wait_at_once(self) -> None:
        clock = Clock()
        lifetime = Lifetime(clock=clock, sleep=clock.sleep)

        def sleep(seconds: float) -> None:
            clock.now += seconds
            lifetime.signal_number = 15

        lifetime._sleep = sleep
        with pytest.raises(InterruptedRunError):
            lifetime.wait(3600)
        assert clock.now < 1
