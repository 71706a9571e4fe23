"""JSON in the output of a script: one document, a document on each line, or documents amid other text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import TYPE_CHECKING, Any

from tap_defender_lr.pieces import lines_of
from tap_defender_lr.text import integer, shallow

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST_LINES = 500
_OPENING = re.compile(r"[\[{]")
_WINDOW = 1024
_MAX_CUT_TOKEN = 16
"""Characters before the end of a window in which an error may come from that end: `-Infinity`, half an escape."""
_PROPERTY = re.compile(r'"\s{0,20}:')


def _number(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of 20 digits
        return text


_QUICK = json.JSONDecoder(strict=False, parse_float=Decimal, parse_constant=str)
_CAREFUL = json.JSONDecoder(strict=False, parse_float=_number, parse_int=integer, parse_constant=str)


@dataclass(frozen=True)
class Document:
    """A JSON document at `text[start:end]`."""

    value: Any
    start: int
    end: int


@dataclass(frozen=True)
class Broken:
    """A JSON document that begins at `start` and has no end."""

    start: int
    reason: str


def whole(text: str) -> Any:
    """The document that the text is.

    Raises:
        ValueError: It is no JSON, or there is other text around it.
    """
    try:
        return _decoded(text)
    except RecursionError:
        return _decoded(shallow(text))


def _decoded(text: str) -> Any:
    value, end = _decode_at(text, len(text) - len(text.lstrip()))
    if text[end:].strip():
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def _decode_at(text: str, start: int) -> tuple[Any, int]:
    try:
        return _QUICK.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except (ValueError, InvalidOperation):  # a number with more digits than Python likes
        return _CAREFUL.raw_decode(text, start)


def are_lines(text: str) -> bool:
    """Whether most lines of the text are a JSON object each, as far as its beginning tells."""
    beginning = list(islice((line for line in lines_of(text) if line.strip()), _FIRST_LINES))
    objects = sum(not isinstance(line_object(line), ValueError) for line in beginning)
    return objects >= 2 and objects * 2 > len(beginning)


def line_object(line: str) -> Any:
    """The JSON object that the line is, or the error that tells why it is none."""
    if not line.lstrip().startswith("{"):
        return ValueError("is no JSON object")
    try:
        return whole(line)
    except ValueError as error:
        # Without its traceback, which takes far more memory than the line, and without Python's place in the line.
        return ValueError(str(error).partition(": line ")[0])


def amid_text(text: str) -> list[Document | Broken]:
    """The documents that stand somewhere in the text, in order.

    Those that have lines of their own count; only if there are none, the longest one within a line does, and that there
    are more is told. The search goes on where a document cannot be read any further, never inside of what was read: a
    piece of a document is none.
    After a document without an end nothing more is looked for.
    """
    groups: list[list[Document]] = []
    broken: list[Document | Broken] = []
    for found in _scan(text):
        if isinstance(found, Broken):
            broken.append(found)
        elif groups and _is_on_the_same_line(text[groups[-1][-1].end : found.start]):
            groups[-1].append(found)
        else:
            groups.append([found])
    own: list[Document | Broken] = [
        document for group in groups if _has_lines_of_its_own(text, group) for document in group if _is_data(document)
    ]
    if not own:
        inline = [document for group in groups for document in group if document.value and _is_data(document)]
        own += inline and [max(inline, key=lambda document: document.end - document.start)]
        if others := [document for document in inline if document is not own[0]]:
            reason = "stands within a line, and so does a longer one, which is read: print data on lines of its own"
            broken.append(Broken(others[0].start, reason))
    return sorted(own + broken, key=lambda found: found.start)


def _scan(text: str) -> Iterator[Document | Broken]:
    position, length = 0, len(text.rstrip())
    while opening := _OPENING.search(text, position):
        start = opening.start()
        try:
            value, position, error = _read(text, start)
        except RecursionError:
            yield Broken(start, "is nested too deeply")
            return
        if error is None:
            yield Document(value, start, position)
        elif position >= length or _is_unterminated(error):
            yield Broken(start, "has no end")
            return
        elif _PROPERTY.search(text, start, position):
            line = text.count("\n", 0, position) + 1
            yield Broken(start, f"breaks off at line {line} ({error[:1].lower()}{error[1:]})")
            return
        else:
            position = max(position, start + 1)


def _read(text: str, start: int) -> tuple[Any, int, str | None]:
    """The document at `start` and its end; or None, where it cannot be read any further, and why.

    In windows that grow, since Python counts the lines before each error that it raises: `[INFO]` on each of a million
    lines would take hours.
    """
    size = _WINDOW
    while True:
        window = text[start : start + size]
        try:
            value, end = _decode_at(window, 0)
        except json.JSONDecodeError as error:
            is_whole = start + size >= len(text)
            if is_whole or not (_is_unterminated(error.msg) or error.pos > size - _MAX_CUT_TOKEN):
                return None, start + error.pos, error.msg
        else:
            return value, start + end, None
        size *= 8


def _is_on_the_same_line(gap: str) -> bool:
    return "\n" not in gap and not gap.strip()


def _is_unterminated(message: str) -> bool:
    return message.startswith("Unterminated string")


def _has_lines_of_its_own(text: str, group: list[Document]) -> bool:
    before, after = group[0].start - 1, group[-1].end
    while before >= 0 and text[before] in " \t":
        before -= 1
    while after < len(text) and text[after] in " \t":
        after += 1
    return (before < 0 or text[before] == "\n") and (after >= len(text) or text[after] == "\n")


def _is_data(document: Document) -> bool:
    """Amid text, `[1]` is more likely a note than a table; `[]` is an empty table."""
    value = document.value
    return isinstance(value, dict) or not value or any(isinstance(entry, dict) for entry in value)
