"""Faults of the process, the ledger, the disk and the data, through the real command line and over real sockets.

Whatever happens, the output is what a loader can take: whole lines of strict JSON in UTF-8 that fit their schema. Only
the last line of a killed process may be cut off, and is dropped.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import jsonschema
import pytest

from defender_simulator import Rule, Simulator
from defender_simulator.fleet import command, result_body
from tap_defender_lr.quota import HOUR, MINUTE, Rate
from tap_defender_lr.quota.ledger import Ledger
from tap_defender_lr.quota.sqlite_store import SqliteStore
from tests.conftest import CLIENT_ID, NOON, TENANT_ID, Cli, World, action_id
from tests.evidence import add_file, files_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Process = subprocess.Popen[bytes]

on_unix_only = pytest.mark.skipif(sys.platform == "win32", reason="resource limits and /dev/full are of Unix")
UNLIMITED: dict[str, Any] = {"calls_per_minute": 100_000, "calls_per_hour": 100_000}
STREAMS = {
    "live_response_results": ("machine_action_id", "command_index"),
    "machine_actions": ("id",),
    "printed": ("machine_action_id", "command_index", "row_index"),
    "script_output_errors": ("stream_name", "machine_action_id", "command_index", "error_index"),
    "script_output_snapshots": ("stream_name", "machine_action_id", "command_index"),
}


def strict(line: bytes) -> dict[str, Any]:
    """A message as a loader reads it: UTF-8, and JSON without the NaN and Infinity that only Python knows."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    message: dict[str, Any] = json.loads(line.decode(), parse_constant=refuse)
    return message


@dataclass
class Loader:
    """What arrives at a target that keeps one row per key, over all runs, and the state with which the next begins."""

    rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = field(
        default_factory=lambda: {name: {} for name in STREAMS}
    )
    state: dict[str, Any] | None = None
    validators: dict[str, jsonschema.Draft202012Validator] = field(default_factory=dict)

    def load(self, output: bytes, *, cut: bool = False) -> None:
        *lines, rest = output.split(b"\n")
        assert cut or not rest
        for line in lines:
            message = strict(line)
            if message["type"] == "SCHEMA":
                self.validators[message["stream"]] = jsonschema.Draft202012Validator(message["schema"])
            elif message["type"] == "RECORD":
                stream, record = message["stream"], message["record"]
                self.validators[stream].validate(record)
                assert "" not in record.values()
                assert "\x00" not in json.dumps(record, ensure_ascii=False)
                self.rows[stream][tuple(record[key] for key in STREAMS[stream])] = record
            else:
                self.state = message["value"]

    @property
    def results(self) -> dict[int, dict[str, Any]]:
        """Results of first commands by the number of their action."""
        return {int(key[:8], 16): row for (key, index), row in self.rows["live_response_results"].items() if not index}


def start(cli: Cli, state: dict[str, Any] | None = None, *, name: str = "stderr", **settings: Any) -> Process:
    """Start the tap; its log goes to a file, so that nobody has to read it."""
    with (cli.folder / name).open("wb") as errors:
        return subprocess.Popen(
            cli.command(state=state, **settings),
            env=cli.environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
        )


def drain(process: Process) -> bytes:
    output, _ = process.communicate(timeout=110)
    return output


def log_of(cli: Cli, name: str = "stderr") -> str:
    return (cli.folder / name).read_text()


def warnings_in(log: str) -> list[str]:
    return [line for line in log.splitlines() if "| WARNING" in line and "above" not in line]


class TestKill:
    """SIGKILL at any point: nothing is lost, and few results are paid for again."""

    BATCH = 40
    """More than may be paid for again, so that one STATE at the end would not do."""
    MOST_PAID_AGAIN = 8 + 25
    POINTS = ("link", "bytes", "discovery", "records", "blob", "list", "bytes", "token")

    SCRIPT_STREAM: ClassVar[dict[str, Any]] = {
        "name": "printed",
        "script_name": "Get-State.ps1",
        "schema": {"properties": {"state": {"type": "string"}}},
        "records_start": "DATA",
    }

    @pytest.fixture
    def cli(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> Iterator[Cli]:
        with Simulator(world.tenant, **UNLIMITED) as simulator:
            cli = make_cli(simulator, script_streams=[self.SCRIPT_STREAM], **UNLIMITED)
            (tmp_path / "spool").mkdir()
            cli.environment["TMPDIR"] = str(tmp_path / "spool")
            yield cli

    @pytest.mark.slow
    def test_four_points(self, world: World, cli: Cli) -> None:
        self.kill_again_and_again(world, cli, ("link", "bytes", "list", "records"), random.Random(4))

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(10))
    def test_fifty_points(self, world: World, cli: Cli, seed: int) -> None:
        rng = random.Random(seed)
        self.kill_again_and_again(world, cli, rng.sample(self.POINTS, k=5), rng)

    def kill_again_and_again(self, world: World, cli: Cli, points: Any, rng: random.Random) -> None:
        loader = Loader()
        for point in points:
            size = self.add_batch(world, rng)
            cli.simulator.clear_log()
            amounts = {"bytes": size, "discovery": 0, "token": 0, "list": 0}
            output = self.run_until(cli, loader.state, point, rng.randint(0, amounts.get(point, self.BATCH - 1)))
            loader.load(output, cut=True)
            self.check_paid_again(cli)
        self.add_batch(world, rng)
        cli.simulator.clear_log()
        process = start(cli, loader.state)
        loader.load(drain(process))
        assert process.returncode == 0, log_of(cli)
        self.check_paid_again(cli)
        numbers = {int(action["id"][:8], 16) for action in world.tenant.actions}
        assert loader.results.keys() == numbers
        assert {key for (key,) in loader.rows["machine_actions"]} == {action_id(number) for number in numbers}
        for number, record in loader.results.items():
            assert record["result_status"] == "fetched"
            body = json.loads(world.tenant.results[action_id(number), 0].body)
            assert record["script_output"] == body["script_output"]
        # Each result was read into the script stream, too, at the price of the same call.
        assert {key for _, key, _ in loader.rows["script_output_snapshots"]} == {action_id(n) for n in numbers}
        assert list((cli.folder / "spool").iterdir()) == []

    def add_batch(self, world: World, rng: random.Random) -> int:
        """So many new results, one of them long; gives the bytes of their text."""
        begin, long = len(world.tenant.actions) + 1, rng.randrange(self.BATCH)
        for number in range(begin, begin + self.BATCH):
            # Ten minutes apart, since a bookmark that ran ahead by less than its overlap would do no harm.
            world.add(number, updated=NOON + 600 * number)
        text = "é\n" * rng.randint(100_000, 700_000)
        world.give_result(begin + long, 0, result_body("Get-State.ps1", 0, text))
        return len(text.encode())

    def run_until(self, cli: Cli, state: dict[str, Any] | None, point: str, amount: int) -> bytes:
        """Run the tap, kill it after so many bytes, records or requests of one kind, and give all that came out."""
        victims: list[Process] = []

        def kill(body: bytes) -> bytes:
            victims[0].kill()
            return body

        by_service = point not in {"bytes", "records"}
        cli.simulator.rules[:] = [Rule(point, after=amount, times=1, transform=kill)] if by_service else []
        process = start(cli, state)
        victims.append(process)
        assert process.stdout is not None
        output = b""
        if point == "bytes":
            while len(output) < amount:
                output += (some := process.stdout.read(min(amount - len(output), 50_000)))
                assert some, log_of(cli)
            process.kill()
        elif point == "records":
            while output.count(b'{"type":"RECORD"') <= amount:
                output += (some := process.stdout.readline())
                assert some, log_of(cli)
            process.kill()
        output += drain(process)
        assert process.returncode == -9, f"not killed at {point} {amount}: {log_of(cli)}"
        cli.simulator.rules.clear()
        return output

    def check_paid_again(self, cli: Cli) -> None:
        """Asked for in this run, and in an earlier one already."""
        log = cli.simulator.log
        # Before the list of this run, what the killed process had sent may still come in.
        begin = next((n for n, call in enumerate(log) if call.endpoint == "list"), len(log))
        asked = Counter((call.action_id, call.index) for call in log[begin:] if call.endpoint == "link")
        assert set(asked.values()) <= {1}
        self.asked: set[Any] = getattr(self, "asked", set())
        again = self.asked & asked.keys()
        assert len(again) <= self.MOST_PAID_AGAIN
        self.asked |= asked.keys()


@pytest.mark.slow
class TestProcessesOfOneApp:
    """They share one ledger, so the service never sees more calls than it allows, whoever is killed."""

    def run_together(
        self, cli: Cli, number: int, *, kill_at_link: int, **settings: Any
    ) -> tuple[list[Loader], list[str]]:
        """The processes' output and logs, without the first process: that one is killed."""
        processes: list[Process] = []

        def kill(body: bytes) -> bytes:
            processes[0].kill()
            return body

        cli.simulator.rules[:] = [
            Rule("link", after=kill_at_link, times=1, transform=kill),
            # So all of them have begun before any makes its first call, and end with the same minute.
            Rule("discovery", delay=2.0),
        ]
        processes += [start(cli, name=f"stderr-{n}", **settings) for n in range(number)]
        outputs = [drain(process) for process in processes]
        logs = [log_of(cli, f"stderr-{n}") for n in range(number)]
        assert [process.returncode for process in processes] == [-9] + [0] * (number - 1), logs
        loaders = [Loader() for _ in range(number)]
        for n, (loader, output) in enumerate(zip(loaders, outputs, strict=True)):
            loader.load(output, cut=n == 0)
        return loaders[1:], logs[1:]

    @pytest.mark.parametrize("number", [2, 4])
    def test_no_window_is_exceeded(self, world: World, make_cli: Callable[..., Cli], number: int) -> None:
        for action in range(1, 61):
            world.add(action)
        limit = 50
        with Simulator(world.tenant, calls_per_minute=limit) as simulator:
            # With a minute to run, a process stops instead of waiting a minute for the quota.
            cli = make_cli(simulator, calls_per_minute=limit, max_run_minutes=1)
            loaders, logs = self.run_together(cli, number, kill_at_link=15)
            self.check(simulator, limit)
            made = [call for call in simulator.log if call.accepted]
            # What was under way when the process was killed counts as made for a while.
            assert limit - 9 <= len(made) <= limit
        assert all("`max_run_minutes` is over" in log for log in logs)
        assert all(loader.state is not None for loader in loaders)
        assert sum(len(loader.results) for loader in loaders) >= limit - 9 - number - 16

    def test_a_minute_passes(self, world: World, make_cli: Callable[..., Cli]) -> None:
        for action in range(1, 15):
            world.add(action)
        limit = 25
        with Simulator(world.tenant, calls_per_minute=limit) as simulator:
            cli = make_cli(simulator, calls_per_minute=limit, max_concurrency=4)
            began = time.monotonic()
            loaders, _ = self.run_together(cli, 3, kill_at_link=6)
            assert 59 < time.monotonic() - began < 100
            self.check(simulator, limit)
        for loader in loaders:
            assert loader.results.keys() == set(range(1, 15))

    def check(self, simulator: Simulator, limit: int) -> None:
        assert simulator.worst_window(MINUTE) <= limit
        assert [call for call in simulator.log if call.status == 429] == []


class TestLedger:
    """A broken ledger is told of in one line, and the run goes on."""

    RATES = (Rate(100, MINUTE), Rate(1500, HOUR))

    def check(self, world: World, make_cli: Callable[..., Cli], *words: str, **settings: Any) -> None:
        for number in range(1, 13):
            world.add(number)
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator, **settings).run()
        assert run.code == 0, run.stderr
        assert len(run.records()) == 12
        warnings = warnings_in(run.stderr)
        assert len(warnings) == (1 if words else 0), run.stderr
        for word in words:
            assert word in warnings[0]
        assert "Traceback" not in run.stderr

    @pytest.mark.parametrize("content", [b"no database " * 1000, b"SQLite format 3\x00" + b"\xff" * 5000])
    def test_damaged(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path, content: bytes) -> None:
        (tmp_path / "quota.sqlite").write_bytes(content)
        self.check(world, make_cli, "quota.sqlite was damaged", "a new one is begun")
        assert (tmp_path / "quota.sqlite.broken").read_bytes() == content
        database = sqlite3.connect(tmp_path / "quota.sqlite")
        assert database.execute("SELECT count(*) FROM tap_defender_lr_calls").fetchone() == (13,)
        database.close()

    def test_damaged_in_the_middle(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
        """The head is whole, so it can be opened."""
        Ledger(SqliteStore(tmp_path / "quota.sqlite"), "a", self.RATES).close()
        content = bytearray((tmp_path / "quota.sqlite").read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        (tmp_path / "quota.sqlite").write_bytes(content)
        self.check(world, make_cli, "quota.sqlite was damaged")
        assert (tmp_path / "quota.sqlite.broken").read_bytes() == content

    def test_from_a_newer_version(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
        database = sqlite3.connect(tmp_path / "quota.sqlite")
        database.execute("PRAGMA user_version = 99")
        database.close()
        self.check(world, make_cli, "another version")

    def test_a_directory_in_its_place(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
        (tmp_path / "quota.sqlite").mkdir()
        self.check(world, make_cli, "cannot be used", "quota.sqlite", "Set `quota_store`")

    def test_a_directory_that_cannot_be_written(
        self, world: World, make_cli: Callable[..., Cli], tmp_path: Path
    ) -> None:
        folder = tmp_path / "read-only"
        folder.mkdir(mode=0o500)
        place = folder / "quota.sqlite"
        if os.access(folder, os.W_OK):  # root may write anywhere, but not there
            if not sys.platform.startswith("linux"):
                pytest.skip("no directory that this user cannot write to")
            self.check(world, make_cli, "cannot be used", "/proc/quota.sqlite", quota_store="/proc/quota.sqlite")
        else:
            self.check(world, make_cli, "cannot be used", str(place), quota_store=str(place))

    def test_the_clock_was_set_back_an_hour(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
        """Calls that seem to be made in the future hold nobody up for longer than a window."""
        account = f"{TENANT_ID}/{CLIENT_ID}"
        ahead = Ledger(SqliteStore(tmp_path / "quota.sqlite", clock=lambda: time.time() + HOUR), account, self.RATES)
        for _ in range(80):
            ahead.settle(ahead.acquire(lambda _: None))
        ahead.close()
        self.check(world, make_cli, max_run_minutes=1)


@pytest.mark.slow
@on_unix_only
class TestDiskFull:
    def run_with_limit(self, cli: Cli, limit: int, **arguments: Any) -> tuple[int, Loader, str]:
        """Run the tap while no file may grow above a limit, which is how a full disk looks from inside."""
        program = f"""import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
os.execv(sys.argv[1], sys.argv[1:])"""
        done = subprocess.run(
            [sys.executable, "-c", program, *cli.command(**arguments)],
            env=cli.environment,
            capture_output=True,
            timeout=110,
            check=False,
        )
        loader = Loader()
        loader.load(done.stdout)
        return done.returncode, loader, done.stderr.decode()

    def test_at_the_spool(self, world: World, make_cli: Callable[..., Cli]) -> None:
        for number in range(1, 13):
            world.add(number)
        world.give_result(5, 0, result_body("a.ps1", 0, "x" * 5_000_000))
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            code, loader, log = self.run_with_limit(cli, 1_000_000)
            assert code == 0, log
            assert "Traceback" not in log
            statuses = {number: record["result_status"] for number, record in loader.results.items()}
            assert statuses == {number: "failed" if number == 5 else "fetched" for number in range(1, 13)}
            assert "no room for a temporary file" in loader.results[5]["result_error"]
            simulator.clear_log()
            later = cli.run(state=loader.state)
        assert [(r["machine_action_id"], len(r["script_output"])) for r in later.records()] == [
            (action_id(5), 5_000_000)
        ]
        assert len(simulator.calls("link")) == 1

    def test_at_the_files(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
        for number in range(1, 13):
            world.add(number)
        add_file(world, 13, b"x" * 5_000_000)
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator, files_url=str(tmp_path / "evidence"))
            code, loader, log = self.run_with_limit(cli, 1_000_000)
            assert code == 1, log
            assert "nothing can be stored there" in log.splitlines()[-1]
            assert "File too large" in log.splitlines()[-1]
            assert "Traceback" not in log
            assert files_in(tmp_path / "evidence") == {}
            later = cli.run(state=loader.state)
        statuses = {number: record["result_status"] for number, record in loader.results.items()}
        assert statuses == dict.fromkeys(range(1, 13), "fetched")
        assert [(r["machine_action_id"], r["file_size"]) for r in later.records()] == [(action_id(13), 5_000_000)]

    @pytest.mark.parametrize("begun", [False, True])
    def test_at_the_ledger(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path, begun: bool) -> None:
        for number in range(1, 91):
            world.add(number)
        limit = 6_000
        if begun:
            ledger = Ledger(SqliteStore(tmp_path / "quota.sqlite"), "another", TestLedger.RATES)
            ledger.settle(ledger.acquire(lambda _: None))
            ledger.close()
            limit = (tmp_path / "quota.sqlite").stat().st_size + 1
        with Simulator(world.tenant) as simulator:
            code, loader, log = self.run_with_limit(make_cli(simulator), limit)
            assert simulator.worst_window(MINUTE) == 91
        assert code == 0, log
        assert loader.results.keys() == set(range(1, 91))
        assert len(warnings_in(log)) == 1
        assert "cannot be used" in warnings_in(log)[0]
        assert "Traceback" not in log

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is of Linux")
    def test_at_the_output(self, world: World, make_cli: Callable[..., Cli]) -> None:
        world.add(1)
        with Simulator(world.tenant) as simulator, open("/dev/full", "wb") as full:  # noqa: PTH123
            cli = make_cli(simulator)
            done = subprocess.run(
                cli.command(), env=cli.environment, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
            )
        log = done.stderr.decode()
        assert done.returncode == 1
        assert "Traceback" not in log
        assert "Exception ignored" not in log
        assert "The output cannot be written (No space left on device)" in log.splitlines()[-1]


#: JSON that no loader and no parser of Python can follow to its end.
DEEP = "[" * 10_000 + "]" * 10_000
CONTROLS = "\u202egnp.exe\u202c \u2066x\u2069 \x1b[31mred\x1b[0m \x07\x08\x0b\x0c\x1f\x7f\x85\u2028\u2029\ufeff\ufffe"


class TestDirt:
    def run(self, world: World, make_cli: Callable[..., Cli], *rules: Rule, **settings: Any) -> Loader:
        with Simulator(world.tenant) as simulator:
            simulator.rules[:] = rules
            cli = make_cli(simulator, **settings)
            process = start(cli)
            loader = Loader()
            loader.load(drain(process))
            log = log_of(cli)
        assert process.returncode == 0, log
        assert "Traceback" not in log
        for stream in ("live_response_results", "machine_actions"):
            assert len(loader.rows[stream]) == len(world.tenant.actions)
        return loader

    def test_in_results(self, world: World, make_cli: Callable[..., Cli]) -> None:
        def document(output: str) -> bytes:
            return result_body("a.ps1", 0, output)

        cases: list[tuple[bytes, dict[str, Any]]] = [
            (document("a\x00b\x00\x00c"), {"script_output": "abc"}),
            (b'{"script_output": "a\x00b", "exit_code": 1}', {"script_output": "ab", "exit_code": 1}),
            (document("\ud83d x \ude00"), {"script_output": "\ufffd x \ufffd"}),
            (document("\U0001f600"), {"script_output": "\U0001f600"}),
            (document(CONTROLS), {"script_output": CONTROLS}),
            (b'{"script_output": "caf\xe9 \xff\xc3("}', {"script_output": "caf\ufffd \ufffd\ufffd("}),
            (b"\xf0\x28\x8c\x28 no JSON", {"result_status": "unreadable", "script_output": "\ufffd(\ufffd( no JSON"}),
            (DEEP.encode(), {"result_status": "unreadable", "script_output": DEEP}),
            (b'{"script_output": "still there", "other": ' + DEEP.encode() + b"}", {}),
            (b'{"script_output": ' + DEEP.encode() + b"}", {}),
            (b'{"script_output": ' + b"[" * 970 + b"]" * 970 + b"}", {}),
            (b'{"script_output": "x", "exit_code": 9223372036854775808}', {"exit_code": None, "script_output": "x"}),
            (b'{"script_output": "x", "exit_code": ' + b"9" * 5000 + b"}", {"exit_code": None}),
            (b'{"script_output": "x", "exit_code": NaN}', {"exit_code": None, "script_output": "x"}),
            (b'{"script_output": "x", "exit_code": -Infinity}', {"exit_code": None, "script_output": "x"}),
            (b'{"script_output": [NaN, 1e999, {"a": "\\u0000"}], "exit_code": 0}', {"exit_code": 0}),
            (gzip.compress(document("\x00" * 1_000 + "end")), {"script_output": "end"}),
            (document("é" * 6_000), {"script_output": "é" * 5_000, "script_output_truncated": True}),
            (document("é" * 5_000), {"script_output": "é" * 5_000, "script_output_truncated": False}),
            (b"{" * 50_000, {"result_status": "unreadable", "script_output_truncated": True}),
        ]
        for number, (body, _) in enumerate(cases, 1):
            world.add(number, body=body)
        # `max_output_bytes` is small, so some of them are cut.
        loader = self.run(world, make_cli, max_output_bytes=10_000)
        for number, (body, expected) in enumerate(cases, 1):
            record = loader.results[number]
            assert record["result_size"] == len(body)
            if expected.get("script_output") == DEEP:
                expected = {"script_output": DEEP[:10_000], "script_output_truncated": True}  # noqa: PLW2901
            assert {key: record[key] for key in expected} == expected, number
            if record["result_status"] == "unreadable" or record["exit_code"] is None:
                assert record["result_error"] or b"exit_code" not in body
        assert "still there" in loader.results[9]["script_output"]

    def test_in_actions(self, world: World, make_cli: Callable[..., Cli]) -> None:
        """The list is sent as raw text, since no JSON writer makes such a document."""
        numbers = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", str(2**63), str(-(2**70)), "9" * 3000, "1" * 5000]
        for n, raw in enumerate(numbers, 1):
            entry = command(0, "RunScript", "Completed", {}, ended=NOON)
            entry["command"]["params"] = [{"key": "ScriptName", "value": f"@{n}@"}, {"key": raw[:9], "value": f"@{n}@"}]
            nested = {"a": [f"@{n}@", {"b": f"@{n}@"}]}
            world.add(n, unknown=f"@{n}@", errorHResult=f"@{n}@", relatedFileInfo=nested, commands=[entry])
        world.add(21, unknown="@deep@", relatedFileInfo={"deep": ["@deep@"]}, troubleshootInfo="@deep@")
        odd: dict[str, Any] = {"requestorComment": f"a\x00b@half@{CONTROLS}", "\x00x@half@": ["\x00"]}
        world.add(22, computerDnsName="\x00", **odd)
        world.add(23, title=["a", {"b": 1}], scope=5, externalID=False, cancellationComment={}, errorHResult=True)
        world.add(24, requestor="@bytes@")

        def spoil(body: bytes) -> bytes:
            for n, raw in enumerate(numbers, 1):
                body = body.replace(b'"@%d@"' % n, raw.encode())
            body = body.replace(b'"@deep@"', DEEP.encode())
            return body.replace(b"@half@", b"\\ud83d").replace(b"@bytes@", b"caf\xe9")

        loader = self.run(world, make_cli, Rule("list", transform=spoil))
        others = {number: r["result_error"] for number, r in loader.results.items() if r["result_status"] != "fetched"}
        assert others == {}
        actions = {int(key[:8], 16): row for (key,), row in loader.rows["machine_actions"].items()}
        for n, raw in enumerate(numbers, 1):
            # What is no number for everybody is null, or its digits as text.
            value = raw if raw[-1].isdigit() and "e" not in raw else None
            assert actions[n]["extra"] == {"unknown": value}
            assert actions[n]["related_file_info"] == {"a": [value, {"b": value}]}
            assert actions[n]["error_h_result"] is None
            assert loader.results[n]["command_params"] == {"ScriptName": value, raw[:9]: value}
        assert "nested more than" in json.dumps(actions[21]["extra"])
        assert (actions[22]["requestor_comment"], actions[22]["computer_dns_name"]) == (f"ab\ufffd{CONTROLS}", None)
        assert actions[22]["extra"] == {"x\ufffd": [""]}
        assert (actions[23]["title"], actions[23]["scope"], actions[23]["error_h_result"]) == (None, "5", None)
        assert actions[24]["requestor"] == "caf\ufffd"

    def test_an_action_dated_into_the_future_does_not_hide_later_ones(
        self, world: World, make_cli: Callable[..., Cli]
    ) -> None:
        world.add(1, lastUpdateDateTimeUtc="9999-12-31T23:59:59.9999999Z")
        world.add(2, lastUpdateDateTimeUtc="0001-01-01T00:00:00Z", creationDateTimeUtc="0001-01-01T00:00:00Z")
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            first = cli.run()
            world.add(3, updated=time.time(), created=time.time())
            second = cli.run(state=first.states[-1])
        numbers = [{int(r["machine_action_id"][:8], 16) for r in run.records()} for run in (first, second)]
        assert numbers == [{1, 2}, {3}], first.stderr + second.stderr

    @pytest.mark.slow
    def test_output_of_200_mb(self, world: World, make_cli: Callable[..., Cli]) -> None:
        text = "line of output\n" * (200_000_000 // 15)
        world.add(1, body=result_body("a.ps1", 7, text))
        world.add(2)
        loader = self.run(world, make_cli)
        record = loader.results[1]
        assert (record["result_status"], record["exit_code"]) == ("fetched", 7)
        assert record["result_size"] > 200_000_000
        assert record["script_output"] == text[: 10 * 1024 * 1024]
        assert record["script_output_truncated"]
        assert loader.results[2]["script_output"] == "state of 2\n"
