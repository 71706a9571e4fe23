"""A tenant whose apps sign in each in a way of its own, and how a token is asked for."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import jwt
import msal
import requests

from defender_simulator import App, FederatedCredential, Result, Tenant, federation
from defender_simulator import certificates as certs

if TYPE_CHECKING:
    from defender_simulator import Simulator

TENANT = "11111111-2222-3333-4444-555555555555"
CERT_APP, SNI_APP, FED_APP, PERSON_APP, SECRET_APP = (f"aaaaaaaa-0000-0000-0000-00000000000{n}" for n in range(1, 6))
ACTION = "00000000-0000-0000-0000-000000000001"
RESOURCE = "https://api.securitycenter.microsoft.com"
LINK_SCOPE = f"{RESOURCE}/Machine.LiveResponse"
CLUSTER = "https://oidc.example/cluster"
SUBJECT = "system:serviceaccount:soc:tap"
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

OWN = certs.make_certificate("tap")
OLD = certs.make_certificate("tap, last year", starts=datetime.now(timezone.utc) - timedelta(days=400))
AUTHORITY = certs.make_certificate("Corporate CA")
CLUSTER_KEY = federation.make_key()


def make_tenant() -> Tenant:
    trust = FederatedCredential(CLUSTER, SUBJECT, CLUSTER_KEY.public)
    apps = [
        App(CERT_APP, certificates=[OLD.certificate_pem, OWN.certificate_pem]),
        App(SNI_APP, trusts_issuer=AUTHORITY.certificate_pem),
        App(FED_APP, federated=[trust]),
        App(PERSON_APP, public_client=True),
        App(SECRET_APP, "app-secret"),
    ]
    command = {"index": 0, "commandStatus": "Completed", "errors": [], "command": {"type": "RunScript", "params": []}}
    action = {
        "id": ACTION,
        "type": "LiveResponse",
        "status": "Succeeded",
        "creationDateTimeUtc": "2026-01-01T00:00:00Z",
        "lastUpdateDateTimeUtc": "2026-01-01T00:00:00Z",
        "commands": [command],
    }
    return Tenant(TENANT, apps, [action], {(ACTION, 0): Result(b"{}")})


def post(sim: Simulator, form: dict[str, Any], page: str = "token") -> requests.Response:
    url = f"{sim.login_url}/{TENANT}/oauth2/v2.0/{page}"
    return requests.post(url, {name: value for name, value in form.items() if value is not None}, timeout=10)


def present(sim: Simulator, client_id: str, assertion: str, **changes: str | None) -> requests.Response:
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_assertion_type": BEARER,
        "client_assertion": assertion,
        "scope": sim.token_scope,
        **changes,
    }
    return post(sim, form)


def app_token(sim: Simulator, session: requests.Session, client_id: str, credential: Any) -> dict[str, Any]:
    app = msal.ConfidentialClientApplication(
        client_id,
        client_credential=credential,
        authority=f"{sim.login_url}/{TENANT}",
        instance_discovery=False,
        http_client=session,
    )
    result: dict[str, Any] = app.acquire_token_for_client([sim.token_scope])
    return result


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


def lists(sim: Simulator, token: str) -> int:
    url = f"{sim.api_url}/api/machineactions"
    return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code


def check_refusal(answer: requests.Response | dict[str, Any], code: int, error: str = "invalid_client") -> None:
    document = answer if isinstance(answer, dict) else answer.json()
    assert (document["error_codes"], document["error"]) == ([code], error), document
    assert document["error_description"].startswith(f"AADSTS{code}: ")
    if not isinstance(answer, dict):
        assert answer.status_code == (401 if error == "invalid_client" else 400)
