"""The ledger in a PostgreSQL database, which several hosts share.

If it is away, it is waited for: hosts that each went on alone would break the limit together. Its clock is everybody's,
since those of several hosts differ.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Double, cast, create_engine, event, extract, func, select, true
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)

from tap_defender_lr.errors import QuotaStoreError
from tap_defender_lr.quota.tables import CALLS, GATES, METADATA, in_words, lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import URL
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from tap_defender_lr.quota.tables import Work

PATIENCE_SECONDS = 120.0
"""How long a shared database may be away before the run ends."""
_PATIENCE_AT_FIRST_SECONDS = 20.0
"""As long as it has never answered: its address may be wrong."""
_RETRY_SECONDS = 1.0
_TURN_SECONDS = 1.0
"""How long a thread waits for its turn before it looks for a signal."""
HANGING_SECONDS = 20.0
"""A transaction that takes longer hangs, in the database or in a pooler that holds it back, and is cut off. More than
the wait for a lock takes, and so little that what was booked in it is still worth something."""
_PERMANENT = (ProgrammingError, DataError, NotSupportedError)
_CREATION_LOCK = 0x7A9_DEFE_0001
_CLOCK = select(cast(extract("epoch", func.clock_timestamp()), Double))

#: A connection that is cut is noticed within ten seconds at both ends, and what it had locked is free again.
_CONNECT_ARGS = {
    "application_name": "tap-defender-lr",
    "connect_timeout": 10,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "prepare_threshold": None,  # PgBouncer gives each transaction another connection
}
_SET_LOCALLY = select(
    func.set_config("idle_in_transaction_session_timeout", "10s", true()),
    func.set_config("lock_timeout", "15s", true()),
)

logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class PostgresStore:
    """A database. It is not asked before the first transaction.

    Args:
        url: Of the database.
        pause: Waits so many seconds; may raise to give up.
        patience: Seconds for which the database may be away.
    """

    def __init__(self, url: URL, *, pause: Callable[[float], None], patience: float = PATIENCE_SECONDS) -> None:
        self._engine = create_engine(
            url,
            connect_args={name: value for name, value in _CONNECT_ARGS.items() if name not in url.query},
            isolation_level="READ COMMITTED",
            max_overflow=0,
            pool_pre_ping=True,
            pool_size=1,
        )
        event.listen(self._engine, "begin", _set_locally)
        event.listen(self._engine, "connect", self._remember, insert=True)
        self._connection: DBAPIConnection | None = None
        self._pause = pause
        self._patience = patience
        self._lock = threading.Lock()
        self._is_prepared = False
        self._away_since: float | None = None
        self._given_up: str | None = None

    def close(self) -> None:
        self._engine.dispose()

    def transact(self, account: str, work: Work[_T], *, patient: bool = True) -> _T:
        collided = False
        while True:
            try:
                with self._turn(patient=patient):
                    if not patient and self._away_since is not None:
                        raise QuotaStoreError("away")
                    if self._given_up is not None:  # by another thread: the run ends
                        raise QuotaStoreError(self._given_up)
                    result = self._attempt(account, work)
                    self._tell_that_it_is_back()
                    return result
            except (*_PERMANENT, IntegrityError) as error:
                if isinstance(error, IntegrityError) and not collided:  # another process has made the same row
                    collided = True
                    continue
                raise QuotaStoreError(
                    f"`quota_store`: the database refuses ({in_words(error)}). The role must be allowed to create the "
                    f"tables {CALLS.name} and {GATES.name}, and to read and write them; if others made them, drop them."
                ) from None
            except DBAPIError as error:
                if not patient:
                    raise QuotaStoreError(in_words(error)) from None
                self._raise_if_away_for_long(error)
            self._pause(_RETRY_SECONDS)

    @contextlib.contextmanager
    def _turn(self, *, patient: bool) -> Iterator[None]:
        """One thread at a time; a signal ends the wait of the others."""
        while not self._lock.acquire(timeout=_TURN_SECONDS):
            if not patient:
                raise QuotaStoreError("busy")
            self._pause(0.01)
        try:
            yield
        finally:
            self._lock.release()

    def _attempt(self, account: str, work: Work[_T]) -> _T:
        ended = threading.Event()
        threading.Thread(target=self._cut_if_hanging, args=(ended,), daemon=True).start()
        try:
            if not self._is_prepared:
                with self._engine.begin() as connection:
                    connection.execute(select(func.pg_advisory_xact_lock(_CREATION_LOCK)))
                    METADATA.create_all(connection)
                self._is_prepared = True
            with self._engine.begin() as connection:
                return work(lock(connection, account, lambda: connection.execute(_CLOCK).scalar_one()))
        except (OperationalError, InternalError):
            # After a failover it may still lead to the old server, which answers but does not write any more.
            self._engine.dispose()
            raise
        finally:
            ended.set()

    def _remember(self, connection: DBAPIConnection, _: object) -> None:
        self._connection = connection

    def _cut_if_hanging(self, ended: threading.Event) -> None:
        """No timeout of libpq or of the server ends the wait for a server that is frozen but whose host answers."""
        while not ended.wait(HANGING_SECONDS):
            connection: Any = self._connection
            # It may be closed already, while another one is made.
            with contextlib.suppress(OSError, self._engine.dialect.loaded_dbapi.Error):
                if connection is not None and not ended.is_set():
                    with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as wire:
                        wire.shutdown(socket.SHUT_RDWR)

    def _raise_if_away_for_long(self, error: DBAPIError) -> None:
        with self._turn(patient=True):
            now, is_news = time.monotonic(), self._away_since is None
            if self._away_since is None:
                self._away_since = now
            away = now - self._away_since
            patience = self._patience if self._is_prepared else min(_PATIENCE_AT_FIRST_SECONDS, self._patience)
        if is_news:
            logger.warning(
                "The ledger of calls cannot be reached (%s). No call is made without it: trying again for %.0f s.",
                in_words(error),
                patience,
            )
        if away >= patience:
            self._given_up = (
                f"`quota_store`: the database cannot be reached ({in_words(error)}). Without the ledger no call is "
                "made, since the limit would not be kept. Nothing is lost: the next run continues here."
            )
            raise QuotaStoreError(self._given_up)

    def _tell_that_it_is_back(self) -> None:
        if self._away_since is not None:
            self._away_since = None
            logger.info("The ledger of calls answers again.")


def _set_locally(connection: Connection) -> None:
    connection.execute(_SET_LOCALLY)
