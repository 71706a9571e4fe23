"""What became of a command, in the terms of `live_response_results`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_defender_lr import decoding
from tap_defender_lr.machine_action import GET_FILE

if TYPE_CHECKING:
    from tap_defender_lr.collected_file import CollectedFile
    from tap_defender_lr.decoding import ScriptResult
    from tap_defender_lr.fetching import Fetched
    from tap_defender_lr.machine_action import Command, MachineAction


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    Attributes:
        status: The `result_status`.
        error: Why there is no result, or what is wrong with it.
        script: What the script printed; None when there is no result, or a file.
        file: What was collected.
        size: Bytes of the result as downloaded.
        sha256: Of the result as downloaded.
    """

    status: str
    error: str | None = None
    script: ScriptResult | None = None
    file: CollectedFile | None = None
    size: int | None = None
    sha256: str | None = None

    @classmethod
    def of(cls, fetched: Fetched, max_output_bytes: int) -> Outcome:
        """Decode what the service gave."""
        if (file := fetched.file) is not None:
            status = "unreadable" if file.problem else "fetched"
            return cls(status, file.problem, file=file, size=file.download_size, sha256=file.download_sha256)
        if fetched.download is None:
            return cls("unavailable" if fetched.absent else "failed", fetched.absent or fetched.failed)
        with fetched.download.body as body:
            script = decoding.decode(body, max_output_bytes=max_output_bytes, complete=fetched.download.complete)
        status = "fetched" if script.readable else "unreadable"
        return cls(status, script.error, script=script, size=fetched.download.size, sha256=fetched.download.sha256)


def status_without_asking(action: MachineAction, command: Command, *, files: bool = False) -> str | None:
    """The `result_status` of a command whose result nobody needs to ask for, else None.

    Args:
        action: A final one.
        command: Of this action.
        files: Whether collected files are wanted.
    """
    if action.never_ran(command):
        return "not_run"
    if command.type == GET_FILE:
        return None if files else "skipped"
    return "no_result" if command.type == "PutFile" else None
