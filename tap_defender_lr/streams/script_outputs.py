"""What scripts print as typed rows: a stream for each entry of `script_streams`, and two that tell how reading went.

- The stream itself has a row for each row that the script printed.
- `script_output_snapshots` has a row for each result that was read: with it, SQL tells which rows are current, also
  those of a device that printed none.
- `script_output_errors` has a row for each piece of output that became no row, and each cell that became null.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import typing as th
from singer_sdk.helpers.conform import TypeConformanceLevel
from typing_extensions import override

from tap_defender_lr.columns import Table
from tap_defender_lr.errors import TapError
from tap_defender_lr.parsing import parse
from tap_defender_lr.pieces import MAX_TEXT, Reject
from tap_defender_lr.planning import Item, StreamState, fingerprint
from tap_defender_lr.result_rows import MAX_ERRORS, ResultRows, bug
from tap_defender_lr.script_streams import RESERVED, column_problems, printed_properties, stream_schema
from tap_defender_lr.streams.command_results import CommandResultsStream
from tap_defender_lr.streams.outcome import status_without_asking
from tap_defender_lr.streams.written import WrittenStream
from tap_defender_lr.text import clean_text, column_text, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context
    from singer_sdk.singerlib import Catalog

    from tap_defender_lr.decoding import ScriptResult
    from tap_defender_lr.machine_action import Command, MachineAction
    from tap_defender_lr.pieces import Row
    from tap_defender_lr.run import Run
    from tap_defender_lr.script_streams import ScriptStream
    from tap_defender_lr.streams.outcome import Outcome

_ABOUT_THE_RESULT = (
    th.Property("machine_id", th.StringType, description="Defender's ID of the device."),
    th.Property("computer_dns_name", th.StringType, description="Name of the device when the action was started."),
    th.Property("script_name", th.StringType, description="Name of the script that ran."),
    th.Property("command_end_time", th.DateTimeType, description="When the command ended on the device."),
    th.Property(
        "last_update_date_time_utc", th.DateTimeType, description="When the action last changed. Replication key."
    ),
)
_KEY = (
    th.Property(
        "stream_name", th.StringType, required=True, description="The script stream, as `script_streams` names it."
    ),
    th.Property("machine_action_id", th.StringType, required=True, description="GUID of the machine action."),
    th.Property("command_index", th.IntegerType, required=True, description="Index of the command in it, from 0."),
)


class _CompanionStream(WrittenStream):
    """Written only while script streams are read; it has no state of its own."""

    replication_key = "last_update_date_time_utc"

    @override
    def get_records(self, context: Context | None) -> Iterable[dict[str, Any]]:
        return ()


class ScriptOutputErrorsStream(_CompanionStream):
    """One record per piece of output that became no row, and per cell that became null."""

    name = "script_output_errors"
    primary_keys = ("stream_name", "machine_action_id", "command_index", "error_index")
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        *_KEY,
        th.Property(
            "error_index", th.IntegerType, required=True, description="Counts the errors of one result, from 0."
        ),
        *_ABOUT_THE_RESULT,
        th.Property("row_index", th.IntegerType, description="Row that it belongs to; null if it is no row at all."),
        th.Property("column_name", th.StringType, description="Column that it concerns; null if it concerns the row."),
        th.Property("location", th.StringType, description="Where in the output it stands."),
        th.Property("reason", th.StringType, description="What is wrong with it."),
        th.Property("text", th.StringType, description="Its first 1,000 characters."),
    ).to_dict()


class ScriptOutputSnapshotsStream(_CompanionStream):
    """One record per result that a script stream has read."""

    name = "script_output_snapshots"
    primary_keys = ("stream_name", "machine_action_id", "command_index")
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        *_KEY,
        *_ABOUT_THE_RESULT,
        th.Property("row_count", th.IntegerType, description="Rows that this result became."),
        th.Property("error_count", th.IntegerType, description="Errors in it, also those without a row of their own."),
        th.Property(
            "complete",
            th.BooleanType,
            description="The whole output was read, and each key in it has its row: what is not in it has gone.",
        ),
        th.Property("succeeded", th.BooleanType, description="The verdict of the script; null when it is unknown."),
    ).to_dict()


@dataclass(frozen=True)
class Companions:
    """The two streams that go with all script streams."""

    errors: ScriptOutputErrorsStream
    snapshots: ScriptOutputSnapshotsStream


class ScriptOutputStream(CommandResultsStream):
    """One record per row that a script printed."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    """Cells fit their columns already; to make sure of it again would be most of the cost of a row."""

    @override
    def __init__(
        self,
        tap: Tap,
        run: Callable[[], Run],
        entry: ScriptStream,
        companions: Companions,
        properties: dict[str, dict[str, Any]],
    ) -> None:
        """A stream of the catalog.

        Args:
            tap: The tap.
            run: What all streams share.
            entry: The entry of `script_streams`.
            companions: Where errors and snapshots are written.
            properties: JSON schema of each printed column.
        """
        super().__init__(tap, run, schema=stream_schema(entry, properties), name=entry.name)
        self.primary_keys = entry.key_properties
        self.entry = replace(entry, properties=properties)
        self._companions = companions
        self._matching: dict[str | None, bool] = {}
        self._newest: dict[tuple[str, str], tuple[str, str]] = {}

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        """The columns are pinned by the catalog."""
        super().apply_catalog(catalog)
        pinned = catalog.get_stream(self.name)
        if pinned is not None:
            self._schema = pinned.schema.to_dict()
            properties = printed_properties(self._schema)
            for name, column in properties.items():
                for problem in column_problems(name, column):
                    raise TapError(f"The catalog's stream {self.name}: {problem}")
            self.entry = replace(self.entry, properties=properties, key_properties=tuple(self.primary_keys))

    @cached_property
    def _table(self) -> Table:
        return Table(self.entry, self.entry.properties or {})

    @override
    def items_of(self, action: MachineAction) -> Sequence[Item] | None:
        explicit = bool(self.run.settings.actions)
        if not explicit and not any(map(self._may_match, action.commands)) and (action.commands or action.is_final):
            return None
        items = []
        for item in super().items_of(action) or ():
            name = item.command.script_name if item.command else None
            if self._matches(name):
                items.append(replace(item, replaces=self._replaces(item)))
            elif explicit:  # remembered, so that the action is not asked for again
                items.append(replace(item, moot=True))
        return items

    @property
    @override
    def replaces_rows(self) -> bool:
        return bool(self.primary_keys) and "machine_action_id" not in self.primary_keys

    def _replaces(self, item: Item) -> tuple[str, str] | None:
        """Device and script, if the rows of a result replace those of an older one in the table."""
        command = item.command
        if not self.replaces_rows or command is None or item.action.machine_id is None:
            return None
        if status_without_asking(item.action, command) is not None:
            return None
        return item.action.machine_id, (command.script_name or "").casefold()

    @override
    def make_plan(self, actions: Iterable[MachineAction]) -> None:
        super().make_plan(actions)
        for replaced, age in self.current_plan.newest.items():
            self._newest[replaced] = max(self._newest.get(replaced, age), age)

    def _is_outdated(self, item: Item) -> bool:
        """Whether rows of a newer result were written already. Commands of one action never replace each other."""
        if item.replaces is None:
            return False
        newest = self._newest.get(item.replaces, item.age)
        return newest > item.age and newest[1] != item.action.id

    @property
    def _reads(self) -> str:
        """What the state belongs to: with another choice of scripts, the history has not been read."""
        return fingerprint(self.entry.script_name.casefold(), *sorted(self.run.settings.script_names))

    @property
    @override
    def saved_state(self) -> StreamState:
        return super().saved_state if self.stream_state.get("reads") == self._reads else StreamState()

    @override
    def state(self) -> dict[str, Any]:
        return {**super().state(), "reads": self._reads}

    @override
    def complete(self) -> None:
        # A stream of a script that seldom runs must not make every run list all that the service has.
        self.current_plan.completed()

    def _may_match(self, command: Command) -> bool:
        """Also true for a command that does not tell its script yet."""
        name = command.script_name
        return self._matches(name) or (name is None and command.type in {None, "RunScript"})

    def _matches(self, script_name: str | None) -> bool:
        if script_name not in self._matching:
            self._matching[script_name] = self.entry.matches(script_name)
        return self._matching[script_name]

    @override
    def records(self, item: Item, outcome: Outcome) -> Iterator[tuple[WrittenStream, dict[str, Any]]]:
        script, command = outcome.script, item.command
        if script is None or command is None:  # `live_response_results` tells why
            self.counts[outcome.status] += 1
            return
        if self._is_outdated(item):
            self.counts["left out, since a newer result of the same device and script came first"] += 1
            return
        if item.replaces is not None:
            self._newest[item.replaces] = max(self._newest.get(item.replaces, item.age), item.age)
        about = {
            "machine_action_id": item.action.id,
            "command_index": command.index,
            "machine_id": item.action.machine_id,
            "computer_dns_name": column_text(item.action.raw.get("computerDnsName")),
            "script_name": command.script_name or script.script_name,
            "command_end_time": item.action.end_time(command),
            "last_update_date_time_utc": item.action.last_update,
        }
        pieces, succeeded = self._parse(outcome, script)
        absent = RESERVED.difference(self.schema["properties"])
        rows = ResultRows(self._table, self.primary_keys, {**about, "succeeded": succeeded}, absent=absent)
        companions = self._companions
        for record in rows.read(pieces):
            if isinstance(record, dict):
                yield self, record
            elif companions.errors.selected:
                yield companions.errors, self._error(about, rows.errors - 1, record)
        if rows.errors > MAX_ERRORS and companions.errors.selected:
            more = Reject(f"and {counted(rows.errors - MAX_ERRORS, 'more error', 'more errors')} in this result", "")
            yield companions.errors, self._error(about, MAX_ERRORS, more)
        if companions.snapshots.selected:
            snapshot = {
                "stream_name": self.name,
                **about,
                "row_count": rows.rows,
                "error_count": rows.errors,
                "complete": rows.complete,
                "succeeded": succeeded,
            }
            yield companions.snapshots, snapshot
        self.counts.update(results=1, rows=rows.rows, errors=rows.errors)

    def _parse(self, outcome: Outcome, script: ScriptResult) -> tuple[Iterable[Row | Reject], bool | None]:
        """The pieces of the output, and the verdict of the script."""
        text, cut = script.script_output, script.script_output_truncated
        if outcome.status != "fetched":
            return [Reject(f"the result could not be read: {outcome.error}", (text or "")[:MAX_TEXT])], None
        try:
            parsed = parse(text, self.entry, cut=cut)
        except Exception as error:  # noqa: BLE001  one output must never stop the others
            return [bug(error)], None
        return parsed.pieces, parsed.succeeded

    def _error(self, about: Mapping[str, Any], index: int, reject: Reject) -> dict[str, Any]:
        return {
            "stream_name": self.name,
            **about,
            "error_index": index,
            "row_index": reject.row_index,
            "column_name": reject.column,
            "location": reject.location,
            "reason": reject.reason,
            "text": clean_text(reject.text) or None,
        }

    @override
    def describe_counts(self) -> str:
        results = counted(self.counts["results"], "result", "results")
        line = f"{counted(self.counts['rows'], 'row', 'rows')} from {results}"
        if self.counts["errors"]:
            line += f", {counted(self.counts['errors'], 'error', 'errors')} (see {self._companions.errors.name})"
        others = Counter({kind: n for kind, n in self.counts.items() if kind not in {"results", "rows", "errors"}})
        return ", ".join([line, *(f"{count:,} {kind}" for kind, count in others.most_common())])
