"""A make-believe company of any size: a tenant full of Live Response results, and what the next day brings.

The same arguments give the same bytes. As in the service, a device takes one action at a time: a campaign skips those
whose earlier action is open.
"""

from __future__ import annotations

import random
import time

from . import side_actions
from .campaigns import ADMINS, BITLOCKER, HOUR, MINUTE, PAUSE, PORTS, SOFTWARE, TASKS, Fate, Run, Stage
from .devices import Device, make_devices
from .dirt import DIRT, add_dirt, dirt_id
from .shapes import SECOND, command, machine_action, result_body, ticks_of, timestamp
from .tenant import App, Tenant

__all__ = [
    "CLIENT_ID",
    "CLIENT_SECRET",
    "DIRT",
    "TENANT_ID",
    "command",
    "dirt_id",
    "machine_action",
    "make_tenant",
    "next_day",
    "result_body",
]

TENANT_ID = "c0470500-0000-4000-8000-00000007e4a7"
CLIENT_ID = "c0470500-0000-4000-8000-000000000a99"
CLIENT_SECRET = "FAKE~simulator-only.not-a-real-secret_00"  # noqa: S105 - opens nothing but the simulator


def make_tenant(*, devices: int = 40, seed: int = 7, now: float | None = None) -> Tenant:
    """Make a tenant whose devices ran five campaigns in the 48 hours before `now` (unix seconds; default: the present).

    From 40 devices on, every kind of `DIRT` is in it.
    """
    tenant = Tenant(TENANT_ID, [App(CLIENT_ID, CLIENT_SECRET)])
    fleet = _fleet(devices, seed)
    rng = random.Random(f"world {seed}")
    end = _ticks(now)
    stage = Stage(tenant, rng, end)
    pause = min(PAUSE, 5 * HOUR // devices)
    # Each campaign has an end before the next thing begins. The last one is still under way.
    plan = [
        (SOFTWARE, end - 46 * HOUR, end - 34 * HOUR),
        (BITLOCKER, end - 33 * HOUR, end - 27 * HOUR - 30 * MINUTE),
        (ADMINS, end - 19 * HOUR, end - 12 * HOUR),
        (PORTS, end - 11 * HOUR - 30 * MINUTE, end - 5 * HOUR - 30 * MINUTE),
        (TASKS, end - 20 * SECOND - devices * pause, end),
    ]
    gone_since = {device: rng.randrange(len(plan)) for device in rng.sample(fleet, (devices + 3) // 7)}
    last_week = stage.time_out(fleet)
    runs: list[Run] = []
    for number, (campaign, start, limit) in enumerate(plan):
        offline = [device for device, since in gone_since.items() if since == number]
        runs += stage.roll_out(campaign, fleet, start=start, pause=pause, limit=limit, offline=offline)
    # A fleet of a few devices, for a test of something else, is done.
    stage.decide(runs, unfinished=(Fate.EXECUTING, Fate.EXECUTING, Fate.PENDING) if devices >= 10 else ())
    stage.play(last_week + runs)
    # Between the second and the third campaign nothing else runs.
    free = [device for device in fleet if device.is_windows and stage.is_free(device, end - 27 * HOUR)]
    side_actions.add_sessions(tenant, free, rng, start=end - 27 * HOUR, end=end - 20 * HOUR)
    side_actions.add_other_actions(tenant, fleet, rng, end)
    # A small fleet has only a part of the dirt, or hardly anything in it would be clean.
    add_dirt(tenant, end, rng, kinds=len(DIRT) * min(devices, 40) // 40)
    tenant.actions.sort(key=lambda action: ticks_of(action["creationDateTimeUtc"]))
    return tenant


def next_day(tenant: Tenant, *, devices: int = 40, seed: int = 7, now: float | None = None) -> None:
    """Bring a tenant of `make_tenant` up to `now`: open actions end, and three campaigns run over the fleet again.

    All of it happens after the tenant's newest update, and final actions stay as they are. `devices` and `seed` are
    those the tenant was made with. A day later still, call it again.

    Raises:
        ValueError: `now` is not at least a second after the newest update, or the tenant has other devices.
    """
    fleet = _fleet(devices, seed)
    end = _ticks(now)
    names = ("lastUpdateDateTimeUtc", "lastUpdateTimeUtc")
    start = max(ticks_of(action[name]) for action in tenant.actions for name in names if name in action)
    if end - start < SECOND:
        raise ValueError(f"now must be at least a second after the tenant's newest update, {timestamp(start)}.")
    noon = start + (end - start) // 2
    rng = random.Random(f"day {seed} {len(tenant.actions)}")
    stage = Stage(tenant, rng, end)
    stage.finish_open(fleet, after=start, limit=noon)
    # Each of the three has the same part of the afternoon. What waits for its device is of the last one.
    part = (end - noon) // 3
    pause = min(PAUSE, part // 2 // devices)
    offline = rng.sample(fleet, devices // 20)
    for number, campaign in enumerate((SOFTWARE, ADMINS, TASKS)):
        begin, limit = noon + 1 + number * part, noon + (number + 1) * part
        away = offline if campaign is TASKS else []
        runs = stage.roll_out(campaign, fleet, start=begin, pause=pause, limit=limit, offline=away)
        stage.decide(runs)
        stage.play(runs)


def _fleet(devices: int, seed: int) -> list[Device]:
    if devices < 1:
        raise ValueError("A fleet has at least one device.")
    return make_devices(random.Random(f"fleet {seed}"), devices)


def _ticks(now: float | None) -> int:
    return int((time.time() if now is None else now) * SECOND)
