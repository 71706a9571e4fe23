"""What the demo shows of the rows that arrived, asked of the loader's files with DuckDB."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import duckdb
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from scripts import script_library
from tap_defender_lr.script_streams import ScriptStream, stream_schema
from tap_defender_lr.streams.script_outputs import ScriptOutputSnapshotsStream

if TYPE_CHECKING:
    from pathlib import Path

Key = tuple[str, int]

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_FILES = {
    "live_response_results": (
        "machine_action_id, command_index",
        {
            "machine_action_id": "VARCHAR",
            "command_index": "INTEGER",
            "computer_dns_name": "VARCHAR",
            "last_update_date_time_utc": "VARCHAR",
            "command_type": "VARCHAR",
            "result_status": "VARCHAR",
            "script_name": "VARCHAR",
            "exit_code": "BIGINT",
            "script_output": "VARCHAR",
            "script_errors": "VARCHAR",
        },
    ),
    "machine_actions": (
        "id",
        {
            "id": "VARCHAR",
            "status": "VARCHAR",
            "computer_dns_name": "VARCHAR",
            "last_update_date_time_utc": "VARCHAR",
            "commands": 'STRUCT(command STRUCT(params STRUCT("key" VARCHAR, "value" VARCHAR)[]))[]',
        },
    ),
}

_TYPES = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "object": "JSON", "array": "JSON"}


def _columns(schema: dict[str, Any]) -> dict[str, str]:
    """What DuckDB calls the columns of a stream; times stay texts."""
    kinds = {
        name: next(kind for kind in column["type"] if kind != "null") for name, column in schema["properties"].items()
    }
    return {name: _TYPES.get(kind, "VARCHAR") for name, kind in kinds.items()}


_SOFTWARE = ScriptStream.from_entry(script_library.entry("installed-software"))
_FILES["installed_software"] = (
    ", ".join(_SOFTWARE.key_properties),
    _columns(stream_schema(_SOFTWARE, _SOFTWARE.properties or {})),
)
_FILES["script_output_snapshots"] = (
    ", ".join(ScriptOutputSnapshotsStream.primary_keys),
    _columns(ScriptOutputSnapshotsStream.schema),
)

# A result belongs to its script, or to the kind of command where no script is involved.
_SCRIPTS = """
WITH results AS (
  SELECT
    coalesce(script_name, command_type) AS script,
    computer_dns_name,
    CASE result_status WHEN 'fetched' THEN coalesce(exit_code, 0) END AS exit_code,
    result_status AS reason,
    new.machine_action_id IS NOT NULL AS is_new
  FROM live_response_results AS result
  LEFT JOIN new ON result.machine_action_id = new.machine_action_id AND result.command_index = new.command_index
), waiting AS (
  SELECT
    coalesce(list_filter(flatten([c.command.params FOR c IN commands]), lambda p: p.key = 'ScriptName')[1].value,
             'not said yet') AS script,
    computer_dns_name
  FROM machine_actions
  WHERE status IN ('Pending', 'InProgress')
), everything AS (
  SELECT script, computer_dns_name, exit_code, is_new, false AS waits FROM results
  UNION ALL
  SELECT script, computer_dns_name, NULL, false, true FROM waiting
), reasons AS (
  SELECT script, string_agg(number || ' ' || reason, ', ' ORDER BY number DESC, reason) AS reasons
  FROM (SELECT script, reason, count(*) AS number FROM results WHERE exit_code IS NULL GROUP BY ALL)
  GROUP BY script
)
SELECT
  script,
  count(DISTINCT computer_dns_name) AS devices,
  count(*) FILTER (exit_code = 0) AS ok,
  count(*) FILTER (exit_code <> 0) AS failed,
  count(*) FILTER (waits) AS waiting,
  count(*) FILTER (is_new) AS new,
  any_value(reasons) AS reasons
FROM everything LEFT JOIN reasons USING (script)
GROUP BY script
ORDER BY devices DESC, script
"""

_NEWEST = """
SELECT computer_dns_name, script_name, exit_code,
       CASE WHEN exit_code = 0 THEN script_output ELSE coalesce(script_errors, script_output) END
FROM live_response_results SEMI JOIN new USING (machine_action_id, command_index)
WHERE exit_code IS NOT NULL
-- One row of each script, then a second one, so that the table is not the same script again and again.
ORDER BY row_number() OVER (PARTITION BY script_name ORDER BY last_update_date_time_utc DESC), script_name
LIMIT 8
"""


def keys(output: Path) -> set[Key]:
    """The keys of the results that have arrived."""
    with _connect(output) as connection:
        return set(connection.execute("SELECT machine_action_id, command_index FROM live_response_results").fetchall())


def scripts(output: Path, new: set[Key]) -> Table:
    """One line per script: on how many devices, and with what outcome."""
    table = _table("What has arrived so far")
    table.add_column("script", no_wrap=True)
    for name in ("devices", "ok", "failed", "waiting", "new"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("no result")
    with _connect(output, new) as connection:
        for script, *counts, reasons in connection.execute(_SCRIPTS).fetchall():
            table.add_row(Text(script), *(str(count) if count else "" for count in counts), reasons)
    return table


def newest(output: Path, new: set[Key]) -> Table:
    """Some of the new rows, with the beginning of what the script printed."""
    table = _table("Some of the new rows")
    table.expand = True
    table.add_column("device", no_wrap=True)
    table.add_column("script", no_wrap=True)
    table.add_column("exit code", no_wrap=True, justify="right")
    table.add_column("output", no_wrap=True, overflow="ellipsis", ratio=1)
    with _connect(output, new) as connection:
        for device, script, exit_code, text in connection.execute(_NEWEST).fetchall():
            style = "" if exit_code == 0 else "red"
            table.add_row(Text(device.partition(".")[0]), Text(script), Text(str(exit_code), style), _one_line(text))
    return table


_VERSIONS = """
WITH counted AS (
  SELECT name, version, count(DISTINCT machine_id) AS devices, min(computer_dns_name) AS one_of_them
  FROM current_installed_software GROUP BY ALL
)
SELECT name, version, devices, one_of_them
FROM counted
-- Programs of which several versions are in use: the ones that somebody asks about.
WHERE name IN (SELECT name FROM counted GROUP BY name HAVING count(*) > 1 ORDER BY sum(devices) DESC, name LIMIT 3)
ORDER BY name, devices DESC, version
LIMIT 9
"""


def software(output: Path) -> Table:
    """Which versions are in use: rows that a script printed, without those that the devices print no more."""
    with _connect(output) as connection:
        connection.execute(script_library.view("installed-software"))
        (rows,) = connection.execute("SELECT count(*) FROM current_installed_software").fetchone()
        (gone,) = connection.execute(f"SELECT count(*) - {rows} FROM installed_software").fetchone()
        table = _table("The table installed_software: programs of which several versions are in use")
        table.caption = f"{rows:,} rows are current; {gone:,} have gone: removed, or updated to another version."
        table.caption_justify = "left"
        for name in ("program", "version", "devices", "one of them"):
            table.add_column(name, justify="right" if name == "devices" else "left", no_wrap=True)
        for name, version, devices, device in connection.execute(_VERSIONS).fetchall():
            table.add_row(_one_line(name), _one_line(version), str(devices), Text(device.partition(".")[0]))
    return table


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )


def _one_line(text: str | None) -> Text:
    """A device may print anything: nothing of it may steer the terminal."""
    plain = _ANSI.sub("", text or "")
    return Text("".join(character if character.isprintable() else " " for character in " ".join(plain.split())))


def _connect(output: Path, new: set[Key] | None = None) -> Any:
    """A database with a view of each stream, which shows the latest row of each key.

    The loader appends, so a row that came again stands further down; times are texts whose order is the order in time.
    One thread, so that rows are numbered as they stand in the file.
    """
    connection = duckdb.connect(config={"threads": 1})
    for stream, (key, columns) in _FILES.items():
        file = output / f"{stream}.jsonl"
        if not file.exists():
            fields = ", ".join(f"NULL::{kind} AS {name}" for name, kind in columns.items())
            connection.execute(f"CREATE VIEW {stream} AS SELECT {fields} WHERE false")
            continue
        connection.execute(
            f"""
            CREATE TABLE {stream} AS
            SELECT * FROM (SELECT *, row_number() OVER () AS line FROM read_json($file, columns = $columns,
              format = 'newline_delimited', maximum_object_size = 67108864))
            QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY last_update_date_time_utc DESC, line DESC) = 1
            """,
            {"file": str(file), "columns": columns},
        )
    connection.execute("CREATE TABLE new (machine_action_id VARCHAR, command_index INTEGER)")
    if new:
        connection.executemany("INSERT INTO new VALUES (?, ?)", sorted(new))
    return connection
