"""`python -m benchmarks.files`: collected files through the tap beside a plain script, MB/s and memory, in a table.

Exit code 1 if the tap needs too much memory, or if anybody did not do their work. Speed has no bar: it is told.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING

import fsspec
from rich.console import Console
from rich.table import Table

from benchmarks.tap_process import Peak, WrongError, run_tap
from benchmarks.workload import action_id
from defender_simulator import App, Result, Tenant
from defender_simulator.fleet import CLIENT_ID, CLIENT_SECRET, TENANT_ID, command, machine_action

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MB = 1_000_000
_PIECE = 1024 * 1024
_BUCKET = "evidence"
_MOST_MEMORY = 150

_DESCRIPTION = """\
Brings one large file from a simulated service (TLS, on this machine) into a directory and into a real S3 server (moto,
a process of its own), with the tap and with a plain script of `requests` that streams the same file to the same place.
The script neither hashes nor checks; the tap does both, and unpacks. Then the tap alone brings a file of 3 GB, the
largest that Live Response collects, for its peak memory. Needs about ten minutes, 8 GB of memory and 8 GB of disk."""


@dataclass(frozen=True)
class Case:
    """One file: how it is packed, and where it goes."""

    is_packed: bool
    place: str
    size: int

    @property
    def name(self) -> str:
        return f"{self.size / 1000 / MB:.1f} GB, {'gzip' if self.is_packed else 'not packed'}, into {self.place}"


def main() -> int:
    options = _parser().parse_args()
    size, huge, repeat = (20 * MB, 60 * MB, 1) if options.quick else (1000 * MB, 3000 * MB, options.repeat)
    cases = [Case(is_packed, place, size) for place in ("a directory", "S3") for is_packed in (False, True)]
    speed = Table(
        title=f"collected files, medians of {repeat}",
        caption="MB of the file a second, the whole process; times as fast: the tap beside the script",
    )
    for heading in ("file", "script MB/s", "tap MB/s", "times as fast", "script CPU s", "tap CPU s", "tap peak MB"):
        speed.add_column(heading, justify="left" if heading == "file" else "right")
    memory = Table(title="peak memory of the tap", caption=f"less than {_MOST_MEMORY} MB")
    for heading in ("file", "peak MB", "wall s", "CPU s"):
        memory.add_column(heading, justify="left" if heading == "file" else "right")
    fine = True
    with tempfile.TemporaryDirectory(prefix="tap-defender-lr-benchmark-") as directory, _s3() as environment:
        places = Places(Path(directory), environment)
        try:
            for case in cases:
                runs = [(places.run_script(case), places.run_tap(case)) for _ in range(repeat)]
                speed.add_row(case.name, *_speed_row(case, runs))
            for case in (Case(is_packed=True, place=place, size=huge) for place in ("a directory", "S3")):
                peak = places.run_tap(case)
                fine = fine and peak.peak_bytes < _MOST_MEMORY * MB
                megabytes = f"{peak.peak_bytes / MB:.0f}"
                memory.add_row(case.name, megabytes, f"{peak.wall_seconds:.1f}", f"{peak.cpu_seconds:.1f}")
        except WrongError as error:
            print(error, file=sys.stderr)
            return 1
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(speed)
    console.print(memory)
    print("as it should be" if fine else f"too much: a file may take less than {_MOST_MEMORY} MB")
    return 0 if fine else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description=_DESCRIPTION)
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions (default: 3)")
    parser.add_argument("--quick", action="store_true", help="small files, once: its times mean nothing")
    return parser


def _speed_row(case: Case, runs: list[tuple[Peak, Peak]]) -> Iterator[str]:
    script, tap = ([run[number] for run in runs] for number in (0, 1))
    walls = [median(peak.wall_seconds for peak in peaks) for peaks in (script, tap)]
    yield from (f"{case.size / MB / wall:.0f}" for wall in walls)
    yield f"{walls[0] / walls[1]:.2f}"
    yield from (f"{median(peak.cpu_seconds for peak in peaks):.1f}" for peaks in (script, tap))
    yield f"{max(peak.peak_bytes for peak in tap) / MB:.0f}"


class Places:
    """Where files go; emptied after each run."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder / "files"
        self._environment = environment

    def run_tap(self, case: Case) -> Peak:
        return self._run(case, {"files_url": self._url(case)}, ("-m", "tap_defender_lr", "--config", "{config}"))

    def run_script(self, case: Case) -> Peak:
        script = str(Path(__file__).with_name("naive_file.py"))
        self._folder.mkdir(exist_ok=True)
        unpack = ["--unpack"] if case.is_packed else []
        return self._run(case, {}, (script, "{config}", f"{self._url(case)}/memory.dmp", *unpack))

    def _url(self, case: Case) -> str:
        return f"s3://{_BUCKET}" if case.place == "S3" else str(self._folder)

    def _run(self, case: Case, settings: dict[str, str], program: tuple[str, ...]) -> Peak:
        tenant = _tenant(case)
        peak = run_tap(tenant, settings, name=case.name, results=1, program=program, environment=self._environment)
        if case.place == "S3":
            os.environ |= self._environment
            store = fsspec.filesystem("s3", skip_instance_cache=True)
            sizes = [store.size(path) for path in store.find(_BUCKET)]
            _reset(self._environment["AWS_ENDPOINT_URL"])
        else:
            sizes = [path.stat().st_size for path in self._folder.rglob("*") if path.is_file()]
            shutil.rmtree(self._folder)
        if sizes != [case.size // _PIECE * _PIECE]:
            raise WrongError(f"{case.name}: files of {sizes} bytes were stored.")
        return peak


def _tenant(case: Case) -> Tenant:
    created = time.time() - 86_400
    collected = command(0, "GetFile", params={"Path": "C:\\Windows\\memory.dmp"}, ended=created + 15)
    action = machine_action(action_id=action_id(1), created=created, updated=created + 20, commands=[collected])
    # Half of it can be packed away.
    content = Random(1).randbytes(_PIECE // 2) + bytes(_PIECE // 2)
    piece = gzip.compress(content, compresslevel=6) if case.is_packed else content  # gzip may have many members
    count = case.size // _PIECE
    result = Result(pieces=_pieces(piece, count), size=len(piece) * count)
    return Tenant(TENANT_ID, [App(CLIENT_ID, CLIENT_SECRET)], [action], {(action_id(1), 0): result})


def _pieces(piece: bytes, count: int) -> Callable[[int], Iterator[bytes]]:
    def make(offset: int) -> Iterator[bytes]:
        first, skipped = divmod(offset, len(piece))
        if first < count:
            yield piece[skipped:]
        for _ in range(first + 1, count):
            yield piece

    return make


@contextlib.contextmanager
def _s3() -> Iterator[dict[str, str]]:
    """A real S3 server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _reset(url)
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "make-believe",
            "AWS_SECRET_ACCESS_KEY": "make-believe",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.terminate()
        server.wait()


def _reset(url: str) -> None:
    """Empty the server, as soon as it answers, and make the bucket."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST"), timeout=60).close()
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    urllib.request.urlopen(urllib.request.Request(f"{url}/{_BUCKET}", method="PUT"), timeout=60).close()


if __name__ == "__main__":
    sys.exit(main())
