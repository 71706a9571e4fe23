"""What all streams of one run share: the connection to the service, and the machine actions it lists."""

from __future__ import annotations

import contextlib
import gc
import logging
import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from tap_defender_lr import machine_action, quota
from tap_defender_lr.auth import Credential
from tap_defender_lr.client import DefenderClient
from tap_defender_lr.collected_file import FileCollector
from tap_defender_lr.decoding import bytes_needed
from tap_defender_lr.downloads import BlobStore
from tap_defender_lr.errors import NotFoundError, ReadFailedError, ServiceError, TapError, TimeIsUpError
from tap_defender_lr.fetching import ResultFetcher
from tap_defender_lr.lifetime import Lifetime
from tap_defender_lr.packing import Block
from tap_defender_lr.text import counted
from tap_defender_lr.workers import OrderedWindow, start, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tap_defender_lr.machine_action import MachineAction
    from tap_defender_lr.planning import StreamState
    from tap_defender_lr.quota.ledger import Ledger
    from tap_defender_lr.settings import ConfiguredAction, Settings

_BATCH = 200
"""Configured actions that are read before their results are."""
_OUTAGE_FAILURES = 5

logger = logging.getLogger(__name__)


class ActionReader(Protocol):
    """What a stream tells about the machine actions it needs."""

    def list_from(self) -> str | None:
        """Earliest creation time the listing must hold, or None for all."""

    @property
    def saved_state(self) -> StreamState:
        """What earlier runs left."""

    def needs(self, configured: ConfiguredAction, state: StreamState) -> bool:
        """Whether this configured action has anything that was not read yet, by what earlier runs left."""


class Run:
    """Built from the settings without any call; each part comes to life when it is first used.

    Args:
        settings: Of the run.
        readers: Gives the streams of the run.
    """

    def __init__(self, settings: Settings, readers: Callable[[], Sequence[ActionReader]]) -> None:
        self.settings = settings
        self._readers = readers
        self.lifetime = Lifetime(None if settings.max_run_minutes is None else settings.max_run_minutes * 60.0)
        self.complaints: list[str] = []
        """What went wrong with single configured actions; told at the end of the run, which then fails."""
        self._source: Iterator[list[MachineAction]] | None = None
        self._batches: list[list[MachineAction]] = []

    @cached_property
    def ledger(self) -> Ledger:
        # Not before a run needs them: it takes a quarter of a second.
        from tap_defender_lr.quota.ledger import Ledger  # noqa: PLC0415
        from tap_defender_lr.quota.setting import open_store  # noqa: PLC0415

        settings = self.settings
        store = open_store(settings.quota_store, pause=self.lifetime.pause)
        ledger = Ledger(
            store,
            f"{settings.tenant_id}/{settings.client_id or settings.managed_identity_client_id or ''}".lower(),
            [
                quota.Rate(settings.calls_per_minute, quota.MINUTE),
                quota.Rate(settings.calls_per_hour, quota.HOUR),
            ],
        )
        # At the end of the process at the latest: the summary of the run still looks at it.
        weakref.finalize(ledger, store.close)
        return ledger

    @cached_property
    def credential(self) -> Credential:
        return Credential(self.settings, self.lifetime.wait)

    @cached_property
    def client(self) -> DefenderClient:
        return DefenderClient(
            self.settings.api_url,
            self.credential,
            self.ledger,
            self.lifetime,
            connections=self.settings.max_concurrency + 1,
        )

    @cached_property
    def fetcher(self) -> ResultFetcher:
        return ResultFetcher(
            self.client,
            BlobStore(connections=self.settings.max_concurrency),
            self.lifetime,
            keep_bytes=bytes_needed(self.settings.max_output_bytes),
            collector=self.collector,
        )

    @cached_property
    def collector(self) -> FileCollector | None:
        """Takes the files of GetFile commands; None without `files_url`."""
        if self.settings.files_url is None:
            return None
        return FileCollector(
            self.settings.files_url, lambda: self.credential.tenant_id, max_bytes=self.settings.max_file_bytes
        )

    def close(self) -> None:
        """At the end of the process: no half-written file stays behind."""
        self.lifetime.end()
        if self.collector is not None:
            self.collector.close()

    def batches(self, limit: int | None = None) -> Iterator[list[MachineAction]]:
        """The Live Response actions that the settings choose, each asked for once in a run, for all its streams.

        What is listed comes as one batch. Configured actions cost a call each: they come in batches, so that results
        are read before the quota is spent on the next ones.

        Args:
            limit: Largest batch that is wanted.
        """
        if self._source is None:
            self._source = self._configured(min(limit or _BATCH, _BATCH)) if self.settings.actions else self._listed()
        yield from self._batches
        for batch in self._source:
            self._batches.append(batch)
            yield batch

    def _listed(self) -> Iterator[list[MachineAction]]:
        starts = [reader.list_from() for reader in self._readers()]
        since = None if None in starts else min((start for start in starts if start), default=None)
        since = max((stamp for stamp in (since, self.settings.start_date) if stamp), default=None)
        client = self.client  # made here: what several threads make at the same time is made several times
        actions = take(start(lambda: self.chosen(client.machine_actions(since))), self.lifetime)
        what = counted(len(actions), "Live Response action", "Live Response actions")
        logger.info("The service lists %s%s.", what, f" created since {since[:19]}Z" if since else "")
        yield actions

    def chosen(self, rows: Iterable[object]) -> list[MachineAction]:
        """The actions that the settings choose, each once, as it was last updated."""
        actions: dict[str, MachineAction] = {}
        block = Block()
        with _nothing_is_garbage():
            for row in rows:
                block = Block() if block.is_full else block
                action = machine_action.from_api(row, block)
                if action is None:
                    logger.warning("The service listed a machine action without an ID; it is left out.")
                elif self._is_chosen(action):
                    known = actions.get(action.id)
                    if known is None or known.last_update <= action.last_update:
                        actions[action.id] = action
        return list(actions.values())

    def _is_chosen(self, action: MachineAction) -> bool:
        settings = self.settings
        return (
            action.type == machine_action.LIVE_RESPONSE
            and (settings.start_date is None or action.creation >= settings.start_date)
            and (settings.end_date is None or action.creation < settings.end_date)
            and (not settings.machine_ids or (action.machine_id or "").lower() in settings.machine_ids)
        )

    def _configured(self, size: int) -> Iterator[list[MachineAction]]:
        client, readers = self.client, [(reader, reader.saved_state) for reader in self._readers()]
        wanted = [
            entry for entry in self.settings.actions if any(reader.needs(entry, state) for reader, state in readers)
        ]
        failures = 0
        for first in range(0, max(len(wanted), 1), size):
            window = OrderedWindow(
                wanted[first : first + size],
                lambda entry: start(lambda: client.machine_action(entry.id)),
                size=self.settings.max_concurrency,
                lifetime=self.lifetime,
            )
            batch: list[MachineAction] = []
            time_is_up = False
            for entry, future in window:
                try:
                    batch += self._checked(entry, machine_action.from_api(future.result()))
                    failures = 0
                except TimeIsUpError:  # what was read is emitted all the same
                    window.close()
                    time_is_up = True
                except NotFoundError as error:
                    failures = 0
                    self.complaints.append(f"`actions` names {entry.id}, which the service does not know ({error})")
                except ReadFailedError as error:
                    self.complaints.append(f"`actions` names {entry.id}, which could not be read: {error}")
                    failures += 1
                    if failures >= _OUTAGE_FAILURES:
                        raise ServiceError(
                            f"{failures} configured actions in a row could not be read, the last one because of: "
                            f"{error}. The service or the network seems to be down; the next run continues here."
                        ) from None
            yield batch
            if time_is_up:
                raise TimeIsUpError

    def _checked(self, entry: ConfiguredAction, action: MachineAction | None) -> list[MachineAction]:
        if action is None or action.type != machine_action.LIVE_RESPONSE:
            kind = action.type if action else "nothing"
            self.complaints.append(f"`actions` names {entry.id}, which is {kind}, not a Live Response action")
            return []
        missing = set(entry.command_indexes or ()) - {command.index for command in action.commands}
        if missing and action.is_final:
            numbers = ", ".join(map(str, sorted(missing)))
            self.complaints.append(f"`actions` names command {numbers} of {entry.id}, which it does not have")
        return [action]

    def raise_complaints(self) -> None:
        """Raises: TapError: Some configured actions or files could not be read; everything else was."""
        if self.collector is not None and self.collector.trouble is not None:
            self.complaints.append(
                f"`files_url`: nothing can be stored there ({self.collector.trouble}), so files are left for the next "
                "run; check that it exists and that the tap may write there"
            )
        if self.complaints:
            raise TapError(f"{'; '.join(self.complaints)}. Nothing else is affected.")


@contextlib.contextmanager
def _nothing_is_garbage() -> Iterator[None]:
    """No search for garbage while a long listing is read: all of it would be searched, again and again, in vain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
