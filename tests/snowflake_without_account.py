"""`target-snowflake` as it is, with an account that only writes down what it is told.

Runs in the loader's environment: `python snowflake_without_account.py FOLDER --config FILE < messages`. FOLDER gets
`statements.sql` and, for each file that would be uploaded, `<table>-<number>.jsonl.gz`.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from snowflake.sqlalchemy.snowdialect import SnowflakeDialect
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.sql.compiler import RESERVED_WORDS
from target_snowflake.connector import SnowflakeConnector
from target_snowflake.target import TargetSnowflake
from typing_extensions import Self, override


class NoRows:
    rowcount = 0

    def fetchone(self) -> None:
        return None

    def fetchall(self) -> list[Any]:
        return []


class Account(MockConnection):
    """Engine and connection in one."""

    def __init__(self, folder: Path) -> None:
        dialect = SnowflakeDialect()
        dialect.identifier_preparer.reserved_words |= RESERVED_WORDS
        super().__init__(dialect, self.write_down)
        self.folder = folder

    @override
    def connect(self, **_: Any) -> Self:
        return self

    def begin(self) -> Self:
        return self

    @override
    def execution_options(self, **_: Any) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write_down(self, statement: Any, parameters: Any = None, **_: Any) -> NoRows:
        sql = " ".join(str(statement.compile(dialect=self.dialect)).split())
        if upload := re.fullmatch(r"put .* '@~/target-snowflake/(\w+)-[0-9a-f-]{36}'", sql):
            number = len(list(self.folder.glob("*.jsonl.gz")))
            staged = self.folder / f"{upload[1]}-{number:03d}.jsonl.gz"
            shutil.copy(urlparse(parameters["file_uri"]).path, staged)
        with (self.folder / "statements.sql").open("a", encoding="utf-8") as statements:
            statements.write(f"{sql};\n")
        return NoRows()


if __name__ == "__main__":
    account = Account(Path(sys.argv.pop(1)))
    SnowflakeConnector.create_engine = lambda _: account
    SnowflakeConnector.schema_exists = lambda *_, **__: True
    SnowflakeConnector.table_exists = lambda *_, **__: False
    TargetSnowflake.cli()
