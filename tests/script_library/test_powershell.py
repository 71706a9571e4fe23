"""The PowerShell scripts, which are read: plain, harmless, and with the columns of their page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.library_pages import BY_STREAM, every_page

if TYPE_CHECKING:
    from tests.library_pages import Page


def without_strings_and_comments(script: str) -> str:
    return re.sub(r"""'(?:[^']|'')*'|"(?:[^"`]|`.)*"|#[^\n]*""", "", script)


@every_page
def test_a_powershell_script_is_plain_and_only_reads(page: Page) -> None:
    script = page.powershell.read_text(encoding="ascii")
    for line in (
        "try { [Console]::OutputEncoding = [System.Text.Encoding]::UTF8 } catch { }",
        "$ProgressPreference = 'SilentlyContinue'",
        "$ErrorActionPreference = 'Stop'",
    ):
        assert f"\n{line}\n" in script
    for word in ("Win32_Product", "Invoke-WebRequest", "Invoke-Expression", "iex", "DownloadString", "Import-Module"):
        assert word.casefold() not in re.findall(r"[\w-]+", script.casefold())
    assert not re.search(r"\b(Set|New|Remove|Add|Start|Stop|Enable|Disable|Write|Out)-(?!Object\b)\w+", script)
    assert script.count("ConvertTo-Json -Depth 4 -Compress -InputObject ([ordered]@{") == script.count("ConvertTo") == 1
    bare = without_strings_and_comments(script)
    assert "'" not in bare
    assert '"' not in bare
    for opening, closing in ("{}", "()", "[]"):
        assert bare.count(opening) == bare.count(closing)
    # Newer than Windows PowerShell 5.1.
    assert not re.search(r"\?\?|\?\.|&&|\|\|| \? ", bare)


@every_page
def test_a_powershell_script_prints_the_columns_of_the_schema(page: Page) -> None:
    script = page.powershell.read_text(encoding="ascii")
    (row,) = re.findall(r"^( *)\[pscustomobject\]@\{\n(.*?)^\1\}$", script, re.MULTILINE | re.DOTALL)
    assert re.findall(rf"^{row[0]}    (\w+) = \S", row[1], re.MULTILINE) == list(page.columns)
    (document,) = re.findall(r"\(\[ordered\]@\{\n(.*?)^\}\)$", script, re.MULTILINE | re.DOTALL)
    keys = ", ".join(page.keys)
    assert [line.strip() for line in document.splitlines()] == [
        "succeeded = ($problems.Count -eq 0)",
        "errors = @($problems)",
        f"{page.records} = @($rows | Sort-Object -Property {keys})",
    ]
    # Each key once, character by character: Sort-Object -Unique takes what differs in a soft hyphen for the same.
    assert "'System.Collections.Generic.HashSet[string]' -ArgumentList ([StringComparer]::Ordinal)" in script
    added = re.findall(r"Where-Object \{ \$seen\.Add\((.+)\) \}", script)
    assert re.findall(r"\$_\.(\w+)", added[0]) == page.keys


@pytest.mark.parametrize("stream", ["bitlocker_volumes", "scheduled_tasks"])
def test_one_odd_item_does_not_hide_the_others(stream: str) -> None:
    script = BY_STREAM[stream].powershell.read_text(encoding="ascii")
    assert "-ErrorAction Stop" not in script
    asked = script.count("-ErrorAction SilentlyContinue -ErrorVariable failed")
    assert asked == script.count("foreach ($failure in $failed) {") == script.count("$failed = @()") > 0


def test_no_script_prints_a_recovery_password() -> None:
    script = BY_STREAM["bitlocker_volumes"].powershell.read_text(encoding="ascii")
    assert set(re.findall(r"\$_\.\w+", script)) == {"$_.KeyProtectorType", "$_.Exception", "$_.mount_point"}
    assert len(re.findall(r"\.KeyProtector\b", script)) == 1
