"""Meltano projects for the tests: tap and loaders are installed once, settings and state are of each project."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import yaml

from tests.postgres_server import new_server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from defender_simulator import Simulator

ROOT = Path(__file__).resolve().parent.parent
TAP = "tap-defender-lr"
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def blocks(document: str, language: str = "console") -> dict[str, list[str]]:
    """The code blocks of a page, by the heading they stand under."""
    _, *parts = HEADING.split((ROOT / document).read_text(encoding="utf-8"))
    found = {
        heading: re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return {heading: texts for heading, texts in found.items() if texts}


@dataclass
class Database:
    """A PostgreSQL database of its own."""

    uri: str

    @property
    def sqlalchemy(self) -> str:
        return self.uri.replace("postgresql://", "postgresql+psycopg://")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.uri) as connection:
            return connection.execute(statement.encode()).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.uri) as connection:
            connection.execute(statement.encode())

    def count(self, table: str, schema: str = "tap_defender_lr") -> int:
        ((count,),) = self.query(f"select count(*) from {schema}.{table}")
        return int(count)


_server = functools.cache(new_server)


def new_database() -> Database:
    uri, name = _server().get_uri(), f"d{uuid.uuid4().hex}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    return Database(re.sub(r"/postgres(?=\?|$)", f"/{name}", uri))


@dataclass
class Project:
    """A directory in which commands are typed."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(
        self, script: str, *, code: int = 0, typed: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Types these lines into a shell that stops at the first one that fails."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MELTANO_", "TAP_", "TARGET_")) and name != "VIRTUAL_ENV"
        }
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        bash = shutil.which("bash")
        assert bash
        done = subprocess.run(
            [bash, "-euo", "pipefail", "-c", script],
            cwd=self.directory,
            env=environment | self.environment | dict(env or {}),
            input=typed,
            capture_output=True,
            encoding="utf-8",
            timeout=900,
            check=False,
        )
        assert done.returncode == code, f"{script}\n{done.stdout}\n{done.stderr}"
        return done

    def meltano(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        return self.run(shlex.join(["meltano", *arguments]), env=env).stdout

    def use(self, simulator: Simulator, prefix: str = "TAP_DEFENDER_LR") -> None:
        """Points the tap, or one that inherits from it, at this simulator."""
        self.environment |= {f"{prefix}_{name.upper()}": value for name, value in simulator.settings().items()}
        self.environment |= {**simulator.environment(), "NO_PROXY": "localhost", "no_proxy": "localhost"}

    def load_into(self, database: Database) -> None:
        self.environment["TARGET_POSTGRES_SQLALCHEMY_URL"] = database.sqlalchemy

    def rows(self, stream: str) -> list[dict[str, Any]]:
        text = (self.directory / "output" / f"{stream}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def edit(self, change: Any) -> None:
        """Changes meltano.yml as a person does in an editor."""
        file = self.directory / "meltano.yml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        change(document)
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def pinned(plugin: dict[str, Any], constraints: str) -> dict[str, Any]:
    """The plugin with the versions of this checkout, and the tap from it."""
    source = f"-e {shlex.quote(str(ROOT))}" if plugin["name"] == TAP else plugin["pip_url"]
    return {**plugin, "pip_url": f"{source} -c {shlex.quote(str(ROOT / 'requirements' / constraints))}"}


@functools.cache
def _installed() -> Path:
    """A project in which tap and loaders are installed: the checkout's meltano.yml with the loader for PostgreSQL."""
    directory = Path(tempfile.mkdtemp(prefix="meltano-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    document = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    postgres = yaml.safe_load((ROOT / "docs" / "target-postgres.yaml").read_text(encoding="utf-8"))
    (tap,), (jsonl,) = document["plugins"]["extractors"], document["plugins"]["loaders"]
    document["plugins"] = {
        "extractors": [pinned(tap, "dev.txt")],
        "loaders": [pinned(jsonl, "target-jsonl.txt"), pinned(postgres, "target-postgres.txt")],
    }
    (directory / "meltano.yml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    # Each program is started many times, maybe where nobody may write bytecode.
    Project(directory, {"UV_COMPILE_BYTECODE": "1"}).run("meltano install")
    return directory


def checkout(directory: Path) -> Project:
    """A fresh checkout of the project on another machine: nothing but files that one commits, and the environments."""
    directory.mkdir(parents=True)
    shutil.copy(_installed() / "meltano.yml", directory / "meltano.yml")
    (directory / ".meltano").mkdir()
    for kind in ("extractors", "loaders"):
        (directory / ".meltano" / kind).symlink_to(_installed() / ".meltano" / kind, target_is_directory=True)
    return Project(directory, {"TAP_DEFENDER_LR_QUOTA_STORE": str(directory / "quota.sqlite"), "NO_COLOR": "1"})
