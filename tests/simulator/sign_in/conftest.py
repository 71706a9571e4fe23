"""Simulators that MSAL trusts, and an environment without any identity of whoever runs the tests."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import requests

from defender_simulator import Simulator
from tests.simulator.sign_in.apps import make_tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from defender_simulator import Tenant


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with Simulator(make_tenant(), calls_per_minute=10_000, calls_per_hour=10_000) as sim:
        yield sim


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:  # MSAL would leave its own session open
        yield session


@pytest.fixture(autouse=True)
def no_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """MSAL looks for a managed identity in the environment of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("AZURE", "IDENTITY_", "IMDS_", "MSI_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)


@pytest.fixture
def sim(shared: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    trust(shared, monkeypatch)
    return shared


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    @contextmanager
    def serve(tenant: Tenant | None = None, **options: Any) -> Iterator[Simulator]:
        with Simulator(tenant or make_tenant(), **options) as sim:
            trust(sim, monkeypatch)
            yield sim

    return serve


def trust(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sim.environment().items():
        monkeypatch.setenv(name, value)
