"""One run of Meltano for one tenant: in a folder of its own, with an environment of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from many_tenants.log import TAP, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LOADER = "target-postgres"
_MELTANO = str(Path(sys.executable).with_name("meltano"))


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    seconds: float
    summary: Summary


@contextlib.contextmanager
def project_of_one_run(project: Path) -> Iterator[Path]:
    """A Meltano project that only one run uses, and only its user can read; what is installed is shared.

    Two runs of one plugin in one project would write the same files in `.meltano/run`, among them the settings with
    their secrets.
    """
    with tempfile.TemporaryDirectory(prefix="many-tenants-") as name:
        directory = Path(name)
        shutil.copy(project / "meltano.yml", directory)
        (directory / ".meltano").mkdir()
        shared = [Path("plugins"), *(Path(".meltano") / kind for kind in ("extractors", "loaders"))]
        for folder in shared:
            if (project / folder).is_dir():
                (directory / folder).symlink_to((project / folder).resolve(), target_is_directory=True)
        yield directory


def run(
    tenant: str,
    environment: Mapping[str, str],
    *,
    project: Path,
    secrets: set[str],
    write: Callable[[str], object],
    tell: Callable[[str], object],
) -> Ended:
    """Runs tap and loader for a tenant, with a state of its own.

    `secrets` are never written, whatever a program prints. `write` takes every line of the log, `tell` what the tap
    says to a person.
    """
    summary, began = Summary(), time.monotonic()
    command = [_MELTANO, "run", "--no-install", "--state-id-suffix", tenant, TAP, LOADER]
    with (
        project_of_one_run(project) as directory,
        subprocess.Popen(  # noqa: S603  of known words
            command,
            cwd=directory,
            env={**environment, "MELTANO_CLI_LOG_FORMAT": "json", "XDG_STATE_HOME": str(directory / "log")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101  for the type checker
        try:
            for line in process.stdout:
                clean = _without(secrets, line)
                write(clean)
                if said := summary.add(clean):
                    tell(said)
        except BaseException:  # the run is cancelled: Meltano passes that on to tap and loader
            process.terminate()
            raise
    return Ended(process.returncode, time.monotonic() - began, summary)


def command(words: Sequence[str], environment: Mapping[str, str], *, project: Path) -> int:
    """Any other command of Meltano, in a folder of its own, too."""
    with project_of_one_run(project) as directory:
        return subprocess.run([_MELTANO, *words], cwd=directory, env=environment, check=False).returncode  # noqa: S603


def inherited(secret_variables: set[str]) -> dict[str, str]:
    """The environment of this process without what is no business of a tenant: secrets of others, and the engine's."""
    kept_away = ("DAGSTER_", "DATABASE_URL", "TAP_DEFENDER_LR_")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in secret_variables and not name.startswith(kept_away)
    }


def _without(secrets: set[str], line: str) -> str:
    """A belt: the programs themselves do not print them. Shorter ones are words that a log needs."""
    for secret in secrets:
        if len(secret) < 8:
            continue
        line = line.replace(secret, "***").replace(json.dumps(secret)[1:-1], "***")
    return line
