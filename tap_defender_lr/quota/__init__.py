"""What the service allows, and how long so many calls take.

It counts calls by tenant and app: 100 in a minute, 1,500 in an hour. Whether its windows slide or are fixed is not
documented; what holds for every sliding window holds for fixed ones too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MINUTE = 60.0
HOUR = 3600.0


@dataclass(frozen=True)
class Rate:
    """At most `calls` calls in any `seconds` seconds."""

    calls: int
    seconds: float


def forecast(past: Iterable[float], calls: int, now: float, rates: Sequence[Rate]) -> float:
    """Seconds from now until the last of `calls` calls may be sent, given when earlier ones were (sorted)."""
    times = list(past)
    for _ in range(calls):
        times.append(max([now, *(times[-rate.calls] + rate.seconds for rate in rates if len(times) >= rate.calls)]))
    return times[-1] - now if calls else 0.0
