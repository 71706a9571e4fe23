"""The real command line against the simulator over real sockets: what a run brings, and what the next one does."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from defender_simulator import Rule, Simulator
from defender_simulator.fleet import command, make_tenant, next_day, result_body
from tests.conftest import CLIENT_SECRET, NOON, TENANT_ID, Cli, Run, World, action_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from defender_simulator import Tenant

STREAMS = {"live_response_results": ("machine_action_id", "command_index"), "machine_actions": ("id",)}


def check(run: Run) -> None:
    """What holds for every run: exit 0, keys unique, records fit their schema, text is clean, the bookmark moves on."""
    assert run.code == 0, run.stderr
    schemas = {m["stream"]: m for m in run.messages if m["type"] == "SCHEMA"}
    for stream, keys in STREAMS.items():
        if stream not in schemas:
            continue
        assert schemas[stream]["key_properties"] == list(keys)
        validator = jsonschema.Draft202012Validator(schemas[stream]["schema"])
        records = run.records(stream)
        for record in records:
            validator.validate(record)
            assert record.keys() == schemas[stream]["schema"]["properties"].keys()
            assert "" not in record.values()
        found = Counter(tuple(record[key] for key in keys) for record in records)
        assert set(found.values()) <= {1}
        bookmarks = [s["bookmarks"].get(stream, {}).get("replication_key_value", "") for s in run.states]
        assert bookmarks == sorted(bookmarks)
    assert "\\u0000" not in run.stdout
    assert run.messages[-1]["type"] == "STATE"


def fleet(**arguments: Any) -> Tenant:
    return make_tenant(devices=40, now=NOON, **arguments)


def test_a_fleet_with_all_its_dirt_and_the_day_after(make_cli: Callable[..., Cli]) -> None:
    tenant = fleet()
    unlimited = {"calls_per_minute": 1000, "calls_per_hour": 10_000}
    with Simulator(tenant, **unlimited) as simulator:  # type: ignore[arg-type]
        cli = make_cli(simulator, **unlimited)
        first = cli.run()
        check(first)
        live = [action for action in tenant.actions if action["type"] == "LiveResponse"]
        final = [action for action in live if action["status"] not in {"Pending", "InProgress"}]
        assert {record["id"] for record in first.records("machine_actions")} == {action["id"] for action in live}
        expected = {(action["id"], entry["index"]) for action in final for entry in action["commands"] or ()}
        results = {(r["machine_action_id"], r["command_index"]): r for r in first.records()}
        assert results.keys() == expected
        assert {record["tenant_id"] for record in results.values()} == {tenant.tenant_id}
        read = {key for key, record in results.items() if record["result_status"] in {"fetched", "unreadable"}}
        files = {key for key, record in results.items() if record["result_status"] == "skipped"}
        assert read | files == set(tenant.results)
        assert 200 in {call.status for call in simulator.calls("link")}
        assert {call.endpoint for call in simulator.log} >= {"discovery", "token", "list", "link", "blob"}

        simulator.clear_log()
        second = cli.run(state=first.states[-1])
        check(second)
        assert [call.endpoint for call in simulator.log] == ["discovery", "token", "list"]
        assert second.records() == second.records("machine_actions") == []
        assert second.states[-1] == first.states[-1]

        next_day(tenant, devices=40, now=NOON + 24 * 3600)
        third = cli.run(state=second.states[-1])
        check(third)
        now_final = [
            a for a in tenant.actions if a["type"] == "LiveResponse" and a["status"] not in {"Pending", "InProgress"}
        ]
        all_expected = {(action["id"], entry["index"]) for action in now_final for entry in action["commands"] or ()}
        arrived = {(r["machine_action_id"], r["command_index"]) for r in third.records()}
        assert arrived == all_expected - expected


def test_every_result_status_that_needs_no_file_storage(world: World, make_cli: Callable[..., Cli]) -> None:
    run_script = {"ScriptName": "Get-State.ps1", "Args": "-All"}
    world.add(
        1,
        commands=[
            command(0, "PutFile", "Completed", {"FileName": "tool.exe"}, ended=NOON),
            command(1, "RunScript", "Failed", run_script, started=NOON, ended=NOON + 1, errors=["it failed"]),
            command(2, "GetFile", "Created", {"Path": "C:\\x.log"}),
        ],
        status="Failed",
        body=None,
    )
    world.give_result(1, 1, result_body("Get-State.ps1", 4, "partial", "boom"))
    world.add(2, commands=[command(0, "GetFile", "Completed", {"Path": "C:\\x.log"}, ended=NOON)], body=b"file")
    world.add(3, body=None)
    world.add(4, body=b"no document at all")
    world.add(5)
    world.add(6)
    world.add(7, status="Pending")
    with Simulator(world.tenant) as simulator:
        simulator.rules.append(Rule("blob", 404, action_id=action_id(5)))
        simulator.rules.append(
            Rule("blob", 403, action_id=action_id(6), headers={"x-ms-error-code": "AuthorizationFailure"})
        )
        run = make_cli(simulator).run()
    check(run)
    records = {(int(r["machine_action_id"][:8], 16), r["command_index"]): r for r in run.records()}
    assert {key: record["result_status"] for key, record in records.items()} == {
        (1, 0): "no_result",
        (1, 1): "fetched",
        (1, 2): "not_run",
        (2, 0): "skipped",
        (3, 0): "unavailable",
        (4, 0): "unreadable",
        (5, 0): "unavailable",
        (6, 0): "failed",
    }
    failed_script = records[1, 1]
    assert (failed_script["exit_code"], failed_script["script_errors"]) == (4, "boom")
    assert failed_script["command_errors"] == ["it failed"]
    assert failed_script["command_params"] == run_script
    assert failed_script["script_output_truncated"] is False
    assert records[3, 0]["script_name"] == "Get-State.ps1"
    assert records[3, 0]["script_output_truncated"] is None
    assert "404" in records[3, 0]["result_error"]
    assert records[4, 0]["script_output"] == "no document at all"
    assert "AuthorizationFailure" in records[6, 0]["result_error"]
    asked = {(call.action_id, call.index) for call in simulator.calls("link")}
    assert asked == {(action_id(n), 0) for n in (3, 4, 5, 6)} | {(action_id(1), 1)}


def test_a_late_device_and_an_end_that_does_not_move_the_last_update(
    world: World, make_cli: Callable[..., Cli]
) -> None:
    for number in (1, 2, 3):
        world.add(number, status="Pending", updated=NOON - 3 * 24 * 3600 + number)
    world.add(10)
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator)
        first = cli.run()
        world.finish(1, updated=NOON + 3600)
        world.finish(2)
        second = cli.run(state=first.states[-1])
        third = cli.run(state=second.states[-1])
    assert [r["machine_action_id"] for r in first.records()] == [action_id(10)]
    assert {r["machine_action_id"] for r in second.records()} == {action_id(1), action_id(2)}
    assert {r["id"] for r in second.records("machine_actions")} == {action_id(1), action_id(2)}
    assert third.records() == third.records("machine_actions") == []
    assert "1 action still waits" in third.stderr


class TestConfiguredActions:
    def test_exactly_these_without_listing(self, world: World, make_cli: Callable[..., Cli]) -> None:
        for number in (1, 2, 3):
            world.add(
                number,
                commands=[command(i, "RunScript", "Completed", {"ScriptName": "a.ps1"}, ended=NOON) for i in (0, 1)],
            )
        world.add(4, status="Pending")
        chosen: list[dict[str, Any]] = [
            {"id": action_id(1)},
            {"id": action_id(2).upper(), "command_indexes": [1]},
            {"id": action_id(4)},
        ]
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator, actions=chosen)
            first = cli.run()
            check(first)
            assert [(r["machine_action_id"], r["command_index"]) for r in first.records()] == [
                (action_id(1), 0),
                (action_id(1), 1),
                (action_id(2), 1),
            ]
            assert simulator.calls("list") == []
            # What is done is not asked for again; what waits is.
            simulator.clear_log()
            second = cli.run(state=first.states[-1])
            assert second.records() == []
            assert [call.action_id for call in simulator.calls("get")] == [action_id(4)]
            # One that is added later is read whatever its age, and so is a command that is added.
            simulator.clear_log()
            chosen[1]["command_indexes"] = [0, 1]
            third = cli.run(state=second.states[-1], actions=[*chosen, {"id": action_id(3), "command_indexes": [0]}])
            assert {(r["machine_action_id"], r["command_index"]) for r in third.records()} == {
                (action_id(2), 0),
                (action_id(3), 0),
            }
            assert len(simulator.calls("link")) == 2

    def test_unknown_ones_are_named_after_the_others_were_read(
        self, world: World, make_cli: Callable[..., Cli]
    ) -> None:
        world.add(1)
        world.add(2, type="Isolate", commands=[])
        names = [{"id": action_id(99)}, {"id": action_id(2)}, {"id": action_id(1), "command_indexes": [0, 7]}]
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator, actions=names).run()
        assert run.code == 1
        assert len(run.records()) == 1
        assert len(run.records("machine_actions")) == 1
        last = run.stderr.splitlines()[-1]
        assert f"{action_id(99)}, which the service does not know" in last
        assert f"{action_id(2)}, which is Isolate, not a Live Response action" in last
        assert "command 7" in last
        assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("settings", "numbers"),
    [
        ({"start_date": "2026-09-21T14:13:25Z"}, {5, 6, 7}),
        ({"end_date": "2026-09-21T14:13:25Z"}, {1, 2, 3, 4}),
        ({"start_date": "2026-09-21T14:13:23Z", "end_date": "2026-09-21T14:13:25Z"}, {3, 4}),
        ({"machine_ids": [f"{2:040X}", f"{3:040x}"]}, {2, 3}),
        ({"script_names": ["other.PS1"]}, {7}),
        ({"script_names": ["absent.ps1"]}, set()),
    ],
)
def test_choosing(world: World, make_cli: Callable[..., Cli], settings: dict[str, Any], numbers: set[int]) -> None:
    for number in range(1, 7):
        world.add(number, created=NOON + number, updated=NOON + 100 + number)
    other = [command(0, "RunScript", "Completed", {"ScriptName": "Other.ps1"}, ended=NOON)]
    world.add(7, created=NOON + 7, updated=NOON + 107, commands=other)
    with Simulator(world.tenant) as simulator:
        run = make_cli(simulator, **settings).run()
    check(run)
    assert {r["machine_action_id"] for r in run.records()} == {action_id(number) for number in numbers}
    assert {r["id"] for r in run.records("machine_actions")} == {action_id(number) for number in numbers}


def test_a_result_that_fails_heals_or_is_given_up(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in (1, 2, 3):
        world.add(number)
    refused = {"status": 403, "headers": {"x-ms-error-code": "AuthorizationFailure"}}
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator)
        simulator.rules[:] = [Rule("blob", action_id=action_id(n), **refused) for n in (1, 2)]  # type: ignore[arg-type]
        first = cli.run()
        check(first)
        assert [r["result_status"] for r in first.records()] == ["failed", "failed", "fetched"]
        assert first.bookmark()["replication_key_value"] == "2026-09-21T14:13:23.0000000Z"
        assert "2 failed results are tried again" in first.stderr
        # Tried again, first of all; a failure that is no news has no row.
        del simulator.rules[0]
        world.add(4)
        second = cli.run(state=first.states[-1])
        check(second)
        assert [(r["machine_action_id"], r["result_status"]) for r in second.records()] == [
            (action_id(1), "fetched"),
            (action_id(4), "fetched"),
        ]
        # After three days: a last row, and no more.
        state = second.states[-1]
        state["bookmarks"]["live_response_results"]["retry"][0][2] -= 3 * 24 * 3600
        third = cli.run(state=state)
        check(third)
        assert [r["result_status"] for r in third.records()] == ["failed"]
        assert "given up after 3 days" in third.records()[0]["result_error"]
        simulator.clear_log()
        fourth = cli.run(state=third.states[-1])
        assert fourth.records() == []
        assert simulator.calls("link") == []


def test_a_failed_result_of_a_configured_action_heals(world: World, make_cli: Callable[..., Cli]) -> None:
    world.add(1)
    world.add(2)
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator, actions=[{"id": action_id(1)}, {"id": action_id(2), "command_indexes": [0]}])
        simulator.rules.append(Rule("blob", 403, headers={"x-ms-error-code": "AuthorizationFailure"}))
        first = cli.run()
        assert [r["result_status"] for r in first.records()] == ["failed", "failed"]
        simulator.rules.clear()
        second = cli.run(state=first.states[-1])
        assert [r["result_status"] for r in second.records()] == ["fetched", "fetched"]
        simulator.clear_log()
        assert cli.run(state=second.states[-1]).records() == []
        assert [call.endpoint for call in simulator.log if call.client_id] == []


def test_many_configured_actions_are_read_in_batches(world: World, make_cli: Callable[..., Cli]) -> None:
    """So that the quota is not spent on asking what there is before anything was read."""
    for number in range(1, 231):
        world.add(number, commands=[command(0, "PutFile", "Completed", {}, ended=NOON)], body=None)
    limits = {"calls_per_minute": 100, "max_run_minutes": 1}
    names = [{"id": action_id(number)} for number in range(1, 231)]
    with Simulator(world.tenant, calls_per_minute=1000) as simulator:
        cli = make_cli(simulator, actions=names, **limits)
        first = cli.run()
        assert first.code == 0
        assert len(first.records()) == 100  # what was asked for is emitted although the time is up
        second = cli.run(state=first.states[-1], quota_store=str(cli.folder / "b.sqlite"), calls_per_minute=1000)
    assert second.code == 0
    keys = [r["machine_action_id"] for r in first.records() + second.records()]
    assert sorted(keys) == [action_id(number) for number in range(1, 231)]


def test_a_failure_is_remembered_in_the_very_state_that_comes_with_its_row(
    world: World, make_cli: Callable[..., Cli]
) -> None:
    """A process that dies right after it must not leave a result behind that counts as done."""
    for number in range(1, 33):
        world.add(number, commands=[command(0, "PutFile", "Completed", {}, ended=NOON)], body=None)
    world.add(16)  # the 16th record comes with a STATE
    world.tenant.actions.remove(next(a for a in world.tenant.actions if a["id"] == action_id(16)))
    with Simulator(world.tenant) as simulator:
        simulator.rules.append(Rule("blob", 403, headers={"x-ms-error-code": "AuthorizationFailure"}))
        run = make_cli(simulator).run()
    seen_failed = False
    for message in run.messages:
        if message["type"] == "RECORD" and message["record"].get("result_status") == "failed":
            seen_failed = True
        if message["type"] == "STATE" and seen_failed:
            assert message["value"]["bookmarks"]["live_response_results"]["retry"]
    assert seen_failed


def test_five_failures_in_a_row_are_an_outage(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in range(1, 61):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        for number in range(11, 61):
            simulator.rules.append(
                Rule("blob", 403, action_id=action_id(number), headers={"x-ms-error-code": "AccountIsDisabled"})
            )
        cli = make_cli(simulator)
        first = cli.run()
        assert first.code == 1
        assert [r["result_status"] for r in first.records()] == ["fetched"] * 10
        assert first.states[-1]["bookmarks"]["live_response_results"]["retry"] == []
        assert "5 results in a row could not be read" in first.stderr
        assert "Traceback" not in first.stderr
        assert len(simulator.calls("link")) <= 10 + 5 + 16  # what was begun meanwhile
        simulator.rules.clear()
        second = cli.run(state=first.states[-1])
        check(second)
        assert len(second.records()) == 50


def test_a_missing_role_stops_the_run_with_one_sentence(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in range(1, 31):
        world.add(number)
    denied = {
        "error": {
            "code": "Forbidden",
            "message": "Missing application roles. API required roles: Machine.Read.All,"
            "Machine.ReadWrite.All, application roles: Machine.LiveResponse.",
        }
    }
    with Simulator(world.tenant) as simulator:
        simulator.rules += [Rule("link", 403, denied, action_id=action_id(number)) for number in range(13, 31)]
        run = make_cli(simulator).run()
    assert run.code == 1
    assert [record["machine_action_id"] for record in run.records()] == list(map(action_id, range(1, 13)))
    errors = [line for line in run.stderr.splitlines() if "| ERROR" in line]
    assert len(errors) == 1
    assert "Grant the app the application permission Machine.ReadWrite.All" in errors[0]
    assert run.stderr.splitlines()[-1] == errors[0]
    assert run.messages[-1]["type"] == "STATE"


def test_state_comes_out_at_least_every_25_records(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in range(1, 81):
        world.add(number, commands=[command(0, "PutFile", "Completed", {}, ended=NOON)], body=None)
    with Simulator(world.tenant) as simulator:
        run = make_cli(simulator).run()
    check(run)
    since, longest = 0, 0
    for message in run.messages:
        since = 0 if message["type"] == "STATE" else since + (message["type"] == "RECORD")
        longest = max(longest, since)
    assert longest == 16


def test_the_service_is_asked_for_no_more_than_the_quota(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in range(1, 41):
        world.add(number)
    # The tap keeps to its own settings, the simulator to the same numbers in windows that pass quickly.
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator, calls_per_minute=30, max_run_minutes=1)
        run = cli.run()
        check(run)
        assert len(run.records()) == 29
        assert "`max_run_minutes` is over" in run.stderr
        assert "11 results left for the next run" in run.stderr
        assert not [call for call in simulator.log if call.status == 429]
        assert len(simulator.calls("link")) == 29
        later = cli.run(state=run.states[-1], calls_per_minute=100)
        check(later)
        assert len(later.records()) == 11


def test_full_table_in_the_catalog_reads_everything_again(
    world: World, make_cli: Callable[..., Cli], tmp_path: Any
) -> None:
    world.add(1)
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator)
        catalog = json.loads(cli.run("--discover").stdout)
        first = cli.run()
        for entry in catalog["streams"]:
            entry["replication_method"] = "FULL_TABLE"
            entry["metadata"][-1]["metadata"]["selected"] = entry["tap_stream_id"] == "live_response_results"
        (tmp_path / "catalog.json").write_text(json.dumps(catalog))
        again = cli.run("--catalog", str(tmp_path / "catalog.json"), state=first.states[-1])
    assert again.code == 0
    assert len(again.records()) == 1
    assert again.records("machine_actions") == []


def test_connection_test_costs_three_calls_at_most(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in range(1, 31):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        run = make_cli(simulator).run("--test")
        assert run.code == 0, run.stderr
        assert len([call for call in simulator.log if call.endpoint in {"list", "get", "link"}]) <= 3


def test_what_a_person_sees(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in range(1, 4):
        world.add(number)
    world.add(4, status="Pending")
    with Simulator(world.tenant) as simulator:
        run = make_cli(simulator).run()
    assert "Plan: 3 results to read; 3 calls for download links, less than a minute" in run.stderr
    assert "Done with live_response_results: 3 fetched." in run.stderr
    assert "4 calls spent; 96 left this minute, 1,496 this hour." in run.stderr
    assert "1 action still waits for its device" in run.stderr


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_no_secret_is_ever_seen(world: World, make_cli: Callable[..., Cli], level: str, tmp_path: Any) -> None:
    for number in range(1, 8):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        simulator.rules += [
            Rule("blob", 500, times=1),
            Rule("blob", drop=True, times=1),
            Rule("link", drop=True, times=1),
            Rule("link", 401, times=1),
            Rule("blob", cut=5, times=1),
            Rule("blob", 403, b"<Code>AuthenticationFailed</Code>", action_id=action_id(5)),
        ]
        cli = make_cli(simulator)
        cli.environment["TAP_DEFENDER_LR_LOGLEVEL"] = level
        run = cli.run()
        secrets = simulator.secrets()
    assert run.code == 0, run.stderr
    assert ("urllib3" in run.stderr) == (level == "DEBUG")
    (tmp_path / "config.json").unlink()
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()).decode(errors="replace")
    assert len(secrets) > 8
    for secret in secrets:
        assert secret not in run.stdout + run.stderr + written
    assert CLIENT_SECRET in secrets
    assert "sig=" not in run.stderr
    assert TENANT_ID in run.stdout
