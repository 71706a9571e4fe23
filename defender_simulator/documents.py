"""The documents that the scripts in `docs/scripts` print, one for each run, on one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from . import powershell
from .shapes import SECOND, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .devices import Device

DAY = 86_400 * SECOND

#: As the shell scripts print it.
shell_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def document(device: Device, name: str, rows: Iterable[str], problems: Sequence[str] = ()) -> str:
    """Put ready rows into the document; `problems` are the sentences about what could not be read."""
    succeeded = "false" if problems else "true"
    return f'{{"succeeded":{succeeded},"errors":{encoded(device, list(problems))},"{name}":[{",".join(rows)}]}}'


def encoded(device: Device, value: Any) -> str:
    """Write a value as JSON, as PowerShell or the shell script does."""
    return powershell.to_compressed_json(value) if device.is_windows else shell_json(value)


def moment(ticks: int) -> str:
    """Write a time as the scripts do: whole seconds in UTC."""
    return timestamp(ticks // SECOND * SECOND)
