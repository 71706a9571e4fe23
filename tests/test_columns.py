"""Printed values become cells that fit their column, or null and an error that tells what does not fit."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tap_defender_lr.cells import free
from tap_defender_lr.columns import Table, column_name
from tap_defender_lr.pieces import Reject, Row
from tap_defender_lr.text import MAX_DEPTH, TOO_DEEP
from tests.script_values import stream_of, table_of

STAMP = "2023-11-14T22:13:20.0000000Z"
CUT_BY_DEPTH = [
    "System.Object[]",
    "System.String[]",
    "System.Collections.Hashtable",
    "System.Collections.Generic.List`1[System.Object]",
    "System.Collections.ArrayList",
    "System.Management.Automation.PSCustomObject",
    "@{a=1; b=2}",
    "@{a=1;\nb=2}",
    "Microsoft.Management.Infrastructure.CimInstance#root/cimv2/Win32_Service",
]
ORDINARY = [
    "System Restore",
    "System.exe",
    "Microsoft Edge",
    "SQL Server",
    "@home",
    "/Date",
    "Microsoft.Management",
    "S",
]
UNFIT = object()
NOTHING = {"name": None, "Size": None}


def read(values: dict[str, Any], properties: dict[str, Any], **entry: Any) -> tuple[dict[str, Any], list[Reject]]:
    cells, errors = table_of(schema={"properties": properties}, **entry).cells(Row(7, values, "line 9"))
    assert cells is not None
    return cells, errors


def cell(value: Any, column: dict[str, Any], **entry: Any) -> Any:
    """What a value becomes in a column, `UNFIT` if it does not fit."""
    cells, errors = read({"a": value}, {"a": column}, **entry)
    assert cells["extra"] is None
    if errors:
        assert cells["a"] is None
        return UNFIT
    return cells["a"]


def unfit(*values: Any) -> list[tuple[Any, Any]]:
    return [(value, UNFIT) for value in values]


def is_same(one: Any, other: Any) -> bool:
    """Equal and of the same type: `1`, `True` and `Decimal(1)` are not the same."""
    return repr(one) == repr(other)


DATES = [
    ("/Date(1700000000000)/", STAMP),
    ("/Date(1700000000000+0100)/", STAMP),
    ("/Date(-1)/", "1969-12-31T23:59:59.9990000Z"),
    ({"value": "/Date(1700000000000)/", "DisplayHint": 2, "DateTime": "14. November"}, STAMP),
    ({"value": "/Date(1700000000000)/", "DateTime": "14. November"}, STAMP),
    ({"value": "2023-11-14T23:13:20+01:00", "DisplayHint": 2, "DateTime": "14. November"}, STAMP),
]
CASES: dict[str, list[tuple[Any, Any]]] = {
    "string": [
        ("x", "x"),
        (" x ", " x "),
        ("ä\x00\ud800", "ä\ufffd"),
        ("\x00", None),
        ("", None),
        (None, None),
        (4, "4"),
        (Decimal("1.10"), "1.10"),
        (Decimal("0.0000001"), "0.0000001"),
        (Decimal("1E+2"), "100"),
        (Decimal("1E+999999"), "1E+999999"),
        (10**30, "1" + "0" * 30),
        (True, "true"),
        (False, "false"),
        ([1, Decimal("1.10"), {"a": "ä"}], '[1,1.10,{"a":"ä"}]'),
        ({"a": ["/Date(1700000000000)/"]}, f'{{"a":["{STAMP}"]}}'),
        ({}, "{}"),
        ("/Date(99999999999999999)/", "/Date(99999999999999999)/"),
        ("/Date(x)/", "/Date(x)/"),
        *((text, text) for text in ORDINARY),
        *DATES,
    ],
    "integer": [
        (5, 5),
        ("5", 5),
        (" 5 ", 5),
        ("+5", 5),
        ("-5", -5),
        ("007", 7),
        (Decimal("5.0"), 5),
        ("5.0", 5),
        ("1e3", 1000),
        (2**63 - 1, 2**63 - 1),
        (str(-(2**63)), -(2**63)),
        ("", None),
        *unfit(Decimal("5.5"), "5.5", True, 2**63, str(2**63), "x", "5 5", "0x5", "٣", "1_0"),
        *unfit([5], {"a": 5}, Decimal("1E+999999"), "9" * 5000, "1e999", "1,5", " "),
    ],
    "number": [
        (5, 5),
        ("5", 5),
        (Decimal("1.10"), Decimal("1.10")),
        ("1.10", Decimal("1.10")),
        (" -.5 ", Decimal("-0.5")),
        ("1.5E-7", Decimal("1.5E-7")),
        ("5.", Decimal(5)),
        (10**99, 10**99),
        *unfit("NaN", "Infinity", "-Infinity", "1e999", "1e99999999999999999999", True, "1,5"),
        *unfit(10**100, Decimal("1E+301"), "9" * 5000, [1], {}, "x", "1.2.3"),
    ],
    "boolean": [
        *((value, True) for value in (True, "true", "True", " TRUE ", 1, "1")),
        *((value, False) for value in (False, "false", "False", 0, "0")),
        *unfit("yes", 2, "x", [True], {"a": True}),
    ],
    "date-time": [
        *DATES,
        ("2023-11-14T22:13:20Z", STAMP),
        ("2023-11-14 22:13:20", STAMP),
        ("2023-11-14T23:13:20.12345678+01:00", "2023-11-14T22:13:20.1234567Z"),
        ("2026-11-24", "2026-11-24T00:00:00.0000000Z"),
        (" 2026-11-24 ", "2026-11-24T00:00:00.0000000Z"),
        *unfit("24.11.2026", "2026-02-30", "11/24/2026 1:02:03 PM", 1700000000, True, [], "x"),
        *unfit("/Date(99999999999999999)/", "2026-11-24" + " " * 9000, {"DateTime": "x"}),
    ],
    "object": [
        ({"a": 1}, {"a": 1}),
        ({}, {}),
        ('{"a": 1.10}', {"a": Decimal("1.10")}),
        *unfit([{"a": 1}], "x", "{x", "[1]", 5, True, DATES[3][0]),
    ],
    "array": [
        (["a", 1, None, ""], ["a", 1, None, ""]),
        ([], []),
        ("a", ["a"]),
        ("a; b;", ["a", "b"]),
        (5, [5]),
        (False, [False]),
        ({"x": 1}, [{"x": 1}]),
        ('["a", 1.10]', ["a", Decimal("1.10")]),
        (' {"x": 1}', [{"x": 1}]),
        ("[INFO]", ["[INFO]"]),
        ("{8A2}; {8A3}", ["{8A2}", "{8A3}"]),
        ({"value": [1, 2], "Count": 2}, [1, 2]),
        ('{"value": [1], "Count": 1}', [1]),
        ("/Date(1700000000000)/", [STAMP]),
        ({"value": [], "Count": 0}, []),
    ],
}


@pytest.mark.parametrize(
    ("kind", "value", "expected"), [(kind, *case) for kind, cases in CASES.items() for case in cases]
)
def test_a_value_in_a_column(kind: str, value: Any, expected: Any) -> None:
    column = {"type": "string", "format": "date-time"} if kind == "date-time" else {"type": [kind, "null"]}
    found = cell(value, column)
    assert found is expected if expected is UNFIT else is_same(found, expected)


@pytest.mark.parametrize(
    ("kind", "printed", "expected"),
    [
        ("number", "1.234,5", Decimal("1234.5")),
        ("number", "1,5", Decimal("1.5")),
        ("number", "-1.234.567,89", Decimal("-1234567.89")),
        ("number", "1 234,5", Decimal("1234.5")),
        ("number", "1\u202f234,5", Decimal("1234.5")),
        ("number", "1'234,5", Decimal("1234.5")),
        ("number", "1.234", 1234),
        ("number", "1.5", Decimal("1.5")),
        ("number", Decimal("1.5"), Decimal("1.5")),
        ("number", "12.34,5", UNFIT),
        ("number", "1,5,6", UNFIT),
        ("number", "1" * 300_000, UNFIT),
        ("number", True, UNFIT),
        ("integer", "1.234", 1234),
        ("integer", "5,0", 5),
        ("integer", "5,5", UNFIT),
        ("integer", 5, 5),
        ("string", "1,5", "1,5"),
    ],
)
def test_decimal_comma(kind: str, printed: Any, expected: Any) -> None:
    found = cell(printed, {"type": kind}, decimal_comma=True)
    assert found is expected if expected is UNFIT else is_same(found, expected)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ({"type": "string", "pattern": "^a"}, "ab", "ab"),
        ({"type": "string", "pattern": "^a"}, "b", UNFIT),
        ({"type": "string", "pattern": "^a"}, "\x00", None),
        ({"type": "string", "enum": ["a", "b"]}, "b", "b"),
        ({"type": "string", "enum": ["a", "b"]}, "c", UNFIT),
        ({"type": "integer", "minimum": 5}, "5", 5),
        ({"type": "integer", "minimum": 5}, 4, UNFIT),
        ({"type": "number", "minimum": 0.1}, Decimal("0.1"), Decimal("0.1")),
        ({"type": "number", "maximum": 0.1}, Decimal("0.11"), UNFIT),
        ({"type": "number", "enum": [1.1]}, "1.1", Decimal("1.1")),
        ({"type": "number", "multipleOf": 0.1}, Decimal("0.3"), Decimal("0.3")),
        ({"type": "number", "multipleOf": 0.1}, Decimal("0.35"), UNFIT),
        ({"type": "number", "multipleOf": 0.1}, Decimal("1E+300"), UNFIT),
        ({"type": "array", "items": {"type": "integer"}}, [1, 2], [1, 2]),
        ({"type": "array", "items": {"type": "integer"}}, [1, "2"], UNFIT),
        ({"type": "array", "items": {"type": "string"}}, ["a", None, True, Decimal("1.10")], ["a", "true", "1.10"]),
        ({"type": "array", "items": {"type": ["string", "null"]}}, [1, None], ["1", None]),
        ({"type": "array", "items": {"type": "string", "pattern": "^a"}}, ["a", "b"], UNFIT),
        ({"type": "array", "items": {}, "maxItems": 1}, ["a", "b"], UNFIT),
        ({"type": "object", "required": ["a"]}, {"a": 1}, {"a": 1}),
        ({"type": "object", "required": ["a"]}, {"b": 1}, UNFIT),
        ({"type": "object", "properties": {"a": {"type": "number"}}}, {"a": Decimal("1.5")}, {"a": Decimal("1.5")}),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, {"a": Decimal("1.0")}, {"a": Decimal("1.0")}),
        ({"type": "object", "properties": {"a": {"type": "number"}}}, {"a": True}, UNFIT),
        ({"type": "object", "additionalProperties": True}, {"b": 1}, {"b": 1}),
    ],
)  # fmt: skip
def test_constraints(column: dict[str, Any], value: Any, expected: Any) -> None:
    found = cell(value, column)
    assert found is expected if expected is UNFIT else is_same(found, expected)


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ({"type": "integer"}, "is not an integer of 64 bits"),
        ({"type": "number"}, "is not a number"),
        ({"type": "boolean"}, "is not true or false"),
        ({"type": "string", "format": "date-time"}, "is not a date and time such as 2026-01-31T18:00:00Z"),
        ({"type": "object"}, "is not an object"),
        ({"type": "string", "enum": ["a"]}, "is not a text as its schema wants it"),
        ({"type": "integer", "description": "How many", "minimum": 1}, "is not an integer of 64 bits as its schema"),
    ],
)
def test_what_does_not_fit_is_told(column: dict[str, Any], sentence: str) -> None:
    cells, (error,) = read({"a": "x" * 2000, "b": "y"}, {"a": column, "b": {"type": "string"}})
    assert (cells["a"], cells["b"]) == (None, "y")
    assert error.reason.startswith(sentence)
    assert error == Reject(error.reason, "x" * 1000, "line 9", 7, "a")


class TestDepthCuts:
    @pytest.mark.parametrize("printed", CUT_BY_DEPTH)
    @pytest.mark.parametrize("kind", ["string", "object", "array", "integer"])
    def test_are_told_once_for_each_column(self, kind: str, printed: str) -> None:
        cells, (error,) = read({"A": printed}, {"a": {"type": kind}})
        assert cells["a"] == (printed if kind == "string" else None)
        assert (error.once, error.column, error.row_index, error.text) == (True, "a", 7, printed)
        assert "-Depth" in error.reason

    @pytest.mark.parametrize("printed", ORDINARY)
    def test_ordinary_texts_are_none(self, printed: str) -> None:
        assert cell(printed, {"type": "array"}) == [printed]


class TestNested:
    @pytest.mark.parametrize(("printed", "stamp"), DATES)
    def test_dates_at_any_depth(self, printed: Any, stamp: str) -> None:
        assert free({"a": [[printed], {"b": printed}]}) == {"a": [[stamp], {"b": stamp}]}

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ({"a\x00": ["\ud800", {"b": "\x00"}]}, {"a": ["\ufffd", {"b": ""}]}),
            ([2**63, 2**63 - 1, -(2**63) - 1], ["9223372036854775808", 2**63 - 1, "-9223372036854775809"]),
            ([Decimal("1.10"), Decimal("1E+999999")], [Decimal("1.10"), "1E+999999"]),
            ({"a": {"value": [{"b": 1}], "Count": 1}}, {"a": [{"b": 1}]}),
            ([{"value": {"value": 1, "Count": 2}, "Count": 1}], [{"value": {"value": 1, "Count": 2}, "Count": 1}]),
            ({"value": "/Date(1)/", "DateTime": "x", "owner": "bob"},
             {"value": "1970-01-01T00:00:00.0010000Z", "DateTime": "x", "owner": "bob"}),
            ([True, None, ""], [True, None, ""]),
        ],
    )  # fmt: skip
    def test_values(self, value: Any, expected: Any) -> None:
        assert is_same(free(value), expected)

    @pytest.mark.parametrize("kind", ["string", "array"])
    def test_depth_is_bounded(self, kind: str) -> None:
        value: Any = 1
        for _ in range(900):
            value = {"x": [value]}
        found = json.dumps(cell(value, {"type": kind}))
        assert TOO_DEEP in found
        assert found.count("[") + found.count("{") <= MAX_DEPTH + 1


class TestNames:
    COLUMNS: dict[str, Any] = {"name": {"type": "string"}, "Size": {"type": "integer"}}  # noqa: RUF012
    RESERVED: dict[str, Any] = {"output_row_index": {"type": "integer"}}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("printed", "cells"),
        [
            ({"name": "x", "Size": 1}, {"name": "x", "Size": 1, "extra": None}),
            ({"NAME": "x", "size": 1}, {"name": "x", "Size": 1, "extra": None}),
            ({"NAME": "y", "name": "x"}, {"name": "x", "Size": None, "extra": {"NAME": "y"}}),
            ({"NAME": "x", "Name": "y"}, {"name": "x", "Size": None, "extra": {"Name": "y"}}),
            ({"NAME": "x", "name": None}, {"name": "x", "Size": None, "extra": None}),
            ({"NAME": "x", "name": ""}, {"name": "x", "Size": None, "extra": None}),
            ({"a\x00": [2**63], "b": None, "c": "", "": 1}, {**NOTHING, "extra": {"a": [str(2**63)], "": 1}}),
            ({"n" * 300_000: 1}, {**NOTHING, "extra": {"n" * 300_000: 1}}),
            ({}, {**NOTHING, "extra": None}),
        ],
        ids=["exact", "case", "exact wins", "first wins", "null", "empty", "unknown", "long", "nothing"],
    )  # fmt: skip
    def test_columns_of_a_row(self, printed: dict[str, Any], cells: dict[str, Any]) -> None:
        assert read(printed, self.COLUMNS) == (cells, [])

    @pytest.mark.parametrize("printed", ["row_index", "Row_Index", "output_row_index", "OUTPUT_row_index"])
    def test_what_every_row_has_is_printed_into_another_column(self, printed: str) -> None:
        assert read({printed: "5"}, self.RESERVED) == ({"output_row_index": 5, "extra": None}, [])

    def test_reserved_names_without_a_column_are_extra(self) -> None:
        assert read({"extra": 1, "machine_id": "x"}, self.COLUMNS)[0]["extra"] == {"extra": 1, "machine_id": "x"}

    @pytest.mark.parametrize(
        ("printed", "column"), [("name", "name"), ("Machine_Id", "output_Machine_Id"), ("extra", "output_extra")]
    )
    def test_column_name(self, printed: str, column: str) -> None:
        assert column_name(printed) == column

    def test_any_number_of_names_is_no_burden(self) -> None:
        table = table_of(schema={"properties": self.COLUMNS})
        for number in range(25_000):
            table.cells(Row(0, {f"n{number}": 1, f"{number}" + "n" * 100: 1}, "$"))
        assert len(table._resolved) <= 10_000
        assert max(map(len, table._resolved)) < 64


class TestKeys:
    ENTRY: dict[str, Any] = {  # noqa: RUF012
        "key_properties": ["machine_id", "name", "version"],
        "schema": {"properties": {"name": {"type": "string"}, "version": {"type": "integer"}}},
    }

    @pytest.mark.parametrize(
        ("values", "sentences"),
        [
            ({"name": "x"}, ["its key column `version` is empty"]),
            ({"version": 1}, ["its key column `name` is empty"]),
            ({"name": "", "version": 1}, ["its key column `name` is empty"]),
            ({"name": "\x00", "version": 1}, ["its key column `name` is empty"]),
            ({"name": None, "version": None}, ["its key column `name` is empty"]),
            ({"name": "x", "version": "y"}, ["is not an integer of 64 bits", "its key column `version` is empty"]),
            ({"name": "ä" * 1001, "version": 1}, ["its key is longer than 2,000 bytes"]),
            ({"NAME": "x" * 2001, "version": 1}, ["its key is longer than 2,000 bytes"]),
        ],
    )
    def test_a_row_without_a_whole_key_is_rejected(self, values: dict[str, Any], sentences: list[str]) -> None:
        cells, errors = table_of(**self.ENTRY).cells(Row(7, values, "line 9"))
        assert cells is None
        assert [error.reason for error in errors] == sentences
        assert (errors[-1].row_index, errors[-1].location, errors[-1].column) == (7, "line 9", None)

    @pytest.mark.parametrize("name", ["x", "ä" * 1000, "x" * 2000])
    def test_a_whole_key(self, name: str) -> None:
        cells, errors = table_of(**self.ENTRY).cells(Row(0, {"Name": name, "version": "0"}, "$"))
        assert cells == {"name": name, "version": 0, "extra": None}
        assert errors == []

    def test_together_they_may_not_be_too_long_either(self) -> None:
        columns = {"name": {"type": "string"}, "path": {"type": "string"}}
        table = table_of(schema={"properties": columns}, key_properties=["name", "path"])
        assert table.cells(Row(0, {"name": "x" * 1000, "path": "y" * 1001}, "$"))[0] is None
        assert table.cells(Row(0, {"name": "x" * 1000, "path": "y" * 1000}, "$"))[0] is not None

    def test_a_key_that_was_in_no_sample_is_a_column(self) -> None:
        table = Table(stream_of(key_properties=["machine_id", "name"]), {"size": {"type": "integer"}})
        assert table.cells(Row(0, {"Name": 5, "size": 1}, "$")) == ({"name": "5", "size": 1, "extra": None}, [])
