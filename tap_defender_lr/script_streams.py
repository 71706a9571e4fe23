"""An entry of the setting `script_streams`: which scripts it reads, how, and what its rows look like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import jsonschema
from singer_sdk import typing as th
from singer_sdk.singerlib import Schema

from tap_defender_lr.json_paths import JsonPath

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FORMATS = ("auto", "json", "jsonl", "csv")
DEFAULT_KEY = ("machine_action_id", "command_index", "row_index")
MAX_NAME = 63
"""Bytes of a column's or table's name in UTF-8: what PostgreSQL takes."""

SETTING = th.Property(
    "script_streams",
    th.ArrayType(
        th.ObjectType(
            th.Property("name", th.StringType, required=True, description="Name of the stream, and so of the table."),
            th.Property(
                "script_name",
                th.StringType,
                required=True,
                description="Script of the Live Response library, exactly or as a pattern such as `Get-Software.*`.",
            ),
            th.Property(
                "format",
                th.StringType,
                allowed_values=list(FORMATS),
                description=(
                    "What the script prints: `json`, `jsonl`, `csv`, or `auto` (default), which also copes with text "
                    "around it."
                ),
            ),
            th.Property("records_path", th.StringType, description="JSONPath of the rows in the JSON document."),
            th.Property("records_start", th.StringType, description="Line after which the data begins."),
            th.Property("records_end", th.StringType, description="Line before which the data ends."),
            th.Property(
                "schema",
                th.ObjectType(additional_properties=True),
                description="JSON Schema of the columns; without it, discovery infers them from recent results.",
            ),
            th.Property(
                "key_properties",
                th.ArrayType(th.StringType),
                description="Columns that identify a row. Default: action, command and row, which keeps all history.",
            ),
            th.Property("decimal_comma", th.BooleanType, description="Numbers are printed as 1.234,5."),
            th.Property(
                "success_pattern",
                th.StringType,
                description="Regular expression; `succeeded` tells whether a line matches it.",
            ),
            th.Property("success_field", th.StringType, description="JSONPath of a truth value: `succeeded`."),
            additional_properties=False,
        )
    ),
    title="Script streams",
    description=(
        "A stream of its own for what a script prints, a row per printed record: "
        '`[{"name": "installed_software", "script_name": "Get-InstalledSoftware.*", "records_path": "$.software[*]"}]`.'
    ),
)

#: What every row tells about where it comes from.
PROVENANCE: dict[str, dict[str, Any]] = th.PropertiesList(
    th.Property("machine_action_id", th.StringType, description="GUID of the machine action."),
    th.Property("command_index", th.IntegerType, description="Index of the command in it, from 0."),
    th.Property(
        "row_index", th.IntegerType, description="Place of the row in the output, from 0; rejected ones count, too."
    ),
    th.Property("machine_id", th.StringType, description="Defender's ID of the device."),
    th.Property("computer_dns_name", th.StringType, description="Name of the device when the action was started."),
    th.Property("script_name", th.StringType, description="Name of the script that ran."),
    th.Property("command_end_time", th.DateTimeType, description="When the command ended on the device."),
    th.Property(
        "last_update_date_time_utc", th.DateTimeType, description="When the action last changed. Replication key."
    ),
).to_dict()["properties"]

#: What the tap adds behind the printed columns.
ADDED: dict[str, dict[str, Any]] = th.PropertiesList(
    th.Property("succeeded", th.BooleanType, description="The verdict of the script; null when it is unknown."),
    th.Property(
        "extra", th.ObjectType(additional_properties=True), description="What was printed beyond the columns above."
    ),
).to_dict()["properties"]
RESERVED = frozenset({*PROVENANCE, *ADDED})
_RESERVED_STREAMS = frozenset(
    {"live_response_results", "machine_actions", "script_output_errors", "script_output_snapshots"}
)
_REFUSED = frozenset({"$ref", "$dynamicRef", "uniqueItems"})
_KINDS = ("string", "integer", "number", "boolean", "object", "array")


@dataclass(frozen=True)
class ScriptStream:
    """One entry, ready to be used.

    Attributes:
        properties: JSON schema of each printed column; None if discovery shall infer them.
    """

    name: str
    script_name: str
    format: str = "auto"
    records_path: JsonPath | None = None
    records_start: str | None = None
    records_end: str | None = None
    properties: Mapping[str, dict[str, Any]] | None = None
    key_properties: tuple[str, ...] = DEFAULT_KEY
    decimal_comma: bool = False
    success_pattern: re.Pattern[str] | None = None
    success_field: JsonPath | None = None

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> ScriptStream:
        """Only for an entry in which `problems` finds nothing."""
        path, field, pattern = (entry.get(name) for name in ("records_path", "success_field", "success_pattern"))
        schema = entry.get("schema")
        return cls(
            name=entry["name"],
            script_name=entry["script_name"],
            format=entry.get("format") or "auto",
            records_path=JsonPath(path) if path else None,
            records_start=(entry.get("records_start") or "").strip() or None,
            records_end=(entry.get("records_end") or "").strip() or None,
            properties=None if schema is None else schema["properties"],
            key_properties=tuple(entry.get("key_properties") or DEFAULT_KEY),
            decimal_comma=bool(entry.get("decimal_comma")),
            success_pattern=re.compile(pattern) if pattern else None,
            success_field=JsonPath(field) if field else None,
        )

    def matches(self, script_name: str | None) -> bool:
        """Whether it reads this script. Names of the library do not depend on upper and lower case."""
        if script_name is None:
            return False
        name, wanted = script_name.casefold(), self.script_name.casefold()
        return name == wanted or fnmatchcase(name, wanted)

    @property
    def printed_keys(self) -> tuple[str, ...]:
        """The key columns that the script prints."""
        return tuple(key for key in self.key_properties if key not in RESERVED)


def kind_of(column: Mapping[str, Any]) -> str:
    """The type of a column: one of JSON Schema's, or `date-time`."""
    (kind,) = _kinds(column)
    return "date-time" if column.get("format") == "date-time" else str(kind)


def stream_schema(stream: ScriptStream, properties: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The JSON schema of the stream's records: any column may be null that is not part of the key."""
    columns = {**PROVENANCE, **properties, **ADDED}
    for key in stream.printed_keys:  # it may have been in no result yet that the columns were inferred from
        columns.setdefault(key, {"type": "string"})
    for name, column in columns.items():
        columns[name] = {**column, "type": _kinds(column)} if name in stream.key_properties else _nullable(column)
    return {"type": "object", "properties": columns, "required": list(stream.key_properties)}


def _kinds(column: Mapping[str, Any]) -> list[Any]:
    """The types of a column but null."""
    kinds = column.get("type")
    return [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind != "null"]


def _nullable(column: Mapping[str, Any]) -> dict[str, Any]:
    nullable = {**column, "type": [*_kinds(column), "null"]}
    if "enum" in column and None not in column["enum"]:
        nullable["enum"] = [*column["enum"], None]
    return nullable


def printed_properties(schema: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The printed columns of a stream's schema."""
    return {name: column for name, column in schema["properties"].items() if name not in RESERVED}


def problems(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with the setting beyond what its types tell: one sentence each."""
    names: set[str] = set()
    for position, entry in enumerate(entries):
        name = str(entry.get("name") or "")
        here = f"`script_streams[{position}]` ({name})" if name else f"`script_streams[{position}]`"
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name):
            yield f"{here}: `name` must be letters, digits and _, 63 at most, such as installed_software."
        elif name.casefold() in _RESERVED_STREAMS:
            yield f"{here}: the tap has a stream of that `name` already: write another one."
        elif name.casefold() in names:
            yield f"{here}: another entry has the same `name`: write another one."
        names.add(name.casefold())
        if not str(entry.get("script_name") or "").strip():
            yield f"{here}: `script_name` is empty: write a script's name or a pattern such as Get-Software.*."
        yield from (f"{here}: {problem}" for problem in _reading_problems(entry))
        yield from (f"{here}: {problem}" for problem in _schema_problems(entry))


def _reading_problems(entry: Mapping[str, Any]) -> Iterator[str]:
    for setting in ("records_path", "success_field"):
        path = entry.get(setting)
        if path and not JsonPath.is_valid(path):
            yield f"`{setting}` is no JSONPath: write one such as $.software[*]."
        elif path and entry.get("format") in {"csv", "jsonl"}:
            yield f"`{setting}` is of no use with `format` {entry['format']}: leave it out, or set `format` to json."
    if entry.get("records_end") and not entry.get("records_start"):
        yield "`records_end` needs `records_start`, too."
    if pattern := entry.get("success_pattern"):
        try:
            re.compile(pattern)
        except (re.error, OverflowError) as error:
            yield f"`success_pattern` is no regular expression ({error})."


def _schema_problems(entry: Mapping[str, Any]) -> Iterator[str]:
    keys = entry.get("key_properties")
    if keys is not None and (not keys or len(set(keys)) < len(keys)):
        yield "`key_properties` must name at least one column, and each once."
        return
    for key in keys or ():
        if key.casefold() in RESERVED and key not in PROVENANCE:
            yield f"`key_properties` names {key}, which cannot be a key: every row has a column of that name already."
        elif not is_column_name(key):
            yield f"`key_properties` names a column whose name is empty or longer than {MAX_NAME} bytes."
    schema = entry.get("schema")
    if schema is None:
        return
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not properties:
        yield '`schema` must name the columns: write {"properties": {"name": {"type": "string"}}}.'
        return
    seen: set[str] = set()
    for name, column in properties.items():
        yield from column_problems(name, column)
        if name.casefold() in seen:
            yield f"`schema` has the column {name} twice, in upper and lower case."
        seen.add(name.casefold())
    for key in keys or ():
        column = properties.get(key)
        if column is None and key.casefold() not in RESERVED:
            yield f"`key_properties` names {key}, which is neither in `schema` nor a column that every row has."
        elif isinstance(column, dict) and (kinds := _kinds(column)) in (["object"], ["array"]):
            yield f"`key_properties` names {key}, which is an {kinds[0]}: no loader takes that for a key."


def is_column_name(name: str) -> bool:
    return 0 < len(name.encode(errors="replace")) <= MAX_NAME


def column_problems(name: str, column: Any) -> Iterator[str]:
    if not is_column_name(name):
        yield f"`schema` has a column whose name is empty or longer than {MAX_NAME} bytes."
        return
    if name.casefold() in RESERVED:
        yield f"`schema` has a column {name}, which every row has already: write output_{name} for what is printed."
    kinds = _kinds(column) if isinstance(column, dict) else []
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        yield f"the column {name} in `schema` must have one `type` of {', '.join(_KINDS)}."
        return
    if not _is_schema(column):
        yield f"the column {name} in `schema` is no JSON Schema, or has $ref, uniqueItems or a bare true or false."
        return
    if not jsonschema.Draft202012Validator(_nullable(column)).is_valid(None):
        yield f"the column {name} in `schema` must take null, too: that is what a value becomes that does not fit."
    form = column.get("format")
    if form is not None and (form != "date-time" or kinds[0] != "string"):
        yield f"the column {name} in `schema` has a `format` that the tap does not know: only date-time, for a string."


def _is_schema(column: Mapping[str, Any]) -> bool:
    """Whether values can be checked with it, without fetching anything and quickly, and the SDK's catalog takes it."""
    if not _REFUSED.isdisjoint(_keywords(column)):
        return False
    try:
        jsonschema.Draft202012Validator.check_schema(column)
        Schema.from_dict(dict(column)).to_dict()
    except (jsonschema.SchemaError, OverflowError):  # the latter for a pattern such as a{99999999999}
        return False
    except (AttributeError, TypeError):  # true and false in the place of a schema
        return False
    return True


def _keywords(schema: Any) -> Iterator[str]:
    """The words of JSON Schema in a schema, at any depth; names of properties and values are none."""
    if isinstance(schema, list):
        for entry in schema:
            yield from _keywords(entry)
    elif isinstance(schema, dict):
        for word, value in schema.items():
            yield word
            if word in {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}:
                yield from _keywords(list(value.values()) if isinstance(value, dict) else value)
            elif word not in {"enum", "const", "default", "examples"}:
                yield from _keywords(value)
