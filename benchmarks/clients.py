"""Who is measured side by side: a script, a plain stream of the SDK, and the tap."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Client:
    """A program that reads all results of a service.

    Attributes:
        program: Arguments of the Python interpreter, without the file with its settings.
        mark: What stands in each line that brings a result, and in no other.
        is_tap: Whether it speaks Singer: options, messages, state.
    """

    name: str
    program: tuple[str, ...]
    mark: bytes
    is_tap: bool = True

    def arguments(self, config: Path, state: Path | None = None) -> list[str]:
        if not self.is_tap:
            return [*self.program, str(config)]
        return [*self.program, "--config", str(config), *(["--state", str(state)] if state else [])]

    def command(self, config: Path, state: Path | None = None, *, factor: float = 1.0) -> list[str]:
        """The whole command; with another factor than 1 it runs on a clock that is so many times as fast."""
        clock = ["-m", "benchmarks.fast_clock", str(factor)] if factor != 1 else []
        return [sys.executable, *clock, *self.arguments(config, state)]


NAIVE = Client(
    "sequential script", (str(Path(__file__).with_name("naive.py")),), b'"machine_action_id": "', is_tap=False
)
PLAIN = Client(
    "plain SDK stream",
    ("-m", "benchmarks.plain_tap"),
    b'{"type":"RECORD","stream":"live_response_results",',
)
TAP = Client("tap", ("-m", "tap_defender_lr"), b'"result_status":"fetched"')
CLIENTS = (NAIVE, PLAIN, TAP)
