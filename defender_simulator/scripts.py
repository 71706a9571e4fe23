"""What the scripts of the make-believe company print, on each kind of device."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import administrators, encryption, installed_software, listening_ports, powershell, scheduled_tasks

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from .devices import Device


class Failure(NamedTuple):
    """A script that broke: what it printed until then, and what went to stderr."""

    exit_code: int
    output: str
    errors: str


def output_of(script: str, device: Device, at: int, rng: Random) -> str:
    """Print what `script` says on `device` at `at` (ticks), with what the agent puts around it."""
    library = script.partition(".")[0] in _LIBRARY
    printer = _LIBRARY[script.partition(".")[0]] if library else _OWN[script]
    text = printer(device, at, rng)
    if not device.is_windows:
        return text + "\n"
    warning = rng.choice(_WARNINGS) if library and rng.random() < 0.1 else ""
    return powershell.transcript_line(rng) + warning + text + "\r\n" + rng.choice(("", "", "\0\0\0"))


def failure_of(script: str, device: Device, rng: Random) -> Failure:
    """Print what `script` says when it does not even begin on `device`."""
    if not device.is_windows:
        exit_code, errors = rng.choice(_SHELL_FAILURES)
        return Failure(exit_code, "", errors.format(script=script, line=rng.randint(20, 60)))
    exit_code, errors = rng.choice(_POWERSHELL_FAILURES)
    errors = errors.format(script=script, host=device.name.upper())
    return Failure(exit_code, powershell.transcript_line(rng), errors)


#: What PowerShell prints on standard output, too.
_WARNINGS = (
    "WARNING: The names of some imported commands from the module 'Contoso' include unapproved verbs.\r\n",
    "WARNING: Waiting for service 'Windows Management Instrumentation (Winmgmt)' to start...\r\n",
)

_DOWNLOADS = "C:\\ProgramData\\Microsoft\\Windows Defender Advanced Threat Protection\\Downloads"
_FORBIDDEN = (
    f"File {_DOWNLOADS}\\{{script}} cannot be loaded because running scripts is disabled on this system. For more "
    "information, see about_Execution_Policies at https:/go.microsoft.com/fwlink/?LinkID=135170.\r\n"
    "    + CategoryInfo          : SecurityError: (:) [], ParentContainsErrorRecordException\r\n"
    "    + FullyQualifiedErrorId : UnauthorizedAccess\r\n"
)
_BLOCKED = (
    f"At {_DOWNLOADS}\\{{script}}:1 char:1\r\n"
    "+ # Prints one JSON document on one line\r\n"
    "+ ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\r\n"
    "This script contains malicious content and has been blocked by your antivirus software.\r\n"
    "    + CategoryInfo          : ParserError: (:) [], ParseException\r\n"
    "    + FullyQualifiedErrorId : ScriptContainedMaliciousContent\r\n"
)
_NO_FILE = "The argument '.\\{script}' to the -File parameter does not exist on {host}.\r\n"
_POWERSHELL_FAILURES = ((1, _FORBIDDEN), (1, _BLOCKED), (-196608, _NO_FILE))
_SHELL_FAILURES = (
    (127, "./{script}: {line}: awk: not found\n"),
    (126, "/bin/sh: ./{script}: Permission denied\n"),
)


def _collect_triage(_device: Device, _at: int, rng: Random) -> str:
    lines = [f"copied Security.evtx ({rng.randint(20, 900)} MB)", f"{rng.randint(60, 240)} processes listed", "done"]
    return "\r\n".join(lines)


def _get_sessions(device: Device, at: int, rng: Random) -> str:
    """Print as PowerShell 5.1 does unless told otherwise: dates as milliseconds, and one session not as a list."""
    sessions = [
        {
            "User": f"CONTOSO\\{user}",
            "Since": f"/Date({at // 10_000 - rng.randrange(86_400_000)})/",
            "Type": rng.choice(("Console", "RDP-Tcp")),
        }
        for user in rng.sample(administrators.USERS, rng.randint(1, 2))
    ]
    return powershell.to_json({"Host": device.name.upper(), "Sessions": powershell.unrolled(sessions)})


#: The scripts of `docs/scripts`, by what their names begin with, for Windows and elsewhere.
_LIBRARY: dict[str, Callable[[Device, int, Random], str]] = {
    "Get-InstalledSoftware": installed_software.print_document,
    "Get-LocalAdministrators": administrators.print_document,
    "Get-BitLockerState": encryption.print_document,
    "Get-ScheduledTasks": scheduled_tasks.print_document,
    "Get-ListeningPorts": listening_ports.print_document,
}
#: Scripts that the company wrote for itself.
_OWN: dict[str, Callable[[Device, int, Random], str]] = {
    "Collect-Triage.ps1": _collect_triage,
    "Get-LogonSessions.ps1": _get_sessions,
}
