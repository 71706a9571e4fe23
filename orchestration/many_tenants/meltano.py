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
from urllib.parse import quote, quote_plus

from many_tenants.log import TAP, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LOADER = "target-postgres"
_MELTANO = str(Path(sys.executable).with_name("meltano"))
_PREFIX = "many-tenants-"
_SETTING = "TAP_DEFENDER_LR_"
_WHO_SIGNS_IN = frozenset(
    f"{_SETTING}{name.upper()}"
    for name in (
        *("tenant_id", "client_id", "auth_method", "client_secret", "certificate_path", "certificate_password"),
        *("federated_token_file", "managed_identity_client_id", "token_cache_path", "quota_store"),
    )
)


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    seconds: float
    summary: Summary


@contextlib.contextmanager
def project_of_one_run(project: Path) -> Iterator[tuple[Path, int]]:
    """A Meltano project that only one run uses, and only its user can read; what is installed is shared.

    Two runs of one plugin in one project would write the same files in `.meltano/run`, among them the settings with
    their secrets. A run that is killed leaves them behind: the next one, of any tenant, removes them.

    Yields:
        The folder, and the lock that tells that it is in use, for each process that works in it.
    """
    _remove_what_was_left()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, _locked(Path(name)) as lock:
        directory = Path(name)
        shutil.copy(project / "meltano.yml", directory)
        (directory / ".meltano").mkdir()
        shared = [Path("plugins"), *(Path(".meltano") / kind for kind in ("extractors", "loaders"))]
        for folder in shared:
            if (project / folder).is_dir():
                (directory / folder).symlink_to((project / folder).resolve(), target_is_directory=True)
        yield directory, lock


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[int]:
    """Until all processes that have this lock are gone, however they end.

    Raises:
        OSError: Somebody else has it.
    """
    # It is not there on Windows, where some tests import this module.
    import fcntl  # noqa: PLC0415

    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    finally:
        os.close(lock)


def _remove_what_was_left() -> None:
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            # One that holds nothing yet is about to be locked.
            if directory.lstat().st_uid == os.getuid() and (directory / "meltano.yml").exists():
                with _locked(directory):
                    shutil.rmtree(directory)


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
    secrets = secrets | {environment.get("PGPASSWORD", "")}
    summary, began = Summary(), time.monotonic()
    command = [_MELTANO, "run", "--no-install", "--state-id-suffix", tenant, TAP, LOADER]
    with (
        project_of_one_run(project) as (directory, lock),
        subprocess.Popen(  # noqa: S603  of known words
            command,
            cwd=directory,
            pass_fds=[lock],
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
    with project_of_one_run(project) as (directory, lock):
        return subprocess.run(  # noqa: S603
            [_MELTANO, *words], cwd=directory, env=environment, pass_fds=[lock], check=False
        ).returncode


def inherited(secret_variables: set[str]) -> dict[str, str]:
    """The environment of this process without what is no business of a tenant: secrets of others, and the engine's."""
    kept_away = ("DAGSTER_", "DATABASE_URL", _SETTING)
    return {
        name: value
        for name, value in os.environ.items()
        if name not in secret_variables and not name.startswith(kept_away)
    }


def typed(secret_variables: set[str]) -> dict[str, str]:
    """Settings that a person has put before a command, as the recipes do: they win over those of the tenant.

    Who signs in, and with which ledger of calls, is the tenant's own affair.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_SETTING) and name not in _WHO_SIGNS_IN | secret_variables
    }


def _without(secrets: set[str], line: str) -> str:
    """A belt: the programs themselves do not print them. Shorter ones are words that a log needs."""
    for secret in secrets:
        if len(secret) < 8:
            continue
        # As such, and as it stands in an URL, where SQLAlchemy leaves blank and + as they are.
        for text in (secret, quote(secret), quote(secret, safe=""), quote(secret, safe=" +"), quote_plus(secret)):
            line = line.replace(text, "***").replace(json.dumps(text)[1:-1], "***")
    return line
