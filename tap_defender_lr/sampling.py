"""Discovery: the columns of script streams without a schema, inferred from the newest results of their scripts."""

from __future__ import annotations

import logging
import time
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any

from tap_defender_lr import machine_action, timestamps
from tap_defender_lr.client import PAGE_SIZE
from tap_defender_lr.errors import NotFoundError, ReadFailedError
from tap_defender_lr.inference import infer
from tap_defender_lr.parsing import parse
from tap_defender_lr.pieces import Row
from tap_defender_lr.streams.outcome import Outcome, status_without_asking
from tap_defender_lr.text import counted
from tap_defender_lr.workers import start, take

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tap_defender_lr.decoding import ScriptResult
    from tap_defender_lr.machine_action import Command, MachineAction
    from tap_defender_lr.run import Run
    from tap_defender_lr.script_streams import ScriptStream

MAX_CALLS = 20
_TRIES = 5
"""A call is tried so often: none is begun when fewer are left."""
_ACTIONS = 8
_SAMPLES = 5
_ROWS = 2000
_RECENT_DAYS = 7

logger = logging.getLogger(__name__)


class Sampler:
    """Reads a few results for each script stream, with at most `MAX_CALLS` calls for all of them together.

    Attributes:
        samples: Name of the script stream → what its scripts printed, newest first.
    """

    def __init__(self, run: Run, streams: Sequence[ScriptStream]) -> None:
        self._streams = streams
        self._settings = run.settings
        self._client, self._fetcher = run.client, run.fetcher
        self.samples: dict[str, list[ScriptResult]] = {stream.name: [] for stream in streams}

    def read(self) -> None:
        """Fill `samples`. Runs on a worker thread, so that a signal can end it."""
        for action, command in self._candidates():
            takers = [stream for stream in self._hungry() if stream.matches(command.script_name)]
            if not takers:
                continue
            if not self._may_call():
                return
            fetched = self._fetcher.fetch(action, command, patient=False)
            outcome = Outcome.of(fetched, self._settings.max_output_bytes)
            if outcome.status == "fetched" and outcome.script is not None and outcome.script.script_output:
                for stream in takers:
                    self.samples[stream.name].append(outcome.script)

    def _may_call(self) -> bool:
        return self._client.calls <= MAX_CALLS - _TRIES

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
                if status_without_asking(action, command) is None
            ]
            queues = [[c for c in commands if stream.matches(c[1].script_name)] for stream in self._hungry()]
            for candidate in chain.from_iterable(zip_longest(*queues)):
                if candidate is not None and (key := (candidate[0].id, candidate[1].index)) not in seen:
                    seen.add(key)
                    yield candidate

    def _listings(self) -> Iterator[list[MachineAction]]:
        """The configured actions, or the first page of the last days, then of all."""
        if self._settings.actions:
            yield list(self._configured())
            return
        recent = timestamps.from_unix(time.time() - _RECENT_DAYS * 24 * 3600)
        for since in (recent, None):
            if self._hungry() and self._may_call():
                yield _decoded(islice(self._client.machine_actions(since), PAGE_SIZE))

    def _configured(self) -> Iterator[MachineAction]:
        for entry in self._settings.actions[:_ACTIONS]:
            if not self._may_call():
                return
            try:
                yield from _decoded([self._client.machine_action(entry.id)])
            except (NotFoundError, ReadFailedError) as error:
                logger.warning("`actions` names %s, which cannot be looked at: %s.", entry.id, error)


def _decoded(rows: Iterable[object]) -> list[MachineAction]:
    actions = (machine_action.from_api(row) for row in rows)
    return [action for action in actions if action is not None and action.type == machine_action.LIVE_RESPONSE]


def infer_columns(run: Run, streams: Sequence[ScriptStream]) -> dict[str, dict[str, dict[str, Any]]]:
    """The columns of each stream: name → JSON schema of each printed column, none where nothing was found.

    Raises:
        TapError: The service cannot be asked.
        InterruptedRunError: A signal came.
    """
    sampler = Sampler(run, streams)
    take(start(sampler.read), run.lifetime)
    columns = {stream.name: _columns(stream, sampler.samples[stream.name]) for stream in streams}
    told = (
        f"{stream.name} ({counted(len(sampler.samples[stream.name]), 'result', 'results')}, "
        f"{counted(len(columns[stream.name]), 'column', 'columns')})"
        for stream in streams
    )
    logger.info(
        "%s spent to infer the columns of %s. The catalog pins them: a run with it makes no such calls.",
        counted(run.client.calls, "call", "calls"),
        ", ".join(told),
    )
    for stream in streams:
        if not sampler.samples[stream.name]:
            logger.warning(
                "No result of %s was found to infer the columns of %s from: what it prints will be in the column "
                "`extra` until discovery is run again, or the entry gets a `schema`.",
                stream.script_name,
                stream.name,
            )
    return columns


def _columns(stream: ScriptStream, samples: Sequence[ScriptResult]) -> dict[str, dict[str, Any]]:
    rows = []
    for script in samples:
        parsed = parse(script.script_output, stream, cut=script.script_output_truncated)
        pieces = islice(parsed.pieces, _ROWS)
        rows += [(piece, parsed.text_only) for piece in pieces if isinstance(piece, Row)]
    return infer(rows, stream)
