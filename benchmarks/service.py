"""The simulator in a process of its own, so that it shares neither interpreter lock nor memory with a client.

`python -m benchmarks.service` prints its settings as one line of JSON and serves until stdin closes. Then it prints
what it has seen as a second line.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from benchmarks.workload import make_tenant
from defender_simulator import Simulator

if TYPE_CHECKING:
    from types import TracebackType

    from defender_simulator import Call

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Load:
    """What the service holds and how slow it is.

    Attributes:
        results: Results to read.
        link_latency: Shortest and longest time to an answer of the API, in seconds; likewise `blob_latency`.
    """

    results: int
    link_latency: tuple[float, float]
    blob_latency: tuple[float, float]


class Service:
    """A context manager around the process. After the block, `seen` holds what the service has seen."""

    def __init__(self, load: Load, seed: int) -> None:
        self._command = [
            *(sys.executable, "-m", "benchmarks.service", f"--results={load.results}", f"--seed={seed}"),
            *("--link-latency", *map(str, load.link_latency), "--blob-latency", *map(str, load.blob_latency)),
        ]
        self.settings: dict[str, Any] = {}
        self.environment: dict[str, str] = {}
        self.seen: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=ROOT
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The simulated service did not start (exit code {self._process.wait()}).")
        started = json.loads(line)
        self.settings, self.environment = started["settings"], started["environment"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        output, _ = self._process.communicate()  # it closes stdin first
        if error is None:
            self.seen = json.loads(output)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--results", type=int, default=99)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--link-latency", type=float, nargs=2, default=(0.15, 0.4), metavar=("LOW", "HIGH"))
    parser.add_argument("--blob-latency", type=float, nargs=2, default=(0.1, 0.6), metavar=("LOW", "HIGH"))
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; stdin tells when to stop
    simulator = Simulator(
        make_tenant(options.results),
        api_latency=tuple(options.link_latency),
        blob_latency=tuple(options.blob_latency),
        seed=options.seed,
    )
    with simulator:
        print(json.dumps({"settings": simulator.settings(), "environment": simulator.environment()}), flush=True)
        sys.stdin.read()
    print(json.dumps(_seen(simulator.log)), flush=True)


def _seen(log: list[Call]) -> dict[str, Any]:
    counts = Counter(call.endpoint for call in log)
    links = [call.arrived for call in log if call.endpoint == "link"]
    blobs = [call.arrived for call in log if call.endpoint == "blob"]
    return {
        "list_calls": counts["list"],
        "link_calls": counts["link"],
        "downloads": counts["blob"],
        "throttled": sum(call.status == 429 for call in log),
        "fetch_seconds": max(blobs) - min(links) if links and blobs else 0.0,
    }


if __name__ == "__main__":
    main()
