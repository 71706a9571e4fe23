"""Bytes of a downloaded result → the fields of a script result. Pure: no I/O but reading the given file.

The document is a JSON object with `script_name`, `exit_code`, `script_output`, `script_errors`. What really arrives
(Microsoft's own example, public clients) may be gzip or ZIP, start with a byte order mark, be UTF-16, hold raw line
feeds inside strings, use the older names `name`, `script_error`, or be no JSON at all.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from tap_defender_lr.text import clean_text, cut

if TYPE_CHECKING:
    from collections.abc import Mapping

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_CHUNK = 64 * 1024
_OUTPUT_KEYS = ("script_output", "output")
_ERRORS_KEYS = ("script_errors", "script_error", "errors")
_NAME_KEYS = ("script_name", "name")
_TELLING_KEYS = {*_OUTPUT_KEYS, "script_errors", "script_error", "exit_code"}
"""Without any of them it is something that a script has printed: `errors` alone is a usual name in such a document."""
_TRANSCRIPT_NAME = "PSScript_Transcript_"
_MAX_HEADER = 2000
_TRANSCRIPT_PATH = re.compile(r"(?:[A-Za-z]:\\[^\r\n]*)?PSScript_Transcript_[^\r\n\\]*?\.txt")
_MAX_NAME_BYTES = 4096
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class ScriptResult:
    """One result as columns of `live_response_results`.

    Attributes:
        readable: False when the bytes are no result document; their text is then in `script_output`.
        error: Why it is not readable, or what had to be left out of it.
    """

    readable: bool
    error: str | None = None
    script_name: str | None = None
    exit_code: int | None = None
    script_output: str | None = None
    script_errors: str | None = None
    script_output_truncated: bool = False
    script_errors_truncated: bool = False
    transcript_path: str | None = None


def bytes_needed(max_output_bytes: int) -> int:
    """How much of a document is looked at: two full text columns with their JSON escapes, and a little more."""
    return 3 * max_output_bytes + 64 * 1024


def decode(body: IO[bytes], *, max_output_bytes: int, complete: bool = True) -> ScriptResult:
    """Read one result document.

    Args:
        body: The bytes as they came over the wire, at their start.
        max_output_bytes: Bytes of UTF-8 that a text column holds at most.
        complete: False when `body` holds only the beginning of what the service has.
    """
    data, whole, damage = _unpack(body, bytes_needed(max_output_bytes), complete=complete)
    if isinstance(data, dict):
        return _from_document(data, max_output_bytes)
    if damage:
        return _unreadable(_text(data), damage, max_output_bytes)
    # The text of the bytes is made when needed, and not kept: with one emoji in it, it takes four times their room.
    document, reason = _parse(_text(data)) if complete and whole else _parse_beginning(data)
    if document is None:
        return _unreadable(_text(data), reason, max_output_bytes, whole=complete and whole)
    try:
        result = _from_document(document, max_output_bytes)
    except RecursionError:  # Python 3.14 reads deeper than it writes
        return _unreadable(_text(data), "the result is JSON that is nested too deeply", max_output_bytes)
    return result if complete and whole else _mark_cut(result, document)


def _unpack(body: IO[bytes], limit: int, *, complete: bool) -> tuple[bytes | dict[str, str], bool, str | None]:
    """The document (or the parts of a ZIP), whether all of it was read, and what is wrong with its packing."""
    head = body.read(4)
    body.seek(0)
    if head.startswith(_ZIP):
        return _unzip(body.read(limit), limit, complete=complete)
    if head.startswith(_GZIP):
        return _gunzip(body, limit, complete=complete)
    data = body.read(limit + 1)
    return data[:limit], len(data) <= limit, None


def _gunzip(body: IO[bytes], limit: int, *, complete: bool) -> tuple[bytes, bool, str | None]:
    inflate = zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    room, damage = limit + 1, None
    try:
        while room > 0 and not inflate.eof:
            chunk = inflate.unconsumed_tail or body.read(_CHUNK)
            if not chunk:
                damage = "the gzip stream ends too early" if complete else None
                break
            parts.append(inflate.decompress(chunk, room))
            room -= len(parts[-1])
    except zlib.error:
        damage = "the gzip stream is damaged"
    data = b"".join(parts)
    return data[:limit], inflate.eof and len(data) <= limit, damage


def _unzip(packed: bytes, limit: int, *, complete: bool) -> tuple[bytes | dict[str, str], bool, str | None]:
    """Some clients met a ZIP with members `stdout…` and `stderr…` instead of a document."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            parts = {name: archive.open(name).read(limit + 1) for name in archive.namelist()[:8]}
    except Exception:  # noqa: BLE001  zipfile raises almost anything on damaged, encrypted or exotic archives
        reason = "the ZIP archive cannot be unpacked" if complete else "the ZIP archive is too large to be read"
        return packed, True, reason
    streams: dict[str, str] = {}
    for name, part in sorted(parts.items()):
        column = {"stdout": "script_output", "stderr": "script_errors"}.get(name.lower()[:6])
        if column:
            streams[column] = streams.get(column, "") + _text(part[:limit])
    if streams:
        return streams, True, None
    data = next(iter(parts.values()), b"")
    return data[:limit], len(data) <= limit, None


def _text(data: bytes) -> str:
    """UTF-8, or UTF-16 and UTF-32 told by a byte order mark or by where the zero bytes stand."""
    encoding = json.detect_encoding(data)
    return data.decode("utf-8" if encoding == "utf-8" else encoding, errors="replace").removeprefix("\ufeff")


def _parse(text: str) -> tuple[dict[str, Any] | None, str]:
    try:
        document = json.loads(text.strip().rstrip("\x00"), strict=False)
    except RecursionError:
        return None, "the result is JSON that is nested too deeply"
    except ValueError:
        return None, "the result is not JSON" if text.strip("\x00 \r\n\t") else "the result is empty"
    if not isinstance(document, dict) or not document.keys() & _TELLING_KEYS:
        return None, "the result is JSON, but not the document of a script result"
    return document, ""


def _parse_beginning(data: bytes) -> tuple[dict[str, Any] | None, str]:
    """Read a document of which only the beginning is there, by closing what was open where it was cut."""
    reason = ""
    for closing in ('"}', "}", "null}", '":null}', ":null}", '"":null}'):
        text = _text(data)
        half_escape = re.search(r"(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3})?)\Z", text)
        if half_escape:
            text = text[: half_escape.start(1)]
        text += closing  # in place, since nobody else holds it
        document, reason = _parse(text)
        if document is not None:
            return document, ""
    return None, reason


def _mark_cut(result: ScriptResult, document: Mapping[str, Any]) -> ScriptResult:
    in_errors = any(key in document for key in _ERRORS_KEYS)
    return replace(
        result,
        error="the result is too large to be read to its end; its texts are cut",
        script_output_truncated=result.script_output_truncated or not in_errors or list(document)[-1] in _OUTPUT_KEYS,
        script_errors_truncated=True,
    )


def _from_document(document: Mapping[str, Any], max_output_bytes: int) -> ScriptResult:
    output = _first_text(document, _OUTPUT_KEYS)
    transcript_path, output = _without_transcript_header(output)
    output, output_cut = cut(output, max_output_bytes)
    errors, errors_cut = cut(_first_text(document, _ERRORS_KEYS), max_output_bytes)
    exit_code, problem = _exit_code(document.get("exit_code"))
    return ScriptResult(
        readable=True,
        error=problem,
        script_name=cut(_first_text(document, _NAME_KEYS), _MAX_NAME_BYTES)[0] or None,
        exit_code=exit_code,
        script_output=output or None,
        script_errors=errors or None,
        script_output_truncated=output_cut,
        script_errors_truncated=errors_cut,
        transcript_path=transcript_path,
    )


def _without_transcript_header(output: str) -> tuple[str | None, str]:
    """The path in PowerShell's "Transcript started, output file is …", and the output without that first line.

    The sentence is translated on localised Windows; the name of the file is not.
    """
    line = re.match(r"[^\r\n]*(?:\r\n|\r|\n|\Z)", output)
    if line is None or line.end() > _MAX_HEADER or _TRANSCRIPT_NAME not in line[0]:
        return None, output
    path = _TRANSCRIPT_PATH.search(line[0])
    return (path[0], output[line.end() :]) if path else (None, output)


def _first_text(document: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    value = next((document[key] for key in keys if document.get(key) is not None), "")
    return clean_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _exit_code(value: object) -> tuple[int | None, str | None]:
    if value is None or value == "":
        return None, None
    try:
        code = (
            int(value) if isinstance(value, (int, str)) or (isinstance(value, float) and value.is_integer()) else None
        )
    except ValueError:
        code = None
    if code is None:
        return None, "the exit code is not a whole number"
    if code not in _INT64:
        return None, "the exit code does not fit 64 bits"
    return code, None


def _unreadable(text: str, reason: str, max_output_bytes: int, *, whole: bool = True) -> ScriptResult:
    output, was_cut = cut(clean_text(text), max_output_bytes)
    return ScriptResult(
        readable=False, error=reason, script_output=output or None, script_output_truncated=was_cut or not whole
    )
