"""What all streams have in common: plan → records → state, and how a run ends in the middle.

This is also the one place where private methods of the SDK are overridden; `tests/test_sdk_contract.py` fails when
the SDK changes what they rely on.
"""

from __future__ import annotations

import abc
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import Stream
from typing_extensions import override

from tap_defender_lr import planning
from tap_defender_lr.errors import InterruptedRunError, TapError, TimeIsUpError
from tap_defender_lr.planning import Item, Plan, StreamState
from tap_defender_lr.stdout import exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context

    from tap_defender_lr.machine_action import MachineAction
    from tap_defender_lr.run import Run
    from tap_defender_lr.settings import ConfiguredAction

_STATE_RECORDS = 16
"""A process that is killed has paid in vain for these, for what its workers were at (`max_concurrency`) and for the
few results that waited for their turn: together no more than `max_concurrency` + 25."""
_STATE_SECONDS = 30.0
_PROGRESS_SECONDS = 30.0


@dataclass(frozen=True)
class Emission:
    """A record on its way out.

    Attributes:
        kind: What it is counted as in the summary.
        advance: Every item before this one was emitted, so that the bookmark may move.
        failed: The item shall be tried again in the next run.
    """

    record: dict[str, Any]
    item: Item
    kind: str
    advance: bool = True
    failed: bool = False


class PlannedStream(Stream, abc.ABC):
    """A flat, sorted, incremental stream that emits the items of a plan."""

    replication_key = "last_update_date_time_utc"
    is_sorted = True
    check_sorted = False
    """Items that failed in an earlier run come first, whatever their last update."""
    unit: ClassVar[tuple[str, str]]
    """What one record is, and what several are, for a person."""

    @override
    def __init__(self, tap: Tap, run: Callable[[], Run]) -> None:
        super().__init__(tap)
        self._run = run
        self.counts: Counter[str] = Counter()
        """Records of this run by kind, for the summary."""
        self.plan: Plan | None = None
        self._unsaved = 0
        self._last_state = self._last_progress = time.monotonic()

    @abc.abstractmethod
    def items_of(self, action: MachineAction) -> Sequence[Item]:
        """The items of one action, none if it is not ready or the settings leave it out."""

    @abc.abstractmethod
    def emit(self, plan: Plan) -> Iterator[Emission]:
        """Yield the records of the plan's items."""

    @abc.abstractmethod
    def describe_plan(self, plan: Plan) -> str:
        """One line for a person: what is going to be read, and what it costs."""

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

    def needs(self, configured: ConfiguredAction) -> bool:
        return planning.action_key(configured.id) not in self.saved_state.done

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
        for actions in self.run.batches(self.ABORT_AT_RECORD_COUNT):
            self.plan = plan = planning.make_plan(
                actions,
                self.saved_state,
                self.items_of,
                now=time.time(),
                explicit=bool(self.run.settings.actions),
            )
            for lost in plan.lost:
                self.logger.warning(
                    "Command %d of action %s failed for 3 days and is not listed any more: it is given up.",
                    lost.index,
                    lost.action_id,
                )
            self.logger.info("%s", self.describe_plan(plan))
            for emission in self.emit(plan):
                yield emission.record
                # The SDK has written the record by now.
                plan.emitted(emission.item, advance=emission.advance)
                if emission.failed:
                    plan.failed(emission.item, time.time())
                self.counts[emission.kind] += 1
                self._unsaved += 1
                if self._unsaved >= _STATE_RECORDS:
                    self.save_state()
                self.tick()
                self.run.lifetime.raise_if_interrupted()
            self.save_state()
            if self.ABORT_AT_RECORD_COUNT is not None:
                return  # `--test` wants to see a record, not to pay for a second batch

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

    def save_state(self) -> None:
        """Write a STATE message with which the next run continues exactly here."""
        if self.plan is not None and self.is_incremental:
            self.stream_state.update({"replication_key": self.replication_key, **self.plan.state()})
        self._unsaved = 0
        self._last_state = time.monotonic()
        self._tap.state_writer.write_state(self._tap.state)

    # Private methods of the SDK.

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> None:
        """No signpost in state: it only serves unsorted streams."""

    @override
    def _write_starting_replication_value(self, context: Context | None) -> None:
        """Not used: the SDK would compare the bookmark (a last update) with `start_date` (a creation time)."""

    @override
    def _increment_stream_state(self, latest_record: dict[str, Any], *, context: Context | None = None) -> None:
        """The plan knows better than the last record: items that are tried again must not move the bookmark back."""
