"""Wire shapes of the Defender API: one machine action, one of its commands, one script result."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: .NET counts time in ticks of 100 ns. The fleet does too: a float of unix seconds is too coarse for seven decimals.
SECOND = 10_000_000


def timestamp(ticks: int) -> str:
    """Write unix time in ticks as the service does: UTC, and trailing zeros cut, so 0 to 7 decimals."""
    seconds, fraction = divmod(ticks, SECOND)
    day, second = divmod(seconds, 86_400)
    text = f"{_date(day)}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return text + (f".{fraction:07d}".rstrip("0") if fraction else "") + "Z"


@lru_cache(maxsize=100)
def _date(day: int) -> str:
    return str(date(1970, 1, 1) + timedelta(days=day))


def ticks_of(text: str) -> int:
    """Read a time of the service back into ticks."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * SECOND + int(fraction.ljust(7, "0"))


def _time(value: float | str | None) -> str | None:
    return timestamp(round(value * SECOND)) if isinstance(value, (int, float)) else value


def machine_action(
    *,
    action_id: str,
    created: float | str,
    updated: float | str | None = None,
    status: str = "Succeeded",
    commands: Sequence[dict[str, Any]] = (),
    machine_id: str | None = "0123456789abcdef0123456789abcdef01234567",
    computer_dns_name: str | None = "fra-lt-0001.corp.contoso.example",
    requestor: str | None = "FleetInventory",
    requestor_comment: str | None = None,
    action_type: str = "LiveResponse",
    title: str | None = None,
    cancellation_requestor: str | None = None,
    cancellation_comment: str | None = None,
    cancelled: float | str | None = None,
    error_h_result: int = 0,
    scope: str | None = None,
    external_id: str | None = None,
    request_source: str | None = "PublicApi",
    related_file_info: dict[str, str] | None = None,
    troubleshoot_info: Any = None,
) -> dict[str, Any]:
    """Write a machine action with every property that real answers hold, in their order, nulls written out.

    Times are unix seconds or ready text. Without `updated` the action was last updated when it was created.
    """
    return {
        "id": action_id,
        "type": action_type,
        "title": title,
        "requestor": requestor,
        "requestorComment": requestor_comment,
        "status": status,
        "machineId": machine_id,
        "computerDnsName": computer_dns_name,
        "creationDateTimeUtc": _time(created),
        "lastUpdateDateTimeUtc": _time(created if updated is None else updated),
        "cancellationRequestor": cancellation_requestor,
        "cancellationComment": cancellation_comment,
        "cancellationDateTimeUtc": _time(cancelled),
        "errorHResult": error_h_result,
        "scope": scope,
        "externalId": external_id,
        "requestSource": request_source,
        "relatedFileInfo": related_file_info,
        "commands": list(commands),
        "troubleshootInfo": troubleshoot_info,
    }


def command(
    index: int,
    command_type: str = "RunScript",
    status: str = "Completed",
    params: Mapping[str, str] | None = None,
    *,
    started: float | str | None = None,
    ended: float | str | None = None,
    errors: Iterable[str] = (),
) -> dict[str, Any]:
    """Write one entry of an action's `commands`."""
    return {
        "index": index,
        "startTime": _time(started),
        "endTime": _time(ended),
        "commandStatus": status,
        "errors": list(errors),
        "command": {
            "type": command_type,
            "params": [{"key": key, "value": value} for key, value in (params or {}).items()],
        },
    }


def result_body(script_name: str, exit_code: int | None, output: str, errors: str = "") -> bytes:
    """Write the result of a RunScript as the agent does: one JSON object, ASCII only."""
    document = {"script_name": script_name, "exit_code": exit_code, "script_output": output, "script_errors": errors}
    return json.dumps(document).encode()
