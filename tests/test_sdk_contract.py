"""What the tap relies on inside the SDK. On a failure, mend `written.py`, `planned.py` or `tap.py`."""

from __future__ import annotations

import inspect

from singer_sdk import Stream, Tap
from singer_sdk.helpers._state import StateWriter
from singer_sdk.metrics import Counter
from singer_sdk.plugin_base import PluginBase
from singer_sdk.singerlib.encoding.simple import SimpleSingerWriter


def source(function: object) -> str:
    return inspect.getsource(function)  # type: ignore[arg-type]


def test_the_record_is_written_before_the_generator_goes_on() -> None:
    """So that after a `yield`, `Plan.emitted` may count the record as written."""
    body = source(Stream._sync_records)
    assert (
        body.index("_write_record_message(record)")
        < body.index("_increment_stream_state(")
        < body.index("yield record")
    )


def test_the_overridden_private_methods_are_still_called() -> None:
    assert "self._write_starting_replication_value(" in source(Stream._sync_records)
    assert "self.get_replication_key_signpost(" in source(Stream.sync)
    assert "self._handle_termination" in source(PluginBase._setup_signal_handlers)
    assert "self._validate_config(raise_errors=" in source(PluginBase.__init__)


def test_only_an_exception_is_logged_as_unhandled() -> None:
    """So that `SystemExit` from `get_records` ends the run with nothing but the tap's own sentence."""
    assert "except Exception:" in source(Stream.sync)


def test_the_connection_test_takes_one_record_more_than_its_limit() -> None:
    body = source(Stream._sync_records)
    assert body.index("enumerate(self.get_records(") < body.index("_check_max_record_limit(")


def test_messages_go_through_the_writer_of_the_tap() -> None:
    assert "self.message_writer.write_message(message)" in source(Tap.write_message)
    assert "self._message_writer.write_message(" in source(StateWriter.write_state)
    assert "def format_message" in source(SimpleSingerWriter.__mro__[1])


def test_a_stream_that_wrote_for_another_one_is_announced_and_counted_once() -> None:
    assert "self._write_schema_message()" in source(Stream.sync)
    assert "record_counter = self.get_record_counter()" in source(Stream._sync_records)
    assert "self.last_log_time = time()" in source(Counter.__enter__)
    assert "value" not in source(Counter.__enter__)
