"""Printed values → cells that fit their column. Pure, and quick: a fleet prints millions of them."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jsonschema

from tap_defender_lr import json_documents, timestamps
from tap_defender_lr.parsing import unwrapped
from tap_defender_lr.pieces import Reject, Row, shown, to_json
from tap_defender_lr.script_streams import MAX_NAME, RESERVED, ScriptStream, kind_of
from tap_defender_lr.text import INT64, MAX_DEPTH, TOO_DEEP, clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Converter = Callable[[Any], Any]

MAX_KEY_BYTES = 2000
"""Text in the key columns of a row: more of it, and a database cannot index the key."""
_MAX_DIGITS = 100
_LEAST, _MOST = INT64[0], INT64[-1]
_MAX_EXPONENT = 300
_MAX_CACHED_NAMES = 10_000
_MAX_STAMP = 64

_DATE = re.compile(r"/Date\((-?\d{1,17})(?:[+-]\d{4})?\)/", re.ASCII)
_DATE_NAMES = frozenset({"value", "DisplayHint", "DateTime"})
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_COMMA_NUMBER = re.compile(r"([+-]?)(\d{1,3}(?:[. '\u2019\u00a0\u202f]\d{3})+|\d+)(?:,(\d+))?", re.ASCII)
#: What ConvertTo-Json prints instead of an object below its depth.
_DEPTH_CUT = re.compile(
    r"System\.(?:[A-Za-z]+\.)*[A-Z][A-Za-z]*(?:`\d\[.*\]|\[\])|System\.Collections\.[A-Za-z.]+|"
    r"System\.Management\.Automation\.PSCustomObject|Microsoft\.Management\.Infrastructure\.CimInstance.*|@\{.*\}",
    re.DOTALL,
)
_SPECIAL = frozenset({"/", "S", "M", "@", ""})
"""First letters of texts that may stand for something else."""
_PLAIN_KEYWORDS = {"type", "format", "title", "description"}


class _UnfitError(Exception):
    """A value does not fit its column."""


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
            name: (name, _converter(column, decimal_comma=stream.decimal_comma), _described(column))
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
                if column[1] is _text and value[:1] not in _SPECIAL:
                    cells[printed] = value if value.isascii() and "\x00" not in value else clean_text(value) or None
                elif column[1] is _moment and len(value) <= _MAX_STAMP and (stamp := _stamp(value)):
                    cells[printed] = stamp
                else:
                    self._put(cells, column, value, row, errors)
            elif (kind is int and column[1] is _integer and _LEAST <= value <= _MOST) or (
                kind is bool and column[1] is _boolean
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
            cells[name] = clean_text(value) if convert is _text else None
            return
        try:
            cell = convert(value)
            cells[name] = None if cell == "" else cell  # it was a text of nothing but NUL
        except _UnfitError:
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


def free(value: Any, _depth: int = 0) -> Any:
    """A value of any shape: clean, and with PowerShell's ways of printing undone at any depth.

    What few loaders take as a number becomes the text of its digits.
    """
    kind = type(value)
    if kind is str:
        return _date(value) or clean_text(value)
    if kind is dict or kind is list:
        if _depth >= MAX_DEPTH:
            return TOO_DEEP
        value = unwrapped(value)
        if type(value) is list:
            return [free(entry, _depth + 1) for entry in value]
        return _date(value) or {clean_text(key): free(entry, _depth + 1) for key, entry in value.items()}
    if kind is int:
        return value if value in INT64 else str(value)
    if kind is Decimal:
        return value if _is_moderate(value) else str(value)
    return value


def _date(value: Any) -> str | None:
    """The time in `/Date(1700000000000)/`, as Windows PowerShell prints it.

    Either PowerShell prints some as an object with more about it.
    """
    if type(value) is dict:
        if "DateTime" not in value or not value.keys() <= _DATE_NAMES:
            return None
        value = value.get("value")
        if type(value) is str and not value.startswith("/Date("):
            return timestamps.normalize(value)
    if type(value) is not str or not value.startswith("/Date("):
        return None
    found = _DATE.fullmatch(value)
    return timestamps.from_milliseconds(int(found[1])) if found else None


def _is_moderate(value: Decimal) -> bool:
    return value.is_finite() and abs(value.adjusted()) <= _MAX_EXPONENT and len(value.as_tuple().digits) <= _MAX_DIGITS


def _text(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _date(value) or clean_text(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is dict or kind is list:
        plain = free(value)
        return plain if isinstance(plain, str) else to_json(plain)
    return format(value, "f") if kind is Decimal and _is_moderate(value) else str(value)


def _integer(value: Any) -> int:
    kind = type(value)
    if kind is not int:
        number = _number(value)
        if number != int(number):
            raise _UnfitError
        value = int(number)
    if value not in INT64:
        raise _UnfitError
    return int(value)


def _number(value: Any) -> int | Decimal:
    kind = type(value)
    if kind is int:
        if abs(value) < 10**_MAX_DIGITS:
            return int(value)
        raise _UnfitError
    if kind is str and len(value) <= 2 * _MAX_DIGITS and _NUMBER.fullmatch(value.strip()):
        digits = value.strip()
        return int(digits) if digits.lstrip("+-").isdigit() else _number(Decimal(digits))
    if isinstance(value, Decimal) and _is_moderate(value):
        return value
    raise _UnfitError


def _comma_number(value: Any) -> int | Decimal:
    found = _COMMA_NUMBER.fullmatch(value.strip()) if type(value) is str else None
    if found is None:
        return _number(value)
    sign, whole, fraction = found.groups()
    return _number(f"{sign}{re.sub(r'[^0-9]', '', whole)}" + (f".{fraction}" if fraction else ""))


def _comma_integer(value: Any) -> int:
    return _integer(_comma_number(value))


def _boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    words = str(value) if isinstance(value, (str, int, Decimal)) else ""
    truth = {"true": True, "1": True, "false": False, "0": False}.get(words.strip().casefold())
    if truth is None:
        raise _UnfitError
    return truth


def _moment(value: Any) -> str:
    stamp = _date(value) if type(value) is not str else _stamp(value) if len(value) <= _MAX_STAMP else None
    if stamp is None:
        raise _UnfitError
    return stamp


@lru_cache(maxsize=4096)
def _stamp(text: str) -> str | None:
    day = text.strip()
    return _date(text) or timestamps.normalize(f"{day}T00:00:00Z" if _DAY.fullmatch(day) else text)


def _object(value: Any) -> dict[str, Any]:
    found = free(_document(value) if type(value) is str else value)
    if not isinstance(found, dict):
        raise _UnfitError
    return found


def _array(value: Any) -> list[Any]:
    """A list; a text with JSON in it; `a; b`; one value, since PowerShell takes lists of one apart."""
    if type(value) is str:
        document = _document(value) if value.lstrip().startswith(("[", "{")) else None
        value = [entry.strip() for entry in value.split(";") if entry.strip()] if document is None else document
    found = free(value)
    return found if isinstance(found, list) else [found]


def _texts(value: Any) -> list[str | None]:
    return [None if entry is None else _text(entry) for entry in _array(value)]


def _texts_without_null(value: Any) -> list[str | None]:
    return [entry for entry in _texts(value) if entry is not None]


def _document(text: str) -> Any:
    try:
        return json_documents.whole(text)
    except ValueError:
        return None


_CONVERTERS: dict[str, tuple[Converter, str]] = {
    "string": (_text, "a text"),
    "integer": (_integer, "an integer of 64 bits"),
    "number": (_number, "a number"),
    "boolean": (_boolean, "true or false"),
    "date-time": (_moment, "a date and time such as 2026-01-31T18:00:00Z"),
    "object": (_object, "an object"),
    "array": (_array, "an array"),
}


def _described(column: Mapping[str, Any]) -> str:
    described = _CONVERTERS[kind_of(column)][1]
    return described if _constraints(column) is None else f"{described} as its schema wants it"


def _converter(column: Mapping[str, Any], *, decimal_comma: bool) -> Converter:
    kind = kind_of(column)
    convert = _CONVERTERS[kind][0]
    if decimal_comma:
        convert = {"number": _comma_number, "integer": _comma_integer}.get(kind, convert)
    if kind == "array" and _says_only(column.get("items"), "string"):
        convert = _texts if _says_only(column["items"], "null") else _texts_without_null
    constraints = _constraints(column)
    if constraints is None:
        return convert

    def constrained(value: Any) -> Any:
        cell = convert(value)
        try:
            if cell == "" or constraints.is_valid(cell):
                return cell
        except ArithmeticError:  # a remainder with too many digits
            pass
        raise _UnfitError

    return constrained


def _says_only(column: object, kind: str) -> bool:
    """Whether a schema says nothing else but this type."""
    if not isinstance(column, dict) or column.keys() - _PLAIN_KEYWORDS or "format" in column:
        return False
    kinds = column.get("type")
    return kind in (kinds if isinstance(kinds, list) else [kinds])


def _constraints(column: Mapping[str, Any]) -> Any:
    """A validator for what a column's schema demands beyond its type, None if that is nothing."""
    more = {name: demand for name, demand in column.items() if name not in _PLAIN_KEYWORDS}
    if more.get("additionalProperties") in (True, {}):
        del more["additionalProperties"]
    if _says_only(more.get("items"), "string") or more.get("items") == {}:
        del more["items"]
    return _validator(more) if more else None


def _validator(schema: Mapping[str, Any]) -> Any:
    standard = jsonschema.Draft202012Validator
    exact = json.loads(to_json(schema), parse_float=Decimal)  # a number 0.1 is not less than a minimum of 0.1
    checker = standard.TYPE_CHECKER.redefine("number", _is_number).redefine("integer", _is_integer)
    return jsonschema.validators.extend(standard, type_checker=checker)(exact)


def _is_number(_checker: Any, value: object) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _is_integer(checker: Any, value: object) -> bool:
    return _is_number(checker, value) and value == int(value)  # type: ignore[call-overload]
