"""The pages of the library, against each other and against the entries in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.library_pages import BY_STREAM, LIBRARY, PAGES, every_page, fits

if TYPE_CHECKING:
    from tests.library_pages import Page


def test_every_folder_has_a_page_and_every_page_a_line_in_the_index() -> None:
    assert [page.folder for page in PAGES] == sorted(folder for folder in LIBRARY.iterdir() if folder.is_dir())
    index = (LIBRARY / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[([\w-]+)\]\(([\w-]+)/README.md\) \| `(\w+)` \|", index, re.MULTILINE)
    assert sorted(listed) == sorted((page.powershell.stem, page.folder.name, page.stream) for page in PAGES)


@every_page
def test_an_entry_names_the_scripts_of_its_folder(page: Page) -> None:
    assert page.stream == page.folder.name.replace("-", "_")
    files = sorted(file.name for file in page.folder.iterdir() if file.name != "README.md")
    assert len({file.rpartition(".")[0] for file in files}) == 1
    ending = ".*" if page.shell else ".ps1"
    assert page.entry["script_name"] == files[0].rpartition(".")[0] + ending
    assert page.entry["success_field"] == "$.succeeded"
    assert page.entry["key_properties"][0] == "machine_id"
    assert set(page.keys) <= set(page.columns)
    assert list(page.columns)[: len(page.keys)] == page.keys


@every_page
def test_the_table_and_the_sample_agree_with_the_schema(page: Page) -> None:
    types = {name: column.get("format", column["type"]) for name, column in page.columns.items()}
    assert page.table == types
    assert len(page.check(page.sample)) == 2


@every_page
def test_a_page_has_a_view_and_three_questions(page: Page) -> None:
    assert page.view.startswith(f"create or replace view current_{page.stream} as\n")
    assert f"partition by s.machine_id, {', '.join(f's.{key}' for key in page.keys)}  -- the key" in page.view
    assert f"where stream_name = '{page.stream}' and complete and coalesce(succeeded, true)" in page.view
    assert "group by machine_id, lower(script_name)" in page.view
    assert "n.script = lower(s.script_name)" in page.view
    assert len(page.questions) == 3
    assert [page.view, *page.questions.values()] == page.blocks("sql")
    for query in page.questions.values():
        assert f"current_{page.stream}" in query
        assert query.count(";") == 1
        assert query.endswith(";\n")


def test_the_index_shows_a_view_of_a_page() -> None:
    assert f"```text\n{BY_STREAM['installed_software'].view}```" in (LIBRARY / "README.md").read_text(encoding="utf-8")


def test_a_wrong_type_does_not_fit() -> None:
    assert fits(1, {"type": "integer"})
    assert not fits(True, {"type": "integer"})
    assert not fits("2025-10-09", {"type": "string", "format": "date-time"})
