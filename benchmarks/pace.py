"""More results than the limits allow at once: how near to what is possible, on a clock that goes faster."""

from __future__ import annotations

import sys
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.clients import CLIENTS, TAP, Client
from benchmarks.measuring import Run, WrongError, measuring, side_by_side
from benchmarks.report import Row, Section, number
from benchmarks.service import Load

if TYPE_CHECKING:
    from collections.abc import Callable

BAR = 1.03
_SIZE = 1000
_LOADS = (Load(1499, _SIZE, factor=4), Load(2999, _SIZE, factor=12))
_LONG = 2000
"""More results are read once only, whatever `--repeat` says: a run takes more than five minutes."""
_QUICK = Load(59, _SIZE, calls_per_minute=10, calls_per_hour=40, factor=120)


def optimum(load: Load) -> float:
    """Seconds from the first to the last call of a client that makes each one as soon as it may."""
    hours, rest = divmod(load.calls - 1, load.calls_per_hour)
    return hours * 3600.0 + rest // load.calls_per_minute * 60.0


def measure(*, quick: bool, repeat: int) -> Section:
    rows: list[Row] = []
    details: dict[str, Any] = {}
    for load in (_QUICK,) if quick else _LOADS:
        runs: dict[Client, list[Run]] = {client: [] for client in CLIENTS}
        for seed in range(1 if load.results > _LONG else repeat):
            for client, run in side_by_side(partial(_once, load=load, seed=seed)).items():
                runs[client].append(run)
                told = f"{_minutes(max(run.seen.calls))}, {len(run.outputs):,} results"
                print(f"{load.calls:,} calls, {client.name}: {told}", file=sys.stderr)
        rows += _rows(load, runs, quick=quick)
        details[str(load.calls)] = {"optimum": optimum(load), **{each.name: _details(runs[each]) for each in CLIENTS}}
    factors = " and ".join(f"{load.factor:g} for {load.calls:,}" for load in ((_QUICK,) if quick else _LOADS))
    caption = (
        "N calls are the list call and N - 1 results. Time from the first to the last call that the service took, "
        "against the optimum 3600*floor((N-1)/1500) + 60*floor(((N-1) mod 1500)/100) s; link 150-400 ms, blob "
        "100-600 ms, 1 KB each. "
        f"Clocks of service and clients go faster (factor {factors}), so a client's own CPU time weighs so many times "
        "as much. The script waits as long as a 429 says. The plain stream has the SDK's retries, five tries in half a "
        f"minute, and no limiter. Medians of {repeat}, but {_LONG:,} results or more once; all clients at the same "
        "time, each with a service of its own."
    )
    return Section("at the limits of the service", caption, rows, details)


def _once(client: Client, load: Load, seed: int) -> Run:
    with measuring(client, load, seed) as measurement:
        # The others may give up, or be throttled: that is what is measured.
        run = measurement.run(may_fail=client is not TAP)
        if not run.errors:
            measurement.check_results(run)
        elif not run.seen.throttled:
            raise WrongError(f"{client.name} failed without having been throttled:\n{run.errors}")
        if client is TAP:
            measurement.check_calls(run, (1, load.results, load.results))
    return run


def _rows(load: Load, runs: dict[Client, list[Run]], *, quick: bool) -> list[Row]:
    possible = optimum(load)
    ratio = median(max(run.seen.calls) for run in runs[TAP]) / possible

    def each(figure: Callable[[Run], float], text: Callable[[float], str] = number) -> list[str]:
        return [text(median(figure(run) for run in runs[client])) for client in CLIENTS]

    spent = each(lambda run: max(run.seen.calls), _minutes)
    spent = [
        f"gave up after {time}" if any(run.errors for run in runs[client]) else time
        for client, time in zip(CLIENTS, spent, strict=True)
    ]
    beside = f"{ratio:.3f} of {_minutes(possible)}"
    bar = () if quick else (f"at most {BAR}", ratio <= BAR)
    return [
        Row(f"{load.calls:,} calls: time, min:s", spent, beside, *bar),
        Row(
            "results brought",
            each(lambda run: len(run.outputs)),
            "",
            f"{load.results:,}",
            all(len(run.outputs) == load.results for run in runs[TAP]),
        ),
        Row(
            "answers 429",
            each(lambda run: run.seen.throttled),
            "",
            "0",
            not any(run.seen.throttled for run in runs[TAP]),
        ),
    ]


def _details(runs: list[Run]) -> dict[str, Any]:
    """All figures, and when the results of the first run came, for the plot."""
    return {
        "seconds": [max(run.seen.calls) for run in runs],
        "results": [len(run.outputs) for run in runs],
        "throttled": [run.seen.throttled for run in runs],
        "cpu_seconds": [run.cpu_seconds for run in runs],
        "blobs": [round(seconds, 2) for seconds in runs[0].seen.blobs],
    }


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
