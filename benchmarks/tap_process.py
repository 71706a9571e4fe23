"""The tap, or a program beside it, as a process of its own against a simulated service: what it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defender_simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from defender_simulator import Tenant

_ROOT = Path(__file__).parents[1]
_LIMITS: dict[str, Any] = {"calls_per_minute": 100_000, "calls_per_hour": 100_000}


@dataclass(frozen=True)
class Peak:
    """What one run took."""

    peak_bytes: int
    wall_seconds: float
    cpu_seconds: float


class WrongError(Exception):
    """The tap did not do its work; what it took means nothing."""


def run_tap(
    tenant: Tenant,
    settings: dict[str, Any],
    *,
    name: str,
    results: int,
    program: Sequence[str] = ("-m", "tap_defender_lr", "--config", "{config}"),
    mark: bytes = b'"result_status":"fetched"',
    environment: Mapping[str, str] | None = None,
) -> Peak:
    """Run the tap once as a process of its own, with a quota that does not bind; its output is thrown away.

    Args:
        tenant: What it reads.
        settings: Besides those for the sign-in.
        name: Of the case, for errors.
        results: How many it has to bring.
        program: Arguments of the interpreter, for something else than the tap; `{config}` is the file with settings.
        mark: What stands in each line that brings a result, and in no other.
        environment: Variables to add.

    Raises:
        WrongError: It failed, or did not bring every result once.
    """
    with tempfile.TemporaryDirectory(prefix="tap-defender-lr-benchmark-") as directory:
        folder = Path(directory)
        pipe = folder / "stdout"
        os.mkfifo(pipe)
        with Simulator(tenant, **_LIMITS) as simulator, ThreadPoolExecutor(1) as pool:
            config = folder / "config.json"
            more = {**_LIMITS, **settings, "quota_store": str(folder / "quota.sqlite")}
            config.write_text(json.dumps({**simulator.settings(), **more}), encoding="utf-8")
            reader = pool.submit(_count_results, pipe, mark)
            # The stopwatch is small: on Linux a program's peak is never less than that of its parent.
            watch = Path(__file__).parent / "stopwatch.py"
            done = subprocess.run(
                [
                    *(sys.executable, "-I", "-S", str(watch), str(pipe), str(folder / "stderr")),
                    *(sys.executable, *(part.format(config=config) for part in program)),
                ],
                check=True,
                stdout=subprocess.PIPE,
                cwd=_ROOT,
                env={**os.environ, **simulator.environment(), "NO_PROXY": "localhost", **(environment or {})},
            )
            came = reader.result()
        used = json.loads(done.stdout)
        if used.pop("exit_code") != 0 or came != results:
            errors = (folder / "stderr").read_text(encoding="utf-8", errors="replace").strip()
            raise WrongError(f"{name}: {came} of {results} results came.\n{errors[-2000:]}")
    return Peak(**used)


def _count_results(pipe: Path, mark: bytes) -> int:
    """Reads everything, and keeps nothing but the number of results that were read well."""
    with pipe.open("rb") as lines:
        return sum(mark in line for line in lines)
