"""One pass over the results that several streams want: each is fetched once, and all streams move on together."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from dataclasses import dataclass
from heapq import merge
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING

from tap_defender_lr.errors import ServiceError, TimeIsUpError
from tap_defender_lr.fetching import NOT_TRIED, Fetched
from tap_defender_lr.machine_action import GET_FILE
from tap_defender_lr.streams.outcome import Outcome, status_without_asking
from tap_defender_lr.streams.planned import Emission, Part
from tap_defender_lr.text import counted, in_bytes
from tap_defender_lr.workers import OrderedWindow, finished, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from tap_defender_lr.machine_action import Command, MachineAction
    from tap_defender_lr.planning import Item
    from tap_defender_lr.run import Run
    from tap_defender_lr.streams.command_results import CommandResultsStream

OUTAGE_FAILURES = 5
"""So many different results failing in a row are an outage: the run stops instead of spending calls on the rest. Of
those that failed in earlier runs, no more are tried after so many have failed again."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A command whose result is wanted, and by whom.

    Attributes:
        status: Its `result_status` if nobody needs to ask for it.
        is_retry: Nobody wants it for the first time.
    """

    action: MachineAction
    command: Command
    wanted: tuple[tuple[CommandResultsStream, Item], ...]
    status: str | None
    is_retry: bool

    @property
    def key(self) -> str:
        return self.wanted[0][1].fingerprint

    @property
    def is_file(self) -> bool:
        """Whether it takes as long as gigabytes take."""
        return self.command.type == GET_FILE and self.status is None

    @property
    def has_failed_before(self) -> bool:
        return any(item.retry is not None for _, item in self.wanted)


class Reading:
    """Reads what the plans of several streams hold.

    Args:
        run: What all streams share.
        streams: All of them have made their plan before anything else is asked of this object.
    """

    def __init__(self, run: Run, streams: Sequence[CommandResultsStream]) -> None:
        self.streams = streams
        self._run = run
        self._total = self._handled = self._failing_retries = self._succeeded = 0
        self._succeeded_before: dict[str, int] = {}
        self._began = time.monotonic()

    def _jobs(self) -> Iterator[_Job]:
        """What the plans hold, each command once: what failed in earlier runs, then the rest in the order of the plans.

        A first run may have millions of them, so that each is made when its turn comes.
        """
        failed: dict[str, list[tuple[CommandResultsStream, Item]]] = {}
        for stream in self.streams:
            for item in stream.current_plan.again:
                failed.setdefault(item.fingerprint, []).append((stream, item))
        # One that has failed for some streams and is new to others has its turn as a new one.
        new = chain.from_iterable(stream.current_plan.new for stream in self.streams) if failed else ()
        shared = {item.fingerprint for item in new if item.fingerprint in failed}
        for parts in sorted(failed.values(), key=lambda parts: parts[0][1].order):
            if parts[0][1].fingerprint not in shared:
                yield self._job(parts, is_retry=True)
        for _, group in groupby(merge(*map(self._new, range(len(self.streams)))), itemgetter(0)):
            wanted = [(self.streams[number], item) for _, number, item in group]
            if failed:
                wanted = [*failed.get(wanted[0][1].fingerprint, ()), *wanted]
            yield self._job(wanted, is_retry=False)

    def _new(self, number: int) -> Iterator[tuple[tuple[str, str, int], int, Item]]:
        """What a stream wants for the first time, each with its place in the order of all streams."""
        return ((item.order, number, item) for item in self.streams[number].current_plan.new)

    def _job(self, wanted: Sequence[tuple[CommandResultsStream, Item]], *, is_retry: bool) -> _Job:
        action, command = wanted[0][1].action, wanted[0][1].command
        assert command is not None  # noqa: S101  items of results all have one
        files = command.type == GET_FILE and any(stream.wants_files for stream, _ in wanted)
        return _Job(action, command, tuple(wanted), status_without_asking(action, command, files=files), is_retry)

    def describe(self) -> Iterator[str]:
        """What is going to be read, for whom, and what it costs."""
        settings = self._run.settings
        kinds = Counter((job.status is None, job.is_file, job.is_retry) for job in self._jobs())
        self._total = kinds.total()
        calls, files, again = (sum(n for kind, n in kinds.items() if kind[place]) for place in range(3))
        total = self._total
        line = f"Plan: {counted(total, 'result', 'results')} to read" if total else "Plan: no new results to read"
        if again:
            line += f", {again:,} of them failed in an earlier run"
        if total:
            line += f"; {counted(calls, 'call for a download link', 'calls for download links')}"
        if files:
            line += f" ({counted(files, 'file', 'files')} among them)"
        if calls:
            line += (
                f", {duration(self._run.ledger.forecast(calls))} at {settings.calls_per_minute:,} calls a minute and "
                f"{settings.calls_per_hour:,} an hour"
            )
        waiting = max(stream.current_plan.waiting for stream in self.streams)
        if waiting:
            line += f"; {counted(waiting, 'action waits for its device', 'actions wait for their device')}"
        yield f"{line}."
        if total and len(self.streams) > 1:
            wishes = (f"{stream.name} {len(stream.current_plan.items):,}" for stream in self.streams)
            yield f"Each is fetched once, whoever wants it: {', '.join(wishes)}."

    def emissions(self, limit: int | None, tick: Callable[[], None]) -> Iterator[Emission]:
        """Fetch the results and yield what they become.

        Args:
            limit: How many results are read at most; the SDK's `--test` wants one record, and few calls.
            tick: Called now and then while waiting.
        """
        jobs = islice(self._jobs(), limit)
        self._handled, self._began = 0, time.monotonic()
        self._failing_retries = 0
        window = OrderedWindow(
            jobs,
            lambda job: self._begin(job, patient=limit is None),
            size=self._run.settings.max_concurrency,
            lifetime=self._run.lifetime,
            tick=tick,
            is_long=lambda job: job.is_file,
            held=lambda fetched: fetched.held if fetched else 0,
        )
        failures: list[Emission] = []
        time_is_up = False
        for job, future in window:
            try:
                fetched = future.result()
            except TimeIsUpError:  # results behind this one may have arrived already: they are emitted all the same
                window.close()
                time_is_up = True
                continue
            self._handled += 1
            if fetched is not None and fetched.failed is not None:
                emission = self._failed(job, fetched)
                if emission.parts and (job.has_failed_before or fetched.in_store or self._others_came(job)):
                    yield emission  # it says nothing about the service
                elif emission.parts:
                    failures.append(emission)
                    _stop_if_outage(failures, fetched)
                continue
            if fetched is None:  # nobody was asked, so it does not tell whether the service answers
                outcome = Outcome(job.status or "")
            else:
                self._succeeded += 1
                yield from failures
                failures.clear()
                outcome = Outcome.of(fetched, self._run.settings.max_output_bytes)
            yield Emission(
                chain.from_iterable(stream.records(item, outcome) for stream, item in job.wanted),
                [Part(stream, item) for stream, item in job.wanted],
            )
        yield from failures
        if time_is_up:
            raise TimeIsUpError

    def _begin(self, job: _Job, *, patient: bool) -> Future[Fetched | None]:
        if job.status is not None:
            return finished(None)
        if job.is_retry and self._failing_retries >= OUTAGE_FAILURES:
            return finished(NOT_TRIED)
        if job.is_file:
            self._succeeded_before[job.key] = self._succeeded
        fetcher = self._run.fetcher
        return start(lambda: fetcher.fetch(job.action, job.command, patient=patient))

    def _others_came(self, job: _Job) -> bool:
        """Whether other results were read while a file was on its way: it may be the last of many to end."""
        return job.is_file and self._succeeded > self._succeeded_before[job.key]

    def _failed(self, job: _Job, fetched: Fetched) -> Emission:
        """What a failure becomes in the streams where it is new or given up; in the others it is no news."""
        tried = fetched is not NOT_TRIED
        self._failing_retries += tried and job.is_retry
        records, parts = [], []
        for stream, item in job.wanted:
            given_up = item.retry is not None and item.retry.is_over(time.time())
            if not tried or (item.retry is not None and not given_up):
                if item.retry is not None:
                    stream.counts["still failing"] += 1
                continue
            outcome = Outcome("failed", f"{fetched.failed}; given up after 3 days" if given_up else fetched.failed)
            records.append(stream.records(item, outcome))
            parts.append(Part(stream, item, failed=not given_up))
        return Emission(chain.from_iterable(records), parts)

    def report_progress(self) -> None:
        """A line in the log for a person who waits."""
        left = self._total - self._handled
        by_quota = self._run.ledger.forecast(left)
        by_pace = left * (time.monotonic() - self._began) / self._handled if self._handled else 0.0
        remaining = duration(max(by_quota, by_pace))
        collector = self._run.collector
        files = f", {in_bytes(collector.received)} of files so far" if collector and collector.received else ""
        logger.info(
            "Progress: %s of %s results%s, %s left.", f"{self._handled:,}", f"{self._total:,}", files, remaining
        )


def _stop_if_outage(failures: Sequence[Emission], last: Fetched) -> None:
    if len(failures) >= OUTAGE_FAILURES:
        down = "" if last.is_local else "The service or the network seems to be down. "
        raise ServiceError(
            f"{OUTAGE_FAILURES} results in a row could not be read, the last one because of: {last.failed}. "
            f"{down}Nothing is lost: the next run continues here."
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
