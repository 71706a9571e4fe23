"""Sign-in with MSAL: one app object per run, its tokens behind a lock."""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import TYPE_CHECKING, Any

import msal
import requests

from tap_defender_lr.credentials import TokenSource, token_source
from tap_defender_lr.errors import SignInError
from tap_defender_lr.redaction import redact, remember
from tap_defender_lr.transport import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tap_defender_lr.settings import Settings

_PAUSES = (0.0, 6.0, 12.0)
"""Seconds before each try. MSAL answers a repetition within 5 s of a failure from its memory."""
_ADVICE = {
    "AADSTS7000215": "The client secret is wrong: set `client_secret` to the value of a secret, not to its ID.",
    "AADSTS7000222": "The client secret has expired: make a new one in the app registration and set `client_secret`.",
    "AADSTS700016": "The tenant does not know this app: check `client_id` and `tenant_id`.",
    "AADSTS7000112": "The app is disabled in this tenant: an administrator can enable it in Enterprise applications.",
    "AADSTS90002": "The sign-in host does not know the tenant: check `tenant_id`.",
    "AADSTS900023": "`tenant_id` is neither a GUID nor a domain name of a tenant.",
    "AADSTS700027": (
        "The certificate is not the one of the app: upload it in the app registration under Certificates & secrets."
    ),
    "AADSTS700024": "The clock of this machine is wrong, or the token in `federated_token_file` has expired.",
    "AADSTS70021": "No federated credential of the app fits the issuer, subject and audience of the federated token.",
    "AADSTS7002138": "No federated credential of the app fits the subject of the federated token.",
    "AADSTS700211": "No federated credential of the app fits the issuer of the federated token.",
    "AADSTS700212": "No federated credential of the app fits the audience of the federated token.",
    "AADSTS700213": "No federated credential of the app fits the subject of the federated token.",
    "AADSTS7000218": "The app allows no device code: turn on `Allow public client flows` in its registration.",
    "AADSTS65001": "Nobody has consented: grant admin consent in the app registration under API permissions.",
    "AADSTS70016": "Nobody signed in with the code in time: run again.",
    "AADSTS70020": "The code has expired: run again, and enter it within 15 minutes.",
    "AADSTS53003": "Conditional access blocks the app: exclude it from the policy, or run from an allowed network.",
    "AADSTS500011": "The tenant does not know the resource of `token_scope`: is Defender for Endpoint set up there?",
    "AADSTS1002012": "`token_scope` is not valid for an app: it must end with /.default.",
    "AADSTS70011": "`token_scope` is not valid: it must be the scope of the Defender for Endpoint API.",
}


class Credential:
    """Access tokens of one app in one tenant. Safe to use from several threads."""

    def __init__(self, settings: Settings, wait: Callable[[float], None]) -> None:
        self._settings = settings
        self._wait = wait
        self._lock = threading.Lock()
        self._source: TokenSource | None = None
        self._token = ""

    def token(self, *, refused: str | None = None) -> str:
        """A valid access token, renewed five minutes before it expires.

        Args:
            refused: A token that the API answered with 401: it is not given out again.

        Raises:
            SignInError: With the reason and what to do about it.
        """
        with self._lock:
            for pause in _PAUSES:
                if pause:
                    self._wait(pause)
                try:
                    return self._acquire(refused)
                except (OSError, msal.exceptions.MsalServiceError) as error:
                    reason = self._unreachable(error)
            raise SignInError(reason)

    def _acquire(self, refused: str | None) -> str:
        renew = refused is not None and refused == self._token
        try:
            self._source = self._source or token_source(self._settings, self._wait)
            answer = self._source.acquire(renew=renew)
        except ValueError as error:
            # MSAL calls a proxy that is no address an unknown tenant: `requests` raises that as a ValueError.
            if isinstance(error.__context__, requests.RequestException):
                raise SignInError(self._unreachable(error.__context__)) from None
            raise SignInError(self._refused(redact(error))) from None
        if "access_token" not in answer:
            raise SignInError(self._refused(_reason(answer)))
        self._token = str(answer["access_token"])
        remember(self._token)
        return self._token

    @property
    def claims(self) -> dict[str, Any]:
        """What the last token says, unverified: it only serves to explain."""
        return _claims(self._token)

    @property
    def tenant_id(self) -> str:
        """The tenant's GUID as the token names it, also where the settings have a domain name."""
        return str(self.claims.get("tid") or self._settings.tenant_id)

    def _unreachable(self, error: Exception) -> str:
        status = re.search(r"\b5\d\d\b", str(error))
        if isinstance(error, (requests.HTTPError, msal.exceptions.MsalServiceError)):
            reason = f"it answers with status {status[0]}" if status else "it answers with an error"
        else:
            reason = describe(error)
        return f"Cannot sign in: the sign-in host {self._settings.login_url} cannot be used: {reason}."

    def _refused(self, description: str) -> str:
        tenant = self._settings.tenant_id
        if "Unable to get authority configuration" in description:  # MSAL's words for an unknown tenant
            return f"The sign-in host {self._settings.login_url} does not know the tenant {tenant}: check `tenant_id`."
        code = re.search(r"AADSTS\d+", description)
        advice = _ADVICE.get(code[0] if code else "", "Check `tenant_id`, `client_id` and the credential.")
        return f"Sign-in to tenant {tenant} was refused. {advice} ({_first_sentence(description)})"


def _reason(answer: dict[str, Any]) -> str:
    return redact(answer.get("error_description") or answer.get("error") or "no reason given")


def _first_sentence(text: str) -> str:
    return re.split(r"\s+(?=Trace ID|Correlation ID|Timestamp)|\r|\n", text.strip())[0][:300].rstrip(".")


def _claims(token: str) -> dict[str, Any]:
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
