"""What holds for any output of any script: rows that fit their schema, or rejects; never half a row, never an error."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap_defender_lr.cells import _validator
from tap_defender_lr.columns import Table, column_name
from tap_defender_lr.inference import infer
from tap_defender_lr.parsing import parse
from tap_defender_lr.pieces import Reject, Row, to_json
from tap_defender_lr.script_streams import stream_schema
from tap_defender_lr.text import clean
from tests.script_values import pieces_of, stream_of

STAMP = "2026-11-24T10:00:00.1234567Z"
ABOUT: dict[str, Any] = {
    "machine_action_id": "action",
    "command_index": 0,
    "machine_id": "machine",
    "computer_dns_name": None,
    "script_name": "Get-Rows.ps1",
    "command_end_time": None,
    "last_update_date_time_utc": STAMP,
    "succeeded": None,
}
COLUMNS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "object": {"type": "object", "additionalProperties": True},
    "array": {"type": "array"},
    "texts": {"type": "array", "items": {"type": "string"}},
}
STRICT: dict[str, dict[str, Any]] = {
    "text": {"type": "string", "enum": ["a", "b"], "maxLength": 5},
    "integer": {"type": ["null", "integer"], "minimum": 0},
    "number": {"type": "number", "multipleOf": 0.1, "maximum": 0.5},
    "object": {"type": "object", "properties": {"a": {"type": "number", "minimum": 0.1}}, "maxProperties": 1},
    "array": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
    "texts": {"type": "array", "items": {"type": ["string", "null"]}},
}
ENTRIES = [
    {},
    {"schema": {"properties": COLUMNS}},
    {"schema": {"properties": STRICT}, "decimal_comma": True},
    {"schema": {"properties": COLUMNS}, "key_properties": ["machine_id", "text"]},
    {"schema": {"properties": COLUMNS}, "records_path": "$..rows[*]", "success_field": "$..boolean"},
]
FORMATS = st.sampled_from(["auto", "json", "jsonl", "csv"])

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
ODD_TEXTS = st.sampled_from(
    ["/Date(1700000000000)/", "System.Object[]", "@{a=1}", "true", "1,5", "1.234,5", "a; b", "[1, 2]", '{"a": 0.1}']
)  # fmt: skip
ANY_NUMBER = st.integers() | st.integers(-(2**200), 2**200) | st.floats()
ANY_VALUE = st.none() | st.booleans() | ANY_NUMBER | ANY_TEXT | ODD_TEXTS
NAMES = st.sampled_from([*COLUMNS, "TEXT", "Integer", "machine_id", "extra", "rows", "value", "Count", "DateTime"])
ANY_JSON = st.recursive(
    ANY_VALUE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | ANY_TEXT, inner, max_size=5),
    max_leaves=15,
)
ROWS = st.lists(st.dictionaries(NAMES, ANY_JSON, max_size=6) | ANY_JSON, max_size=5)
DOCUMENTS = ANY_JSON | ROWS | st.fixed_dictionaries({"rows": ROWS})
NOISE = st.sampled_from(
    ["", "WARNING: [x] {y}\r\n", "[1/20] step\n", "\ufeff", "{0} items\n", "\x1b[31m[INFO]\x1b[0m\n"]
)
INDENTS = st.sampled_from([None, 2])
PRINTED = st.builds(json.dumps, DOCUMENTS, indent=INDENTS)


def read(output: str, entry: dict[str, Any], *, cut: bool = False) -> tuple[list[dict[str, Any]], list[Reject]]:
    """The records of an output, after everything that has to hold for each was checked, and all that is rejected."""
    stream = stream_of(**entry)
    columns = dict(stream.properties or {})
    table, validator = Table(stream, columns), _validator(stream_schema(stream, columns))
    parsed = parse(output, stream, cut=cut)
    assert parsed.succeeded in {None, True, False}
    records, rejects, indexes = [], [], []
    for piece in parsed.pieces:
        if isinstance(piece, Reject):
            rejects.append(piece)
            indexes += [piece.row_index] if piece.row_index is not None else []
            continue
        indexes.append(piece.index)
        cells, errors = table.cells(piece)
        rejects += errors
        if cells is not None:
            record = {**ABOUT, "row_index": piece.index, **cells}
            validator.validate(record)
            assert record.keys() == {*ABOUT, "row_index", *columns, "extra"}
            assert "" not in record.values()
            others = {name: cell for name, cell in record.items() if name != "number"}  # which may be a longer integer
            assert clean(others) == others
            json.loads(to_json(record).encode(), parse_constant=pytest.fail)
            records.append(record)
    assert indexes == list(range(len(indexes)))
    for reject in rejects:
        assert reject.reason
        assert len(reject.text) <= 1000
    return records, rejects


@given(PRINTED, NOISE, NOISE, FORMATS, st.sampled_from(ENTRIES))
def test_any_json_becomes_valid_records_or_rejects(
    printed: str, before: str, after: str, form: str, entry: dict[str, Any]
) -> None:
    read(f"{before}{printed}\n{after}", {**entry, "format": form})


@given(ROWS, INDENTS, st.sampled_from([{}, {"schema": {"properties": COLUMNS}}]))
def test_every_element_of_a_list_is_a_row_or_a_reject(
    document: list[Any], indent: int | None, entry: dict[str, Any]
) -> None:
    pieces = pieces_of(json.dumps(document, indent=indent), format="json", **entry)
    assert [p.index if isinstance(p, Row) else p.row_index for p in pieces] == list(range(len(document)))
    assert [isinstance(piece, Row) for piece in pieces] == [isinstance(element, dict) for element in document]


@given(
    ANY_TEXT | st.text(st.sampled_from('[]{}":,;1ae\\\n \x1b#'), max_size=60),
    FORMATS,
    st.sampled_from(ENTRIES),
    st.booleans(),
)
@example('"sep="";"\na;b\n1;2', "csv", {}, False)
@example('sep="\na"b\n1"2', "csv", {}, False)
def test_any_text_is_taken(text: str, form: str, entry: dict[str, Any], cut: bool) -> None:
    read(text, {**entry, "format": form}, cut=cut)


@given(PRINTED, NOISE, FORMATS, st.sampled_from(ENTRIES), st.data())
def test_any_damaged_document_is_taken(
    printed: str, before: str, form: str, entry: dict[str, Any], data: st.DataObject
) -> None:
    text = before + printed
    for _ in range(data.draw(st.integers(1, 3))):
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        text = text[:start] + data.draw(st.text(st.sampled_from('[]{}":,\\\n x'), max_size=3)) + text[end:]
    read(text, {**entry, "format": form})


OBJECTS = st.dictionaries(
    st.text(max_size=8), ANY_JSON | st.lists(st.dictionaries(st.text(max_size=3), ANY_VALUE)), max_size=4
)


@given(st.lists(OBJECTS, min_size=1, max_size=4), INDENTS, NOISE, st.booleans(), st.data())
def test_a_cut_document_makes_up_no_row(
    objects: list[Any], indent: int | None, before: str, cut: bool, data: st.DataObject
) -> None:
    document, ascii_only = data.draw(st.sampled_from([objects, objects[0]])), data.draw(st.booleans())
    whole = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    expected = [row.values for row in pieces_of(whole) if isinstance(row, Row)]
    pieces = pieces_of(before + whole[: data.draw(st.integers(0, len(whole)))], cut=cut)
    assert all(piece.values in expected for piece in pieces if isinstance(piece, Row))
    assert not cut or any("max_output_bytes" in piece.reason for piece in pieces if isinstance(piece, Reject))


TEXT = st.text(st.sampled_from("aäß€😀\"',;|\t\n {}[]#=.0"), min_size=1, max_size=12)
TABLES = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | TEXT,
            "integer": st.none() | st.integers(-(2**63), 2**63 - 1),
            "number": st.none() | st.integers() | st.decimals(-1000, 1000, places=3),
            "boolean": st.none() | st.booleans(),
            "time": st.none() | st.just(STAMP),
            "object": st.none() | st.dictionaries(TEXT, TEXT | st.integers(0, 9), max_size=2),
            "array": st.none() | st.lists(TEXT | st.booleans() | st.decimals(-10, 10, places=1), max_size=3),
            "texts": st.none() | st.lists(TEXT, max_size=2),
        }
    ),
    max_size=4,
)


def as_csv(rows: list[dict[str, Any]], delimiter: str, line_end: str, quoting: Any) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(COLUMNS), delimiter=delimiter, lineterminator="\n", quoting=quoting)
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {k: v if v is None or isinstance(v, (str, int, Decimal)) else to_json(v) for k, v in row.items()}
        )
    return file.getvalue().replace("\n", line_end)


@given(
    TABLES,
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
    st.sampled_from(["", "#TYPE System.Object\n"]),
)
def test_a_table_is_the_same_however_it_is_printed(
    rows: list[dict[str, Any]], line_end: str, mark: str, first: str
) -> None:
    quoting = csv.QUOTE_ALL if first else csv.QUOTE_MINIMAL
    printed = {
        "json": [to_json(rows)],
        "jsonl": [line_end.join(map(to_json, rows))],
        "csv": [first + as_csv(rows, delimiter, line_end, quoting) for delimiter in ",;\t|"],
    }
    expected = [{**row, "extra": None} for row in rows]
    for form, outputs in printed.items():
        for output in outputs if rows or form != "jsonl" else ():
            for chosen in (form, "auto"):
                records, rejects = read(mark + output, {"schema": {"properties": COLUMNS}, "format": chosen})
                assert rejects == []
                assert [{name: record[name] for name in [*COLUMNS, "extra"]} for record in records] == expected


PRINTABLE = st.text(min_size=1, max_size=10).filter(str.isprintable) | st.sampled_from(["machine_id", "Extra", "a b"])
NAME_LISTS = st.lists(PRINTABLE, min_size=1, max_size=6, unique_by=lambda name: column_name(name).casefold())
PLAIN_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(-9, 9, places=2) | TEXT | st.sampled_from([STAMP, "5.10"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(NAME_LISTS.flatmap(lambda names: st.lists(st.dictionaries(st.sampled_from(names), PLAIN_JSON))), st.booleans())
def test_columns_inferred_from_rows_take_these_rows(rows: list[dict[str, Any]], as_texts: bool) -> None:
    if as_texts:
        rows = [{name: str(value) for name, value in row.items()} for row in rows]
    stream = stream_of()
    columns = infer([(Row(index, row, "$"), as_texts) for index, row in enumerate(rows)], stream)
    records, rejects = read(to_json(rows), {"schema": {"properties": columns}} if columns else {})
    assert rejects == []
    assert len(records) == len(rows)
    assert all(record["extra"] is None for record in records)
