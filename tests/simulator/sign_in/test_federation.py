"""Workload identity federation: an app signs in with the token of another issuer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msal
import pytest

from defender_simulator import federation
from tests.simulator.sign_in.apps import (
    CLUSTER,
    CLUSTER_KEY,
    FED_APP,
    SECRET_APP,
    SUBJECT,
    TENANT,
    check_refusal,
    claims,
    present,
)

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from defender_simulator import Simulator

OTHER_KEY = federation.make_key()


def test_federated_token_file_that_rotates(sim: Simulator, session: requests.Session, tmp_path: Path) -> None:
    file = tmp_path / "token"
    app = msal.ConfidentialClientApplication(
        FED_APP,
        client_credential={"client_assertion": file.read_text},
        authority=f"{sim.login_url}/{TENANT}",
        instance_discovery=False,
        http_client=session,
    )
    for number in range(2):
        file.write_text(federation.mint(CLUSTER, SUBJECT, CLUSTER_KEY.private, jti=str(number)))
        result = app.acquire_token_for_client([sim.token_scope])
        assert claims(result["access_token"])["appid"] == FED_APP
        assert file.read_text() in sim.secrets()
        app.remove_tokens_for_client()
    file.write_text(federation.mint(CLUSTER, SUBJECT, CLUSTER_KEY.private, lifetime=-1))
    check_refusal(app.acquire_token_for_client([sim.token_scope]), 700024)


@pytest.mark.parametrize(
    ("client_id", "options", "code"),
    [
        (FED_APP, {"issuer": f"{CLUSTER}/"}, 700211),
        (FED_APP, {"subject": "system:serviceaccount:soc:other"}, 700213),
        (FED_APP, {"subject": SUBJECT.upper()}, 7002138),
        (FED_APP, {"audience": ["https://kubernetes.default.svc"]}, 700212),
        (FED_APP, {"key": OTHER_KEY.private}, 7000272),
        (FED_APP, {"lifetime": -1}, 700024),
        (FED_APP, {"nbf": 9_000_000_000}, 700024),
        (SECRET_APP, {}, 70025),
        (FED_APP, {"iss": FED_APP, "sub": FED_APP}, 50027),
    ],
)
def test_outside_tokens_refused(sim: Simulator, client_id: str, options: dict[str, Any], code: int) -> None:
    token = federation.mint(**{"issuer": CLUSTER, "subject": SUBJECT, "key": CLUSTER_KEY.private, **options})
    answer = present(sim, client_id, token)
    check_refusal(answer, code, "invalid_request" if code == 50027 else "invalid_client")


def test_an_outside_token_for_several_audiences(sim: Simulator) -> None:
    token = federation.mint(
        CLUSTER, SUBJECT, CLUSTER_KEY.private, audience=["https://kubernetes", "api://AzureADTokenExchange"]
    )
    assert present(sim, FED_APP, token).status_code == 200
