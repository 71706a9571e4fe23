"""What the statements of `docs/queries` have to answer, computed once more in Python."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fleet_truth import Ran, Truth

Row = tuple[Any, ...]


def newest_requests(truth: Truth) -> dict[tuple[str, str], tuple[str, str, datetime, str, bool]]:
    """By device and script: both names, when it was asked for last, its state, whether it ever answered."""
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for ran in truth.scripts:
        found[ran.machine, str(ran.script)].append((ran.requested, ran.action.id, ran.device, ran.state))
    for action in truth.open:
        for command in action.commands:
            asked = datetime.fromisoformat(action.creation[:26])
            if command.script_name:
                device = action.raw["computerDnsName"]
                found[str(action.machine_id), command.script_name].append((asked, action.id, device, "waiting"))
    newest = {}
    for key, requests in found.items():
        asked, _, device, state = max(requests)
        answered = any(request[-1] in {"ok", "failed"} for request in requests)
        newest[key] = (device, key[1], asked, state, answered)
    return newest


def coverage(truth: Truth) -> list[Row]:
    by_script = defaultdict(list)
    for (_, script), (_, _, _, state, answered) in newest_requests(truth).items():
        by_script[script].append((state, answered))
    rows = []
    for script, devices in by_script.items():
        states = Counter(state for state, _ in devices)
        percent = Decimal(100 * states["ok"]) / len(devices)
        rows.append(
            (
                script,
                len(devices),
                *(states[state] for state in ("ok", "failed", "no_result", "waiting")),
                sum(not answered for _, answered in devices),
                percent.quantize(Decimal("0.1"), ROUND_HALF_UP),
            )
        )
    return rows


def script_devices(truth: Truth, script: str = "Get-InstalledSoftware.") -> list[Row]:
    newest = {
        machine: (state, name, asked)
        for (machine, name), (_, _, asked, state, _) in newest_requests(truth).items()
        if name.startswith(script)
    }
    answers: dict[str, datetime] = {}
    for ran in truth.of(script):
        if ran.state in {"ok", "failed"}:
            answers[ran.machine] = max(answers.get(ran.machine, ran.at), ran.at)
    names = {str(action.machine_id): str(action.raw["computerDnsName"]) for action in truth.actions}
    return [
        (name, machine, *newest.get(machine, ("not_asked", None, None)), answers.get(machine))
        for machine, name in names.items()
    ]


def latest_results(truth: Truth) -> list[Row]:
    newest: dict[Any, Ran] = {}
    for ran in sorted(truth.scripts, key=lambda ran: (ran.at, ran.key)):
        newest[ran.machine, ran.script] = ran
    return [(ran.device, ran.script, ran.at, ran.status, ran.exit_code, *ran.key) for ran in newest.values()]


def is_failure(ran: Ran) -> bool:
    return ran.state != "ok"


REASONS = {
    "running scripts is disabled on this system": "UnauthorizedAccess",
    "has been blocked by your antivirus": "ScriptContainedMaliciousContent",
    "to the -File parameter": r"the argument '.\(script)' to the -file parameter does not exist on (device).",
    "awk: not found": "./(script): #: awk: not found",
    "Permission denied": "/bin/sh: ./(script): permission denied",
    "Error 17 in line 4": "error # in line #",
}
"""What the scripts of the fleet say when they fail, and how it counts."""


def reason(ran: Ran) -> str:
    if ran.state == "failed":
        found = [reason for text, reason in REASONS.items() if text in (ran.errors or ran.output)]
        return found[0] if found else "nothing printed"
    if ran.status == "unavailable":
        said = ran.service_said or "status 404 ResourceNotFound: Machine action (id) has no result 0"
        return f"unavailable: {said}"
    if ran.status == "unreadable":
        return "unreadable: the result is not JSON"
    return ran.status


def failures_by_reason(truth: Truth) -> list[Row]:
    groups = defaultdict(list)
    for ran in truth.scripts:
        if is_failure(ran):
            groups[ran.state, ran.action.status, ran.exit_code, reason(ran)].append(ran)
    return [
        (*group, len(found), len({ran.machine for ran in found}), len({ran.script for ran in found}))
        for group, found in groups.items()
    ]


def newest_failures(truth: Truth) -> list[Row]:
    found = sorted(filter(is_failure, truth.scripts), key=lambda ran: (-ran.updated.timestamp(), ran.key))
    return [(ran.updated, ran.device, ran.script, ran.action.status, ran.exit_code, *ran.key) for ran in found[:20]]


def waiting_devices(truth: Truth) -> list[Row]:
    now = max(datetime.fromisoformat(action.last_update[:26]) for action in truth.actions)
    answers: dict[str, datetime] = {}
    for ran in truth.ran:
        if ran.ended:
            answers[ran.machine] = max(answers.get(ran.machine, ran.ended), ran.ended)
    rows = []
    for action in truth.open:
        asked = datetime.fromisoformat(action.creation[:26])
        hours = (Decimal((now - asked) / timedelta(microseconds=1)) / 3_600_000_000).quantize(
            Decimal("0.1"), ROUND_HALF_UP
        )
        for script in [command.script_name for command in action.commands] or [None]:
            about = (action.raw["computerDnsName"], script, action.status, asked, hours, asked + timedelta(days=3))
            rows.append((*about, answers.get(str(action.machine_id)), action.id))
    return rows


def silent_devices(truth: Truth) -> list[Row]:
    answered = {ran.machine for ran in truth.ran if ran.ended or ran.status in {"fetched", "unreadable"}}
    asked = defaultdict(list)
    for action in truth.actions:
        if action.machine_id not in answered:
            asked[action.machine_id].append(action)
    rows = []
    for machine, actions in asked.items():
        states = Counter(str(action.status) for action in actions)
        times = sorted(datetime.fromisoformat(action.creation[:26]) for action in actions)
        waits = states["Pending"] + states["InProgress"]
        rows.append((machine, len(actions), waits, states["TimeOut"], states["Cancelled"], times[0], times[-1]))
    return rows


def time_to_result(truth: Truth) -> list[Row]:
    times = defaultdict(list)
    for ran in truth.scripts:
        if ran.ended:
            times[ran.script].append((ran.ended - ran.requested).total_seconds() / 60)
    return [
        (script, len(found), *(round(at(found, share), 1) for share in (0.5, 0.9, 1.0)))
        for script, found in times.items()
    ]


def at(values: list[float], share: float) -> float:
    """The value with that share of the others below it, between two neighbours in proportion."""
    values = sorted(values)
    below, part = divmod(share * (len(values) - 1), 1)
    above = min(int(below) + 1, len(values) - 1)
    return values[int(below)] + (values[above] - values[int(below)]) * part


def results_by_day(truth: Truth) -> list[Row]:
    days = defaultdict(list)
    for ran in truth.scripts:
        days[ran.updated.date()].append(ran)
    rows = []
    for day, found in days.items():
        states = Counter(ran.state for ran in found)
        devices = len({ran.machine for ran in found})
        rows.append((day, len(found), devices, states["ok"], states["failed"], states["no_result"]))
    return rows


def who_runs_what(truth: Truth) -> list[Row]:
    groups = defaultdict(list)
    for ran in truth.ran:
        groups[ran.action.raw["requestor"], ran.type, ran.script].append(ran)
    return [
        (
            *group,
            len({ran.action.id for ran in found}),
            len({ran.machine for ran in found}),
            sum(ran.status == "fetched" for ran in found),
            min(ran.requested for ran in found),
            max(ran.requested for ran in found),
        )
        for group, found in groups.items()
    ]


# The columns of which Python knows the values; the others are texts that the rest decides.
TRUTHS: dict[str, tuple[Callable[[Truth], list[Row]], str]] = {
    "coverage": (coverage, "script devices ok failed no_result waiting never_answered ok_percent"),
    "script_devices": (script_devices, "computer_dns_name machine_id state script_name requested_at last_answer_at"),
    "latest_results": (
        latest_results,
        "computer_dns_name script_name ended_at result_status exit_code machine_action_id command_index",
    ),
    "failures_by_reason": (failures_by_reason, "state action_status exit_code reason results devices scripts"),
    "newest_failures": (
        newest_failures,
        "ended_at computer_dns_name script_name action_status exit_code machine_action_id command_index",
    ),
    "waiting_devices": (
        waiting_devices,
        "computer_dns_name script_name status requested_at hours_waiting ends_at last_answer_at machine_action_id",
    ),
    "silent_devices": (silent_devices, "machine_id times_asked waiting timed_out cancelled first_asked last_asked"),
    "time_to_result": (time_to_result, "script results median_minutes p90_minutes longest_minutes"),
    "results_by_day": (results_by_day, "day results devices ok failed no_result"),
    "who_runs_what": (
        who_runs_what,
        "requestor command_type script actions devices results first_requested last_requested",
    ),
}


def rows_of(output: str) -> dict[str, str]:
    """What a script printed, and what names it: objects of its document, what stands around them, other lines."""
    rows: dict[str, str] = {}
    for line in re.sub(r"\x1b\[[0-9;]*m", "", output).replace("\r", "").split("\n"):
        if not line.startswith("{"):
            rows |= {line: line.partition(",")[0]} if line.strip() else {}
            continue
        document, end = json.JSONDecoder().raw_decode(line)
        (name,) = document.keys() - {"succeeded", "errors"}
        items = document.pop(name)
        rows[json.dumps([document, bool(items)])] = line.partition(",")[0]
        rows |= {"]}" + line[end:].rstrip(): "]}" + line[end:].rstrip()} if items else {}
        rows |= {json.dumps(item, sort_keys=True): str(next(iter(item.values()))) for item in items}
    return rows


def drift(truth: Truth, script: str) -> list[Row]:
    runs: dict[Any, list[Ran]] = defaultdict(list)
    for ran in sorted(truth.of(script), key=lambda ran: (ran.at, ran.key)):
        if ran.state == "ok":
            runs[ran.machine, ran.script].append(ran)
    changes: list[Row] = []
    for before, now in [found[-2:] for found in runs.values() if len(found) > 1]:
        rows = [rows_of(before.output), rows_of(now.output)]
        gone = {key: row for key, row in rows[0].items() if key not in rows[1]}
        come = {key: row for key, row in rows[1].items() if key not in rows[0]}
        names = [Counter(side.values()) for side in (gone, come)]
        pairs = {name for name in names[0] if names[0][name] == names[1][name] == 1}
        changes += [(now.device, "changed", name) for name in pairs]
        for change, side in (("removed", gone), ("added", come)):
            changes += [(now.device, change, name) for name in side.values() if name not in pairs]
    return changes
