"""Scheduled tasks: timers of systemd, crontabs, and secrets that are masked alike in both scripts."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from defender_simulator.scheduled_tasks import _checksum
from tests.library_pages import BY_STREAM
from tests.script_library.shells import every_shell, function_of, needs_unix, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
