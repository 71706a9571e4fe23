"""Discovery: the columns of script streams without a schema, inferred from the newest results of their scripts."""

from __future__ import annotations

import logging
import time
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any

from tap_defender_lr import machine_action, timestamps
from tap_defender_lr.client import PAGE_SIZE
from tap_defender_lr.errors import CallsSpentError, NotFoundError, ReadFailedError, TapError
from tap_defender_lr.inference import infer
from tap_defender_lr.parsing import parse
from tap_defender_lr.pieces import Reject, Row
from tap_defender_lr.streams.outcome import Outcome, status_without_asking
from tap_defender_lr.text import counted
from tap_defender_lr.workers import start, take

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tap_defender_lr.machine_action import Command, MachineAction
    from tap_defender_lr.run import Run
    from tap_defender_lr.script_streams import ScriptStream

MAX_CALLS = 20
_ACTIONS = 8
_SAMPLES = 5
_ROWS = 2000
_RECENT_DAYS = 7

logger = logging.getLogger(__name__)


class Sampler:
    """Reads a few results for each script stream, with at most `MAX_CALLS` calls for all of them together.

    Attributes:
        samples: Name of the script stream → the rows of results that have any, newest first, each with whether all its
            values are texts.
        failures: Name of the script stream → why a result could not be read, or has no rows.
        unreadable: Results that could not be read.
        spent: All calls were spent before every stream had its samples.
    """

    def __init__(self, run: Run, streams: Sequence[ScriptStream]) -> None:
        self._run = run
        self._streams = streams
        self._client, self._fetcher = run.client, run.fetcher  # made here, not on the worker thread
        self.samples: dict[str, list[list[tuple[Row, bool]]]] = {stream.name: [] for stream in streams}
        self.failures: dict[str, str] = {}
        self.unreadable = 0
        self.spent = False

    def read(self) -> None:
        """Fill `samples`. Runs on a worker thread, so that a signal can end it."""
        self._client.most_calls = self._client.calls + MAX_CALLS
        try:
            for action, command in self._candidates():
                self._sample(action, command)
        except CallsSpentError:
            self.spent = True
        finally:
            self._client.most_calls = None

    def _sample(self, action: MachineAction, command: Command) -> None:
        takers = [stream for stream in self._hungry() if stream.matches(command.script_name)]
        if not takers:
            return
        fetched = self._fetcher.fetch(action, command, patient=False)
        outcome = Outcome.of(fetched, self._run.settings.max_output_bytes)
        self.unreadable += outcome.status == "failed"
        for stream in takers:
            rows, problem = _rows(stream, outcome)
            if rows:
                self.samples[stream.name].append(rows)
            elif problem:
                self.failures[stream.name] = problem

    def _hungry(self) -> list[ScriptStream]:
        return [stream for stream in self._streams if len(self.samples[stream.name]) < _SAMPLES]

    def _candidates(self) -> Iterator[tuple[MachineAction, Command]]:
        """Commands whose result is worth a call, newest first, the streams taking turns."""
        seen: set[tuple[str, int]] = set()
        for actions in self._listings():
            final = sorted((a for a in actions if a.is_final), key=lambda a: a.last_update, reverse=True)
            commands = [
                (action, command)
                for action in final
                for command in action.commands
                if self._is_worth_a_call(action, command)
            ]
            queues = [[c for c in commands if stream.matches(c[1].script_name)] for stream in self._hungry()]
            for candidate in chain.from_iterable(zip_longest(*queues)):
                if candidate is not None and (key := (candidate[0].id, candidate[1].index)) not in seen:
                    seen.add(key)
                    yield candidate

    def _is_worth_a_call(self, action: MachineAction, command: Command) -> bool:
        settings = self._run.settings
        is_left_out = (
            settings.script_names
            and not settings.actions
            and (command.script_name or "").casefold() not in settings.script_names
        )
        return not is_left_out and status_without_asking(action, command) is None

    def _listings(self) -> Iterator[list[MachineAction]]:
        """The configured actions, or the first page of the last days, then of all."""
        settings = self._run.settings
        if settings.actions:
            yield list(self._configured())
            return
        recent = timestamps.from_unix(time.time() - _RECENT_DAYS * 24 * 3600)
        for since in (recent, settings.start_date):
            if self._hungry():
                yield self._run.chosen(islice(self._client.machine_actions(since), PAGE_SIZE))

    def _configured(self) -> Iterator[MachineAction]:
        for entry in self._run.settings.actions[:_ACTIONS]:
            try:
                action = machine_action.from_api(self._client.machine_action(entry.id))
            except (NotFoundError, ReadFailedError) as error:
                logger.warning("`actions` names %s, which cannot be looked at: %s.", entry.id, error)
            else:
                yield from [action] if action is not None else []


def infer_columns(run: Run, streams: Sequence[ScriptStream]) -> dict[str, dict[str, dict[str, Any]]]:
    """The columns of each stream: name → JSON schema of each printed column, none where nothing was found.

    Raises:
        TapError: The service cannot be asked, or no result can be read.
        InterruptedRunError: A signal came.
        TimeIsUpError: `max_run_minutes` ends before the quota allows the next call.
    """
    sampler = Sampler(run, streams)
    take(start(sampler.read), run.lifetime)
    samples = sampler.samples
    if sampler.unreadable and not any(samples.values()):
        reason = next(iter(sampler.failures.values()))
        raise TapError(
            f"The columns of {', '.join(samples)} cannot be inferred, since no result can be read: {reason}. Try again "
            "when that is mended, or write a `schema` into `script_streams`."
        )
    columns = {stream.name: infer(chain.from_iterable(samples[stream.name]), stream) for stream in streams}
    told = (
        f"{name} ({counted(len(samples[name]), 'result', 'results')}, {counted(len(found), 'column', 'columns')})"
        for name, found in columns.items()
    )
    logger.info(
        "%s spent to infer the columns of %s. The catalog pins them: a run with it makes no such calls.",
        counted(run.client.calls, "call", "calls"),
        ", ".join(told),
    )
    for stream in streams:
        if not samples[stream.name]:
            _warn(stream, sampler)
    return columns


def _warn(stream: ScriptStream, sampler: Sampler) -> None:
    """Why there is nothing to infer columns from, and what that means."""
    if stream.name in sampler.failures:
        why = f"No result of {stream.script_name} that was looked at has rows ({sampler.failures[stream.name]})"
    elif sampler.spent:
        why = f"No result of {stream.script_name} was read, since {MAX_CALLS} calls were spent on others"
    else:
        why = f"No result of {stream.script_name} was found"
    logger.warning(
        "%s to infer the columns of %s from: what it prints will be in the column `extra` until discovery is run "
        "again, or the entry gets a `schema`.",
        why,
        stream.name,
    )


def _rows(stream: ScriptStream, outcome: Outcome) -> tuple[list[tuple[Row, bool]], str | None]:
    """The rows of one result, or why there are none."""
    if outcome.status != "fetched" or outcome.script is None:
        return [], outcome.error
    parsed = parse(outcome.script.script_output, stream, cut=outcome.script.script_output_truncated)
    pieces = list(islice(parsed.pieces, _ROWS))
    rows = [(piece, parsed.text_only) for piece in pieces if isinstance(piece, Row)]
    return rows, next((piece.reason for piece in pieces if isinstance(piece, Reject)), None)
