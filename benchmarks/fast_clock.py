"""Runs a program on a clock that goes so many times as fast: an hour's wait takes it 3,600 / FACTOR seconds.

Usage: python -m benchmarks.fast_clock FACTOR (SCRIPT | -m MODULE) [ARGUMENT...]

The program is what it always is; only what it asks the time of, and sleeps by, is another clock. `FastClock` is the
same for the simulated service.
"""

from __future__ import annotations

import runpy
import sys
import threading  # noqa: F401  it keeps the real clock: its locks wait in real time
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class FastClock:
    """`clock`, but so many times as fast from now on."""

    def __init__(self, clock: Callable[[], float], factor: float) -> None:
        self._clock = clock
        self._factor = factor
        self._start = clock()

    def __call__(self) -> float:
        return self._start + (self._clock() - self._start) * self._factor


def main() -> None:
    factor = float(sys.argv[1])
    is_module = sys.argv[2] == "-m"
    sys.argv = sys.argv[3 if is_module else 2 :]
    sleep = time.sleep
    time.time = FastClock(time.time, factor)
    time.monotonic = FastClock(time.monotonic, factor)
    time.sleep = lambda seconds: sleep(float(seconds) / factor)
    if is_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
