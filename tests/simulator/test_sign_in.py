"""Every way to sign in, with MSAL against the simulator; and that the simulator lets nobody in who should not be."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import jwt
import msal
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from defender_simulator import App, FederatedCredential, ManagedIdentity, Result, Rule, Simulator, Tenant, federation
from defender_simulator import certificates as certs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from defender_simulator.identity import Kind

TENANT = "11111111-2222-3333-4444-555555555555"
CERT_APP, SNI_APP, FED_APP, PERSON_APP, SECRET_APP = (f"aaaaaaaa-0000-0000-0000-00000000000{n}" for n in range(1, 6))
ACTION = "00000000-0000-0000-0000-000000000001"
RESOURCE = "https://api.securitycenter.microsoft.com"
LINK_SCOPE = f"{RESOURCE}/Machine.LiveResponse"
CLUSTER = "https://oidc.example/cluster"
SUBJECT = "system:serviceaccount:soc:tap"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

OWN = certs.make_certificate("tap")
OLD = certs.make_certificate("tap, last year", starts=datetime.now(timezone.utc) - timedelta(days=400))
STRANGER = certs.make_certificate("tap")
AUTHORITY = certs.make_certificate("Corporate CA")
MIDDLE = certs.make_certificate("Issuing CA", issuer=AUTHORITY)
LEAF = certs.make_certificate("tap.corp.example", issuer=AUTHORITY)
DEEP_LEAF = certs.make_certificate("tap.corp.example", issuer=MIDDLE)
FOREIGN_LEAF = certs.make_certificate("tap.corp.example", issuer=STRANGER)
CLUSTER_KEY = federation.make_key()
OTHER_KEY = federation.make_key()


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


def token_url(sim: Simulator) -> str:
    return f"{sim.login_url}/{TENANT}/oauth2/v2.0/token"


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


# Certificates


def pfx(folder: Path, certificate: certs.Certificate, password: str | None = None) -> str:
    path = folder / "app.pfx"
    certs.write_pfx(path, certificate.certificate_pem, certificate.key_pem, password)
    return str(path)


def sha1(certificate: certs.Certificate) -> str:
    der = x509.load_pem_x509_certificate(certificate.certificate_pem).public_bytes(serialization.Encoding.DER)
    return hashlib.sha1(der).hexdigest()


PEM = {"private_key": OWN.key_pem.decode(), "public_certificate": OWN.certificate_pem.decode()}
ENCRYPTED = certs.key_pem(certs.load_key(OWN.key_pem), "pass word").decode()


@pytest.mark.parametrize(
    ("credential", "algorithm", "sends_certificate"),
    [
        (lambda folder: {"private_key_pfx_path": pfx(folder, OWN)}, "PS256", False),
        (lambda folder: {"private_key_pfx_path": pfx(folder, OWN, "gähn"), "passphrase": "gähn"}, "PS256", False),
        (lambda folder: {"private_key_pfx_path": pfx(folder, OWN), "public_certificate": True}, "PS256", True),
        (lambda _: PEM, "PS256", True),
        (lambda _: {**PEM, "private_key": ENCRYPTED, "passphrase": "pass word"}, "PS256", True),
        (lambda _: {"private_key": PEM["private_key"], "thumbprint": sha1(OWN)}, "RS256", False),
    ],
    ids=["pfx", "pfx-password", "pfx-x5c", "pem", "pem-password", "pem-sha1"],
)
def test_certificates(
    *,
    sim: Simulator,
    session: requests.Session,
    tmp_path: Path,
    credential: Any,
    algorithm: str,
    sends_certificate: bool,
) -> None:
    before = sim.secrets()
    result = app_token(sim, session, CERT_APP, credential(tmp_path))
    assert claims(result["access_token"])["appid"] == CERT_APP
    assert lists(sim, result["access_token"]) == 200
    (assertion,) = sim.secrets() - before - {result["access_token"]}
    header = jwt.get_unverified_header(assertion)
    assert (header["alg"], "x5c" in header) == (algorithm, sends_certificate)
    assert ("x5t" if algorithm == "RS256" else "x5t#S256") in header


def test_msal_uses_an_assertion_more_than_once(sim: Simulator, session: requests.Session, tmp_path: Path) -> None:
    app = msal.ConfidentialClientApplication(
        CERT_APP,
        client_credential={"private_key_pfx_path": pfx(tmp_path, OWN)},
        authority=f"{sim.login_url}/{TENANT}",
        instance_discovery=False,
        http_client=session,
    )
    before = sim.secrets()
    tokens = set()
    for _ in range(2):
        result = app.acquire_token_for_client([sim.token_scope])
        tokens.add(result["access_token"])
        app.remove_tokens_for_client()
    assert len(tokens) == 2
    assert len(sim.secrets() - before - tokens) == 1


@pytest.mark.parametrize(
    ("certificate", "sends", "accepted"), [(LEAF, True, True), (LEAF, False, False), (FOREIGN_LEAF, True, False)]
)
def test_subject_name_and_issuer(
    *,
    sim: Simulator,
    session: requests.Session,
    tmp_path: Path,
    certificate: certs.Certificate,
    sends: bool,
    accepted: bool,
) -> None:
    credential: dict[str, Any] = {"private_key_pfx_path": pfx(tmp_path, certificate)}
    if sends:
        credential["public_certificate"] = True
    result = app_token(sim, session, SNI_APP, credential)
    assert ("access_token" in result) == accepted
    if not accepted:
        check_refusal(result, 700027)
        assert "[Reason - The key was not found., Thumbprint of key used by client: '" in result["error_description"]
        assert "SNI may be configured" in result["error_description"]


def digest(certificate: certs.Certificate) -> str:
    der = x509.load_pem_x509_certificate(certificate.certificate_pem).public_bytes(serialization.Encoding.DER)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode()


def x5c(*certificates: certs.Certificate) -> list[str]:
    return ["".join(entry.certificate_pem.decode().splitlines()[1:-1]) for entry in certificates]


def own_assertion(
    sim: Simulator,
    client_id: str = CERT_APP,
    *,
    signer: certs.Certificate = OWN,
    named: certs.Certificate | None = None,
    algorithm: str = "PS256",
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    now = time.time()
    usual = {"aud": token_url(sim), "iss": client_id, "sub": client_id, "exp": now + 600, "iat": now, "jti": "1"}
    payload = {name: value for name, value in {**usual, **changes}.items() if value is not None}
    key = "k" * 32 if algorithm == "HS256" else signer.key_pem
    head = {"x5t#S256": digest(named or signer), **(header or {})}
    return jwt.encode(payload, key, algorithm, {name: value for name, value in head.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"signer": STRANGER}, 700027, "The key was not found."),
        ({"signer": STRANGER, "named": OWN}, 700027, "did not match the expected signature value"),
        ({"signer": OLD}, 700027, "The key used is expired."),
        ({"header": {"x5c": x5c(STRANGER)}}, 700027, "The key was not found."),
        ({"signer": FOREIGN_LEAF, "header": {"x5c": x5c(FOREIGN_LEAF)}}, 700027, "The key was not found."),
        ({"header": {"x5t#S256": None}}, 50027, "No certificate thumbprint"),
        ({"header": {"x5t#S256": "é"}}, 50027, "malformed"),
        ({"header": {"x5c": ["AAAA"]}}, 50027, "malformed"),
        ({"header": {"x5c": [1]}}, 50027, "malformed"),
        ({"aud": "https://login.example/token"}, 700023, "audience"),
        ({"aud": None}, 700023, "audience"),
        ({"exp": 1_700_000_000}, 700024, "expiry time of assertion 2023-11-14T22:13:20.0000000Z"),
        ({"exp": None}, 700024, "time range"),
        ({"exp": "soon"}, 50027, "malformed"),
        ({"nbf": 9_000_000_000}, 700024, "time range"),
        ({"iss": SECRET_APP}, 700021, "client_id"),
        ({"sub": SECRET_APP}, 700021, "client_id"),
        ({"algorithm": "RS512"}, 5002738, "'RS512' is not a supported signature algorithm"),
        ({"algorithm": "HS256"}, 5002738, "'HS256' is not a supported signature algorithm"),
    ],
)
def test_assertions_refused(sim: Simulator, changes: dict[str, Any], code: int, text: str) -> None:
    answer = present(sim, CERT_APP, own_assertion(sim, **changes))
    check_refusal(answer, code, "invalid_request" if code == 50027 else "invalid_client")
    assert text in answer.json()["error_description"]


@pytest.mark.parametrize(
    ("client_id", "options"),
    [
        (CERT_APP, {"algorithm": "RS256"}),
        (CERT_APP, {"header": {"x5c": x5c(OWN)}}),
        (CERT_APP, {"nbf": 1_700_000_000, "exp": 9_000_000_000}),
        (SNI_APP, {"signer": LEAF, "header": {"x5c": x5c(LEAF)}}),
        (SNI_APP, {"signer": DEEP_LEAF, "header": {"x5c": x5c(DEEP_LEAF, MIDDLE)}}),
    ],
)
def test_assertions_accepted(sim: Simulator, client_id: str, options: dict[str, Any]) -> None:
    assert present(sim, client_id, own_assertion(sim, client_id, **options)).status_code == 200


@pytest.mark.parametrize("sent", [[DEEP_LEAF], [DEEP_LEAF, LEAF], [DEEP_LEAF, LEAF, AUTHORITY]])
def test_a_gap_in_the_chain(sim: Simulator, sent: list[certs.Certificate]) -> None:
    assertion = own_assertion(sim, SNI_APP, signer=DEEP_LEAF, header={"x5c": x5c(*sent)})
    check_refusal(present(sim, SNI_APP, assertion), 700027)


@pytest.mark.parametrize(
    ("changes", "code", "error"),
    [
        ({"client_assertion": "nonsense"}, 50027, "invalid_request"),
        ({"client_assertion_type": "saml"}, 900144, "invalid_request"),
        ({"client_assertion_type": None}, 900144, "invalid_request"),
        ({"client_assertion": None}, 7000218, "invalid_client"),
        ({"client_assertion": None, "client_secret": "guess"}, 7000215, "invalid_client"),
    ],
)
def test_credentials_refused(sim: Simulator, changes: dict[str, str | None], code: int, error: str) -> None:
    form = {"client_assertion": own_assertion(sim), **changes}
    assertion = form.pop("client_assertion")
    check_refusal(present(sim, CERT_APP, assertion or "", **form, client_assertion=assertion), code, error)


# Workload identity federation


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


# Managed identity

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


# Device code


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


# The whole


def test_an_app_without_roles_has_no_roles_in_its_token(serving: Callable[..., Any], session: requests.Session) -> None:
    with serving(Tenant(TENANT, [App(SECRET_APP, "app-secret", [])])) as sim:
        token = app_token(sim, session, SECRET_APP, "app-secret")["access_token"]
        assert "roles" not in claims(token)
        assert lists(sim, token) == 403


def test_settings_and_secrets_of_an_app_without_a_secret(sim: Simulator) -> None:
    assert "client_secret" not in sim.settings(sim.tenant.apps[0])
    assert sim.settings(sim.tenant.apps[4])["client_secret"] == "app-secret"
    assert "" not in sim.secrets()


def test_discovery_names_the_place_for_device_codes(sim: Simulator) -> None:
    url = f"{sim.login_url}/{TENANT}/v2.0/.well-known/openid-configuration"
    place = requests.get(url, timeout=10).json()["device_authorization_endpoint"]
    assert place == f"{sim.login_url}/{TENANT}/oauth2/v2.0/devicecode"


@pytest.mark.parametrize("endpoint", ["devicecode", "identity"])
def test_faults(serving: Callable[..., Any], endpoint: str) -> None:
    with serving() as sim:
        sim.rules.append(Rule(endpoint, 503, times=1))
        if endpoint == "devicecode":
            answer = post(sim, {}, "devicecode")
        else:
            answer = requests.get(f"{sim.identity_url}/msi/token", timeout=10)
        assert (answer.status_code, sim.log[0].endpoint) == (503, endpoint)
