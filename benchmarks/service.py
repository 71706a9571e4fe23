"""The simulator in a process of its own, so that it shares neither interpreter lock nor memory with a client.

`python -m benchmarks.service LOAD` prints its settings as one line of JSON. For each line on stdin it prints what it
has seen since the last one, and it serves until stdin closes.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from benchmarks.fast_clock import FastClock
from benchmarks.workload import make_tenant
from defender_simulator import Simulator

if TYPE_CHECKING:
    from types import TracebackType

    from defender_simulator import Call

ROOT = Path(__file__).parents[1]
_DAY = 86_400


@dataclass(frozen=True)
class Load:
    """What the service holds, how slow it is, and what it allows. Seconds are those of its clock.

    Attributes:
        results: Results to read, of so many `size` bytes each.
        link_latency: Shortest and longest time to an answer of the API; likewise `blob_latency`.
        calls_per_minute: In any window of a minute; likewise `calls_per_hour`.
        factor: The service's clock goes so many times as fast as the real one.
    """

    results: int
    size: int = 20_000
    link_latency: tuple[float, float] = (0.15, 0.4)
    blob_latency: tuple[float, float] = (0.1, 0.6)
    calls_per_minute: int = 100
    calls_per_hour: int = 1500
    factor: float = 1.0

    @property
    def calls(self) -> int:
        """The fewest that bring every result."""
        return self.results + 1


@dataclass(frozen=True)
class Seen:
    """What the service has seen.

    Attributes:
        throttled: How often it answered 429.
        calls: When it took a call of its API, in seconds since the first one; likewise `blobs`.
    """

    list_calls: int
    link_calls: int
    downloads: int
    throttled: int
    calls: list[float]
    blobs: list[float]

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.list_calls, self.link_calls, self.downloads


class Service:
    """A context manager around the process."""

    def __init__(self, load: Load, seed: int = 0) -> None:
        self.load = load
        self._command = [sys.executable, "-m", "benchmarks.service", json.dumps({"seed": seed, **asdict(load)})]
        self.settings: dict[str, Any] = {}
        self.environment: dict[str, str] = {}

    def seen(self) -> Seen:
        """What it has seen since it was asked before."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Seen(**self._read())

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=ROOT
        )
        started = self._read()
        self.settings, self.environment = started["settings"], started["environment"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # it closes stdin first

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The simulated service has ended (exit code {self._process.wait()}).")
        return json.loads(line)


def main() -> None:
    given = json.loads(sys.argv[1])
    seed = given.pop("seed")
    load = Load(**given)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; stdin tells when to stop
    simulator = Simulator(
        make_tenant(load.results, load.size),
        calls_per_minute=load.calls_per_minute,
        calls_per_hour=load.calls_per_hour,
        token_lifetime=_DAY,  # not every client renews its token
        api_latency=_real(load.link_latency, load.factor),
        blob_latency=_real(load.blob_latency, load.factor),
        clock=FastClock(time.time, load.factor),
        seed=seed,
    )
    with simulator:
        print(json.dumps({"settings": simulator.settings(), "environment": simulator.environment()}), flush=True)
        for _ in sys.stdin:
            print(json.dumps(asdict(_seen(simulator.log))), flush=True)
            simulator.clear_log()


def _real(latency: tuple[float, float], factor: float) -> tuple[float, float]:
    low, high = latency
    return low / factor, high / factor


def _seen(log: list[Call]) -> Seen:
    counts = Counter(call.endpoint for call in log)
    taken = [call.arrived for call in log if call.endpoint in {"list", "get", "link"} and call.status != 429]
    start = min(taken, default=0.0)
    return Seen(
        list_calls=counts["list"],
        link_calls=sum(call.endpoint == "link" and call.status != 429 for call in log),
        downloads=counts["blob"],
        throttled=sum(call.status == 429 for call in log),
        calls=[arrived - start for arrived in taken],
        blobs=[call.arrived - start for call in log if call.endpoint == "blob"],
    )


if __name__ == "__main__":
    main()
