"""What becomes of the pieces of one result, where the real command line would take too long or has to be broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock, patch

from tap_defender_lr import result_rows
from tap_defender_lr.columns import Table
from tap_defender_lr.pieces import Reject, Row
from tap_defender_lr.result_rows import ResultRows
from tap_defender_lr.script_streams import ScriptStream

if TYPE_CHECKING:
    import pytest

COLUMNS = {"name": {"type": "string"}, "size": {"type": "number"}}


def read(
    pieces: list[Row | Reject], keys: list[str] | None = None, **table: Any
) -> tuple[ResultRows, list[dict[str, Any]], list[Reject]]:
    stream = ScriptStream.from_entry({"name": "s", "script_name": "x", **({"key_properties": keys} if keys else {})})
    rows = ResultRows(Mock(**table) if table else Table(stream, COLUMNS), stream.key_properties, {"machine_id": "d"})
    found = list(rows.read(pieces))
    records = [record for record in found if isinstance(record, dict)]
    return rows, records, [error for error in found if isinstance(error, Reject)]


def named(*names: str) -> list[Row | Reject]:
    return [Row(index, {"name": name}, f"line {index}") for index, name in enumerate(names)]


def test_no_more_than_so_many_rows_come_of_one_result() -> None:
    with patch.object(result_rows, "MAX_ROWS", 3):
        rows, records, errors = read(named("a", "b", "c", "d", "e"))
    assert [record["name"] for record in records] == ["a", "b", "c"]
    assert [error.reason for error in errors] == ["there are more than 3 rows in this result"]
    assert (rows.complete, rows.rows, rows.errors) == (False, 3, 1)


def test_a_bug_costs_one_result_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    rows, records, (error,) = read(named("a"), cells=Mock(side_effect=ZeroDivisionError("oh")))
    assert (records, rows.complete) == ([], False)
    assert error.reason == "the tap could not read on (ZeroDivisionError): please report it"
    assert "oh" in caplog.text


def test_numbers_that_a_loader_takes_for_the_same_key_are_the_same() -> None:
    pieces: list[Row | Reject] = [Row(index, {"name": "a", "size": size}, "") for index, size in enumerate((1, 1.0))]
    pieces.append(Row(2, {"name": "b", "size": "1.0"}, ""))
    _, records, errors = read(pieces, ["machine_id", "size"])
    assert [record["row_index"] for record in records] == [0]
    assert "row 0 has the same key" in errors[-1].reason
