"""How Entra refuses: an OAuth error with an AADSTS number, told in JSON."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone

from starlette.responses import JSONResponse


class SignInError(Exception):
    """A refusal. `number` is the one after AADSTS; `error` and `suberror` are the words of OAuth."""

    def __init__(
        self, number: int, text: str, *, error: str = "invalid_client", status: int = 401, suberror: str | None = None
    ) -> None:
        super().__init__(f"AADSTS{number}: {text}")
        self.number = number
        self.error = error
        self.status = status
        self.suberror = suberror

    def response(self, now: float, url: str) -> JSONResponse:
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        timestamp = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
        document = {
            "error": self.error,
            "error_description": f"{self} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}",
            "error_codes": [self.number],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"{url}/error?code={self.number}",
        }
        if self.suberror is not None:
            document["suberror"] = self.suberror
        return JSONResponse(document, self.status)


def bad_request(number: int, error: str, text: str, *, suberror: str | None = None) -> SignInError:
    return SignInError(number, text, error=error, status=400, suberror=suberror)


def unknown_resource(resource: str, tenant_id: str) -> SignInError:
    return bad_request(
        500011,
        "invalid_resource",
        f"The resource principal named {resource} was not found in the tenant named {tenant_id}. This can happen if "
        "the application has not been installed by the administrator of the tenant or consented to by any user in the "
        "tenant.",
    )
