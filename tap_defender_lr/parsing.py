"""What a script printed → rows as they were printed, and what cannot be one. Pure.

PowerShell and Unix reality: progress text and warnings around the data, colours, a byte order mark, one object instead
of a list, `{"value": […], "Count": n}` around a list, `#TYPE` and `sep=` lines, semicolons, output that was cut.
A device may be compromised: every step is linear in the length of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from tap_defender_lr import csv_rows, json_documents
from tap_defender_lr.json_documents import Broken, Document
from tap_defender_lr.pieces import MAX_TEXT, Reject, Row, lines_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tap_defender_lr.script_streams import ScriptStream

CUT = "the output was cut at `max_output_bytes`: raise it, or let the script print less"
_ESCAPE = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\)?|\x1b[@-Z\\\\-_]")
_MARK = re.compile("^([ \\t]*)\\ufeff+", re.MULTILINE)
_TRANSCRIPT_END = re.compile(r"^\*{10,}\n(?:[^\n]*\n){1,3}\*{10,}\s*\Z", re.MULTILINE)
_LINE = re.compile(r"[^\n]+")
_MAX_LINE = 10_000
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Parsed:
    """The output of a script.

    Attributes:
        pieces: To be taken once.
        succeeded: The verdict of the script, None when it is unknown.
        text_only: All values are texts, since they come from CSV.
    """

    pieces: Iterable[Row | Reject]
    succeeded: bool | None = None
    text_only: bool = False


class _Parts(NamedTuple):
    pieces: Iterable[Row | Reject]
    documents: Iterable[Any] = ()
    text_only: bool = False


def parse(output: str | None, stream: ScriptStream, *, cut: bool = False) -> Parsed:
    """Take the output apart as the entry says.

    Args:
        output: What the script printed, clean.
        stream: The entry of `script_streams`.
        cut: The end of the output is missing. No half row is made up.
    """
    text = (output or "").lstrip("\ufeff")
    pieces, documents, text_only = _take_apart(text, stream, CUT if cut else None)
    return Parsed(pieces, _verdict(text, documents, stream, cut=cut), text_only)


def _take_apart(text: str, stream: ScriptStream, missing: str | None) -> _Parts:
    if stream.format in {"auto", "json"} and not stream.records_start:
        try:
            return _json(text, [Document(json_documents.whole(text), 0, len(text))], stream, missing)
        except ValueError:
            pass
    text = _plain(text)
    if stream.records_start and text.strip():
        data, missing = _between(text, stream.records_start, stream.records_end, missing)
        if data is None:
            reason = missing or f"the line {stream.records_start} is not in the output"
            return _Parts([Reject(reason, text[:MAX_TEXT])])
        text = data
    if not text.strip():
        return _Parts([Reject(missing or "the output is empty; let the script print [] if there is nothing")])
    if stream.format == "csv":
        return _csv(text, stream, missing)
    if stream.format == "jsonl":
        return _Parts(_with(missing, _of_lines(text)))
    try:
        return _json(text, [Document(json_documents.whole(text), 0, len(text))], stream, missing)
    except ValueError as error:
        if stream.format == "auto":
            return _amid_text(text, stream, missing)
        reason = missing or (
            f"is no JSON document ({error}); if it stands amid other text, set `format` to auto, or `records_start`"
        )
        return _Parts([Reject(reason, _beginning(text))])


def _amid_text(text: str, stream: ScriptStream, missing: str | None) -> _Parts:
    """`auto`: lines of JSON, JSON amid other text, or CSV."""
    columns = stream.properties or ()
    may_be_csv = stream.records_path is None and stream.success_field is None  # both speak of JSON
    if may_be_csv and csv_rows.begins_as_csv(text, columns):
        return _csv(text, stream, missing)
    if stream.records_path is None and json_documents.are_lines(text):
        objects = (piece.values for piece in _of_lines(text) if isinstance(piece, Row))
        return _Parts(_with(missing, _of_lines(text, amid_text=True)), objects)
    if documents := json_documents.amid_text(text):
        return _json(text, documents, stream, missing)
    if may_be_csv and csv_rows.looks_like_csv(text, columns):
        return _csv(text, stream, missing)
    reason = missing or "neither JSON nor CSV is in the output; if it is one of them, set `format`"
    return _Parts([Reject(reason, _beginning(text))])


def _csv(text: str, stream: ScriptStream, missing: str | None) -> _Parts:
    return _Parts(csv_rows.rows(text, stream.properties or (), missing), text_only=True)


def _json(text: str, documents: Sequence[Document | Broken], stream: ScriptStream, missing: str | None) -> _Parts:
    values = [document.value for document in documents if isinstance(document, Document)]
    if len(values) < len(documents):  # told where it is
        return _Parts(_rows(text, documents, stream, missing), values)
    return _Parts(_with(missing, _rows(text, documents, stream)), values)


def _with(missing: str | None, pieces: Iterable[Row | Reject]) -> Iterator[Row | Reject]:
    """Say at the end that the end is missing."""
    yield from pieces
    if missing is not None:
        yield Reject(missing)


def _plain(text: str) -> str:
    """Without colours, byte order marks and the end of a transcript, and with line feeds only."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\x1b" in text:
        text = _ESCAPE.sub("", text)
    text = _MARK.sub(r"\1", text) if "\ufeff" in text else text
    return text[: end.start()] if (end := _TRANSCRIPT_END.search(text, max(len(text) - _MAX_LINE, 0))) else text


def _between(text: str, start: str, end: str | None, missing: str | None) -> tuple[str | None, str | None]:
    """What stands between the two lines, after as many line feeds as come before it, and why its end is missing."""
    begin: int | None = None
    position = 0
    for line in lines_of(text):
        stripped = line.strip()
        if begin is None and stripped == start:
            begin = position + len(line)
        elif begin is not None and end is not None and stripped == end:
            return _with_line_numbers(text, begin, position), None
        position += len(line)
    if begin is None:
        return None, missing
    if end is not None and missing is None:
        missing = f"the line {end} is not in the output"
    return _with_line_numbers(text, begin, len(text)), missing


def _with_line_numbers(text: str, begin: int, end: int) -> str:
    return "\n" * text.count("\n", 0, begin) + text[begin:end]


def _beginning(text: str) -> str:
    return text.lstrip()[:MAX_TEXT]


def _of_lines(text: str, *, amid_text: bool = False) -> Iterator[Row | Reject]:
    """A row for each line that is an object; amid text, lines that do not begin as one are left out."""
    index = 0
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip() or (amid_text and not line.lstrip().startswith("{")):
            continue
        value = json_documents.line_object(line)
        location = f"line {number}"
        if isinstance(value, ValueError):
            yield Reject(str(value), line.rstrip("\n")[:MAX_TEXT], location, index)
        else:
            yield Row(index, value, location)
        index += 1


def _rows(
    text: str, documents: Sequence[Document | Broken], stream: ScriptStream, missing: str | None = None
) -> Iterator[Row | Reject]:
    index, line, counted_to = 0, 1, 0
    for document in documents:
        line += text.count("\n", counted_to, document.start)
        counted_to = document.start
        if isinstance(document, Broken):
            reason = missing or f"the JSON document {document.reason}"
            yield Reject(reason, text[document.start : document.start + MAX_TEXT], f"line {line}")
            continue
        place = f"line {line}: $" if len(documents) > 1 else "$"
        value = unwrapped(document.value)
        if stream.records_path is None:
            containers = [value]
        else:
            place += stream.records_path.below
            containers = [unwrapped(found) for found in stream.records_path.find(value)]
            if not containers:
                reason = f"`records_path` {stream.records_path.text} finds nothing in the document"
                yield Reject(reason, shown(value), place)
        for container in containers:
            elements = container if isinstance(container, list) else [] if container is None else [container]
            for position, element in enumerate(elements):
                location = f"{place}[{position}]" if elements is container else place
                if type(element) is dict:
                    yield Row(index, element, location)
                else:
                    yield Reject(_no_object(element), shown(element), location, index)
                index += 1


def unwrapped(value: Any) -> Any:
    """The list in `{"value": […], "Count": n}`, as Windows PowerShell prints some lists."""
    while isinstance(value, dict) and len(value) == 2 and isinstance(value.get("value"), list) and "Count" in value:
        value = value["value"]
    return value


def _no_object(value: Any) -> str:
    kind = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}.get(type(value), "a number")
    return f"is {kind}, not an object: it has no columns"


def _verdict(text: str, documents: Iterable[Any], stream: ScriptStream, *, cut: bool) -> bool | None:
    """What a line and the last document that has the field tell, together; None without a marker, or when unknown."""
    verdicts: list[bool | None] = []
    if stream.success_pattern is not None:
        search = stream.success_pattern.search
        found = any(search(line[0][:_MAX_LINE]) for line in _LINE.finditer(_plain(text)))
        # Where there is no output, or no end of it, the line may only be missing.
        verdicts.append(True if found else None if cut or not text.strip() else False)
    if stream.success_field is not None:
        values = [value for document in documents for value in stream.success_field.find(document)]
        verdicts.append(_truth(values[-1]) if values else None)
    if False in verdicts:
        return False
    return True if verdicts and None not in verdicts else None


def _truth(value: Any) -> bool | None:
    is_plain = isinstance(value, (str, int, Decimal))  # of a list nested deeply, Python cannot make a text
    return _TRUTH.get(str(value).strip().casefold()) if is_plain else None
