"""The make-believe company: shapes as in real answers, times that hold together, and all the dirt."""

from __future__ import annotations

import copy
import gzip
import json
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import powershell
from defender_simulator.fleet import (
    CLIENT_ID,
    CLIENT_SECRET,
    DIRT,
    TENANT_ID,
    command,
    dirt_id,
    machine_action,
    make_tenant,
    next_day,
    result_body,
)
from defender_simulator.shapes import SECOND, ticks_of, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from defender_simulator.tenant import Tenant

NOW = 1_760_000_000.25
DAY = 86_400
PROPERTIES = [
    *("id", "type", "title", "requestor", "requestorComment", "status", "machineId", "computerDnsName"),
    *("creationDateTimeUtc", "lastUpdateDateTimeUtc", "cancellationRequestor", "cancellationComment"),
    *("cancellationDateTimeUtc", "errorHResult", "scope", "externalId", "requestSource", "relatedFileInfo"),
    *("commands", "troubleshootInfo"),
]
FINAL = {"Succeeded", "Failed", "TimeOut", "Cancelled"}
OPEN = {"Pending", "InProgress"}

Action = dict[str, Any]


@pytest.fixture(scope="module")
def tenant() -> Tenant:
    return make_tenant(now=NOW)


@pytest.fixture(scope="module")
def later() -> Tenant:
    tenant = make_tenant(now=NOW)
    next_day(tenant, now=NOW + DAY)
    return tenant


def live_responses(tenant: Tenant) -> list[Action]:
    return [action for action in tenant.actions if action["type"] == "LiveResponse"]


def commands(tenant: Tenant) -> Iterator[tuple[Action, Action]]:
    for action in tenant.actions:
        for each in action.get("commands") or ():
            yield action, each


def script_of(each: Action) -> str:
    return str(each["command"]["params"][0]["value"])


def updated(action: Action) -> int:
    return ticks_of(action["lastUpdateDateTimeUtc" if "lastUpdateDateTimeUtc" in action else "lastUpdateTimeUtc"])


def by_id(tenant: Tenant, name: str) -> Action:
    return next(action for action in tenant.actions if action["id"] == dirt_id(name))


# --- shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ticks", "text"),
    [
        (1_760_000_000 * SECOND, "2025-10-09T08:53:20Z"),
        (1_760_000_000 * SECOND + 1, "2025-10-09T08:53:20.0000001Z"),
        (1_760_000_000 * SECOND + 9_316_300, "2025-10-09T08:53:20.93163Z"),
        (1_760_000_000 * SECOND + 9_000_000, "2025-10-09T08:53:20.9Z"),
        (86_400 * SECOND - 10, "1970-01-01T23:59:59.999999Z"),
    ],
)
def test_times_are_net_ticks_without_trailing_zeros(ticks: int, text: str) -> None:
    assert timestamp(ticks) == text
    assert ticks_of(text) == ticks


def test_machine_action_writes_all_properties_in_their_order_nulls_included() -> None:
    action = machine_action(action_id="a", created=1_760_000_000.5, updated="2025-10-09T09:00:00.1234567Z")
    assert list(action) == PROPERTIES
    assert action["creationDateTimeUtc"] == "2025-10-09T08:53:20.5Z"
    assert action["lastUpdateDateTimeUtc"] == "2025-10-09T09:00:00.1234567Z"
    assert (action["title"], action["commands"], action["errorHResult"]) == (None, [], 0)
    assert machine_action(action_id="a", created="x")["lastUpdateDateTimeUtc"] == "x"


def test_command_has_the_shape_of_the_documented_example() -> None:
    started, ended = "2023-03-18T21:04:01.92Z", "2023-03-18T21:04:04.693Z"
    params = {"ScriptName": "Example.ps1"}
    assert command(0, "RunScript", "Completed", params, started=started, ended=ended) == {
        "index": 0,
        "startTime": started,
        "endTime": ended,
        "commandStatus": "Completed",
        "errors": [],
        "command": {"type": "RunScript", "params": [{"key": "ScriptName", "value": "Example.ps1"}]},
    }


def test_result_body_is_ascii_json() -> None:
    body = result_body("a.ps1", 3, "Müller\0", "no")
    assert body == (
        b'{"script_name": "a.ps1", "exit_code": 3, "script_output": "M\\u00fcller\\u0000", "script_errors": "no"}'
    )


def test_powershell_prints_json_on_one_line() -> None:
    printed = powershell.to_compressed_json({"a": [{"b": 1.0, "c": "x'y<&>"}], "d": [], "e": None, "f": True, "g": 2.5})
    assert printed == '{"a":[{"b":1,"c":"x\\u0027y\\u003c\\u0026\\u003e"}],"d":[],"e":null,"f":true,"g":2.5}'


def test_powershell_prints_json_in_its_own_layout() -> None:
    printed = powershell.to_json({"a": [{"b": 1, "c": "x'y"}], "d": []})
    assert printed.split("\r\n") == [
        "{",
        '    "a":  [',
        "              {",
        '                  "b":  1,',
        '                  "c":  "x\\u0027y"',
        "              }",
        "          ],",
        '    "d":  [',
        "",
        "          ]",
        "}",
    ]


# --- the world of one day -------------------------------------------------------------------------------------------


def test_the_same_arguments_make_the_same_bytes(tenant: Tenant, later: Tenant) -> None:
    again = make_tenant(now=NOW)
    assert json.dumps(again.actions) == json.dumps(tenant.actions)
    assert again.results == tenant.results
    next_day(again, now=NOW + DAY)
    assert json.dumps(again.actions) == json.dumps(later.actions)
    assert again.results == later.results


def test_another_seed_makes_another_world(tenant: Tenant) -> None:
    other = make_tenant(seed=8, now=NOW)
    dirty = {dirt_id(name) for name in DIRT}
    assert {action["id"] for action in tenant.actions} & {action["id"] for action in other.actions} <= dirty


def test_without_a_time_the_world_ends_now() -> None:
    newest = max(map(updated, make_tenant(devices=1).actions)) / SECOND
    assert time.time() - DAY < newest <= time.time()


def test_the_app_may_sign_in(tenant: Tenant) -> None:
    assert tenant.tenant_id == TENANT_ID
    assert [(app.client_id, app.client_secret) for app in tenant.apps] == [(CLIENT_ID, CLIENT_SECRET)]
    # Secret scanners know Entra secrets by these characters. Nobody should be alarmed by ours.
    assert not re.search(r"\dQ~", CLIENT_SECRET)


@pytest.mark.parametrize("devices", [1, 2, 9, 40, 250])
@pytest.mark.parametrize("seed", [7, 8])
def test_a_fleet_of_any_size_holds_together(devices: int, seed: int) -> None:
    tenant = make_tenant(devices=devices, seed=seed, now=NOW)
    assert_holds_together(tenant, NOW)
    next_day(tenant, devices=devices, seed=seed, now=NOW + DAY)
    assert_holds_together(tenant, NOW + DAY)


def assert_holds_together(tenant: Tenant, now: float) -> None:
    ids = [action["id"] for action in tenant.actions]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for each in ids)
    for action in tenant.actions:
        moments = [ticks_of(action["creationDateTimeUtc"])]
        for each in action.get("commands") or ():
            moments += [ticks_of(each[key]) for key in ("startTime", "endTime") if each[key]]
        moments += [updated(action), int(now * SECOND)]
        assert moments == sorted(moments), action
    assert {action_id for action_id, _ in tenant.results} <= set(ids)
    assert_shapes(tenant)
    assert_results_where_they_belong(tenant)
    assert_one_at_a_time(tenant)


def assert_shapes(tenant: Tenant) -> None:
    odd = {dirt_id(name) for name in ("last_update_time_name", "commands_missing", "unknown_property")}
    for action in tenant.actions:
        assert list(action) == PROPERTIES or action["id"] in odd, action
        assert action["machineId"] is None or re.fullmatch("[0-9a-f]{40}", action["machineId"])
    for action, each in commands(tenant):
        assert list(each) == ["index", "startTime", "endTime", "commandStatus", "errors", "command"]
        assert action["commands"][each["index"]] is each
        assert each["command"]["type"] in {"PutFile", "RunScript", "GetFile"}
        assert all(list(param) == ["key", "value"] for param in each["command"]["params"])


def assert_results_where_they_belong(tenant: Tenant) -> None:
    for action, each in commands(tenant):
        has_result = (action["id"], each["index"]) in tenant.results
        if each["command"]["type"] == "PutFile" or each["commandStatus"] in {"Created", "Executing"}:
            assert not has_result
        elif action["status"] == "Succeeded":
            assert has_result


def assert_one_at_a_time(tenant: Tenant) -> None:
    busy: dict[str, tuple[int, str]] = {}
    for action in sorted(live_responses(tenant), key=lambda action: ticks_of(action["creationDateTimeUtc"])):
        until, status = busy.get(action["machineId"], (0, "Succeeded"))
        assert ticks_of(action["creationDateTimeUtc"]) > until
        assert status in FINAL
        busy[action["machineId"]] = updated(action), action["status"]


def test_most_runs_succeed_and_every_other_end_is_there(tenant: Tenant) -> None:
    statuses = Counter(action["status"] for action in live_responses(tenant))
    assert set(statuses) == FINAL | OPEN
    assert 0.8 < statuses["Succeeded"] / statuses.total() < 0.9
    failed = [action for action in live_responses(tenant) if action["status"] == "Failed"]
    with_result = [action for action in failed if (action["id"], 0) in tenant.results]
    assert with_result
    assert len(with_result) < len(failed) - 1
    running = {each["commandStatus"] for action, each in commands(tenant) if action["status"] == "InProgress"}
    assert running == {"Created", "Executing"}


def test_a_failed_script_says_why(tenant: Tenant) -> None:
    for action, each in commands(tenant):
        result = tenant.results.get((action["id"], each["index"]))
        if each["commandStatus"] == "Failed" and result:
            document = json.loads(result.body)
            assert document["exit_code"] != 0
            assert document["script_errors"]
            assert script_of(each) in each["errors"][0]


def test_timed_out_and_cancelled_actions_look_like_the_real_ones(tenant: Tenant) -> None:
    for action in live_responses(tenant):
        waited = updated(action) - ticks_of(action["creationDateTimeUtc"])
        if action["status"] == "TimeOut":
            assert action["errorHResult"] == -2145844840
            assert waited > 3 * DAY * SECOND
        elif action["status"] == "Cancelled":
            assert action["errorHResult"] == -2147467260
            assert ticks_of(action["cancellationDateTimeUtc"]) == updated(action) - 1
        else:
            assert action["errorHResult"] == 0
            assert action["cancellationRequestor"] is None


def test_campaigns_run_their_script_of_the_platform(tenant: Tenant) -> None:
    scripts = Counter(script_of(each) for _, each in commands(tenant) if each["command"]["type"] == "RunScript")
    assert set(scripts) == {
        "Get-InstalledSoftware.ps1",
        "Get-InstalledSoftware.sh",
        "Get-BitLockerState.ps1",
        "Get-LocalAdministrators.ps1",
        "Get-LocalAdministrators.sh",
        "Get-ListeningPorts.ps1",
        "Get-ListeningPorts.sh",
        "Get-ScheduledTasks.ps1",
        "Get-ScheduledTasks.sh",
        "Collect-Triage.ps1",
        "Get-LogonSessions.ps1",
    }
    windows = sum(count for name, count in scripts.items() if name.endswith(".ps1"))
    assert windows / scripts.total() > 0.7
    requestors = {action["requestor"] for action in live_responses(tenant)}
    assert any("@" in name for name in requestors)
    assert any(re.fullmatch("[0-9a-f-]{36}", name) for name in requestors)


def printed(tenant: Tenant) -> Iterator[tuple[Action, str, str]]:
    """What the scripts of the library printed where all is clean: the action, the script and its output."""
    dirty = {dirt_id(name) for name in DIRT}
    for action, each in commands(tenant):
        if action["status"] == "Succeeded" and action["id"] not in dirty and len(action["commands"]) == 1:
            document = json.loads(tenant.results[action["id"], 0].body)
            assert list(document) == ["script_name", "exit_code", "script_output", "script_errors"]
            assert document["script_name"] == script_of(each)
            yield action, document["script_name"], document["script_output"]


def rows_of(output: str) -> list[dict[str, Any]]:
    document = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    return list(document.values())[2]  # type: ignore[no-any-return]


def test_clean_results_are_documents_with_what_the_script_is_for(tenant: Tenant) -> None:
    names = {"Get-InstalledSoftware": "software", "Get-ScheduledTasks": "tasks", "Get-BitLockerState": "volumes"}
    names |= {"Get-LocalAdministrators": "administrators", "Get-ListeningPorts": "ports"}
    seen = Counter[str]()
    warned = Counter[bool]()
    failed = Counter[bool]()
    for _, script, output in printed(tenant):
        lines = output.rstrip("\0").split("\r\n" if script.endswith(".ps1") else "\n")
        if script.endswith(".ps1"):
            line = lines.pop(0)
            assert re.fullmatch(
                r"Transcript started, output file is C:\\.*PSScript_Transcript_\{[0-9A-F-]{36}\}\.txt", line
            )
            if len(lines) == 3:
                assert lines.pop(0).startswith("WARNING: ")
                warned[True] += 1
        text, rest = lines
        assert rest == ""
        document = json.loads(text)
        assert list(document) == ["succeeded", "errors", names[script.partition(".")[0]]]
        assert document["succeeded"] == (not document["errors"])
        assert rows_of(output) or not document["succeeded"] or script == "Get-ScheduledTasks.sh"
        failed[document["succeeded"]] += 1
        seen[script] += 1
    assert len(seen) == 9
    assert 3 <= warned[True] < seen.total() / 5
    assert 1 <= failed[False] < seen.total() / 5


def test_results_come_in_all_sizes_and_with_trailing_nuls(tenant: Tenant) -> None:
    sizes = sorted(len(result.body) for result in tenant.results.values())
    assert sizes[0] < 700
    assert sizes[-1] > 30_000
    assert sum(b"\\u0000\\u0000\\u0000" in result.body for result in tenant.results.values()) > 10


def test_one_session_stops_where_its_script_fails(tenant: Tenant) -> None:
    sessions = [action for action in live_responses(tenant) if len(action.get("commands") or ()) == 3]
    assert [each["command"]["type"] for each in sessions[0]["commands"]] == ["PutFile", "RunScript", "GetFile"]
    (failed,) = [action for action in sessions if action["status"] == "Failed"]
    assert [each["commandStatus"] for each in failed["commands"]] == ["Completed", "Failed", "Created"]
    assert (failed["id"], 1) in tenant.results
    assert (failed["id"], 2) not in tenant.results
    for action in sessions:
        if action is not failed:
            # As in real answers: an end, but no start.
            assert action["commands"][2]["startTime"] is None
            assert action["commands"][2]["endTime"]
            result = tenant.results[action["id"], 2]
            assert gzip.decompress(result.body).startswith(b"ElfFile\0")
            assert result.headers["Content-Disposition"] == "attachment; filename=Security.evtx.gz"


def test_other_actions_are_there_to_be_left_out(tenant: Tenant) -> None:
    other = [action for action in tenant.actions if action["type"] != "LiveResponse"]
    assert {"Isolate", "Unisolate", "RunAntiVirusScan", "Offboard"} < {action["type"] for action in other}
    assert any(action["machineId"] is None and action["computerDnsName"] is None for action in other)
    assert any(action["relatedFileInfo"] for action in other)
    assert not any(action["commands"] for action in other)


# --- dirt -----------------------------------------------------------------------------------------------------------


def not_strict_json(body: bytes) -> bool:
    with pytest.raises(json.JSONDecodeError, match="Invalid control character"):
        json.loads(body)
    return "\n" in json.loads(body, strict=False)["script_output"]


def output_has(pattern: str) -> Callable[[bytes], bool]:
    return lambda body: re.search(pattern, json.loads(body)["script_output"]) is not None


RESULTS: dict[str, Callable[[bytes], bool]] = {
    "raw_line_feed": not_strict_json,
    "gzip_body": lambda body: body.startswith(b"\x1f\x8b") and bool(json.loads(gzip.decompress(body))),
    "utf8_bom": lambda body: body.startswith(b'\xef\xbb\xbf{"'),
    "utf16_body": lambda body: body.startswith(b"\xff\xfe{\0"),
    "plain_text_body": lambda body: b"script_output" not in body and b"Transcript" not in body and len(body) > 40,
    "script_error_key": lambda body: "script_error" in json.loads(body) and "script_errors" not in json.loads(body),
    "name_key": lambda body: json.loads(body)["name"].endswith(".ps1") and "script_name" not in json.loads(body),
    "lone_surrogate": lambda body: rb"\ud83d" in body and rb"\ud83d\ud" not in body,
    "german_transcript": output_has(r"^Die Aufzeichnung wurde gestartet.*PSScript_Transcript_.*\.txt\r\n"),
    "exit_code_null": lambda body: json.loads(body)["exit_code"] is None,
    "exit_code_dword": lambda body: json.loads(body)["exit_code"] == 3221225477,
    "nul_between_letters": output_has("U\0b\0u\0n\0t\0u\0"),
    "ansi_colours": output_has(r"\x1b\[34;1m"),
    "mixed_line_ends": output_has(r"(?s)(?<!\r)\n.*\r\n"),
}

ACTIONS: dict[str, Callable[[Action], bool]] = {
    "last_update_time_name": lambda action: "lastUpdateTimeUtc" in action and "lastUpdateDateTimeUtc" not in action,
    "commands_missing": lambda action: "commands" not in action and action["status"] in OPEN,
    "commands_null": lambda action: action["commands"] is None and action["status"] == "Cancelled",
    "empty_start_time": lambda action: action["commands"][0]["startTime"] == "",
    "unknown_property": lambda action: set(action) - set(PROPERTIES) == {"deviceGroup"},
    "unknown_command_status": lambda action: action["commands"][0]["commandStatus"] == "CompletedWithWarnings",
}


def decimals(text: str) -> int:
    return len(text.removesuffix("Z").partition(".")[2])


def test_every_kind_of_dirt_has_a_check_here() -> None:
    assert set(RESULTS) | set(ACTIONS) | {f"decimals_{count}" for count in range(8)} == set(DIRT)
    assert all(dirt.what for dirt in DIRT.values())


@pytest.fixture(scope="module", params=[7, 8, 9, 10, 11])
def some_tenant(request: pytest.FixtureRequest) -> Tenant:
    return make_tenant(seed=request.param, now=NOW)


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_dirty(some_tenant: Tenant, name: str) -> None:
    assert RESULTS[name](some_tenant.results[dirt_id(name), 0].body)


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_is_dirty(some_tenant: Tenant, name: str) -> None:
    assert ACTIONS[name](by_id(some_tenant, name))


@pytest.mark.parametrize("count", range(8))
def test_times_have_from_no_to_seven_decimals(some_tenant: Tenant, count: int) -> None:
    action = by_id(some_tenant, f"decimals_{count}")
    assert decimals(action["creationDateTimeUtc"]) == decimals(action["lastUpdateDateTimeUtc"]) == count


def test_a_small_fleet_is_mostly_clean() -> None:
    tenant = make_tenant(devices=5, now=NOW)
    dirty = {dirt_id(name) for name in DIRT}
    actions = live_responses(tenant)
    assert sum(action["id"] in dirty for action in actions) < len(actions) / 3


# --- the next day ---------------------------------------------------------------------------------------------------


def test_final_actions_and_their_results_stay_as_they_are(tenant: Tenant, later: Tenant) -> None:
    now_there = {action["id"]: action for action in later.actions}
    for action in tenant.actions:
        if action["status"] in FINAL or action["type"] != "LiveResponse":
            assert now_there[action["id"]] == action
    assert tenant.results.items() <= later.results.items()


def test_open_actions_move_on_but_not_all(tenant: Tenant, later: Tenant) -> None:
    now_there = {action["id"]: action for action in later.actions}
    before = [action for action in live_responses(tenant) if action["status"] in OPEN]
    after = [now_there[action["id"]] for action in before]
    newest = max(map(updated, tenant.actions))
    done = [action for action in after if action["status"] in FINAL]
    assert len(before) > len(done) > len(before) / 2
    for old, new in zip(before, after, strict=True):
        assert new == old or updated(new) > newest
        assert new["creationDateTimeUtc"] == old["creationDateTimeUtc"]
    assert any((action["id"], 0) in later.results for action in done)
    healed = now_there[dirt_id("commands_missing")]
    assert healed["status"] in FINAL
    assert healed["commands"][0]["endTime"]


def test_three_campaigns_have_run_again(tenant: Tenant, later: Tenant) -> None:
    new = later.actions[len(tenant.actions) :]
    newest = max(map(updated, tenant.actions))
    assert len(new) > 90
    assert {script_of(action["commands"][0]).partition(".")[0] for action in new} == {
        "Get-InstalledSoftware",
        "Get-LocalAdministrators",
        "Get-ScheduledTasks",
    }
    assert all(ticks_of(action["creationDateTimeUtc"]) > newest for action in new)
    assert OPEN & {action["status"] for action in new}


@pytest.mark.parametrize(
    ("script", "key"), [("Get-InstalledSoftware", "name"), ("Get-LocalAdministrators", "account_id")]
)
def test_some_rows_have_gone_some_have_come_and_most_have_stayed(later: Tenant, script: str, key: str) -> None:
    by_device: dict[str, list[list[dict[str, Any]]]] = {}
    for action, name, output in printed(later):
        if name.startswith(script):
            by_device.setdefault(action["machineId"], []).append(rows_of(output))
    twice = [[{row[key] for row in rows} for rows in results] for results in by_device.values() if len(results) == 2]
    gone = sum(len(before - after) for before, after in twice)
    came = sum(len(after - before) for before, after in twice)
    assert len(twice) > 20
    assert min(gone, came) >= 5
    assert max(gone, came) < sum(len(before) for before, _ in twice) / 4


def test_some_software_was_updated(later: Tenant) -> None:
    versions: dict[tuple[str, str], list[str]] = {}
    for action, name, output in printed(later):
        if name.startswith("Get-InstalledSoftware"):
            for row in rows_of(output):
                versions.setdefault((action["machineId"], row["name"]), []).append(row["version"])
    twice = [both for both in versions.values() if len(both) == 2]
    assert 20 < sum(before != after for before, after in twice) < len(twice) / 4


def test_a_device_that_stays_away_times_out(later: Tenant) -> None:
    tenant = copy.deepcopy(later)
    for day in range(2, 7):
        next_day(tenant, now=NOW + day * DAY)
        assert_holds_together(tenant, NOW + day * DAY)
    new = [action for action in live_responses(tenant) if action["status"] == "TimeOut"]
    assert len(new) > len([action for action in live_responses(later) if action["status"] == "TimeOut"])
    for action in new:
        assert updated(action) - ticks_of(action["creationDateTimeUtc"]) > 3 * DAY * SECOND


def test_a_day_can_be_short() -> None:
    tenant = make_tenant(now=NOW)
    next_day(tenant, now=NOW + 2)
    assert_holds_together(tenant, NOW + 2)


def test_a_day_cannot_go_back(tenant: Tenant) -> None:
    with pytest.raises(ValueError, match="at least a second after"):
        next_day(tenant, now=NOW - 60)


def test_a_day_belongs_to_its_fleet() -> None:
    tenant = make_tenant(now=NOW)
    with pytest.raises(ValueError, match="other devices or another seed"):
        next_day(tenant, seed=8, now=NOW + DAY)


def test_a_fleet_needs_a_device() -> None:
    with pytest.raises(ValueError, match="at least one device"):
        make_tenant(devices=0)
