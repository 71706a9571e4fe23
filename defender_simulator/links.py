"""Download links: blob addresses with a shared access signature, as Azure writes a user delegation SAS."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
import threading
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote


@dataclass(frozen=True)
class Link:
    """What a minted link leads to; it works from `start` up to `expiry` (seconds, exclusive)."""

    action_id: str
    index: int
    start: float
    expiry: float


class Links:
    """Every link minted, by the exact bytes of its path and query.

    Args:
        url: The blob store.
        tenant_id: Goes into the link, as in the real ones.
        lifetime: Seconds. The expiry is a whole second, rounded up.
    """

    def __init__(self, *, url: str, tenant_id: str, lifetime: float) -> None:
        self._url = url
        self._tenant_id = tenant_id
        self._lifetime = lifetime
        self._key = secrets.token_bytes(32)
        self._delegate = str(uuid.uuid4())
        self._container = str(uuid.uuid4())
        self._minted: dict[bytes, Link] = {}
        self._signatures: set[str] = set()
        self._lock = threading.Lock()

    def mint(self, action_id: str, index: int, now: float) -> str:
        """Gives a fresh link. Its signature holds `+`, `/` and `=`: a client that quotes anew breaks it."""
        link = Link(action_id, index, start=math.floor(now), expiry=math.ceil(now + self._lifetime))
        signature = unsigned = ""
        while not ("+" in signature and "/" in signature):
            unsigned = self._unsigned(link)
            digest = hmac.new(self._key, unsigned.encode(), hashlib.sha256).digest()
            signature = base64.b64encode(digest).decode()
        target = f"{unsigned}&sig={quote(signature, safe='')}"
        with self._lock:
            self._minted[target.encode()] = link
            self._signatures |= {signature, quote(signature, safe="")}
        return f"{self._url}{target}"

    def find(self, target: bytes) -> Link | None:
        with self._lock:
            return self._minted.get(target)

    def signatures(self) -> set[str]:
        """Every signature minted, both percent-encoded and not."""
        with self._lock:
            return set(self._signatures)

    def _unsigned(self, link: Link) -> str:
        start, expiry = _iso(link.start), _iso(link.expiry)
        parameters = {
            "skoid": self._delegate,
            "sktid": self._tenant_id,
            "skt": start,
            "ske": expiry,
            "sks": "b",
            "skv": "2021-12-02",
            "sv": "2021-12-02",
            "st": start,
            "se": expiry,
            "sr": "b",
            "sp": "r",
            "rscd": f"attachment;filename=output_{link.action_id}_{link.index}.json",
        }
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        path = f"/investigation-actions-data/{self._container}/CustomPlaybookCommandOutput/{uuid.uuid4().hex}"
        return f"{path}?{query}"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
