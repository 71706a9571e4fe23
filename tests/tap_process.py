"""The tap as a process of its own, and a loader as strict as any, which checks all that comes out.

Whatever happens to the tap, its output is whole lines of strict JSON in UTF-8 that fit their schema. Only the last line
of a killed process may be cut off, and is dropped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

if TYPE_CHECKING:
    from tests.conftest import Cli

    Process = subprocess.Popen[bytes]

on_unix_only = pytest.mark.skipif(sys.platform == "win32", reason="resource limits and /dev/full are of Unix")
STREAMS = {
    "live_response_results": ("machine_action_id", "command_index"),
    "machine_actions": ("id",),
    "printed": ("machine_action_id", "command_index", "row_index"),
    "script_output_errors": ("stream_name", "machine_action_id", "command_index", "error_index"),
    "script_output_snapshots": ("stream_name", "machine_action_id", "command_index"),
}


def strict(line: bytes) -> dict[str, Any]:
    """A message as a loader reads it: UTF-8, and JSON without the NaN and Infinity that only Python knows."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    message: dict[str, Any] = json.loads(line.decode(), parse_constant=refuse)
    return message


@dataclass
class Loader:
    """What arrives at a target that keeps one row per key, over all runs, and the state with which the next begins."""

    rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = field(
        default_factory=lambda: {name: {} for name in STREAMS}
    )
    state: dict[str, Any] | None = None
    validators: dict[str, jsonschema.Draft202012Validator] = field(default_factory=dict)

    def load(self, output: bytes, *, cut: bool = False) -> None:
        *lines, rest = output.split(b"\n")
        assert cut or not rest
        for line in lines:
            message = strict(line)
            if message["type"] == "SCHEMA":
                self.validators[message["stream"]] = jsonschema.Draft202012Validator(message["schema"])
            elif message["type"] == "RECORD":
                stream, record = message["stream"], message["record"]
                self.validators[stream].validate(record)
                assert "" not in record.values()
                assert "\x00" not in json.dumps(record, ensure_ascii=False)
                self.rows[stream][tuple(record[key] for key in STREAMS[stream])] = record
            else:
                self.state = message["value"]

    @property
    def results(self) -> dict[int, dict[str, Any]]:
        """Results of first commands by the number of their action."""
        return {int(key[:8], 16): row for (key, index), row in self.rows["live_response_results"].items() if not index}


def start(cli: Cli, state: dict[str, Any] | None = None, *, name: str = "stderr", **settings: Any) -> Process:
    """Start the tap; its log goes to a file, so that nobody has to read it."""
    with (cli.folder / name).open("wb") as errors:
        return subprocess.Popen(
            cli.command(state=state, **settings),
            env=cli.environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
        )


def drain(process: Process) -> bytes:
    output, _ = process.communicate(timeout=110)
    return output


def log_of(cli: Cli, name: str = "stderr") -> str:
    return (cli.folder / name).read_text()
