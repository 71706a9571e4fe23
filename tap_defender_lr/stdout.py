"""Singer messages on stdout: whole lines of raw UTF-8, whatever signal comes while one is written."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO

from singer_sdk.singerlib.encoding.simple import Message, RecordMessage, SimpleSingerWriter, StateMessage
from singer_sdk.singerlib.json import serialize_json
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_defender_lr.lifetime import Lifetime

logger = logging.getLogger(__name__)

_PIECE = 64 * 1024
BLOCKED_SECONDS = 10.0
"""How long after the first signal a process may still be stuck in a write that nobody reads."""


class WholeLineWriter(SimpleSingerWriter):
    """Writes each message as one line, in as many system calls as it takes.

    The SDK's writer loses the rest of a line when a signal arrives during a blocked write and
    `PYTHONUNBUFFERED` is set, since Python's text layer ignores short raw writes (python/cpython#85393).
    """

    ended_with_state = False
    """Whether the last line was a STATE."""
    reader_is_gone = False
    """Whether nobody takes the output any more: the reader of the pipe has closed it, or the disk is full."""

    @override
    def serialize_message(self, message: Message) -> str:
        # Without \u escapes: a record stays as long as its text, far below the 50 MiB that Meltano takes per line.
        return serialize_json(message.to_dict(), ensure_ascii=False)

    def __init__(self) -> None:
        super().__init__()
        self._held: bytearray | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Write records in larger pieces until the end: a system call for each row would cost more than the row."""
        self._held = bytearray()
        try:
            yield
        finally:
            held, self._held = self._held, None
            if not self.reader_is_gone:
                self._write(held)

    @override
    def write_message(self, message: Message) -> None:
        line = f"{self.format_message(message)}\n".encode(errors="replace")
        if self._held is None:
            self._write(line)
        else:
            self._held += line
            if len(self._held) >= _PIECE or not isinstance(message, RecordMessage):
                self._write(self._held)
                self._held = bytearray()
        self.ended_with_state = isinstance(message, StateMessage)

    def _write(self, lines: bytes | bytearray) -> None:
        try:
            _write(lines)
        except BrokenPipeError:
            self.reader_is_gone = True
            logger.error("The reader of the output has gone away, so the tap stops.")
            raise SystemExit(1) from None
        except OSError as error:
            self.reader_is_gone = True
            raise SystemExit(f"The output cannot be written ({error.strerror}), so the tap stops.") from None


def _write(line: bytes | bytearray) -> None:
    sys.stdout.flush()
    buffer: BinaryIO = sys.stdout.buffer
    view = memoryview(line)
    while view:
        view = view[buffer.write(view) or 0 :]
    buffer.flush()


def stop_on_signal(lifetime: Lifetime, signal_number: int) -> None:
    """Signal handler: the first signal asks the run to end, a second one ends the process at once.

    The run looks for the request between two records and in every wait, writes its state and exits. If it is stuck
    in a write because the reader of the pipe does not read any more, the process ends after `BLOCKED_SECONDS`.
    """
    if lifetime.signal_number is not None:
        os._exit(exit_code(signal_number))
    lifetime.signal_number = signal_number
    timer = threading.Timer(BLOCKED_SECONDS, os._exit, [exit_code(signal_number)])
    timer.daemon = True
    timer.start()


def exit_code(signal_number: int) -> int:
    """143 for SIGTERM and 130 for SIGINT, as shells report them."""
    return 128 + signal_number
