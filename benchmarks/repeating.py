"""What a run costs after a kill, and one when nothing is new: calls, counted at the service."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.clients import CLIENTS, TAP, Client
from benchmarks.measuring import Run, WrongError, measuring, side_by_side
from benchmarks.report import Row, Section
from benchmarks.service import Load

AT_MOST_TWICE = 33
"""Results that a kill makes the tap ask for again: those after the last state, and those in flight. The tap promises no
more than `max_concurrency` + 25."""


@dataclass(frozen=True)
class Runs:
    """A run that was killed, the one after it, and one more."""

    killed: Run
    resumed: Run
    unchanged: Run


def measure(*, quick: bool) -> Section:
    load = Load(
        60 if quick else 500,
        1000,
        link_latency=(0.015, 0.04),
        blob_latency=(0.01, 0.06),
        calls_per_minute=10_000,
        calls_per_hour=10_000,
    )
    runs = side_by_side(partial(_three_runs, load=load))
    print(f"kill and second run, {load.results} results: done", file=sys.stderr)
    links = [each.killed.seen.link_calls + each.resumed.seen.link_calls for each in runs.values()]
    calls = [each.unchanged.seen.list_calls + each.unchanged.seen.link_calls for each in runs.values()]
    again = [len(each.unchanged.outputs) for each in runs.values()]
    most = load.results + AT_MOST_TWICE
    rows = [
        Row(
            f"link calls for {load.results} results",
            [str(number) for number in links],
            "",
            f"at most {most}",
            links[-1] <= most,
        ),
        Row("calls of a run with nothing new", [str(number) for number in calls], "", "1", calls[-1] == 1),
        Row("results that it brings again", [str(number) for number in again], "", "0", again[-1] == 0),
    ]
    caption = (
        f"Killed (SIGKILL) as soon as {load.results // 2} results had come, run again with the last state that was "
        "written: link calls of both runs together, which brought every result. Then run once more with the state of "
        "the second run. Calls as the service counted them, without limits. The script has no state."
    )
    return Section("killed, and run again", caption, rows, {client.name: _details(runs[client]) for client in CLIENTS})


def _three_runs(client: Client, load: Load) -> Runs:
    with measuring(client, load) as measurement:
        killed = measurement.run_and_kill(load.results // 2)
        if len(killed.outputs) >= load.results:
            raise WrongError(f"{client.name} was done before it was killed.")
        resumed = measurement.run(killed.state)
        measurement.check_results(killed, resumed)
        unchanged = measurement.run(resumed.state)
        if client is TAP:
            measurement.check_calls(unchanged, (1, 0, 0))
    return Runs(killed, resumed, unchanged)


def _details(runs: Runs) -> dict[str, Any]:
    named = {"killed": runs.killed, "resumed": runs.resumed, "unchanged": runs.unchanged}
    return {
        name: {"list_calls": run.seen.list_calls, "link_calls": run.seen.link_calls, "results": len(run.outputs)}
        for name, run in named.items()
    }
