from __future__ import annotations

from typing import Any

import pytest

from defender_simulator.fleet import command, machine_action
from tap_defender_lr.machine_action import from_api

ID = "988cc94e-7a8f-4b28-ab65-54970c5d5018"


def decode(**changes: Any) -> Any:
    sent = machine_action(action_id=ID, created=1_790_000_000, updated=1_790_000_060, commands=[command(0)])
    return from_api({**sent, **changes})


@pytest.mark.parametrize("sent", [None, [], "text", {}, {"id": None}, {"id": ""}])
def test_what_has_no_id_is_no_action(sent: object) -> None:
    assert from_api(sent) is None


@pytest.mark.parametrize(
    ("commands", "indexes"),
    [
        (None, []),
        ([], []),
        ("text", []),
        (["text", None], []),
        ([{}], [0]),
        ([command(1), command(0)], [0, 1]),
        ([{"index": None}, {"index": True}, {"index": -1}, {"index": "3"}], [0, 1, 2, 3]),
        ([command(0), command(0)], [0]),
    ],
)
def test_commands(commands: object, indexes: list[int]) -> None:
    assert [entry.index for entry in decode(commands=commands).commands] == indexes


def test_commands_may_be_missing() -> None:
    assert from_api({"id": ID}).commands == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "last_update"),
    [
        ({}, "2026-09-21T14:14:20.0000000Z"),
        ({"lastUpdateDateTimeUtc": None, "lastUpdateTimeUtc": "2026-09-22T00:00:00Z"}, "2026-09-22T00:00:00.0000000Z"),
        ({"lastUpdateDateTimeUtc": ""}, "2026-09-21T14:13:20.0000000Z"),
        (
            {"lastUpdateDateTimeUtc": "", "commands": [command(0, ended="2026-09-21T15:00:00.5Z")]},
            "2026-09-21T15:00:00.5000000Z",
        ),
        ({"lastUpdateDateTimeUtc": "", "creationDateTimeUtc": ""}, "1970-01-01T00:00:00.0000000Z"),
    ],
)
def test_last_update_or_the_latest_time_there_is(changes: dict[str, Any], last_update: str) -> None:
    assert decode(**changes).last_update == last_update


@pytest.mark.parametrize(
    ("status", "commands", "final"),
    [
        ("Succeeded", [], True),
        ("Failed", [], True),
        ("TimeOut", [], True),
        ("Timeout", [], True),
        ("Cancelled", [], True),
        ("Pending", [command(0)], False),
        ("InProgress", [command(0)], False),
        # A status that nobody knows today: the commands tell.
        ("PartiallySucceeded", [command(0), command(1, status="Failed")], True),
        ("PartiallySucceeded", [command(0), command(1, status="Executing")], False),
        (None, [], False),
    ],
)
def test_is_final(status: str | None, commands: list[Any], final: bool) -> None:
    assert decode(status=status, commands=commands).is_final is final


@pytest.mark.parametrize(
    ("action_status", "earlier", "this", "never"),
    [
        ("TimeOut", None, {"status": "Created"}, True),
        ("Cancelled", None, {"status": "Submitted"}, True),
        ("Failed", {"status": "Failed", "ended": 1_790_000_000}, {"status": "Created"}, True),
        ("Failed", {"status": "Failed", "ended": 1_790_000_000}, {"status": "Failed"}, True),
        # It may have run: asked for.
        ("Failed", None, {"status": "Failed"}, False),
        ("Failed", {"status": "Completed"}, {"status": "Failed"}, False),
        ("TimeOut", None, {"status": "Executing", "started": 1_790_000_000}, False),
        ("TimeOut", None, {"status": "Executing"}, False),
        ("Cancelled", None, {"status": "Created", "started": 1_790_000_000}, False),
        ("Succeeded", None, {"status": "Created"}, False),
        ("Failed", None, {"status": "SomethingNew"}, False),
    ],
)
def test_never_ran(action_status: str, earlier: dict[str, Any] | None, this: dict[str, Any], never: bool) -> None:
    commands = [command(0, **earlier)] if earlier else []
    action = decode(status=action_status, commands=[*commands, command(len(commands), **this)])
    assert action.never_ran(action.commands[-1]) is never


@pytest.mark.parametrize(
    ("params", "decoded"),
    [
        (
            [{"key": "ScriptName", "value": "a b.ps1"}, {"key": "Args", "value": None}],
            {"ScriptName": "a b.ps1", "Args": None},
        ),
        (None, {}),
        ([None, {}, {"key": ""}, {"key": 5}], {"5": None}),
        ({"ScriptName": "a.ps1"}, {"ScriptName": "a.ps1"}),
    ],
)
def test_params(params: object, decoded: dict[str, Any]) -> None:
    entry = {"index": 0, "command": {"type": "RunScript", "params": params}}
    action = decode(commands=[entry])
    (ran,) = action.commands
    assert action.details(ran).params == decoded
    assert ran.script_name == decoded.get("ScriptName")
