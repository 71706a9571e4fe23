"""What became of a command, in the terms of `live_response_results`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_defender_lr import decoding

if TYPE_CHECKING:
    from tap_defender_lr.decoding import ScriptResult
    from tap_defender_lr.fetching import Fetched
    from tap_defender_lr.machine_action import Command, MachineAction


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    Attributes:
        status: The `result_status`.
        error: Why there is no result, or what is wrong with it.
        script: What the script printed; None when there is no result.
        size: Bytes of the result as downloaded.
        sha256: Of the result as downloaded.
    """

    status: str
    error: str | None = None
    script: ScriptResult | None = None
    size: int | None = None
    sha256: str | None = None

    @classmethod
    def of(cls, fetched: Fetched, max_output_bytes: int) -> Outcome:
        """Decode what the service gave."""
        if fetched.download is None:
            return cls("unavailable" if fetched.absent else "failed", fetched.absent or fetched.failed)
        with fetched.download.body as body:
            script = decoding.decode(body, max_output_bytes=max_output_bytes, complete=fetched.download.complete)
        status = "fetched" if script.readable else "unreadable"
        return cls(status, script.error, script, fetched.download.size, fetched.download.sha256)


def status_without_asking(action: MachineAction, command: Command) -> str | None:
    """The `result_status` of a command whose result nobody needs to ask for, else None."""
    if action.never_ran(command):
        return "not_run"
    return {"PutFile": "no_result", "GetFile": "skipped"}.get(command.type or "")
