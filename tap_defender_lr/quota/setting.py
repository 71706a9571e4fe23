"""The setting `quota_store`: what is wrong with it, and the store that it names."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from tap_defender_lr.redaction import remember

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import URL

    from tap_defender_lr.quota.tables import QuotaStore

_EXAMPLE = "postgresql://user@host:5432/database"
_EITHER = f"write the path of a SQLite file, or a URL of PostgreSQL such as {_EXAMPLE}"
_PSYCOPG = "postgresql+psycopg"
_POSTGRESQL = {"postgres", "postgresql", _PSYCOPG}
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]+:")  # a single letter is a drive of Windows
_SIGN_IN = re.compile(":.*@")
_KEYWORDS = re.compile(
    r"(?:^|[\s;])(?:host|hostaddr|server|port|user|user ?name|password|passfile|dbname|database|service)\s*=",
    re.IGNORECASE,
)
"""Of a connection string that is no URL."""
_SECOND_AT = re.compile(r"[^:/]*:[^@]*@.*@|[^:/@]*:\d+/[^@?]*\?[^@]*=[^@]*@")
"""Behind the scheme. For SQLAlchemy a password begins at the first colon and ends at the first @, wherever that is, and
what comes next is the name of the host, which errors show."""


def problems(setting: str) -> Iterator[str]:
    """One sentence if the ledger cannot be there. Makes no call."""
    if _KEYWORDS.search(setting):
        yield f"`quota_store` is a list of keywords: {_EITHER}."
    elif "://" in setting:
        yield from _url_problems(setting)
    elif _SCHEME.match(setting):
        yield f"`quota_store` has a scheme without //, or a colon in the name of its file: {_EITHER}."
    elif _SIGN_IN.search(_DRIVE.sub("", setting, count=1)):
        yield f"`quota_store` has a user and a password, but no scheme: {_EITHER}."
    else:
        yield from _path_problems(setting)


def _url_problems(setting: str) -> Iterator[str]:
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415  it takes a quarter of a second

    if _SECOND_AT.match(setting.partition("://")[2]):
        yield "`quota_store` has an @ that would end the password too early: write @ in the password as %40."
        return
    try:
        url = _url(setting)
    except (ArgumentError, ValueError):
        yield f"`quota_store` is not a database URL: write one such as {_EXAMPLE}, or the path of a SQLite file."
        return
    if url.drivername == "sqlite":
        if url.database and not url.host:
            yield from _path_problems(url.database)
        else:
            yield "`quota_store` names no file: write its path."
    elif url.drivername not in _POSTGRESQL:
        yield f"`quota_store` is the URL of a database that cannot hold the ledger: {_EITHER}."
    elif importlib.util.find_spec("psycopg") is None:
        package = "tap-defender-lr[postgres]"
        yield (
            f"`quota_store` is in PostgreSQL, for which the driver is missing: pip install '{package}' (with Meltano: "
            f"pip_url: {package})."
        )


def _path_problems(path: str) -> Iterator[str]:
    try:
        Path(path).expanduser()
    except RuntimeError:
        yield "`quota_store` begins with ~, but this machine knows no such home directory: write the whole path."


def open_store(setting: str | None, *, pause: Callable[[float], None]) -> QuotaStore:
    """The store that `quota_store` names. A shared database is not asked before it is needed."""
    from tap_defender_lr.quota.postgres_store import PostgresStore  # noqa: PLC0415  it takes a quarter of a second
    from tap_defender_lr.quota.sqlite_store import SqliteStore  # noqa: PLC0415  likewise

    if setting is None:
        return SqliteStore(default_path())
    if "://" not in setting:
        return SqliteStore(Path(setting).expanduser())
    remember(setting)
    url = _url(setting)
    if url.drivername == "sqlite":
        return SqliteStore(Path(url.database or "").expanduser())
    remember(url.password)
    for name in ("password", "sslpassword"):
        for secret in url.normalized_query.get(name, ()):
            remember(secret)
    return PostgresStore(url.set(drivername=_PSYCOPG), pause=pause)


def _url(setting: str) -> URL:
    from sqlalchemy import make_url  # noqa: PLC0415  it takes a quarter of a second

    return make_url(setting)


def default_path() -> Path:
    """The file that `quota_store` stands for when it is not set."""
    return Path(platformdirs.user_cache_dir("tap-defender-lr", appauthor=False)) / "quota.sqlite"
