"""`python -m benchmarks.planning`: what a long listing costs before the first result is read, in a table.

Exit code 1 if it takes more than it may, or grows faster than what is listed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

MB = 1_000_000
_ROOT = Path(__file__).parents[1]
_FINE, _BAD, _NO_BAR = "as it should be", "too much", ""
_MOST_SECONDS = 60.0
_MOST_MEGABYTES = 1500
_GROWTH = 1.2
"""How much more than in proportion a longer listing may cost: memory is read less quickly the more there is of it."""

_DESCRIPTION = """\
Plans a first run, and a later one that finds nothing new, with many listed machine actions of one to three commands,
for `machine_actions`, `live_response_results` and a script stream. Each measurement is a process of its own. It makes
the answers of the service, too, page by page, and what making them costs is not counted; memory is the peak of the
whole process. Then the size of the state after many results. Needs some minutes, Linux or macOS."""

Row = tuple[str, str, str, str]
"""What, the figure, its bar, the verdict."""


@dataclass(frozen=True)
class Planned:
    """What one process measured.

    Attributes:
        cpu_seconds: From the listing to the first result.
        listing_cpu_seconds: Of these, what it took to read the pages of the listing.
    """

    actions: int
    cpu_seconds: float
    listing_cpu_seconds: float
    peak_bytes: int
    items: int
    left: int


def main() -> int:
    options = _parser().parse_args()
    table = Table(title="planning")
    table.add_column("what")
    for heading in ("figure", "bar", ""):
        table.add_column(heading, justify="right")
    fine = True
    for what, figure, bar, verdict in _rows(quick=options.quick):
        table.add_row(what, figure, bar, verdict)
        fine = fine and verdict in {_FINE, _NO_BAR}
        print(f"{what}: {figure}", file=sys.stderr)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0 if fine else 1


def rows(*, quick: bool) -> list[Row]:
    """What `python -m benchmarks` shows of planning: what, the figure, its bar, the verdict."""
    return list(_rows(quick=quick))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=_DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="fewer actions, in a quarter of a minute")
    return parser


def _rows(*, quick: bool) -> Iterator[Row]:
    sizes = (1000, 10_000) if quick else (10_000, 100_000, 1_000_000)
    for kind, name in (("first", "first run"), ("later", "unchanged run")):
        measured = []
        for actions in sizes:
            measured.append(Planned(actions, **_measure(actions, kind)))
            yield from _planned(name, measured[-1])
        if not quick:  # so short a time says nothing
            yield from _growth(name, measured)
    yield from _states(quick=quick)


def _planned(name: str, planned: Planned) -> Iterator[Row]:
    what = f"{name}, {planned.actions:,} actions listed"
    megabytes = planned.peak_bytes / MB
    seconds = planned.cpu_seconds - planned.listing_cpu_seconds
    yield f"{what}: CPU s to read the listing", f"{planned.listing_cpu_seconds:.1f}", "", _NO_BAR
    yield (
        f"{what}: CPU s to plan",
        f"{seconds:.1f}",
        f"{_MOST_SECONDS:.0f}",
        _verdict(seconds < _MOST_SECONDS),
    )
    yield (
        f"{what}: peak MB",
        f"{megabytes:,.0f}",
        f"{_MOST_MEGABYTES:,}",
        _verdict(megabytes < _MOST_MEGABYTES),
    )


def _growth(name: str, measured: list[Planned]) -> Iterator[Row]:
    """From each size to the next: ten times as many actions cost at most a little more than ten times as much."""
    for smaller, larger in pairwise(measured):
        more = larger.actions / smaller.actions
        for what, ratio in (
            ("CPU time", larger.cpu_seconds / smaller.cpu_seconds),
            ("memory", larger.peak_bytes / smaller.peak_bytes),
        ):
            bar = more * _GROWTH
            yield (
                f"{name}: {what} of {larger.actions:,} actions over that of {smaller.actions:,}",
                f"{ratio:.1f}",
                f"{bar:.0f}",
                _verdict(ratio < bar),
            )


def _states(*, quick: bool) -> Iterator[Row]:
    """Actions have two commands on average, each of which becomes a result."""
    sizes = (10, 1000) if quick else (10, 1000, 100_000)
    for actions, between, when in [
        *((size, 20.0, "one in 10 s") for size in sizes),
        (sizes[-1], 3600 / sizes[-1], "all in an hour"),
    ]:
        measured = _measure(actions // 2, "state", between)
        what = f"state of live_response_results after {measured['items']:,} results, {when}"
        size = measured["state_bytes"]
        yield (
            f"{what}: bytes",
            f"{size:,}",
            "" if when == "all in an hour" else "20,000",
            "" if when == "all in an hour" else _verdict(size < 20_000),
        )


def _measure(actions: int, kind: str, *more: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.planning_process", str(actions), kind, *map(str, more)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=_ROOT)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _verdict(fine: bool) -> str:  # noqa: FBT001
    return _FINE if fine else _BAD


if __name__ == "__main__":
    sys.exit(main())
