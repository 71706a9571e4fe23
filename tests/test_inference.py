"""The columns that printed rows have."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tap_defender_lr.inference import MAX_COLUMNS, infer
from tap_defender_lr.pieces import Row
from tests.script_values import stream_of

TIME = {"type": "string", "format": "date-time"}
OBJECT = {"type": "object", "additionalProperties": True}
TEXTS = {"type": "array", "items": {"type": ["string", "null"]}}


def infer_from(*rows: dict[str, Any], text_only: bool = False, **entry: Any) -> dict[str, dict[str, Any]]:
    return infer([(Row(index, row, "$"), text_only) for index, row in enumerate(rows)], stream_of(**entry))


@pytest.mark.parametrize(
    ("values", "column"),
    [
        (["x"], {"type": "string"}),
        ([1, 2, None, ""], {"type": "integer"}),
        ([1, Decimal("1.5")], {"type": "number"}),
        ([True, False], {"type": "boolean"}),
        ([True, 1], {"type": "string"}),
        ([1, "x"], {"type": "string"}),
        (["5"], {"type": "string"}),
        (["true"], {"type": "string"}),
        ([2**63], {"type": "string"}),
        ([2**63 - 1], {"type": "integer"}),
        ([Decimal("1E+999999")], {"type": "string"}),
        (["2026-11-24T10:00:00Z", "2026-11-24 10:00:00.5"], TIME),
        (["/Date(1700000000000)/", {"value": "/Date(1)/", "DateTime": "x"}], TIME),
        (["2026-11-24T10:00:00Z", "x"], {"type": "string"}),
        (["2026-11-24"], {"type": "string"}),
        (["24.11.2026 10:00:00"], {"type": "string"}),
        ([{}, {"a": 1}], OBJECT),
        ([[], ["a", None]], TEXTS),
        ([["a"], [1]], {"type": "array"}),
        ([[{"a": 1}]], {"type": "array"}),
        ([{"value": ["a"], "Count": 1}], TEXTS),
        ([[1], {"a": 1}], {"type": "array"}),
        ([["a"], "b", None], TEXTS),
        ([["a"], 1], {"type": "array"}),
        ([None, "", "\x00"], {"type": "string"}),
    ],
)
def test_from_json(values: list[Any], column: dict[str, Any]) -> None:
    assert infer_from(*({"a": value} for value in values)) == {"a": column}


@pytest.mark.parametrize(
    ("values", "column"),
    [
        (["5", "-7", "0", None], {"type": "integer"}),
        (["5", "1.50"], {"type": "number"}),
        (["007"], {"type": "string"}),
        (["+5"], {"type": "string"}),
        ([" 5"], {"type": "string"}),
        (["1e5"], {"type": "string"}),
        (["1,5"], {"type": "string"}),
        (["٣"], {"type": "string"}),
        ([str(2**63)], {"type": "string"}),
        (["True", "false"], {"type": "boolean"}),
        (["True", "0"], {"type": "string"}),
        (["2026-11-24T10:00:00+01:00"], TIME),
        (["[1]"], {"type": "string"}),
    ],
)
def test_from_csv(values: list[Any], column: dict[str, Any]) -> None:
    assert infer_from(*({"a": value} for value in values), text_only=True) == {"a": column}


@pytest.mark.parametrize(
    ("printed", "columns"),
    [
        (["Name", "name", "NAME"], ["Name"]),
        (["machine_id", "Extra"], ["output_machine_id", "output_Extra"]),
        (["OUTPUT_machine_id", "machine_id"], ["OUTPUT_machine_id"]),
        (["a" * 63, "b" * 64, "ö" * 32, "", "a\nb", "a\x00", "\ud800", "a b.c", "größe"], ["a" * 63, "a b.c", "größe"]),
    ],
    ids=["case", "reserved", "reserved in two ways", "odd"],
)
def test_names(printed: list[str], columns: list[str]) -> None:
    assert list(infer_from(*({name: 1} for name in printed))) == columns


def test_columns_are_in_the_order_of_their_first_row() -> None:
    assert list(infer_from({"b": 1}, {"a": 1, "b": 1})) == ["b", "a"]


def test_the_most_frequent_columns_are_kept() -> None:
    columns = infer_from({f"rare{number}": 1 for number in range(300)}, {"often": 1}, {"often": 1})
    assert len(columns) == MAX_COLUMNS
    assert "often" in columns


def test_a_table_with_no_end_of_columns() -> None:
    columns = infer_from({"often": 1}, *({f"file{number}": number, "often": 1} for number in range(20_000)))
    assert len(columns) == MAX_COLUMNS
    assert columns["often"] == {"type": "integer"}


@pytest.mark.parametrize(
    ("value", "column"), [({"a": 1}, {"type": "string"}), (["a"], {"type": "string"}), (5, {"type": "integer"})]
)
def test_a_key_is_no_object_and_no_array(value: Any, column: dict[str, Any]) -> None:
    assert infer_from({"A": value}, key_properties=["machine_id", "a"]) == {"a": column}


def test_nothing_from_nothing() -> None:
    assert infer_from() == {}
