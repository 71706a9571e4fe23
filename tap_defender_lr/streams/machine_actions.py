"""`machine_actions`: the envelope of each Live Response action, again whenever it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import typing as th
from typing_extensions import override

from tap_defender_lr import timestamps
from tap_defender_lr.planning import Item
from tap_defender_lr.streams.planned import Emission, Part, PlannedStream
from tap_defender_lr.text import column_text, counted, snake_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tap_defender_lr.machine_action import MachineAction

_COMMAND = th.ObjectType(
    th.Property("index", th.IntegerType, description="Index of the command in its action, from 0."),
    th.Property("start_time", th.DateTimeType),
    th.Property("end_time", th.DateTimeType),
    th.Property("command_status", th.StringType),
    th.Property("errors", th.ArrayType(th.StringType)),
    th.Property("command", th.ObjectType(additional_properties=True), description="`type` and `params`, as sent."),
    additional_properties=True,
)
_FREE = th.ObjectType(additional_properties=True)

_TIME_COLUMNS = ("creation_date_time_utc", "last_update_date_time_utc", "cancellation_date_time_utc")
_OBJECT_COLUMNS = ("related_file_info", "troubleshoot_info")
_ALIASES = {"lastUpdateTimeUtc": "last_update_date_time_utc", "externalID": "external_id"}


class MachineActionsStream(PlannedStream):
    """One record per Live Response action, kept current until the action is final."""

    name = "machine_actions"
    primary_keys = ("id",)
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("id", th.StringType, required=True, description="GUID of the action."),
        th.Property("tenant_id", th.StringType, description="GUID of the Entra tenant."),
        th.Property("type", th.StringType, description="Always `LiveResponse`."),
        th.Property("title", th.StringType, description="Null for Live Response so far."),
        th.Property(
            "requestor", th.StringType, description="Who started it: a user's UPN, or an app's ID or display name."
        ),
        th.Property("requestor_comment", th.StringType, description="The comment given when it was started."),
        th.Property(
            "status",
            th.StringType,
            description="`Pending`, `InProgress`, `Succeeded`, `Failed`, `TimeOut`, `Cancelled`; more may come.",
        ),
        th.Property("machine_id", th.StringType, description="Defender's ID of the device."),
        th.Property("computer_dns_name", th.StringType, description="Name of the device at that time."),
        th.Property("creation_date_time_utc", th.DateTimeType, description="When the action was created."),
        th.Property("last_update_date_time_utc", th.DateTimeType, description="When it last changed. Replication key."),
        th.Property(
            "cancellation_requestor", th.StringType, description="Who cancelled it: a user's UPN or an app's ID."
        ),
        th.Property("cancellation_comment", th.StringType, description="The comment given when it was cancelled."),
        th.Property("cancellation_date_time_utc", th.DateTimeType, description="When it was cancelled."),
        th.Property("error_h_result", th.IntegerType, description="0, or a signed 32 bit HRESULT of what went wrong."),
        th.Property("scope", th.StringType, description="Of isolation and scans; null for Live Response so far."),
        th.Property("external_id", th.StringType, description="As the service sends it."),
        th.Property("request_source", th.StringType, description="`PublicApi` for actions started through the API."),
        th.Property("related_file_info", _FREE, description="As the service sends it; null for Live Response so far."),
        th.Property("commands", th.ArrayType(_COMMAND), description="The commands with their state."),
        th.Property("troubleshoot_info", _FREE, description="As the service sends it; its shape is not documented."),
        th.Property("extra", _FREE, description="Properties that this version of the tap does not know."),
    ).to_dict()

    @override
    def items_of(self, action: MachineAction) -> Sequence[Item]:
        scripts = self.run.settings.script_names
        names = {(command.script_name or "").casefold() for command in action.commands}
        if scripts and not self.run.settings.actions and not scripts & names:
            return ()
        return (Item(action),)

    @override
    def describe_plan(self) -> Iterator[str]:
        what = counted(len(self.current_plan.items), "new or changed machine action", "new or changed machine actions")
        yield f"Plan: {what}."

    @override
    def emit(self) -> Iterator[Emission]:
        for item in self.current_plan.items[: self.ABORT_AT_RECORD_COUNT]:
            yield Emission([(self, self.record(item.action))], [Part(self, item)])
            self.counts[item.action.status or "unknown"] += 1

    def record(self, action: MachineAction) -> dict[str, Any]:
        record: dict[str, Any] = dict.fromkeys(self.schema["properties"])
        extra: dict[str, Any] = {}
        for key, value in action.raw.items():
            column = _ALIASES.get(key) or snake_case(key)
            if column in record and column not in {"tenant_id", "extra"}:
                record[column] = record[column] if value is None else _column(column, value)
            elif not key.startswith("@"):
                extra[key] = value
        record["id"] = action.id
        record["tenant_id"] = self.run.credential.tenant_id
        record["creation_date_time_utc"] = record["creation_date_time_utc"] or action.creation
        record["last_update_date_time_utc"] = action.last_update
        record["extra"] = extra or None
        return record


def _column(column: str, value: Any) -> Any:
    if column in _TIME_COLUMNS:
        return timestamps.normalize(value)
    if column in _OBJECT_COLUMNS:
        return _object(value)
    if column == "commands":
        return [_command(entry) for entry in value] if isinstance(value, list) else None
    if column == "error_h_result":
        return _integer(value)
    return column_text(value)


def _command(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        return {"command": {"value": entry}}
    command = {snake_case(key): value for key, value in entry.items()}
    return {column: _COMMAND_COLUMNS.get(column, _as_is)(value) for column, value in command.items()}


def _as_is(value: Any) -> Any:
    return value


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _texts(value: Any) -> list[str] | None:
    return [text for text in map(column_text, value) if text] if isinstance(value, list) else None


def _object(value: Any) -> dict[str, Any] | None:
    return value if value is None or isinstance(value, dict) else {"value": value}


#: What makes a value fit its column of `commands`.
_COMMAND_COLUMNS: dict[str, Callable[[Any], Any]] = {
    "index": _integer,
    "start_time": timestamps.normalize,
    "end_time": timestamps.normalize,
    "command_status": column_text,
    "errors": _texts,
    "command": _object,
}
