"""A person signs in with a device code, stays so by refresh tokens, and may do what the permissions say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msal
import pytest
import requests

from tests.simulator.sign_in.apps import (
    ACTION,
    LINK_SCOPE,
    PERSON_APP,
    RESOURCE,
    SECRET_APP,
    TENANT,
    check_refusal,
    claims,
    lists,
    post,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from defender_simulator import Simulator

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def person(sim: Simulator, session: requests.Session, client_id: str = PERSON_APP, cache: Any = None) -> Any:
    return msal.PublicClientApplication(
        client_id,
        authority=f"{sim.login_url}/{TENANT}",
        instance_discovery=False,
        http_client=session,
        token_cache=cache,
    )


@pytest.mark.parametrize("scope", [LINK_SCOPE, f"{RESOURCE}/.default"])
def test_a_person_signs_in(sim: Simulator, session: requests.Session, scope: str) -> None:
    app = person(sim, session)
    flow = app.initiate_device_flow([scope])
    assert flow["interval"] == 1
    assert flow["user_code"] in flow["message"]
    assert flow["verification_uri"] in flow["message"]
    sim.approve_device_code("jane@contoso.example")
    result = app.acquire_token_by_device_flow(flow)
    found = claims(result["access_token"])
    assert (found["scp"], found["upn"]) == ("Machine.LiveResponse Machine.Read", "jane@contoso.example")
    assert "roles" not in found
    assert lists(sim, result["access_token"]) == 200
    assert {flow["device_code"], result["refresh_token"], result["id_token"]} <= sim.secrets()
    assert sim.calls("devicecode")[-1].status == 200

    (account,) = app.get_accounts()
    assert account["username"] == "jane@contoso.example"
    calls = len(sim.log)
    silent = app.acquire_token_silent([scope], account)
    assert (silent["token_source"], silent["access_token"]) == ("cache", result["access_token"])
    assert len(sim.log) == calls


def test_refreshed_from_the_cache_of_another_process(serving: Callable[..., Any], session: requests.Session) -> None:
    with serving(token_lifetime=60) as sim:  # MSAL renews what has less than 5 minutes left
        first = person(sim, session, cache=(cache := msal.SerializableTokenCache()))
        flow = first.initiate_device_flow([LINK_SCOPE])
        sim.approve_device_code()
        before = first.acquire_token_by_device_flow(flow)

        stored, cache = cache.serialize(), msal.SerializableTokenCache()
        cache.deserialize(stored)
        second = person(sim, session, cache=cache)
        result = second.acquire_token_silent([LINK_SCOPE], second.get_accounts()[0])
        assert result["token_source"] == "identity_provider"
        assert result["access_token"] != before["access_token"]
        assert claims(result["access_token"])["upn"] == "analyst@contoso.example"
        assert len(sim.calls("token")) == 2
        assert cache.has_state_changed

        sim.revoke_refresh_tokens()
        third = person(sim, session, cache=cache)
        account = third.get_accounts()[0]
        assert third.acquire_token_silent([LINK_SCOPE], account) is None
        error = person(sim, session, cache=cache).acquire_token_silent_with_error([LINK_SCOPE], account)
        check_refusal(error, 50173, "invalid_grant")


def test_polls_until_approved(serving: Callable[..., Any], session: requests.Session) -> None:
    with serving(device_code_approved_after=1) as sim:
        app = person(sim, session)
        assert "access_token" in app.acquire_token_by_device_flow(app.initiate_device_flow([LINK_SCOPE]))
        assert [call.status for call in sim.calls("token")] == [400, 200]
        assert [call.endpoint for call in sim.log] == ["discovery", "devicecode", "token", "token"]


def start(sim: Simulator, client_id: str = PERSON_APP, scope: str = f"{LINK_SCOPE} offline_access") -> dict[str, Any]:
    document: dict[str, Any] = post(sim, {"client_id": client_id, "scope": scope}, "devicecode").json()
    return document


def poll(sim: Simulator, code: str, client_id: str = PERSON_APP, **more: str) -> requests.Response:
    return post(sim, {"grant_type": DEVICE_GRANT, "client_id": client_id, "device_code": code, **more})


def test_the_life_of_a_device_code(sim: Simulator) -> None:
    other, code = start(sim), start(sim)
    check_refusal(poll(sim, code["device_code"]), 70016, "authorization_pending")
    sim.decline_device_code(user_code=other["user_code"])
    check_refusal(poll(sim, other["device_code"]), 70017, "authorization_declined")
    check_refusal(poll(sim, "guess"), 70018, "bad_verification_code")
    check_refusal(poll(sim, code["device_code"], SECRET_APP), 70018, "bad_verification_code")
    sim.approve_device_code()
    answer = poll(sim, code["device_code"])
    assert answer.status_code == 200
    assert {"id_token", "client_info"}.isdisjoint(answer.json())  # not asked for
    check_refusal(poll(sim, code["device_code"]), 70018, "bad_verification_code")
    with pytest.raises(LookupError, match="no device code waits for approval"):
        sim.approve_device_code()


def test_a_device_code_expires(serving: Callable[..., Any]) -> None:
    now = [1_700_000_000.0]
    with serving(clock=lambda: now[0], device_code_lifetime=10) as sim:
        code = start(sim)
        assert code["expires_in"] == 10
        now[0] += 10
        check_refusal(poll(sim, code["device_code"]), 70020, "expired_token")


def test_an_app_without_public_client_flows(sim: Simulator, session: requests.Session) -> None:
    code = start(sim, SECRET_APP)
    check_refusal(poll(sim, code["device_code"], SECRET_APP), 70016, "authorization_pending")
    sim.approve_device_code()
    check_refusal(poll(sim, code["device_code"], SECRET_APP), 7000218)  # only now, as in the service
    assert poll(sim, code["device_code"], SECRET_APP, client_secret="app-secret").status_code == 200

    app = person(sim, session, SECRET_APP)
    flow = app.initiate_device_flow([LINK_SCOPE])
    sim.approve_device_code()
    check_refusal(app.acquire_token_by_device_flow(flow), 7000218)


@pytest.mark.parametrize(
    ("scope", "code", "error"),
    [
        ("Machine.LiveResponse", 650053, "invalid_client"),
        (f"{RESOURCE}/Machine.Everything", 650053, "invalid_client"),
        ("https://graph.microsoft.com/User.Read", 500011, "invalid_resource"),
        (f"{RESOURCE}/.default {LINK_SCOPE}", 70011, "invalid_scope"),
        ("openid", 900144, "invalid_request"),
        (None, 900144, "invalid_request"),
    ],
)
def test_scopes_refused(sim: Simulator, scope: str | None, code: int, error: str) -> None:
    check_refusal(post(sim, {"client_id": PERSON_APP, "scope": scope}, "devicecode"), code, error)


def test_a_permission_without_consent(sim: Simulator) -> None:
    code = start(sim, scope=f"{RESOURCE}/Library.Manage")
    sim.approve_device_code()
    answer = poll(sim, code["device_code"])
    check_refusal(answer, 65001, "invalid_grant")
    assert answer.json()["suberror"] == "consent_required"


def test_device_codes_of_an_unknown_app_or_tenant(sim: Simulator) -> None:
    check_refusal(post(sim, {"client_id": "x", "scope": LINK_SCOPE}, "devicecode"), 700016, "unauthorized_client")
    url = f"{sim.login_url}/contoso.example/oauth2/v2.0/devicecode"
    check_refusal(requests.post(url, {"client_id": PERSON_APP}, timeout=10), 90002, "invalid_tenant")


@pytest.mark.parametrize(
    ("changes", "days", "code"),
    [
        ({}, 89, None),
        ({}, 90, 700082),
        ({"refresh_token": "guess"}, 0, 70000),
        ({"client_id": SECRET_APP, "client_secret": "app-secret"}, 0, 70000),
        ({"client_id": SECRET_APP}, 0, 7000218),
    ],
)
def test_refresh_tokens(serving: Callable[..., Any], changes: dict[str, str], days: int, code: int | None) -> None:
    now = [1_700_000_000.0]
    with serving(clock=lambda: now[0]) as sim:
        flow = start(sim)
        sim.approve_device_code()
        token = poll(sim, flow["device_code"]).json()["refresh_token"]
        now[0] += days * 86_400
        form = {"client_id": PERSON_APP, "refresh_token": token, "scope": LINK_SCOPE, **changes}
        answer = post(sim, {"grant_type": "refresh_token", **form})
        if code is None:
            assert answer.json()["scope"].split() == [LINK_SCOPE, f"{RESOURCE}/Machine.Read"]
        else:
            check_refusal(answer, code, "invalid_client" if code == 7000218 else "invalid_grant")


@pytest.mark.parametrize(
    ("delegated", "statuses"),
    [
        (["Machine.LiveResponse", "Machine.Read"], [200, 200, 200]),
        (["Machine.ReadWrite"], [200, 200, 403]),
        (["Machine.LiveResponse"], [403, 403, 200]),
    ],
)
def test_what_a_person_may_do(sim: Simulator, delegated: list[str], statuses: list[int]) -> None:
    app = sim.tenant.apps[3]
    before, app.delegated = app.delegated, delegated
    try:
        code = start(sim, scope=f"{RESOURCE}/.default")
        sim.approve_device_code()
        token = poll(sim, code["device_code"]).json()["access_token"]
    finally:
        app.delegated = before
    actions = f"{sim.api_url}/api/machineactions"
    urls = [actions, f"{actions}/{ACTION}", f"{actions}/{ACTION}/GetLiveResponseResultDownloadLink(index=0)"]
    headers = {"Authorization": f"Bearer {token}"}
    answers = [requests.get(url, headers=headers, timeout=10) for url in urls]
    assert [answer.status_code for answer in answers] == statuses
    if statuses[2] == 403:
        assert answers[2].json()["error"]["message"] == (
            "Missing application scopes. API required scopes: Machine.LiveResponse, "
            "application scopes: Machine.ReadWrite."
        )


def test_discovery_names_the_place_for_device_codes(sim: Simulator) -> None:
    url = f"{sim.login_url}/{TENANT}/v2.0/.well-known/openid-configuration"
    place = requests.get(url, timeout=10).json()["device_authorization_endpoint"]
    assert place == f"{sim.login_url}/{TENANT}/oauth2/v2.0/devicecode"
