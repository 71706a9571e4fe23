"""Whose turn it is."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from many_tenants.tenants import Tenant, Tenants


def newest_turn(name: str, minute: datetime, every_minutes: int) -> int:
    """When it was last the turn of a tenant, in Unix seconds: its name decides on the minute."""
    now = int(minute.timestamp()) // 60
    return 60 * (now - (now - zlib.crc32(name.encode())) % every_minutes)


def due(tenants: Tenants, minute: datetime, started: Mapping[str, float]) -> list[Tenant]:
    """Those whose last run started before their newest turn: a turn that nobody was there for is made up for.

    Args:
        tenants: The list.
        minute: Now.
        started: When the last run of a tenant started, in Unix seconds; one that is left out has not had any for long.
    """
    return [
        tenant
        for tenant in tenants
        if started.get(tenant.name, 0) < newest_turn(tenant.name, minute, tenants.every_minutes)
    ]
