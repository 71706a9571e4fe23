"""What can end a run or cost one result, each with one sentence for a person."""

from __future__ import annotations


class TapError(Exception):
    """Ends the run with exit code 1. The text is one sentence: what happened, to what, and what to do next."""


class SignInError(TapError):
    """Entra refused the sign-in, or the API refuses the token that Entra gave."""


class PermissionDeniedError(TapError):
    """The app lacks a role, or the feature is off for this tenant (HTTP 403)."""


class ServiceError(TapError):
    """The service cannot be used: it keeps failing, or it refuses a request that it documents."""


class QuotaStoreError(TapError):
    """The shared ledger of calls cannot be used, and no call is made without it."""


class NotFoundError(Exception):
    """The service says that there is no such thing (HTTP 400, 404 or 410). The text says which and why."""


class ReadFailedError(Exception):
    """One call or download kept failing for reasons that may pass. The text is the reason."""


class InterruptedRunError(Exception):
    """A wait was cut short because a signal asked the process to stop."""


class TimeIsUpError(Exception):
    """`max_run_minutes` is over, or would be before a wait has ended."""


class CallsSpentError(Exception):
    """As many calls were made as were allowed for a purpose. The text is why the last one failed, if it did."""


class StoreFailedError(Exception):
    """What was downloaded cannot be kept: the disk is full, say. The text is the reason."""
