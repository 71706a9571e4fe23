"""The shell scripts: plain, harmless, and in every shell and on macOS they print what their page says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.library_pages import BY_STREAM, PAGES
from tests.script_library.shells import every_shell, needs_unix, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.library_pages import Page

UNIX = [page for page in PAGES if page.shell]
Rows = list[dict[str, Any]]


@pytest.mark.parametrize("page", UNIX, ids=lambda page: page.stream)
def test_a_shell_script_is_plain_and_only_reads(page: Page) -> None:
    assert page.shell
    script = page.shell.read_text(encoding="ascii")
    assert script.startswith("#!/bin/sh\n# Prints one JSON document on one line")
    assert "\nLC_ALL=C\nexport LC_ALL\n" in script
    assert "\r" not in script
    assert max(map(len, script.splitlines())) <= 120
    code = re.sub(r"'[^']*'", "", re.sub(r"(?m)^\s*#.*$", "", script))
    assert not re.search(
        r"\b(curl|wget|eval|python\d?|jq|perl|rm|mv|cp|mktemp|tee|declare)\b|\[\[(?!:)|<\(|^\s*local ", code
    )
    assert set(re.findall(r">+ *(\S+?)[;\s)]", code.replace("2>&1", ""))) <= {"/dev/null"}


@needs_unix
@every_shell
@pytest.mark.parametrize("page", UNIX, ids=lambda page: page.stream)
def test_a_shell_script_prints_what_its_page_says(page: Page, shell: list[str]) -> None:
    page.check(run(page, shell))


DSCL = r"""
case "$*" in
    '. -list /Users UniqueID') printf 'root     0\n_www     70\nalice   501\ntoor 0\n' ;;
    '. -list /Users PrimaryGroupID') printf 'root     0\n_www     70\nalice   20\n' ;;
    '. -list /Users UserShell') printf 'root     /bin/sh\n_www     /usr/bin/false\nalice   /bin/zsh\n' ;;
    *Groups/wheel*) printf 'PrimaryGroupID: 0\nGroupMembership: root\n' ;;
    *Groups/admin*) printf 'GroupMembership: root alice\nPrimaryGroupID: 80\n' ;;
esac"""
LSOF = r"printf 'p501\nf3\ntIPv4\nPTCP\nn*:5000\nf4\ntIPv6\nPTCP\nn[::1]:631\nf5\ntIPv4\nPUDP\nn*:*\n'"
LSOF += r"; printf 'f6\ntIPv6\nPUDP\nn*:5353\nf7\ntIPv4\nPUDP\nn10.0.0.5:9->10.0.0.6:9\n'"
MACOS: dict[str, tuple[dict[str, str], Rows]] = {
    "installed_software": ({}, []),
    "scheduled_tasks": ({}, []),
    "local_administrators": (
        {"dscl": DSCL},
        [
            {"account_id": "0", "name": "root", "enabled": True, "granted_by": "uid 0, wheel, admin"},
            {"account_id": "0/toor", "name": "toor", "enabled": True, "granted_by": "uid 0"},
            {"account_id": "501", "name": "alice", "enabled": True, "granted_by": "admin"},
        ],
    ),
    "listening_ports": (
        {"lsof": LSOF, "ps": "echo '  501 /System/Library/My App/Control Center'"},
        [
            {"protocol": "tcp", "local_address": "0.0.0.0", "local_port": 5000, "process_name": "Control Center"},
            {"protocol": "tcp", "local_address": "::1", "local_port": 631, "process_id": 501},
            {"protocol": "udp", "local_address": "::", "local_port": 5353, "service": None},
        ],
    ),
}


@needs_unix
@pytest.mark.parametrize("stream", MACOS)
def test_on_macos(stream: str, stand_ins: Callable[..., str]) -> None:
    programs, expected = MACOS[stream]
    page = BY_STREAM[stream]
    rows = page.check(run(page, path=stand_ins(uname="echo Darwin", **programs)))
    if expected:
        assert [{name: row[name] for name in some} for row, some in zip(rows, expected, strict=True)] == expected


@needs_unix
def test_on_macos_the_processes_of_others_need_root(stand_ins: Callable[..., str]) -> None:
    # A line feed in the name of a program invents no port.
    programs = {"uname": "echo Darwin", "id": "echo 501", "lsof": LSOF}
    programs["ps"] = r"printf '  501 /x\np1\ntIPv4\nPTCP\nn*:666\n'"
    page = BY_STREAM["listening_ports"]
    text = run(page, path=stand_ins(**programs))
    assert json.loads(text)["errors"] == ["Processes of other users could not be seen: run as root."]
    assert {row["local_port"] for row in page.check(text)} == {5000, 631, 5353}
