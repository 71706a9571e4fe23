"""Whatever the service sends becomes records that are valid JSON, valid UTF-8, valid for the schema, and that load."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock, patch

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from singer_sdk.singerlib.encoding.simple import RecordMessage

from defender_simulator.fleet import command, machine_action
from defender_simulator.odata import compile_filter, ticks
from tap_defender_lr import timestamps
from tap_defender_lr.client import DefenderClient
from tap_defender_lr.downloads import Download
from tap_defender_lr.fetching import Fetched
from tap_defender_lr.machine_action import from_api
from tap_defender_lr.planning import StreamState, make_plan
from tap_defender_lr.stdout import WholeLineWriter
from tap_defender_lr.streams.outcome import Outcome
from tap_defender_lr.tap import TapDefenderLr
from tests.conftest import CLIENT_ID, CLIENT_SECRET, TENANT_ID, action_id
from tests.postgres_server import new_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_defender_lr.machine_action import MachineAction
    from tap_defender_lr.streams.live_response_results import LiveResponseResultsStream
    from tap_defender_lr.streams.machine_actions import MachineActionsStream

SMALL = 1000
"""`max_output_bytes`, so that some outputs are cut."""


def _make_streams() -> tuple[LiveResponseResultsStream, MachineActionsStream]:
    connection = {"tenant_id": TENANT_ID, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    tap = TapDefenderLr(config={**connection, "max_output_bytes": SMALL})
    streams: Any = tap.streams
    return streams["live_response_results"], streams["machine_actions"]


RESULTS, ACTIONS = _make_streams()
VALIDATORS = {stream.name: jsonschema.Draft202012Validator(stream.schema) for stream in (RESULTS, ACTIONS)}
TYPES = {stream.name: stream.schema["properties"] for stream in (RESULTS, ACTIONS)}
WRITER = WholeLineWriter()

# Text with NUL, lone surrogates, controls and everything else that Unicode has. What a JSON reader makes of a document
# holds them where the text has escapes.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
ANY_NUMBER = st.integers() | st.floats() | st.integers(-(2**200), 2**200)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | ANY_NUMBER | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
TIMES = st.from_regex(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{0,9})?(Z|\+[0-9]{2}:00)?"
)
STATUSES = st.sampled_from(["Pending", "InProgress", "Succeeded", "Failed", "TimeOut", "Cancelled", "New", "completed"])


def _with_odd_values(usual: dict[str, Any], likely: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The object with some of its values replaced by anything, and with properties that nobody knows."""
    names = st.sampled_from([*usual, "ID", "Id", "TenantId", "extra", "@odata.x", "lastUpdateTimeUtc", "externalId"])
    changes = st.dictionaries(names | ANY_TEXT, likely | ANY_JSON, max_size=8)
    return changes.map(lambda chosen: {**usual, **chosen})


_COMMAND = command(0, params={"ScriptName": "a.ps1"}, started=1_790_000_001, ended=1_790_000_002)
_PARAMS = st.lists(st.fixed_dictionaries({"key": ANY_JSON, "value": ANY_JSON}) | ANY_JSON, max_size=3)
COMMANDS = _with_odd_values(
    _COMMAND, TIMES | STATUSES | st.fixed_dictionaries({"type": ANY_JSON, "params": _PARAMS | ANY_JSON})
)
_ACTION = machine_action(action_id=action_id(1), created=1_790_000_000, updated=1_790_000_003, commands=[_COMMAND])
ODD_ACTIONS = _with_odd_values(_ACTION, TIMES | STATUSES | st.lists(COMMANDS | ANY_JSON, max_size=3))

_DOCUMENTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["script_name", "exit_code", "script_output", "script_errors", "name", "output"]) | ANY_TEXT,
    ANY_JSON,
    max_size=5,
)
_LONG: st.SearchStrategy[dict[str, Any]] = st.text(
    st.characters(exclude_categories=()), min_size=200, max_size=900
).map(lambda text: {"output": text * 5})
_DOCUMENTS = _DOCUMENTS | _LONG
ODD_BODIES = (
    st.binary(max_size=200)
    | _DOCUMENTS.map(lambda document: json.dumps(document).encode())
    | _DOCUMENTS.map(lambda document: json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    | _DOCUMENTS.map(lambda document: json.dumps(document, ensure_ascii=False).encode("utf-16", "surrogatepass"))
    | _DOCUMENTS.map(lambda document: gzip.compress(json.dumps(document).encode()))
)


def refuse(token: str) -> None:
    raise AssertionError(f"{token} is no JSON")


def loaded(stream: LiveResponseResultsStream | MachineActionsStream, record: dict[str, Any]) -> dict[str, Any]:
    """The record as a loader reads it, after everything that has to hold for it was checked."""
    line = WRITER.format_message(RecordMessage(stream=stream.name, record=record))
    assert "\n" not in line
    message = json.loads(line.encode().decode(), parse_constant=refuse)
    read: dict[str, Any] = message["record"]
    assert read == record
    VALIDATORS[stream.name].validate(read)
    assert read.keys() == stream.schema["properties"].keys()
    assert all(read[key] is not None for key in stream.primary_keys)
    for column, value in read.items():
        assert value != "", column
        if value is not None and column.endswith(("_time_utc", "_time")):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", value), column
    for text in texts(read):
        assert "\x00" not in text
    return read


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included; every number is one that a target can hold."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def records_of(action: MachineAction, body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every record that can become of an action, with this body for the results of its commands."""
    yield ACTIONS.name, loaded(ACTIONS, ACTIONS.record(action))
    for item in RESULTS.items_of(action) or ():
        for fetched in (Fetched(download=download(body)), Fetched(failed="the connection failed")):
            yield RESULTS.name, loaded(RESULTS, RESULTS.record(item, Outcome.of(fetched, SMALL)))
        yield RESULTS.name, loaded(RESULTS, RESULTS.record(item, Outcome("not_run")))


def download(body: bytes, *, complete: bool = True) -> Download:
    return Download(io.BytesIO(body), len(body), hashlib.sha256(body).hexdigest(), complete=complete)


@given(ODD_ACTIONS | ANY_JSON)
@example({"id": "x", "Id": []})
@example({"id": True, "errorHResult": True, "commands": [{"index": True, "errors": "x", "command": 1}]})
@example({"id": "x", "commands": [{"index": 2**63, "commandStatus": ["x"], "errors": [None, 1, {}]}]})
def test_any_action_becomes_records(sent: Any) -> None:
    action = from_api(sent)
    if action is not None:
        assert list(records_of(action, b"{}"))
        plan = make_plan([action], StreamState(), RESULTS.items_of, now=1_790_000_000.0)
        for item in plan.items:
            plan.emitted(item)
        json.dumps(plan.state())


@given(ODD_BODIES, st.booleans())
def test_any_bytes_become_a_record(body: bytes, complete: bool) -> None:
    action = from_api(_ACTION)
    assert action is not None
    (item,) = RESULTS.items_of(action) or ()
    fetched = Fetched(download=download(body, complete=complete))
    record = loaded(RESULTS, RESULTS.record(item, Outcome.of(fetched, SMALL)))
    assert record["result_status"] in {"fetched", "unreadable"}
    assert record["result_error"] or record["result_status"] == "fetched"
    for column in ("script_output", "script_errors"):
        assert len((record[column] or "").encode()) <= SMALL
        assert isinstance(record[f"{column}_truncated"], bool)


@given(TIMES | ANY_TEXT, st.integers(0, 90))
@example("0001-01-01T00:00:00Z", 4)
@example("9999-12-31T23:59:59.9999999Z", 0)
def test_any_bookmark_becomes_a_filter_that_the_service_takes(bookmark: str, lookback_days: int) -> None:
    state = StreamState.from_state({"replication_key_value": bookmark})
    since = state.list_from(lookback_days)
    # Without a filter, everything is listed: right for no bookmark, and for one before all time.
    assert since is not None or (timestamps.normalize(bookmark) or "") < "1970-04-02"
    if since is not None:
        client = DefenderClient("https://api", Mock(), Mock(), Mock())
        with patch.object(client, "_get", return_value={"value": []}) as get:
            assert list(client.machine_actions(since)) == []
        takes = compile_filter(get.call_args.args[1]["$filter"])
        assert takes({"type": "LiveResponse", "creationDateTimeUtc": since})
        assert ticks(since) <= ticks(timestamps.normalize(bookmark) or "")


def _column_type(schema: dict[str, Any]) -> str:
    """What the usual loaders make of a column."""
    kinds = set(schema["type"]) - {"null"}
    if schema.get("format") == "date-time":
        return "timestamptz"
    types = {"string": "text", "integer": "bigint", "boolean": "boolean", "object": "jsonb", "array": "jsonb"}
    return types[kinds.pop()]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Any]:
    """A connection to a real server with a table for each stream."""
    server, psycopg = new_server(), pytest.importorskip("psycopg")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            for stream in (RESULTS, ACTIONS):
                columns = (f'"{name}" {_column_type(schema)}' for name, schema in stream.schema["properties"].items())
                connection.execute(f"CREATE TABLE {stream.name} ({', '.join(columns)}, whole_record jsonb)")
            yield connection
    finally:
        server.cleanup()


def _is_same(stored: Any, sent: Any) -> bool:
    """Whether two JSON values are the same for someone who reads numbers as floats; jsonb writes them out in full."""
    if isinstance(sent, float):
        return float(stored) == sent
    if isinstance(sent, dict):
        return stored.keys() == sent.keys() and all(_is_same(stored[key], value) for key, value in sent.items())
    if isinstance(sent, list):
        return len(stored) == len(sent) and all(map(_is_same, stored, sent))
    return type(stored) is type(sent) and bool(stored == sent)


@pytest.mark.slow
@settings(max_examples=300)
@given(ODD_ACTIONS, ODD_BODIES)
def test_a_real_postgres_takes_every_record_and_gives_the_same_back(postgres: Any, sent: Any, body: bytes) -> None:
    action = from_api(sent)
    for table, record in records_of(action, body) if action else ():
        types = {name: _column_type(schema) for name, schema in TYPES[table].items()}
        row = {name: json.dumps(value) if types[name] == "jsonb" else value for name, value in record.items()}
        # As text: that is what came in, and nothing of Python in between decides what the same is.
        back = [
            f"extract(epoch from {name})::text" if types[name] == "timestamptz" else f"{name}::text" for name in row
        ]
        values = [*row.values(), WRITER.format_message(RecordMessage(stream=table, record=record))]
        statement = f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(values))}) RETURNING {', '.join(back)}"
        stored = postgres.execute(statement, values).fetchone()
        for name, text in zip(row, stored, strict=True):
            value = record[name]
            if value is None:
                assert text in {None, "null"}
            elif types[name] == "text":
                assert text == value
            elif types[name] == "timestamptz":
                assert abs(float(text) - timestamps.to_unix(value)) < 0.001
            else:
                assert _is_same(json.loads(text), value)
