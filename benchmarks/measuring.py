"""One client, as a program of its own, reads from a service of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.clients import CLIENTS, Client
from benchmarks.service import ROOT, Load, Seen, Service
from benchmarks.workload import expected_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_HERE = Path(__file__).parent
_T = TypeVar("_T")


class WrongError(Exception):
    """A client did not do its work; its times mean nothing."""


@dataclass(frozen=True)
class Run:
    """One run of a client.

    Attributes:
        wall_seconds: Of the whole process; likewise `cpu_seconds` and `peak_bytes`, with interpreter and imports.
        outputs: What came: (action, what its script printed).
        state: The last one that was written.
    """

    seen: Seen
    outputs: list[tuple[str, str]]
    state: dict[str, Any] | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    errors: str = ""
    """The end of what it told; empty if it did not fail."""


class Measurement:
    """A client before its service."""

    def __init__(self, client: Client, load: Load, service: Service, folder: Path) -> None:
        self.client = client
        self.load = load
        self._service = service
        self._folder = folder
        self._config = folder / "config.json"
        # A ledger of its own: the calls of another measurement were made to another service.
        settings = {**service.settings, "quota_store": str(folder / "quota.sqlite")}
        limits = {"calls_per_minute": load.calls_per_minute, "calls_per_hour": load.calls_per_hour}
        self._config.write_text(json.dumps({**settings, **limits}), encoding="utf-8")
        self._environment = {**os.environ, **service.environment, "NO_PROXY": "localhost"}

    def run(self, state: dict[str, Any] | None = None, *, may_fail: bool = False) -> Run:
        """Let it run to its end.

        Raises:
            WrongError: It failed.
        """
        output, errors = self._folder / "stdout", self._folder / "stderr"
        watch = [sys.executable, "-I", "-S", str(_HERE / "stopwatch.py"), str(output), str(errors)]
        done = subprocess.run(
            [*watch, *self._command(state)], check=True, stdout=subprocess.PIPE, cwd=ROOT, env=self._environment
        )
        used: dict[str, Any] = json.loads(done.stdout)
        told = ""
        if used.pop("exit_code") != 0:
            told = errors.read_text(encoding="utf-8", errors="replace").strip()[-2000:] or "it said nothing"
            if not may_fail:
                raise WrongError(f"{self.client.name} failed or took too long:\n{told}")
        with output.open("rb") as lines:
            outputs, state = _read(lines)
        return Run(self._service.seen(), outputs, state, errors=told, **used)

    def run_and_kill(self, after: int) -> Run:
        """Kill it (SIGKILL) as soon as it has brought so many results; what it wrote until then counts."""
        with (
            (self._folder / "stderr").open("wb") as errors,
            subprocess.Popen(
                self._command(None), stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=self._environment
            ) as process,
        ):
            assert process.stdout is not None
            lines: list[bytes] = []
            for line in process.stdout:
                lines.append(line)
                after -= self.client.mark in line
                if after == 0:
                    process.kill()
        if after > 0:
            raise WrongError(f"{self.client.name} ended before it could be killed.")
        outputs, state = _read(line for line in lines if line.endswith(b"\n"))
        return Run(self._service.seen(), outputs, state)

    def _command(self, state: dict[str, Any] | None) -> list[str]:
        path = None
        if state is not None:
            path = self._folder / "state.json"
            path.write_text(json.dumps(state), encoding="utf-8")
        return self.client.command(self._config, path, factor=self.load.factor)

    def check_results(self, *runs: Run) -> None:
        """Every result came, as it is; once, if it was a single run.

        Raises:
            WrongError: Some did not.
        """
        outputs = [output for run in runs for output in run.outputs]
        twice = len(runs) == 1 and len(outputs) > len(dict(outputs))
        if twice or dict(outputs) != expected_outputs(self.load.results, self.load.size):
            came = f"{len(outputs)} came, {len(set(outputs))} different ones, of {self.load.results}"
            raise WrongError(f"{self.client.name} did not bring every result as it is, once: {came}.")

    def check_calls(self, run: Run, wanted: tuple[int, int, int]) -> None:
        """It made so many list calls, link calls and downloads, and was not throttled.

        Raises:
            WrongError: It made others.
        """
        made = (*run.seen.counts, run.seen.throttled)
        if made != (*wanted, 0):
            raise WrongError(
                "{} made {} list calls, {} link calls and {} downloads, and was throttled {} times; "
                "it should be {}, {}, {} and 0.".format(self.client.name, *made, *wanted)
            )


@contextmanager
def measuring(client: Client, load: Load, seed: int = 0) -> Iterator[Measurement]:
    with (
        tempfile.TemporaryDirectory(prefix="tap-defender-lr-benchmark-") as folder,
        Service(load, seed) as service,
    ):
        yield Measurement(client, load, service, Path(folder))


def side_by_side(measure: Callable[[Client], _T]) -> dict[Client, _T]:
    """Measure all clients at the same time: those that mostly wait do not disturb each other."""
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        return dict(zip(CLIENTS, pool.map(measure, CLIENTS), strict=True))


def _read(lines: Iterable[bytes]) -> tuple[list[tuple[str, str]], dict[str, Any] | None]:
    """Results and the last state, be they lines of the script or messages of a tap."""
    outputs, state = [], None
    for line in lines:
        document = json.loads(line)
        if document.get("type") == "STATE":
            state = document["value"]
        record = document.get("record", {}) if "type" in document else document
        if "script_output" in record:
            outputs.append((record["machine_action_id"], record["script_output"]))
    return outputs, state
