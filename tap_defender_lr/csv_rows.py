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
    first, _, rest = text.lstrip("\n").partition("\n")
    return len(_fields(first, delimiter_of(first))) > 1 and bool(rest.strip())


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
    source = lines_of(text)
    (header,) = islice(lines_of(text), skipped, skipped + 1)
    for _ in range(skipped):
        source.readline()
    reader = csv.reader(source, delimiter=delimiter or delimiter_of(header), strict=True, skipinitialspace=False)
    yield from _records(_Records(reader, text, skipped), cut)


class _Records:
    """The non-blank records of a reader with the number of the line that each begins on."""

    def __init__(self, reader: Iterator[list[str]], text: str, skipped: int) -> None:
        self._reader = reader
        self._text = text
        self._skipped = skipped
        self.line = skipped + 1

    def __iter__(self) -> Iterator[list[str] | Reject]:
        while True:
            self.line = self._skipped + self._reader.line_num + 1  # type: ignore[attr-defined]
            try:
                fields = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                text = "".join(islice(lines_of(self._text), self.line - 1, self.line + 20))
                yield Reject(f"is no CSV ({error})", text.rstrip("\n")[:MAX_TEXT])
                return
            if fields and (len(fields) > 1 or fields[0].strip()):
                yield fields


def _records(records: _Records, cut: str | None) -> Iterator[Row | Reject]:
    header: list[str] | None = None
    index = 0
    held: Row | Reject | None = None
    for fields in records:
        location = f"line {records.line}"
        if isinstance(fields, Reject):
            piece: Row | Reject = Reject(fields.reason, fields.text, location, index if header else None)
        elif header is None:
            header = [name.strip().lstrip("\ufeff") or f"column_{place}" for place, name in enumerate(fields, 1)]
            if len({name.casefold() for name in header}) < len(header):
                yield Reject("its header has a column twice", _shown(fields), location)
                break
            continue
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


def _fields(line: str, delimiter: str) -> list[str]:
    if len(line) > 64 * 1024:
        return []
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _shown(fields: Collection[str] | Iterator[str]) -> str:
    return ",".join(fields)[:MAX_TEXT]
