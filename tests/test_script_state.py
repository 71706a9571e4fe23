"""Script streams from run to run: what is read once, again, and never after something newer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from defender_simulator import Rule, Simulator
from defender_simulator.fleet import command, result_body
from tests.conftest import NOON, Cli, World, action_id
from tests.script_runs import LATEST, SOFTWARE, add, check, rows, software

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.script_runs import MakeCli


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
        assert "1 left out, since a newer result of the same device and script came first" in second.stderr
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
