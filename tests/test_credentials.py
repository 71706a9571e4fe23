"""Every way to sign in, against a sign-in service that checks for real; and one sentence for what can go wrong."""

from __future__ import annotations

import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import App, FederatedCredential, ManagedIdentity, Simulator, Tenant
from defender_simulator.certificates import key_pem as encrypted_key
from defender_simulator.certificates import load_key, make_certificate, write_pfx
from defender_simulator.federation import make_key, mint
from tap_defender_lr.auth import Credential
from tap_defender_lr.clouds import CLOUDS
from tap_defender_lr.errors import SignInError
from tap_defender_lr.lifetime import Lifetime
from tap_defender_lr.settings import AUTH_METHODS, JSON_SCHEMA, Settings
from tap_defender_lr.validation import with_environment
from tests.conftest import CLIENT_ID, CLIENT_SECRET, TENANT_ID
from tests.test_settings import GOOD, errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ISSUER, SUBJECT = "https://token.actions.githubusercontent.com", "repo:contoso/warehouse:ref:refs/heads/main"
KEY = make_key()
OWN = make_certificate("tap")
OTHER = make_certificate("somebody else")
CA = make_certificate("Contoso CA")
ISSUED = make_certificate("tap", issuer=CA)
PASSWORD = "pass-word-of-the-file"


@pytest.fixture
def app() -> App:
    return App(
        CLIENT_ID,
        CLIENT_SECRET,
        certificates=[OWN.certificate_pem],
        federated=[FederatedCredential(ISSUER, SUBJECT, KEY.public)],
        public_client=True,
    )


@pytest.fixture
def simulator(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    identity = ManagedIdentity("11111111-2222-4333-8444-555555555555", system_assigned=True)
    user = ManagedIdentity("99999999-2222-4333-8444-555555555555")
    tenant = Tenant(TENANT_ID, [app], identities=[identity, user])
    with Simulator(tenant, device_code_approved_after=0) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        yield simulator


def credential(simulator: Simulator, **settings: Any) -> Credential:
    defaults = {name: definition.get("default") for name, definition in JSON_SCHEMA["properties"].items()}
    own = {name: value for name, value in simulator.settings().items() if name != "client_secret"}
    return Credential(Settings.from_config({**defaults, **own, **settings}), Lifetime().wait)


def pem(tmp_path: Path, *parts: bytes) -> str:
    file = tmp_path / "app.pem"
    file.write_bytes(b"\n".join(parts))
    return str(file)


class TestCertificate:
    @pytest.mark.parametrize("password", [None, PASSWORD])
    def test_pfx(self, simulator: Simulator, tmp_path: Path, password: str | None) -> None:
        file = tmp_path / "app.pfx"
        write_pfx(file, OWN.certificate_pem, OWN.key_pem, password)
        settings = {"certificate_path": str(file), "certificate_password": password}
        assert credential(simulator, auth_method="certificate", **settings).token()

    def test_pem(self, simulator: Simulator, tmp_path: Path) -> None:
        file = pem(tmp_path, OWN.key_pem, OWN.certificate_pem)
        assert credential(simulator, auth_method="certificate", certificate_path=file).token()

    def test_pem_with_password(self, simulator: Simulator, tmp_path: Path) -> None:
        file = pem(tmp_path, OWN.certificate_pem, encrypted_key(load_key(OWN.key_pem), PASSWORD))
        settings = {"certificate_path": file, "certificate_password": PASSWORD}
        assert credential(simulator, auth_method="certificate", **settings).token()

    @pytest.mark.parametrize("packed", ["pfx", "pem"])
    def test_an_app_that_trusts_the_issuer(self, simulator: Simulator, app: App, tmp_path: Path, packed: str) -> None:
        app.certificates, app.trusts_issuer = [], CA.certificate_pem
        file = tmp_path / f"app.{packed}"
        if packed == "pfx":
            write_pfx(file, ISSUED.certificate_pem, ISSUED.key_pem, None)
        else:
            file.write_bytes(ISSUED.key_pem + ISSUED.certificate_pem)
        assert credential(simulator, auth_method="certificate", certificate_path=str(file)).token()

    def test_refused(self, simulator: Simulator, tmp_path: Path) -> None:
        file = pem(tmp_path, OTHER.key_pem, OTHER.certificate_pem)
        with pytest.raises(SignInError, match="not the one of the app: upload it"):
            credential(simulator, auth_method="certificate", certificate_path=file).token()

    @pytest.mark.parametrize(
        ("content", "password", "words"),
        [
            (None, None, "cannot be read"),
            (b"nonsense", None, "private key in .* cannot be read; does it need `certificate_password`"),
            ("pfx", "another password", "is `certificate_password` right"),
            ("pfx", None, "does it need `certificate_password`"),
            (OWN.certificate_pem, None, "holds no private key"),
            (OWN.key_pem, None, "holds no certificate"),
            (OWN.key_pem + OWN.certificate_pem, PASSWORD, "is `certificate_password` right"),
        ],
    )
    def test_files(
        self, simulator: Simulator, tmp_path: Path, content: bytes | str | None, password: str | None, words: str
    ) -> None:
        file = tmp_path / "file"
        if content == "pfx":
            write_pfx(file, OWN.certificate_pem, OWN.key_pem, PASSWORD)
        elif isinstance(content, bytes):
            file.write_bytes(content)
        settings = {"certificate_path": str(file), "certificate_password": password}
        with pytest.raises(SignInError, match=words) as raised:
            credential(simulator, auth_method="certificate", **settings).token()
        assert str(raised.value).startswith("`certificate_path`")
        assert PASSWORD not in str(raised.value)
        assert simulator.calls("token") == []


class TestWorkloadIdentity:
    def test_the_file_is_read_anew_at_each_use(self, simulator: Simulator, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text(mint(ISSUER, SUBJECT, KEY.private) + "\n")
        own = credential(simulator, auth_method="workload_identity", federated_token_file=str(file))
        first = own.token()
        file.write_text(mint(ISSUER, "somebody else", KEY.private))
        with pytest.raises(SignInError, match="No federated credential of the app fits"):
            own.token(refused=first)
        file.write_text(mint(ISSUER, SUBJECT, KEY.private))
        assert own.token(refused=first)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "cannot be read"),
            ("", "is empty"),
            (mint("https://other.example", SUBJECT, KEY.private), "fits the issuer"),
            (mint(ISSUER, SUBJECT, KEY.private, audience="api://other"), "fits the audience"),
            (mint(ISSUER, SUBJECT, KEY.private, lifetime=-1), "has expired"),
        ],
    )
    def test_refused(self, simulator: Simulator, tmp_path: Path, content: str | None, words: str) -> None:
        file = tmp_path / "token"
        if content is not None:
            file.write_text(content)
        with pytest.raises(SignInError, match=words):
            credential(simulator, auth_method="workload_identity", federated_token_file=str(file)).token()

    def test_the_environment_that_kubernetes_sets(self) -> None:
        environment = {
            "AZURE_TENANT_ID": TENANT_ID,
            "AZURE_CLIENT_ID": CLIENT_ID,
            "AZURE_FEDERATED_TOKEN_FILE": "/var/run/token",
            "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us/",
        }
        found = with_environment({"auth_method": "workload_identity", "client_id": "mine"}, environment)
        assert found == {
            "auth_method": "workload_identity",
            "tenant_id": TENANT_ID,
            "client_id": "mine",
            "federated_token_file": "/var/run/token",
            "login_url": "https://login.microsoftonline.us/",
        }
        assert with_environment({"auth_method": "client_secret"}, environment) == {"auth_method": "client_secret"}


class TestManagedIdentity:
    @pytest.mark.parametrize("kind", ["imds", "app_service"])
    @pytest.mark.parametrize("client_id", [None, "99999999-2222-4333-8444-555555555555"])
    def test_as_azure_presents_it(
        self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, kind: Any, client_id: str | None
    ) -> None:
        for name, value in simulator.managed_identity_environment(kind).items():
            monkeypatch.setenv(name, value)
        own = credential(simulator, auth_method="managed_identity", client_id="", managed_identity_client_id=client_id)
        assert own.token()
        assert own.tenant_id == TENANT_ID

    def test_one_that_is_not_assigned(self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in simulator.managed_identity_environment("imds").items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SignInError, match="is `managed_identity_client_id` right"):
            credential(simulator, auth_method="managed_identity", managed_identity_client_id=CLIENT_ID).token()

    def test_outside_azure(self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
        with pytest.raises(SignInError, match="works only in Azure"):
            credential(simulator, auth_method="managed_identity").token()


class TestDeviceCode:
    def test_asked_for_once_and_kept_in_a_file_of_its_owner(
        self, simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "folder" / "cache.json"
        settings = {"auth_method": "device_code", "token_cache_path": str(file)}
        token = credential(simulator, **settings).token()
        assert "Somebody has to sign in: open https://" in caplog.text
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        caplog.clear()
        later = credential(simulator, **settings)
        assert later.token()
        assert later.token(refused=token) != token  # renewed with the refresh token
        assert "sign in" not in caplog.text

    def test_an_app_that_allows_none(self, simulator: Simulator, app: App) -> None:
        app.public_client = False
        with pytest.raises(SignInError, match="Allow public client flows"):
            credential(simulator, auth_method="device_code").token()

    def test_a_cache_that_is_none(self, simulator: Simulator, tmp_path: Path) -> None:
        file = tmp_path / "cache.json"
        file.write_text("nonsense")
        with pytest.raises(SignInError, match="`token_cache_path`"):
            credential(simulator, auth_method="device_code", token_cache_path=str(file)).token()


def test_threads_share_one_token(simulator: Simulator) -> None:
    own = credential(simulator, client_secret=CLIENT_SECRET)
    tokens: list[str] = []
    threads = [threading.Thread(target=lambda: tokens.append(own.token())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(tokens)) == 1
    assert len(simulator.calls("token")) == 1


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"auth_method": "password"}, "`auth_method` must be one of client_secret, certificate,"),
            ({"auth_method": "certificate"}, "`client_secret` is set, but `auth_method` is certificate"),
            ({"certificate_path": "x"}, "`certificate_path` is set, but `auth_method` is client_secret"),
            ({"managed_identity_client_id": "x"}, "`managed_identity_client_id` is set, but `auth_method`"),
            ({"cloud": "china"}, "`cloud` must be one of commercial, gcc, gcc_high or dod"),
            (
                {"token_scope": "https://api-gov.securitycenter.microsoft.us/.default"},
                "`token_scope` is the one of the cloud gcc_high, but `cloud` is commercial",
            ),
            (
                {"cloud": "gcc", "login_url": "https://login.microsoftonline.us/"},
                "`login_url` is the one of the cloud gcc_high, but `cloud` is gcc",
            ),
        ],
    )
    def test_what_contradicts_itself_names_both(self, changes: dict[str, Any], words: str) -> None:
        found = errors(**changes)
        assert any(words in sentence for sentence in found), found

    @pytest.mark.parametrize(
        ("method", "settings"),
        [
            ("certificate", {"certificate_path": "x", "certificate_password": "y"}),
            ("workload_identity", {"federated_token_file": "x"}),
            ("managed_identity", {"client_id": ...}),
            ("device_code", {"token_cache_path": "x"}),
        ],
    )
    def test_each_method_with_what_it_needs(self, method: str, settings: dict[str, Any]) -> None:
        assert errors(auth_method=method, **{"client_secret": ..., **settings}) == []

    @pytest.mark.parametrize("method", [method for method, (needed, _) in AUTH_METHODS.items() if needed])
    def test_each_method_without(self, method: str) -> None:
        missing = errors(auth_method=method, client_id=..., client_secret=...)
        assert [sentence.split("`")[1] for sentence in missing] == list(AUTH_METHODS[method][0])

    def test_a_regional_host_beside_the_presets(self) -> None:
        assert errors(api_url="https://eu.api.security.microsoft.com") == []
        assert set(GOOD) == {"tenant_id", "client_id", "client_secret"}


def test_the_clouds_are_the_documented_ones() -> None:
    """Microsoft: "Supported APIs" and "Microsoft Defender for Endpoint for US Government customers" (2026-01-05)."""
    assert {name: (c.api_url, c.login_url, c.token_scope) for name, c in CLOUDS.items()} == {
        "commercial": (
            "https://api.security.microsoft.com",
            "https://login.microsoftonline.com",
            "https://api.securitycenter.microsoft.com/.default",
        ),
        "gcc": (
            "https://api-gcc.securitycenter.microsoft.us",
            "https://login.microsoftonline.com",
            "https://api-gcc.securitycenter.microsoft.us/.default",
        ),
        "gcc_high": (
            "https://api-gov.securitycenter.microsoft.us",
            "https://login.microsoftonline.us",
            "https://api-gov.securitycenter.microsoft.us/.default",
        ),
        "dod": (
            "https://api-gov.securitycenter.microsoft.us",
            "https://login.microsoftonline.us",
            "https://api-gov.securitycenter.microsoft.us/.default",
        ),
    }
