from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zipfile
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_defender_lr.decoding import ScriptResult, bytes_needed, decode

DOCUMENT = {"script_name": "a.ps1", "exit_code": 0, "script_output": "out", "script_errors": "err"}
PLAIN = ScriptResult(readable=True, script_name="a.ps1", exit_code=0, script_output="out", script_errors="err")
TRANSCRIPT = r"C:\ProgramData\Temp\PSScriptOutputs\PSScript_Transcript_{5E1B3F64-0000-4000-8000-0123456789AB}.txt"


def read(body: bytes, *, max_output_bytes: int = 1000, complete: bool = True) -> ScriptResult:
    return decode(io.BytesIO(body), max_output_bytes=max_output_bytes, complete=complete)


def document(**changes: Any) -> bytes:
    return json.dumps({**DOCUMENT, **changes}).encode()


def zipped(**members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return file.getvalue()


TEXT = document().decode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(document(), id="plain"),
        pytest.param(document() + b"\x00\x00\n", id="trailing NULs"),
        pytest.param(b"\xef\xbb\xbf" + document(), id="UTF-8 byte order mark"),
        pytest.param(TEXT.encode("utf-16"), id="UTF-16 with byte order mark"),
        pytest.param(TEXT.encode("utf-16-le"), id="UTF-16 LE without"),
        pytest.param(TEXT.encode("utf-16-be"), id="UTF-16 BE without"),
        pytest.param(TEXT.encode("utf-32"), id="UTF-32"),
        pytest.param(gzip.compress(document()), id="gzip"),
        pytest.param(gzip.compress(b"\xef\xbb\xbf" + document()), id="gzip with byte order mark"),
        pytest.param(zipped(**{"result.json": TEXT}), id="ZIP"),
    ],
)
def test_every_packing_of_the_same_document(body: bytes) -> None:
    assert read(body) == PLAIN


def test_older_names() -> None:
    body = json.dumps({"name": "a.ps1", "exit_code": 0, "script_output": "out", "script_error": "err"}).encode()
    assert read(body) == PLAIN


def test_zip_of_streams() -> None:
    result = read(zipped(stdout="out", stderr_1="err"))
    assert (result.script_output, result.script_errors, result.readable) == ("out", "err", True)


def test_zip_of_several_parts_loses_none() -> None:
    assert read(zipped(stdout="one ", stdout_2="two")).script_output == "one two"


@pytest.mark.parametrize("flip", range(4, 60, 3))
def test_a_damaged_zip_is_unreadable_whatever_is_wrong_with_it(flip: int) -> None:
    """`zipfile` raises NotImplementedError, ValueError, OSError and more for those."""
    body = bytearray(zipped(**{"result.json": TEXT}))
    body[-flip] ^= 0xFF
    assert isinstance(read(bytes(body)), ScriptResult)


@given(st.binary(max_size=200))
def test_any_bytes_behind_a_magic_number(tail: bytes) -> None:
    for magic in (b"PK\x03\x04", b"\x1f\x8b\x08"):
        assert isinstance(read(magic + tail), ScriptResult)


def test_a_long_first_line_without_a_header_takes_no_time() -> None:
    """A pattern that goes back and forth over it would take minutes, and hold up the signals."""
    line = "C:\\Program Files\\" * 100_000
    assert read(document(script_output=line), max_output_bytes=10**7).script_output == line


def test_a_name_has_a_bound() -> None:
    assert len(read(document(script_name="x" * 100_000), max_output_bytes=10**6).script_name or "") == 4096


def test_raw_line_feeds_and_nuls_as_in_microsofts_own_example() -> None:
    body = (
        b'{"script_name": "minidump.ps1", "exit_code": 0, "script_output": "Transcript started, output file is '
        + json.dumps(TRANSCRIPT)[1:-1].encode()
        + b'\nC:\\\\windows\\\\TEMP\\\\Office.dmp.zip\\n51 MB\\n\\u0000\\u0000\\u0000", "script_errors":""}'
    )
    result = read(body)
    assert result.script_output == "C:\\windows\\TEMP\\Office.dmp.zip\n51 MB\n"
    assert result.script_errors is None
    assert result.transcript_path == TRANSCRIPT


@pytest.mark.parametrize(
    ("printed", "output", "path"),
    [
        (f"Transcript started, output file is {TRANSCRIPT}\r\nHello\r\n", "Hello\r\n", TRANSCRIPT),
        (f"Die Aufzeichnung wurde gestartet. Ausgabedatei: {TRANSCRIPT}\nHallo", "Hallo", TRANSCRIPT),
        (f"Transcript started, output file is {TRANSCRIPT}", None, TRANSCRIPT),
        (f"Transcript started, output file is {TRANSCRIPT}\n", None, TRANSCRIPT),
        # Only the first line, and only with that file name.
        (f"first\nTranscript started, output file is {TRANSCRIPT}\n", None, None),
        ("Transcript started, output file is C:\\mine.txt\nHello", None, None),
        ("no header\nat all", None, None),
    ],
)
def test_transcript_header(printed: str, output: str | None, path: str | None) -> None:
    result = read(document(script_output=printed))
    assert result.transcript_path == path
    assert result.script_output == (output if path else printed)


@pytest.mark.parametrize(
    ("sent", "code", "problem"),
    [
        (0, 0, False),
        (-1, -1, False),
        (3221225477, 3221225477, False),
        ("4", 4, False),
        (4.0, 4, False),
        (None, None, False),
        ("", None, False),
        (2**63, None, True),
        (-(2**63), -(2**63), False),
        (1e300, None, True),
        ("four", None, True),
        ([], None, True),
        (1.5, None, True),
    ],
)
def test_exit_code(sent: object, code: int | None, problem: bool) -> None:
    result = read(document(exit_code=sent))
    assert (result.exit_code, result.error is not None, result.readable) == (code, problem, True)


@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        (b"plain text, no JSON", "plain text, no JSON", "not JSON"),
        (b"", None, "empty"),
        (b"\x00\x00", None, "empty"),
        (b"[1, 2]", "[1, 2]", "not the document"),
        (b'"text"', '"text"', "not the document"),
        (b'{"other": 1}', '{"other": 1}', "not the document"),
        (b'{"succeeded": true, "errors": []}', '{"succeeded": true, "errors": []}', "not the document"),
        (b"\xff\xfenot", "\u6f6e\ufffd", "not JSON"),
        (b"[" * 100_000, None, "nested too deeply"),
        (gzip.compress(document(), mtime=0)[:-12], "{", "gzip"),
        (b"\x1f\x8bnonsense", None, "gzip"),
        (b"PK\x03\x04nonsense", "PK\x03\x04nonsense", "ZIP"),
        (b"caf\xe9", "caf\ufffd", "not JSON"),
    ],
)
def test_what_is_no_document_keeps_its_text_and_says_why(body: bytes, text: str | None, reason: str) -> None:
    result = read(body)
    assert not result.readable
    assert reason in (result.error or "")
    assert result.script_output is None if text is None and body[:1] != b"[" else True
    if text:
        assert (result.script_output or "").startswith(text)


def test_long_texts_are_cut_between_characters_and_flagged() -> None:
    result = read(document(script_output="é" * 600, script_errors="e" * 1001), max_output_bytes=1001)
    assert result.script_output == "é" * 500
    assert result.script_output_truncated
    assert result.script_errors == "e" * 1001
    assert not result.script_errors_truncated


HUGE = "line of output\\n \\u00e9 \\ud83d\\ude00 " * 3000


@pytest.mark.parametrize("kept", [*range(2990, 3010), 4000])
def test_a_document_of_which_only_the_beginning_was_kept(kept: int) -> None:
    body = f'{{"script_name":"a.ps1","exit_code":7,"script_output":"{HUGE}","script_errors":""}}'.encode()[:kept]
    result = read(body, complete=False)
    assert (result.readable, result.script_name, result.exit_code) == (True, "a.ps1", 7)
    assert result.script_output is not None
    assert json.loads(f'"{HUGE}"').startswith(result.script_output.rstrip("\ufffd"))
    assert result.script_output_truncated
    assert result.script_errors_truncated
    assert "too large" in (result.error or "")


@pytest.mark.parametrize("kept", [*range(70, 110)])
def test_a_document_cut_anywhere_is_read_or_kept_as_text(kept: int) -> None:
    body = (
        b'{"script_output":"some text \\\\ and \\u00e9","script_errors":"x","exit_code":1,"script_name":"a name.ps1"}'
    )
    result = read(body[:kept], complete=False)
    assert result.script_output is not None


def test_a_gzip_bomb_is_read_no_further_than_needed() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(b'{"script_name":"a.ps1","script_output":"')
    block = b"\x41" * 1_000_000
    for _ in range(100):
        bomb += packer.compress(block)
    bomb += packer.compress(b'"}') + packer.flush()
    tracemalloc.start()
    try:
        result = read(bomb, max_output_bytes=1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000  # of 100 MB
    assert result.readable
    assert result.script_output == "A" * 1000
    assert result.script_output_truncated


def test_a_plain_body_longer_than_needed_is_cut() -> None:
    body = document(script_output="x" * (bytes_needed(1000) + 5000))
    result = read(body, max_output_bytes=1000)
    assert (result.script_output, result.script_output_truncated) == ("x" * 1000, True)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_become_a_result_that_any_target_can_load(body: bytes, complete: bool) -> None:
    result = read(body, complete=complete, max_output_bytes=50)
    for text in (result.script_output, result.script_errors, result.script_name, result.error, result.transcript_path):
        assert text is None or (text.encode().decode() == text and "\x00" not in text)
    assert len((result.script_output or "").encode()) <= 50


@given(
    st.dictionaries(
        st.sampled_from(["script_name", "exit_code", "script_output", "script_errors", "name", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_document_becomes_a_result(values: dict[str, Any]) -> None:
    result = read(json.dumps(values).encode())
    assert result.exit_code is None or -(2**63) <= result.exit_code < 2**63
