"""The columns of a script stream, inferred from rows that the script has printed. Pure.

The narrowest type that all values fit. What JSON writes in quotes stays text unless it is a time; in CSV, where all is
text, numbers and truth values are recognised as well, numbers only as programs write them: `007` is a text.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tap_defender_lr.cells import free
from tap_defender_lr.columns import column_name
from tap_defender_lr.script_streams import ScriptStream, is_column_name
from tap_defender_lr.text import INT64
from tap_defender_lr.timestamps import normalize

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_defender_lr.pieces import Row

MAX_COLUMNS = 200
"""The rest is found in `extra`. A script that prints a table with names of files for columns has no end of them."""
_MAX_CANDIDATES = 5000
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,18})", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,30})\.\d{1,30}", re.ASCII)
_SCHEMAS: dict[str, dict[str, Any]] = {
    "date-time": {"type": "string", "format": "date-time"},
    "object": {"type": "object", "additionalProperties": True},
}


def infer(rows: Iterable[tuple[Row, bool]], stream: ScriptStream) -> dict[str, dict[str, Any]]:
    """JSON schema of each printed column.

    Args:
        rows: Each with whether all its values are texts, since they come from CSV.
        stream: The entry of `script_streams`.
    """
    names = {key.casefold(): key for key in stream.printed_keys}
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    only_texts: dict[str, bool] = {}
    for row, text_only in rows:
        for printed, value in row.values.items():
            if not is_column_name(printed) or not printed.isprintable():
                continue
            name = column_name(printed)
            name = names.setdefault(name.casefold(), name)
            if name not in kinds and len(kinds) >= _MAX_CANDIDATES:
                continue
            plain = free(value)
            kinds[name][_kind(plain, text_only=text_only)] += 1
            entries = plain if isinstance(plain, list) else [plain]
            only_texts[name] = only_texts.get(name, True) and all(e is None or isinstance(e, str) for e in entries)
    common = set(sorted(kinds, key=lambda name: -sum(kinds[name].values()))[:MAX_COLUMNS])
    columns = {}
    for name, seen in kinds.items():
        if name not in common:
            continue
        kind = _narrowest(seen)
        if name in stream.printed_keys and kind in {"object", "array"}:
            kind = "string"
        columns[name] = dict(_SCHEMAS.get(kind, {"type": kind}))
        if kind == "array" and only_texts[name]:
            columns[name]["items"] = {"type": ["string", "null"]}
    return columns


def _kind(value: Any, *, text_only: bool) -> str:
    if value is None or value == "":
        return "null"
    if isinstance(value, str):
        return _kind_of_text(value, text_only=text_only)
    kinds = {bool: "boolean", int: "integer", Decimal: "number", dict: "object", list: "array"}
    return kinds.get(type(value), "string")


def _kind_of_text(text: str, *, text_only: bool) -> str:
    if len(text) > len("2026-01-31") and normalize(text) is not None:
        return "date-time"
    if text_only and text.casefold() in {"true", "false"}:
        return "boolean"
    if text_only and _INTEGER.fullmatch(text) and int(text) in INT64:
        return "integer"
    return "number" if text_only and _DECIMAL.fullmatch(text) else "string"


def _narrowest(kinds: Counter[str]) -> str:
    seen = kinds.keys() - {"null"}
    if len(seen) == 1:
        return seen.pop()
    if "array" in seen:  # PowerShell prints a list of one as what is in it
        return "array"
    return "number" if seen == {"integer", "number"} else "string"
