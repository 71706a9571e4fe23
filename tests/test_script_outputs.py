"""Script streams through the real command line: typed rows, errors, snapshots, state, and what they cost."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from defender_simulator import Rule, Simulator, throttled
from defender_simulator.fleet import command, result_body
from tests.conftest import NOON, Cli, Run, World, action_id

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_each_result_is_fetched_once_and_becomes_rows_of_every_stream_that_wants_it(
    world: World, make_cli: MakeCli
) -> None:
    add(world, 1, "Get-Software.ps1", "WARNING: slow\r\n" + software("7-Zip", "Git"))
    add(world, 2, "get-admins.sh", "account,enabled\nroot,True\nbob,False\n")
    add(world, 3, "Collect-Logs.ps1", "free text")
    add(world, 4, "get-software.sh", software())
    world.add(5, status="Pending")
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator, script_streams=[SOFTWARE, ADMINS])
        run = cli.run()
        check(run)
        assert len(simulator.calls("link")) == len(simulator.calls("blob")) == 4
        assert len(simulator.calls("list")) == 1
        again = cli.run(state=run.states[-1])
        assert [message["type"] for message in again.messages if message["type"] == "RECORD"] == []
        assert len(simulator.calls("link")) == 4
        assert again.states[-1] == run.states[-1]
    assert len(run.records()) == 4
    first = run.records("software")[0]
    assert first == {
        "machine_action_id": action_id(1),
        "command_index": 0,
        "row_index": 0,
        "machine_id": f"{1:040x}",
        "computer_dns_name": "host-1.corp.example",
        "script_name": "Get-Software.ps1",
        "command_end_time": first["command_end_time"],
        "last_update_date_time_utc": run.records()[0]["last_update_date_time_utc"],
        "name": "7-Zip",
        "size": 5,
        "succeeded": None,
        "extra": None,
    }
    assert rows(run, "software", "row_index", "name") == [(0, "7-Zip"), (1, "Git")]
    assert rows(run, "admins", "account", "enabled") == [("root", True), ("bob", False)]
    assert rows(run, "script_output_snapshots", "stream_name", "row_count", "error_count", "complete") == [
        ("software", 2, 0, True),
        ("admins", 2, 0, True),
        ("software", 0, 0, True),
    ]
    assert "Done with software: 2 rows from 2 results." in run.stderr
    assert "1 script has no stream in `script_streams`: Collect-Logs.ps1 (1)." in run.stderr
    assert "Each is fetched once, whoever wants it: admins 1, live_response_results 4, software 2." in run.stderr


def test_what_does_not_fit_is_told_and_nothing_is_lost(world: World, make_cli: MakeCli) -> None:
    printed = {"software": [{"name": "a", "size": "big"}, 5, {"name": "b", "size": "7", "vendor": "ACME"}]}
    add(world, 1, "Get-Software.ps1", json.dumps(printed))
    add(world, 2, "Get-Software.ps1", "it broke")
    world.add(3, commands=[command(0, "RunScript", "Completed", {"ScriptName": "Get-Software.ps1"})], body=b"<html>")
    add(world, 4, "Get-Software.ps1", "")
    with Simulator(world.tenant) as simulator:
        run = make_cli(simulator, script_streams=[SOFTWARE]).run()
    check(run)
    assert rows(run, "software", "row_index", "name", "size", "extra") == [
        (0, "a", None, None),
        (2, "b", 7, {"vendor": "ACME"}),
    ]
    errors = run.records("script_output_errors")
    assert [
        (e["machine_action_id"], e["error_index"], e["row_index"], e["column_name"], e["text"]) for e in errors
    ] == [
        (action_id(1), 0, 0, "size", "big"),
        (action_id(1), 1, 1, None, "5"),
        (action_id(2), 0, None, None, "it broke"),
        (action_id(3), 0, None, None, "<html>"),
        (action_id(4), 0, None, None, None),
    ]
    assert "not an integer" in errors[0]["reason"]
    assert "empty" in errors[4]["reason"]
    assert rows(run, "script_output_snapshots", "row_count", "error_count", "complete") == [
        (2, 2, False),
        (0, 1, False),
        (0, 1, False),
        (0, 1, False),
    ]
    assert len(run.records()) == 4
    assert run.records()[1]["script_output"] == "it broke"
    assert "2 rows from 4 results, 5 errors (see script_output_errors)." in run.stderr


def test_a_device_that_prints_nothing_but_errors_does_not_flood_the_table(world: World, make_cli: MakeCli) -> None:
    add(world, 1, "Get-Software.ps1", json.dumps([1] * 500))
    with Simulator(world.tenant) as simulator:
        run = make_cli(simulator, script_streams=[{**SOFTWARE, "records_path": "$[*]"}]).run()
    check(run)
    errors = run.records("script_output_errors")
    assert len(errors) == 101
    assert errors[-1]["reason"] == "and 400 more errors in this result"
    assert rows(run, "script_output_snapshots", "error_count") == [(500,)]


def test_a_device_that_prints_rows_of_nothing_does_not_flood_it_either(world: World, make_cli: MakeCli) -> None:
    add(world, 1, "Get-Software.ps1", "name,size\n" + ",\n" * 3000 + "a,1\n")
    with Simulator(world.tenant) as simulator:
        run = make_cli(simulator, script_streams=[{k: v for k, v in SOFTWARE.items() if k != "records_path"}]).run()
    check(run)
    assert rows(run, "software", "name", "row_index") == [("a", 3000)]
    (error,) = run.records("script_output_errors")
    assert "nothing in the row" in error["reason"]


def test_output_that_was_cut_becomes_no_half_row(world: World, make_cli: MakeCli) -> None:
    add(world, 1, "Get-Software.ps1", software(*(f"program {number}" for number in range(200))))
    lines = "account,enabled\n" + "".join(f"account-{number},True\n" for number in range(200))
    add(world, 2, "get-admins.sh", lines)
    with Simulator(world.tenant) as simulator:
        run = make_cli(simulator, script_streams=[SOFTWARE, ADMINS], max_output_bytes=1000).run()
    check(run)
    assert run.records("software") == []
    accounts = [account for (account,) in rows(run, "admins", "account")]
    assert 10 < len(accounts) < 200
    assert accounts == [f"account-{number}" for number in range(len(accounts))]
    assert rows(run, "script_output_snapshots", "complete") == [(False,), (False,)]
    assert all("max_output_bytes" in error["reason"] for error in run.records("script_output_errors"))


class TestVerdict:
    @pytest.mark.parametrize(
        ("marker", "output", "succeeded"),
        [
            ({}, software("a"), None),
            ({"success_pattern": "^STATUS: ok$"}, software("a") + "\r\nSTATUS: ok\r\n", True),
            ({"success_pattern": "^STATUS: ok$"}, software("a") + "\nSTATUS: failed", False),
            ({"success_field": "$.ok"}, '{"ok": true, "software": []}', True),
            ({"success_field": "$.ok"}, '{"ok": "False", "software": [{"name": "a"}]}', False),
            ({"success_field": "$.ok"}, software("a"), None),
        ],
        ids=["no marker", "line found", "line not found", "field true", "field false", "no field"],
    )
    def test_is_in_each_row_and_in_the_snapshot(
        self, world: World, make_cli: MakeCli, marker: dict[str, str], output: str, succeeded: bool | None
    ) -> None:
        add(world, 1, "Get-Software.ps1", output)
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator, script_streams=[{**SOFTWARE, **marker}]).run()
        check(run)
        assert {record["succeeded"] for record in run.records("software")} <= {succeeded}
        assert rows(run, "script_output_snapshots", "succeeded") == [(succeeded,)]


class TestState:
    def test_a_stream_that_is_added_later_reads_the_history_and_the_others_go_on(
        self, world: World, make_cli: MakeCli
    ) -> None:
        add(world, 1, "Get-Software.ps1", software("a"), updated=NOON - 30 * 24 * 3600)
        add(world, 2, "Get-Software.ps1", software("b"))
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            before = cli.run()
            add(world, 3, "Get-Software.ps1", software("c"))
            simulator.clear_log()
            run = cli.run(state=before.states[-1], script_streams=[SOFTWARE])
            check(run)
            assert len(simulator.calls("link")) == 3
        assert rows(run, "software", "name") == [("a",), ("b",), ("c",)]
        assert rows(run, "live_response_results", "machine_action_id") == [(action_id(3),)]
        assert run.bookmark("software")["replication_key_value"] == run.bookmark()["replication_key_value"]

    def test_a_script_that_never_ran_does_not_make_every_run_list_everything(
        self, world: World, make_cli: MakeCli
    ) -> None:
        add(world, 1, "Get-State.ps1", "x", updated=NOON - 30 * 24 * 3600)
        add(world, 2, "Get-State.ps1", "x")
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator, script_streams=[SOFTWARE])
            first = cli.run()
            second = cli.run(state=first.states[-1])
        check(second)
        assert "The service lists 1 Live Response action created since" in second.stderr

    def test_another_script_reads_the_history_again(self, world: World, make_cli: MakeCli) -> None:
        """A slip in the name of a script would otherwise hide all that came until it was mended."""
        add(world, 1, "Get-Software.ps1", software("a"), updated=NOON - 24 * 3600)
        add(world, 2, "Get-Software.ps1", software("b"))
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            slip = cli.run(script_streams=[{**SOFTWARE, "script_name": "Get-Sofware.*"}])
            assert slip.records("software") == []
            mended = cli.run(state=slip.states[-1], script_streams=[SOFTWARE])
            left_out = cli.run(script_streams=[SOFTWARE], script_names=["typo.ps1"])
            assert "`script_names` leaves out every script of the script stream software" in left_out.stderr
            let_in = cli.run(state=left_out.states[-1], script_streams=[SOFTWARE])
        assert rows(mended, "software", "name") == rows(let_in, "software", "name") == [("a",), ("b",)]
        assert len(let_in.records()) == 2

    def test_what_fails_for_long_does_not_keep_a_new_stream_from_the_rest(
        self, world: World, make_cli: MakeCli
    ) -> None:
        for number in range(1, 13):
            add(world, number, "Get-Software.ps1" if number % 2 else "Get-State.ps1", software(f"p{number}"))
        rules = [
            Rule("blob", 403, action_id=action_id(number), headers={"x-ms-error-code": "AuthorizationFailure"})
            for number in range(1, 12, 2)
        ]
        with Simulator(world.tenant) as simulator:
            simulator.rules[:] = rules
            cli = make_cli(simulator)
            before = cli.run()
            assert before.code == 0
            run = cli.run(state=before.states[-1], script_streams=[SOFTWARE])
            check(run)
            simulator.rules.clear()
            after = cli.run(state=run.states[-1], script_streams=[SOFTWARE])
        check(after)
        assert rows(after, "software", "name") == [(f"p{number}",) for number in range(1, 12, 2)]

    def test_configured_actions_are_asked_for_once(self, world: World, make_cli: MakeCli) -> None:
        add(world, 1, "Get-Software.ps1", software("a"))
        add(world, 2, "Get-State.ps1", "x")
        chosen = [{"id": action_id(1)}, {"id": action_id(2), "command_indexes": [0]}]
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator, script_streams=[SOFTWARE], actions=chosen)
            first = cli.run()
            check(first)
            assert rows(first, "software", "name") == [("a",)]
            simulator.clear_log()
            second = cli.run(state=first.states[-1])
            check(second)
            assert (simulator.calls("get"), simulator.calls("link"), second.records("software")) == ([], [], [])

    def test_a_run_that_was_killed_leaves_all_streams_at_the_same_place(self, world: World, make_cli: MakeCli) -> None:
        """From any STATE that came out, the next run brings the rest of each stream, and asks for it once."""
        for number in range(1, 61):
            add(world, number, "Get-Software.ps1", software(f"p{number}", "common"))
        unlimited = {"calls_per_minute": 1000, "calls_per_hour": 10_000}
        with Simulator(world.tenant, **unlimited) as simulator:  # type: ignore[arg-type]
            cli = make_cli(simulator, script_streams=[SOFTWARE], max_concurrency=2, **unlimited)
            whole = cli.run()
            check(whole)
            positions = [i for i, message in enumerate(whole.messages) if message["type"] == "STATE"]
            assert len(positions) > 4
            for position in positions[1:3]:
                before = {m["record"]["machine_action_id"] for m in whole.messages[:position] if is_row(m, "software")}
                state = whole.messages[position]["value"]
                simulator.clear_log()
                rest = cli.run(state=state)
                after = {record["machine_action_id"] for record in rest.records("software")}
                results = {record["machine_action_id"] for record in rest.records()}
                assert before | after == {action_id(number) for number in range(1, 61)}
                assert after == results
                assert before.isdisjoint(after)
                assert len(simulator.calls("link")) == len(after)

    def test_one_that_failed_is_tried_again_for_every_stream_with_one_call(
        self, world: World, make_cli: MakeCli
    ) -> None:
        for number in (1, 2, 3):
            add(world, number, "Get-Software.ps1", software(f"p{number}"))
        broken = Rule("blob", 403, action_id=action_id(2), headers={"x-ms-error-code": "AuthorizationFailure"})
        with Simulator(world.tenant) as simulator:
            simulator.rules.append(broken)
            cli = make_cli(simulator, script_streams=[SOFTWARE])
            first = cli.run()
            check(first)
            assert rows(first, "software", "name") == [("p1",), ("p3",)]
            simulator.rules.clear()
            simulator.clear_log()
            second = cli.run(state=first.states[-1])
            check(second)
            assert rows(second, "software", "name") == [("p2",)]
            assert rows(second, "live_response_results", "result_status") == [("fetched",)]
            assert len(simulator.calls("link")) == 1


def is_row(message: dict[str, Any], stream: str) -> bool:
    return bool(message["type"] == "RECORD" and message["stream"] == stream)


class TestLatestStatePerDevice:
    """Keys without the action: the rows of a newer result replace those of an older one."""

    DEVICE = "d" * 40

    def test_an_older_result_never_comes_after_a_newer_one(self, world: World, make_cli: MakeCli) -> None:
        for number in (1, 2):
            add(world, number, "Get-Software.ps1", software(f"p{number}"), machineId=self.DEVICE)
        broken = Rule("blob", 403, action_id=action_id(1), headers={"x-ms-error-code": "AuthorizationFailure"})
        with Simulator(world.tenant) as simulator:
            simulator.rules.append(broken)
            cli = make_cli(simulator, script_streams=[LATEST, {**SOFTWARE, "name": "history"}])
            first = cli.run()
            check(first)
            simulator.rules.clear()
            second = cli.run(state=first.states[-1])
            check(second)
        assert (rows(first, "software", "name"), rows(second, "software", "name")) == ([("p2",)], [])
        assert rows(second, "history", "name") == [("p1",)]
        assert "1 left out, since a newer result of the same device and script was read" in second.stderr
        assert second.bookmark("software")["retry"] == []

    def run_twice(
        self, cli: Cli, change: Callable[[], object], *rules: Rule, entry: dict[str, Any] | None = None
    ) -> tuple[list[str], list[str]]:
        """What a stream brings while `rules` hold, and after they are gone and the world has changed."""
        cli.simulator.rules[:] = rules
        first = cli.run(script_streams=[entry or LATEST])
        check(first)
        cli.simulator.rules.clear()
        change()
        second = cli.run(state=first.states[-1], script_streams=[entry or LATEST])
        check(second)
        return [name for (name,) in rows(first, "software", "name")], [n for (n,) in rows(second, "software", "name")]

    @staticmethod
    def blocked(number: int) -> Rule:
        return Rule("blob", 403, action_id=action_id(number), headers={"x-ms-error-code": "AuthorizationFailure"})

    def test_a_newer_action_that_never_ran_replaces_nothing(self, world: World, make_cli: MakeCli) -> None:
        add(world, 1, "Get-Software.ps1", software("p1"), machineId=self.DEVICE)
        waits = command(0, "RunScript", "Created", {"ScriptName": "Get-Software.ps1"})
        world.add(2, status="Cancelled", commands=[waits], body=None, machineId=self.DEVICE)
        with Simulator(world.tenant) as simulator:
            brought = self.run_twice(make_cli(simulator), lambda: None, self.blocked(1))
        assert brought == ([], ["p1"])

    def test_one_that_is_tried_again_comes_before_an_older_one_that_was_late(
        self, world: World, make_cli: MakeCli
    ) -> None:
        world.add(1, status="Pending", updated=NOON - 7200, machineId=self.DEVICE)
        add(world, 2, "Get-Software.ps1", software("newer"), machineId=self.DEVICE)

        def finish() -> None:
            world.tenant.actions.pop(0)
            add(world, 1, "Get-Software.ps1", software("older"), updated=NOON - 3600, machineId=self.DEVICE)

        with Simulator(world.tenant) as simulator:
            assert self.run_twice(make_cli(simulator), finish, self.blocked(2)) == ([], ["newer"])

    def test_an_end_that_does_not_move_the_last_update_is_newer_all_the_same(
        self, world: World, make_cli: MakeCli
    ) -> None:
        script = {"ScriptName": "Get-Software.ps1"}
        waits = world.add(
            1, status="Pending", commands=[command(0, "RunScript", "Created", script)], machineId=self.DEVICE
        )
        add(world, 2, "Get-Software.ps1", software("day 1"), machineId=self.DEVICE)

        def finish() -> None:
            waits["status"] = "Succeeded"
            ended = NOON + 24 * 3600
            waits["commands"] = [command(0, "RunScript", "Completed", script, started=ended - 1, ended=ended)]
            world.give_result(1, 0, result_body("Get-Software.ps1", 0, software("day 2")))

        with Simulator(world.tenant) as simulator:
            assert self.run_twice(make_cli(simulator), finish) == (["day 1"], ["day 2"])

    def test_commands_of_one_action_do_not_replace_each_other(self, world: World, make_cli: MakeCli) -> None:
        script = {"ScriptName": "Get-Software.ps1"}
        ran = [command(i, "RunScript", "Completed", script, started=NOON, ended=NOON + i) for i in (0, 1)]
        world.add(1, commands=ran, body=None, machineId=self.DEVICE)
        for index in (0, 1):
            world.give_result(1, index, result_body("Get-Software.ps1", 0, software(f"drive {index}")))
        first = Rule("blob", 403, times=1, headers={"x-ms-error-code": "AuthorizationFailure"})
        with Simulator(world.tenant) as simulator:
            brought = self.run_twice(make_cli(simulator, max_concurrency=1), lambda: None, first)
        assert brought == (["drive 1"], ["drive 0"])

    def test_two_rows_with_one_key_are_told_unless_they_are_the_same(self, world: World, make_cli: MakeCli) -> None:
        printed = [{"name": "a", "size": 1}, {"name": "a", "size": 1}, {"name": "a", "size": 2}, {"name": None}]
        add(world, 1, "Get-Software.ps1", json.dumps(printed))
        with Simulator(world.tenant) as simulator:
            entry = {key: value for key, value in LATEST.items() if key != "records_path"}
            run = make_cli(simulator, script_streams=[entry]).run()
        check(run)
        assert rows(run, "software", "name", "size", "row_index") == [("a", 1, 0)]
        errors = run.records("script_output_errors")
        assert [error["row_index"] for error in errors] == [2, 3]
        assert "row 0 has the same key (machine_id, name)" in errors[0]["reason"]
        assert "key column `name` is empty" in errors[1]["reason"]

    def test_a_row_without_a_device_is_told(self, world: World, make_cli: MakeCli) -> None:
        add(world, 1, "Get-Software.ps1", software("a"), machineId=None)
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator, script_streams=[LATEST]).run()
        check(run)
        assert run.records("software") == []
        assert "`machine_id` is empty" in run.records("script_output_errors")[0]["reason"]


class TestCatalog:
    """A catalog says what the rows look like, also one that somebody has changed or that is older than the settings."""

    def run(self, cli: Cli, catalog: dict[str, Any], **settings: Any) -> Run:
        (cli.folder / "catalog.json").write_text(json.dumps(catalog))
        return cli.run("--catalog", str(cli.folder / "catalog.json"), **settings)

    @pytest.mark.parametrize(("made_with", "run_with"), [(LATEST, SOFTWARE), (SOFTWARE, LATEST)], ids=["latest", "all"])
    def test_its_key_holds(
        self, world: World, make_cli: MakeCli, made_with: dict[str, Any], run_with: dict[str, Any]
    ) -> None:
        add(world, 1, "Get-Software.ps1", '{"software": [{"name": null, "size": 1}, {"name": "a"}]}')
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            catalog = json.loads(cli.run("--discover", script_streams=[made_with]).stdout)
            run = self.run(cli, catalog, script_streams=[run_with])
        check(run)
        assert len(run.records("software")) == (1 if made_with is LATEST else 2)

    def test_columns_that_it_does_not_have_are_left_out(self, world: World, make_cli: MakeCli) -> None:
        add(world, 1, "Get-Software.ps1", '{"software": [{"name": "a", "colour": "red"}]}')
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator, script_streams=[SOFTWARE])
            catalog = json.loads(cli.run("--discover").stdout)
            (stream,) = [entry for entry in catalog["streams"] if entry["tap_stream_id"] == "software"]
            for gone in ("extra", "computer_dns_name"):
                del stream["schema"]["properties"][gone]
            run = self.run(cli, catalog)
        check(run)
        assert len(run.records("software")) == 1

    @pytest.mark.parametrize("column", [{}, {"type": ["integer", "string", "null"]}, {"anyOf": [{"type": "string"}]}])
    def test_a_column_that_cannot_be_read_is_one_sentence(
        self, world: World, make_cli: MakeCli, column: dict[str, Any]
    ) -> None:
        add(world, 1, "Get-Software.ps1", software("a"))
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator, script_streams=[SOFTWARE])
            catalog = json.loads(cli.run("--discover").stdout)
            (stream,) = [entry for entry in catalog["streams"] if entry["tap_stream_id"] == "software"]
            stream["schema"]["properties"]["size"] = column
            run = self.run(cli, catalog)
        assert (run.code, run.records()) == (1, [])
        assert "The catalog's stream software: the column size" in run.stderr.splitlines()[-1]
        assert "Traceback" not in run.stderr

    def test_full_table_with_versions_deletes_nothing(self, world: World, make_cli: MakeCli) -> None:
        add(world, 1, "Get-Software.ps1", software("a"))
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator, script_streams=[SOFTWARE], emit_activate_version_messages=True)
            catalog = json.loads(cli.run("--discover").stdout)
            for stream in catalog["streams"]:
                stream["replication_method"] = "FULL_TABLE"
            run = self.run(cli, catalog)
        check(run)
        assert {message["type"] for message in run.messages} == {"SCHEMA", "RECORD", "STATE"}


class TestDiscovery:
    def catalog(self, cli: Cli, **settings: Any) -> tuple[Run, dict[str, Any]]:
        run = cli.run("--discover", **settings)
        assert run.code == 0, run.stderr
        return run, json.loads(run.stdout)

    def test_columns_are_inferred_from_the_newest_results_and_pinned(self, world: World, make_cli: MakeCli) -> None:
        inferred = {"name": "software", "script_name": "Get-Software.ps1"}
        missing = {"name": "nothing_yet", "script_name": "Never-Ran.ps1"}
        for number in range(1, 31):
            add(world, number, "Get-Software.ps1", json.dumps([{"Name": "a", "Size": number, "On": True}]))
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator, script_streams=[inferred, missing])
            discovery, catalog = self.catalog(cli)
            assert len([*simulator.calls("list"), *simulator.calls("link")]) <= 20
            newest = {action_id(number) for number in range(26, 31)}
            assert {call.action_id for call in simulator.calls("link")} == newest
            (entry,) = [stream for stream in catalog["streams"] if stream["tap_stream_id"] == "software"]
            assert entry["key_properties"] == ["machine_action_id", "command_index", "row_index"]
            assert {name: entry["schema"]["properties"][name]["type"] for name in ("Name", "Size", "On")} == {
                "Name": ["string", "null"],
                "Size": ["integer", "null"],
                "On": ["boolean", "null"],
            }
            assert "software (5 results, 3 columns), nothing_yet (0 results, 0 columns)" in discovery.stderr
            assert "No result of Never-Ran.ps1 was found" in discovery.stderr

            # Later the script prints more, and the other one begins to run.
            add(world, 31, "Get-Software.ps1", json.dumps([{"Name": "b", "Size": "7", "New": [1, 2]}]))
            add(world, 32, "Never-Ran.ps1", json.dumps({"a": 1}))
            (cli.folder / "catalog.json").write_text(discovery.stdout)
            simulator.clear_log()
            run = cli.run("--catalog", str(cli.folder / "catalog.json"))
            check(run)
            assert len(simulator.calls("link")) == 32
        assert rows(run, "software", "Name", "Size", "On", "extra")[-1] == ("b", 7, None, {"New": [1, 2]})
        assert rows(run, "nothing_yet", "extra") == [({"a": 1},)]

    def test_a_schema_in_the_settings_costs_no_call_and_no_settings(self, world: World, make_cli: MakeCli) -> None:
        with Simulator(world.tenant) as simulator:
            _, catalog = self.catalog(make_cli(simulator, script_streams=[LATEST]), client_secret=None)
            assert simulator.log == []
        streams = {stream["tap_stream_id"]: stream for stream in catalog["streams"]}
        assert list(streams) == sorted(["software", "live_response_results", "machine_actions", *COMPANIONS])
        assert streams["software"]["key_properties"] == ["machine_id", "name"]
        assert streams["software"]["schema"]["properties"]["name"]["type"] == ["string"]
        assert streams["software"]["schema"]["required"] == ["machine_id", "name"]

    def test_without_script_streams_the_catalog_has_none_of_it(self, world: World, make_cli: MakeCli) -> None:
        with Simulator(world.tenant) as simulator:
            _, catalog = self.catalog(make_cli(simulator))
        assert [stream["tap_stream_id"] for stream in catalog["streams"]] == [
            "live_response_results",
            "machine_actions",
        ]

    def test_a_catalog_without_the_stream_says_so(self, world: World, make_cli: MakeCli) -> None:
        add(world, 1, "Get-Software.ps1", software("a"))
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            (cli.folder / "catalog.json").write_text(cli.run("--discover").stdout)
            run = cli.run("--catalog", str(cli.folder / "catalog.json"), script_streams=[SOFTWARE])
        check(run)
        assert run.records("software") == []
        assert "catalog does not hold the script stream software" in run.stderr

    @pytest.mark.slow  # it waits as long as the service asks
    def test_throttling_does_not_make_it_spend_more(self, world: World, make_cli: MakeCli) -> None:
        for number in range(1, 31):
            add(world, number, "Get-Software.ps1", software("a"))
        with Simulator(world.tenant) as simulator:
            simulator.rules.append(Rule("link", **throttled(0)))
            entry = {"name": "software", "script_name": "Get-Software.ps1"}
            run = make_cli(simulator, script_streams=[entry]).run("--discover")
            assert len([*simulator.calls("list"), *simulator.calls("link")]) == 20
        assert run.code == 0, run.stderr
        assert "was read, since 20 calls were spent on others" in run.stderr

    def test_an_outage_pins_no_empty_table(self, world: World, make_cli: MakeCli) -> None:
        add(world, 1, "Get-Software.ps1", software("a"))
        with Simulator(world.tenant) as simulator:
            simulator.rules.append(Rule("blob", 403, headers={"x-ms-error-code": "AuthorizationFailure"}))
            entry = {"name": "software", "script_name": "Get-Software.ps1"}
            run = make_cli(simulator, script_streams=[entry]).run("--discover")
        assert (run.code, run.stdout) == (1, "")
        assert "The columns of software cannot be inferred, since no result can be read" in run.stderr.splitlines()[-1]

    def test_a_wait_that_is_too_long_is_one_sentence(self, world: World, make_cli: MakeCli) -> None:
        with Simulator(world.tenant) as simulator:
            simulator.rules.append(Rule("list", **throttled(120)))
            entry = {"name": "software", "script_name": "Get-Software.ps1"}
            run = make_cli(simulator, script_streams=[entry], max_run_minutes=1).run("--discover")
        assert (run.code, run.stdout) == (1, "")
        assert "`max_run_minutes` ends before the service may be called again" in run.stderr.splitlines()[-1]

    def test_doctor_and_connection_test_infer_nothing(self, world: World, make_cli: MakeCli) -> None:
        for number in range(1, 4):
            add(world, number, "Get-Software.ps1", json.dumps([{"name": "a"}, {"name": "b"}]))
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator, script_streams=[{"name": "a_first", "script_name": "Get-Software.ps1"}])
            for arguments in (("--test",), ("--doctor",)):
                simulator.clear_log()
                run = cli.run(*arguments)
                assert run.code == 0, run.stderr
                assert len([*simulator.calls("list"), *simulator.calls("link")]) <= 3
                if arguments == ("--test",):
                    assert {stream: len(run.records(stream)) for stream in ("a_first", "live_response_results")} == {
                        "a_first": 1,
                        "live_response_results": 1,
                    }
            wrong = cli.run("--doctor", client_secret="wrong")
            assert wrong.code == 1
            assert "sign-in" in wrong.stdout

    @pytest.mark.parametrize("arguments", [(), ("--discover",), ("--doctor",)], ids=["run", "discover", "doctor"])
    @pytest.mark.parametrize(
        ("entry", "sentence"),
        [
            ({"name": "software"}, "`script_name` is missing in `script_streams[0]`."),
            ({**SOFTWARE, "name": "machine_actions"}, "machine_actions"),
            ({**SOFTWARE, "records_path": "$[["}, "records_path"),
            ({**SOFTWARE, "key_properties": ["nonsense"]}, "nonsense"),
            ({**SOFTWARE, "colour": "red"}, "colour"),
            ({**SOFTWARE, "format": "xml"}, "must be one of"),
            (None, "must be an object, not null"),
            ({**SOFTWARE, "schema": {"properties": {"a": {"type": "array", "items": True}}}}, "a bare true or false"),
        ],
        ids=[
            "no script",
            "reserved name",
            "no path",
            "unknown key",
            "unknown setting",
            "unknown format",
            "null",
            "true",
        ],
    )
    def test_a_bad_entry_is_one_sentence(
        self, world: World, make_cli: MakeCli, entry: dict[str, Any] | None, sentence: str, arguments: tuple[str, ...]
    ) -> None:
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator, script_streams=[entry]).run(*arguments)
            assert simulator.log == []
        assert run.code == 1
        (line,) = [line for line in (run.stderr + run.stdout).splitlines() if sentence in line]
        assert "script_streams[0]" in line
        assert "Traceback" not in run.stderr

    def test_settings_that_are_missing_for_inference_are_one_sentence(self, world: World, make_cli: MakeCli) -> None:
        with Simulator(world.tenant) as simulator:
            entry = {"name": "software", "script_name": "Get-Software.ps1"}
            run = make_cli(simulator, script_streams=[entry]).run("--discover", client_secret=None)
        assert (run.code, run.stdout) == (1, "")
        assert "`client_secret` is missing" in run.stderr.splitlines()[-1]


def test_selection_and_stream_maps(world: World, make_cli: MakeCli) -> None:
    add(world, 1, "Get-Software.ps1", software("a", "b"))
    add(world, 2, "Get-State.ps1", "x")
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator, script_streams=[SOFTWARE])
        catalog = json.loads(cli.run("--discover").stdout)
        for stream in catalog["streams"]:
            for entry in stream["metadata"]:
                if entry["breadcrumb"] == []:
                    entry["metadata"]["selected"] = stream["tap_stream_id"] == "software"
                elif entry["breadcrumb"] == ["properties", "size"]:
                    entry["metadata"]["selected"] = False
        (cli.folder / "catalog.json").write_text(json.dumps(catalog))
        maps = {
            "software": {"__alias__": "programs", "__filter__": "name != 'a'", "name": "name", "device": "machine_id"}
        }
        simulator.clear_log()
        run = cli.run("--catalog", str(cli.folder / "catalog.json"), stream_maps={**maps, "__else__": None})
        assert [call.action_id for call in simulator.calls("link")] == [action_id(1)]
    assert run.code == 0, run.stderr
    assert {message["stream"] for message in run.messages if message["type"] != "STATE"} == {"programs"}
    (record,) = run.records("programs")
    assert (record["name"], record["device"]) == ("b", f"{1:040x}")
    assert "size" not in record


def test_decimals_in_a_schema(world: World, make_cli: MakeCli) -> None:
    """The SDK reads the settings with decimals."""
    add(world, 1, "Get-Load.ps1", '[{"load": 0.5}, {"load": 0.25}]')
    schema = {"properties": {"load": {"type": "number", "minimum": 0.3}}}
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator, script_streams=[{"name": "load", "script_name": "Get-Load.ps1", "schema": schema}])
        run = cli.run()
        assert run.code == 0, run.stderr
        (cli.folder / "catalog.json").write_text(cli.run("--discover").stdout)
        pinned = cli.run("--catalog", str(cli.folder / "catalog.json"))
    assert rows(pinned, "load", "load")[0] == (0.5,)
    assert rows(run, "load", "load") == [(0.5,), (None,)]
    assert rows(run, "script_output_errors", "column_name", "text") == [("load", "0.25")]


def test_a_signal_amid_a_large_result(world: World, make_cli: MakeCli) -> None:
    add(world, 1, "Get-Software.ps1", software("a"))
    add(world, 2, "Get-Software.ps1", software(*(f"program {number}" for number in range(100_000))))
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator, script_streams=[SOFTWARE])
        process = subprocess.Popen(
            cli.command(), env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if b"program 100" in line and b'"stream":"software"' in line:
                process.terminate()
                break
        lines += process.stdout.readlines()
        process.stdout.close()
        assert process.wait() == 143
        stopped = Run(143, b"".join(lines).decode(), "")
        assert len(stopped.records("software")) < 100_000
        rest = cli.run(state=stopped.states[-1])
    check(rest)
    assert {key for (key,) in rows(rest, "software", "machine_action_id")} == {action_id(2)}


def test_the_connection_test_costs_no_more_with_script_streams(world: World, make_cli: MakeCli) -> None:
    for number in range(1, 10):
        add(world, number, "Get-Software.ps1", software("a"))
    with Simulator(world.tenant) as simulator:
        run = make_cli(simulator, script_streams=[SOFTWARE, ADMINS]).run("--test")
        assert len([*simulator.calls("list"), *simulator.calls("link"), *simulator.calls("get")]) <= 3
    assert run.code == 0, run.stderr
