"""Two days of a fleet in warehouses: tables loaded by a real loader that upserts, and by one that appends.

Every statement of `docs/scripts` runs on both, and gives the same on both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from defender_simulator import Simulator
from tap_defender_lr.machine_action import from_api
from tests.conftest import Cli
from tests.library_pages import BY_STREAM, PAGES, Page
from tests.warehouses import ROOT, UNLIMITED, told

if TYPE_CHECKING:
    from pathlib import Path

    from defender_simulator import Tenant
    from tests.warehouses import Fleet

pytestmark = pytest.mark.slow
pytest_plugins = ["tests.warehouse_fixtures"]
COMPANIONS = ("script_output_snapshots", "script_output_errors")
RESULTS = "live_response_results"
Rows = dict[tuple[str, ...], dict[str, Any]]


def printed_last(tenant: Tenant, page: Page) -> Rows:
    """The rows that each device printed in its last whole document, by device and key."""
    found: dict[str, list[dict[str, Any]]] = {}
    actions = [action for action in map(from_api, tenant.actions) if action is not None and action.is_final]
    for action in sorted(actions, key=lambda action: (action.last_update, action.id)):
        result = tenant.results.get((action.id, 0))
        if result is None or action.machine_id is None:
            continue
        try:
            output = json.loads(result.body)["script_output"]
            document = json.loads(next(line for line in output.split("\n") if line.startswith("{")).rstrip("\r\0"))
        except (ValueError, LookupError, TypeError, StopIteration):
            continue
        if page.records in document:
            found[action.machine_id] = document[page.records]
    return {(machine, *(str(row[key]) for key in page.keys)): row for machine, rows in found.items() for row in rows}


@pytest.fixture(scope="module")
def appended(fleet: Fleet) -> Any:
    """A database in which every record is a row of its own, as a loader that appends leaves it."""
    connection = duckdb.connect()
    types = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "object": "JSON", "array": "JSON"}
    schemas: dict[str, dict[str, Any]] = {}
    records: dict[str, list[list[Any]]] = defaultdict(list)
    for message in fleet.messages():
        if message["type"] == "SCHEMA":
            schemas[message["stream"]] = message["schema"]["properties"]
        elif message["type"] == "RECORD" and message["stream"] in {*BY_STREAM, *COMPANIONS, RESULTS}:
            row = [message["record"][name] for name in schemas[message["stream"]]]
            records[message["stream"]].append([json.dumps(v) if isinstance(v, (dict, list)) else v for v in row])
    for stream in (*BY_STREAM, *COMPANIONS, RESULTS):
        columns = []
        for name, column in schemas[stream].items():
            kind = next(kind for kind in column["type"] if kind != "null")
            columns.append(f'"{name}" {"TIMESTAMP" if "format" in column else types.get(kind, "VARCHAR")}')
        connection.execute(f"CREATE TABLE {stream} ({', '.join(columns)})")
        if records[stream]:
            places = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {stream} VALUES ({places})", records[stream])
    return connection


def current(connection: Any, page: Page) -> Rows:
    connection.execute(page.view)
    columns = ["machine_id", *page.columns]
    found = connection.execute(f"SELECT {', '.join(columns)} FROM current_{page.stream}").fetchall()
    rows = [dict(zip(columns, row, strict=True)) for row in found]
    return {(row["machine_id"], *(str(row[key]) for key in page.keys)): row for row in rows}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stream)
def test_the_current_rows_are_what_each_device_printed_last(
    fleet: Fleet, postgres: Any, appended: Any, page: Page
) -> None:
    expected = printed_last(fleet.tenant, page)
    assert len(expected) > 20
    for connection in (postgres, appended):
        found = current(connection, page)
        assert found.keys() == expected.keys()
        for key, row in found.items():
            for name, column in page.columns.items():
                if column.get("format") != "date-time" and column["type"] != "number":
                    assert row[name] == expected[key][name]
                elif expected[key][name] is None:
                    assert row[name] is None
                elif column["type"] == "number":
                    assert float(row[name]) == float(expected[key][name])
                else:
                    assert f"{row[name]:%Y-%m-%dT%H:%M:%SZ}" == expected[key][name]


def test_rows_have_gone_between_the_days(postgres: Any, appended: Any) -> None:
    """Or the test above would not show that rows which vanished are left out."""
    for connection in (postgres, appended):
        for stream in ("installed_software", "local_administrators"):
            connection.execute(BY_STREAM[stream].view)
            keys = ", ".join(["machine_id", *BY_STREAM[stream].keys])
            (kept,) = connection.execute(
                f"SELECT count(*) FROM (SELECT DISTINCT {keys} FROM {stream}) AS seen"
            ).fetchone()
            (now,) = connection.execute(f"SELECT count(*) FROM current_{stream}").fetchone()
            assert now < kept


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stream)
def test_every_question_is_answered_the_same_by_both(postgres: Any, appended: Any, page: Page) -> None:
    assert len(page.questions) == 3
    for connection in (postgres, appended):
        connection.execute(page.view)
    for question, sql in page.questions.items():
        answers = [[tuple(map(told, row)) for row in c.execute(sql).fetchall()] for c in (postgres, appended)]
        assert sorted(answers[0]) == sorted(answers[1]), question


def test_the_question_about_errors_runs(postgres: Any, appended: Any) -> None:
    page = (ROOT / "docs" / "script-streams.md").read_text(encoding="utf-8")
    (sql,) = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for connection in (postgres, appended):
        assert connection.execute(sql).fetchall()


class TestFiles:
    """What `docs/files.md` asks of the table finds the files that were stored."""

    PAGE = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    QUESTIONS = re.findall(r"^ *```sql\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)

    @pytest.mark.parametrize("number", range(6))
    def test_every_question_is_answered_the_same_by_both(self, postgres: Any, appended: Any, number: int) -> None:
        sql = self.QUESTIONS[number]
        answers = [sorted(tuple(map(told, row)) for row in c.execute(sql).fetchall()) for c in (postgres, appended)]
        assert answers[0] == answers[1]
        assert len(self.QUESTIONS) == 6

    def test_the_files_are_those_of_the_table(self, postgres: Any, fleet: Fleet) -> None:
        overview, by_hash, _, checksums, _, _ = self.QUESTIONS
        rows = postgres.execute(overview).fetchall()
        stored = [row for row in rows if row[-1] is not None]
        assert len(stored) >= 2
        lines = {line for (line,) in postgres.execute(checksums).fetchall()}
        files = [path for path in fleet.files.rglob("*") if path.is_file()]
        assert lines == {f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}" for path in files}
        for *_, sha256, url in stored:
            (example,) = re.findall("'([0-9A-F]{64})'", by_hash)
            found = postgres.execute(by_hash.replace(example, sha256.upper())).fetchall()
            assert url in [row[0] for row in found]

    def test_what_was_skipped_can_be_named_in_the_settings(self, fleet: Fleet, tmp_path: Path) -> None:
        """As somebody does it who sets `files_url` late."""
        with Simulator(fleet.tenant, **UNLIMITED) as simulator:
            cli = Cli(tmp_path, simulator, **UNLIMITED)
            before = [record for record in cli.run().records() if record["result_status"] == "skipped"]
            connection = duckdb.connect()
            connection.execute(
                f"CREATE TABLE {RESULTS} (machine_action_id VARCHAR, command_index BIGINT, "
                "result_status VARCHAR, last_update_date_time_utc TIMESTAMP)"
            )
            columns = ("machine_action_id", "command_index", "result_status", "last_update_date_time_utc")
            connection.executemany(
                f"INSERT INTO {RESULTS} VALUES (?, ?, ?, ?)", [[record[name] for name in columns] for record in before]
            )
            ((actions,),) = connection.execute(self.QUESTIONS[-1]).fetchall()
            after = cli.run(actions=json.loads(actions), files_url=str(tmp_path / "files"))
        assert len(before) >= 2
        assert after.code == 0, after.stderr
        keys = [
            {(record["machine_action_id"], record["command_index"]) for record in records}
            for records in (before, after.records())
        ]
        assert keys[0] == keys[1]
        assert {record["result_status"] for record in after.records()} == {"fetched"}


def test_nothing_was_lost_on_the_way(fleet: Fleet, postgres: Any, appended: Any) -> None:
    keys: dict[str, list[str]] = {}
    sent: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for message in fleet.messages():
        if message["type"] == "SCHEMA":
            keys[message["stream"]] = message["key_properties"]
        elif message["type"] == "RECORD":
            sent[message["stream"]].add(tuple(message["record"][key] for key in keys[message["stream"]]))
    for stream in (*BY_STREAM, *COMPANIONS, RESULTS):
        if sent[stream]:
            assert postgres.execute(f"SELECT count(*) FROM {stream}").fetchone() == (len(sent[stream]),)
        assert appended.execute(f"SELECT count(*) >= {len(sent[stream])} FROM {stream}").fetchone() == (True,)
