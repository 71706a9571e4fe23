"""`python -m benchmarks`: the tap beside a sequential script and a plain stream of the SDK, in one table.

Exit code 1 if the tap misses what is asked of it, or if any client did not do its work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks import cost, pace, planning, repeating, tap_process, throughput
from benchmarks.measuring import WrongError
from benchmarks.report import Row, Section, table_of
from benchmarks.service import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

_STARTS = 9

_DESCRIPTION = """\
Reads the same results from a simulated service (a process of its own, TLS) with the sequential script that a person
would write, with the stream that the SDK's template leads to, and with the tap, and prints the medians side by side.
Each measurement has a fresh service and a fresh ledger of calls. Needs about 35 minutes, Linux or macOS, and a machine
that does nothing else."""


def _sections(*, quick: bool, repeat: int) -> dict[str, Callable[[], Section]]:
    starts = 1 if quick else max(repeat, _STARTS)
    return {
        "throughput": lambda: throughput.measure(quick=quick, repeat=repeat),
        "repeating": lambda: repeating.measure(quick=quick),
        "cost": lambda: cost.measure(quick=quick, repeat=repeat),
        "start": lambda: cost.measure_start(repeat=starts),
        "planning": lambda: _planning(quick=quick),
        "pace": lambda: pace.measure(quick=quick, repeat=repeat),
    }


def _planning(*, quick: bool) -> Section:
    print("planning: some minutes" if not quick else "planning", file=sys.stderr)
    rows = [
        Row(what, [figure], "", f"less than {bar}" if bar else "", is_met=verdict in {"", "as it should be"})
        for what, figure, bar, verdict in planning.rows(quick=quick)
    ]
    caption = (
        "The tap alone, each measurement in a process of its own; `python -m benchmarks.planning --help` tells how."
    )
    return Section("planning and state", caption, rows)


def main() -> int:
    options = _parser().parse_args()
    chosen = _sections(quick=options.quick, repeat=1 if options.quick else options.repeat)
    names = [name for name in chosen if not options.section or name in options.section]
    begun, load = time.time(), os.getloadavg()
    try:
        with ThreadPoolExecutor(2 if options.quick else 1) as pool:
            measured = dict(zip(names, pool.map(lambda name: chosen[name](), names), strict=True))
    except (WrongError, tap_process.WrongError) as error:
        print(error, file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table_of(list(measured.values())))
    for section in measured.values():
        console.print(f"\n[bold]{section.title}[/bold]: {section.caption}", highlight=False)
    if options.json is not None:
        _write_json(options.json, measured, begun, load)
    if options.quick:
        print("\nEvery client did its work, with the calls it takes. The times of a quick run mean nothing.")
    missed = [row for section in measured.values() for row in section.rows if row.bar and not row.is_met]
    for row in missed:
        print(f"{row.what}: {row.figures[-1]} is not {row.bar}.", file=sys.stderr)
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=_DESCRIPTION)
    names = list(_sections(quick=False, repeat=1))
    parser.add_argument("--section", action="append", choices=names, help="measure only this; may be repeated")
    parser.add_argument("--repeat", type=_count, default=3, metavar="N", help="repetitions (default: 3)")
    parser.add_argument("--quick", action="store_true", help="few results, once: checks counts, its times mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured to a file, too")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError("must be a number from 1 to 100")
    return int(text)


def _write_json(path: Path, measured: dict[str, Section], begun: float, load: tuple[float, ...]) -> None:
    document: dict[str, Any] = {
        "commit": _commit(),
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun)),
        "minutes": round((time.time() - begun) / 60, 1),
        "python": platform.python_version(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "load_average": {"before": load, "after": os.getloadavg()},
        "sections": {name: asdict(section) for name, section in measured.items()},
    }
    path.write_text(json.dumps(document) + "\n", encoding="utf-8")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
