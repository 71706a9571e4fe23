"""`python -m benchmarks.memory`: how much memory the tap needs at its peak, in a table.

Exit code 1 if it needs more than it should, or did not bring every result.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.tap_process import Peak, WrongError, run_tap
from benchmarks.workload import action_id
from defender_simulator import App, Result, Tenant
from defender_simulator.fleet import CLIENT_ID, CLIENT_SECRET, TENANT_ID, command, machine_action

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MB = 1_000_000
_SCRIPT = "Get-Inventory.ps1"
_PLAIN = json.dumps("Contoso Endpoint Agent,14.102.7.991,2025-03-01\r\n")[1:-1].encode()
_TEXT = "\N{LARGE GREEN CIRCLE} Contoso Müller & Söhne Zeiterfassung,14.102.7.991,2025-03-01,C:/Program Files\r\n"
_EMOJI = json.dumps(_TEXT)[1:-1].encode()
_RAW_EMOJI = json.dumps(_TEXT, ensure_ascii=False)[1:-1].encode()

_DESCRIPTION = """\
Reads many small results, some large ones and a huge one from a simulated service and prints the tap's peak memory:
what its process holds resident, with interpreter and imports. Its output is read as fast as it comes and thrown away.
Needs about two minutes, Linux or macOS."""


@dataclass(frozen=True)
class Case:
    """What is read, and the megabytes it may take.

    Attributes:
        size: Bytes of each result.
        line: What its output holds again and again, as JSON writes it.
    """

    name: str
    results: int
    size: int
    most: int
    line: bytes = _PLAIN


def cases(*, quick: bool) -> list[Case]:
    """A huge result may take no more than large ones: what is beyond the cap is counted and hashed, but not kept.

    One emoji makes Python hold four bytes for each character of a text, so those cases are the hard ones.
    """
    small, large, huge = (150, 3, 200) if quick else (1500, 20, 1000)
    return [
        Case(f"{small:,} results of 100 KB", small, 100_000, 150),
        Case(f"{large} results of 20 MB", large, 20 * MB, 400),
        Case(f"{large} results of 20 MB, emoji", large, 20 * MB, 400, _EMOJI),
        Case(f"1 result of {huge:,} MB", 1, huge * MB, 400),
        Case(f"1 result of {huge:,} MB, emoji", 1, huge * MB, 400, _EMOJI),
        Case(f"1 result of {huge:,} MB, raw emoji", 1, huge * MB, 400, _RAW_EMOJI),
    ]


def main() -> int:
    options = _parser().parse_args()
    table = Table(title="peak memory of the tap", caption="with the default settings, but for the quota")
    table.add_column("read")
    for heading in ("peak MB", "less than MB", "", "wall s", "CPU s"):
        table.add_column(heading, justify="right")
    fine = True
    for case in cases(quick=options.quick):
        try:
            peak = measure(case)
        except WrongError as error:
            print(error, file=sys.stderr)
            return 1
        megabytes = round(peak.peak_bytes / MB)
        verdict = "as it should be" if megabytes < case.most else "too much"
        fine = fine and megabytes < case.most
        times = (f"{seconds:.1f}" for seconds in (peak.wall_seconds, peak.cpu_seconds))
        table.add_row(case.name, str(megabytes), str(case.most), verdict, *times)
        print(f"{case.name}: {megabytes} MB", file=sys.stderr)
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    return 0 if fine else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=_DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller results, in half a minute")
    return parser


def measure(case: Case) -> Peak:
    """Run the tap once.

    Raises:
        WrongError: It failed, or did not bring every result once.
    """
    return run_tap(make_tenant(case), {}, name=case.name, results=case.results)


def make_tenant(case: Case) -> Tenant:
    tenant = Tenant(TENANT_ID, [App(CLIENT_ID, CLIENT_SECRET)])
    start = time.time() - 86_400
    for number in range(case.results):
        created = start + number
        script = command(0, params={"ScriptName": _SCRIPT}, started=created + 5, ended=created + 15)
        tenant.actions.append(
            machine_action(action_id=action_id(number), created=created, updated=created + 20, commands=[script])
        )
        tenant.results[action_id(number), 0] = Result(pieces=_pieces(case, number))
    return tenant


def _pieces(case: Case, number: int) -> Callable[[int], Iterator[bytes]]:
    """A result that is made while it is sent: the service need not hold a gigabyte."""
    head = f'{{"script_name": "{_SCRIPT}", "exit_code": 0, "script_output": "{number}\\r\\n'.encode()
    tail = b'", "script_errors": ""}'
    piece = case.line * max(min(MB, case.size) // len(case.line), 1)
    count = max(case.size // len(piece), 1)

    def make(_offset: int) -> Iterator[bytes]:
        yield head
        for _ in range(count):
            yield piece
        yield tail

    return make


if __name__ == "__main__":
    sys.exit(main())
