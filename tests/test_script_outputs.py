"""Script streams through the real command line: typed rows, errors, snapshots and verdicts."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from defender_simulator import Simulator
from defender_simulator.fleet import command
from tests.conftest import Run, World, action_id
from tests.script_runs import ADMINS, SOFTWARE, add, check, rows, software

if TYPE_CHECKING:
    from tests.script_runs import MakeCli


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


@pytest.mark.slow
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
