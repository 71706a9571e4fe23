"""What Get-InstalledSoftware prints: most of it is the same every day, some is updated, removed or put back."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from . import powershell, software
from .documents import DAY, document, shell_json

if TYPE_CHECKING:
    from random import Random

    from .devices import Device
    from .software import Package

#: Days since 1970: on this one, all software had the version that `software` tells.
_FIRST_DAY = 19_967
#: How many days after it came out a device takes a new version.
_LAGS = (0, 0, 1, 3, 8, 21)
#: Of so many days, a program that not every device has is away for some.
_CYCLE, _AWAY = 60, 4

_ENTRY = "The entry {entry} (registry_64) could not be read: Requested registry access is not allowed."


class Line(NamedTuple):
    """One package in a list.

    Attributes:
        texts: Its row, for each of `_LAGS`.
    """

    is_everywhere: bool
    texts: tuple[str, ...]


def print_document(device: Device, at: int, rng: Random) -> str:
    """Put together ready texts: a large fleet has half a million rows."""
    today = at // DAY
    lines = _lines("windows" if device.is_windows else device.platform, today)
    traits = device.traits("software")
    chosen = _chosen(device, lines, traits)
    lags = traits.choices(range(len(_LAGS)), k=len(chosen))
    turns = traits.choices(range(_CYCLE), k=len(chosen))
    rows = [
        lines[place].texts[lag]
        for place, lag, turn in zip(chosen, lags, turns, strict=True)
        if lines[place].is_everywhere or (today + turn) % _CYCLE >= _AWAY
    ]
    problems = []
    if device.is_windows and rng.random() < 0.04:
        problems.append(_ENTRY.format(entry=f"{{{rng.getrandbits(32):08X}-90F1-4D4F-9C2D-5C7D9F1B2A10}}"))
    return document(device, "software", rows, problems)


def _chosen(device: Device, lines: list[Line], traits: Random) -> list[int]:
    """Draw the places of the packages that the device has, in the order in which they are printed."""
    other = [place for place, line in enumerate(lines) if not line.is_everywhere]
    if device.platform == "macos":
        count = traits.randint(30, 45)
    elif device.platform == "linux":
        count = traits.randint(200, 400)
    elif device.platform == "server":
        count = traits.randint(8, 30)
    else:
        # One client in eight is a developer's.
        count = traits.randint(170, len(other)) if traits.random() < 0.125 else traits.randint(15, 70)
    everywhere = [place for place, line in enumerate(lines) if line.is_everywhere]
    return sorted(everywhere + traits.sample(other, min(count, len(other))))


@lru_cache(maxsize=32)
def _lines(kind: str, today: int) -> list[Line]:
    """All that can be in a list, as it reads today."""
    if kind == "windows":
        everywhere = {package.name for package in software.windows_base()}
        # PowerShell sorts without regard to upper and lower case.
        packages = sorted([*software.windows_base(), *software.windows_other()], key=lambda each: each.name.lower())
    else:
        everywhere = set()
        packages = sorted(software.linux() if kind == "linux" else software.macos())
    lines = []
    for number, package in enumerate(packages):
        texts = tuple(_text(kind, package, number, today, variant) for variant in range(len(_LAGS)))
        lines.append(Line(package.name in everywhere, texts))
    return lines


def _text(kind: str, package: Package, number: int, today: int, variant: int) -> str:
    """Print the row of a device that takes updates `_LAGS[variant]` days after they come out."""
    period = 7 + 5 * number % 29
    release = max(0, (today - _LAGS[variant] - _FIRST_DAY + number) // period)
    updated = software.release(package, release)
    if release and updated != package:
        installed = _FIRST_DAY - number + release * period + _LAGS[variant]
    else:
        installed = _FIRST_DAY - 17 * number % 400 - 61 * variant
    row: dict[str, Any] = {"name": updated.name, "version": updated.version}
    if kind == "windows":
        in_32_bit = "x86" in package.name.lower() or (number % 6 == 4 and "64" not in package.name)
        row |= {
            "source": "registry_32" if in_32_bit else "registry_64",
            "publisher": package.publisher or None,
            "install_date": None if number % 11 == 5 else str(date(1970, 1, 1) + timedelta(days=installed)),
            "size_kb": None if number % 7 == 3 else 500 + number * 7919 % 900_000,
        }
        return powershell.to_compressed_json(row)
    if kind == "linux":
        row |= {"source": "dpkg", "publisher": package.publisher, "install_date": None}
        return shell_json(row | {"size_kb": 40 + number * 7919 % 90_000})
    return shell_json(row | {"source": "applications", "publisher": None, "install_date": None, "size_kb": None})
