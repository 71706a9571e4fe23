"""Script streams before a run: catalogs, inferred columns, entries that are wrong, and what that costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator, throttled
from tests.conftest import Cli, Run, World, action_id
from tests.script_runs import ADMINS, COMPANIONS, LATEST, SOFTWARE, add, check, rows, software

if TYPE_CHECKING:
    from tests.script_runs import MakeCli


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

    def test_results_without_rows_tell_nothing_and_that_is_said(self, world: World, make_cli: MakeCli) -> None:
        add(world, 1, "Get-Evil.ps1", json.dumps([{"Name": "evil", "Path": "C:/x"}]))
        for number in range(2, 9):
            add(world, number, "Get-Evil.ps1", "[]")
        add(world, 9, "Get-Text.ps1", "Name  Value\n----  -----\na     1\n")
        entries = [{"name": "evil", "script_name": "Get-Evil.ps1"}, {"name": "text", "script_name": "Get-Text.ps1"}]
        with Simulator(world.tenant) as simulator:
            run, catalog = self.catalog(make_cli(simulator, script_streams=entries))
        (evil,) = [entry for entry in catalog["streams"] if entry["tap_stream_id"] == "evil"]
        assert {"Name", "Path"} < evil["schema"]["properties"].keys()
        assert "No result of Get-Text.ps1 that was looked at has rows (neither JSON nor CSV" in run.stderr

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


def test_the_connection_test_costs_no_more_with_script_streams(world: World, make_cli: MakeCli) -> None:
    for number in range(1, 10):
        add(world, number, "Get-Software.ps1", software("a"))
    with Simulator(world.tenant) as simulator:
        run = make_cli(simulator, script_streams=[SOFTWARE, ADMINS]).run("--test")
        assert len([*simulator.calls("list"), *simulator.calls("link"), *simulator.calls("get")]) <= 3
    assert run.code == 0, run.stderr
