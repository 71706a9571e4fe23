"""A stream of command results: which commands it wants, and what becomes of a result. `reading` does the reading."""

from __future__ import annotations

import abc
from functools import cached_property
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_defender_lr.planning import Item, command_key
from tap_defender_lr.streams.planned import PlannedStream
from tap_defender_lr.streams.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from tap_defender_lr.machine_action import MachineAction
    from tap_defender_lr.planning import StreamState
    from tap_defender_lr.settings import ConfiguredAction
    from tap_defender_lr.streams.outcome import Outcome
    from tap_defender_lr.streams.planned import Emission
    from tap_defender_lr.streams.written import WrittenStream


class CommandResultsStream(PlannedStream, abc.ABC):
    """Any number of records per command of a final action. All of them that are selected are read in one pass."""

    @abc.abstractmethod
    def records(self, item: Item, outcome: Outcome) -> Iterator[tuple[WrittenStream, dict[str, Any]]]:
        """The records that a command becomes, in this stream and in those that go with it. Counts them."""

    @property
    def wants_files(self) -> bool:
        """Whether collected files are to be fetched for this stream."""
        return False

    @override
    def needs(self, configured: ConfiguredAction, state: StreamState) -> bool:
        indexes = configured.command_indexes
        if any(r.action_id.lower() == configured.id and (indexes is None or r.index in indexes) for r in state.retry):
            return True
        if not super().needs(configured, state):
            return False
        return indexes is None or any(command_key(configured.id, index) not in state.done for index in indexes)

    @override
    def items_of(self, action: MachineAction) -> Sequence[Item] | None:
        if not action.is_final:
            return ()
        settings = self.run.settings
        if settings.actions:
            chosen = self._chosen_indexes.get(action.id.lower())
            commands = [command for command in action.commands if chosen is None or command.index in chosen]
        else:
            commands = [
                command
                for command in action.commands
                if not settings.script_names or (command.script_name or "").casefold() in settings.script_names
            ]
        return [Item(action, command) for command in commands]

    @cached_property
    def _chosen_indexes(self) -> dict[str, Container[int] | None]:
        """Configured action → the commands of it that are wanted, None for all."""
        return {entry.id: entry.command_indexes for entry in self.run.settings.actions}

    @property
    @override
    def read_with(self) -> Sequence[CommandResultsStream]:
        return self._reading.streams

    @cached_property
    def _reading(self) -> Reading:
        selected = [stream for stream in self._tap.streams.values() if stream.selected]
        return Reading(self.run, [stream for stream in selected if isinstance(stream, CommandResultsStream)])

    @override
    def describe_plan(self) -> Iterator[str]:
        return self._reading.describe()

    @override
    def emit(self) -> Iterator[Emission]:
        return self._reading.emissions(self.ABORT_AT_RECORD_COUNT, self.tick)

    @override
    def report_progress(self) -> None:
        self._reading.report_progress()
