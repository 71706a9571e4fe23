"""The setting `quota_store`: what is wrong with it, and the store that it names."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from tap_defender_lr.quota.postgres_store import PostgresStore
from tap_defender_lr.quota.sqlite_store import SqliteStore
from tap_defender_lr.redaction import remember

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_defender_lr.quota.tables import QuotaStore

_EXAMPLE = "postgresql://user@host:5432/database"
_PSYCOPG = "postgresql+psycopg"
_POSTGRESQL = {"postgres", "postgresql", _PSYCOPG}


def problems(setting: str) -> Iterator[str]:
    """One sentence if the ledger cannot be there. Makes no call."""
    if "://" not in setting:
        return
    try:
        url = make_url(setting)
    except (ArgumentError, ValueError):
        yield f"`quota_store` is not a database URL: write one such as {_EXAMPLE}, or the path of a SQLite file."
        return
    if url.drivername == "sqlite":
        if not url.database:
            yield "`quota_store` names no file: write its path."
    elif url.drivername not in _POSTGRESQL:
        yield (
            "`quota_store` is the URL of a database that cannot hold the ledger: write the path of a SQLite file, or "
            f"a URL of PostgreSQL such as {_EXAMPLE}."
        )
    elif importlib.util.find_spec("psycopg") is None:
        package = "tap-defender-lr[postgres]"
        yield (
            f"`quota_store` is in PostgreSQL, for which the driver is missing: pip install '{package}' (with Meltano: "
            f"pip_url: {package})."
        )


def open_store(setting: str | None, *, pause: Callable[[float], None]) -> QuotaStore:
    """The store that `quota_store` names. A shared database is not asked before it is needed."""
    if setting is None:
        return SqliteStore(default_path())
    if "://" not in setting:
        return SqliteStore(Path(setting).expanduser())
    url = make_url(setting)
    if url.drivername == "sqlite":
        return SqliteStore(Path(url.database or "").expanduser())
    remember(setting)
    remember(url.password and str(url.password))
    return PostgresStore(url.set(drivername=_PSYCOPG), pause=pause)


def default_path() -> Path:
    """The file that `quota_store` stands for when it is not set."""
    return Path(platformdirs.user_cache_dir("tap-defender-lr", appauthor=False)) / "quota.sqlite"
