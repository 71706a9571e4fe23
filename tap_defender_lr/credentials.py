"""The ways to sign in, each a small class over MSAL with one method, and one sentence for what can go wrong with it."""

from __future__ import annotations

import logging
import os
import re
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msal
import requests
from typing_extensions import override

from tap_defender_lr.errors import SignInError
from tap_defender_lr.redaction import redact, remember

if TYPE_CHECKING:
    from collections.abc import Callable

    from tap_defender_lr.settings import Settings

_TIMEOUT_SECONDS = 30
_PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

logger = logging.getLogger(__name__)


class TokenSource(Protocol):
    """Gives access tokens, from its memory as long as they live."""

    def acquire(self, *, renew: bool) -> dict[str, Any]:
        """MSAL's answer: with `access_token`, or with `error` and `error_description`.

        Args:
            renew: Forget the token of the last time: the API has refused it.

        Raises:
            SignInError: Something on this machine is missing or unreadable.
            ValueError: MSAL does not like what it was given, or the sign-in host does not know the tenant.
            requests.RequestException: The sign-in host cannot be reached.
        """


def token_source(settings: Settings, wait: Callable[[float], None]) -> TokenSource:
    """The one that `auth_method` names."""
    if settings.auth_method == "managed_identity":
        return ManagedIdentity(settings)
    if settings.auth_method == "device_code":
        return DeviceCode(settings, wait)
    credential = {
        "client_secret": _client_secret,
        "certificate": _certificate,
        "workload_identity": _workload_identity,
    }[settings.auth_method]
    return ConfidentialApp(settings, credential)


class ConfidentialApp:
    """An app that proves itself with a secret, a certificate or the token of another identity provider."""

    def __init__(self, settings: Settings, credential: Callable[[Settings], Any]) -> None:
        self._settings = settings
        self._credential = credential

    @cached_property
    def _app(self) -> msal.ConfidentialClientApplication:
        # The constructor already asks the sign-in host for its OpenID configuration.
        return msal.ConfidentialClientApplication(
            self._settings.client_id,
            client_credential=self._credential(self._settings),
            authority=_authority(self._settings),
            # Any https host may be the sign-in host, also one that MSAL does not know.
            instance_discovery=False,
            timeout=_TIMEOUT_SECONDS,
        )

    def acquire(self, *, renew: bool) -> dict[str, Any]:
        if renew:
            self._app.remove_tokens_for_client()
        return dict(self._app.acquire_token_for_client([self._settings.token_scope]) or {})


class ManagedIdentity:
    """The identity that Azure gives a machine, a container app or a function: nothing to store, nothing to rotate."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = self._new_client()

    def acquire(self, *, renew: bool) -> dict[str, Any]:
        if renew:
            self._client = self._new_client()
        resource = self._settings.token_scope.removesuffix("/.default")
        try:
            answer = dict(self._client.acquire_token_for_client(resource=resource))
        except (requests.RequestException, ValueError) as error:
            reason = "it does not answer" if isinstance(error, requests.RequestException) else redact(error)
            raise SignInError(
                f"This machine's managed identity cannot be used: {reason}. `auth_method` managed_identity works "
                "only in Azure, where an identity is assigned to the machine; elsewhere choose another one."
            ) from None
        if "error" in answer:
            reason = redact(answer.get("error_description") or answer["error"])
            raise SignInError(
                f"This machine's managed identity cannot be used: {reason}. Is it assigned to this machine, and is "
                "`managed_identity_client_id` right?"
            )
        return answer

    def _new_client(self) -> msal.ManagedIdentityClient:
        client_id = self._settings.managed_identity_client_id
        identity = (
            msal.UserAssignedManagedIdentity(client_id=client_id) if client_id else msal.SystemAssignedManagedIdentity()
        )
        return msal.ManagedIdentityClient(identity, http_client=_ImpatientSession())


class _ImpatientSession(requests.Session):
    """MSAL sets no timeout here, and outside Azure nobody answers at the address of the identity service.

    The identity service is on this machine: it refuses what comes through a proxy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False

    @override
    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        return super().request(*args, **{"timeout": 10, **kwargs})


class DeviceCode:
    """A person signs in with a browser, on any device. The tokens stay in a cache file, so this is asked for once."""

    def __init__(self, settings: Settings, wait: Callable[[float], None]) -> None:
        self._settings = settings
        self._wait = wait
        self._cache = msal.SerializableTokenCache()

    @cached_property
    def _app(self) -> msal.PublicClientApplication:
        file = self._settings.token_cache_path
        if file:
            try:
                self._cache.deserialize(Path(file).expanduser().read_text(encoding="utf-8"))
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                raise SignInError(f"`token_cache_path`: the file {file} cannot be read ({_why(error)}).") from None
        return msal.PublicClientApplication(
            self._settings.client_id,
            authority=_authority(self._settings),
            token_cache=self._cache,
            instance_discovery=False,
            timeout=_TIMEOUT_SECONDS,
        )

    def acquire(self, *, renew: bool) -> dict[str, Any]:
        scopes = [self._settings.token_scope]
        answer = None
        for account in self._app.get_accounts():
            answer = answer or self._app.acquire_token_silent(scopes, account=account, force_refresh=renew)
        answer = dict(answer or self._ask(scopes))
        for name in ("refresh_token", "id_token"):
            remember(answer.get(name))
        self._save()
        return answer

    def _ask(self, scopes: list[str]) -> dict[str, Any]:
        flow = self._app.initiate_device_flow(scopes)
        if "user_code" not in flow:
            return dict(flow)
        remember(flow.get("device_code"))
        logger.warning(
            "Somebody has to sign in: open %s and enter the code %s.", flow["verification_uri"], flow["user_code"]
        )
        while True:
            answer = dict(self._app.acquire_token_by_device_flow(flow, exit_condition=lambda _: True))
            if answer.get("error") not in {"authorization_pending", "slow_down"}:
                return answer
            if time.time() > flow["expires_at"]:
                raise SignInError("Nobody signed in with the code in time: run again, and enter it within 15 minutes.")
            self._wait(float(flow.get("interval", 5)))

    def _save(self) -> None:
        file = self._settings.token_cache_path
        if not file or not self._cache.has_state_changed:
            return
        path = Path(file).expanduser()
        new = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
                handle.write(self._cache.serialize())
            new.replace(path)
        except OSError as error:
            logger.warning("`token_cache_path`: the file %s cannot be written (%s).", file, _why(error))


def _client_secret(settings: Settings) -> str:
    return settings.client_secret or ""


def _certificate(settings: Settings) -> dict[str, Any]:
    """PFX, or PEM with key and certificate.

    The certificate is always sent along (x5c), so that an app which trusts an issuer and a subject name (SNI) works as
    well as one that trusts this very certificate.
    """
    file, password = settings.certificate_path or "", settings.certificate_password
    try:
        data = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise SignInError(f"`certificate_path`: the file {file} cannot be read ({_why(error)}).") from None
    passphrase = {"passphrase": password} if password else {}
    _check_key(file, data, password)
    if b"-----BEGIN" not in data:
        return {"private_key_pfx_path": str(Path(file).expanduser()), "public_certificate": True, **passphrase}
    text = data.decode("utf-8", errors="replace")
    certificates = _PEM_CERTIFICATE.findall(text)
    if not certificates or "PRIVATE KEY-----" not in text:
        missing = "certificate" if not certificates else "private key"
        raise SignInError(f"`certificate_path`: the file {file} holds no {missing}; a PEM file must hold both.")
    return {"private_key": text, "public_certificate": "\n".join(certificates), **passphrase}


def _check_key(file: str, data: bytes, password: str | None) -> None:
    """MSAL would say of a wrong password what it also says of a wrong tenant."""
    # Only here, since it is a quarter of what the tap adds to the start of the SDK.
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12  # noqa: PLC0415

    secret = password.encode() if password else None
    try:
        if b"-----BEGIN" not in data:
            pkcs12.load_key_and_certificates(data, secret)
        elif b"PRIVATE KEY-----" in data:
            load_pem_private_key(data, secret)
    except (ValueError, TypeError):
        hint = "is `certificate_password` right?" if password else "does it need `certificate_password`?"
        raise SignInError(f"`certificate_path`: the private key in {file} cannot be read; {hint}") from None


def _workload_identity(settings: Settings) -> dict[str, Any]:
    """A token that Kubernetes, GitHub or another issuer keeps in a file and replaces often: read anew at each use."""
    file = settings.federated_token_file or ""

    def read() -> str:
        try:
            token = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SignInError(f"`federated_token_file`: the file {file} cannot be read ({_why(error)}).") from None
        if not token:
            raise SignInError(f"`federated_token_file`: the file {file} is empty.")
        remember(token)
        return token

    return {"client_assertion": read}


def _authority(settings: Settings) -> str:
    return f"{settings.login_url}/{settings.tenant_id}"


def _why(error: Exception) -> str:
    return error.strerror or "no reason given" if isinstance(error, OSError) else "it is not what it should be"
