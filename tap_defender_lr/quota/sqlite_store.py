"""The ledger in a SQLite file of this machine. If it fails, the run does without: nobody else relies on it."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Engine, StaticPool, create_engine, event, insert, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError

from tap_defender_lr.errors import QuotaStoreError
from tap_defender_lr.quota.tables import CALLS, GATES, METADATA, in_words, lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tap_defender_lr.quota.tables import Work

_VERSION = 1
_MAGIC = b"SQLite format 3\x00"
_SUFFIXES = {".db", ".sqlite", ".sqlite3"}

logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class SqliteStore:
    """A SQLite file.

    Args:
        path: The file, or None for a ledger that only this process sees.
        clock: Unix seconds, the same for every process that shares the file.

    Raises:
        QuotaStoreError: The file belongs to somebody else.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._engine = self._open(path)

    def close(self) -> None:
        with self._lock:
            self._engine.dispose()

    def transact(self, account: str, work: Work[_T], *, patient: bool = True) -> _T:  # noqa: ARG002  SQLite waits itself
        with self._lock:
            try:
                return self._attempt(account, work)
            except DBAPIError as error:  # the disk is full, the file is gone, somebody holds it locked for long
                self._do_without_file(error)
                return self._attempt(account, work)

    def _attempt(self, account: str, work: Work[_T]) -> _T:
        with self._engine.begin() as connection:
            return work(lock(connection, account, self._clock))

    def _open(self, path: Path | None) -> Engine:
        if path is None:
            return _sqlite(None)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if _is_somebody_elses(path):
                raise QuotaStoreError(
                    f"`quota_store`: the file {path} is no ledger of calls. It is left as it is: name another file; it "
                    "need not exist yet."
                )
            return _sqlite(path)
        except (DatabaseError, OSError) as error:
            if isinstance(error, (OperationalError, OSError)):
                return self._warn_and_use_memory(path, error)
        broken = path.with_name(f"{path.name}.broken")
        try:
            path.replace(broken)
            engine = _sqlite(path)
        except (DatabaseError, OSError) as error:
            return self._warn_and_use_memory(path, error)
        logger.warning(
            "The ledger of calls %s was damaged or from another version: it is now %s and a new one is begun. "
            "Calls of the last hour are forgotten, so the service may throttle once.",
            path,
            broken.name,
        )
        return engine

    def _do_without_file(self, error: DBAPIError) -> None:
        file, self._engine = self._engine, self._warn_and_use_memory(None, error)
        with self._engine.begin() as memory, contextlib.suppress(DBAPIError, sqlite3.Error):
            for table in (CALLS, GATES):  # what it knows is worth keeping as far as it can still be read
                # Row by row and without a transaction, which may be what does not work.
                for row in file.raw_connection().execute(str(select(table))):
                    memory.execute(insert(table).values(tuple(row)))
        file.dispose()

    @staticmethod
    def _warn_and_use_memory(path: Path | None, error: Exception) -> Engine:
        logger.warning(
            "The ledger of calls%s cannot be used (%s): this run keeps its own and does not see the calls of other "
            "processes. Set `quota_store` to a file that can be written.",
            f" {path}" if path else "",
            in_words(error),
        )
        return _sqlite(None)


def _is_somebody_elses(path: Path) -> bool:
    """Whether the file holds something that is no ledger, not even a damaged one: the name of such a one tells."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return path.suffix not in _SUFFIXES
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return False
    return bool(tables) and CALLS.name not in tables


def _sqlite(path: Path | None) -> Engine:
    url = URL.create("sqlite", database=str(path) if path else None)
    engine = create_engine(url, poolclass=StaticPool, connect_args={"timeout": 30, "check_same_thread": False})
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            # The file is small: to check it takes no time.
            if version not in (0, _VERSION) or connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
                raise DatabaseError("damaged or from another version", None, Exception())
            METADATA.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        engine.dispose()
        raise
    return engine


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by the listener of `begin`
    # What is written survives the process, but not a crash of the machine, in which case a new file is begun. To wait
    # for the disk at each call would make the ledger slower than the service.
    connection.execute("PRAGMA synchronous = OFF")
