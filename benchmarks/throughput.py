"""100 calls at latencies as in the field: how long a usual run takes, and what one result costs in calls."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.clients import NAIVE, PLAIN, TAP, Client
from benchmarks.measuring import Run, measuring, side_by_side
from benchmarks.report import Row, Section, number, times
from benchmarks.service import Load

if TYPE_CHECKING:
    from collections.abc import Callable

BAR = 5.0


def measure(*, quick: bool, repeat: int) -> Section:
    load = Load(20, link_latency=(0.015, 0.04), blob_latency=(0.01, 0.06)) if quick else Load(99)
    runs: dict[Client, list[Run]] = {client: [] for client in (NAIVE, PLAIN, TAP)}
    for seed in range(repeat):
        for client, run in side_by_side(partial(_once, load=load, seed=seed)).items():
            runs[client].append(run)
            print(f"{load.results} results, {client.name}: {run.wall_seconds:.1f} s", file=sys.stderr)
    walls = {client: [run.wall_seconds for run in runs[client]] for client in runs}
    ratio = min(median(walls[NAIVE]), median(walls[PLAIN])) / median(walls[TAP])
    seconds = [f"{median(each):.1f} ({min(each):.1f}-{max(each):.1f})" for each in walls.values()]
    rows = [
        Row("time, s", seconds, times(ratio), *(() if quick else (f"at least {BAR:g}x", ratio >= BAR))),
        Row(
            "link calls per result",
            _each(runs, lambda run: number(run.seen.link_calls / load.results, 2)),
            "",
            "1.00",
            all(run.seen.link_calls == load.results for run in runs[TAP]),
        ),
        Row("list calls", _each(runs, lambda run: str(run.seen.list_calls))),
        Row(
            "answers 429",
            _each(runs, lambda run: str(run.seen.throttled)),
            "",
            "0",
            not any(run.seen.throttled for run in runs[TAP]),
        ),
    ]
    caption = (
        f"{load.results} results of {load.size // 1000} KB: with the list call, all the calls of a minute. Link "
        f"{_milliseconds(load.link_latency)} ms, blob {_milliseconds(load.blob_latency)} ms. Time of the whole "
        f"process, medians of {repeat} (fastest-slowest). All clients at the same time, each with a service of its own."
    )
    details: dict[str, Any] = {
        client.name: [{key: value for key, value in asdict(run).items() if key != "outputs"} for run in runs[client]]
        for client in runs
    }
    return Section(f"{load.results} results", caption, rows, details)


def _once(client: Client, load: Load, seed: int) -> Run:
    with measuring(client, load, seed) as measurement:
        run = measurement.run()
        measurement.check_results(run)
        measurement.check_calls(run, (1, load.results, load.results))
    return run


def _each(runs: dict[Client, list[Run]], figure: Callable[[Run], str]) -> list[str]:
    """Of the first run: the same in every run, or it would have been an error."""
    return [figure(runs[client][0]) for client in (NAIVE, PLAIN, TAP)]


def _milliseconds(latency: tuple[float, float]) -> str:
    return "-".join(f"{seconds * 1000:.0f}" for seconds in latency)
