"""How Windows PowerShell 5.1 prints: JSON in its own layout, and the transcript line that the agent's wrapper adds."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

_PLAIN = re.compile(r"[A-Za-z0-9 :.,/%-]*")
_encode = json.JSONEncoder(ensure_ascii=False).encode

_TRANSCRIPTS = "C:\\ProgramData\\Microsoft\\Windows Defender Advanced Threat Protection\\Temp\\PSScriptOutputs"


def transcript_line(rng: Random) -> str:
    """Print the first line of any output on Windows in English."""
    guid = str(uuid.UUID(int=rng.getrandbits(128), version=4)).upper()
    return f"Transcript started, output file is {_TRANSCRIPTS}\\PSScript_Transcript_{{{guid}}}.txt\r\n"


def to_json(value: Any, column: int = 0) -> str:
    """Print as `ConvertTo-Json`: two spaces after a colon, and indents that follow the opening bracket."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        # Nine columns: the indent of four, two quotes, a colon and two spaces.
        items = [f'"{key}":  {to_json(item, column + len(key) + 9)}' for key, item in value.items()]
        return _block("{}", items, column)
    if isinstance(value, list):
        return _block("[]", [to_json(item, column + 4) for item in value], column)
    return _plain(value)


def to_compressed_json(value: Any) -> str:
    """Print as `ConvertTo-Json -Compress`."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return "{" + ",".join(f'"{key}":{to_compressed_json(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(to_compressed_json, value)) + "]"
    return _plain(value)


def unrolled(items: list[Any]) -> Any:
    """Take the only item out of its list, as the pipeline does."""
    return items[0] if len(items) == 1 else items


def quoted(text: str) -> str:
    """Print a text, with the characters escaped that could end an HTML attribute."""
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    literal = _encode(text)
    for character in "'<>&":
        literal = literal.replace(character, f"\\u{ord(character):04x}")
    return literal


def _plain(value: float | None) -> str:
    """Print a number, a truth value or null. A number without decimals is printed without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else _encode(value)


def _block(brackets: str, items: list[str], column: int) -> str:
    indent = " " * (column + 4)
    lines = ",\r\n".join(indent + item for item in items)
    return f"{brackets[0]}\r\n{lines}\r\n{' ' * column}{brackets[1]}"
