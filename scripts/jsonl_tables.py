"""The files of target-jsonl as tables in DuckDB, and the statements of `docs/queries` asked of them."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import duckdb

QUERIES = Path(__file__).resolve().parent.parent / "docs" / "queries"

Row = dict[str, Any]


def connect(output: Path) -> Any:
    """A database with the two tables of `docs/queries/duckdb.sql`; one without a file is empty.

    One thread, so that rows are numbered as they stand in the file.
    """
    connection = duckdb.connect(config={"threads": 1})
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.jsonl"
        empty.touch()

        def place(match: re.Match[str]) -> str:
            file = output / match[1]
            path = (file if file.exists() else empty).resolve().as_posix()
            return "'" + path.replace("'", "''") + "'"

        connection.execute(re.sub(r"'output/(\w+\.jsonl)'", place, statement("duckdb")))
    return connection


def statement(name: str) -> str:
    return (QUERIES / f"{name}.sql").read_text(encoding="utf-8")


def ask(connection: Any, sql: str) -> list[Row]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
