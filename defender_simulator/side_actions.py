"""What runs beside the campaigns: an analyst's sessions of several commands, and actions that are not Live Response."""

from __future__ import annotations

import gzip
import io
import uuid
from typing import TYPE_CHECKING

from . import scripts
from .campaigns import HOUR, ORCHESTRATOR_ID
from .shapes import SECOND, command, machine_action, result_body, timestamp
from .tenant import Result, Tenant

if TYPE_CHECKING:
    from random import Random

    from .devices import Device

_ANALYST = "s.patel@contoso.example"
#: The company's own scripts. Two of three sessions run the first one.
_SCRIPTS = ("Collect-Triage.ps1", "Collect-Triage.ps1", "Get-LogonSessions.ps1")
_FILE = "C:\\Windows\\System32\\winevt\\Logs\\Security.evtx"

#: Type, scope, and who asked from where.
_OTHER_ACTIONS = (
    ("RunAntiVirusScan", "Quick", _ANALYST, "Portal"),
    ("Isolate", "Full", ORCHESTRATOR_ID, "PublicApi"),
    ("Unisolate", None, ORCHESTRATOR_ID, "PublicApi"),
    ("RunAntiVirusScan", "Full", "Contoso SecOps Automation", "PublicApi"),
    ("CollectInvestigationPackage", None, _ANALYST, "Portal"),
    ("StopAndQuarantineFile", None, _ANALYST, "Portal"),
    ("RestrictCodeExecution", None, _ANALYST, "Portal"),
    ("UnrestrictCodeExecution", None, _ANALYST, "Portal"),
    ("Offboard", None, "FleetInventory", "PublicApi"),
)


def add_sessions(tenant: Tenant, free: list[Device], rng: Random, *, start: int, end: int) -> None:
    """Let an analyst put a tool on a few devices, run a script with it, and get a file. In one the script fails."""
    for number, device in enumerate(rng.sample(free, min(len(free), 3 + len(free) // 40))):
        script = _SCRIPTS[number % len(_SCRIPTS)]
        _add_session(tenant, device, script, rng.randint(start, end), rng, fails=number == 1)


def _add_session(tenant: Tenant, device: Device, script: str, created: int, rng: Random, *, fails: bool) -> None:
    # Put, script and get one after another; the agent's clock counts milliseconds.
    moments = []
    at = created
    for longest in (5, 4, 3, 60, 25, 3):
        at = (at + rng.randint(SECOND // 2, longest * SECOND)) // 10_000 * 10_000
        moments.append(at)
    put_started, put_ended, started, ended, got, updated = map(timestamp, moments)
    action_id = _new_id(rng)
    if fails:
        exit_code, output, errors = scripts.failure_of(script, device, rng)
        # How the service marks a command that an earlier failure cut off is not documented: assumed as never begun.
        get_file = command(2, "GetFile", "Created", {"Path": _FILE})
    else:
        exit_code, output, errors = 0, scripts.output_of(script, device, moments[3], rng), ""
        # Real GetFile commands have no start, even when they are completed.
        get_file = command(2, "GetFile", "Completed", {"Path": _FILE}, ended=got)
        tenant.results[action_id, 2] = _file_result(_FILE.rpartition("\\")[2], rng)
    tenant.results[action_id, 1] = Result(result_body(script, exit_code, output, errors))
    run_script = command(
        1,
        "RunScript",
        "Failed" if fails else "Completed",
        {"ScriptName": script, "Args": "-Case IR-017"},
        started=started,
        ended=ended,
        errors=[f"Script {script} ended with exit code {exit_code}."] if fails else (),
    )
    put_file = command(0, "PutFile", "Completed", {"FileName": "triage.exe"}, started=put_started, ended=put_ended)
    tenant.actions.append(
        machine_action(
            action_id=action_id,
            status="Failed" if fails else "Succeeded",
            created=timestamp(created),
            updated=updated,
            commands=[put_file, run_script, get_file],
            machine_id=device.machine_id,
            computer_dns_name=device.dns_name,
            requestor=_ANALYST,
            requestor_comment="IR-017: keep the security log",
        )
    )


def _file_result(name: str, rng: Random) -> Result:
    """Write a file as the agent uploads it: gzip with its name in the header."""
    content = b"ElfFile\0" + bytes(4088) + rng.randbytes(4096)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename=name, mode="wb", fileobj=buffer, mtime=0) as archive:
        archive.write(content)
    return Result(buffer.getvalue(), {"Content-Disposition": f"attachment; filename={name}.gz"})


def add_other_actions(tenant: Tenant, fleet: list[Device], rng: Random, now: int) -> None:
    """Add actions that are not Live Response, one of each type at least. Offboard names no device, as seen."""
    for number in range(max(len(_OTHER_ACTIONS), len(fleet) // 8)):
        action_type, scope, requestor, source = _OTHER_ACTIONS[number % len(_OTHER_ACTIONS)]
        device = None if action_type == "Offboard" else rng.choice(fleet)
        updated = now - rng.randint(HOUR // 6, 47 * HOUR)
        file_info = {"fileIdentifier": f"{rng.getrandbits(160):040x}", "fileIdentifierType": "Sha1"}
        tenant.actions.append(
            machine_action(
                action_id=_new_id(rng),
                action_type=action_type,
                status=rng.choice(("Succeeded", "Succeeded", "Failed", "Pending")),
                created=timestamp(updated - rng.randint(0, HOUR)),
                updated=timestamp(updated),
                machine_id=device.machine_id if device else None,
                computer_dns_name=device.dns_name if device else None,
                requestor=requestor,
                requestor_comment="Alert triage",
                scope=scope,
                request_source=source,
                related_file_info=file_info if action_type == "StopAndQuarantineFile" else None,
            )
        )


def _new_id(rng: Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
