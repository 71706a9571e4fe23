"""One result: quota → link → blob, with as many tries as make sense. Runs on a worker thread."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tap_defender_lr import timestamps
from tap_defender_lr.downloads import LinkRefusedError, Spool, check_link
from tap_defender_lr.errors import CallsSpentError, NotFoundError, ReadFailedError, StoreFailedError
from tap_defender_lr.machine_action import GET_FILE
from tap_defender_lr.transport import pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_defender_lr.client import DefenderClient
    from tap_defender_lr.collected_file import CollectedFile, FileCollector
    from tap_defender_lr.downloads import BlobStore, Download, Sink, Transfer
    from tap_defender_lr.lifetime import Lifetime
    from tap_defender_lr.machine_action import Command, MachineAction

FRESH_SECONDS = 300
"""For so long after the last update the service may not have the result yet."""
_FRESH_PAUSES = (2.0, 4.0, 8.0, 16.0)
_PAUSES = (2.0,)
_DOWNLOAD_TRIES = 4
_DOWNLOAD_SECONDS = 600.0
_SLOWEST = 100_000
"""Bytes a second. Files have gigabytes: a download that is so fast may take longer than `_DOWNLOAD_SECONDS`."""
_PROGRESS_BYTES = 1024 * 1024
"""After so many bytes a broken connection or an expired link is a new one, not the same again."""
_MAX_SKEW_SECONDS = 60.0


@dataclass(frozen=True)
class Fetched:
    """What became of one result: exactly one of the first four is set."""

    download: Download | None = None
    file: CollectedFile | None = None
    absent: str | None = None
    failed: str | None = None
    in_store: bool = False
    """It was not the service that failed, but the store of collected files."""
    is_local: bool = False
    """It was not the service that failed: this machine has no room."""

    @property
    def held(self) -> int:
        """Bytes that it holds until its turn comes."""
        return self.download.kept if self.download else 0


NOT_TRIED = Fetched(failed="not tried in this run")
"""It stays as it was, for the next run."""


class ResultFetcher:
    """Fetches results of commands. Safe to use from several threads.

    Args:
        client: Gives the links.
        blobs: What they lead to.
        lifetime: Of the run.
        keep_bytes: How much of a script's result is kept.
        collector: Takes the files of GetFile commands; without it none may be asked for.
        clock: Unix seconds.
    """

    def __init__(
        self,
        client: DefenderClient,
        blobs: BlobStore,
        lifetime: Lifetime,
        *,
        keep_bytes: int,
        collector: FileCollector | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._blobs = blobs
        self._lifetime = lifetime
        self._keep_bytes = keep_bytes
        self._collector = collector
        self._clock = clock

    def fetch(self, action: MachineAction, command: Command, *, patient: bool = True) -> Fetched:
        """Fetch one result. What concerns only this result comes back as a value, what concerns the run is raised.

        A link call is answered with 400 or 404 for a little while after an action has ended: a fresh action is asked
        up to 5 times within 30 s, an older one twice, and without patience only once.
        """
        self._lifetime.raise_if_over()
        age = self._clock() - timestamps.to_unix(action.last_update)
        waits: Iterator[float] = iter((_FRESH_PAUSES if age < FRESH_SECONDS else _PAUSES) if patient else ())
        collector = self._collector if command.type == GET_FILE else None
        if collector is not None and collector.trouble is not None:
            return NOT_TRIED
        budget = _Budget(_DOWNLOAD_SECONDS, None if collector is None else _SLOWEST)
        sink: Sink[Any] = Spool(self._keep_bytes) if collector is None else collector.sink(action, command)
        with contextlib.closing(self._blobs.transfer(sink)) as transfer:
            while True:
                try:
                    result = self._through_links(action.id, command.index, transfer, budget)
                except StoreFailedError as error:
                    if collector is not None and collector.is_in_trouble():
                        return NOT_TRIED
                    in_store = collector is not None
                    return Fetched(failed=f"it cannot be stored: {error}", in_store=in_store, is_local=not in_store)
                except ReadFailedError as error:
                    return Fetched(failed=str(error))
                except NotFoundError as error:
                    absent = str(error)
                else:
                    return Fetched(download=result) if collector is None else Fetched(file=result)
                pause = next(waits, None)
                if pause is None:
                    return Fetched(absent=absent)
                self._lifetime.wait(pause)

    def _through_links(self, action_id: str, index: int, transfer: Transfer[Any], budget: _Budget) -> Any:
        """Ask for a link and use it at once, since it lives for 30 minutes; a refused one has one more chance."""
        link = self._client.download_link(action_id, index)
        chance, mark = "", transfer.size
        while True:
            try:
                check_link(link, action_id, index)
                return self._receive(link, transfer, budget)
            except LinkRefusedError as refusal:
                if transfer.size - mark >= _PROGRESS_BYTES:  # it was good for a while
                    chance, mark = "", transfer.size
                if chance:
                    raise ReadFailedError(f"{refusal}, {chance}") from None
                if refusal.valid_in is not None:  # a new link would not be valid earlier
                    self._lifetime.pause(min(refusal.valid_in, _MAX_SKEW_SECONDS))
                    chance = "also when tried again later"
                elif refusal.renewable:
                    try:
                        link = self._client.download_link(action_id, index, begun=transfer.size > 0)
                    except CallsSpentError:
                        raise ReadFailedError(str(refusal)) from None
                    chance = "also with a new link"
                else:
                    raise ReadFailedError(str(refusal)) from None

    def _receive(self, link: str, transfer: Transfer[Any], budget: _Budget) -> Any:
        tries, mark, waits = 0, transfer.size, pauses()
        while True:
            try:
                with budget.spent():
                    return transfer.receive(link, lambda: self._check(transfer, budget))
            except ReadFailedError as error:
                if transfer.size - mark >= _PROGRESS_BYTES:
                    tries, mark, waits = 0, transfer.size, pauses()
                tries += 1
                if tries >= _DOWNLOAD_TRIES or budget.left(transfer.received) < 1:
                    times = f", {tries} times in a row" if tries > 1 else ""
                    raise ReadFailedError(f"{error}{times}") from None
            self._lifetime.pause(next(waits))

    def _check(self, transfer: Transfer[Any], budget: _Budget) -> None:
        self._lifetime.raise_if_interrupted()
        if budget.left(transfer.received) < 0:
            raise ReadFailedError(f"the answer was not complete after {budget.used:.0f} s")


class _Budget:
    """Seconds that all tries to download one result may take together.

    Args:
        seconds: However little comes.
        slowest: Bytes a second that earn more time; None: nothing does.
    """

    def __init__(self, seconds: float, slowest: float | None = None) -> None:
        self._seconds = seconds
        self._slowest = slowest
        self._before = 0.0
        self._began: float | None = None

    @property
    def used(self) -> float:
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)

    def left(self, received: int) -> float:
        earned = received / self._slowest if self._slowest else 0.0
        return self._seconds + earned - self.used

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        self._began = time.monotonic()
        try:
            yield
        finally:
            self._before, self._began = self.used, None
