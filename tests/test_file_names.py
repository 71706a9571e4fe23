from __future__ import annotations

import gzip
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_defender_lr.file_names import last_part, name_in_gzip, name_in_headers, safe_name
from tap_defender_lr.machine_action import from_api


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("C:\\Windows\\System32\\winevt\\Logs\\Security.evtx", "Security.evtx"),
        ("/var/log/auth.log", "auth.log"),
        ("..\\..\\x", "x"),
        ("../../../etc/passwd", "passwd"),
        ("\\\\server\\share\\a b.txt", "a b.txt"),
        ("C:x.txt", "C:x.txt"),
        ("C:\\x.txt:hidden", "x.txt:hidden"),
        ("a\x00b\x00.exe", "ab.exe"),
        ("..", ".."),
        ("C:\\folder\\", None),
        ("", None),
        ("x" * 10_000, "x" * 4096),
    ],
)
def test_the_name_is_the_last_part_of_the_path(path: str, name: str | None) -> None:
    assert last_part(path) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Security.evtx", "Security.evtx"),
        ("Microsoft-Windows-PowerShell%4Operational.evtx", "Microsoft-Windows-PowerShell_4Operational.evtx"),
        ("a b (1).txt", "a_b_1_.txt"),
        ("Büro Übersicht.docx", "Buro_Ubersicht.docx"),
        ("報告書.docx", "_.docx"),
        ("..", "file"),
        (".", "file"),
        ("", "file"),
        ("...hidden", "hidden"),
        (".bashrc", "bashrc"),
        ("-rf", "rf"),
        ("name. . .", "name._._"),
        ("name...", "name"),
        ("../../x", "_.._x"),
        ("C:\\x", "C_x"),
        ("x.txt:hidden:$DATA", "x.txt_hidden_DATA"),
        ("a\r\nb\x1b[31m\u202egpj.exe", "a_b_31m_gpj.exe"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("NUL.tar.gz", "_NUL.tar.gz"),
        ("com7.log", "_com7.log"),
        ("LPT1", "_LPT1"),
        ("console.log", "console.log"),
        ("COM10", "COM10"),
        ("x" * 4000 + ".evtx", "x" * 115 + ".evtx"),
        ("x" * 4000, "x" * 120),
        ("x." + "y" * 4000, "x." + "y" * 118),
        ("\ufdfa" * 4000, None),
    ],
)
def test_the_safe_name_resembles_it(name: str, safe: str | None) -> None:
    assert safe_name(name) == safe or safe is None
    assert len(safe_name(name)) <= 121


@given(st.text(max_size=300))
def test_a_safe_name_is_harmless_whatever_it_is_made_of(name: str) -> None:
    safe = safe_name(name)
    assert re.fullmatch("[A-Za-z0-9_][A-Za-z0-9._-]{0,120}", safe)
    assert not safe.endswith(".")
    assert not re.match(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)", safe)
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("attachment; filename=Security.evtx.gz", "Security.evtx"),
        ('attachment; filename="a b.txt.gz"', "a b.txt"),
        ("attachment; filename=a%20b%2Ftxt.gz", "txt"),
        ("attachment; filename=..%5C..%5Cx.exe.gz", "x.exe"),
        ("attachment; filename*=UTF-8''B%C3%BCro.txt", "Büro.txt"),
        ("attachment;filename=output_0000000a-1111-4222-8333-00000000000a_0.json", None),
        ("attachment; filename=.gz", None),
        ("attachment; filename=", None),
        ("attachment", None),
        ('\xff\xfe;;;filename==;"', "="),
        ("attachment; filename*=nonsense'x'%ff%00%e4", "ÿä"),
        ("attachment; filename*=a; filename*1=b", None),
        ("attachment; filename*0=a; filename*=b", None),
        (f"attachment; filename*{'9' * 5000}=x", None),
        ("attachment; filename*=\x00''x", None),
        ("", None),
    ],
)
def test_the_name_in_a_header(disposition: str, name: str | None) -> None:
    assert name_in_headers({"Content-Disposition": disposition}) == name


@given(st.text(max_size=60))
def test_no_header_is_too_odd(rest: str) -> None:
    for start in ("attachment; filename=", "attachment; filename*=", "filename*0*=utf-8''"):
        name_in_headers({"Content-Disposition": start + rest})


def packed(name: str) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(filename=name, mode="wb", fileobj=buffer, mtime=0) as archive:
        archive.write(b"content")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (packed("Security.evtx"), "Security.evtx"),
        (packed("Büro.txt"), "Büro.txt"),
        (b"\x1f\x8b\x08\x08" + bytes(6) + b"..\\..\\evil.exe\0rest", "evil.exe"),
        (b"\x1f\x8b\x08\x08" + bytes(6) + b"without an end", None),
        (b"\x1f\x8b\x08\x08" + bytes(6) + b"\0", None),
        (b"\x1f\x8b\x08\x0c" + bytes(6) + b"\x03\x00abcname.txt\0", "name.txt"),
        (gzip.compress(b"content", mtime=0), None),
        (b"\x1f\x8b\x08\x08", None),
        (b"", None),
    ],
)
def test_the_name_in_a_gzip_header(head: bytes, name: str | None) -> None:
    assert name_in_gzip(head) == name


@given(st.binary(max_size=60))
def test_no_gzip_header_is_too_odd(rest: bytes) -> None:
    name_in_gzip(b"\x1f\x8b\x08" + rest)


@pytest.mark.parametrize(
    ("command_type", "params", "name"),
    [
        ("GetFile", [{"key": "Path", "value": "C:\\x\\y.log"}], "y.log"),
        ("GetFile", [{"key": "Path", "value": None}], None),
        ("GetFile", [], None),
        ("RunScript", [{"key": "Path", "value": "C:\\x\\y.log"}], None),
    ],
)
def test_the_name_of_a_command(command_type: str, params: list[dict[str, str | None]], name: str | None) -> None:
    action = from_api({"id": "1", "commands": [{"index": 0, "command": {"type": command_type, "params": params}}]})
    assert action is not None
    assert action.commands[0].file_name == name
