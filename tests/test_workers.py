from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tap_defender_lr.errors import InterruptedRunError, TimeIsUpError
from tap_defender_lr.lifetime import Lifetime
from tap_defender_lr.workers import OrderedWindow, finished, start, take

if TYPE_CHECKING:
    from concurrent.futures import Future


def test_results_come_in_order_with_so_many_worked_on_and_as_many_finished_ahead() -> None:
    begun: list[int] = []
    events = [threading.Event() for _ in range(20)]

    def begin(item: int) -> Future[int]:
        begun.append(item)
        return start(lambda: (events[item].wait(5), item * item)[1])

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
