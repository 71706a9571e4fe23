"""The devices of the make-believe company Contoso."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Literal

DOMAIN = "corp.contoso.example"

Platform = Literal["client", "server", "linux", "macos"]

_SITES = ("fra", "muc", "lon", "nyc", "sgp")
#: Share of the fleet, what its devices are called, and how many digits follow.
_KINDS: dict[Platform, tuple[float, tuple[str, ...], int]] = {
    "server": (0.12, ("dc", "sql", "file", "app", "print", "rds"), 2),
    "linux": (0.11, ("web", "db", "k8s", "ci"), 2),
    "macos": (0.07, ("mb",), 4),
    "client": (0.70, ("lt", "lt", "lt", "ws"), 4),
}


@dataclass(frozen=True)
class Device:
    """One machine.

    Attributes:
        machine_id: 40 hex digits.
        name: Name without the domain.
    """

    machine_id: str
    name: str
    platform: Platform

    @property
    def dns_name(self) -> str:
        return f"{self.name}.{DOMAIN}"

    @property
    def is_windows(self) -> bool:
        return self.platform in {"client", "server"}

    @property
    def is_laptop(self) -> bool:
        return self.platform == "macos" or "-lt-" in self.name

    def traits(self, subject: str) -> Random:
        """What stays with the device: a generator that gives the same every day."""
        return Random(f"{subject} {self.machine_id}")  # noqa: S311 - make-believe, not secrets


def make_devices(rng: Random, count: int) -> list[Device]:
    """Draw a fleet of `count` devices in no particular order: seven of ten are Windows clients."""
    platforms: list[Platform] = []
    for platform, (share, _, _) in _KINDS.items():
        left = count - len(platforms)
        platforms += [platform] * (left if platform == "client" else min(left, round(count * share)))
    rng.shuffle(platforms)
    numbers: Counter[str] = Counter()
    devices = []
    for platform in platforms:
        _, roles, digits = _KINDS[platform]
        prefix = f"{rng.choice(_SITES)}-{rng.choice(roles)}"
        numbers[prefix] += 1 if digits == 2 else rng.randint(1, 7)
        number = numbers[prefix] + (0 if digits == 2 else 100)
        name = f"{prefix}-{number:0{digits}d}"
        devices.append(Device(f"{rng.getrandbits(160):040x}", name, platform))
    return devices
