"""What the tests of script streams share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tap_defender_lr.columns import Table
from tap_defender_lr.parsing import parse
from tap_defender_lr.script_streams import ScriptStream, problems

if TYPE_CHECKING:
    from tap_defender_lr.pieces import Reject, Row


def stream_of(**entry: Any) -> ScriptStream:
    whole = {"name": "rows", "script_name": "Get-Rows.ps1", **entry}
    assert list(problems([whole])) == [] or entry.get("format") in {"csv", "jsonl"}
    return ScriptStream.from_entry(whole)


def pieces_of(output: str | None, *, cut: bool = False, **entry: Any) -> list[Row | Reject]:
    return list(parse(output, stream_of(**entry), cut=cut).pieces)


def table_of(**entry: Any) -> Table:
    stream = stream_of(**entry)
    return Table(stream, stream.properties or {})
