"""What a client takes of the machine: CPU and memory for results of many sizes, and the time until it is there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.clients import CLIENTS, NAIVE, PLAIN, TAP, Client
from benchmarks.measuring import WrongError
from benchmarks.memory import MB, Case, make_tenant
from benchmarks.report import Row, Section, number
from benchmarks.service import ROOT
from benchmarks.tap_process import Peak, run_tap

if TYPE_CHECKING:
    from collections.abc import Callable

_LARGE = MB
"""Results of this size are read once only, whatever `--repeat` says: it is a gigabyte for each client."""
_SIZES = ((1000, "1 KB"), (10_000, "10 KB"), (100_000, "100 KB"), (MB, "1 MB"))


def measure(*, quick: bool, repeat: int) -> Section:
    results = 20 if quick else 1000
    rows: list[Row] = []
    details: dict[str, Any] = {}
    for size, name in _SIZES[:3:2] if quick else _SIZES:
        case = Case(f"{results:,} of {name}", results, size, 0)
        peaks: dict[Client, list[Peak]] = {client: [] for client in CLIENTS}
        for _ in range(1 if size >= _LARGE else repeat):
            for client in CLIENTS:
                peaks[client].append(_once(client, case))
                used = peaks[client][-1]
                told = f"{used.cpu_seconds:.1f} CPU s, {used.peak_bytes / MB:.0f} MB, {used.wall_seconds:.1f} s"
                print(f"{case.name}, {client.name}: {told}", file=sys.stderr)
        rows += [
            _row(f"{case.name}: CPU s", peaks, lambda peak: peak.cpu_seconds, 1),
            _row(f"{case.name}: peak MB", peaks, lambda peak: peak.peak_bytes / MB, 0),
        ]
        details[name] = {client.name: [asdict(peak) for peak in peaks[client]] for client in CLIENTS}
    caption = (
        f"{results:,} results from a service without limits and latencies, one client after the other, medians of "
        f"{repeat}, but those of 1 MB once. CPU and memory of the whole process, with interpreter and imports; the "
        "output is read and thrown away."
    )
    return Section("CPU and memory", caption, rows, details)


def measure_start(*, repeat: int) -> Section:
    rows: list[Row] = []
    details: dict[str, Any] = {}
    for option in ("--version", "--discover"):
        seconds: dict[Client, list[float]] = {PLAIN: [], TAP: []}
        for _ in range(repeat):
            for client, measured in seconds.items():
                measured.append(_start(client, option))
        plain, tap = median(seconds[PLAIN]), median(seconds[TAP])
        rows.append(Row(f"{option}, s", ["", f"{plain:.2f}", f"{tap:.2f}"], f"{tap / plain:.2f} of the plain SDK"))
        details[option] = {client.name: measured for client, measured in seconds.items()}
        print(f"{option}: {plain:.2f} s, {tap:.2f} s", file=sys.stderr)
    caption = f"Time of the whole process, medians of {repeat}, in turns."
    return Section("start", caption, rows, details)


def _once(client: Client, case: Case) -> Peak:
    program = client.arguments(Path("{config}"))
    name = f"{client.name}, {case.name}"
    return run_tap(make_tenant(case), {}, name=name, results=case.results, program=program, mark=client.mark)


def _row(what: str, peaks: dict[Client, list[Peak]], figure: Callable[[Peak], float], digits: int) -> Row:
    found = {client: median(map(figure, peaks[client])) for client in CLIENTS}
    ratio = found[TAP] / found[NAIVE]
    return Row(what, [number(found[client], digits) for client in CLIENTS], f"{ratio:.2g} of the script")


def _start(client: Client, option: str) -> float:
    with tempfile.TemporaryDirectory(prefix="tap-defender-lr-benchmark-") as directory:
        folder = Path(directory)
        config = folder / "config.json"
        settings = {"tenant_id": "contoso.example", "client_id": "app", "client_secret": "secret"}
        config.write_text(json.dumps(settings), encoding="utf-8")
        watch = [str(Path(__file__).with_name("stopwatch.py")), str(folder / "stdout"), str(folder / "stderr")]
        command = [sys.executable, "-I", "-S", *watch, *client.command(config), option]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)
        used = json.loads(done.stdout)
        if used["exit_code"] != 0 or not (folder / "stdout").stat().st_size:
            raise WrongError(f"{client.name} {option} failed:\n{(folder / 'stderr').read_text(encoding='utf-8')}")
    seconds: float = used["wall_seconds"]
    return seconds
