"""`python -m benchmarks.ledger`: how many calls the ledger books in a second, in a file and in PostgreSQL."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.first_rows import new_server
from tap_defender_lr.quota import HOUR, MINUTE, Rate
from tap_defender_lr.quota.ledger import Ledger
from tap_defender_lr.quota.setting import open_store

_THREADS = 8
_DESCRIPTION = """\
Books and settles calls as fast as the ledger can, from one and from four processes, and prints how many a second that
makes. The service allows 100 calls a minute for each tenant. Needs about a minute, Linux or macOS."""


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        accounts: Tenants that the processes book for, in turn.
    """

    store: str
    processes: int
    accounts: int


CASES = (
    Case("SQLite file", 1, 1),
    Case("SQLite file", 4, 1),
    Case("PostgreSQL", 1, 1),
    Case("PostgreSQL", 4, 1),
    Case("PostgreSQL", 4, 4),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=_DESCRIPTION)
    parser.add_argument("--calls", type=int, default=500, metavar="N", help="calls of each process (default: 500)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions (default: 3)")
    parser.add_argument("--book", nargs=2, metavar=("STORE", "ACCOUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.book:
        store, account = options.book
        print(json.dumps(_book(store, account, options.calls)))
        return 0
    table = Table(
        title=f"calls booked and settled, {_THREADS} threads in each process, medians of {options.repeat}",
        caption="CPU: of the tap's process, without that of PostgreSQL's",
    )
    for heading in ("ledger", "processes", "tenants", "calls/s", "CPU ms per call"):
        table.add_column(heading, justify="left" if heading == "ledger" else "right")
    with ExitStack() as stack:
        server = new_server()
        stack.callback(server.cleanup)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = {"SQLite file": str(folder / "quota.sqlite"), "PostgreSQL": server.get_uri()}
        for case in CASES:
            measured = [_measure(case, places[case.store], options.calls) for _ in range(options.repeat)]
            speed, cpu = (median(one[n] for one in measured) for n in range(2))
            table.add_row(case.store, str(case.processes), str(case.accounts), f"{speed:,.0f}", f"{cpu * 1000:.2f}")
            print(f"{case}: {speed:,.0f} calls/s", file=sys.stderr)
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    return 0


def _measure(case: Case, store: str, calls: int) -> tuple[float, float]:
    """Calls a second of all processes together, and CPU seconds for each call."""
    command = [sys.executable, "-m", "benchmarks.ledger", f"--calls={calls}", "--book", store]
    running = [
        subprocess.Popen(
            [*command, f"tenant {n % case.accounts}"], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
        )
        for n in range(case.processes)
    ]
    done = [json.loads(process.communicate()[0]) for process in running]
    seconds = max(one["ended"] for one in done) - min(one["began"] for one in done)
    return case.processes * calls / seconds, sum(one["cpu"] for one in done) / (case.processes * calls)


def _book(store: str, account: str, calls: int) -> dict[str, float]:
    # Limits that nobody reaches, so that nobody waits.
    ledger = Ledger(open_store(store, pause=time.sleep), account, [Rate(10**6, MINUTE), Rate(10**6, HOUR)])
    ledger.settle(ledger.acquire(time.sleep))
    began, cpu = time.time(), time.process_time()
    with ThreadPoolExecutor(_THREADS) as pool:
        for done in [pool.submit(lambda: ledger.settle(ledger.acquire(time.sleep))) for _ in range(calls)]:
            done.result()
    used = {"began": began, "ended": time.time(), "cpu": time.process_time() - cpu}
    ledger.close()
    return used


if __name__ == "__main__":
    sys.exit(main())
