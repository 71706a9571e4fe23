"""The statements of `docs/queries`: right, and the same in a warehouse that upserts and over files that only grow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tap_defender_lr.streams.live_response_results import LiveResponseResultsStream
from tap_defender_lr.streams.machine_actions import MachineActionsStream
from tests.fleet_truth import Truth
from tests.query_answers import TRUTHS, drift
from tests.warehouses import ODD_SCRIPTS, ROOT, told

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.warehouses import Fleet

pytestmark = pytest.mark.slow
pytest_plugins = ["tests.warehouse_fixtures"]

QUERIES = ROOT / "docs" / "queries"
PAGE = (QUERIES / "README.md").read_text(encoding="utf-8")
FILES = sorted(file.stem for file in QUERIES.glob("*.sql") if file.stem != "duckdb")


def statement(name: str) -> str:
    return (QUERIES / f"{name}.sql").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def truth(fleet: Fleet) -> Truth:
    return Truth.of_tenant(fleet.tenant)


@pytest.fixture(scope="module")
def files(json_lines: Path) -> Any:
    """DuckDB over the files of `target-jsonl`."""
    connection = duckdb.connect()
    connection.execute(statement("duckdb").replace("'output/", f"'{json_lines.as_posix()}/"))
    return connection


def ask(connection: Any, sql: str) -> list[dict[str, str]]:
    cursor = connection.execute(sql)
    rows = cursor.fetchall()
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, map(told, row), strict=True)) for row in rows]


def in_order(rows: Iterable[dict[str, str]]) -> list[tuple[str, ...]]:
    return sorted(tuple(row.values()) for row in rows)


@pytest.mark.parametrize("name", TRUTHS)
def test_the_answer_is_the_truth(truth: Truth, postgres: Any, files: Any, name: str) -> None:
    expected, columns = TRUTHS[name]
    rows = sorted(tuple(map(told, row)) for row in expected(truth))
    assert len(rows) >= 2
    for connection in (postgres, files):
        found = ask(connection, statement(name))
        assert sorted(tuple(row[column] for column in columns.split()) for row in found) == rows


@pytest.mark.parametrize("name", FILES)
def test_both_warehouses_give_the_same(postgres: Any, files: Any, name: str) -> None:
    answers = [ask(connection, statement(name)) for connection in (postgres, files)]
    assert answers[0]
    assert in_order(answers[0]) == in_order(answers[1])


def test_a_script_name_may_have_any_letter(postgres: Any, files: Any) -> None:
    for connection in (postgres, files):
        scripts = [row["script_name"] for row in ask(connection, statement("waiting_devices"))]
        assert set(ODD_SCRIPTS) <= set(scripts)


def name_of(text: str) -> str:
    """What names a row: the first value of an object, else the text up to the first comma."""
    try:
        item = json.loads(text)
    except ValueError:
        item = {"succeeded": None}
    return text.partition(",")[0] if "succeeded" in item else str(next(iter(item.values())))


@pytest.mark.parametrize(
    "script", ["Get-LocalAdministrators.", "Get-InstalledSoftware.", "Get-ScheduledTasks.", "Get-Übersicht."]
)
def test_drift(truth: Truth, postgres: Any, files: Any, script: str) -> None:
    expected = sorted(drift(truth, script))
    assert len(expected) > 2
    sql = statement("drift").replace("Get-LocalAdministrators.", script)
    for connection in (postgres, files):
        found = []
        for row in ask(connection, sql):
            text = row["now"] if row["before"] == "None" else row["before"]
            found.append((row["computer_dns_name"], row["change"], name_of(text)))
        assert sorted(found) == expected


def test_older_rows_of_a_key_change_nothing(files: Any) -> None:
    """As a loader that appends has them: the same row twice, and one from before with the same last update."""
    before = {name: in_order(ask(files, statement(name))) for name in FILES}
    files.execute("BEGIN")
    try:
        for table, changes in (
            ("live_response_results", "'failed' AS result_status, NULL AS exit_code, NULL AS script_output"),
            ("machine_actions", "'Pending' AS status"),
        ):
            files.execute(f"CREATE TEMPORARY TABLE old AS SELECT * REPLACE ({changes}) FROM {table}")
            files.execute(f"INSERT INTO {table} SELECT * FROM {table}")
            files.execute(f"INSERT INTO {table} SELECT * FROM old")
            files.execute("DROP TABLE old")
        # What waits indeed is the same before and after.
        assert {name: in_order(ask(files, statement(name))) for name in FILES} == before
    finally:
        files.execute("ROLLBACK")


class TestPage:
    def test_it_names_every_file_by_its_question(self) -> None:
        named = re.findall(r"^\| (.+\?|.+) \| \[`(\w+)\.sql`\]\(\2\.sql\) \|$", PAGE, re.MULTILINE)
        assert {file: question for question, file in named} == {
            file: statement(file).partition("\n")[0].removeprefix("-- ") for file in FILES
        }

    def test_duckdb_has_all_columns_of_the_streams(self, files: Any) -> None:
        for stream in (LiveResponseResultsStream, MachineActionsStream):
            columns = [row[0] for row in files.execute(f"DESCRIBE {stream.name}").fetchall()]
            assert columns == list(stream.schema["properties"])

    def test_nothing_was_lost_between_the_file_and_the_table(self, files: Any, json_lines: Path) -> None:
        for stream in (LiveResponseResultsStream, MachineActionsStream):
            lines = (json_lines / f"{stream.name}.jsonl").read_text(encoding="utf-8").splitlines()
            assert files.execute(f"SELECT count(*) FROM {stream.name}").fetchone() == (len(lines),)

    def test_the_python_of_the_page_runs(self, json_lines: Path, tmp_path: Path) -> None:
        (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        (tmp_path / "output").symlink_to(json_lines)
        (tmp_path / "docs").symlink_to(ROOT / "docs")
        environment = {**os.environ, "PYTHONUTF8": "1"}
        shown = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout
        assert "Get-InstalledSoftware.ps1" in shown

    def test_the_report_is_made_as_the_page_says(self, json_lines: Path, tmp_path: Path) -> None:
        (command,) = re.findall(r"^python (-m scripts[.]report .*)$", PAGE, re.MULTILINE)
        (tmp_path / "output").symlink_to(json_lines)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *command.split()], cwd=tmp_path, env=environment, check=True)
        assert "Get-InstalledSoftware.ps1" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def test_three_files_take_commands_apart(self) -> None:
        assert "in the part `scripts` of three of the files" in PAGE
        assert [name for name in FILES if "scripts as (" in statement(name)] == [
            "coverage",
            "script_devices",
            "waiting_devices",
        ]

    def test_psql_runs_a_file(self, postgres: Any) -> None:
        psql = shutil.which("psql")
        if psql is None:
            pytest.skip("there is no psql")
        (command,) = re.findall(r"^psql .*$", PAGE, re.MULTILINE)
        parameters = postgres.info.get_parameters()
        url = f"postgresql:///{postgres.info.dbname}?" + "&".join(
            f"{name}={parameters[name]}" for name in ("host", "user") if name in parameters
        )
        shown = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Get-InstalledSoftware.ps1" in shown.stdout, shown.stderr
