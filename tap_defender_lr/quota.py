"""The ledger of API calls: no window of the service's quota is ever exceeded, across threads, processes and runs.

The service counts calls by tenant and app: 100 in a minute, 1,500 in an hour. Whether its windows slide or are fixed
is not documented; what holds for every sliding window holds for fixed ones too.

Two phases make it exact without a safety margin. `reserve` books a call *before* it is sent, as if it arrived at the
latest moment possible; `settle` books it at the moment its answer came. The call reached the service before that, so
a window that counts settled times never holds fewer calls than the service's own. A process that is killed in between
leaves its booking behind, which only makes the others wait a little longer.

A 429 closes one gate for everybody: no call goes out before the time the service named, and then a single one goes
first to find out.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MINUTE = 60.0
HOUR = 3600.0
MAX_CALL_SECONDS = 120.0
"""No call takes longer from its reservation to its arrival at the service."""
MAX_GATE_SECONDS = HOUR + MINUTE
_PROBE_POLL_SECONDS = 0.5
_TOLD_SECONDS = 30.0
_VERSION = 1

logger = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Rate:
    """At most `calls` calls in any `seconds` seconds."""

    calls: int
    seconds: float


@dataclass(frozen=True)
class Reservation:
    """Permission to send one call. `probe` marks the one that finds out whether the service takes calls again."""

    id: int
    probe: bool = False


class Ledger:
    """Shared by all threads of the process through one object, by all processes through its file.

    Args:
        path: SQLite file, or None for one that only this process sees.
        account: Whose quota it is: tenant and app.
        rates: What may be spent.
        clock: Unix seconds, the same for every process that shares the file.
    """

    def __init__(
        self,
        path: Path | None,
        account: str,
        rates: Sequence[Rate],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._account = account
        self._rates = sorted(rates, key=lambda rate: rate.seconds)
        self._longest = max(rate.seconds for rate in rates)
        self._clock = clock
        self._lock = threading.Lock()
        self._told = 0.0
        self._database = self._open(path)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def acquire(self, wait: Callable[[float], None]) -> Reservation:
        """Wait until a call may be sent, and book it. `wait` may raise to give up."""
        while True:
            outcome = self.reserve()
            if isinstance(outcome, Reservation):
                return outcome
            self._tell(outcome)
            wait(outcome)

    def _tell(self, seconds: float) -> None:
        """Say in the log that everybody waits, once for all threads."""
        free_at = self._clock() + seconds
        with self._lock:
            if seconds < _TOLD_SECONDS or free_at - self._told < _TOLD_SECONDS:
                return
            self._told = free_at
        logger.info("The quota is spent: the next call is possible in %.0f min.", math.ceil(seconds / 60))

    def reserve(self) -> Reservation | float:
        """Book a call that is sent right away, or tell how many seconds to wait before asking again."""
        return self._transact(self._reserve)

    def settle(self, reservation: Reservation, *, answered: bool = True, throttled_for: float | None = None) -> None:
        """Book a call as made now.

        Args:
            reservation: What `reserve` gave.
            answered: False if the call ended without an answer of the service.
            throttled_for: Seconds the service wants everybody to wait (HTTP 429), else None.
        """

        def work(database: sqlite3.Connection) -> None:
            now = self._clock()
            database.execute(
                "INSERT OR REPLACE INTO calls (id, account, until) VALUES (?, ?, ?)",
                (reservation.id, self._account, now),
            )
            if throttled_for is not None:
                closed_until = now + min(max(throttled_for, 0.0), MAX_GATE_SECONDS)
                query = "SELECT closed_until FROM gates WHERE account = ?"
                known = database.execute(query, (self._account,)).fetchone()
                self._set_gate(database, closed_until=max(closed_until, known[0] if known else 0.0), probe_until=0.0)
            elif reservation.probe and answered:
                database.execute("DELETE FROM gates WHERE account = ?", (self._account,))
            elif reservation.probe:
                self._set_gate(database, closed_until=now, probe_until=0.0)

        self._transact(work)

    def left(self) -> dict[float, int]:
        """Calls that could be made at once, by length of the window in seconds."""
        past = self._past_calls()
        now = self._clock()
        return {
            rate.seconds: max(rate.calls - sum(until > now - rate.seconds for until in past), 0) for rate in self._rates
        }

    def forecast(self, calls: int) -> float:
        """Seconds until the last of so many further calls may be sent, if nobody else spends any."""
        now = self._clock()
        return forecast([min(until, now) for until in self._past_calls()], calls, now, self._rates)

    def _past_calls(self) -> list[float]:
        query = "SELECT until FROM calls WHERE account = ? AND until > ? ORDER BY until"
        bounds = (self._account, self._clock() - self._longest)
        return self._transact(lambda database: [row[0] for row in database.execute(query, bounds)])

    def _reserve(self, database: sqlite3.Connection) -> Reservation | float:
        now = self._clock()
        self._tidy(database, now)
        gate_wait, probe = self._look_at_gate(database, now)
        longest_wait = max([gate_wait, *(self._seconds_until_free(database, rate, now) for rate in self._rates)])
        if longest_wait > 0:
            return longest_wait
        if probe:
            self._set_gate(database, closed_until=now, probe_until=now + MAX_CALL_SECONDS)
        row = (self._account, now + MAX_CALL_SECONDS)
        cursor = database.execute("INSERT INTO calls (account, until) VALUES (?, ?)", row)
        return Reservation(cursor.lastrowid or 0, probe)

    def _look_at_gate(self, database: sqlite3.Connection, now: float) -> tuple[float, bool]:
        """Seconds to wait for the gate, and whether the next call is the probe."""
        row = database.execute(
            "SELECT closed_until, probe_until FROM gates WHERE account = ?", (self._account,)
        ).fetchone()
        if row is None:
            return 0.0, False
        closed_until, probe_until = row
        if closed_until > now:
            return closed_until - now, True
        return (_PROBE_POLL_SECONDS, True) if probe_until > now else (0.0, True)

    def _set_gate(self, database: sqlite3.Connection, *, closed_until: float, probe_until: float) -> None:
        database.execute(
            "INSERT OR REPLACE INTO gates (account, closed_until, probe_until) VALUES (?, ?, ?)",
            (self._account, closed_until, probe_until),
        )

    def _seconds_until_free(self, database: sqlite3.Connection, rate: Rate, now: float) -> float:
        row = database.execute(
            "SELECT until FROM calls WHERE account = ? ORDER BY until DESC LIMIT 1 OFFSET ?",
            (self._account, rate.calls - 1),
        ).fetchone()
        return row[0] + rate.seconds - now if row else 0.0

    def _tidy(self, database: sqlite3.Connection, now: float) -> None:
        """Forget what no window holds any more, and bring back what a clock that was set back left in the future."""
        account, latest = self._account, now + MAX_CALL_SECONDS
        database.execute("DELETE FROM calls WHERE until <= ?", (now - self._longest,))
        database.execute("UPDATE calls SET until = ? WHERE account = ? AND until > ?", (now, account, latest))
        database.execute(
            "UPDATE gates SET closed_until = min(closed_until, ?), probe_until = min(probe_until, ?) WHERE account = ?",
            (now + MAX_GATE_SECONDS, latest, account),
        )

    def _transact(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._lock:
            try:
                return self._attempt(work)
            except sqlite3.Error as error:  # the disk is full, the file is gone, somebody holds it locked for long
                self._do_without_file(error)
                return self._attempt(work)

    def _attempt(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._database)
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise
        return result

    def _open(self, path: Path | None) -> sqlite3.Connection:
        if path is None:
            return _connect(":memory:")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _connect(path)
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, (sqlite3.OperationalError, OSError)):
                return self._warn_and_use_memory(path, error)
        broken = path.with_name(f"{path.name}.broken")
        try:
            path.replace(broken)
            database = _connect(path)
        except (sqlite3.Error, OSError) as error:
            return self._warn_and_use_memory(path, error)
        logger.warning(
            "The ledger of calls %s was damaged or from another version: it is now %s and a new one is begun. "
            "Calls of the last hour are forgotten, so the service may throttle once.",
            path,
            broken.name,
        )
        return database

    def _do_without_file(self, error: sqlite3.Error) -> None:
        file, self._database = self._database, self._warn_and_use_memory(None, error)
        with contextlib.suppress(sqlite3.Error):  # what it knows is worth keeping as far as it can still be read
            # Row by row, since a copy of its pages would hold the same damage.
            for table, columns in (("calls", "id, account, until"), ("gates", "account, closed_until, probe_until")):
                rows = file.execute(f"SELECT {columns} FROM {table}")  # noqa: S608  of the two above
                self._database.executemany(f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?)", rows)  # noqa: S608
        file.close()

    @staticmethod
    def _warn_and_use_memory(path: Path | None, error: Exception) -> sqlite3.Connection:
        logger.warning(
            "The ledger of calls%s cannot be used (%s): this run keeps its own and does not see the calls of other "
            "processes. Set `quota_store` to a file that can be written.",
            f" {path}" if path else "",
            error,
        )
        return _connect(":memory:")


def forecast(past: Iterable[float], calls: int, now: float, rates: Sequence[Rate]) -> float:
    """Seconds from now until the last of `calls` calls may be sent, given when earlier ones were (sorted)."""
    times = list(past)
    for _ in range(calls):
        times.append(max([now, *(times[-rate.calls] + rate.seconds for rate in rates if len(times) >= rate.calls)]))
    return times[-1] - now if calls else 0.0


def default_path() -> Path:
    """The file that `quota_store` stands for when it is not set."""
    return Path(platformdirs.user_cache_dir("tap-defender-lr", appauthor=False)) / "quota.sqlite"


def _connect(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError("another version")
        if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):  # the file is small: this takes no time
            raise sqlite3.DatabaseError("damaged")
        database.executescript(
            f"""
            BEGIN IMMEDIATE;
            CREATE TABLE IF NOT EXISTS calls (
                id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, until REAL NOT NULL
            );
            CREATE INDEX IF NOT EXISTS calls_by_time ON calls (account, until);
            CREATE TABLE IF NOT EXISTS gates (
                account TEXT PRIMARY KEY, closed_until REAL NOT NULL, probe_until REAL NOT NULL
            );
            PRAGMA user_version = {_VERSION};
            COMMIT;
            """
        )
    except BaseException:
        database.close()
        raise
    return database
