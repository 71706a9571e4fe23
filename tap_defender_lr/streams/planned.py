"""A stream with a plan: plan → records → state, and how a run ends in the middle."""

from __future__ import annotations

import abc
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_defender_lr import planning
from tap_defender_lr.errors import InterruptedRunError, TapError, TimeIsUpError
from tap_defender_lr.planning import Item, Plan, StreamState
from tap_defender_lr.stdout import exit_code
from tap_defender_lr.streams.written import WrittenStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context

    from tap_defender_lr.machine_action import MachineAction
    from tap_defender_lr.run import Run
    from tap_defender_lr.settings import ConfiguredAction

_STATE_RESULTS = 16
"""A process that is killed has paid in vain for these, for what its workers were at (`max_concurrency`) and for the
few results that waited for their turn: together no more than `max_concurrency` + 25."""
_STATE_SECONDS = 30.0
_PROGRESS_SECONDS = 30.0


@dataclass(frozen=True)
class Part:
    """What one result means to one stream. `failed`: it shall be tried again in the next run."""

    stream: PlannedStream
    item: Item
    failed: bool = False


@dataclass(frozen=True)
class Emission:
    """The records that one result becomes, each with the stream it belongs to, and the items that are then done."""

    records: Iterable[tuple[WrittenStream, dict[str, Any]]]
    parts: Sequence[Part]


class PlannedStream(WrittenStream, abc.ABC):
    """A flat, sorted, incremental stream that emits the items of a plan."""

    replication_key = "last_update_date_time_utc"
    is_sorted = True
    check_sorted = False
    """Items that failed in an earlier run come first, whatever their last update."""

    @override
    def __init__(
        self, tap: Tap, run: Callable[[], Run], *, schema: dict[str, Any] | None = None, name: str | None = None
    ) -> None:
        super().__init__(tap, schema=schema, name=name)
        self._run = run
        self.counts: Counter[str] = Counter()
        """Records of this run by kind, for the summary."""
        self.plan: Plan | None = None
        self._unsaved = 0
        self._last_state = self._last_progress = time.monotonic()

    @abc.abstractmethod
    def items_of(self, action: MachineAction) -> Sequence[Item] | None:
        """The items of one action, none if it is not ready, None if the stream has nothing to do with it."""

    @abc.abstractmethod
    def emit(self) -> Iterator[Emission]:
        """Yield what the plan's items become."""

    @abc.abstractmethod
    def describe_plan(self) -> Iterator[str]:
        """Lines for a person: what is going to be read, and what it costs."""

    @property
    def replaces_rows(self) -> bool:
        """Whether the rows of an item may take the place of those of an older one."""
        return False

    @property
    def read_with(self) -> Sequence[PlannedStream]:
        """The streams that are read in one pass with this one, itself among them."""
        return [self]

    @property
    def run(self) -> Run:
        """What the streams share. Discovery has no settings, so it is only made when a run begins."""
        return self._run()

    @property
    def is_incremental(self) -> bool:
        return self.replication_method == "INCREMENTAL"

    @property
    def saved_state(self) -> StreamState:
        """What earlier runs left; nothing when the catalog asks for FULL_TABLE."""
        return StreamState.from_state(self.stream_state if self.is_incremental else {})

    def list_from(self) -> str | None:
        return self.saved_state.list_from(self.run.settings.lookback_days)

    def needs(self, configured: ConfiguredAction, state: StreamState) -> bool:
        return planning.action_key(configured.id) not in state.done

    @override
    def get_records(self, context: Context | None) -> Iterable[dict[str, Any]]:
        """The records of the plan. A failure of the run ends the process with its exit code, after the last STATE."""
        try:
            yield from self._records()
        except TimeIsUpError:
            self.logger.info(
                "`max_run_minutes` is over, or would be before the next call is possible: the next run continues here."
            )
            self.save_state()
        except InterruptedRunError:
            self.save_state()
            number = self.run.lifetime.signal_number or 0
            self.logger.info("Stopped by a signal: the next run continues here.")
            raise SystemExit(exit_code(number)) from None
        except TapError as error:
            self.save_state()
            raise SystemExit(str(error)) from None  # exit code 1, and the sentence comes last in the log
        except Exception:
            self.save_state()
            raise

    def _records(self) -> Iterator[dict[str, Any]]:
        self.run.lifetime.raise_if_interrupted()
        if self.plan is not None:  # another stream has written for this one
            return
        for actions in self.run.batches(self.ABORT_AT_RECORD_COUNT):
            for stream in self.read_with:
                stream.make_plan(actions)
            for line in self.describe_plan():
                self.logger.info("%s", line)
            for emission in self.emit():
                with self.writer.held():
                    yield from self._write_all(emission)
                # The SDK has written the records by now.
                for part in emission.parts:
                    part.stream.finish(part)
                self._unsaved += 1
                if self._unsaved >= _STATE_RESULTS:
                    self.save_state()
                self.tick()
                self.run.lifetime.raise_if_interrupted()
            if self.ABORT_AT_RECORD_COUNT is not None:
                return  # `--test` wants to see a record, not to pay for a second batch
            for stream in self.read_with:
                stream.complete()
            self.save_state()

    def _write_all(self, emission: Emission) -> Iterator[dict[str, Any]]:
        """Yield this stream's records for the SDK to write, and write the others."""
        own: dict[str, Any] | None = None
        for owner, record in emission.records:
            # The output of one script may become hundreds of thousands of rows.
            self.run.lifetime.raise_if_interrupted()
            if owner is not self:
                owner.write(record)
            elif self.ABORT_AT_RECORD_COUNT is None:
                yield record
            else:
                own = own or record  # the SDK stops at the second one, and the other streams would get none
        if own is not None:
            yield own

    def complete(self) -> None:
        """Everything that was planned has been emitted."""

    @property
    def current_plan(self) -> Plan:
        assert self.plan is not None  # noqa: S101  a pass begins with making plans
        return self.plan

    def make_plan(self, actions: Iterable[MachineAction]) -> None:
        """Plan what of these actions is to be emitted."""
        self.plan = planning.make_plan(
            actions,
            self.saved_state,
            self.items_of,
            now=time.time(),
            explicit=bool(self.run.settings.actions),
            replaces=self.replaces_rows,
        )
        for lost in self.plan.lost:
            self.logger.warning(
                "Command %d of action %s failed for 3 days and is not listed any more: it is given up.",
                lost.index,
                lost.action_id,
            )

    def finish(self, part: Part) -> None:
        """All records of this item were written."""
        self.current_plan.emitted(part.item)
        if part.failed:
            self.current_plan.failed(part.item, time.time())

    def describe_counts(self) -> str:
        """What came of the stream in this run, for the summary."""
        return ", ".join(f"{count:,} {kind}" for kind, count in self.counts.most_common()) or "nothing new"

    def tick(self) -> None:
        """Called often, also while waiting: writes state and progress when it is time."""
        now = time.monotonic()
        if self._unsaved and now - self._last_state >= _STATE_SECONDS:
            self.save_state()
        if now - self._last_progress >= _PROGRESS_SECONDS:
            self._last_progress = now
            self.report_progress()

    def report_progress(self) -> None:
        """A line in the log for a person who waits."""

    def state(self) -> dict[str, Any]:
        """What the next run has to know of this stream."""
        return self.current_plan.state()

    def save_state(self) -> None:
        """Write a STATE message with which the next run continues exactly here."""
        for stream in self.read_with:
            if stream.plan is not None and stream.is_incremental:
                stream.stream_state.update({"replication_key": stream.replication_key, **stream.state()})
        self._unsaved = 0
        self._last_state = time.monotonic()
        self._tap.state_writer.write_state(self._tap.state)
