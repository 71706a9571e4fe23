"""The PostgreSQL database that holds all that lasts: warehouse, state, ledger of calls, and what runs said."""

from __future__ import annotations

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
    from many_tenants.tenants import Tenants

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
                rates = [int(tenant.settings.get(name, default)) for name, default in _DEFAULT_RATES.items()]
                connection.execute(
                    "insert into operations.tenants values (%s, %s, %s, %s, %s, make_interval(hours => %s))",
                    (tenant.name, tenant.account, tenant.schema, *rates, tenants.stale_after_hours),
                )

    def record(self, tenant: str, started: datetime, code: int, summary: Summary) -> None:
        """Remembers how a run ended."""
        with self._connect() as connection:
            connection.execute(
                "insert into operations.runs values (%s, %s, clock_timestamp(), %s, %s, %s, %s)",
                (
                    tenant,
                    started,
                    code == 0,
                    json.dumps(summary.records),
                    summary.results_left,
                    summary.reason if code else None,
                ),
            )

    def overview(self) -> list[dict[str, Any]]:
        with self._connect() as connection:
            return connection.cursor(row_factory=dict_row).execute("select * from operations.overview").fetchall()

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False))

    def _in_schema(self, schema: str | None) -> str:
        url = make_url(self.url).set(drivername="postgresql+psycopg")
        if schema:
            url = url.update_query_dict({"options": f"-csearch_path={schema}"})
        return url.render_as_string(hide_password=False)
