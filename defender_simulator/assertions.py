"""Signed proofs of who an app is: a JWT signed with its certificate's key, or the token of a trusted outside issuer."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from defender_simulator.aadsts import SignInError, bad_request
from defender_simulator.certificates import Thumbprint, chain, leads_to, thumbprint

if TYPE_CHECKING:
    from defender_simulator.tenant import App, FederatedCredential

_ALGORITHMS = ["RS256", "PS256"]
_REVIEW = "Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials ."
_CHECK = (
    "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. "
    "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
)
_MISMATCH = "The provided signature value did not match the expected signature value."


class _Assertion(NamedTuple):
    """Header and claims are as sent: nothing in them has been checked."""

    token: str
    header: dict[str, Any]
    claims: dict[str, Any]


def check_assertion(app: App, token: str, *, token_url: str, now: float) -> None:
    """Raises SignInError unless the assertion proves that its sender is the app.

    As in the service, an assertion may be used again until it expires, and may live as long as it likes.
    """
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise _malformed() from error
    if header.get("alg") not in _ALGORITHMS:
        raise SignInError(
            5002738,
            f"Invalid JWT token. '{header.get('alg')}' is not a supported signature algorithm. Supported signing "
            f"algorithms are: '{','.join(_ALGORITHMS)}'",
        )
    assertion = _Assertion(token, header, claims)
    # GitHub's tokens have a thumbprint in the header, too: only the issuer tells the two kinds apart.
    if str(claims.get("iss")).startswith("https://"):
        _check_federated(app, assertion, now)
    else:
        _check_own(app, assertion, token_url, now)


def _check_own(app: App, assertion: _Assertion, token_url: str, now: float) -> None:
    claims = assertion.claims
    if not claims.get("iss") == claims.get("sub") == app.client_id:
        text = "Client assertion application identifier doesn't match 'client_id' parameter."
        raise SignInError(700021, f"{text} {_REVIEW}")
    certificate, mark = _certificate(app, assertion.header)
    if not _is_signed_with(certificate.public_key(), assertion):
        raise _invalid_signature(app, _MISMATCH, mark, certificate)
    if not certificate.not_valid_before_utc.timestamp() <= now < certificate.not_valid_after_utc.timestamp():
        raise _invalid_signature(app, "The key used is expired.", mark, certificate)
    if claims.get("aud") != token_url:
        raise SignInError(700023, f"Client assertion audience claim does not match Realm issuer. {_REVIEW}")
    _check_times(claims, now)


def _certificate(app: App, header: dict[str, Any]) -> tuple[x509.Certificate, Thumbprint]:
    """The certificate that the header speaks of: a registered one, or one of the trusted authority."""
    try:
        mark, sent = thumbprint(header), chain(header)
    except ValueError as error:
        raise _malformed() from error
    if mark is None:
        raise bad_request(
            50027, "invalid_request", "Invalid JWT token. No certificate thumbprint specified in token header."
        )
    if sent and not mark.fits(sent[0]):
        raise _invalid_signature(app, "The key was not found.", mark)
    for registered in map(x509.load_pem_x509_certificate, app.certificates):
        if mark.fits(registered):
            return registered, mark
    if sent and app.trusts_issuer and leads_to(x509.load_pem_x509_certificate(app.trusts_issuer), sent):
        return sent[0], mark
    raise _invalid_signature(app, "The key was not found.", mark)


def _check_federated(app: App, assertion: _Assertion, now: float) -> None:
    if not app.federated:
        text = f"The client '{app.client_id}'(Simulated app) has no configured federated identity credentials."
        raise SignInError(70025, text)
    credential = _federated_credential(app.federated, assertion.claims)
    if not _is_signed_with(load_pem_public_key(credential.public_key), assertion):
        raise SignInError(
            7000272,
            f"The certificate with identifier {assertion.header.get('kid')} used to sign the federated credential "
            f"could not be found in the metadata of identity provider {credential.issuer}. Please validate that your "
            "Identity Provider's metadata exposes the key used to sign the incoming token.",
        )
    _check_times(assertion.claims, now)


def _federated_credential(credentials: list[FederatedCredential], claims: dict[str, Any]) -> FederatedCredential:
    nothing = "No matching federated identity record found for presented assertion"
    issuer, subject, audience = claims.get("iss"), str(claims.get("sub")), claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    of_issuer = [credential for credential in credentials if credential.issuer == issuer]
    if not of_issuer:
        raise SignInError(700211, f"{nothing} issuer '{issuer}'. {_CHECK}")
    of_subject = [credential for credential in of_issuer if credential.subject == subject]
    if not of_subject and any(credential.subject.lower() == subject.lower() for credential in of_issuer):
        text = "The subject matches a federated identity credential only when upper and lower case are ignored."
        raise SignInError(7002138, f"{nothing} subject '{subject}'. {text} {_CHECK}")
    if not of_subject:
        raise SignInError(700213, f"{nothing} subject '{subject}'. {_CHECK}")
    for credential in of_subject:
        if credential.audience in audiences:
            return credential
    raise SignInError(700212, f"{nothing} audience '{audience}'. {_CHECK}")


def _is_signed_with(key: object, assertion: _Assertion) -> bool:
    if not isinstance(key, RSAPublicKey):
        return False
    try:
        jwt.PyJWS().decode(assertion.token, key, _ALGORITHMS)  # the claims are checked by the simulator's clock
    except jwt.InvalidTokenError:
        return False
    return True


def _check_times(claims: dict[str, Any], now: float) -> None:
    starts, ends = claims.get("nbf", 0), claims.get("exp", 0)
    if not (isinstance(starts, (int, float)) and isinstance(ends, (int, float))):
        raise _malformed()
    if not starts <= now < ends:
        raise SignInError(
            700024,
            f"Client assertion is not within its valid time range. Current time: {_iso(now)}, assertion valid from "
            f"{_iso(starts)}, expiry time of assertion {_iso(ends)}. {_REVIEW}",
        )


def _invalid_signature(
    app: App, reason: str, mark: Thumbprint, certificate: x509.Certificate | None = None
) -> SignInError:
    found = ""
    if certificate is not None:
        start, end = (
            f"{time:%m/%d/%Y %H:%M:%S}" for time in (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        )
        found = f" Found key 'Start={start}, End={end}',"
    hint = ""
    if app.trusts_issuer and certificate is None:
        hint = (
            " Alternatively, SNI may be configured on the app. Please ensure that client assertion is being sent with "
            "the x5c claim in the JWT header."
        )
    return SignInError(
        700027,
        f"Client assertion contains an invalid signature. [Reason - {reason}, Thumbprint of key used by client: "
        f"'{mark}',{found} Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured "
        f"keys for app Id '{app.client_id}'.]{hint}",
    )


def _malformed() -> SignInError:
    return bad_request(50027, "invalid_request", "JWT token is invalid or malformed.")


def _iso(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S.%f}0Z"
