"""The scripts in `docs/scripts`: the shell scripts are run, the PowerShell scripts read, both held against their page.

And against the simulated fleet, which prints what they print.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import powershell
from defender_simulator.documents import shell_json
from defender_simulator.fleet import DIRT, dirt_id, make_tenant, next_day
from defender_simulator.scheduled_tasks import _checksum
from tests.conftest import NOON
from tests.library_pages import BY_STREAM, LIBRARY, PAGES, Page, fits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNIX = [page for page in PAGES if page.shell]
SHELLS = [
    shell
    for shell in (["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"], ["ksh"], ["zsh", "--emulate", "sh"])
    if shutil.which(shell[0])
]
needs_unix = pytest.mark.skipif(sys.platform == "win32", reason="runs shell scripts")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stream)
every_shell = pytest.mark.parametrize("shell", SHELLS, ids=" ".join)

Rows = list[dict[str, Any]]


def run(page: Page, shell: list[str] = SHELLS[0], *, path: str | None = None, script: Path | None = None) -> str:
    """What the script prints: one line, nothing on standard error, and within seconds."""
    assert page.shell
    environment = {"PATH": path or os.environ["PATH"], "LANG": "C.UTF-8", "TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [*shell, str(script or page.shell)], env=environment, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("utf-8")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text


@pytest.fixture
def stand_ins(tmp_path: Path) -> Callable[..., str]:
    """Programs that are found first, each a shell script; gives the path to search."""

    def make(**programs: str) -> str:
        for name, body in programs.items():
            file = tmp_path / name.replace("_", "-")
            file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            file.chmod(0o755)
        return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    return make


# --- the pages ------------------------------------------------------------------------------------------------------


def test_every_folder_has_a_page_and_every_page_a_line_in_the_index() -> None:
    assert [page.folder for page in PAGES] == sorted(folder for folder in LIBRARY.iterdir() if folder.is_dir())
    index = (LIBRARY / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[([\w-]+)\]\(([\w-]+)/README.md\) \| `(\w+)` \|", index, re.MULTILINE)
    assert sorted(listed) == sorted((page.powershell.stem, page.folder.name, page.stream) for page in PAGES)


@every_page
def test_an_entry_names_the_scripts_of_its_folder(page: Page) -> None:
    assert page.stream == page.folder.name.replace("-", "_")
    files = sorted(file.name for file in page.folder.iterdir() if file.name != "README.md")
    assert len({file.rpartition(".")[0] for file in files}) == 1
    ending = ".*" if page.shell else ".ps1"
    assert page.entry["script_name"] == files[0].rpartition(".")[0] + ending
    assert page.entry["success_field"] == "$.succeeded"
    assert page.entry["key_properties"][0] == "machine_id"
    assert set(page.keys) <= set(page.columns)
    assert list(page.columns)[: len(page.keys)] == page.keys


@every_page
def test_the_table_and_the_sample_agree_with_the_schema(page: Page) -> None:
    types = {name: column.get("format", column["type"]) for name, column in page.columns.items()}
    assert page.table == types
    assert len(page.check(page.sample)) == 2


@every_page
def test_a_page_has_a_view_and_three_questions(page: Page) -> None:
    assert page.view.startswith(f"create or replace view current_{page.stream} as\n")
    assert f"partition by s.machine_id, {', '.join(f's.{key}' for key in page.keys)}  -- the key" in page.view
    assert f"where stream_name = '{page.stream}' and complete and coalesce(succeeded, true)" in page.view
    assert "group by machine_id, lower(script_name)" in page.view
    assert "n.script = lower(s.script_name)" in page.view
    assert len(page.questions) == 3
    assert [page.view, *page.questions.values()] == page.blocks("sql")
    for query in page.questions.values():
        assert f"current_{page.stream}" in query
        assert query.count(";") == 1
        assert query.endswith(";\n")


def test_the_index_shows_a_view_of_a_page() -> None:
    assert f"```text\n{BY_STREAM['installed_software'].view}```" in (LIBRARY / "README.md").read_text(encoding="utf-8")


# --- PowerShell -----------------------------------------------------------------------------------------------------


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


# --- shell ----------------------------------------------------------------------------------------------------------


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


@needs_unix
@every_shell
def test_administrators_from_a_directory_service(shell: list[str], stand_ins: Callable[..., str]) -> None:
    getent = r"""
case "$1 $2" in
    "group sudo") printf 'sudo:x:27:alice,ghost,CONTOSO\\d.m\303\274ller\nwheel:x:64999:\n'; exit 2 ;;
    "passwd alice") echo 'alice:x:5000:5000::/home/alice:/usr/sbin/nologin' ;;
    'passwd CONTOSO\d.müller') printf 'CONTOSO\\d.m\303\274ller:*:70001:64999::/home/d:/bin/zsh\n' ;;
    *) exit 2 ;;
esac"""
    page = BY_STREAM["local_administrators"]
    rows = {
        row["account_id"]: list(row.values())[1:] for row in page.check(run(page, shell, path=stand_ins(getent=getent)))
    }
    assert rows["0"][:4] == ["root", "User", "local", True]
    assert rows["5000"] == ["alice", "User", "domain", False, "sudo"]
    assert rows["70001"] == ["CONTOSO\\d.müller", "User", "domain", True, "sudo, wheel"]
    assert rows["unknown/ghost"] == ["ghost", "User", "unknown", None, "sudo"]


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


SYSTEMCTL = r"""
timer() { printf '%s\n' "Id=$1.timer" "Unit=$1.service" "ActiveState=$2" "$3" "$4" "$5" ''; }
case "$*" in
    list-units*) printf 'apt-daily.timer loaded active waiting Daily\nfoo@1.timer loaded inactive dead Foo\n' ;;
    *'-p Unit '*'apt-daily.timer foo@1.timer')
        timer apt-daily active 'LastTriggerUSec=Mon 2024-09-30 06:12:11 UTC' \
            'TimersCalendar={ OnCalendar=*-*-* 06,18:00:00 ; next_elapse=Mon 2024-09-30 18:00:00 UTC }' \
            'TimersMonotonic={ OnBootUSec=15min ; next_elapse=1d }'
        timer foo@1 inactive 'LastTriggerUSec=n/a' 'NextElapseUSecRealtime=' ;;
    *'apt-daily.service foo@1.service')
        echo 'ExecStart={ path=/x ; argv[]=/x update "a;b" ; ignore_errors=no ; start_time=[n/a] ; pid=0 }'
        printf '%s\n' User= ExecMainStatus=3 Id=apt-daily.service '' User=www-data ExecMainStatus=0 Id=foo@1.service ;;
    *) echo "asked for $*" >&2 ;;
esac"""


@needs_unix
@every_shell
def test_timers_of_systemd(shell: list[str], stand_ins: Callable[..., str]) -> None:
    page = BY_STREAM["scheduled_tasks"]
    rows = page.check(run(page, shell, path=stand_ins(systemctl=SYSTEMCTL)))
    first, second = [list(row.values())[3:] for row in rows if row["source"] == "systemd"]
    schedule = "OnCalendar=*-*-* 06,18:00:00, OnBootUSec=15min"
    assert first == [True, "root", schedule, '/x update "a;b"', "2024-09-30T06:12:11Z", None, 3]
    assert second == [False, "www-data", None, None, None, None, None]


@needs_unix
@every_shell
def test_lines_of_crontabs(shell: list[str], tmp_path: Path) -> None:
    file = tmp_path / "tab"
    file.write_text(
        'SHELL=/bin/sh\n"A B"=x\n# a note\n'
        "MAILTO = root\n\n17 *\t* * *\troot    cd / && run-parts --report /etc/cron.hourly\n"
        '@reboot root /x  --a=b\n*/5 1-3,4 * * 1 www-data curl "ü" | sh\n',
        encoding="utf-8",
    )
    script = BY_STREAM["scheduled_tasks"].shell
    assert script
    (function,) = re.findall(r"^from_crontab\(\) \{\n.*?^\}\n", script.read_text(), re.MULTILINE | re.DOTALL)
    command = [*shell, "-c", f'{function}from_crontab "$1" "$2"', "sh", str(file)]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}

    def fields(user: str) -> list[list[str]]:
        done = subprocess.run([*command, user], env=environment, capture_output=True, encoding="utf-8", check=True)
        return [line.split("\t") for line in done.stdout.splitlines()]

    lines = [
        ("17 * * * *", "root", "cd / && run-parts --report /etc/cron.hourly"),
        ("@reboot", "root", "/x --a=b"),
        ("*/5 1-3,4 * * 1", "www-data", 'curl "ü" | sh'),
    ]
    assert fields("") == [
        ["R", f"{file}#{_checksum(' '.join(line)):08x}", "tab", "cron", "true", line[1], line[0], line[2], "", "", ""]
        for line in lines
    ]
    assert [row[5:8] for row in fields("m\\te")] == [["m\\te", line[0], f"{line[1]} {line[2]}"] for line in lines]


HARMLESS = [
    "/x -p 80:80 --quiet",
    "/x --password-file /y",
    "a/token b",
    "https://host:80/x",
    "C:\\x.exe /p:1",
    "design x",
]
SECRET = {
    "/x --password s3cret -v": "/x --password *** -v",
    "/x -Password:s3cret": "/x -Password:***",
    "/x /PASSWORD:s3cret b": "/x /PASSWORD:*** b",
    "PGPASSWORD='s3 cret' /x": "PGPASSWORD=*** /x",
    'x "pwd = s3cret" y': 'x "pwd = ***" y',
    "x --api-token s3cret": "x --api-token ***",
    "x https://h/?sig=s3cret&b=1": "x https://h/?sig=***&b=1",
    "x https://me:s3@cret@host/p https://me:s3cret@b": "x https://me:***@host/p https://me:***@b",
    "schtasks /create /ru me /rp s3cret /f": "schtasks /create /ru me /rp *** /f",
    'x secret="s3 cret" token=s3cret': "x secret=*** token=***",
}


def function_of(page: Page, name: str) -> str:
    assert page.shell
    (function,) = re.findall(rf"^{name}\(\) \{{\n.*?^\}}\n", page.shell.read_text(), re.MULTILINE | re.DOTALL)
    return str(function)


@needs_unix
@every_shell
def test_secrets_in_command_lines_are_masked(shell: list[str], stand_ins: Callable[..., str]) -> None:
    page = BY_STREAM["scheduled_tasks"]
    commands = [*HARMLESS, *SECRET]
    long_line = "/x " + '"' * 300_000
    units = "".join(
        f"Id={i}.service\nExecStart={{ path=/x ; argv[]={c} ; ignore_errors=no ; pid=0 }}\n\n"
        for i, c in enumerate([*commands, long_line])
    )
    timers = "".join(f"Id={i}.timer\nUnit={i}.service\n\n" for i in range(len(commands) + 1))
    body = f"""case "$*" in
    list-units*) echo 0.timer ;;
    *'-p Unit '*) cat <<'END'
{timers}
END
;;
    *) cat <<'END'
{units}
END
esac"""
    rows = page.check(run(page, shell, path=stand_ins(systemctl=body)))
    found = {row["task_id"]: row["command"] for row in rows}
    assert [found[f"{i}.timer"] for i in range(len(commands))] == [*HARMLESS, *SECRET.values()]
    assert found[f"{len(commands)}.timer"] == long_line[:4000] + "..."


@needs_unix
def test_secrets_are_masked_alike_in_powershell() -> None:
    """Its regular expressions, run by another engine with the same rules for these."""
    script = BY_STREAM["scheduled_tasks"].powershell.read_text(encoding="ascii")
    (body,) = re.findall(r"^function Get-Masked\(\$Text\) \{\n(.*?)^\}$", script, re.MULTILINE | re.DOTALL)
    names = re.findall(r"\$names = '(.*)'", body)[0]
    value = re.findall(r"\$value = '(.*)'", body)[0].replace("''", "'")
    steps = re.findall(r"""-replace (?:'(.*?)'|"((?:`.|[^"`])*)"), '(.*?)'""", body)
    assert len(steps) == 5

    def masked(text: str) -> str:
        for single, double, to in steps:
            pattern = single or re.sub("`(.)", r"\1", double.replace("$names", names).replace("$value", value))
            text = re.sub(pattern, to.replace("$1", r"\1"), text, flags=re.IGNORECASE)
        return text

    assert [masked(command) for command in (*HARMLESS, *SECRET)] == [*HARMLESS, *SECRET.values()]


@needs_unix
@every_shell
def test_odd_timers_of_systemd(shell: list[str], stand_ins: Callable[..., str]) -> None:
    body = """case "$*" in
    list-units*) echo a.timer; echo b.timer ;;
    *'-p Unit '*) printf '%s\\n' Id=a.timer Unit=a.service '' Id=b.timer LoadState=not-found ;;
    *) printf '%s\\n' Id=a.service 'ExecStart={ argv[]=/x argv[]=a ; ignore_errors=no b ; ignore_errors=no ; }'
       echo 'ExecStart={ path=/y ; argv[]=/y ; ignore_errors=no ; pid=0 }' ;;
esac"""
    page = BY_STREAM["scheduled_tasks"]
    rows = {r["task_id"]: r for r in page.check(run(page, shell, path=stand_ins(systemctl=body)))}
    assert rows["a.timer"]["command"] == "/x argv[]=a ; ignore_errors=no b ; /y"
    assert [rows[name]["run_as"] for name in ("a.timer", "b.timer")] == ["root", None]


@needs_unix
@every_shell
def test_lines_of_passwd_that_the_c_library_takes(shell: list[str]) -> None:
    code = function_of(BY_STREAM["local_administrators"], "users") + "users local"
    lines = "evil:x:00:0::/:/bin/bash\nevil2:x:000:0::/:/bin/sh\nshort:x:0:00:nohome\nme:x:01000:x::/:/bin/sh\nno:x:0\n"
    done = subprocess.run([*shell, "-c", code], input=lines, capture_output=True, encoding="utf-8", check=True)
    assert [line.split("\t")[1:4] for line in done.stdout.splitlines()] == [
        ["evil", "0", "0"],
        ["evil2", "0", "0"],
        ["short", "0", "0"],
        ["me", "1000", "x"],
    ]


@needs_unix
@every_shell
def test_names_of_files_of_cron(shell: list[str]) -> None:
    page = BY_STREAM["scheduled_tasks"]
    code = "".join(function_of(page, name) for name in ("counts", "printable")).replace("/etc/debian_version", "/")
    code = (
        "problem() { :; }\n" + code + 'for name; do if counts "/etc/cron.d/$name"; then printf "%s " "$name"; fi; done'
    )
    names = ["a-b_C1", "x.dpkg-old", "a\n* * * * * root x", ".placeholder", "~"]
    done = subprocess.run([*shell, "-c", code, "sh", *names], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "a-b_C1 "


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@every_shell
def test_the_name_of_an_open_file_invents_no_port(shell: list[str], tmp_path: Path) -> None:
    page = BY_STREAM["listening_ports"]
    fake = "   0: 0100007F:7A69 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4242"
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        inode = os.stat(opened.fileno()).st_ino  # noqa: PTH116
        link = f"lrwx------ 1 0 0 64 Nov 24 04:00 5 -> socket:[{inode}]"
        folder = tmp_path / "x\n"
        folder.mkdir()
        names = [f"a\nsocket tcp {fake}", f"b\n{link}", f"c -> socket:[{inode}]"]
        files = [(tmp_path / name).open("w") for name in names]
        (folder / "proc" / "1").mkdir(parents=True)
        files.append((folder / "proc" / "1" / f"fd:\n{link}").open("w"))
        try:
            rows = page.check(run(page, shell))
        finally:
            for file in files:
                file.close()
        port = opened.getsockname()[1]
    assert 0x7A69 not in {row["local_port"] for row in rows}
    assert [row["process_id"] for row in rows if row["local_port"] == port] == [os.getpid()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@every_shell
def test_our_own_ports_are_found(shell: list[str]) -> None:
    page = BY_STREAM["listening_ports"]
    expected = set()
    sockets = []
    addresses = [(socket.AF_INET, "127.0.0.1")]
    if os.path.exists("/proc/net/if_inet6"):  # noqa: PTH110
        addresses += [(socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1")]
    try:
        for family, address in addresses:
            for kind, protocol in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
                opened = socket.socket(family, kind)
                sockets.append(opened)
                opened.bind((address, 0))
                if protocol == "tcp":
                    opened.listen()
                expected.add((protocol, address, opened.getsockname()[1], os.getpid()))
        # A client is no listener.
        client = socket.create_connection(sockets[0].getsockname())
        sockets.append(client)
        rows = page.check(run(page, shell))
    finally:
        for opened in sockets:
            opened.close()
    found = {tuple(row[key] for key in page.keys): row for row in rows}
    assert expected <= set(found)
    assert client.fileno() == -1
    assert {row["process_path"] for key, row in found.items() if key in expected} == {
        os.path.realpath("/proc/self/exe")
    }


# --- the simulated fleet --------------------------------------------------------------------------------------------


def test_the_fleet_prints_what_the_scripts_print() -> None:
    tenant = make_tenant(devices=250, now=NOON)
    next_day(tenant, devices=250, now=NOON + 86_400)
    dirty = {dirt_id(name) for name in DIRT}
    by_script = {file.name: page for page in PAGES for file in (page.powershell, page.shell) if file}
    seen = dict.fromkeys(by_script, 0)
    for action in tenant.actions:
        result = tenant.results.get((action["id"], 0))
        if action["status"] != "Succeeded" or action["id"] in dirty or result is None:
            continue
        printed = json.loads(result.body)
        page = by_script[printed["script_name"]]
        (text,) = [line for line in printed["script_output"].split("\n") if line.startswith("{")]
        text = text.removesuffix("\r")
        seen[printed["script_name"]] += len(page.check(text))
        is_windows = printed["script_name"].endswith(".ps1")
        # The layout, too: no blanks, and the same characters escaped.
        assert text == (powershell.to_compressed_json if is_windows else shell_json)(json.loads(text))
    assert min(seen.values()) > 50


@needs_unix
def test_the_fleet_writes_json_as_the_shell_scripts_do(stand_ins: Callable[..., str]) -> None:
    line = r"install ok installed\tM\303\274ller <\042a\\\\b\042>\t1\tx & \047y\047\t12\n"
    page = BY_STREAM["installed_software"]
    text = run(page, path=stand_ins(dpkg_query=f"printf '{line}'"))
    assert text == shell_json(json.loads(text)) + "\n"


def test_a_wrong_type_does_not_fit() -> None:
    assert fits(1, {"type": "integer"})
    assert not fits(True, {"type": "integer"})
    assert not fits("2025-10-09", {"type": "string", "format": "date-time"})
