"""`python -m benchmarks.parsing`: what it costs to turn what scripts print into typed rows, in a table.

Exit code 1 if parsing adds `BAR` or more to the CPU time of a run, or if the tap did not bring every result.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from random import Random
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.tap_process import WrongError, run_tap
from benchmarks.workload import action_id
from defender_simulator import App, Result, Tenant
from defender_simulator.fleet import CLIENT_ID, CLIENT_SECRET, TENANT_ID, command, machine_action, result_body
from tap_defender_lr import columns, parsing
from tap_defender_lr.script_streams import ScriptStream

BAR = 0.25
_SCRIPT = "Get-InstalledSoftware.ps1"
_SIZE = 100_000
_ENTRY = {
    "name": "installed_software",
    "script_name": _SCRIPT,
    "records_path": "$.software[*]",
    "key_properties": ["machine_id", "name", "version"],
    "schema": {
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "publisher": {"type": "string"},
            "install_date": {"type": "string", "format": "date-time"},
            "size_kb": {"type": "integer"},
            "per_user": {"type": "boolean"},
        }
    },
}

_DESCRIPTION = """\
Runs the tap over results of 100 KB, once without script streams and once with one that makes a row of each program in
them, and measures parsing by itself: the same texts, taken apart into typed rows, in one process. What a stream costs
beyond parsing is writing its rows. Needs some minutes, Linux or macOS."""


def main() -> int:
    options = _parser().parse_args()
    results = 60 if options.quick else 1500
    tenant = _tenant(results)
    try:
        without = run_tap(tenant, {}, name="without script streams", results=results)
        seconds, rows = _parse(results)
        with_stream = run_tap(
            tenant,
            {"script_streams": [_ENTRY]},
            name="with a script stream",
            results=rows,
            mark=f'"type":"RECORD","stream":"{_ENTRY["name"]}"'.encode(),
        )
    except WrongError as error:
        print(error, file=sys.stderr)
        return 1
    parsed = seconds * results
    added = parsed / without.cpu_seconds
    table = Table(title=f"{results:,} results of 100 KB, {rows:,} rows")
    table.add_column("")
    for heading in ("CPU s", "to the first", "rows"):
        table.add_column(heading, justify="right")
    table.add_row("a run without script streams", f"{without.cpu_seconds:.1f}", "", "")
    table.add_row("parsing alone", f"{parsed:.1f}", f"+{added:.0%}", f"{rows:,}")
    more = with_stream.cpu_seconds / without.cpu_seconds - 1
    table.add_row("a run with one: parsing and writing", f"{with_stream.cpu_seconds:.1f}", f"+{more:.0%}", f"{rows:,}")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    if options.quick or added < BAR:
        return 0
    print(f"Parsing adds {added:.0%} to the CPU time of a run; it should be less than {BAR:.0%}.", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parsing", description=_DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="fewer results, without a verdict")
    return parser


def _parse(results: int) -> tuple[float, int]:
    """CPU seconds for one result (the median of five rounds, over 300 results at most), and the rows of all."""
    stream = ScriptStream.from_entry(_ENTRY)
    table = columns.Table(stream, stream.properties or {})
    texts = [_output(number) for number in range(results)]
    timed, rounds = texts[:300], []
    for _ in range(5):
        begun = time.process_time()
        missing = 0
        for text in timed:
            for row in parsing.parse(text, stream).pieces:
                cells, _ = table.cells(row)  # type: ignore[arg-type]  # there is nothing wrong with these
                missing += cells is None
        rounds.append((time.process_time() - begun) / len(timed))
        if missing:
            raise WrongError("rows are missing")
    return median(rounds), sum(1 for text in texts for _ in parsing.parse(text, stream).pieces)


def _tenant(results: int) -> Tenant:
    tenant = Tenant(TENANT_ID, [App(CLIENT_ID, CLIENT_SECRET)])
    start = time.time() - 86_400
    for number in range(results):
        created = start + number
        script = command(0, params={"ScriptName": _SCRIPT}, started=created + 5, ended=created + 15)
        tenant.actions.append(
            machine_action(action_id=action_id(number), created=created, updated=created + 20, commands=[script])
        )
        tenant.results[action_id(number), 0] = Result(result_body(_SCRIPT, 0, _output(number)))
    return tenant


def _output(number: int) -> str:
    rng = Random(number)
    programs: list[dict[str, object]] = []
    size = 0
    while size < _SIZE:
        place = len(programs)
        program: dict[str, object] = {
            "name": f"Contoso {rng.choice(('Runtime', 'Viewer', 'Driver', 'Update Service'))} {place} (x64) - en-us",
            "version": f"{rng.randint(1, 99)}.{rng.randint(0, 30)}.{rng.randint(0, 9999)}.{place}",
            "publisher": rng.choice(("Contoso Ltd.", "Fabrikam GmbH & Co. KG", "Northwind Traders, Inc.")),
            "install_date": f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}T00:00:00Z",
            "size_kb": rng.randint(100, 900_000),
            "per_user": rng.random() < 0.1,
        }
        programs.append(program)
        size += len(json.dumps(program)) + 1
    return json.dumps({"software": programs}) + "\r\n"


if __name__ == "__main__":
    sys.exit(main())
