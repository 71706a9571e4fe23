"""A stream whose records may be written while another one is synced.

This is also the one place where private methods of the SDK are overridden; `tests/test_sdk_contract.py` fails when
the SDK changes what they rely on.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from singer_sdk import Stream, metrics
from typing_extensions import override

from tap_defender_lr.stdout import WholeLineWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context


class WrittenStream(Stream, abc.ABC):
    """A stream of the tap.

    The SDK syncs one stream after the other. Fetching a result once for all streams that want it, with all of them at
    the same place when the run ends, means that the first one writes for the others, too.
    """

    @override
    def __init__(self, tap: Tap, *, schema: dict[str, Any] | None = None, name: str | None = None) -> None:
        super().__init__(tap, schema=schema, name=name)
        self._announced = False
        self._written = 0

    @property
    def writer(self) -> WholeLineWriter:
        """Of the tap."""
        assert isinstance(self._tap.message_writer, WholeLineWriter)  # noqa: S101  the tap says so
        return self._tap.message_writer

    def write(self, record: dict[str, Any]) -> None:
        """Write a record while another stream is synced."""
        self._write_schema_message()
        self._write_record_message(record)
        self._written += 1

    @property
    @override
    def emit_activate_version_messages(self) -> bool:
        """Never: after such a message a loader deletes all rows without its version, such as those written before."""
        return False

    @override
    def get_batch_config(self, config: Mapping[str, Any]) -> None:
        """No batch files: their state would not fit what other streams write."""

    # Private methods of the SDK.

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> None:
        """No signpost in state: it only serves unsorted streams."""

    @override
    def _write_starting_replication_value(self, context: Context | None) -> None:
        """Not used: the SDK would compare the bookmark (a last update) with `start_date` (a creation time)."""

    @override
    def _increment_stream_state(self, latest_record: dict[str, Any], *, context: Context | None = None) -> None:
        """The plan knows better than the last record: items that are tried again must not move the bookmark back."""

    @override
    def _write_schema_message(self) -> None:
        if not self._announced:
            super()._write_schema_message()
        self._announced = True

    @override
    def get_record_counter(self, **options: Any) -> metrics.Counter:
        """Counts what was written already."""
        counter = super().get_record_counter(**options)
        counter.value, self._written = self._written, 0
        return counter
