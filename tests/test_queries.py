"""The statements of `docs/queries`: right, and the same in a warehouse that upserts and over files that are appended.

What is right is computed once more in Python, from the simulated tenant itself.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tap_defender_lr.machine_action import MachineAction, from_api
from tap_defender_lr.streams.live_response_results import LiveResponseResultsStream
from tap_defender_lr.streams.machine_actions import MachineActionsStream
from tests.warehouses import ODD_SCRIPTS, ROOT, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from defender_simulator import Tenant
    from tests.warehouses import Fleet

pytestmark = pytest.mark.slow
pytest_plugins = ["tests.warehouse_fixtures"]

QUERIES = ROOT / "docs" / "queries"
PAGE = (QUERIES / "README.md").read_text(encoding="utf-8")
FILES = sorted(file.stem for file in QUERIES.glob("*.sql") if file.stem != "duckdb")
OPEN = {"Pending", "InProgress"}


def statement(name: str) -> str:
    return (QUERIES / f"{name}.sql").read_text(encoding="utf-8")


def moment(text: str | None) -> datetime | None:
    """As warehouses keep it: without time zone, cut to microseconds."""
    return datetime.fromisoformat(text[:26]) if text else None


@dataclass(frozen=True)
class Ran:
    """A command of an action that has ended."""

    action: MachineAction
    index: int
    type: str
    script: str | None
    ended: datetime | None
    broke: bool
    status: str
    exit_code: int | None
    output: str
    errors: str
    service_said: str | None

    @property
    def machine(self) -> str:
        return str(self.action.machine_id)

    @property
    def device(self) -> str:
        return str(self.action.raw["computerDnsName"])

    @property
    def requested(self) -> datetime:
        return datetime.fromisoformat(self.action.creation[:26])

    @property
    def updated(self) -> datetime:
        return datetime.fromisoformat(self.action.last_update[:26])

    @property
    def at(self) -> datetime:
        return self.ended or self.updated

    @property
    def state(self) -> str:
        if self.status != "fetched":
            return "no_result"
        return "failed" if self.exit_code or self.broke else "ok"

    @property
    def key(self) -> tuple[str, int]:
        return (self.action.id, self.index)


@dataclass
class Truth:
    """What there is to know, from the tenant."""

    actions: list[MachineAction]
    ran: list[Ran]

    @property
    def scripts(self) -> list[Ran]:
        return [ran for ran in self.ran if ran.script]

    @property
    def open(self) -> list[MachineAction]:
        return [action for action in self.actions if action.status in OPEN]

    def of(self, script: str) -> list[Ran]:
        return [ran for ran in self.scripts if ran.script and ran.script.startswith(script)]

    @classmethod
    def of_tenant(cls, tenant: Tenant) -> Truth:
        sent = [action for action in tenant.actions if action["type"] == "LiveResponse"]
        actions = [action for action in map(from_api, sent) if action]
        return cls(
            actions, [ran for action in actions if action.status not in OPEN for ran in commands(tenant, action)]
        )


def commands(tenant: Tenant, action: MachineAction) -> Iterable[Ran]:
    for command in action.commands:
        result = tenant.results.get((action.id, command.index))
        details = action.details(command)
        document: dict[str, Any] = {}
        if result is None:
            status = "not_run" if action.never_ran(command) else "unavailable"
            status = "no_result" if command.type == "PutFile" else status
        elif command.type == "GetFile":
            status = "fetched"
        else:
            found = read(result.body)
            status, document = ("unreadable", {}) if found is None else ("fetched", found)
        yield Ran(
            action,
            command.index,
            str(command.type),
            command.script_name,
            moment(details.end_time),
            command.status == "Failed",
            status,
            document.get("exit_code"),
            document.get("script_output", ""),
            document.get("script_errors") or document.get("script_error") or "",
            details.errors[0] if details.errors else None,
        )


def read(body: bytes) -> dict[str, Any] | None:
    """The document of a result, however it is packed, without the line that announces the transcript."""
    body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    text = body.decode("utf-16" if body.startswith(b"\xff\xfe") else "utf-8-sig").replace("\x00", "")
    try:
        document: dict[str, Any] = json.loads(text, strict=False)
    except ValueError:
        return None
    printed = re.sub("[\ud800-\udfff]", "\ufffd", document["script_output"]).replace("\0", "")
    return {**document, "script_output": re.sub(r"\A.*[.]txt\r?\n", "", printed)}


@pytest.fixture(scope="module")
def truth(fleet: Fleet) -> Truth:
    return Truth.of_tenant(fleet.tenant)


@pytest.fixture(scope="module")
def files(json_lines: Path) -> Any:
    """DuckDB over the files of `target-jsonl`."""
    connection = duckdb.connect()
    connection.execute(statement("duckdb").replace("'output/", f"'{json_lines.as_posix()}/"))
    return connection


Row = tuple[Any, ...]


def newest_requests(truth: Truth) -> dict[tuple[str, str], tuple[str, str, datetime, str, bool]]:
    """By device and script: both names, when it was asked for last, its state, whether it ever answered."""
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for ran in truth.scripts:
        found[ran.machine, str(ran.script)].append((ran.requested, ran.action.id, ran.device, ran.state))
    for action in truth.open:
        for command in action.commands:
            asked = datetime.fromisoformat(action.creation[:26])
            if command.script_name:
                device = action.raw["computerDnsName"]
                found[str(action.machine_id), command.script_name].append((asked, action.id, device, "waiting"))
    newest = {}
    for key, requests in found.items():
        asked, _, device, state = max(requests)
        answered = any(request[-1] in {"ok", "failed"} for request in requests)
        newest[key] = (device, key[1], asked, state, answered)
    return newest


def coverage(truth: Truth) -> list[Row]:
    by_script = defaultdict(list)
    for (_, script), (_, _, _, state, answered) in newest_requests(truth).items():
        by_script[script].append((state, answered))
    rows = []
    for script, devices in by_script.items():
        states = Counter(state for state, _ in devices)
        percent = Decimal(100 * states["ok"]) / len(devices)
        rows.append(
            (
                script,
                len(devices),
                *(states[state] for state in ("ok", "failed", "no_result", "waiting")),
                sum(not answered for _, answered in devices),
                percent.quantize(Decimal("0.1"), ROUND_HALF_UP),
            )
        )
    return rows


def script_devices(truth: Truth, script: str = "Get-InstalledSoftware.") -> list[Row]:
    newest = {
        machine: (state, name, asked)
        for (machine, name), (_, _, asked, state, _) in newest_requests(truth).items()
        if name.startswith(script)
    }
    answers: dict[str, datetime] = {}
    for ran in truth.of(script):
        if ran.state in {"ok", "failed"}:
            answers[ran.machine] = max(answers.get(ran.machine, ran.at), ran.at)
    names = {str(action.machine_id): str(action.raw["computerDnsName"]) for action in truth.actions}
    return [
        (name, machine, *newest.get(machine, ("not_asked", None, None)), answers.get(machine))
        for machine, name in names.items()
    ]


def latest_results(truth: Truth) -> list[Row]:
    newest: dict[Any, Ran] = {}
    for ran in sorted(truth.scripts, key=lambda ran: (ran.at, ran.key)):
        newest[ran.machine, ran.script] = ran
    return [(ran.device, ran.script, ran.at, ran.status, ran.exit_code, *ran.key) for ran in newest.values()]


def is_failure(ran: Ran) -> bool:
    return ran.state != "ok"


REASONS = {
    "running scripts is disabled on this system": "UnauthorizedAccess",
    "has been blocked by your antivirus": "ScriptContainedMaliciousContent",
    "to the -File parameter": r"the argument '.\(script)' to the -file parameter does not exist on (device).",
    "awk: not found": "./(script): #: awk: not found",
    "Permission denied": "/bin/sh: ./(script): permission denied",
    "Error 17 in line 4": "error # in line #",
}
"""What the scripts of the fleet say when they fail, and how it counts."""


def reason(ran: Ran) -> str:
    if ran.state == "failed":
        found = [reason for text, reason in REASONS.items() if text in (ran.errors or ran.output)]
        return found[0] if found else "nothing printed"
    if ran.status == "unavailable":
        said = ran.service_said or "status 404 ResourceNotFound: Machine action (id) has no result 0"
        return f"unavailable: {said}"
    if ran.status == "unreadable":
        return "unreadable: the result is not JSON"
    return ran.status


def failures_by_reason(truth: Truth) -> list[Row]:
    groups = defaultdict(list)
    for ran in truth.scripts:
        if is_failure(ran):
            groups[ran.state, ran.action.status, ran.exit_code, reason(ran)].append(ran)
    return [
        (*group, len(found), len({ran.machine for ran in found}), len({ran.script for ran in found}))
        for group, found in groups.items()
    ]


def newest_failures(truth: Truth) -> list[Row]:
    found = sorted(filter(is_failure, truth.scripts), key=lambda ran: (-ran.updated.timestamp(), ran.key))
    return [(ran.updated, ran.device, ran.script, ran.action.status, ran.exit_code, *ran.key) for ran in found[:20]]


def waiting_devices(truth: Truth) -> list[Row]:
    now = max(datetime.fromisoformat(action.last_update[:26]) for action in truth.actions)
    answers: dict[str, datetime] = {}
    for ran in truth.ran:
        if ran.ended:
            answers[ran.machine] = max(answers.get(ran.machine, ran.ended), ran.ended)
    rows = []
    for action in truth.open:
        asked = datetime.fromisoformat(action.creation[:26])
        hours = (Decimal((now - asked) / timedelta(microseconds=1)) / 3_600_000_000).quantize(
            Decimal("0.1"), ROUND_HALF_UP
        )
        for script in [command.script_name for command in action.commands] or [None]:
            about = (action.raw["computerDnsName"], script, action.status, asked, hours, asked + timedelta(days=3))
            rows.append((*about, answers.get(str(action.machine_id)), action.id))
    return rows


def silent_devices(truth: Truth) -> list[Row]:
    answered = {ran.machine for ran in truth.ran if ran.ended or ran.status in {"fetched", "unreadable"}}
    asked = defaultdict(list)
    for action in truth.actions:
        if action.machine_id not in answered:
            asked[action.machine_id].append(action)
    rows = []
    for machine, actions in asked.items():
        states = Counter(str(action.status) for action in actions)
        times = sorted(datetime.fromisoformat(action.creation[:26]) for action in actions)
        waits = states["Pending"] + states["InProgress"]
        rows.append((machine, len(actions), waits, states["TimeOut"], states["Cancelled"], times[0], times[-1]))
    return rows


def time_to_result(truth: Truth) -> list[Row]:
    times = defaultdict(list)
    for ran in truth.scripts:
        if ran.ended:
            times[ran.script].append((ran.ended - ran.requested).total_seconds() / 60)
    return [
        (script, len(found), *(round(at(found, share), 1) for share in (0.5, 0.9, 1.0)))
        for script, found in times.items()
    ]


def at(values: list[float], share: float) -> float:
    """The value with that share of the others below it, between two neighbours in proportion."""
    values = sorted(values)
    below, part = divmod(share * (len(values) - 1), 1)
    above = min(int(below) + 1, len(values) - 1)
    return values[int(below)] + (values[above] - values[int(below)]) * part


def results_by_day(truth: Truth) -> list[Row]:
    days = defaultdict(list)
    for ran in truth.scripts:
        days[ran.updated.date()].append(ran)
    rows = []
    for day, found in days.items():
        states = Counter(ran.state for ran in found)
        devices = len({ran.machine for ran in found})
        rows.append((day, len(found), devices, states["ok"], states["failed"], states["no_result"]))
    return rows


def who_runs_what(truth: Truth) -> list[Row]:
    groups = defaultdict(list)
    for ran in truth.ran:
        groups[ran.action.raw["requestor"], ran.type, ran.script].append(ran)
    return [
        (
            *group,
            len({ran.action.id for ran in found}),
            len({ran.machine for ran in found}),
            sum(ran.status == "fetched" for ran in found),
            min(ran.requested for ran in found),
            max(ran.requested for ran in found),
        )
        for group, found in groups.items()
    ]


# The columns of which Python knows the values; the others are texts that the rest decides.
TRUTHS: dict[str, tuple[Callable[[Truth], list[Row]], str]] = {
    "coverage": (coverage, "script devices ok failed no_result waiting never_answered ok_percent"),
    "script_devices": (script_devices, "computer_dns_name machine_id state script_name requested_at last_answer_at"),
    "latest_results": (
        latest_results,
        "computer_dns_name script_name ended_at result_status exit_code machine_action_id command_index",
    ),
    "failures_by_reason": (failures_by_reason, "state action_status exit_code reason results devices scripts"),
    "newest_failures": (
        newest_failures,
        "ended_at computer_dns_name script_name action_status exit_code machine_action_id command_index",
    ),
    "waiting_devices": (
        waiting_devices,
        "computer_dns_name script_name status requested_at hours_waiting ends_at last_answer_at machine_action_id",
    ),
    "silent_devices": (silent_devices, "machine_id times_asked waiting timed_out cancelled first_asked last_asked"),
    "time_to_result": (time_to_result, "script results median_minutes p90_minutes longest_minutes"),
    "results_by_day": (results_by_day, "day results devices ok failed no_result"),
    "who_runs_what": (
        who_runs_what,
        "requestor command_type script actions devices results first_requested last_requested",
    ),
}


def ask(connection: Any, sql: str) -> list[dict[str, str]]:
    cursor = connection.execute(sql)
    rows = cursor.fetchall()
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, map(told, row), strict=True)) for row in rows]


def in_order(rows: Iterable[dict[str, str]]) -> list[tuple[str, ...]]:
    return sorted(tuple(row.values()) for row in rows)


@pytest.mark.parametrize("name", TRUTHS)
def test_the_answer_is_the_truth(truth: Truth, postgres: Any, files: Any, name: str) -> None:
    expected, columns = TRUTHS[name]
    rows = sorted(tuple(map(told, row)) for row in expected(truth))
    assert len(rows) >= 2
    for connection in (postgres, files):
        found = ask(connection, statement(name))
        assert sorted(tuple(row[column] for column in columns.split()) for row in found) == rows


@pytest.mark.parametrize("name", FILES)
def test_both_warehouses_give_the_same(postgres: Any, files: Any, name: str) -> None:
    answers = [ask(connection, statement(name)) for connection in (postgres, files)]
    assert answers[0]
    assert in_order(answers[0]) == in_order(answers[1])


def test_a_script_name_may_have_any_letter(postgres: Any, files: Any) -> None:
    for connection in (postgres, files):
        scripts = [row["script_name"] for row in ask(connection, statement("waiting_devices"))]
        assert set(ODD_SCRIPTS) <= set(scripts)


def rows_of(output: str) -> dict[str, str]:
    """What a script printed, and what names it: objects of its document, what stands around them, other lines."""
    rows: dict[str, str] = {}
    for line in re.sub(r"\x1b\[[0-9;]*m", "", output).replace("\r", "").split("\n"):
        if not line.startswith("{"):
            rows |= {line: line.partition(",")[0]} if line.strip() else {}
            continue
        document, end = json.JSONDecoder().raw_decode(line)
        (name,) = document.keys() - {"succeeded", "errors"}
        items = document.pop(name)
        rows[json.dumps([document, bool(items)])] = line.partition(",")[0]
        rows |= {"]}" + line[end:].rstrip(): "]}" + line[end:].rstrip()} if items else {}
        rows |= {json.dumps(item, sort_keys=True): str(next(iter(item.values()))) for item in items}
    return rows


def drift(truth: Truth, script: str) -> list[Row]:
    runs: dict[Any, list[Ran]] = defaultdict(list)
    for ran in sorted(truth.of(script), key=lambda ran: (ran.at, ran.key)):
        if ran.state == "ok":
            runs[ran.machine, ran.script].append(ran)
    changes: list[Row] = []
    for before, now in [found[-2:] for found in runs.values() if len(found) > 1]:
        rows = [rows_of(before.output), rows_of(now.output)]
        gone = {key: row for key, row in rows[0].items() if key not in rows[1]}
        come = {key: row for key, row in rows[1].items() if key not in rows[0]}
        names = [Counter(side.values()) for side in (gone, come)]
        pairs = {name for name in names[0] if names[0][name] == names[1][name] == 1}
        changes += [(now.device, "changed", name) for name in pairs]
        for change, side in (("removed", gone), ("added", come)):
            changes += [(now.device, change, name) for name in side.values() if name not in pairs]
    return changes


def name_of(text: str) -> str:
    """What names a row: the first value of an object, else the text up to the first comma."""
    try:
        item = json.loads(text)
    except ValueError:
        item = {"succeeded": None}
    return text.partition(",")[0] if "succeeded" in item else str(next(iter(item.values())))


@pytest.mark.parametrize(
    "script", ["Get-LocalAdministrators.", "Get-InstalledSoftware.", "Get-ScheduledTasks.", "Get-Übersicht."]
)
def test_drift(truth: Truth, postgres: Any, files: Any, script: str) -> None:
    expected = sorted(drift(truth, script))
    assert len(expected) > 2
    sql = statement("drift").replace("Get-LocalAdministrators.", script)
    for connection in (postgres, files):
        found = []
        for row in ask(connection, sql):
            text = row["now"] if row["before"] == "None" else row["before"]
            found.append((row["computer_dns_name"], row["change"], name_of(text)))
        assert sorted(found) == expected


def test_older_rows_of_a_key_change_nothing(files: Any) -> None:
    """As a loader that appends has them: the same row twice, and one from before with the same last update."""
    before = {name: in_order(ask(files, statement(name))) for name in FILES}
    files.execute("BEGIN")
    try:
        for table, changes in (
            ("live_response_results", "'failed' AS result_status, NULL AS exit_code, NULL AS script_output"),
            ("machine_actions", "'Pending' AS status"),
        ):
            files.execute(f"CREATE TEMPORARY TABLE old AS SELECT * REPLACE ({changes}) FROM {table}")
            files.execute(f"INSERT INTO {table} SELECT * FROM {table}")
            files.execute(f"INSERT INTO {table} SELECT * FROM old")
            files.execute("DROP TABLE old")
        # What waits indeed is the same before and after.
        assert {name: in_order(ask(files, statement(name))) for name in FILES} == before
    finally:
        files.execute("ROLLBACK")


class TestPage:
    def test_it_names_every_file_by_its_question(self) -> None:
        named = re.findall(r"^\| (.+\?|.+) \| \[`(\w+)\.sql`\]\(\2\.sql\) \|$", PAGE, re.MULTILINE)
        assert {file: question for question, file in named} == {
            file: statement(file).partition("\n")[0].removeprefix("-- ") for file in FILES
        }

    def test_duckdb_has_all_columns_of_the_streams(self, files: Any) -> None:
        for stream in (LiveResponseResultsStream, MachineActionsStream):
            columns = [row[0] for row in files.execute(f"DESCRIBE {stream.name}").fetchall()]
            assert columns == list(stream.schema["properties"])

    def test_nothing_was_lost_between_the_file_and_the_table(self, files: Any, json_lines: Path) -> None:
        for stream in (LiveResponseResultsStream, MachineActionsStream):
            lines = (json_lines / f"{stream.name}.jsonl").read_text(encoding="utf-8").splitlines()
            assert files.execute(f"SELECT count(*) FROM {stream.name}").fetchone() == (len(lines),)

    def test_the_python_of_the_page_runs(self, json_lines: Path, tmp_path: Path) -> None:
        (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        (tmp_path / "output").symlink_to(json_lines)
        (tmp_path / "docs").symlink_to(ROOT / "docs")
        environment = {**os.environ, "PYTHONUTF8": "1"}
        shown = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout
        assert "Get-InstalledSoftware.ps1" in shown

    def test_the_report_is_made_as_the_page_says(self, json_lines: Path, tmp_path: Path) -> None:
        (command,) = re.findall(r"^python (-m scripts[.]report .*)$", PAGE, re.MULTILINE)
        (tmp_path / "output").symlink_to(json_lines)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *command.split()], cwd=tmp_path, env=environment, check=True)
        assert "Get-InstalledSoftware.ps1" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def test_three_files_take_commands_apart(self) -> None:
        assert "in the part `scripts` of three of the files" in PAGE
        assert [name for name in FILES if "scripts as (" in statement(name)] == [
            "coverage",
            "script_devices",
            "waiting_devices",
        ]

    def test_psql_runs_a_file(self, postgres: Any) -> None:
        psql = shutil.which("psql")
        if psql is None:
            pytest.skip("there is no psql")
        (command,) = re.findall(r"^psql .*$", PAGE, re.MULTILINE)
        parameters = postgres.info.get_parameters()
        url = f"postgresql:///{postgres.info.dbname}?" + "&".join(
            f"{name}={parameters[name]}" for name in ("host", "user") if name in parameters
        )
        shown = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Get-InstalledSoftware.ps1" in shown.stdout, shown.stderr
