"""The blob store: bytes for whoever brings a minted link exactly as it was minted, and nothing else."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timezone
from email.utils import formatdate
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from starlette.responses import Response

from defender_simulator.exchange import Exchange, Latency, RefusedError
from defender_simulator.streaming import Streamed

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from defender_simulator.links import Link, Links
    from defender_simulator.tenant import Result, Tenant

_NOT_AUTHENTICATED = (
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
    "including the signature."
)


class BlobStore:
    def __init__(self, *, exchange: Exchange, tenant: Tenant, links: Links, latency: Latency) -> None:
        self._exchange = exchange
        self._tenant = tenant
        self._links = links
        self._latency = latency
        self._started = exchange.clock()

    def app(self) -> Starlette:
        path = "/investigation-actions-data/{blob:path}"
        return self._exchange.app(
            self._exchange.route(path, "blob", self._download, latency=self._latency, subject=self._subject)
        )

    def _subject(self, request: Request) -> tuple[str | None, int | None]:
        link = self._links.find(_target(request))
        return (link.action_id, link.index) if link else (None, None)

    async def _download(self, request: Request) -> Response:
        link = self._authorized(request)
        result = self._tenant.results.get((link.action_id, link.index))
        if result is None:
            raise self._refused(404, "BlobNotFound", "The specified blob does not exist.")
        if request.headers.get("if-match", "*") not in {"*", result.etag}:
            raise self._refused(
                412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."
            )
        response = self._part(request, result)
        response.headers.update(
            {
                **({} if result.length is None else {"Accept-Ranges": "bytes"}),
                "Content-Type": "application/octet-stream",
                "Content-Disposition": f"attachment;filename=output_{link.action_id}_{link.index}.json",
                "ETag": result.etag,
                "Last-Modified": formatdate(self._started, usegmt=True),
                "x-ms-blob-type": "BlockBlob",
                "x-ms-request-id": str(uuid.uuid4()),
                "x-ms-version": "2021-12-02",
                **result.headers,
            }
        )
        return response

    def _authorized(self, request: Request) -> Link:
        if "authorization" in request.headers:
            # Azure takes a bearer token beside a signature for a mistake: the client has just shown it to a stranger.
            raise self._refused(
                400,
                "InvalidAuthenticationInfo",
                "Authentication information is not given in the correct format. "
                "Check the value of Authorization header.",
            )
        if b"sig=" not in request.scope["query_string"]:
            raise self._refused(404, "ResourceNotFound", "The specified resource does not exist.")
        link = self._links.find(_target(request))
        if link is None:
            detail = "Signature did not match. String to sign used was r"
            raise self._refused(403, "AuthenticationFailed", _NOT_AUTHENTICATED, detail)
        now = self._exchange.clock()
        if not link.start <= now < link.expiry:
            start, expiry, current = (formatdate(time, usegmt=True) for time in (link.start, link.expiry, now))
            detail = (
                f"Signature not valid in the specified time frame: Start [{start}] - Expiry [{expiry}] - "
                f"Current [{current}]"
            )
            raise self._refused(403, "AuthenticationFailed", _NOT_AUTHENTICATED, detail)
        return link

    def _part(self, request: Request, result: Result) -> Response:
        wanted = request.headers.get("x-ms-range") or request.headers.get("range", "")
        span = re.fullmatch("bytes=([0-9]+)-([0-9]*)", wanted)
        size = result.length
        if span is None or size is None:
            return Streamed(result.pieces(0), size) if result.pieces else Response(result.body)
        first, last = int(span[1]), min(int(span[2] or size - 1), size - 1)
        if first > last:
            message = "The range specified is invalid for the current size of the resource."
            raise self._refused(416, "InvalidRange", message, headers={"Content-Range": f"bytes */{size}"})
        headers = {"Content-Range": f"bytes {first}-{last}/{size}"}
        if result.pieces:
            return Streamed(result.pieces(first), last + 1 - first, 206, headers)
        return Response(result.body[first : last + 1], 206, headers)

    def _refused(
        self, status: int, code: str, message: str, detail: str | None = None, headers: dict[str, str] | None = None
    ) -> RefusedError:
        request_id = str(uuid.uuid4())
        time = datetime.fromtimestamp(self._exchange.clock(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        more = f"<AuthenticationErrorDetail>{escape(detail)}</AuthenticationErrorDetail>" if detail else ""
        document = (
            f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code>'
            f"<Message>{escape(message)}\nRequestId:{request_id}\nTime:{time}</Message>{more}</Error>"
        )
        return RefusedError(
            Response(
                document.encode("utf-8-sig"),  # real answers have a byte order mark before the declaration
                status,
                {"x-ms-error-code": code, "x-ms-request-id": request_id, **(headers or {})},
                "application/xml",
            )
        )


def _target(request: Request) -> bytes:
    """Path and query byte for byte as they came."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return path + b"?" + query
