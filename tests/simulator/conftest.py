"""Fixtures of the tests of the simulator's server: one that many share, and a clock for those of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulator.small_tenant import Client, Clock, action, make_tenant, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from defender_simulator import Simulator


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Simulator, Client]]:
    """For tests that leave no trace in it."""
    actions = [
        action(1, creationDateTimeUtc="2026-01-01T00:00:00Z", status="Failed"),
        action(2, creationDateTimeUtc="2026-01-01T00:00:00.1234567Z", requestor=None),
        action(3, creationDateTimeUtc="2026-01-01T00:00:00.123456Z", type="Isolate", commands=[]),
        action(4, creationDateTimeUtc="2026-01-02T00:00:00.93Z", requestor="O'Brien", status="InProgress"),
    ]
    with serving(make_tenant(actions), calls_per_minute=10_000, calls_per_hour=10_000) as both:
        yield both


@pytest.fixture
def sim(shared: tuple[Simulator, Client]) -> Simulator:
    return shared[0]


@pytest.fixture
def client(shared: tuple[Simulator, Client]) -> Client:
    return shared[1]
