"""A machine action and its commands as the tap sees them, decoded from what the API sends."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tap_defender_lr import timestamps
from tap_defender_lr.file_names import last_part
from tap_defender_lr.packing import Block
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


@dataclass(frozen=True, slots=True)
class Command:
    """What planning has to know of one command of a Live Response action; its action has the details.

    Most commands of a long listing are alike, and then they are one object.

    Attributes:
        index: The number that the download-link call wants; with the action id the key of a result.
        type: `RunScript`, `GetFile`, `PutFile`; the service may add more.
        script_name: Of the script that it runs.
        file_name: Of the file that it collects, without its folders.
        has_times: The service says when it started or ended on the device.
    """

    index: int
    type: str | None
    status: str | None
    script_name: str | None
    file_name: str | None
    has_times: bool


@dataclass(frozen=True)
class CommandDetails:
    """What only the record of a command needs.

    Attributes:
        params: Key → value, as sent when the action was started.
    """

    params: dict[str, Any]
    errors: list[str]
    start_time: str | None
    end_time: str | None


@dataclass(frozen=True, slots=True)
class MachineAction:
    """One machine action.

    Attributes:
        creation: `creationDateTimeUtc` in the form of `timestamps`.
        last_update: `lastUpdateDateTimeUtc` likewise; where the service sends none, the latest time it does send.
        commands: By index.
        block: Where the action is kept as the API sent it, alone or with others.
        place: Its place in there.
    """

    id: str
    type: str | None
    status: str | None
    machine_id: str | None
    creation: str
    last_update: str
    commands: tuple[Command, ...]
    block: Block = field(repr=False, compare=False)
    place: int = field(repr=False, compare=False)

    @property
    def raw(self) -> dict[str, Any]:
        """The action as the API sent it, with clean text. Made anew each time."""
        raw: dict[str, Any] = clean(self.block[self.place])
        return raw

    def details(self, command: Command) -> CommandDetails:
        """The rest of what is known of a command. Made anew each time."""
        sent = clean(self._sent(command))
        errors = sent.get("errors")
        return CommandDetails(
            params=_params(sent),
            errors=[text for text in map(column_text, errors if isinstance(errors, list) else []) if text],
            start_time=timestamps.normalize(sent.get("startTime")),
            end_time=timestamps.normalize(sent.get("endTime")),
        )

    def end_time(self, command: Command) -> str | None:
        """When it ended on the device."""
        return timestamps.normalize(self._sent(command).get("endTime"))

    def _sent(self, command: Command) -> Mapping[str, Any]:
        entries = _entries(self.block[self.place])
        return dict(entries)[command.index]

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
        if command.has_times or (self.status or "").casefold() == "succeeded":
            return False
        status = (command.status or "").casefold()
        if status in _NOT_STARTED:
            return True
        return status == "failed" and any(
            other.index < command.index and (other.status or "").casefold() == "failed" for other in self.commands
        )


def from_api(sent: object, block: Block | None = None) -> MachineAction | None:
    """Decode one entity of the API, or None for something that has no id.

    Args:
        sent: The entity.
        block: Where it is kept, together with others.
    """
    action_id = column_text(sent.get("id")) if isinstance(sent, dict) else None
    if action_id is None or not isinstance(sent, dict):
        return None
    creation = timestamps.normalize(sent.get("creationDateTimeUtc"))
    # An older page of Microsoft's documentation calls it lastUpdateTimeUtc.
    last_update = timestamps.normalize(sent.get("lastUpdateDateTimeUtc")) or timestamps.normalize(
        sent.get("lastUpdateTimeUtc")
    )
    entries = dict(_entries(sent))
    if last_update is None:
        times = (timestamps.normalize(entry.get(key)) for entry in entries.values() for key in ("startTime", "endTime"))
        last_update = max((stamp for stamp in (creation, *times) if stamp), default=timestamps.EPOCH)
    block = block or Block()
    return MachineAction(
        id=action_id,
        type=_shared_text(sent.get("type")),
        status=_shared_text(sent.get("status")),
        machine_id=_shared_text(sent.get("machineId")),
        creation=creation or last_update,
        last_update=last_update,
        commands=_shared_tuple(*[_command(index, entries[index]) for index in sorted(entries)]),
        block=block,
        place=block.add(sent),
    )


def _entries(sent: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Index → command. `commands` may be missing, null, empty, or hold plain strings."""
    commands = sent.get("commands")
    for position, entry in enumerate(commands if isinstance(commands, list) else ()):
        if isinstance(entry, dict):
            index = entry.get("index")
            if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < 2**63:
                index = position
            yield index, entry


def _command(index: int, sent: Mapping[str, Any]) -> Command:
    inner = sent.get("command")
    kind = column_text(inner.get("type")) if isinstance(inner, dict) else None
    params = _params(sent)
    path = column_text(params.get("Path")) if kind == GET_FILE else None
    return _shared_command(
        index,
        kind,
        column_text(sent.get("commandStatus")),
        column_text(params.get("ScriptName")),
        last_part(path) if path else None,
        (timestamps.normalize(sent.get("startTime")) or timestamps.normalize(sent.get("endTime"))) is not None,
    )


_shared_command = lru_cache(maxsize=10_000)(Command)


@lru_cache(maxsize=10_000)
def _shared_tuple(*commands: Command) -> tuple[Command, ...]:
    return commands


def _shared_text(value: object) -> str | None:
    """The same text is one object, however often it is listed."""
    text = column_text(value)
    return None if text is None else sys.intern(text)


def _params(sent: Mapping[str, Any]) -> dict[str, Any]:
    inner = sent.get("command")
    params = inner.get("params") if isinstance(inner, dict) else None
    if isinstance(params, dict):
        return params
    entries = [entry for entry in params if isinstance(entry, dict)] if isinstance(params, list) else []
    return {str(entry["key"]): entry.get("value") for entry in entries if entry.get("key")}
