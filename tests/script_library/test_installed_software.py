"""Installed software on Linux: packages of dpkg and of rpm, whatever they are called."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.library_pages import BY_STREAM
from tests.script_library.shells import every_shell, needs_unix, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def with_database_of_rpm(folder: Path) -> Path:
    """The script, which finds a database of rpm in a folder."""
    page = BY_STREAM["installed_software"]
    assert page.shell
    file = folder / page.shell.name
    file.write_text(page.shell.read_text(encoding="ascii").replace("/var/lib/rpm", str(folder)), encoding="ascii")
    return file


@needs_unix
@every_shell
def test_hostile_names_stay_valid_json(shell: list[str], stand_ins: Callable[..., str], tmp_path: Path) -> None:
    lines = [
        r"install ok installed\tquo\042te\t1\\2\tM\374ller & S\303\266hne <\047>\t12",
        r"install ok installed\t\t\t\t",
        r"install ok installed\ttwice\t1\ta\t1",
        r"install ok installed\ttwice\t1\tb\t2",
        r"install ok installed\ttabs\tin\tit\tx\ty",
        r"install ok installed\tcontrol\001\033\177\t1\t\355\240\200 \360\237\230\200 \300\257 \343\201\t-5",
        r"deinstall ok config-files\tgone\t1\t\t",
        r"hold ok installed\tkept\t1\t\t0007",
    ]
    path = stand_ins(dpkg_query="\n".join(f"printf '{line}\\n'" for line in lines) + "\nexit 2", rpm="exit 1")
    page = BY_STREAM["installed_software"]
    text = run(page, shell, path=path, script=with_database_of_rpm(tmp_path))
    rows = {row["name"]: row for row in page.check(text) if row["source"] == "dpkg"}
    assert json.loads(text)["errors"] == [
        "dpkg-query failed: its packages may be missing.",
        "rpm failed: its packages may be missing.",
    ]
    assert list(rows) == ["unknown", "control\1\x1b\x7f", "kept", 'quo"te', "tabs", "twice"]
    assert (rows['quo"te']["version"], rows['quo"te']["publisher"]) == ("1\\2", "M\ufffdller & S\u00f6hne <'>")
    assert rows['quo"te']["size_kb"] == 12
    assert rows["unknown"]["version"] == "unknown"
    assert rows["twice"]["publisher"] == "a"
    control = rows["control\1\x1b\x7f"]
    assert control["publisher"] == "\ufffd\ufffd\ufffd \U0001f600 \ufffd\ufffd \ufffd\ufffd"
    assert (control["size_kb"], rows["kept"]["size_kb"]) == (None, 7)


@needs_unix
def test_packages_of_rpm(stand_ins: Callable[..., str], tmp_path: Path) -> None:
    lines = (r"bash\t5.1.8-6.el9\tRed Hat, Inc.\t951782400\t7738634\n", r"gpg-pubkey\t1-2\t(none)\t1735689599\t0\n")
    page = BY_STREAM["installed_software"]
    path = stand_ins(rpm=f"printf '{''.join(lines)}'")
    rows = page.check(run(page, path=path, script=with_database_of_rpm(tmp_path)))
    assert [list(row.values()) for row in rows if row["source"] == "rpm"] == [
        ["bash", "5.1.8-6.el9", "rpm", "Red Hat, Inc.", "2000-02-29", 7557],
        ["gpg-pubkey", "1-2", "rpm", None, "2024-12-31", 0],
    ]


@needs_unix
@pytest.mark.skipif(any(map(os.path.isdir, ("/var/lib/rpm", "/usr/lib/sysimage/rpm"))), reason="has packages of rpm")
def test_rpm_is_not_asked_without_its_database(stand_ins: Callable[..., str]) -> None:
    page = BY_STREAM["installed_software"]
    assert json.loads(run(page, path=stand_ins(dpkg_query="", rpm="exit 1")))["errors"] == []


@needs_unix
def test_a_device_without_a_package_manager(tmp_path: Path) -> None:
    for name in ("awk", "sort", "uname"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    page = BY_STREAM["installed_software"]
    shell = shutil.which("sh")
    assert shell
    text = run(page, [shell], path=str(tmp_path))
    if not json.loads(text)["software"]:  # the database of apk is found without its program
        assert text == '{"succeeded":false,"errors":["Neither dpkg nor rpm nor apk was found."],"software":[]}\n'
