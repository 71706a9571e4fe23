"""A machine action and its commands as the tap sees them, decoded from what the API sends."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tap_defender_lr import timestamps
from tap_defender_lr.file_names import last_part
from tap_defender_lr.text import clean, column_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
LIVE_RESPONSE = "LiveResponse"
GET_FILE = "GetFile"
_FINAL = {"succeeded", "failed", "timeout", "cancelled"}
_NOT_FINAL = {"pending", "inprogress"}
_FINISHED = {"completed", "failed"}
_NOT_STARTED = {"created", "submitted", "pendingresource"}


@dataclass(frozen=True)
class Command:
    """One command of a Live Response action.

    Attributes:
        index: The number that the download-link call wants; with the action id the key of a result.
        type: `RunScript`, `GetFile`, `PutFile`; the service may add more.
        params: Key → value, as sent when the action was started.
    """

    index: int
    type: str | None
    status: str | None
    params: dict[str, Any]
    errors: list[str]
    start_time: str | None
    end_time: str | None

    @property
    def script_name(self) -> str | None:
        return column_text(self.params.get("ScriptName"))

    @property
    def file_name(self) -> str | None:
        """Of the file that is collected, without its folders."""
        path = column_text(self.params.get("Path")) if self.type == GET_FILE else None
        return last_part(path) if path else None


@dataclass(frozen=True)
class MachineAction:
    """One machine action.

    Attributes:
        creation: `creationDateTimeUtc` in the form of `timestamps`.
        last_update: `lastUpdateDateTimeUtc` likewise; where the service sends none, the latest time it does send.
        raw: The action as the API sent it, with clean text.
    """

    id: str
    type: str | None
    status: str | None
    machine_id: str | None
    creation: str
    last_update: str
    commands: tuple[Command, ...]
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def is_final(self) -> bool:
        """Whether its results will not change any more. For a status unknown today, its commands tell."""
        status = (self.status or "").casefold()
        if status in _FINAL or status in _NOT_FINAL:
            return status in _FINAL
        return bool(self.commands) and all((c.status or "").casefold() in _FINISHED for c in self.commands)

    def never_ran(self, command: Command) -> bool:
        """Whether the command of this final action never ran, so that asking for its result is a wasted call.

        Commands of one action run in order and any failure stops the rest (Microsoft, run-live-response). What
        state the rest is left in is not documented: `Created`, or `Failed` without times.
        """
        if command.start_time or command.end_time or (self.status or "").casefold() == "succeeded":
            return False
        status = (command.status or "").casefold()
        if status in _NOT_STARTED:
            return True
        return status == "failed" and any(
            other.index < command.index and (other.status or "").casefold() == "failed" for other in self.commands
        )


def from_api(sent: object) -> MachineAction | None:
    """Decode one entity of the API, or None for something that has no id."""
    raw = clean(sent)
    action_id = column_text(raw.get("id")) if isinstance(raw, dict) else None
    if action_id is None:
        return None
    commands = tuple({command.index: command for command in _commands(raw.get("commands"))}.values())
    creation = timestamps.normalize(raw.get("creationDateTimeUtc"))
    # An older page of Microsoft's documentation calls it lastUpdateTimeUtc.
    last_update = timestamps.normalize(raw.get("lastUpdateDateTimeUtc")) or timestamps.normalize(
        raw.get("lastUpdateTimeUtc")
    )
    known = [creation, *(c.start_time for c in commands), *(c.end_time for c in commands)]
    last_update = last_update or max((stamp for stamp in known if stamp), default=timestamps.EPOCH)
    return MachineAction(
        id=action_id,
        type=column_text(raw.get("type")),
        status=column_text(raw.get("status")),
        machine_id=column_text(raw.get("machineId")),
        creation=creation or last_update,
        last_update=last_update,
        commands=commands,
        raw=raw,
    )


def _commands(sent: object) -> Iterator[Command]:
    """`commands` may be missing, null, empty, or hold plain strings."""
    entries = sent if isinstance(sent, list) else []
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            continue
        index = entry.get("index")
        inner = entry.get("command")
        inner = inner if isinstance(inner, dict) else {}
        params = inner.get("params")
        errors = entry.get("errors")
        yield Command(
            index=index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else position,
            type=column_text(inner.get("type")),
            status=column_text(entry.get("commandStatus")),
            params=_params(params),
            errors=[text for text in map(column_text, errors if isinstance(errors, list) else []) if text],
            start_time=timestamps.normalize(entry.get("startTime")),
            end_time=timestamps.normalize(entry.get("endTime")),
        )


def _params(sent: object) -> dict[str, Any]:
    if isinstance(sent, dict):
        return sent
    entries = [entry for entry in sent if isinstance(entry, dict)] if isinstance(sent, list) else []
    return {str(entry["key"]): entry.get("value") for entry in entries if entry.get("key")}
