"""Sign-in with a certificate, and which assertions are refused."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import TYPE_CHECKING, Any

import jwt
import msal
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from defender_simulator import certificates as certs
from tests.simulator.sign_in.apps import (
    AUTHORITY,
    CERT_APP,
    OLD,
    OWN,
    SECRET_APP,
    SNI_APP,
    TENANT,
    app_token,
    check_refusal,
    claims,
    lists,
    present,
)

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from defender_simulator import Simulator

STRANGER = certs.make_certificate("tap")
MIDDLE = certs.make_certificate("Issuing CA", issuer=AUTHORITY)
LEAF = certs.make_certificate("tap.corp.example", issuer=AUTHORITY)
DEEP_LEAF = certs.make_certificate("tap.corp.example", issuer=MIDDLE)
FOREIGN_LEAF = certs.make_certificate("tap.corp.example", issuer=STRANGER)
PEM = {"private_key": OWN.key_pem.decode(), "public_certificate": OWN.certificate_pem.decode()}
ENCRYPTED = certs.key_pem(certs.load_key(OWN.key_pem), "pass word").decode()


def token_url(sim: Simulator) -> str:
    return f"{sim.login_url}/{TENANT}/oauth2/v2.0/token"


def pfx(folder: Path, certificate: certs.Certificate, password: str | None = None) -> str:
    path = folder / "app.pfx"
    certs.write_pfx(path, certificate.certificate_pem, certificate.key_pem, password)
    return str(path)


def sha1(certificate: certs.Certificate) -> str:
    der = x509.load_pem_x509_certificate(certificate.certificate_pem).public_bytes(serialization.Encoding.DER)
    return hashlib.sha1(der).hexdigest()


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
