"""The pages in `docs/scripts`, taken apart: what they promise of the scripts beside them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from scripts.script_library import LIBRARY as LIBRARY  # noqa: PLC0414  shared with the tests
from scripts.script_library import blocks

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Page:
    """The page of one script."""

    folder: Path

    @cached_property
    def text(self) -> str:
        return (self.folder / "README.md").read_text(encoding="utf-8")

    def blocks(self, language: str) -> list[str]:
        """The blocks of code in a language, in their order."""
        return blocks(self.folder.name, language)

    @cached_property
    def entry(self) -> dict[str, Any]:
        """What is to be pasted into the setting `script_streams`."""
        (block,) = self.blocks("json")
        entry: dict[str, Any] = json.loads(block, object_pairs_hook=_unique)
        return entry

    @property
    def stream(self) -> str:
        return str(self.entry["name"])

    @property
    def view(self) -> str:
        """The statement that makes the view of the current rows."""
        return self.blocks("sql")[0]

    @property
    def questions(self) -> dict[str, str]:
        """The queries by their headings."""
        return dict(re.findall(r"^### ([^\n]+\?)\n\n```sql\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL))

    @property
    def records(self) -> str:
        """The name of the list in the document."""
        return str(re.fullmatch(r"\$\.(\w+)\[\*\]", self.entry["records_path"])[1])  # type: ignore[index]

    @property
    def columns(self) -> dict[str, dict[str, str]]:
        return dict(self.entry["schema"]["properties"])

    @property
    def keys(self) -> list[str]:
        """The columns of the key that the script prints."""
        return [name for name in self.entry["key_properties"] if name != "machine_id"]

    @property
    def table(self) -> dict[str, str]:
        """The types by the names of the columns, as the table has them."""
        return dict(re.findall(r"^\| `(\w+)` \| ([a-z-]+) \| \S", self.text, re.MULTILINE))

    @property
    def sample(self) -> str:
        return self.blocks("text")[0]

    @property
    def powershell(self) -> Path:
        (file,) = self.folder.glob("*.ps1")
        return file

    @property
    def shell(self) -> Path | None:
        return next(self.folder.glob("*.sh"), None)

    def check(self, text: str) -> list[dict[str, Any]]:
        """Hold one printed document against what the page says, and return its rows."""
        document = json.loads(text, object_pairs_hook=_unique)
        assert list(document) == ["succeeded", "errors", self.records]
        assert document["succeeded"] is (document["errors"] == [])
        assert all(isinstance(error, str) and error for error in document["errors"])
        rows: list[dict[str, Any]] = document[self.records]
        for row in rows:
            assert list(row) == list(self.columns)
            for name, value in row.items():
                assert fits(value, self.columns[name]), (name, value)
            assert all(row[key] not in {None, ""} for key in self.keys), row
        assert len({tuple(row[key] for key in self.keys) for row in rows}) == len(rows)
        return rows


def fits(value: Any, column: dict[str, str]) -> bool:
    if value is None:
        return True
    if column.get("format") == "date-time":
        return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value) is not None
    kinds: dict[str, Any] = {"string": str, "integer": int, "number": (int, float)}
    is_bool = isinstance(value, bool)
    return is_bool if column["type"] == "boolean" else isinstance(value, kinds[column["type"]]) and not is_bool


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a name twice in one object"
    return dict(pairs)


PAGES = [Page(file.parent) for file in sorted(LIBRARY.glob("*/README.md"))]
BY_STREAM = {page.stream: page for page in PAGES}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stream)
