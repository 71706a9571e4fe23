"""`live_response_results`: a record for each command of each final action, with its result, or why there is none."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import typing as th
from typing_extensions import override

from tap_defender_lr import timestamps
from tap_defender_lr.streams.command_results import CommandResultsStream
from tap_defender_lr.text import column_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_defender_lr.planning import Item
    from tap_defender_lr.streams.outcome import Outcome
    from tap_defender_lr.streams.written import WrittenStream

_ABOUT_FILES = ("result_size", "result_sha256", "file_size", "file_sha256", "file_url")
"""A file is fetched only if one of these columns is selected."""


class LiveResponseResultsStream(CommandResultsStream):
    """One record per command of a final Live Response action."""

    name = "live_response_results"
    primary_keys = ("machine_action_id", "command_index")
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("machine_action_id", th.StringType, required=True, description="GUID of the machine action."),
        th.Property("command_index", th.IntegerType, required=True, description="Index of the command in it, from 0."),
        th.Property("tenant_id", th.StringType, description="GUID of the Entra tenant."),
        th.Property("machine_id", th.StringType, description="Defender's ID of the device."),
        th.Property("computer_dns_name", th.StringType, description="Name of the device when the action was started."),
        th.Property(
            "requestor", th.StringType, description="Who started it: a user's UPN, or an app's ID or display name."
        ),
        th.Property("requestor_comment", th.StringType, description="The comment given when it was started."),
        th.Property("request_source", th.StringType, description="`PublicApi` for actions started through the API."),
        th.Property(
            "action_status", th.StringType, description="`Succeeded`, `Failed`, `TimeOut`, `Cancelled`; more may come."
        ),
        th.Property("creation_date_time_utc", th.DateTimeType, description="When the action was created."),
        th.Property(
            "last_update_date_time_utc", th.DateTimeType, description="When the action last changed. Replication key."
        ),
        th.Property("command_type", th.StringType, description="`RunScript`, `GetFile` or `PutFile`; more may come."),
        th.Property("command_status", th.StringType, description="State of this command, such as `Completed`."),
        th.Property(
            "command_params",
            th.ObjectType(additional_properties=True),
            description="Parameters of the command, key → value, such as `ScriptName` and `Args`.",
        ),
        th.Property("command_errors", th.ArrayType(th.StringType), description="What the service says went wrong."),
        th.Property("command_start_time", th.DateTimeType, description="When the command started on the device."),
        th.Property("command_end_time", th.DateTimeType, description="When it ended on the device."),
        th.Property(
            "result_status",
            th.StringType,
            description=(
                "`fetched`, `no_result`, `not_run`, `skipped`, `unavailable`, `unreadable` or `failed`: see the table."
            ),
        ),
        th.Property("result_error", th.StringType, description="Why there is no result, or what is wrong with it."),
        th.Property("script_name", th.StringType, description="Name of the script that ran."),
        th.Property(
            "exit_code", th.IntegerType, description="Exit code as the agent reports it; 0 does not prove success."
        ),
        th.Property(
            "script_output",
            th.StringType,
            description="Standard output, without NUL and without the transcript line, else as printed.",
        ),
        th.Property("script_errors", th.StringType, description="Standard error."),
        th.Property("script_output_truncated", th.BooleanType, description="`script_output` was cut."),
        th.Property("script_errors_truncated", th.BooleanType, description="`script_errors` was cut."),
        th.Property(
            "transcript_path", th.StringType, description="Where PowerShell left its transcript on the device."
        ),
        th.Property("result_size", th.IntegerType, description="Bytes of the result as downloaded."),
        th.Property("result_sha256", th.StringType, description="SHA-256 of the result as downloaded."),
        th.Property("file_name", th.StringType, description="Name of a file that GetFile collects, as on the device."),
        th.Property("file_size", th.IntegerType, description="Bytes of the collected file, unpacked."),
        th.Property("file_sha256", th.StringType, description="SHA-256 of the collected file, unpacked."),
        th.Property("file_url", th.StringType, description="Where the collected file was stored (`files_url`)."),
    ).to_dict()

    @cached_property
    def scripts(self) -> Counter[str]:
        """Script → its results in this run."""
        return Counter()

    @property
    @override
    def wants_files(self) -> bool:
        if self.run.settings.files_url is None or self.ABORT_AT_RECORD_COUNT is not None:
            return False
        return any(self.mask["properties", column] for column in _ABOUT_FILES)

    @override
    def records(self, item: Item, outcome: Outcome) -> Iterator[tuple[WrittenStream, dict[str, Any]]]:
        self.counts[outcome.status] += 1
        if outcome.script is not None and item.command is not None and item.command.script_name:
            self.scripts[item.command.script_name] += 1
        yield self, self.record(item, outcome)

    def record(self, item: Item, outcome: Outcome) -> dict[str, Any]:
        record = {**dict.fromkeys(self.schema["properties"]), **self._envelope(item)}
        record |= {"result_status": outcome.status, "result_error": outcome.error}
        record |= {"result_size": outcome.size, "result_sha256": outcome.sha256}
        if (file := outcome.file) is not None:
            about = {"file_name": file.name, "file_size": file.size, "file_sha256": file.sha256, "file_url": file.url}
            return record | about
        script = outcome.script
        if script is None:
            return record
        return {
            **record,
            "script_name": script.script_name or record["script_name"],
            "exit_code": script.exit_code,
            "script_output": script.script_output,
            "script_errors": script.script_errors,
            "script_output_truncated": script.script_output_truncated,
            "script_errors_truncated": script.script_errors_truncated,
            "transcript_path": script.transcript_path,
        }

    def _envelope(self, item: Item) -> dict[str, Any]:
        """What is known of a command without its result."""
        action, command, raw = item.action, item.command, item.action.raw
        assert command is not None  # noqa: S101  this stream's items all have one
        details = action.details(command)
        return {
            "machine_action_id": action.id,
            "command_index": command.index,
            "tenant_id": self.run.credential.tenant_id,
            "machine_id": action.machine_id,
            "computer_dns_name": column_text(raw.get("computerDnsName")),
            "requestor": column_text(raw.get("requestor")),
            "requestor_comment": column_text(raw.get("requestorComment")),
            "request_source": column_text(raw.get("requestSource")),
            "action_status": action.status,
            "creation_date_time_utc": timestamps.normalize(raw.get("creationDateTimeUtc")),
            "last_update_date_time_utc": action.last_update,
            "command_type": command.type,
            "command_status": command.status,
            "command_params": details.params,
            "command_errors": details.errors,
            "command_start_time": details.start_time,
            "command_end_time": details.end_time,
            "script_name": command.script_name,
            "file_name": command.file_name,
        }
