"""`python -m many_tenants prepare`, `status`, `meltano TENANT WORDS …`."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import timezone
from pathlib import Path
from typing import Any

import psycopg

from many_tenants import meltano, tenants
from many_tenants.database import Database
from many_tenants.tenants import Tenants, TenantsError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m many_tenants")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="make tables and views, and take over the list of tenants")
    commands.add_parser("status", help="tell of each tenant how it stands")
    single = commands.add_parser("meltano", help="run a command of Meltano with the settings of one tenant")
    single.add_argument("tenant")
    single.add_argument("words", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        listed, database = tenants.configured(), _database()
        if arguments.command == "prepare":
            return _prepare(listed, database)
        if arguments.command == "meltano":
            return _meltano(listed, database, arguments.tenant, arguments.words)
        sys.stdout.writelines(described(row) for row in database.overview(listed))
    except (TenantsError, psycopg.Error) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _database() -> Database:
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise TenantsError("The environment variable DATABASE_URL is not set.")
    return Database(url)


def _prepare(listed: Tenants, database: Database) -> int:
    database.prepare(listed)
    # Meltano makes its tables with its first command: here, and not in many runs at once.
    code = meltano.command(
        ["state", "list"],
        {**meltano.inherited(listed.secret_variables()), **database.environment("public")},
        project=Path.cwd(),
    )
    if code == 0:
        sys.stdout.write(f"Ready for {len(listed.tenants)} tenants.\n")
    return code


def _meltano(listed: Tenants, database: Database, name: str, words: list[str]) -> int:
    tenant = listed[name]
    environment = {
        **meltano.inherited(listed.secret_variables()),
        **database.environment(tenant.schema),
        **tenant.environment(os.environ.get),
        **meltano.typed(listed.secret_variables()),
    }
    return meltano.command(words, environment, project=Path.cwd())


def described(row: dict[str, Any]) -> str:
    """A line, and a second one when the last run failed."""
    last = row["last_success"]
    success = f"read {last.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC" if last else "never read"
    unknown = "not known" if row["results"] else "nothing yet"
    coverage = unknown if row["coverage_percent"] is None else f"{row['coverage_percent']} %"
    line = (
        f"{'STALE' if row['stale'] else 'ok':6}{row['tenant']:20}{success}, {row['results']:,} results, "
        f"coverage {coverage}, {row['calls_left_this_hour']:,} calls left this hour\n"
    )
    return line + (f"      {row['last_failure']}\n" if row["last_failure"] else "")


if __name__ == "__main__":
    sys.exit(main())
