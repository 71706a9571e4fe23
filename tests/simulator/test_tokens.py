"""Tokens: who gets one for a client secret, and whom the API lets in with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import msal
import pytest
import requests

from defender_simulator import App, Simulator
from tests.simulator.small_tenant import APP, STRANGER, TENANT, action, make_tenant, serving, sign_in

if TYPE_CHECKING:
    from tests.simulator.small_tenant import Client, Clock


def msal_result(sim: Simulator, monkeypatch: pytest.MonkeyPatch, secret: str) -> dict[str, Any]:
    for name, value in sim.environment().items():
        monkeypatch.setenv(name, value)
    with requests.Session() as session:  # MSAL would leave its own session open
        app = msal.ConfidentialClientApplication(
            APP.client_id,
            client_credential=secret,
            authority=f"{sim.login_url}/{TENANT}",
            instance_discovery=False,
            http_client=session,
        )
        result: dict[str, Any] = app.acquire_token_for_client([sim.token_scope])
    return result


def test_msal_signs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(make_tenant(), token_lifetime=1200) as sim:
        result = msal_result(sim, monkeypatch, APP.client_secret)
        assert result["expires_in"] == 1200
        claims = jwt.decode(result["access_token"], options={"verify_signature": False})
        assert claims["aud"] == "https://api.securitycenter.microsoft.com"
        assert (claims["tid"], claims["appid"], claims["roles"]) == (TENANT, APP.client_id, ["Machine.ReadWrite.All"])
        assert claims["exp"] - claims["iat"] == 1200
        assert [call.endpoint for call in sim.log] == ["discovery", "token"]
        assert result["access_token"] in sim.secrets()


def test_msal_is_told_of_a_wrong_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(make_tenant()) as sim:
        result = msal_result(sim, monkeypatch, "wrong-secret")
        assert result["error"] == "invalid_client"
        assert result["error_description"].startswith("AADSTS7000215: Invalid client secret provided.")
        assert [call.status for call in sim.calls("token")] == [401]


@pytest.mark.parametrize(
    ("changes", "status", "error", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": "rïght-secret"}, 401, "invalid_client", 7000215),
        ({"client_id": STRANGER}, 400, "unauthorized_client", 700016),
        ({"tenant": STRANGER}, 400, "invalid_tenant", 90002),
        ({"scope": "https://graph.microsoft.com/.default"}, 400, "invalid_resource", 500011),
        ({"scope": "Machine.Read.All"}, 400, "invalid_scope", 1002012),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
    ],
)
def test_sign_in_refuses(sim: Simulator, changes: dict[str, str], status: int, error: str, code: int) -> None:
    answer = sign_in(sim, **changes)
    document = answer.json()
    assert (answer.status_code, document["error"], document["error_codes"]) == (status, error, [code])
    assert document["error_description"].startswith(f"AADSTS{code}: ")
    assert {"timestamp", "trace_id", "correlation_id"} <= document.keys()


def test_discovery_of_an_unknown_tenant(sim: Simulator) -> None:
    url = f"{sim.login_url}/contoso.example/v2.0/.well-known/openid-configuration"
    answer = requests.get(url, verify=sim.ca_file, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_tenant")


def test_api_wants_its_own_valid_token(sim: Simulator, client: Client) -> None:
    good = client.session.headers["Authorization"]
    forged = jwt.encode({"aud": "https://api.securitycenter.microsoft.com"}, "x" * 32, "HS256")
    for header in (
        None,
        "Bearer",
        "Bearer nonsense",
        f"Bearer {forged}",
        str(good)[:-4],
        str(good).replace("Bearer", "B"),
    ):
        answer = client.get("machineactions", headers={"Authorization": header})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["target"]) == (401, "Unauthorized", TENANT), header


def test_a_token_expires_by_the_clock(clock: Clock) -> None:
    with serving(clock=clock, token_lifetime=100) as (_, client):
        clock.now += 99
        assert client.list().status_code == 200
        clock.now += 1
        assert client.list().status_code == 401


@pytest.mark.parametrize(
    ("roles", "status"),
    [(["Machine.Read.All"], 200), (["Machine.ReadWrite.All"], 200), (["Machine.LiveResponse"], 403)],
)
def test_roles(roles: list[str], status: int) -> None:
    with serving(make_tenant(apps=[App(APP.client_id, "s", roles)])) as (sim, client):
        answers = [client.list(), client.get(f"machineactions/{action()['id']}"), client.link(action()["id"])]
        assert [answer.status_code for answer in answers] == [status] * 3
        assert sim.worst_window(60) == 3  # refused for a role is still a call
        if status == 403:
            assert answers[0].json()["error"]["message"] == (
                "Missing application roles. API required roles: Machine.Read.All,Machine.ReadWrite.All, "
                "application roles: Machine.LiveResponse."
            )
