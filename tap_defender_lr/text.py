"""Text and JSON that any target can load: no NUL, no lone surrogate, at any depth, cut only between characters."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 60
"""Deeper values become a note. Python's JSON reader and writer, and every loader, recurse."""
TOO_DEEP = f"(nested more than {MAX_DEPTH} levels deep)"

_MAX_PARSED_DEPTH = 100
_DIRT = re.compile("[\x00\ud800-\udfff]")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""A text without an end goes on to the end of all: else, it would be read again from each quote in it."""
INT64 = range(-(2**63), 2**63)
_LONG_ESCAPES = [chr(code) for code in range(32) if chr(code) not in "\b\f\n\r\t"]


def parse_json(text: str) -> Any:
    """JSON with raw line feeds, numbers of any length (a text from 4,000 digits on) and values nested at any depth.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        return json.loads(text, strict=False, parse_int=integer)
    except RecursionError:
        return json.loads(shallow(text), strict=False, parse_int=integer)


def integer(digits: str) -> int | str:
    """For `parse_int` of JSON readers: a number of any length, as text from 4,000 digits on."""
    # Python refuses to convert longer ones: it takes too long.
    return int(digits) if len(digits) < 4000 else digits


def shallow(text: str) -> str:
    """JSON with a note in place of what Python's reader cannot follow."""
    kept: list[str] = []
    depth = begin = 0
    for token in _TOKEN.finditer(text):
        if token[0] in {"[", "{"}:
            depth += 1
            if depth == _MAX_PARSED_DEPTH:
                kept.append(text[begin : token.start()])
        elif token[0] in {"]", "}"}:
            if depth == _MAX_PARSED_DEPTH:
                kept.append(f'"{TOO_DEEP}"')
                begin = token.end()
            depth -= 1
    if depth:
        raise ValueError("a bracket is not closed")
    return "".join([*kept, text[begin:]])


def clean_text(text: str) -> str:
    """Without NUL (PostgreSQL refuses it), and with U+FFFD for lone surrogates (they are no valid UTF-8)."""
    if text.isascii() and "\x00" not in text:  # what most text is like, and quickly told
        return text
    return _DIRT.sub(lambda found: "" if found[0] == "\x00" else "\ufffd", text) if _DIRT.search(text) else text


def clean(value: Any, _depth: int = 0) -> Any:
    """A JSON value with every text in it cleaned, keys included.

    NaN and infinities, which are no JSON, become null. Integers beyond 64 bits become the text of their digits, since
    few targets take them and none as exactly.
    """
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, (dict, list)) and _depth >= MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, dict):
        return {clean_text(str(key)): clean(item, _depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item, _depth + 1) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if value in INT64 else str(value)
    return value


def column_text(value: object) -> str | None:
    """A text column: clean, null when empty, and the plain text of what is no text."""
    if isinstance(value, str):
        return clean_text(value) or None
    if value is None or isinstance(value, (dict, list)):
        return None
    number = clean(value)  # NaN is none
    return None if number is None else str(number)


def cut(text: str, max_bytes: int) -> tuple[str, bool]:
    """The text in at most so many bytes of UTF-8, cut between characters, and whether it was cut.

    Written as JSON, it is at most twice as long: a control character takes 6 bytes there, and a text of nothing else
    would make a line that Meltano refuses (50 MiB).
    """
    if len(text) * 6 <= max_bytes:
        return text, False
    encoded = text.encode()
    shortened = text if len(encoded) <= max_bytes else encoded[:max_bytes].decode(errors="ignore")
    if _json_bytes(shortened) > 2 * max_bytes:
        low, high = 0, len(shortened)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if _json_bytes(shortened[:middle]) <= 2 * max_bytes else (low, middle - 1)
        shortened = shortened[:low]
    return shortened, len(shortened) < len(text)


def _json_bytes(text: str) -> int:
    """Bytes of the text as JSON in UTF-8."""
    escaped_short = sum(text.count(character) for character in '"\\\b\f\n\r\t')
    return len(text.encode()) + escaped_short + 5 * sum(text.count(character) for character in _LONG_ESCAPES)


def counted(number: int, one: str, many: str) -> str:
    """`1 call`, `1,500 calls`."""
    return f"{number:,} {one if number == 1 else many}"


def in_bytes(size: int) -> str:
    """`999 bytes`, `12 kB`, `3.2 GB`: powers of 1,000, as storage is sold and billed."""
    number, units = float(size), iter(("kB", "MB", "GB", "TB"))
    unit = "bytes"
    while number >= 999.5 and (larger := next(units, None)):
        number, unit = number / 1000, larger
    return f"{number:.1f} {unit}" if number < 9.95 and unit != "bytes" else f"{number:,.0f} {unit}"


def snake_case(name: str) -> str:
    """`lastUpdateDateTimeUtc` → `last_update_date_time_utc`, `errorHResult` → `error_h_result`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
