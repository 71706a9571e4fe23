"""CSV in the output of a script, as `Export-Csv`, `ConvertTo-Csv` and Unix tools print it."""

from __future__ import annotations

import csv
import re
from itertools import islice
from typing import TYPE_CHECKING

from tap_defender_lr.pieces import MAX_TEXT, Reject, Row, lines_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

csv.field_size_limit(2**31 - 1)  # of the whole process; the default is 128 KiB

_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r' *"?sep=([^"\w ])"? *', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_NAME = re.compile(r"[A-Za-z_][\w.()%#/-]*(?: [\w.()%#/-]+){0,3}")
"""What a column of unknown CSV may be called. Prose has blanks behind its commas, and colons."""
_FIRST_RECORDS = 20
_NOISE_LINES = 200
"""Lines among which a header is looked for."""


def begins_as_csv(text: str, columns: Collection[str]) -> bool:
    """Whether the first line is one that no JSON begins with: then brackets in the cells are no JSON.

    Args:
        text: With line feeds only.
        columns: The columns that are expected, none if they are not known.
    """
    first = text.lstrip().partition("\n")[0]
    if first.lower().startswith("#type") or _SEPARATOR_LINE.fullmatch(first):
        return True
    return first.count(delimiter_of(first)) > 0 and _header_line([first], columns) is not None


def looks_like_csv(text: str, columns: Collection[str]) -> bool:
    """Whether the text, amid which no JSON was found, can be CSV.

    Args:
        text: With line feeds only.
        columns: The columns that are expected, none if they are not known.
    """
    if columns:
        return _header_line(lines_of(text), columns) is not None
    first, *others = islice((line.rstrip("\n") for line in lines_of(text) if line.strip()), _FIRST_RECORDS)
    delimiter = delimiter_of(first)
    header = _fields(first, delimiter)
    if len(header) < 2 or not (_is_quoted(first, header) or all(map(_NAME.fullmatch, header))):
        return False
    same = sum(len(_fields(line, delimiter)) == len(header) for line in others)
    return bool(others) and same * 2 > len(others)


def delimiter_of(header: str) -> str:
    """The delimiter that the header has most of outside of quotes; a comma when it has none."""
    bare = _QUOTED.sub("", header)
    return max(_DELIMITERS, key=bare.count)


def rows(text: str, columns: Collection[str], cut: str | None) -> Iterator[Row | Reject]:
    """The records of the text.

    Args:
        text: With line feeds only.
        columns: The columns that are expected, none if they are not known: with them, text before the header is left
            out.
        cut: Why the end of the text is missing, None if it is all there. The last record may then be half of one.
    """
    skipped = 0
    delimiter = None
    for line in lines_of(text):
        if separator := _SEPARATOR_LINE.fullmatch(line.rstrip("\n")):
            delimiter = separator[1]
        elif line.strip() and not line.lower().startswith("#type"):
            break
        skipped += 1
    else:
        yield Reject(cut or "there is no header line", text[:MAX_TEXT])
        return
    if columns and delimiter is None:
        skipped += _header_line(islice(lines_of(text), skipped, None), columns) or 0
    (header,) = islice(lines_of(text), skipped, skipped + 1)
    yield from _records(_Records(text, skipped, delimiter or delimiter_of(header)), cut)


class _Records:
    """The non-blank records of a text, each with the line that it begins on and its number."""

    def __init__(self, text: str, skipped: int, delimiter: str) -> None:
        self._text = text
        self._delimiter = delimiter
        self.number = skipped
        self.first_line = ""
        self._next_number = skipped + 1
        self._reader = csv.reader(self._lines(islice(lines_of(text), skipped, None)), delimiter=delimiter, strict=True)

    def _lines(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            if not self.first_line:
                self.first_line = line
            self._next_number += 1
            yield line

    def __iter__(self) -> Iterator[list[str] | Reject]:
        while True:
            self.number, self.first_line = self._next_number, ""
            try:
                fields = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                text = "".join(islice(lines_of(self._text), self.number - 1, self.number + 20))
                yield Reject(f"is no CSV ({error})", text.rstrip("\n")[:MAX_TEXT])
                return
            if fields and (len(fields) > 1 or fields[0].strip()):
                yield fields

    def is_quoted(self, fields: list[str]) -> bool:
        return _is_quoted(self.first_line.rstrip("\n"), fields)

    def begins_quoted(self) -> bool:
        return self.first_line.startswith(('"', self._delimiter))


def _records(records: _Records, cut: str | None) -> Iterator[Row | Reject]:
    header: list[str] | None = None
    index = 0
    held: Row | Reject | None = None
    all_quoted = False
    for fields in records:
        location = f"line {records.number}"
        if isinstance(fields, Reject):
            piece: Row | Reject = Reject(fields.reason, fields.text, location, index if header else None)
        elif header is None:
            header = [name.strip().lstrip("\ufeff") or f"column_{place}" for place, name in enumerate(fields, 1)]
            if len({name.casefold() for name in header}) < len(header):
                yield Reject("its header has a column twice", _shown(fields), location)
                break
            all_quoted = records.is_quoted(fields)
            continue
        elif all_quoted and not records.begins_quoted():  # a warning amid what ConvertTo-Csv prints
            piece = Reject(
                "is not quoted as the header is", records.first_line.rstrip("\n")[:MAX_TEXT], location, index
            )
        elif len(fields) != len(header):
            reason = f"has {len(fields)} fields where the header has {len(header)}"
            piece = Reject(reason, _shown(fields), location, index)
        else:
            values = dict(zip(header, (field or None for field in fields), strict=True))
            piece = Row(index, values, location)
        index += 1
        if held is not None:
            yield held
        held = piece
    if cut and held is not None:
        text = held.text if isinstance(held, Reject) else _shown(value or "" for value in held.values.values())
        yield Reject(cut, text, held.location, index - 1)
    elif cut:
        yield Reject(cut)
    elif held is not None:
        yield held


def _header_line(lines: Iterable[str], columns: Collection[str]) -> int | None:
    """The first line of which at least half of the fields are expected columns."""
    wanted = {name.casefold() for column in columns for name in (column, column.removeprefix("output_"))}
    for number, line in enumerate(islice(lines, _NOISE_LINES)):
        names = [field.strip().lstrip("\ufeff").casefold() for field in _fields(line, delimiter_of(line))]
        if names and sum(name in wanted for name in names) * 2 >= len(names):
            return number
    return None


def _is_quoted(line: str, fields: Collection[str]) -> bool:
    """Whether all fields of a line are quoted, as ConvertTo-Csv prints them."""
    return line.startswith('"') and line.endswith('"') and line.count('"') == 2 * len(fields)


def _fields(line: str, delimiter: str) -> list[str]:
    if len(line) > 64 * 1024:
        return []
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _shown(fields: Collection[str] | Iterator[str]) -> str:
    return ",".join(fields)[:MAX_TEXT]
