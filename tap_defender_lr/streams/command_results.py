"""A stream of command results: which commands to read, and reading them. What a result becomes is up to the stream."""

from __future__ import annotations

import abc
import math
import time
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_defender_lr.errors import ServiceError, TimeIsUpError
from tap_defender_lr.fetching import Fetched
from tap_defender_lr.planning import Item, Plan, command_key
from tap_defender_lr.streams.planned import Emission, PlannedStream
from tap_defender_lr.text import counted
from tap_defender_lr.workers import OrderedWindow, finished, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from tap_defender_lr.machine_action import MachineAction
    from tap_defender_lr.settings import ConfiguredAction

OUTAGE_FAILURES = 5
"""So many different results failing in a row are an outage: the run stops instead of spending calls on the rest. Of
those that failed in earlier runs, no more are tried after so many have failed again."""
_NOT_TRIED = Fetched(failed="not tried in this run")


class CommandResultsStream(PlannedStream, abc.ABC):
    """One or more records per command of a final action."""

    @abc.abstractmethod
    def record(self, item: Item, status: str | None, fetched: Fetched | None) -> dict[str, Any]:
        """The record of one command.

        Args:
            item: The command.
            status: The `result_status` when the service was not asked, else None.
            fetched: What the service gave, None when it was not asked.
        """

    @override
    def needs(self, configured: ConfiguredAction) -> bool:
        state, indexes = self.saved_state, configured.command_indexes
        if any(r.action_id.lower() == configured.id and (indexes is None or r.index in indexes) for r in state.retry):
            return True
        if not super().needs(configured):
            return False
        return indexes is None or any(command_key(configured.id, index) not in state.done for index in indexes)

    @override
    def items_of(self, action: MachineAction) -> Sequence[Item]:
        if not action.is_final:
            return ()
        settings = self.run.settings
        if settings.actions:
            chosen = {entry.id: entry.command_indexes for entry in settings.actions}.get(action.id.lower())
            commands = [command for command in action.commands if chosen is None or command.index in chosen]
        else:
            commands = [
                command
                for command in action.commands
                if not settings.script_names or (command.script_name or "").casefold() in settings.script_names
            ]
        return [Item(action, command_key(action.id, command.index), command) for command in commands]

    def status_without_asking(self, item: Item) -> str | None:
        """The `result_status` of a command whose result nobody needs to ask for, else None."""
        command = item.command
        assert command is not None  # noqa: S101  this stream's items all have one
        if item.action.never_ran(command):
            return "not_run"
        return {"PutFile": "no_result", "GetFile": "skipped"}.get(command.type or "")

    @override
    def describe_plan(self, plan: Plan) -> str:
        settings = self.run.settings
        if not plan.items:
            line = "Plan: no new results to read"
        else:
            line = f"Plan: {counted(len(plan.items), *self.unit)} to read"
        again = sum(item.retry is not None for item in plan.items)
        if again:
            line += f", {again:,} of them failed in an earlier run"
        calls = sum(self.status_without_asking(item) is None for item in plan.items)
        if plan.items:
            line += f"; {counted(calls, 'call for a download link', 'calls for download links')}"
        if calls:
            line += (
                f", {duration(self.run.ledger.forecast(calls))} at {settings.calls_per_minute:,} calls a minute and "
                f"{settings.calls_per_hour:,} an hour"
            )
        if plan.waiting:
            line += f"; {counted(plan.waiting, 'action waits for its device', 'actions wait for their device')}"
        return f"{line}."

    @override
    def emit(self, plan: Plan) -> Iterator[Emission]:
        items = plan.items[: self.ABORT_AT_RECORD_COUNT]  # the SDK's `--test` wants one record, and few calls
        self._total, self._handled, self._began = len(items), 0, time.monotonic()
        self._failing_retries = 0
        fetcher, patient = self.run.fetcher, self.ABORT_AT_RECORD_COUNT is None

        def begin(item: Item) -> Future[Fetched | None]:
            command = item.command
            if command is None or self.status_without_asking(item) is not None:
                return finished(None)
            if item.retry is not None and self._failing_retries >= OUTAGE_FAILURES:
                return finished(_NOT_TRIED)
            return start(lambda: fetcher.fetch(item.action, command, patient=patient))

        window = OrderedWindow(
            items,
            begin,
            size=self.run.settings.max_concurrency,
            lifetime=self.run.lifetime,
            tick=self.tick,
        )
        failures: list[Emission] = []
        advance = True
        for item, future in window:
            try:
                fetched = future.result()
            except TimeIsUpError:
                # Results behind this one may have arrived already; they are emitted, but the bookmark stays here.
                window.close()
                advance = False
                continue
            self._handled += 1
            if fetched is not None and fetched.failed is not None:
                if item.retry is not None:
                    yield from self._failed_again(item, fetched)
                else:
                    failures.append(Emission(self.record(item, None, fetched), item, "failed", advance, failed=True))
                    self._stop_if_outage(failures)
                continue
            # It is no outage: the service answers again.
            yield from failures
            failures.clear()
            status = None if fetched is not None else self.status_without_asking(item)
            record = self.record(item, status, fetched)
            yield Emission(record, item, record["result_status"], advance)
        yield from failures
        if not advance:
            raise TimeIsUpError

    def _failed_again(self, item: Item, fetched: Fetched) -> Iterator[Emission]:
        """A result that failed in an earlier run, too: no news, until it is given up."""
        if fetched is not _NOT_TRIED:
            self._failing_retries += 1
            if item.retry is not None and item.retry.is_over(time.time()):
                last = Fetched(failed=f"{fetched.failed}; given up after 3 days")
                yield Emission(self.record(item, None, last), item, "given up")
                return
        self.counts["still failing"] += 1

    @staticmethod
    def _stop_if_outage(failures: Sequence[Emission]) -> None:
        if len(failures) >= OUTAGE_FAILURES:
            raise ServiceError(
                f"{OUTAGE_FAILURES} results in a row could not be read, the last one because of: "
                f"{failures[-1].record['result_error']}. The service or the network seems to be down. Nothing is lost: "
                "the next run continues here."
            )

    @override
    def report_progress(self) -> None:
        if self.plan is None:
            return
        left = self._total - self._handled
        by_quota = self.run.ledger.forecast(left)
        by_pace = left * (time.monotonic() - self._began) / self._handled if self._handled else 0.0
        self.logger.info(
            "Progress: %s of %s %s, %s left.",
            f"{self._handled:,}",
            f"{self._total:,}",
            self.unit[1],
            duration(max(by_quota, by_pace)),
        )


def duration(seconds: float) -> str:
    """Rounded as a person would say it."""
    if seconds < 60:
        return "less than a minute"
    minutes = math.ceil(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"about {minutes} min"
    return f"about {hours} h {rest} min" if rest else f"about {hours} h"
