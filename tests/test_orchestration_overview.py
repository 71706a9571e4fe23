"""How each tenant stands, and whose turn it is: the parts of orchestration/ that need PostgreSQL, but no engine."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from many_tenants import database, turns
from many_tenants.log import Summary
from many_tenants.tenants import Tenant, Tenants

from tests.meltano_project import ROOT, Database, Project, new_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = (ROOT / "docs" / "many-tenants.md").read_text(encoding="utf-8")
NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
TABLES = """
create schema if not exists tenant_{name};
create table tenant_{name}.live_response_results
  (machine_action_id text, command_index bigint, result_status text, last_update_date_time_utc timestamp);
create table tenant_{name}.machine_actions (id text, status text, commands jsonb[]);
insert into tenant_{name}.machine_actions values
  ('1', 'Succeeded', array['{{}}', '{{}}']::jsonb[]), ('2', 'Failed', array['{{}}']::jsonb[]),
  ('3', 'Pending', array['{{}}']::jsonb[]), ('4', 'Succeeded', array['{{}}']::jsonb[]);
insert into tenant_{name}.live_response_results values
  ('1', 0, 'fetched', '2026-01-01'), ('1', 1, 'fetched', '2026-01-02'), ('2', 0, 'not_run', '2026-01-03'),
  ('4', 0, 'failed', '2026-01-04');
"""


def listed(*names: str, every_minutes: int = 60, **settings: Any) -> Tenants:
    found = (Tenant(name, {"tenant_id": name, "client_id": "1", **settings}) for name in names)
    return Tenants(every_minutes, 6, 3, 60, tuple(found))


class Warehouse:
    """A database with a tenant whose tables are there, and one that was never read."""

    def __init__(self) -> None:
        self.data: Database = new_database()
        self.store = database.Database(self.data.uri)
        self.tenants = listed("contoso", "fabrikam")
        self.store.prepare(self.tenants)
        self.data.execute(TABLES.format(name="contoso"))

    def record(self, name: str = "contoso", code: int = 0) -> None:
        self.store.record(self.tenants[name], NOON, code, Summary())

    def row(self, name: str = "contoso") -> dict[str, Any]:
        (row,) = (row for row in self.store.overview(self.tenants) if row["tenant"] == name)
        return row

    def results(self) -> int:
        return int(self.row()["results"])

    def lose(self, status: str) -> None:
        self.data.execute(f"delete from tenant_contoso.live_response_results where result_status = '{status}'")


@pytest.fixture(scope="module")
def shared() -> Warehouse:
    return Warehouse()


@pytest.fixture
def warehouse(shared: Warehouse) -> Iterator[Warehouse]:
    yield shared
    shared.tenants = listed("contoso", "fabrikam")
    shared.store.prepare(shared.tenants)
    shared.data.execute("drop schema if exists tenant_contoso cascade; truncate operations.runs, operations.counts")
    shared.data.execute(TABLES.format(name="contoso"))


def test_rows_are_counted_when_a_run_has_ended(warehouse: Warehouse) -> None:
    assert warehouse.results() == 0
    warehouse.record()
    row = warehouse.row()
    assert (row["results"], row["failed_results"]) == (4, 1)
    assert row["results_by_status"] == {"fetched": 2, "not_run": 1, "failed": 1}
    assert row["newest_result"] == datetime(2026, 1, 4)  # noqa: DTZ001  the loader's columns have no zone
    assert (row["actions"], row["open_actions"], row["complete_actions"], row["coverage_percent"]) == (4, 1, 2, 50)
    assert not row["stale"]
    assert warehouse.row("fabrikam")["coverage_percent"] is None


def test_to_look_at_all_tenants_touches_no_table_of_results(warehouse: Warehouse) -> None:
    warehouse.record()
    with warehouse.store._connect() as connection:
        connection.execute("lock table tenant_contoso.live_response_results, tenant_contoso.machine_actions")
        with warehouse.store._connect() as other:
            other.execute("set lock_timeout = '1s'; select * from operations.overview")


@pytest.mark.parametrize(("took", "hours", "results"), [("2 s", 1, 4), ("2 s", 7, 3), ("0.5 s", 1, 3)])
def test_what_takes_long_is_counted_every_six_hours(warehouse: Warehouse, took: str, hours: int, results: int) -> None:
    warehouse.record()
    warehouse.data.execute(
        f"update operations.counts set took = '{took}', counted_at = now() - interval '{hours} hour'"
    )
    warehouse.lose("failed")
    warehouse.record()
    assert warehouse.results() == results


def test_after_its_schema_is_dropped_a_tenant_has_no_results(warehouse: Warehouse) -> None:
    warehouse.record()
    warehouse.data.execute("drop schema tenant_contoso cascade")
    row = warehouse.row()
    assert (row["results"], row["results_by_status"], row["coverage_percent"]) == (0, {}, None)


def test_a_table_that_cannot_be_counted_fails_no_run(warehouse: Warehouse) -> None:
    warehouse.record()
    warehouse.data.execute("alter table tenant_contoso.live_response_results drop column result_status")
    warehouse.record(code=1)
    row = warehouse.row()
    assert (row["last_failure"], row["results"]) == (Summary().reason, 4)
    assert row["counted_at"] < row["last_run"]


@pytest.mark.parametrize(
    "settings",
    [{"script_names": ["Get-State.ps1"]}, {"actions": [{"id": "1", "command_indexes": [0]}]}],
    ids=lambda settings: next(iter(settings)),
)
def test_coverage_is_not_known_when_only_some_commands_are_wanted(
    warehouse: Warehouse, settings: dict[str, Any]
) -> None:
    warehouse.tenants = listed("contoso", **settings)
    warehouse.store.prepare(warehouse.tenants)
    warehouse.record()
    row = warehouse.row()
    assert (row["results"], row["actions"]) == (4, 4)
    assert (row["complete_actions"], row["coverage_percent"]) == (None, None)


def test_a_tenant_that_was_not_prepared_is_told_of(warehouse: Warehouse) -> None:
    warehouse.record()
    warehouse.tenants = listed("contoso", "woodgrove")
    row, contoso = warehouse.store.overview(warehouse.tenants)
    assert (row["tenant"], row["stale"], contoso["tenant"]) == ("woodgrove", True, "contoso")
    assert "many_tenants prepare" in row["last_failure"]


def test_a_database_of_an_earlier_version_is_taken_over(warehouse: Warehouse) -> None:
    warehouse.data.execute("drop table operations.counts cascade; drop function operations.count_rows")
    warehouse.data.execute("alter table operations.tenants drop column filtered cascade")
    warehouse.store.prepare(warehouse.tenants)
    warehouse.record()
    assert warehouse.results() == 4


def test_turns_are_spread_and_each_tenant_has_one() -> None:
    tenants = listed(*(f"t{number}" for number in range(600)))
    started = dict.fromkeys((tenant.name for tenant in tenants), NOON.timestamp())
    sizes, seen = [], set()
    for minute in range(1, 61):
        now = NOON + timedelta(minutes=minute)
        due = [tenant.name for tenant in turns.due(tenants, now, started)]
        started |= dict.fromkeys(due, now.timestamp())
        sizes.append(len(due))
        seen.update(due)
    assert sum(sizes) == len(seen) == 600
    assert max(sizes) < 30


@pytest.mark.parametrize(
    ("started", "due"),
    [
        (None, True),
        (-1, True),  # before its turn, at which nobody was there
        (1, False),
        (5, False),  # it waited in the queue at its turn
    ],
)
@pytest.mark.parametrize("every_minutes", [60, 1440])
def test_a_turn_that_is_missed_is_made_up_for(started: int | None, every_minutes: int, *, due: bool) -> None:
    tenants = listed("contoso", every_minutes=every_minutes)
    turn = turns.newest_turn("contoso", NOON, every_minutes)
    known = {} if started is None else {"contoso": float(turn + started)}
    later = datetime.fromtimestamp(turn, timezone.utc) + timedelta(minutes=every_minutes - 1)
    assert bool(turns.due(tenants, later, known)) == due
    assert turns.due(tenants, later + timedelta(minutes=1), known), "its next turn"


@pytest.mark.slow  # Meltano starts three times
def test_state_and_history_can_be_deleted_as_the_page_says(tmp_path: Path) -> None:
    (clear,) = re.findall(r"`(python -m many_tenants meltano fabrikam state clear [^`]+)`", PAGE)
    purges = re.findall(r"`(delete from (\S+) [^`]+)`", PAGE)
    assert [table for _, table in purges] == ["operations.runs", "meltano.runs"]
    folder, data = tmp_path / "many-tenants", new_database()
    shutil.copytree(ROOT / "orchestration", folder)
    project = Project(folder, {"DATABASE_URL": data.uri, "PYTHONDONTWRITEBYTECODE": "1"})
    document = {"tenants": [{"name": "fabrikam", "tenant_id": "fabrikam", "client_id": "1"}]}
    (folder / "tenants.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    state, content = "prod:tap-defender-lr-to-target-postgres:fabrikam", '{"singer_state": {}}'
    project.run("python -m many_tenants prepare")
    project.run(f"python -m many_tenants meltano fabrikam state set --force {state} '{content}'")
    assert data.query("select state_id from meltano.state") == [(state,)]
    project.run(clear)
    assert data.query("select state_id from meltano.state") == []
    for days in (80, 100):
        data.execute(
            f"""insert into operations.runs select 'fabrikam', day, day, true, '{{}}', 0 from (
                  select now() - interval '{days * 24 + 2} hours' as day) as days;
                insert into meltano.runs (job_name, run_id, state, started_at, payload, payload_flags, trigger)
                select 'x', gen_random_uuid(), 'SUCCESS', now() - interval '{days * 24 + 2} hours', '{{}}', 0, ''"""
        )
    before = data.count("runs", "meltano")
    for statement, _ in purges:
        data.execute(statement)
    (silence,) = re.findall(r"`(select now\(\) [^`]+)`", PAGE)
    assert data.query(silence)[0][0].days == 80
    assert (data.count("runs", "operations"), data.count("runs", "meltano")) == (1, before - 1)
