"""What the tests of script streams share: entries, actions whose scripts print something, and what always holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema

from defender_simulator.fleet import command, result_body
from tests.conftest import NOON

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cli, Run, World

    MakeCli = Callable[..., Cli]

SOFTWARE: dict[str, Any] = {
    "name": "software",
    "script_name": "Get-Software.*",
    "records_path": "$.software[*]",
    "schema": {"properties": {"name": {"type": "string"}, "size": {"type": "integer"}}},
}
LATEST = {**SOFTWARE, "key_properties": ["machine_id", "name"]}
ADMINS: dict[str, Any] = {
    "name": "admins",
    "script_name": "get-admins.sh",
    "format": "csv",
    "schema": {"properties": {"account": {"type": "string"}, "enabled": {"type": "boolean"}}},
}
COMPANIONS = ("script_output_errors", "script_output_snapshots")


def software(*names: str) -> str:
    return json.dumps({"software": [{"name": name, "size": len(name)} for name in names]})


def add(world: World, number: int, script: str, output: str, **properties: Any) -> dict[str, Any]:
    """An action that ran `script`, which printed `output`."""
    updated = properties.pop("updated", NOON + number)
    ran = command(0, "RunScript", "Completed", {"ScriptName": script}, started=updated - 2, ended=updated - 1)
    return world.add(number, commands=[ran], updated=updated, body=result_body(script, 0, output), **properties)


def check(run: Run, code: int = 0) -> None:
    """What holds for every run: records fit their schema, keys are unique, the output ends with STATE."""
    assert run.code == code, run.stderr
    schemas = {m["stream"]: m for m in run.messages if m["type"] == "SCHEMA"}
    assert len(schemas) == sum(m["type"] == "SCHEMA" for m in run.messages)
    announced: set[str] = set()
    for message in run.messages:
        if message["type"] == "SCHEMA":
            announced.add(message["stream"])
        elif message["type"] == "RECORD":
            assert message["stream"] in announced
    for stream, schema in schemas.items():
        validator = jsonschema.Draft202012Validator(schema["schema"])
        keys = []
        for record in run.records(stream):
            validator.validate(record)
            assert record.keys() == schema["schema"]["properties"].keys()
            assert "" not in record.values()
            keys.append(tuple(record[key] for key in schema["key_properties"]))
            assert None not in keys[-1]
        assert len(keys) == len(set(keys))
    assert run.messages[-1]["type"] == "STATE"


def rows(run: Run, stream: str, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(record[column] for column in columns) for record in run.records(stream)]
