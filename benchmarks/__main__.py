"""`python -m benchmarks`: the tap beside sequential scripts, in a table.

Exit code 1 if the tap is less than `BAR` times as fast as the quicker script, or if any client did not do its work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Client, Measurement, WrongError, clients, measure
from benchmarks.service import Load
from benchmarks.workload import RESULT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

BAR = 5.0
_MOST_RESULTS = 99
_LINK_LATENCY = (0.15, 0.4)
_BLOB_LATENCY = (0.1, 0.6)

_DESCRIPTION = """\
Reads the same results from a simulated service (a process of its own, TLS, latencies as in the field) with the tap and
with the sequential script that a person would write instead, and prints the medians side by side. Each measurement has
a fresh service and a fresh ledger of calls; repetitions are interleaved. Needs about ten minutes, Linux or macOS."""

Measured = dict[str, list[Measurement]]


def main() -> int:
    options = _parser().parse_args()
    load = _load(options)
    scripts, tap, other_taps = clients()
    try:
        measured = _measure_all(
            [*scripts, tap, *other_taps],
            load,
            1 if options.quick else options.repeat,
            at_once=os.cpu_count() or 1 if options.quick else 1,
        )
    except WrongError as error:
        print(error, file=sys.stderr)
        return 1
    baseline = min(_wall(measured[script.name]) for script in scripts)
    ratio = baseline / _wall(measured[tap.name])
    Console(width=None if sys.stdout.isatty() else 120).print(_table(measured, load, baseline))
    if options.json is not None:
        _write_json(options.json, measured, load, ratio)
    if options.quick:
        print("Every client brought every result with the calls it takes. The times of a quick run mean nothing.")
        return 0
    verdict = "as it should be" if ratio >= BAR else "too slow"
    print(f"The tap is {ratio:.1f} times as fast as the quicker script; at least {BAR:g} is asked for: {verdict}.")
    return 0 if ratio >= BAR else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=_DESCRIPTION)
    parser.add_argument(
        "--results",
        type=_bounded(_MOST_RESULTS),
        metavar="N",
        help=f"results to read, at most {_MOST_RESULTS}: with the list that makes the 100 calls of a minute, "
        f"more would measure how clients wait (default: {_MOST_RESULTS})",
    )
    parser.add_argument("--repeat", type=_bounded(100), default=3, metavar="N", help="repetitions (default: 3)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="20 results, once, all clients at once, a tenth of the latency: counts only",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement to a file, too")
    return parser


def _bounded(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a number from 1 to {most}")
        return int(text)

    return parse


def _load(options: argparse.Namespace) -> Load:
    results = options.results or (20 if options.quick else _MOST_RESULTS)
    scale = 0.1 if options.quick else 1.0
    low_link, high_link = _LINK_LATENCY
    low_blob, high_blob = _BLOB_LATENCY
    return Load(results, (low_link * scale, high_link * scale), (low_blob * scale, high_blob * scale))


def _measure_all(all_clients: list[Client], load: Load, repeat: int, *, at_once: int) -> Measured:
    measured: Measured = {client.name: [] for client in all_clients}
    with ThreadPoolExecutor(at_once) as pool:
        for repetition in range(repeat):
            measurements = pool.map(partial(measure, load=load, seed=repetition), all_clients)
            for client, measurement in zip(all_clients, measurements, strict=True):
                measured[client.name].append(measurement)
                print(f"{repetition + 1}/{repeat}  {client.name}: {measurement.wall_seconds:.1f} s", file=sys.stderr)
    return measured


def _wall(measurements: list[Measurement]) -> float:
    return median(measurement.wall_seconds for measurement in measurements)


def _table(measured: Measured, load: Load, baseline: float) -> Table:
    repeat = len(next(iter(measured.values())))
    table = Table(
        title=f"{load.results} results of {RESULT_BYTES // 1000} KB, {_latency('link', load.link_latency)}, "
        f"{_latency('blob', load.blob_latency)}, " + (f"medians of {repeat}" if repeat > 1 else "one run"),
        caption="wall: the whole process (fastest and slowest run); fetch: first link request to last blob "
        "request, as the service saw them; CPU and peak memory with interpreter and imports",
    )
    table.add_column("client")
    for heading in ("wall s", "times as fast", "fetch s", "CPU s", "peak MB", "list", "link", "blob", "429"):
        table.add_column(heading, justify="right")
    for name, measurements in measured.items():
        walls = [one.wall_seconds for one in measurements]
        wall = median(walls)
        counts = measurements[0]  # the same in every run, or it would have been an error
        table.add_row(
            name,
            f"{wall:.1f} ({min(walls):.1f}-{max(walls):.1f})" if repeat > 1 else f"{wall:.1f}",
            f"{baseline / wall:.1f}",
            f"{median(one.fetch_seconds for one in measurements):.1f}",
            f"{median(one.cpu_seconds for one in measurements):.1f}",
            f"{median(one.peak_bytes for one in measurements) / 1e6:.0f}",
            *(str(n) for n in (counts.list_calls, counts.link_calls, counts.downloads, counts.throttled)),
        )
    return table


def _latency(name: str, seconds: tuple[float, float]) -> str:
    return f"{name} {seconds[0] * 1000:.0f}-{seconds[1] * 1000:.0f} ms"


def _write_json(path: Path, measured: Measured, load: Load, ratio: float) -> None:
    document = {
        "load": asdict(load),
        "python": platform.python_version(),
        "system": platform.system(),
        "ratio": ratio,
        "clients": {name: [asdict(one) for one in measurements] for name, measurements in measured.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
