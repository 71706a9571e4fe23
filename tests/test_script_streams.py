"""Entries of `script_streams`: what is wrong with them, which scripts they read, and the schema of their rows."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from tap_defender_lr.script_streams import (
    DEFAULT_KEY,
    PROVENANCE,
    ScriptStream,
    kind_of,
    printed_properties,
    problems,
    stream_schema,
)

TEXT = {"type": "string"}
ENTRY: dict[str, Any] = {"name": "software", "script_name": "Get-Software.*"}
WHOLE: dict[str, Any] = {
    **ENTRY,
    "format": "json",
    "records_path": "$.software[*]",
    "records_start": " --- begin ---\t",
    "records_end": "--- end ---",
    "schema": {"properties": {"name": TEXT, "size": {"type": ["integer", "null"]}}},
    "key_properties": ["machine_id", "name"],
    "decimal_comma": True,
    "success_pattern": "^ok$",
    "success_field": "$.ok",
}


def with_columns(keys: list[str] | None = None, /, **properties: Any) -> dict[str, Any]:
    return {**ENTRY, "schema": {"properties": properties}, "key_properties": keys}


class TestEntry:
    def test_has_all_that_is_written(self) -> None:
        stream = ScriptStream.from_entry(WHOLE)
        assert (stream.name, stream.script_name, stream.format) == ("software", "Get-Software.*", "json")
        assert (stream.records_start, stream.records_end) == ("--- begin ---", "--- end ---")
        assert stream.records_path is not None
        assert stream.records_path.find({"software": [1]}) == [[1]]
        assert stream.success_field is not None
        assert stream.success_field.find({"ok": True}) == [True]
        assert stream.success_pattern is not None
        assert stream.properties == WHOLE["schema"]["properties"]
        assert stream.key_properties == ("machine_id", "name")
        assert stream.printed_keys == ("name",)
        assert stream.decimal_comma

    @pytest.mark.parametrize(
        "empty", [{}, {name: None for name in WHOLE if name not in ENTRY}], ids=["left out", "null"]
    )
    def test_has_defaults(self, empty: dict[str, Any]) -> None:
        stream = ScriptStream.from_entry({**ENTRY, **empty})
        assert stream == ScriptStream("software", "Get-Software.*")
        assert stream.key_properties == DEFAULT_KEY
        assert stream.printed_keys == ()

    @pytest.mark.parametrize(
        ("wanted", "script", "matches"),
        [
            ("Get-Software.ps1", "Get-Software.ps1", True),
            ("Get-Software.ps1", "GET-software.PS1", True),
            ("Get-Software.*", "get-software.sh", True),
            ("Get-*", "Get-Software.ps1", True),
            ("Get-?.ps1", "Get-A.ps1", True),
            ("Get[1].ps1", "get[1].ps1", True),
            ("Get-[ab].ps1", "Get-B.ps1", True),
            ("Get-Software.ps1", "Get-Software.ps1.bak", False),
            ("Get-Software.*", "My-Get-Software.ps1", False),
            ("*", None, False),
        ],
    )
    def test_matches(self, wanted: str, script: str | None, matches: bool) -> None:
        assert ScriptStream("a", wanted).matches(script) is matches


class TestProblems:
    @pytest.mark.parametrize(
        "entries",
        [
            pytest.param([], id="none"),
            pytest.param([ENTRY], id="the least"),
            pytest.param([WHOLE], id="all settings"),
            pytest.param([ENTRY, {**ENTRY, "name": "software_2"}], id="two streams of one script"),
            pytest.param([{**ENTRY, "name": "a" * 63}], id="63 characters"),
            pytest.param([{**ENTRY, "key_properties": ["machine_id", "printed"]}], id="key without schema"),
            pytest.param([with_columns(a={"type": "string", "enum": ["x"]})], id="enum without null"),
            pytest.param([with_columns(a={"type": "array", "items": {"pattern": "a+"}})], id="constraints"),
            pytest.param([with_columns(["a"], a={"type": ["null", "string"]})], id="key that is nullable"),
            pytest.param([with_columns(a={"type": "string", "format": "date-time"})], id="date-time"),
        ],
    )
    def test_none(self, entries: list[dict[str, Any]]) -> None:
        assert list(problems(entries)) == []

    @pytest.mark.parametrize(
        ("entry", "sentence"),
        [
            ({**ENTRY, "name": ""}, "`name` must be letters, digits and _"),
            ({**ENTRY, "name": "a" * 64}, "`name` must be letters, digits and _"),
            ({**ENTRY, "name": "1a"}, "`name` must be letters, digits and _"),
            ({**ENTRY, "name": "größe"}, "`name` must be letters, digits and _"),
            ({**ENTRY, "name": "a\n"}, "`name` must be letters, digits and _"),
            ({**ENTRY, "name": "Machine_Actions"}, "the tap has a stream of that `name` already"),
            ({**ENTRY, "name": "script_output_errors"}, "the tap has a stream of that `name` already"),
            ({**ENTRY, "script_name": " "}, "`script_name` is empty"),
            ({**ENTRY, "records_path": "$[["}, "`records_path` is no JSONPath"),
            ({**ENTRY, "success_field": "`sub(/a/,b)`"}, "`success_field` is no JSONPath"),
            ({**ENTRY, "records_path": "$.a", "format": "csv"}, "`records_path` is of no use with `format` csv"),
            ({**ENTRY, "success_field": "$.a", "format": "jsonl"}, "`success_field` is of no use with `format` jsonl"),
            ({**ENTRY, "records_end": "end"}, "`records_end` needs `records_start`, too"),
            ({**ENTRY, "success_pattern": "("}, "`success_pattern` is no regular expression (missing )"),
            ({**ENTRY, "success_pattern": "a{99999999999999999999}"}, "`success_pattern` is no regular expression"),
            ({**ENTRY, "key_properties": []}, "must name at least one column, and each once"),
            ({**ENTRY, "key_properties": ["a", "a"]}, "must name at least one column, and each once"),
            ({**ENTRY, "key_properties": ["extra"]}, "names extra, which cannot be a key"),
            ({**ENTRY, "key_properties": ["Machine_ID"]}, "names Machine_ID, which cannot be a key"),
            ({**ENTRY, "key_properties": [""]}, "a column whose name is empty or longer than 63 bytes"),
            ({**ENTRY, "key_properties": ["a" * 64]}, "a column whose name is empty or longer than 63 bytes"),
            ({**ENTRY, "schema": {}}, "`schema` must name the columns"),
            ({**ENTRY, "schema": {"properties": {}}}, "`schema` must name the columns"),
            ({**ENTRY, "schema": {"properties": []}}, "`schema` must name the columns"),
            ({**ENTRY, "schema": {"properties": {"": TEXT}}}, "a column whose name is empty or longer than 63"),
            ({**ENTRY, "schema": {"properties": {"a" * 64: TEXT}}}, "a column whose name is empty or longer than 63"),
            ({**ENTRY, "schema": {"properties": {"ö" * 32: TEXT}}}, "a column whose name is empty or longer than 63"),
            (with_columns(Row_Index=TEXT), "a column Row_Index, which every row has already: write output_Row_Index"),
            (with_columns(name=TEXT, Name=TEXT), "the column Name twice, in upper and lower case"),
            (with_columns(["b"], a=TEXT), "names b, which is neither in `schema` nor a column that every row has"),
            (with_columns(["a"], a={"type": "object"}), "names a, which is an object: no loader takes that"),
            (with_columns(["a"], a={"type": ["array", "null"]}), "names a, which is an array: no loader takes that"),
            (with_columns(a={}), "the column a in `schema` must have one `type` of string, integer"),
            (with_columns(a="string"), "the column a in `schema` must have one `type`"),
            (with_columns(a={"type": "text"}), "the column a in `schema` must have one `type`"),
            (with_columns(a={"type": ["string", "integer"]}), "the column a in `schema` must have one `type`"),
            (with_columns(a={"type": [{}]}), "the column a in `schema` must have one `type`"),
            (with_columns(a={"type": "string", "pattern": "("}), "the column a in `schema` is no JSON Schema"),
            (with_columns(a={"type": "array", "items": {"items": {"pattern": "("}}}), "is no JSON Schema"),
            (with_columns(a={"type": "integer", "minimum": "1"}), "the column a in `schema` is no JSON Schema"),
            (with_columns(a={"type": "object", "$ref": "#/x"}), "or has $ref, uniqueItems or a bare"),
            (with_columns(a={"type": "string", "const": "x"}), "must take null, too"),
            (with_columns(a={"type": "string", "anyOf": [{"minLength": 1, "type": "string"}]}), "must take null, too"),
            (with_columns(a={"type": "string", "format": "email"}), "has a `format` that the tap does not know"),
            (with_columns(a={"type": "integer", "format": "date-time"}), "has a `format` that the tap does not know"),
        ],
    )
    def test_each_is_one_sentence(self, entry: dict[str, Any], sentence: str) -> None:
        (problem,) = problems([entry])
        assert sentence in problem
        assert problem.startswith("`script_streams[0]`")
        assert problem.endswith(".")

    def test_the_entry_is_named_by_its_place_and_name(self) -> None:
        (problem,) = problems([ENTRY, {**ENTRY, "name": "SOFTWARE"}])
        assert problem == "`script_streams[1]` (SOFTWARE): another entry has the same `name`: write another one."

    def test_all_of_an_entry_are_told(self) -> None:
        entry = {"name": "", "script_name": "", "records_path": "[", "schema": {"properties": {"a": {}, "b": {}}}}
        assert len(list(problems([entry]))) == 5


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (TEXT, "string"),
        ({"type": ["null", "integer"]}, "integer"),
        ({"type": ["string", "null"], "format": "date-time"}, "date-time"),
    ],
)
def test_kind_of(column: dict[str, Any], kind: str) -> None:
    assert kind_of(column) == kind


class TestSchema:
    def test_any_column_but_the_key_may_be_null(self) -> None:
        stream = ScriptStream("a", "b", key_properties=("machine_id", "name"))
        columns: dict[str, dict[str, Any]] = {
            "name": {"type": ["string", "null"], "description": "What it is."},
            "kind": {"type": "string", "enum": ["x"]},
            "size": {"type": ["null", "integer"], "minimum": 0},
        }
        schema = stream_schema(stream, columns)
        assert list(schema["properties"]) == [*PROVENANCE, *columns, "succeeded", "extra"]
        assert schema["required"] == ["machine_id", "name"]
        assert schema["properties"]["name"] == {"type": ["string"], "description": "What it is."}
        assert schema["properties"]["machine_id"]["type"] == ["string"]
        nothing = dict.fromkeys(schema["properties"])
        jsonschema.Draft202012Validator(schema).validate({**nothing, "machine_id": "m", "name": "n"})
        assert not jsonschema.Draft202012Validator(schema).is_valid({**nothing, "machine_id": "m"})

    def test_a_key_that_was_in_no_sample_is_a_text(self) -> None:
        schema = stream_schema(ScriptStream("a", "b", key_properties=("machine_id", "name")), {})
        assert schema["properties"]["name"] == {"type": ["string"]}

    def test_the_printed_columns_come_back_from_it(self) -> None:
        columns = {"name": {"type": ["string", "null"]}, "size": {"type": ["integer", "null"]}}
        assert printed_properties(stream_schema(ScriptStream("a", "b"), columns)) == columns
