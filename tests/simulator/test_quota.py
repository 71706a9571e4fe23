"""The quota of an app: both windows are exact, and what counts in them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from defender_simulator import App
from defender_simulator.calls import Call, worst_window
from tests.simulator.small_tenant import APP, TENANT, action, make_tenant, serving, sign_in

if TYPE_CHECKING:
    from tests.simulator.small_tenant import Client, Clock


def statuses(client: Client, calls: int) -> list[int]:
    return [client.list(top="1").status_code for _ in range(calls)]


def test_quota_of_a_minute_is_exact(clock: Clock) -> None:
    with serving(clock=clock) as (sim, client):
        assert statuses(client, 50) == [200] * 50
        clock.now += 51.5
        assert statuses(client, 50) == [200] * 50
        refused = client.link(action()["id"])  # all endpoints share it
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "9")
        assert refused.json()["error"] == {
            "code": "429",
            "message": "API calls quota exceeded! Maximum allowed 100 per 00:01:00 for the key "
            "Destination+TenantID+AppID. You can send requests again in 9 seconds.",
            "target": TENANT,
        }
        clock.now += 8.25
        assert statuses(client, 1) == [429]
        clock.now += 0.25
        assert statuses(client, 51) == [200] * 50 + [429]
        assert sim.worst_window(60) == 100
        assert [call.status for call in sim.log].count(429) == 3


def test_quota_of_an_hour(clock: Clock) -> None:
    with serving(clock=clock, calls_per_minute=5, calls_per_hour=8) as (_, client):
        assert statuses(client, 5) == [200] * 5
        clock.now += 60
        assert statuses(client, 4) == [200] * 3 + [429]
        answer = client.list()
        assert "Maximum allowed 8 per 01:00:00" in answer.text
        assert answer.headers["Retry-After"] == "3540"


def test_rejected_calls_count_when_told_so(clock: Clock) -> None:
    with serving(clock=clock, calls_per_minute=2, count_rejected=True) as (_, client):
        assert statuses(client, 2) == [200] * 2
        clock.now += 59
        assert statuses(client, 2) == [429] * 2
        clock.now += 1
        assert statuses(client, 1) == [429]


def test_each_app_has_its_own_quota(clock: Clock) -> None:
    other = App("bbbbbbbb-0000-0000-0000-000000000002", "another-secret")
    with serving(make_tenant(apps=[APP, other]), clock=clock, calls_per_minute=2) as (sim, client):
        assert statuses(client, 3) == [200, 200, 429]
        settings = sim.settings(other)
        token = sign_in(sim, client_id=settings["client_id"], client_secret=settings["client_secret"]).json()
        client.session.headers["Authorization"] = f"Bearer {token['access_token']}"
        assert statuses(client, 3) == [200, 200, 429]
        assert sim.worst_window(60) == 2


def test_quota_holds_under_concurrency() -> None:
    with serving(calls_per_minute=10, api_latency=(0.0, 0.02)) as (sim, client), ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: statuses(client, 1)[0], range(24)))
        assert sorted(found) == [200] * 10 + [429] * 14
        assert sim.worst_window(60) == 10


def test_worst_window_is_half_open() -> None:
    calls = [
        Call("list", at, "/", "", {}, status, client_id="a")
        for at, status in [(0, 200), (1, 429), (9.9, 200), (10, 200)]
    ]
    assert worst_window(calls, 10) == 2
    assert worst_window(calls, 10.1) == 3
    assert worst_window([], 10) == 0
