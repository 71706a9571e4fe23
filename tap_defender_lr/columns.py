"""Printed rows → the columns of a table. Pure, and quick: a fleet prints millions of values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tap_defender_lr.cells import (
    MAX_STAMP,
    UnfitError,
    converter_of,
    describe,
    free,
    stamp_of,
    to_boolean,
    to_integer,
    to_moment,
    to_text,
)
from tap_defender_lr.pieces import Reject, Row, shown
from tap_defender_lr.script_streams import MAX_NAME, RESERVED, ScriptStream
from tap_defender_lr.text import INT64, clean_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tap_defender_lr.cells import Converter

MAX_KEY_BYTES = 2000
"""Text in the key columns of a row: more of it, and a database cannot index the key."""
_LEAST, _MOST = INT64[0], INT64[-1]
_MAX_CACHED_NAMES = 10_000
#: What ConvertTo-Json prints instead of an object below its depth.
_DEPTH_CUT = re.compile(
    r"@\{.*\}"
    r"|Microsoft\.Management\.Infrastructure\.CimInstance.*"
    r"|System\.(?:Collections|ServiceProcess|Diagnostics|Management)(?:\.[A-Z]\w*)+"
    r"|System(?:\.[A-Z]\w*)+(?:`\d\[.*\]|\[\])"
    r"|(?:System|Microsoft)(?:\.[A-Z]\w*)+(?: (?:System|Microsoft)(?:\.[A-Z]\w*)+)+",
    re.DOTALL,
)
_SPECIAL = frozenset({"/", "S", "M", "@", ""})
"""First letters of texts that may stand for something else."""


class Table:
    """What the rows of a script stream look like.

    Args:
        stream: The entry of `script_streams`.
        properties: JSON schema of each printed column.
    """

    def __init__(self, stream: ScriptStream, properties: Mapping[str, dict[str, Any]]) -> None:
        self._keys = stream.printed_keys
        properties = {**{key: {"type": "string"} for key in self._keys}, **properties}  # as `stream_schema` has them
        self._short = MAX_KEY_BYTES // 4 // max(len(self._keys), 1)
        self._blank: dict[str, Any] = dict.fromkeys([*properties, "extra"])
        self._columns = {
            name: (name, converter_of(column, decimal_comma=stream.decimal_comma), describe(column))
            for name, column in properties.items()
        }
        self._folded = {name.casefold(): name for name in reversed(list(properties))}
        self._resolved: dict[str, str | None] = {}

    def cells(self, row: Row) -> tuple[dict[str, Any] | None, list[Reject]]:
        """The printed columns of a record and `extra`, and what does not fit.

        A value that does not fit its column is null; a row whose key is not whole is None.
        """
        cells = self._blank.copy()
        errors: list[Reject] = []
        others: list[tuple[str, Any]] = []
        find = self._columns.get
        # What a value mostly is comes first and without a call, which would double the cost of the whole.
        for printed, value in row.values.items():
            column = find(printed)
            kind = type(value)
            if column is None:
                if not _is_blank(value):
                    others.append((printed, value))
            elif kind is str:
                if column[1] is to_text and value[:1] not in _SPECIAL:
                    cells[printed] = value if value.isascii() and "\x00" not in value else clean_text(value) or None
                elif column[1] is to_moment and len(value) <= MAX_STAMP and (stamp := stamp_of(value)):
                    cells[printed] = stamp
                else:
                    self._put(cells, column, value, row, errors)
            elif (kind is int and column[1] is to_integer and _LEAST <= value <= _MOST) or (
                kind is bool and column[1] is to_boolean
            ):
                cells[printed] = value
            elif value is not None:
                self._put(cells, column, value, row, errors)
        if others:
            self._put_others(cells, others, row, errors)
        for key in self._keys:
            value = cells[key]
            if (value is None or (type(value) is str and len(value) > self._short)) and (
                wrong := self._key_problem(cells)
            ):
                return None, [*errors, Reject(wrong, shown(row.values), row.location, row.index)]
        return cells, errors

    def _put(
        self, cells: dict[str, Any], column: tuple[str, Converter, str], value: Any, row: Row, errors: list[Reject]
    ) -> None:
        if value == "":
            return
        name, convert, described = column
        if type(value) is str and value[0] in _SPECIAL and _DEPTH_CUT.fullmatch(value):
            reason = "ConvertTo-Json printed the name of a type instead of what it holds: give it a larger -Depth"
            errors.append(Reject(reason, shown(value), row.location, row.index, name, once=True))
            cells[name] = clean_text(value) if convert is to_text else None
            return
        try:
            cell = convert(value)
            cells[name] = None if cell == "" else cell  # it was a text of nothing but NUL
        except UnfitError:
            errors.append(Reject(f"is not {described}", shown(value), row.location, row.index, name))

    def _put_others(self, cells: dict[str, Any], others: list[tuple[str, Any]], row: Row, errors: list[Reject]) -> None:
        """Values whose printed name is not exactly that of a column."""
        extra: dict[str, Any] = {}
        taken: set[str] = set()
        for printed, value in others:
            name = self._resolve(printed)
            if name is None or name in taken or not _is_blank(row.values.get(name)):
                extra[clean_text(printed)] = free(value)
            else:
                taken.add(name)
                self._put(cells, self._columns[name], value, row, errors)
        cells["extra"] = extra or None

    def _resolve(self, printed: str) -> str | None:
        """The column of a printed name, None for a name that no column has."""
        if len(printed) > MAX_NAME:  # no column has such a name, and a device may print any number of them
            return None
        if printed not in self._resolved:
            if len(self._resolved) >= _MAX_CACHED_NAMES:
                self._resolved.clear()
            self._resolved[printed] = self._folded.get(column_name(printed).casefold())
        return self._resolved[printed]

    def _key_problem(self, cells: Mapping[str, Any]) -> str | None:
        size = 0
        for key in self._keys:
            value = cells[key]
            if value is None:
                return f"its key column `{key}` is empty"
            size += len(value.encode()) if isinstance(value, str) else 0
        return f"its key is longer than {MAX_KEY_BYTES:,} bytes" if size > MAX_KEY_BYTES else None


def _is_blank(value: Any) -> bool:
    return value is None or value == ""


def column_name(printed: str) -> str:
    """The column that a printed name has: its own, unless every row has one of that name already."""
    return f"output_{printed}" if printed.casefold() in RESERVED else printed
