"""Scripts that run over a fleet: who is asked when, how each run ends, and the machine action that tells of it.

All times are ticks.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import Enum
from itertools import cycle
from typing import TYPE_CHECKING, Any

from . import scripts
from .shapes import SECOND, command, machine_action, result_body, ticks_of, timestamp
from .tenant import Result, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from .devices import Device

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

#: Ten run calls a minute are allowed. Live Response automation stays a little below.
PAUSE = SECOND * 13 // 2

#: Id of the app that also cancels runs: the one real `cancellationRequestor` is an app id.
ORCHESTRATOR_ID = "c0470500-0000-4000-8000-000000000b07"

_TIMED_OUT = -2145844840  # 0x80190198, HTTP 408: with every real TimeOut
_ABORTED = -2147467260  # 0x80004004, E_ABORT: with the real Cancelled


@dataclass(frozen=True)
class Campaign:
    """One script of the library for all devices.

    Attributes:
        name: What the names of the script begin with.
        endings: How they end on Windows and elsewhere, None where there is no such script.
    """

    name: str
    requestor: str
    comment: str
    endings: tuple[str | None, str | None] = (".ps1", ".sh")
    laptops: bool = True

    def script(self, device: Device) -> str | None:
        ending = self.endings[0 if device.is_windows else 1]
        return None if ending is None or (device.is_laptop and not self.laptops) else self.name + ending


# Three ways in which the service names who asked: an app's name, an app's id, a user.
SOFTWARE = Campaign("Get-InstalledSoftware", "FleetInventory", "Software inventory")
BITLOCKER = Campaign("Get-BitLockerState", ORCHESTRATOR_ID, "Disk encryption check", endings=(".ps1", None))
ADMINS = Campaign("Get-LocalAdministrators", "lr-automation@contoso.example", "Who is admin?")
PORTS = Campaign("Get-ListeningPorts", "ExposureReview", "What listens in our networks?", laptops=False)
TASKS = Campaign("Get-ScheduledTasks", "Contoso SecOps Automation", "Persistence hunt")
CAMPAIGNS = (SOFTWARE, BITLOCKER, ADMINS, PORTS, TASKS)


class Fate(Enum):
    """How a run ends, or where it stands now."""

    SUCCEEDED = "succeeded"
    FAILED = "failed, with the result that tells why"
    LOST = "failed, without a result"
    CANCELLED = "cancelled before it began"
    TIMED_OUT = "the device did not come back"
    PENDING = "waits for an offline device"
    IN_PROGRESS = "handed to the device, which is offline"
    EXECUTING = "runs right now"


_WAITING = {Fate.PENDING: "Pending", Fate.IN_PROGRESS: "InProgress"}


@dataclass
class Run:
    """One script on one device, asked for at `created`. Whatever happens to it happens before `limit`."""

    device: Device
    campaign: Campaign
    script: str
    created: int
    limit: int
    fate: Fate = Fate.SUCCEEDED


@dataclass
class State:
    """What the action says once the fate of its run is known."""

    status: str
    updated: int
    commands: list[dict[str, Any]]
    result: Result | None = None
    error_h_result: int = 0


class Stage:
    """Where runs are played: adds their actions and results to a tenant."""

    def __init__(self, tenant: Tenant, rng: Random, now: int) -> None:
        self._tenant = tenant
        self._rng = rng
        self._now = now
        #: Until when a device takes no other action, by machine id.
        self._busy: dict[str, int] = {}
        self._offline = cycle(_WAITING)

    def is_free(self, device: Device, at: int) -> bool:
        return self._busy.get(device.machine_id, 0) < at

    def time_out(self, fleet: list[Device]) -> list[Run]:
        """Make last week's runs on one of 20 devices that were away for three days."""
        runs = []
        for device in self._rng.sample(fleet, (len(fleet) + 10) // 20):
            ended = self._now - self._rng.randint(2 * HOUR, 47 * HOUR)
            created = ended - 3 * DAY - self._rng.randint(2 * MINUTE, 20 * MINUTE)
            self._busy[device.machine_id] = ended
            if script := SOFTWARE.script(device):
                runs.append(Run(device, SOFTWARE, script, created, ended, Fate.TIMED_OUT))
        return runs

    def roll_out(
        self, campaign: Campaign, fleet: list[Device], *, start: int, pause: int, limit: int, offline: Iterable[Device]
    ) -> list[Run]:
        """Ask every free device in turn. The offline ones stay busy; the fate of the others is not decided here."""
        runs = []
        offline = set(offline)
        for place, device in enumerate(self._rng.sample(fleet, len(fleet))):
            created = start + place * pause + self._rng.randrange(pause // 2 + 1)
            script = campaign.script(device)
            if script is None or not self.is_free(device, created):
                continue
            run = Run(device, campaign, script, created, limit)
            if device in offline:
                run.fate = next(self._offline)
                self._busy[device.machine_id] = self._now
            runs.append(run)
        return runs

    def decide(self, runs: list[Run], *, unfinished: tuple[Fate, ...] = ()) -> None:
        """Deal out fates: fixed shares of failures, and `unfinished` to the runs that were asked for last."""
        online = sorted((run for run in runs if run.fate is Fate.SUCCEEDED), key=lambda run: run.created)
        done = max(0, len(online) - len(unfinished))
        for run, fate in zip(online[done:], unfinished, strict=False):
            run.fate = fate
        bad = (
            [Fate.FAILED] * round(done * 0.05)
            + [Fate.LOST] * round(done * 0.03)
            + [Fate.CANCELLED] * round(done * 0.03)
        )
        for run, fate in zip(self._rng.sample(online[:done], len(bad)), bad, strict=True):
            run.fate = fate

    def play(self, runs: Iterable[Run]) -> None:
        """Let the runs come to their fates, and add them to the tenant in the order in which they were asked for."""
        for run in sorted(runs, key=lambda run: run.created):
            state = self._state(run)
            cancelled = run.fate is Fate.CANCELLED
            action = machine_action(
                action_id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
                status=state.status,
                created=timestamp(run.created),
                updated=timestamp(state.updated),
                commands=state.commands,
                machine_id=run.device.machine_id,
                computer_dns_name=run.device.dns_name,
                requestor=run.campaign.requestor,
                requestor_comment=run.campaign.comment,
                cancellation_requestor=ORCHESTRATOR_ID if cancelled else None,
                cancellation_comment="Device is being reinstalled" if cancelled else None,
                # One tick before the last update, as in the one real case.
                cancelled=timestamp(state.updated - 1) if cancelled else None,
                error_h_result=state.error_h_result,
            )
            self._tenant.actions.append(action)
            if state.result:
                self._tenant.results[action["id"], 0] = state.result

    def finish_open(self, fleet: list[Device], *, after: int, limit: int) -> None:
        """Let open actions end between the two times, all but one in five of those that wait for their device."""
        by_id = {device.machine_id: device for device in fleet}
        by_requestor = {campaign.requestor: campaign for campaign in CAMPAIGNS}
        open_actions = [
            action
            for action in self._tenant.actions
            if action["type"] == "LiveResponse" and action["status"] in _WAITING.values()
        ]
        stay = {action["id"] for action in [action for action in open_actions if _waits(action)][::5]}
        for number, action in enumerate(open_actions):
            device, campaign = by_id.get(action["machineId"]), by_requestor.get(action["requestor"])
            script = campaign.script(device) if campaign and device else None
            if campaign is None or device is None or script is None:
                raise ValueError("The tenant was made with other devices or another seed.")
            run = Run(device, campaign, script, after + 1 + self._rng.randrange((limit - after) // 4), limit)
            due = ticks_of(action["creationDateTimeUtc"]) + 3 * DAY + 10 * MINUTE
            if action["id"] in stay:
                if due > limit:
                    self._busy[device.machine_id] = self._now
                    continue
                run.fate, run.limit = Fate.TIMED_OUT, max(due, run.created)
            elif number % 7 == 3:
                run.fate = Fate.FAILED
            self._settle(action, self._state(run))

    def _settle(self, action: dict[str, Any], state: State) -> None:
        action["status"] = state.status
        action["lastUpdateDateTimeUtc"] = timestamp(state.updated)
        action["errorHResult"] = state.error_h_result
        action["commands"] = state.commands
        if state.result:
            self._tenant.results[action["id"], 0] = state.result

    def _state(self, run: Run) -> State:
        if status := _WAITING.get(run.fate):
            updated = min(run.limit, run.created + self._rng.randint(0, 5 * SECOND))
            return State(status, updated, [_command(run, "Created")])
        if run.fate is Fate.TIMED_OUT:
            return State("TimeOut", run.limit, [_command(run, "Created")], error_h_result=_TIMED_OUT)
        if run.fate is Fate.CANCELLED:
            updated = run.created + 1 + self._rng.randrange((run.limit - run.created) // 3)
            return State("Cancelled", updated, [_command(run, "Created")], error_h_result=_ABORTED)
        return self._state_once_started(run)

    def _state_once_started(self, run: Run) -> State:
        started, ended, updated = self._times(run)
        if run.fate is Fate.EXECUTING:
            return State("InProgress", started, [_command(run, "Executing", started)])
        if run.fate is Fate.LOST:
            error = "The session was disconnected before the command finished."
            return State("Failed", updated, [_command(run, "Failed", started, ended, error)])
        if run.fate is Fate.FAILED:
            failure = scripts.failure_of(run.script, run.device, self._rng)
            error = f"Script {run.script} ended with exit code {failure.exit_code}."
            failed = _command(run, "Failed", started, ended, error)
            return State("Failed", updated, [failed], Result(result_body(run.script, *failure)))
        output = scripts.output_of(run.script, run.device, ended, self._rng)
        completed = _command(run, "Completed", started, ended)
        return State("Succeeded", updated, [completed], Result(result_body(run.script, 0, output)))

    def _times(self, run: Run) -> tuple[int, int, int]:
        """Draw start and end on the device, and when the service took note, all within the time that is left."""
        left = run.limit - run.created
        # One laptop in 16 sleeps, and takes the script when its lid is opened.
        delay = 9 * HOUR if self._rng.random() < 1 / 16 else 45 * SECOND
        started = run.created + self._rng.randint(min(2 * SECOND, left // 20), min(delay, left // 3))
        ended = started + 1 + self._rng.randrange(min(40 * SECOND, left // 3))
        updated = ended + 1 + self._rng.randrange(min(6 * SECOND, left // 5))
        # The agent's clock: milliseconds on Windows, microseconds elsewhere.
        unit = SECOND // 1_000 if run.device.is_windows else SECOND // 1_000_000
        return max(run.created, started // unit * unit), max(run.created, ended // unit * unit), updated


def _waits(action: dict[str, Any]) -> bool:
    commands = action.get("commands") or ()
    return [command["commandStatus"] for command in commands] == ["Created"]


def _command(
    run: Run, status: str, started: int | None = None, ended: int | None = None, error: str | None = None
) -> dict[str, Any]:
    return command(
        0,
        "RunScript",
        status,
        {"ScriptName": run.script},
        started=None if started is None else timestamp(started),
        ended=None if ended is None else timestamp(ended),
        errors=[error] if error else (),
    )
