"""What holds when the disk fails: the ledger on it is broken or cannot be written, or there is no room."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Simulator
from defender_simulator.fleet import result_body
from tap_defender_lr.quota import HOUR, MINUTE, Rate
from tap_defender_lr.quota.ledger import Ledger
from tap_defender_lr.quota.sqlite_store import SqliteStore
from tests.conftest import CLIENT_ID, TENANT_ID, Cli, World, action_id
from tests.evidence import add_file, files_in
from tests.tap_process import Loader, on_unix_only

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def warnings_in(log: str) -> list[str]:
    return [line for line in log.splitlines() if "| WARNING" in line and "above" not in line]


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
