"""One printed value → one cell: what fits a column of each type, and what a value of any shape becomes. Pure."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jsonschema

from tap_defender_lr import json_documents, timestamps
from tap_defender_lr.parsing import unwrapped
from tap_defender_lr.pieces import to_json
from tap_defender_lr.script_streams import kind_of
from tap_defender_lr.text import INT64, MAX_DEPTH, TOO_DEEP, clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Converter = Callable[[Any], Any]

MAX_STAMP = 64
"""Characters of the longest text that can be a time."""
_MAX_DIGITS = 100
_MAX_EXPONENT = 300

_DATE = re.compile(r"/Date\((-?\d{1,17})(?:[+-]\d{4})?\)/", re.ASCII)
_DATE_NAMES = frozenset({"value", "DisplayHint", "DateTime"})
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_COMMA_NUMBER = re.compile(r"([+-]?)(\d{1,3}(?:[. '\u2019\u00a0\u202f]\d{3})+|\d+)(?:,(\d+))?", re.ASCII)
_PLAIN_KEYWORDS = {"type", "format", "title", "description"}


class UnfitError(Exception):
    """A value does not fit its column."""


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


def to_text(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _date(value) or clean_text(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is dict or kind is list:
        plain = free(value)
        return plain if isinstance(plain, str) else to_json(plain)
    return format(value, "f") if kind is Decimal and _is_moderate(value) else str(value)


def to_integer(value: Any) -> int:
    kind = type(value)
    if kind is not int:
        number = _number(value)
        if number != int(number):
            raise UnfitError
        value = int(number)
    if value not in INT64:
        raise UnfitError
    return int(value)


def _number(value: Any) -> int | Decimal:
    kind = type(value)
    if kind is int:
        if abs(value) < 10**_MAX_DIGITS:
            return int(value)
        raise UnfitError
    if kind is str and len(value) <= 2 * _MAX_DIGITS and _NUMBER.fullmatch(value.strip()):
        digits = value.strip()
        return int(digits) if digits.lstrip("+-").isdigit() else _number(Decimal(digits))
    if isinstance(value, Decimal) and _is_moderate(value):
        return value
    raise UnfitError


def _comma_number(value: Any) -> int | Decimal:
    found = _COMMA_NUMBER.fullmatch(value.strip()) if type(value) is str else None
    if found is None:
        return _number(value)
    sign, whole, fraction = found.groups()
    return _number(f"{sign}{re.sub(r'[^0-9]', '', whole)}" + (f".{fraction}" if fraction else ""))


def _comma_integer(value: Any) -> int:
    return to_integer(_comma_number(value))


def to_boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    words = str(value) if isinstance(value, (str, int, Decimal)) else ""
    truth = {"true": True, "1": True, "false": False, "0": False}.get(words.strip().casefold())
    if truth is None:
        raise UnfitError
    return truth


def to_moment(value: Any) -> str:
    stamp = _date(value) if type(value) is not str else stamp_of(value) if len(value) <= MAX_STAMP else None
    if stamp is None:
        raise UnfitError
    return stamp


@lru_cache(maxsize=4096)
def stamp_of(text: str) -> str | None:
    day = text.strip()
    return _date(text) or timestamps.normalize(f"{day}T00:00:00Z" if _DAY.fullmatch(day) else text)


def _object(value: Any) -> dict[str, Any]:
    found = free(_document(value) if type(value) is str else value)
    if not isinstance(found, dict):
        raise UnfitError
    return found


def _array(value: Any) -> list[Any]:
    """A list; a text with JSON in it; `a; b`; one value, since PowerShell takes lists of one apart."""
    if type(value) is str:
        document = _document(value) if value.lstrip().startswith(("[", "{")) else None
        value = [entry.strip() for entry in value.split(";") if entry.strip()] if document is None else document
    found = free(value)
    return found if isinstance(found, list) else [found]


def _texts(value: Any) -> list[str | None]:
    return [None if entry is None else to_text(entry) for entry in _array(value)]


def _texts_without_null(value: Any) -> list[str | None]:
    return [entry for entry in _texts(value) if entry is not None]


def _document(text: str) -> Any:
    try:
        return json_documents.whole(text)
    except ValueError:
        return None


_CONVERTERS: dict[str, tuple[Converter, str]] = {
    "string": (to_text, "a text"),
    "integer": (to_integer, "an integer of 64 bits"),
    "number": (_number, "a number"),
    "boolean": (to_boolean, "true or false"),
    "date-time": (to_moment, "a date and time such as 2026-01-31T18:00:00Z"),
    "object": (_object, "an object"),
    "array": (_array, "an array"),
}


def describe(column: Mapping[str, Any]) -> str:
    described = _CONVERTERS[kind_of(column)][1]
    return described if _constraints(column) is None else f"{described} as its schema wants it"


def converter_of(column: Mapping[str, Any], *, decimal_comma: bool) -> Converter:
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
        raise UnfitError

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
