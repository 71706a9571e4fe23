"""One result: quota → link → blob, with as many tries as make sense. Runs on a worker thread."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import backoff

from tap_defender_lr import timestamps
from tap_defender_lr.downloads import LinkRefusedError, check_link
from tap_defender_lr.errors import NotFoundError, ReadFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_defender_lr.client import DefenderClient
    from tap_defender_lr.downloads import BlobStore, Download
    from tap_defender_lr.lifetime import Lifetime
    from tap_defender_lr.machine_action import Command, MachineAction

FRESH_SECONDS = 300
"""For so long after the last update the service may not have the result yet."""
_FRESH_PAUSES = (2.0, 4.0, 8.0, 16.0)
_PAUSES = (2.0,)
_DOWNLOAD_TRIES = 4
_DOWNLOAD_SECONDS = 600.0
_MAX_SKEW_SECONDS = 60.0


@dataclass(frozen=True)
class Fetched:
    """What became of one result: exactly one of the three is set."""

    download: Download | None = None
    absent: str | None = None
    failed: str | None = None


class ResultFetcher:
    """Fetches results of commands. Safe to use from several threads."""

    def __init__(
        self,
        client: DefenderClient,
        blobs: BlobStore,
        lifetime: Lifetime,
        *,
        keep_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._blobs = blobs
        self._lifetime = lifetime
        self._keep_bytes = keep_bytes
        self._clock = clock

    def fetch(self, action: MachineAction, command: Command, *, patient: bool = True) -> Fetched:
        """Fetch one result. What concerns only this result comes back as a value, what concerns the run is raised.

        A link call is answered with 400 or 404 for a little while after an action has ended: a fresh action is asked
        up to 5 times within 30 s, an older one twice, and without patience only once.
        """
        self._lifetime.raise_if_over()
        age = self._clock() - timestamps.to_unix(action.last_update)
        pauses: Iterator[float] = iter((_FRESH_PAUSES if age < FRESH_SECONDS else _PAUSES) if patient else ())
        budget = _Budget(_DOWNLOAD_SECONDS)
        while True:
            try:
                return Fetched(download=self._through_link(action.id, command.index, budget))
            except ReadFailedError as error:
                return Fetched(failed=str(error))
            except NotFoundError as error:
                absent = str(error)
            pause = next(pauses, None)
            if pause is None:
                return Fetched(absent=absent)
            self._lifetime.wait(pause)

    def _through_link(self, action_id: str, index: int, budget: _Budget) -> Download:
        """Ask for a link and use it at once, since it lives for 30 minutes; a refused one has one more chance."""
        link = self._client.download_link(action_id, index)
        try:
            check_link(link, action_id, index)
            return self._download(link, budget)
        except LinkRefusedError as refusal:
            if refusal.valid_in is not None:  # a new link would not be valid earlier
                self._lifetime.wait(min(refusal.valid_in, _MAX_SKEW_SECONDS))
                chance = "also when tried again later"
            elif refusal.renewable:
                link = self._client.download_link(action_id, index)
                chance = "also with a new link"
            else:
                raise ReadFailedError(str(refusal)) from None
        try:
            check_link(link, action_id, index)
            return self._download(link, budget)
        except LinkRefusedError as refusal:
            raise ReadFailedError(f"{refusal}, {chance}") from None

    def _download(self, link: str, budget: _Budget) -> Download:
        pauses = backoff.expo(base=2, factor=1, max_value=30)
        next(pauses)
        tries = 0
        while True:
            tries += 1
            try:
                with budget.spent():
                    return self._blobs.download(
                        link,
                        keep_bytes=self._keep_bytes,
                        seconds=budget.left,
                        stop=self._lifetime.raise_if_interrupted,
                    )
            except ReadFailedError as error:
                if tries >= _DOWNLOAD_TRIES or budget.left < 1:
                    times = f", {tries} times in a row" if tries > 1 else ""
                    raise ReadFailedError(f"{error}{times}") from None
            self._lifetime.wait(max(backoff.full_jitter(next(pauses)), 0.5))


class _Budget:
    """Seconds that all tries to download one result may take together."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.left -= time.monotonic() - begun
