"""Every loader of `docs/loaders.md`, in its own environment, loads two days of the worst results; both are compared.

What a loader is known to change is asserted as the page says it: when a loader gets better, these tests fail, and the
page is to be corrected.
"""

from __future__ import annotations

import ast
import csv
import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import duckdb
import pytest
import yaml

from defender_simulator import Simulator
from tests.conftest import NOON
from tests.loaders import PAGE, PLUGINS, ROOT, Environment, Loader, blocks, documented
from tests.postgres_server import new_server
from tests.worst_cases import MAX_OUTPUT_BYTES, WORST, Record, Recording, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import World

    Make = Callable[[str], Environment]

pytestmark = pytest.mark.slow
RESULTS = "live_response_results"


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return Recording(tmp_path_factory.mktemp("recording"), fleet=True)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Recording]:
    """The worst values alone, with texts of at most so many bytes."""
    return cache(lambda max_bytes: Recording(tmp_path_factory.mktemp("worst"), max_bytes=max_bytes))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Make:
    return cache(lambda name: Environment(tmp_path_factory.mktemp(name) / "venv", name))


def kind(column: dict[str, Any]) -> str:
    types = [column["type"]] if isinstance(column["type"], str) else column["type"]
    return "date-time" if "format" in column else str(next(kind for kind in types if kind != "null"))


def moment(text: str) -> datetime:
    """A time of the tap, cut to microseconds."""
    return datetime.fromisoformat(f"{text[:26]}+00:00")


def check(stream: Stream, found: list[Record], expected: list[Record], arrives: Callable[[str, Any], Any]) -> None:
    """Hold what a loader left against what it was sent: rows, keys, and every value.

    Args:
        found: Rows by the tap's names of columns; more columns may be in them.
        expected: What is to be found, as it was sent.
        arrives: What becomes of a value of a kind of column.
    """
    wanted = [
        {
            name: None if record[name] is None else arrives(kind(column), record[name])
            for name, column in stream.columns.items()
        }
        for record in expected
    ]
    assert Counter(map(stream.key, found)) == Counter(map(stream.key, wanted))
    # Records of one key keep their order.
    for want, row in zip(sorted(wanted, key=stream.key), sorted(found, key=stream.key), strict=True):
        # Not a comparison of all, since pytest would show the difference of texts of megabytes. True is no 1.
        wrong = {
            name: (repr(value)[:200], repr(row[name])[:200])
            for name, value in want.items()
            if row[name] != value or isinstance(row[name], bool) is not isinstance(value, bool)
        }
        assert not wrong, stream.key(want)


def rows(cursor: Any) -> list[Record]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def load(loader: Loader, days: list[Path], folder: Path) -> None:
    for day in days:
        done = loader.load(day, folder)
        assert done.returncode == 0, done.stderr[-3000:]


def test_the_recording_is_as_bad_as_it_is_meant_to_be(recording: Recording) -> None:
    results = recording.streams[RESULTS]
    texts = [record[name] or "" for record in results.records for name in ("script_output", "script_errors")]
    assert max(len(text.encode()) for text in texts) == MAX_OUTPUT_BYTES
    assert {character for text in texts for character in text} >= {chr(code) for code in range(1, 32)}
    assert {ord(character) >> 16 for text in texts for character in text} == set(range(17))
    assert {2**63 - 1, -(2**63)} < {record["exit_code"] for record in results.records}
    # A row that came on both days, and was healed by the second.
    (healed,) = (key for key, times in Counter(map(results.key, results.records)).items() if times == 2)
    both = [record["result_status"] for record in results.records if results.key(record) == healed]
    assert both == ["failed", "fetched"]
    worst = recording.streams["worst_values"]
    assert max(len(record["name"].encode()) for record in worst.records) > 1900
    assert len(worst.records) == 2 * len(worst.last) - 2
    # The largest row there is: as long as the page says.
    lines = [len(line.encode()) for line in recording.lines()]
    assert 0.99 * 4 * MAX_OUTPUT_BYTES < max(lines) < 4 * MAX_OUTPUT_BYTES + 10_000


class TestPostgres:
    TYPES: ClassVar[dict[str, str]] = {
        "string": "text",
        "integer": "bigint",
        "number": "numeric",
        "boolean": "boolean",
        "date-time": "timestamp without time zone",
        "object": "jsonb",
    }

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[str]:
        """The URL of a server that is not in UTC."""
        server, psycopg = new_server(), pytest.importorskip("psycopg")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute("alter database postgres set timezone = 'Asia/Kolkata'")
            yield server.get_uri()
        finally:
            server.cleanup()

    @pytest.fixture(scope="class")
    @classmethod
    def loader(cls, environment: Make, server: str) -> Loader:
        url = server.replace("postgresql://", "postgresql+psycopg://")
        return documented("target-postgres", environment("target-postgres"), sqlalchemy_url=url)

    @pytest.fixture(scope="class")
    @classmethod
    def database(
        cls, recording: Recording, loader: Loader, server: str, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Any]:
        psycopg = pytest.importorskip("psycopg")
        load(loader, recording.days, tmp_path_factory.mktemp("postgres"))
        with psycopg.connect(server, autocommit=True) as connection:
            yield connection

    @staticmethod
    def arrives(kind: str, value: Any) -> Any:
        return moment(value).replace(tzinfo=None) if kind == "date-time" else value

    def check(self, database: Any, recording: Recording) -> None:
        for name, stream in recording.streams.items():
            check(stream, rows(database.execute(f"select * from {name}")), stream.last, self.arrives)

    def test_every_value_arrives(self, database: Any, recording: Recording) -> None:
        self.check(database, recording)

    def test_a_day_that_is_loaded_again_changes_nothing(
        self, database: Any, recording: Recording, loader: Loader, tmp_path: Path
    ) -> None:
        load(loader, recording.days[1:], tmp_path)
        self.check(database, recording)

    def test_the_types_of_columns(self, database: Any, recording: Recording) -> None:
        for line in (f"| {kind} | `{sql}`" for kind, sql in self.TYPES.items()):
            assert line in PAGE
        asked = "select column_name, data_type, udt_name from information_schema.columns where table_name = %s"
        for name, stream in recording.streams.items():
            types = {column: (data, udt) for column, data, udt in database.execute(asked, [name]).fetchall()}
            for column, schema in stream.columns.items():
                if kind(schema) == "array":
                    items = {"string": "_text", "object": "_jsonb"}[kind(schema["items"])]
                    assert types[column] == ("ARRAY", items)
                else:
                    assert types[column][0] == self.TYPES[kind(schema)]

    def test_the_question_on_the_page(self, database: Any) -> None:
        (question,) = (sql for sql in blocks("sql") if "now()" in sql)
        cursor = database.execute(question)
        assert [column.name for column in cursor.description] == ["computer_dns_name", "script_name", "exit_code"]

    def test_without_the_setting_times_are_shifted(
        self, database: Any, recording: Recording, loader: Loader, tmp_path: Path
    ) -> None:
        name = "script_output_snapshots"
        day = tmp_path / "day.singer"
        day.write_text("".join(line for line in recording.lines() if f'"stream":"{name}"' in line), encoding="utf-8")
        careless = Loader(loader.command, {**loader.config, "default_target_schema": "careless"})
        stream = recording.streams[name]
        sent = {stream.key(record): moment(record["command_end_time"]).replace(tzinfo=None) for record in stream.last}
        for hours in (5.5, 0):
            load(careless, [day], tmp_path)
            found = rows(database.execute(f"select * from careless.{name}"))
            shifts = {row["command_end_time"] - sent[stream.key(row)] for row in found}
            assert shifts == {timedelta(hours=hours)}
            # The other way that the page names. The second load sets all of it right.
            database.execute("alter role postgres set timezone = 'UTC'")
        database.execute("alter role postgres reset timezone")

    def test_meltano_runs_the_commands_on_the_page(
        self, database: Any, loader: Loader, world: World, tmp_path: Path
    ) -> None:
        project = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
        (tap,) = project["plugins"]["extractors"]
        loaders = [dict(plugin) for plugin in PLUGINS.values()]  # all of them can be installed
        project["plugins"] = {"extractors": [{**tap, "pip_url": f"-e {shlex.quote(str(ROOT))}"}], "loaders": loaders}
        for plugin in (*project["plugins"]["extractors"], *loaders):
            pinned = plugin["name"] if plugin in loaders else "dev"
            plugin["pip_url"] += f" -c {shlex.quote(str(ROOT / 'requirements' / pinned))}.txt"
        (tmp_path / "meltano.yml").write_text(yaml.safe_dump(project), encoding="utf-8")
        world.add(1)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MELTANO_", "TAP_"))}
        environment["TARGET_POSTGRES_SQLALCHEMY_URL"] = loader.config["sqlalchemy_url"]
        environment["TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA"] = "by_meltano"
        (commands,) = (block for block in blocks("console") if "meltano run" in block)
        with Simulator(world.tenant) as simulator:
            settings = {**simulator.settings(), "quota_store": str(tmp_path / "quota.sqlite")}
            environment |= {f"TAP_DEFENDER_LR_{name.upper()}": value for name, value in settings.items()}
            for command in commands.splitlines():
                meltano = [sys.executable, "-m", "meltano.cli", *command.split()[1:]]
                done = subprocess.run(
                    meltano,
                    cwd=tmp_path,
                    env=environment | simulator.environment(),
                    capture_output=True,
                    text=True,
                    timeout=300,
                    check=False,
                )
                assert done.returncode == 0, done.stdout + done.stderr
        found = database.execute(
            f"select script_output, last_update_date_time_utc from by_meltano.{RESULTS}"
        ).fetchall()
        assert found == [("state of 1\n", datetime.fromtimestamp(NOON + 1, tz=timezone.utc).replace(tzinfo=None))]


class TestJsonLines:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, recording: Recording, environment: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("jsonl")
        load(documented("target-jsonl", environment("target-jsonl")), recording.days, folder)
        return folder

    def test_every_record_arrives_as_it_was_sent(self, folder: Path, recording: Recording) -> None:
        for name, stream in recording.streams.items():
            with (folder / "output" / f"{name}.jsonl").open(encoding="utf-8", newline="\n") as lines:
                found = [json.loads(line, parse_float=Decimal) for line in lines]
            check(stream, found, stream.records, lambda _, value: value)

    def test_duckdb_reads_them(self, folder: Path, recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        (statements,) = (sql for sql in blocks("sql") if "read_json" in sql)
        with duckdb.connect() as connection:
            connection.execute(statements)
            found = rows(connection.execute(f"select * from {RESULTS}"))
        for row in found:
            row["command_params"] = row["command_params"] and json.loads(row["command_params"])
        stream = recording.streams[RESULTS]
        assert list(found[0]) == list(stream.columns)
        check(stream, found, stream.last, TestPostgres.arrives)

    def test_duckdb_left_alone(self, folder: Path) -> None:
        """What the page warns of."""
        file = folder / "output" / f"{RESULTS}.jsonl"
        with duckdb.connect() as connection:
            with pytest.raises(duckdb.Error, match="maximum_object_size"):
                connection.execute(f"select * from read_json('{file}')")
            guessed = connection.execute(f"describe select * from read_json('{file}', maximum_object_size = 67108864)")
            assert {row[0]: row[1] for row in guessed.fetchall()}["machine_action_id"] == "UUID"


class TestDuckDb:
    MAX_BYTES = 500_000

    @staticmethod
    def arrives(kind: str, value: Any) -> Any:
        if kind in {"object", "array"}:
            return value
        return float(value) if kind == "number" else TestPostgres.arrives(kind, value)

    @staticmethod
    def tables(folder: Path, recording: Recording) -> dict[str, list[Record]]:
        """The rows of each table, under the tap's names of columns, with JSON taken apart."""
        found = {}
        with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
            for name, stream in recording.streams.items():
                lower = {column.lower(): column for column in stream.columns}
                types = {row[0]: row[1] for row in connection.execute(f"describe main.{name}").fetchall()}
                cursor = connection.execute(f"select * from main.{name}")
                assert {column[0] for column in cursor.description} == set(lower)
                found[name] = [{lower[column]: value for column, value in row.items()} for row in rows(cursor)]
                for column, schema in stream.columns.items():
                    if kind(schema) in {"object", "array"}:
                        assert types[column.lower()] == "JSON"
                        for row in found[name]:
                            row[column] = row[column] and json.loads(row[column])
        return found

    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="there is no duckdb 1.2.2 for it")
    @pytest.mark.parametrize("one_by_one", [False, True])
    def test_every_value_arrives_with_the_pin(
        self, tmp_path: Path, recorded: Callable[[int], Recording], environment: Make, one_by_one: bool
    ) -> None:
        """Also when each row is a batch of its own, and so the first of one."""
        recording = recorded(self.MAX_BYTES)
        config = {"batch_size_rows": 1} if one_by_one else {}
        load(documented("target-duckdb", environment("target-duckdb"), **config), recording.days, tmp_path)
        for name, found in self.tables(tmp_path, recording).items():
            stream = recording.streams[name]
            check(stream, found, stream.last, self.arrives)

    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="there is no duckdb 1.2.2 for it")
    def test_a_larger_row_stops_it(self, tmp_path: Path, recording: Recording, environment: Make) -> None:
        done = documented("target-duckdb", environment("target-duckdb")).load(recording.days[0], tmp_path)
        assert done.returncode == 1
        assert "max_line_size" in done.stderr

    def test_without_the_pin_rows_are_lost(
        self, tmp_path: Path, recorded: Callable[[int], Recording], environment: Make
    ) -> None:
        recording = recorded(self.MAX_BYTES)
        load(documented("target-duckdb", environment("target-duckdb-unpinned")), recording.days, tmp_path)
        lost = {
            name: len(recording.streams[name].last) - len(found)
            for name, found in self.tables(tmp_path, recording).items()
        }
        assert lost[RESULTS] > 0, lost


class TestCsv:
    @staticmethod
    def arrives(kind: str, value: Any) -> str:
        return str(moment(value)) if kind == "date-time" else str(value)

    @pytest.fixture(autouse=True)
    def long_fields(self) -> Iterator[None]:
        limit = csv.field_size_limit(2**31 - 1)
        yield
        csv.field_size_limit(limit)

    @staticmethod
    def read(file: Path) -> list[Record]:
        with file.open(encoding="utf-8", newline="") as lines:
            return [{name: value or None for name, value in row.items()} for row in csv.DictReader(lines)]

    def test_every_value_arrives_as_text(self, recording: Recording, environment: Make, tmp_path: Path) -> None:
        load(documented("target-csv", environment("target-csv")), recording.days, tmp_path)
        for name, stream in recording.streams.items():
            files = sorted((tmp_path / "output").glob(f"{name}-[0-9]*.csv"))
            assert len(files) == 2
            found = [row for file in files for row in self.read(file)]
            check(stream, found, stream.records, self.arrives)
            for row, record in zip(found, stream.records, strict=True):
                for column, schema in stream.columns.items():
                    if kind(schema) in {"object", "array"} and row[column]:
                        assert ast.literal_eval(row[column]) == record[column]

    def test_by_default_a_load_replaces_the_one_before(
        self, recorded: Callable[[int], Recording], environment: Make, tmp_path: Path
    ) -> None:
        recording = recorded(TestDuckDb.MAX_BYTES)
        loader = documented("target-csv", environment("target-csv"), file_naming_scheme="{stream_name}.csv")
        load(loader, recording.days, tmp_path)
        keys = {row["machine_action_id"] for row in self.read(tmp_path / "output" / "worst_values.csv")}
        assert len(keys) == 1


class TestSnowflake:
    """The loader runs up to what it would send; see `snowflake_without_account.py`."""

    MAX_BYTES = 4_000_000
    TYPES: ClassVar[dict[str, str]] = {
        "string": "VARCHAR",
        "integer": "DECIMAL",
        "number": "FLOAT",
        "boolean": "BOOLEAN",
        "date-time": "TIMESTAMP_NTZ",
        "object": "VARIANT",
        "array": "VARIANT",
    }

    @pytest.fixture(scope="class")
    @classmethod
    def day(cls, recording: Recording, environment: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("snowflake")
        fake = {"account": "none", "user": "nobody", "password": "none", "database": "db", "warehouse": "none"}
        config = {**PLUGINS["target-snowflake"]["config"], **fake, "add_record_metadata": False}
        without_account = Path(__file__).parent / "snowflake_without_account.py"
        loader = Loader([environment("target-snowflake").python, without_account, folder], config)
        load(loader, recording.days, folder)
        return folder

    def test_the_files_hold_every_row(self, day: Path, recording: Recording) -> None:
        def arrives(kind: str, value: Any) -> Any:
            return moment(value).isoformat(timespec="microseconds") if kind == "date-time" else value

        for name, stream in recording.streams.items():
            found: list[Record] = []
            for file in sorted(day.glob(f"{name}-*.jsonl.gz")):
                with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
                    found += [json.loads(line, parse_float=Decimal) for line in lines]
            check(stream, found, stream.records, arrives)

    def test_the_tables_and_the_merge(self, day: Path, recording: Recording) -> None:
        for line in (f"`{sql}`" for sql in self.TYPES.values()):
            assert line in PAGE
        statements = (day / "statements.sql").read_text(encoding="utf-8")
        for name, stream in recording.streams.items():
            table = re.search(rf'^CREATE TABLE "DEFENDER"."{name.upper()}" \( (.*) \);$', statements, re.MULTILINE)
            assert table is not None
            columns, keys = table[1].split(", PRIMARY KEY ")
            types = dict(re.findall(r'("[^"]+"|\w+) (\w+)(?: NOT NULL)?(?:, |$)', columns))
            expected = {column: self.TYPES[kind(schema)] for column, schema in stream.columns.items()}
            assert {column.strip('"').upper(): sql for column, sql in types.items()} == {
                column.upper(): sql for column, sql in expected.items()
            }
            assert keys == f"({', '.join(stream.keys)})"
            merge = f'merge into "DB"."DEFENDER"."{name.upper()}" d using'
            assert merge in statements
            assert max(map(len, [name, *stream.columns])) <= 255

    def test_rows_fit(self, recorded: Callable[[int], Recording]) -> None:
        assert f"`max_output_bytes: {self.MAX_BYTES}`" in PAGE
        assert max(len(line.encode()) for line in recorded(self.MAX_BYTES).lines()) < 16 * 2**20

    def test_texts_fit(self, recording: Recording) -> None:
        values = (value for record in recording.streams[RESULTS].records for value in record.values())
        assert max(len(value.encode()) for value in values if isinstance(value, str)) <= 16_777_216


class TestBigQuery:
    """The limits that Google documents, and the tables that a loader would create; see `bigquery_tables.py`."""

    MAX_BYTES = 2_000_000
    TYPES: ClassVar[dict[str, str]] = {
        "string": "STRING",
        "integer": "INTEGER",
        "number": "FLOAT",
        "boolean": "BOOLEAN",
        "date-time": "TIMESTAMP",
        "object": "JSON",
    }

    def test_names_columns_and_levels(self, recording: Recording) -> None:
        printed = set(WORST["schema"]["properties"])
        for name, stream in recording.streams.items():
            assert all(re.fullmatch(r"[A-Za-z_]\w{0,299}", column) for column in {name, *stream.columns} - printed)
            assert len({column.lower() for column in stream.columns}) == len(stream.columns)
            assert self.columns_in({"properties": stream.columns}) <= 60
            assert self.levels_in({"properties": stream.columns}) <= 4

    def columns_in(self, schema: dict[str, Any]) -> int:
        inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
        return len(schema.get("properties", {})) + sum(map(self.columns_in, inner))

    def levels_in(self, schema: dict[str, Any]) -> int:
        inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
        return bool(schema.get("properties")) + max(map(self.levels_in, inner), default=0)

    def test_values(self, recording: Recording) -> None:
        for stream in recording.streams.values():
            for column, schema in stream.columns.items():
                values = [record[column] for record in stream.records if record[column] is not None]
                if kind(schema) == "integer":
                    assert all(-(2**63) <= value < 2**63 for value in values)
                elif kind(schema) == "date-time":
                    assert all(moment(value).tzinfo == timezone.utc for value in values)

    def test_rows_fit(self, recording: Recording, recorded: Callable[[int], Recording]) -> None:
        assert f"`max_output_bytes: {self.MAX_BYTES}`" in PAGE
        assert max(len(line.encode()) for line in recording.lines()) < 100_000_000
        assert max(len(line.encode()) for line in recorded(self.MAX_BYTES).lines()) < 8_200_000

    def test_the_tables(self, recording: Recording, environment: Make, tmp_path: Path) -> None:
        assert PLUGINS["target-bigquery"]["config"]["denormalized"]
        schemas = tmp_path / "schemas.singer"
        schemas.write_text("".join(line for line in recording.lines() if '"type":"SCHEMA"' in line), encoding="utf-8")
        tables = Path(__file__).parent / "bigquery_tables.py"
        python = Loader([environment("target-bigquery").python, "-W", "ignore", tables], {})
        done = python.load(schemas, tmp_path)
        assert done.returncode == 0, done.stderr
        for name, table in json.loads(done.stdout).items():
            for column, schema in recording.streams[name].columns.items():
                if kind(schema) == "array":
                    items = {"string": "STRING", "object": "RECORD"}[kind(schema["items"])]
                    assert table[column] == [items, "REPEATED"]
                else:
                    assert table[column][0] == self.TYPES[kind(schema)]

    def test_the_loader_starts_with_the_pin(self, environment: Make) -> None:
        loader = documented("target-bigquery", environment("target-bigquery"))
        assert b"Usage" in subprocess.run([*loader.command, "--help"], check=True, capture_output=True).stdout
        # As it is with newer versions of setuptools, which do not have this module.
        without = "import sys; sys.modules['pkg_resources'] = None; import target_bigquery.target"
        done = subprocess.run([environment("target-bigquery").python, "-c", without], capture_output=True, check=False)
        assert b"ModuleNotFoundError: import of pkg_resources halted" in done.stderr


class TestPage:
    """What is tested is what the page says."""

    @pytest.mark.parametrize("name", PLUGINS)
    def test_versions(self, name: str) -> None:
        pinned = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        package, *others = PLUGINS[name]["pip_url"].split()
        assert re.search(rf"^{re.escape(package)} ", pinned, re.MULTILINE)
        (version,) = re.findall(rf"^\| \[`{name}`\].*? \| (\d\S*?\d)[ ,]", PAGE, re.MULTILINE)
        assert package.endswith(f"=={version}")
        requested = (ROOT / "requirements" / f"{name}.in").read_text(encoding="utf-8").splitlines()
        assert set(others) <= set(requested)
