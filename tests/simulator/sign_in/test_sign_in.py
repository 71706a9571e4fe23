"""What does not depend on the way to sign in: roles, settings, secrets, faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from defender_simulator import App, Rule, Tenant
from tests.simulator.sign_in.apps import SECRET_APP, TENANT, app_token, claims, lists, post

if TYPE_CHECKING:
    from collections.abc import Callable

    from defender_simulator import Simulator


def test_an_app_without_roles_has_no_roles_in_its_token(serving: Callable[..., Any], session: requests.Session) -> None:
    with serving(Tenant(TENANT, [App(SECRET_APP, "app-secret", [])])) as sim:
        token = app_token(sim, session, SECRET_APP, "app-secret")["access_token"]
        assert "roles" not in claims(token)
        assert lists(sim, token) == 403


def test_settings_and_secrets_of_an_app_without_a_secret(sim: Simulator) -> None:
    assert "client_secret" not in sim.settings(sim.tenant.apps[0])
    assert sim.settings(sim.tenant.apps[4])["client_secret"] == "app-secret"
    assert "" not in sim.secrets()


@pytest.mark.parametrize("endpoint", ["devicecode", "identity"])
def test_faults(serving: Callable[..., Any], endpoint: str) -> None:
    with serving() as sim:
        sim.rules.append(Rule(endpoint, 503, times=1))
        if endpoint == "devicecode":
            answer = post(sim, {}, "devicecode")
        else:
            answer = requests.get(f"{sim.identity_url}/msi/token", timeout=10)
        assert (answer.status_code, sim.log[0].endpoint) == (503, endpoint)
