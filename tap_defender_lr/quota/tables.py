"""The two tables of the ledger, and what a transaction on them may rely on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    insert,
    select,
)
from sqlalchemy.exc import DBAPIError

from tap_defender_lr.redaction import redact

METADATA = MetaData()
_ID = BigInteger().with_variant(Integer, "sqlite")
CALLS = Table(
    "tap_defender_lr_calls",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("account", Text, nullable=False),
    Column("until", Double, nullable=False),
    Index("tap_defender_lr_calls_by_time", "account", "until"),
    sqlite_autoincrement=True,
)
"""`until`: Unix seconds at which a call is made, or at the latest will be."""
GATES = Table(
    "tap_defender_lr_gates",
    METADATA,
    Column("account", Text, primary_key=True),
    Column("closed_until", Double, nullable=False),
    Column("probe_until", Double, nullable=False),
)
"""One row for each account: what is locked while its calls are looked at. `closed_until` is 0 while it is open."""
_LOCK = select(GATES.c.closed_until, GATES.c.probe_until).where(GATES.c.account == bindparam("name")).with_for_update()
_NEW = {"closed_until": 0.0, "probe_until": 0.0}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Account:
    """What a transaction works on, while nobody else can.

    Attributes:
        now: Unix seconds, by the clock of everybody who shares the store.
        closed_until: Of its gate; likewise `probe_until`.
    """

    database: Connection
    name: str
    now: float
    closed_until: float
    probe_until: float


Work = Callable[[Account], _T]


class QuotaStore(Protocol):
    """Where the tables are. Safe to use from several threads."""

    def transact(self, account: str, work: Work[_T], *, patient: bool = True) -> _T:
        """Do something while nobody else looks at the calls of an account or writes to them.

        Raises:
            QuotaStoreError: A shared database is away for too long (at once unless `patient`), or refuses.
        """

    def close(self) -> None: ...


def lock(connection: Connection, name: str, clock: Callable[[], float]) -> Account:
    """Let nobody else in before the transaction ends; SQLite lets in one at a time anyway.

    Raises:
        IntegrityError: The account is new, and another process was quicker to say so.
    """
    gate = connection.execute(_LOCK, {"name": name}).mappings().one_or_none()
    if gate is None:
        connection.execute(insert(GATES), {"account": name, **_NEW})
    # The time is read when the lock is held: to wait for it may take long.
    return Account(connection, name, clock(), **(gate or _NEW))


def in_words(error: Exception) -> str:
    """The first line of what a driver says, without a secret."""
    first, *_ = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines() or ["no reason given"]
    return redact(first)[:300].rstrip(". ")
