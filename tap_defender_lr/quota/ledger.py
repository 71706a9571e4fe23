"""The ledger of API calls: no window of the quota is ever exceeded, across threads, processes, hosts and runs.

Two phases make it exact without a safety margin. `reserve` books a call *before* it is sent, as if it arrived at the
latest moment possible; `settle` books it at the moment its answer came. The call reached the service before that, so
a window that counts settled times never holds fewer calls than the service's own. A process that is killed in between
leaves its booking behind, which only makes the others wait a little longer.

A 429 closes one gate for everybody: no call goes out before the time the service named, and then a single one goes
first to find out.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, select, update

from tap_defender_lr.errors import QuotaStoreError
from tap_defender_lr.quota import HOUR, MINUTE, Rate, forecast
from tap_defender_lr.quota.tables import CALLS, GATES
from tap_defender_lr.workers import start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tap_defender_lr.quota.tables import Account, QuotaStore

MAX_CALL_SECONDS = 120.0
"""No call takes longer from its reservation to its arrival at the service."""
_FRESH_SECONDS = 60.0
"""From then on a call that was not sent yet may arrive later than that: its process was stopped, or signed in."""
MAX_GATE_SECONDS = HOUR + MINUTE
_PROBE_POLL_SECONDS = 0.5
_TOLD_SECONDS = 30.0
_LOOK_SECONDS = 2.0
"""How long a figure for the log is waited for."""
_OPEN = 0.0
"""`closed_until` of a gate that lets everybody through."""

# Made once: to put a statement together costs several times what it takes to run it.
_MINE, _UNTIL = CALLS.c.account == bindparam("name"), CALLS.c.until
_BOOK = insert(CALLS).returning(CALLS.c.id)
_MADE = update(CALLS).where(CALLS.c.id == bindparam("reserved")).values(until=bindparam("now"))
_FORGET = delete(CALLS).where(_MINE, bindparam("before") >= _UNTIL)
_BRING_BACK = update(CALLS).where(_MINE, bindparam("latest") < _UNTIL).values(until=bindparam("now"))
_PAST = select(_UNTIL).where(_MINE, bindparam("after") < _UNTIL).order_by(_UNTIL)
_NEWEST_FIRST = select(_UNTIL).where(_MINE).order_by(_UNTIL.desc()).limit(1)
_SET_GATE = update(GATES).where(GATES.c.account == bindparam("name"))
_SET_GATE = _SET_GATE.values(closed_until=bindparam("closed"), probe_until=bindparam("probed"))

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reservation:
    """Permission to send one call.

    Attributes:
        until: Unix seconds at which it is sent at the latest.
        probe: It finds out whether the service takes calls again.
        booked_at: Unix seconds by the clock of this machine.
    """

    id: int
    until: float
    probe: bool = False
    booked_at: float = 0.0

    @property
    def is_stale(self) -> bool:
        """Whether it is too late to send the call: settle it, and ask for another one."""
        return time.time() - self.booked_at > _FRESH_SECONDS


class Ledger:
    """Shared by all threads of the process through one object, by all processes through its store.

    Args:
        store: Where it is kept.
        account: Whose quota it is: tenant and app.
        rates: What may be spent.
    """

    def __init__(self, store: QuotaStore, account: str, rates: Sequence[Rate]) -> None:
        self._store = store
        self._account = account
        self._rates = sorted(rates, key=lambda rate: rate.seconds)
        self._longest = max(rate.seconds for rate in rates)
        # For each window, the call that must have left it before the next one fits in.
        self._last_ones = select(*(_NEWEST_FIRST.offset(rate.calls - 1).scalar_subquery() for rate in self._rates))
        self._lock = threading.Lock()
        self._told = 0.0
        self._tidied = -math.inf
        self._seen: tuple[float, list[float]] | None = None
        self._look: Future[tuple[float, list[float]]] | None = None

    def close(self) -> None:
        self._store.close()

    def acquire(self, wait: Callable[[float], None]) -> Reservation:
        """Wait until a call may be sent, and book it. `wait` may raise to give up.

        Raises:
            QuotaStoreError: The store cannot be used.
        """
        while True:
            outcome = self.reserve()
            if isinstance(outcome, Reservation):
                return outcome
            self._tell(outcome)
            wait(outcome)

    def _tell(self, seconds: float) -> None:
        """Say in the log that everybody waits, once for all threads."""
        free_at = time.monotonic() + seconds
        with self._lock:
            if seconds < _TOLD_SECONDS or free_at - self._told < _TOLD_SECONDS:
                return
            self._told = free_at
        logger.info("The quota is spent: the next call is possible in %.0f min.", math.ceil(seconds / 60))

    def reserve(self) -> Reservation | float:
        """Book a call that is sent right away, or tell how many seconds to wait before asking again."""
        return self._store.transact(self._account, self._reserve)

    def settle(self, reservation: Reservation, *, answered: bool = True, throttled_for: float | None = None) -> None:
        """Book a call as made now.

        Args:
            reservation: What `reserve` gave.
            answered: False if the call ended without an answer of the service.
            throttled_for: Seconds the service wants everybody to wait (HTTP 429), else None.
        """

        def work(account: Account) -> None:
            made = account.database.execute(_MADE, {"reserved": reservation.id, "now": account.now})
            if made.rowcount == 0:  # forgotten, since its answer took more than an hour
                account.database.execute(_BOOK, {"account": account.name, "until": account.now})
            if throttled_for is not None:
                asked = account.now + min(max(throttled_for, 0.0), MAX_GATE_SECONDS)
                _set_gate(account, closed_until=max(asked, account.closed_until), probe_until=0.0)
            elif reservation.probe and reservation.until == account.probe_until:  # else another one was sent since
                _set_gate(account, closed_until=_OPEN if answered else account.now, probe_until=0.0)

        self._store.transact(self._account, work)

    def left(self) -> dict[float, int] | None:
        """Calls that could be made at once, by length of the window in seconds; None if the store never answered."""
        seen = self._past_calls()
        if seen is None:
            return None
        now, past = seen
        return {
            rate.seconds: max(rate.calls - sum(until > now - rate.seconds for until in past), 0) for rate in self._rates
        }

    def forecast(self, calls: int) -> float:
        """Seconds until the last of so many further calls may be sent, if nobody else spends any."""
        now, past = self._past_calls() or (0.0, [])
        return forecast([min(until, now) for until in past], calls, now, self._rates)

    def _past_calls(self) -> tuple[float, list[float]] | None:
        """Now, and when the calls were made that some window holds; as last seen, while the store is away.

        Only people look at it, so nobody waits for it: whoever writes the log must hear a signal.
        """

        def work(account: Account) -> tuple[float, list[float]]:
            bounds = {"name": account.name, "after": account.now - self._longest}
            return account.now, list(account.database.execute(_PAST, bounds).scalars())

        if self._look is None or self._look.done():
            self._look = start(lambda: self._store.transact(self._account, work, patient=False))
        try:
            self._seen = self._look.result(_LOOK_SECONDS)
        except (QuotaStoreError, NotYetError) as error:
            logger.debug("The ledger of calls does not answer: %s", error)
        return self._seen

    def _reserve(self, account: Account) -> Reservation | float:
        if abs(account.now - self._tidied) >= MINUTE:
            account = self._tidy(account)
        is_probe = account.closed_until != _OPEN
        probed_for = _PROBE_POLL_SECONDS if account.probe_until > account.now else 0.0
        longest_wait = max(account.closed_until - account.now, probed_for, self._seconds_until_free(account))
        if longest_wait > 0:
            return longest_wait
        until = account.now + MAX_CALL_SECONDS
        if is_probe:
            _set_gate(account, closed_until=account.now, probe_until=until)
        booked = account.database.execute(_BOOK, {"account": account.name, "until": until})
        return Reservation(booked.scalar_one(), until, is_probe, time.time())

    def _seconds_until_free(self, account: Account) -> float:
        untils = account.database.execute(self._last_ones, {"name": account.name}).one()
        # A call under way will soon be settled, or was left behind by a process that was killed: nobody knows which.
        waits = (
            min(until, account.now) + rate.seconds - account.now
            for rate, until in zip(self._rates, untils, strict=True)
            if until is not None
        )
        return max(waits, default=0.0)

    def _tidy(self, account: Account) -> Account:
        """Forget what no window holds any more, and bring back what a clock that was set back left in the future."""
        now, latest = account.now, account.now + MAX_CALL_SECONDS
        self._tidied = now
        account.database.execute(_FORGET, {"name": account.name, "before": now - self._longest})
        account.database.execute(_BRING_BACK, {"name": account.name, "latest": latest, "now": now})
        closed_until = min(account.closed_until, now + MAX_GATE_SECONDS)
        probe_until = min(account.probe_until, latest)
        if (closed_until, probe_until) == (account.closed_until, account.probe_until):
            return account
        return _set_gate(account, closed_until=closed_until, probe_until=probe_until)


def _set_gate(account: Account, *, closed_until: float, probe_until: float) -> Account:
    account.database.execute(_SET_GATE, {"name": account.name, "closed": closed_until, "probed": probe_until})
    return replace(account, closed_until=closed_until, probe_until=probe_until)
