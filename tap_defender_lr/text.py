"""Text and JSON that any target can load: no NUL, no lone surrogate, at any depth, cut only between characters."""

from __future__ import annotations

import re
from typing import Any

_MAX_DEPTH = 60
"""Deeper values become a note. Python's JSON reader and writer, and every loader, recurse."""

_DIRT = re.compile("[\x00\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Without NUL (PostgreSQL refuses it), and with U+FFFD for lone surrogates (they are no valid UTF-8)."""
    return _DIRT.sub(lambda found: "" if found[0] == "\x00" else "\ufffd", text) if _DIRT.search(text) else text


def clean(value: Any, _depth: int = 0) -> Any:
    """A JSON value with every text in it cleaned, keys included."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, (dict, list)) and _depth >= _MAX_DEPTH:
        return f"(nested more than {_MAX_DEPTH} levels deep)"
    if isinstance(value, dict):
        return {clean_text(str(key)): clean(item, _depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item, _depth + 1) for item in value]
    return value


def column_text(value: object) -> str | None:
    """A text column: clean, null when empty, and the plain text of what is no text."""
    if value is None or isinstance(value, (dict, list)):
        return None
    return clean_text(value if isinstance(value, str) else str(value)) or None


def cut(text: str, max_bytes: int) -> tuple[str, bool]:
    """The text in at most so many bytes of UTF-8, cut between characters, and whether it was cut."""
    if len(text) * 4 <= max_bytes:
        return text, False
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text, False
    return encoded[:max_bytes].decode(errors="ignore"), True


def counted(number: int, one: str, many: str) -> str:
    """`1 call`, `1,500 calls`."""
    return f"{number:,} {one if number == 1 else many}"


def snake_case(name: str) -> str:
    """`lastUpdateDateTimeUtc` → `last_update_date_time_utc`, `errorHResult` → `error_h_result`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
