"""One measurement: a client, as a program of its own, reads everything from a service of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.service import ROOT, Load, Service
from benchmarks.workload import expected_outputs

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE = Path(__file__).parent
_NAIVE = str(_HERE / "naive.py")


@dataclass(frozen=True)
class Client:
    """A program to measure.

    Attributes:
        command: Arguments of the Python interpreter; `{config}` stands for the file with the settings.
        settings: What is set beside the connection.
    """

    name: str
    command: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """What one client needed.

    Attributes:
        wall_seconds: Of the whole process.
        fetch_seconds: From the arrival of the first request for a link to that of the last request for a blob.
    """

    wall_seconds: float
    fetch_seconds: float
    cpu_seconds: float
    peak_bytes: int
    list_calls: int
    link_calls: int
    downloads: int
    throttled: int


class WrongError(Exception):
    """A client did not do its work; its times mean nothing."""


def clients() -> tuple[list[Client], Client, list[Client]]:
    """The sequential scripts, the tap as it comes, and the tap with other settings."""
    tap = ("-m", "tap_defender_lr", "--config", "{config}")
    return (
        [
            Client("script, requests.get", (_NAIVE, "{config}")),
            Client("script, requests.Session", (_NAIVE, "{config}", "--session")),
        ],
        Client("tap, default settings", tap),
        [Client(f"tap, max_concurrency {number}", tap, {"max_concurrency": number}) for number in (4, 16)],
    )


def measure(client: Client, load: Load, seed: int) -> Measurement:
    """Run the client once.

    Raises:
        WrongError: It failed, it did not bring every result once, or it made other calls than it should.
    """
    with tempfile.TemporaryDirectory(prefix="tap-defender-lr-benchmark-") as directory:
        folder = Path(directory)
        with Service(load, seed) as service:
            config = folder / "config.json"
            # A ledger of its own: the calls of another measurement were made to another service.
            more = {"quota_store": str(folder / "quota.sqlite"), **client.settings}
            config.write_text(json.dumps({**service.settings, **more}), encoding="utf-8")
            argv = [sys.executable, *(part.format(config=config) for part in client.command)]
            used = _run(argv, folder, {**os.environ, **service.environment, "NO_PROXY": "localhost"})
        if used.pop("exit_code") != 0:
            errors = (folder / "stderr").read_text(encoding="utf-8", errors="replace").strip()
            raise WrongError(f"{client.name} failed or took too long:\n{errors[-2000:]}")
        _check_output(client, folder / "stdout", load)
    measurement = Measurement(**used, **service.seen)
    _check_calls(client, measurement, load)
    return measurement


def _run(argv: list[str], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    watch = [sys.executable, "-I", "-S", str(_HERE / "stopwatch.py"), str(folder / "stdout"), str(folder / "stderr")]
    done = subprocess.run([*watch, *argv], check=True, stdout=subprocess.PIPE, cwd=ROOT, env=environment)
    used: dict[str, Any] = json.loads(done.stdout)
    return used


def _check_output(client: Client, path: Path, load: Load) -> None:
    found = list(_outputs(path))
    if len(found) != load.results or dict(found) != expected_outputs(load.results):
        raise WrongError(f"{client.name} did not bring each of the {load.results} results once: {len(found)} came.")


def _outputs(path: Path) -> Iterator[tuple[str, str]]:
    """(action, what its script printed) of each result, be it a line of the script or a message of the tap."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            document = json.loads(line)
            if "type" in document:
                if document["type"] != "RECORD" or document["stream"] != "live_response_results":
                    continue
                document = document["record"]
            yield document["machine_action_id"], document["script_output"]


def _check_calls(client: Client, measurement: Measurement, load: Load) -> None:
    made = (measurement.list_calls, measurement.link_calls, measurement.downloads, measurement.throttled)
    if made != (1, load.results, load.results, 0):
        raise WrongError(
            f"{client.name} made {made[0]} list calls, {made[1]} link calls and {made[2]} downloads, and was throttled "
            f"{made[3]} times; it should be 1, {load.results}, {load.results} and 0."
        )
