"""The PostgreSQL database that holds all that lasts: warehouse, state, ledger of calls, and what runs said."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import make_url

if TYPE_CHECKING:
    from datetime import datetime

    from many_tenants.log import Summary
    from many_tenants.tenants import Tenant, Tenants

_OVERVIEW = Path(__file__).with_name("overview.sql")
_DEFAULT_RATES = {"calls_per_minute": 100, "calls_per_hour": 1500}


@dataclass(frozen=True)
class Database:
    """`postgresql://user:password@host:5432/database`."""

    url: str

    def environment(self, warehouse_schema: str) -> dict[str, str]:
        """What a run of Meltano has to know of it."""
        return {
            "MELTANO_DATABASE_URI": self._in_schema("meltano"),
            "TAP_DEFENDER_LR_QUOTA_STORE": self._in_schema("quota"),
            "TARGET_POSTGRES_SQLALCHEMY_URL": self._in_schema(None),
            "TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA": warehouse_schema,
        }

    def secrets(self) -> set[str]:
        password = make_url(self.url).password
        return {str(password)} if password else set()

    def prepare(self, tenants: Tenants) -> None:
        """Makes what has to be there before the first run; the list of tenants becomes that of the file."""
        with self._connect() as connection:
            # Two at the same time would make the same things.
            connection.execute("select pg_advisory_xact_lock(hashtext('many_tenants'))")
            connection.execute(_OVERVIEW.read_bytes())
            connection.execute("delete from operations.tenants")
            for tenant in tenants:
                connection.execute(
                    "insert into operations.tenants values (%s, %s, %s, %s, %s, make_interval(hours => %s), %s)",
                    (
                        tenant.name,
                        tenant.account,
                        tenant.schema,
                        *_rates(tenant),
                        tenants.stale_after_hours,
                        _is_filtered(tenant),
                    ),
                )

    def record(self, tenant: Tenant, started: datetime, code: int, summary: Summary) -> None:
        """Remembers how a run ended, and how many rows there are now."""
        with self._connect() as connection:
            connection.execute(
                "insert into operations.runs values (%s, %s, clock_timestamp(), %s, %s, %s, %s)",
                (
                    tenant.name,
                    started,
                    code == 0,
                    json.dumps(summary.records),
                    summary.results_left,
                    summary.reason if code else None,
                ),
            )
        # Tables that somebody has changed fail no run: the view says of when its counts are.
        with contextlib.suppress(psycopg.Error), self._connect() as connection:
            connection.execute("select operations.count_rows(%s, %s)", (tenant.name, tenant.schema))

    def overview(self, tenants: Tenants) -> list[dict[str, Any]]:
        """A row for each tenant of the list, those that need a look first."""
        with self._connect() as connection:
            found = connection.cursor(row_factory=dict_row).execute("select * from operations.overview").fetchall()
        known = {row["tenant"]: row for row in found}
        rows = [known.get(tenant.name) or _not_prepared(tenant) for tenant in tenants]
        return sorted(rows, key=lambda row: (not row["stale"], row["tenant"]))

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False))

    def _in_schema(self, schema: str | None) -> str:
        url = make_url(self.url).set(drivername="postgresql+psycopg")
        if schema:
            url = url.update_query_dict({"options": f"-csearch_path={schema}"})
        return url.render_as_string(hide_password=False)


def _rates(tenant: Tenant) -> list[int]:
    return [int(tenant.settings.get(name, default)) for name, default in _DEFAULT_RATES.items()]


def _is_filtered(tenant: Tenant) -> bool:
    """Whether the tap leaves out commands of actions that it brings."""
    return bool(tenant.settings.get("script_names")) or "command_indexes" in str(tenant.settings.get("actions"))


def _not_prepared(tenant: Tenant) -> dict[str, Any]:
    """What stands in for the row of a tenant that the database does not know yet."""
    return {
        "tenant": tenant.name,
        "stale": True,
        "last_success": None,
        "last_failure": "It is new in the list: run `python -m many_tenants prepare`.",
        "results": 0,
        "coverage_percent": None,
        "calls_left_this_hour": _rates(tenant)[1],
    }
