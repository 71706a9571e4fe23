"""What there is to know of a fleet's commands, taken from the simulated tenant itself and not through the tap."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tap_defender_lr.machine_action import MachineAction, from_api

if TYPE_CHECKING:
    from collections.abc import Iterable

    from defender_simulator import Tenant

OPEN = {"Pending", "InProgress"}


def moment(text: str | None) -> datetime | None:
    """As warehouses keep it: without time zone, cut to microseconds."""
    return datetime.fromisoformat(text[:26]) if text else None


@dataclass(frozen=True)
class Ran:
    """A command of an action that has ended."""

    action: MachineAction
    index: int
    type: str
    script: str | None
    ended: datetime | None
    broke: bool
    status: str
    exit_code: int | None
    output: str
    errors: str
    service_said: str | None

    @property
    def machine(self) -> str:
        return str(self.action.machine_id)

    @property
    def device(self) -> str:
        return str(self.action.raw["computerDnsName"])

    @property
    def requested(self) -> datetime:
        return datetime.fromisoformat(self.action.creation[:26])

    @property
    def updated(self) -> datetime:
        return datetime.fromisoformat(self.action.last_update[:26])

    @property
    def at(self) -> datetime:
        return self.ended or self.updated

    @property
    def state(self) -> str:
        if self.status != "fetched":
            return "no_result"
        return "failed" if self.exit_code or self.broke else "ok"

    @property
    def key(self) -> tuple[str, int]:
        return (self.action.id, self.index)


@dataclass
class Truth:
    """What there is to know, from the tenant."""

    actions: list[MachineAction]
    ran: list[Ran]

    @property
    def scripts(self) -> list[Ran]:
        return [ran for ran in self.ran if ran.script]

    @property
    def open(self) -> list[MachineAction]:
        return [action for action in self.actions if action.status in OPEN]

    def of(self, script: str) -> list[Ran]:
        return [ran for ran in self.scripts if ran.script and ran.script.startswith(script)]

    @classmethod
    def of_tenant(cls, tenant: Tenant) -> Truth:
        sent = [action for action in tenant.actions if action["type"] == "LiveResponse"]
        actions = [action for action in map(from_api, sent) if action]
        return cls(
            actions, [ran for action in actions if action.status not in OPEN for ran in commands(tenant, action)]
        )


def commands(tenant: Tenant, action: MachineAction) -> Iterable[Ran]:
    for command in action.commands:
        result = tenant.results.get((action.id, command.index))
        details = action.details(command)
        document: dict[str, Any] = {}
        if result is None:
            status = "not_run" if action.never_ran(command) else "unavailable"
            status = "no_result" if command.type == "PutFile" else status
        elif command.type == "GetFile":
            status = "fetched"
        else:
            found = read(result.body)
            status, document = ("unreadable", {}) if found is None else ("fetched", found)
        yield Ran(
            action,
            command.index,
            str(command.type),
            command.script_name,
            moment(details.end_time),
            command.status == "Failed",
            status,
            document.get("exit_code"),
            document.get("script_output", ""),
            document.get("script_errors") or document.get("script_error") or "",
            details.errors[0] if details.errors else None,
        )


def read(body: bytes) -> dict[str, Any] | None:
    """The document of a result, however it is packed, without the line that announces the transcript."""
    body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    text = body.decode("utf-16" if body.startswith(b"\xff\xfe") else "utf-8-sig").replace("\x00", "")
    try:
        document: dict[str, Any] = json.loads(text, strict=False)
    except ValueError:
        return None
    printed = re.sub("[\ud800-\udfff]", "\ufffd", document["script_output"]).replace("\0", "")
    return {**document, "script_output": re.sub(r"\A.*[.]txt\r?\n", "", printed)}
