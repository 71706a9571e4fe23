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
from tap_defender_lr.streams.planned import PlannedStream
from tap_defender_lr.text import counted
from tap_defender_lr.workers import OrderedWindow, finished, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from tap_defender_lr.machine_action import MachineAction
    from tap_defender_lr.settings import ConfiguredAction

OUTAGE_FAILURES = 5
"""So many different results failing in a row are an outage: the run stops instead of spending calls on the rest."""


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
        if configured.command_indexes is None:
            return super().needs(configured)
        done = self.saved_state.done
        return any(command_key(configured.id, index) not in done for index in configured.command_indexes)

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
    def emit(self, plan: Plan) -> Iterator[tuple[dict[str, Any], Item, bool]]:
        limit = self.ABORT_AT_RECORD_COUNT
        # The SDK's `--test` takes one record more than its limit: no call is spent on the others.
        items = plan.items if limit is None else plan.items[: limit + 1]
        self._total, self._handled, self._began = len(items), 0, time.monotonic()
        window = OrderedWindow(
            items,
            self._begin,
            size=self.run.settings.max_concurrency,
            lifetime=self.run.lifetime,
            tick=self.tick,
        )
        failures: list[tuple[dict[str, Any], Item, bool]] = []
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
                if item.retry is None:
                    failures.append((self._count(self.record(item, None, fetched)), item, advance))
                    if len(failures) >= OUTAGE_FAILURES:
                        raise ServiceError(
                            f"{OUTAGE_FAILURES} results in a row could not be read, the last one because of: "
                            f"{fetched.failed}. The service or the network seems to be down. Nothing is lost: "
                            "the next run continues here."
                        )
                elif item.retry.is_over(time.time()):
                    fetched = Fetched(failed=f"{fetched.failed}; given up after 3 days")
                    yield self._count(self.record(item, None, fetched)), item, advance
                else:
                    self.counts["still failing"] += 1
                continue
            yield from self._with_retry(plan, failures)
            status = None if fetched is not None else self.status_without_asking(item)
            yield self._count(self.record(item, status, fetched)), item, advance
        yield from self._with_retry(plan, failures)
        if not advance:
            raise TimeIsUpError

    def _begin(self, item: Item) -> Future[Fetched | None]:
        command = item.command
        if command is None or self.status_without_asking(item) is not None:
            return finished(None)
        return start(lambda: self.run.fetcher.fetch(item.action, command))

    def _with_retry(
        self, plan: Plan, failures: list[tuple[dict[str, Any], Item, bool]]
    ) -> Iterator[tuple[dict[str, Any], Item, bool]]:
        """Emit results that failed one by one, now that it is known that it is no outage."""
        for failure in failures:
            yield failure
            plan.failed(failure[1], time.time())
        failures.clear()

    def _count(self, record: dict[str, Any]) -> dict[str, Any]:
        self.counts[record["result_status"]] += 1
        return record

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
