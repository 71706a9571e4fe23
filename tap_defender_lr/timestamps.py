"""Times as the tap writes them: RFC 3339 UTC with exactly 7 decimals, so that text order is time order.

The service writes .NET ticks of 100 ns with trailing zeros cut, 0 to 7 decimals. Compared as text those sort
wrongly ("…41.93Z" > "…41.93163Z"), and a Python `datetime` keeps only 6 of the 7 decimals.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

_PATTERN = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:[.,](\d{1,12}))?\s*(?:[Zz]|([+-])(\d\d):?(\d\d))?",
    re.ASCII,
)
EPOCH = "1970-01-01T00:00:00.0000000Z"


def normalize(value: object) -> str | None:
    """The time in the tap's form, or None for anything that is no time (null, empty text, nonsense).

    A time without zone is taken for UTC, as the service documents all its times to be.
    """
    match = _PATTERN.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    day, clock, fraction, sign, hours, minutes = match.groups()
    fraction = (fraction or "")[:7].ljust(7, "0")
    try:
        if sign is None:
            date.fromisoformat(day)  # whether there is such a day
            return f"{day}T{clock}.{fraction}Z"
        moment = datetime.fromisoformat(f"{day}T{clock}+00:00")
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return _write(moment - offset if sign == "+" else moment + offset, fraction)
    except (ValueError, OverflowError):
        return None


def from_unix(seconds: float) -> str:
    """Unix seconds in the tap's form."""
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return _write(moment, f"{moment.microsecond:06d}0")


def from_milliseconds(milliseconds: int) -> str | None:
    """Unix milliseconds in the tap's form, None for a time beyond the years 1 to 9999."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None
    return _write(moment, f"{moment.microsecond:06d}0")


def to_unix(stamp: str) -> float:
    """Unix seconds of a time in the tap's form."""
    return _moment(stamp).timestamp() + float("0" + stamp[19:27])


def shift(stamp: str, seconds: int) -> str:
    """A time in the tap's form moved by whole seconds, no further back than the year 1."""
    try:
        return _write(_moment(stamp) + timedelta(seconds=seconds), stamp[20:27])
    except OverflowError:
        return "0001-01-01T00:00:00.0000000Z" if seconds < 0 else "9999-12-31T23:59:59.9999999Z"


def _moment(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp[:19] + "+00:00")


def _write(moment: datetime, fraction: str) -> str:
    return f"{moment.isoformat()[:19]}.{fraction}Z"
