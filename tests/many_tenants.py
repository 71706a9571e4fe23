"""An installation of orchestration/ for the tests: its programs are real, its tenants are simulated."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from defender_simulator import App, Simulator, Tenant
from tests.conftest import CLIENT_SECRET, World
from tests.loaders import Environment
from tests.meltano_project import ROOT, Database, Project, new_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSWORD = "Make-believe.Password~of-the-database"


@dataclass
class Customer:
    """A tenant of the service provider."""

    name: str
    world: World
    simulator: Simulator

    @property
    def secret(self) -> str:
        return self.world.tenant.apps[0].client_secret

    @property
    def action_ids(self) -> set[str]:
        return {action["id"] for action in self.world.tenant.actions}

    def calls(self, endpoint: str, *, status: int = 200) -> int:
        return len([call for call in self.simulator.calls(endpoint) if call.status == status])


@dataclass
class Customers:
    """All of them, each with a service of its own."""

    folder: Path
    stack: contextlib.ExitStack
    all: dict[str, Customer] = field(default_factory=dict)

    @property
    def authorities(self) -> Path:
        return self.folder / "authorities.pem"

    def add(self, number: int, actions: int) -> Customer:
        name = f"customer_{number:02}"
        app = App(f"4b8d5c2a-6e1f-4f3b-8a7d-{number:012x}", f"{CLIENT_SECRET}~{number:02}")
        world = World(Tenant(f"7c1a2f9e-0d5b-4a63-9a52-{number:012x}", [app]))
        for each in range(1, actions + 1):
            world.add(1000 * number + each)
        self.all[name] = Customer(name, world, self.stack.enter_context(Simulator(world.tenant)))
        texts = [Path(customer.simulator.ca_file).read_text(encoding="utf-8") for customer in self.all.values()]
        replace(self.authorities, "".join(texts))
        return self.all[name]

    def secrets(self) -> set[str]:
        return set[str]().union(*(customer.simulator.secrets() for customer in self.all.values()))


class Installation:
    """The folder in which the page's commands are typed, with the program's environment in `.venv`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "tap-defender-lr").symlink_to(ROOT, target_is_directory=True)
        self.home = folder / "many-tenants"
        self.engine, self.data = new_database(), new_database()
        self.databases = (self.engine, self.data)
        self.environment: dict[str, str] = {"NO_PROXY": "localhost", "no_proxy": "localhost"}

    def url(self, database: Database) -> str:
        """With a password, of which the server takes any."""
        return re.sub(r"^postgresql://postgres:?[^@]*@", f"postgresql://postgres:{PASSWORD}@", database.uri)

    def install(self, copy: str) -> None:
        """What the page installs, in the versions of this checkout."""
        Project(self.folder).run(copy)
        Environment(self.home / ".venv", "orchestration")
        file = self.home / "meltano.yml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        for kind, constraints in (("extractors", "dev.txt"), ("loaders", "target-postgres.txt")):
            (plugin,) = document["plugins"][kind]
            source = plugin["pip_url"].replace("tap-defender-lr", f"-e {ROOT}")
            plugin["pip_url"] = f"{source} -c {ROOT / 'requirements' / constraints}"
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def list_tenants(self, customers: Customers, wrong: str | None = None, **settings: Any) -> None:
        """Writes `tenants.yaml`, and puts each secret where it says."""
        entries = []
        for number, customer in enumerate(customers.all.values()):
            reference = {"env": f"SECRET_OF_{customer.name.upper()}"}
            if number % 3:
                file = self.folder / "secrets" / customer.name
                file.parent.mkdir(exist_ok=True)
                reference = {"file": str(file)}
                file.write_text(
                    "not-the-value-of-a-secret" if customer.name == wrong else f"{customer.secret}\n", encoding="utf-8"
                )
            else:
                self.environment[reference["env"]] = customer.secret
            entries.append({"name": customer.name, **customer.simulator.settings(), "client_secret": reference})
        document = {**settings, "tenants": entries}
        replace(self.home / "tenants.yaml", yaml.safe_dump(document))
        self.environment |= dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(customers.authorities))

    def run(self, script: str, *, code: int = 0) -> str:
        path = {"PATH": f"{self.home / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        project = Project(self.home, self.environment)
        done = project.run(f"export PATH={path['PATH']}\n{script}", code=code)
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def daemon(self, command: str) -> Iterator[None]:
        """The engine, until the block ends."""
        program, *words = command.split()
        words = [str(self.home / ".venv" / "bin" / program), *words]
        with (self.folder / "daemon.log").open("ab") as log:
            process = subprocess.Popen(
                words, cwd=self.home, env={**os.environ, **self.environment}, stdout=log, stderr=log
            )
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=120)

    def report(self) -> list[dict[str, Any]]:
        """What Dagster knows of its runs, the newest first."""
        done = subprocess.run(
            [self.home / ".venv" / "bin" / "python", ROOT / "tests" / "dagster_report.py"],
            cwd=self.home,
            env={**os.environ, **self.environment},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return found

    def statuses(self, job: str) -> dict[str, int]:
        if self.engine.query("select to_regclass('runs')") == [(None,)]:
            return {}
        rows = self.engine.query(f"select status, count(*) from runs where pipeline_name = '{job}' group by status")
        return {str(status): int(count) for status, count in rows}

    def texts(self) -> Iterator[tuple[str, str]]:
        """All that was kept anywhere, but for the secrets and the rows of the warehouse."""
        for database in self.databases:
            tables = database.query(
                "select table_schema, table_name from information_schema.tables "
                "where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')"
            )
            for schema, table in tables:
                for (row,) in database.query(f'select t::text from "{schema}"."{table}" as t'):
                    yield f"{schema}.{table}", row
        for file in self.folder.rglob("*"):
            places = file.relative_to(self.folder).parts
            if "secrets" in places or ".venv" in places or "venv" in places or "tap-defender-lr" in places[:1]:
                continue
            if file.is_file():
                yield str(file), file.read_text(encoding="utf-8", errors="replace")


def replace(file: Path, text: str) -> None:
    """In one step, for somebody may be about to read it."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(file)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Looks once a second."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(1)
