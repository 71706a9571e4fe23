"""Managed identities: of a virtual machine (IMDS) and of App Service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msal
import pytest
import requests

from defender_simulator import ManagedIdentity, Tenant
from tests.simulator.sign_in.apps import RESOURCE, TENANT, claims, lists

if TYPE_CHECKING:
    from collections.abc import Callable

    from defender_simulator import Simulator
    from defender_simulator.identity import Kind

SYSTEM = ManagedIdentity("bbbbbbbb-0000-0000-0000-000000000001", system_assigned=True)
USER = ManagedIdentity(
    "bbbbbbbb-0000-0000-0000-000000000002",
    ["Machine.Read.All"],
    object_id="cccccccc-0000-0000-0000-000000000002",
    resource_id="/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/tap",
)
SECOND = ManagedIdentity("bbbbbbbb-0000-0000-0000-000000000003")


def identity_token(
    sim: Simulator, session: requests.Session, monkeypatch: pytest.MonkeyPatch, kind: Kind, identity: Any = None
) -> dict[str, Any]:
    for name, value in sim.managed_identity_environment(kind).items():
        monkeypatch.setenv(name, value)
    client = msal.ManagedIdentityClient(identity or msal.SystemAssignedManagedIdentity(), http_client=session)
    result: dict[str, Any] = client.acquire_token_for_client(resource=RESOURCE)
    return result


@pytest.mark.parametrize("kind", ["imds", "app_service"])
@pytest.mark.parametrize(
    ("identities", "asked", "expected"),
    [
        ([SYSTEM, USER], None, SYSTEM),
        ([SYSTEM, USER], {"client_id": USER.client_id}, USER),
        ([SYSTEM, USER], {"object_id": USER.object_id}, USER),
        ([SYSTEM, USER], {"resource_id": USER.resource_id}, USER),
        ([USER], None, USER),
        ([USER, SECOND], None, None),
        ([], None, None),
        ([SYSTEM], {"client_id": USER.client_id}, None),
    ],
)
def test_managed_identity(
    *,
    sim: Simulator,
    session: requests.Session,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    identities: list[ManagedIdentity],
    asked: dict[str, str] | None,
    expected: ManagedIdentity | None,
) -> None:
    monkeypatch.setattr(sim.tenant, "identities", identities)
    identity = msal.UserAssignedManagedIdentity(**asked) if asked else None
    result = identity_token(sim, session, monkeypatch, kind, identity)
    assert sim.log[-1].endpoint == "identity"
    if expected is None:
        told = {1: "Identity not found", 2: "Multiple user assigned identities exist, please specify"}
        if kind == "imds":
            assert result["error"] == "invalid_request"
            assert result["error_description"].startswith(told[max(1, len(identities))])
        else:  # MSAL calls every failure of App Service this
            assert result["error"] == "invalid_scope"
            assert result["error_description"] == "400, Unable to load the proper Managed Identity."
        return
    assert 3590 < result["expires_in"] <= 3599
    found = claims(result["access_token"])
    assert (found["appid"], found["roles"]) == (expected.client_id, expected.roles)
    assert lists(sim, result["access_token"]) == 200


def test_a_long_lived_identity_token_is_renewed_halfway(
    serving: Callable[..., Any], session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Tenant(TENANT, [], identities=[SYSTEM]), token_lifetime=86_400) as sim:
        result = identity_token(sim, session, monkeypatch, "imds")
        assert result["refresh_in"] == 43_200
        assert result["access_token"] in sim.secrets()


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"Metadata": None}, 400, "Required metadata header not specified"),
        ({"X-Forwarded-For": "10.0.0.1"}, 400, "X-Forwarded-For"),
        ({"api-version": None}, 400, "api-version"),
        ({"api-version": "2017-09-01"}, 400, "api-version"),
        ({"resource": None}, 400, "audience"),
        ({"resource": f"{RESOURCE}/.default"}, 400, "AADSTS500011"),
        ({}, 200, ""),
    ],
)
def test_imds_refuses(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], status: int, text: str
) -> None:
    monkeypatch.setattr(sim.tenant, "identities", [SYSTEM])
    both = {"Metadata": "true", "api-version": "2018-02-01", "resource": RESOURCE, **changes}
    headers = {name: both.pop(name, None) for name in ("Metadata", "X-Forwarded-For")}
    url = f"{sim.identity_url}/metadata/identity/oauth2/token"
    answer = requests.get(url, params=both, headers=headers, timeout=10)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["expires_in"] == "3599"
        assert {"expires_on", "not_before", "resource", "token_type"} <= answer.json().keys()
    else:
        assert text in answer.json()["error_description"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"X-IDENTITY-HEADER": None}, 401),
        ({"X-IDENTITY-HEADER": "guess"}, 401),
        ({"api-version": "2017-09-01"}, 400),
        ({"resource": None}, 400),
        ({"resource": "https://graph.microsoft.com"}, 500),
        ({}, 200),
    ],
)
def test_app_service_refuses(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], status: int
) -> None:
    monkeypatch.setattr(sim.tenant, "identities", [SYSTEM])
    environment = sim.managed_identity_environment("app_service")
    header = environment["IDENTITY_HEADER"]
    both = {"X-IDENTITY-HEADER": header, "api-version": "2019-08-01", "resource": RESOURCE, **changes}
    headers = {"X-IDENTITY-HEADER": both.pop("X-IDENTITY-HEADER")}
    answer = requests.get(environment["IDENTITY_ENDPOINT"], params=both, headers=headers, timeout=10)
    assert answer.status_code == status
    assert answer.json().get("statusCode") == (None if status == 200 else status)
    assert header in sim.secrets()


def test_an_unknown_kind_of_managed_identity(sim: Simulator) -> None:
    with pytest.raises(ValueError, match="no kind 'arc'; there are imds, app_service"):
        sim.managed_identity_environment("arc")  # type: ignore[arg-type]
