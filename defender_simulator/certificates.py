"""X.509 certificates for apps: made for tests, and compared as Entra compares them."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Certificate(NamedTuple):
    """Both in PEM; the key is not encrypted."""

    certificate_pem: bytes
    key_pem: bytes


def make_certificate(
    name: str, *, issuer: Certificate | None = None, starts: datetime | None = None, days: int = 30
) -> Certificate:
    """Makes a key and its certificate.

    Args:
        name: Common name.
        issuer: Who signs it; by default it signs itself, and may then be the issuer of others.
        starts: Begin of its validity; by default an hour ago.
        days: How long it is valid.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    starts = starts or datetime.now(timezone.utc) - timedelta(hours=1)
    signed_by = subject if issuer is None else x509.load_pem_x509_certificate(issuer.certificate_pem).subject
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(starts + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(key if issuer is None else load_key(issuer.key_pem), hashes.SHA256())
    )
    return Certificate(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def key_pem(key: rsa.RSAPrivateKey, password: str | None = None) -> bytes:
    """The key in PKCS#8, encrypted if there is a password."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, _encryption(password))


def load_key(pem: bytes) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"an RSA key is wanted, not {type(key).__name__}")
    return key


def write_pfx(path: Path, certificate: bytes, key: bytes, password: str | None = None) -> None:
    """Writes a certificate and its key, both given in PEM, as PKCS#12."""
    loaded = x509.load_pem_x509_certificate(certificate)
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"app", load_key(key), loaded, None, _encryption(password)))


def _encryption(password: str | None) -> serialization.KeySerializationEncryption:
    if password is None:
        return serialization.NoEncryption()
    return serialization.BestAvailableEncryption(password.encode())


class Thumbprint(NamedTuple):
    """What a token's header says about the certificate whose key has signed it."""

    algorithm: hashes.HashAlgorithm
    digest: bytes

    @override
    def __str__(self) -> str:
        return self.digest.hex().upper()

    def fits(self, certificate: x509.Certificate) -> bool:
        return certificate.fingerprint(self.algorithm) == self.digest


def thumbprint(header: dict[str, object]) -> Thumbprint | None:
    """The thumbprint in the header of a JWT, the newer SHA-256 before SHA-1."""
    algorithms: list[tuple[str, hashes.HashAlgorithm]] = [("x5t#S256", hashes.SHA256()), ("x5t", hashes.SHA1())]  # noqa: S303
    for name, algorithm in algorithms:
        text = header.get(name)
        if isinstance(text, str):
            text = text.rstrip("=")  # MSAL leaves the padding in
            return Thumbprint(algorithm, base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return None


def chain(header: dict[str, object]) -> list[x509.Certificate]:
    """The certificates in the header of a JWT, the leaf first. Raises ValueError for what is none."""
    encoded = header.get("x5c", [])
    if not (isinstance(encoded, list) and all(isinstance(text, str) for text in encoded)):
        raise ValueError("x5c is not a list of texts")
    return [x509.load_der_x509_certificate(base64.b64decode(text)) for text in encoded]


def leads_to(authority: x509.Certificate, certificates: Sequence[x509.Certificate]) -> bool:
    """Whether the first certificate was issued by the authority, at most by way of those that follow it."""
    for position, certificate in enumerate(certificates):
        if _issued(authority, certificate):
            return True
        following = certificates[position + 1 : position + 2]
        if not following or not _issued(following[0], certificate):
            return False
    return False


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
