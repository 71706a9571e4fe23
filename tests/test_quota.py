"""The ledger, with a clock that only moves when somebody waits."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_defender_lr.errors import QuotaStoreError
from tap_defender_lr.quota import HOUR, MINUTE, Rate, forecast
from tap_defender_lr.quota import ledger as ledger_module
from tap_defender_lr.quota.ledger import MAX_CALL_SECONDS, Ledger, Reservation
from tap_defender_lr.quota.sqlite_store import SqliteStore
from tap_defender_lr.run import Run
from tap_defender_lr.settings import JSON_SCHEMA, Settings

if TYPE_CHECKING:
    from pathlib import Path

RATES = (Rate(100, MINUTE), Rate(1500, HOUR))


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, figures are waited for."""
    monkeypatch.setattr(ledger_module, "_LOOK_SECONDS", 60.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def call(ledger: Ledger, clock: Clock) -> float:
    ledger.settle(ledger.acquire(clock.wait))
    return clock.now


def test_calls_go_out_as_early_as_both_windows_allow(clock: Clock) -> None:
    ledger = Ledger(SqliteStore(None, clock=clock), "a", RATES)
    start = clock.now
    after = [call(ledger, clock) - start for _ in range(3001)]
    expected = {100: 0, 101: 60, 200: 60, 201: 120, 1500: 840, 1501: 3600, 1600: 3600, 1601: 3660, 3001: 7200}
    assert {number: after[number - 1] for number in expected} == pytest.approx(expected, abs=0.001)


@given(st.lists(st.floats(0, 20), max_size=80))
def test_no_window_is_ever_exceeded(pauses: list[float]) -> None:
    clock = Clock()
    rates = (Rate(3, 10.0), Rate(8, 60.0))
    ledger = Ledger(SqliteStore(None, clock=clock), "a", rates)
    times: list[float] = []
    for pause in pauses:
        clock.now += pause
        times.append(call(ledger, clock))
    for rate in rates:
        for first, last in zip(times, times[rate.calls :], strict=False):
            assert last - first >= rate.seconds - 1e-6


def test_a_call_under_way_counts_as_made_at_the_latest_moment_possible(clock: Clock) -> None:
    """So a slow call cannot reach the service later than the ledger thinks; a killed one only frees its slot later."""
    ledger = Ledger(SqliteStore(None, clock=clock), "a", (Rate(1, MINUTE),))
    start = clock.now
    assert isinstance(ledger.reserve(), Reservation)
    # It may be settled at any time, so nobody is told to wait until then.
    assert ledger.reserve() == pytest.approx(MINUTE)
    ledger.acquire(clock.wait)
    assert clock.now - start == pytest.approx(MAX_CALL_SECONDS + MINUTE)


def test_each_managed_identity_has_a_quota_of_its_own(tmp_path: Path) -> None:
    common = {"tenant_id": "T", "auth_method": "managed_identity", "quota_store": str(tmp_path / "quota.sqlite")}
    defaults = {name: about.get("default") for name, about in JSON_SCHEMA["properties"].items()}
    one, other = (
        Run(Settings.from_config({**defaults, **common, "managed_identity_client_id": name}), list).ledger
        for name in ("a", "b")
    )
    one.settle(one.acquire(lambda _: None))
    assert (one.left(), other.left()) == ({MINUTE: 99, HOUR: 1499}, {MINUTE: 100, HOUR: 1500})


def test_accounts_do_not_share_their_quota(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "quota.sqlite"
    one, other = (Ledger(SqliteStore(file, clock=clock), account, (Rate(1, MINUTE),)) for account in ("a", "b"))
    assert isinstance(one.reserve(), Reservation)
    assert isinstance(other.reserve(), Reservation)
    assert isinstance(one.reserve(), float)
    one.close()
    other.close()


def test_a_later_run_knows_the_calls_of_an_earlier_one(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "deep" / "folder" / "quota.sqlite"
    first = Ledger(SqliteStore(file, clock=clock), "a", (Rate(2, MINUTE),))
    call(first, clock)
    call(first, clock)
    first.close()
    second = Ledger(SqliteStore(file, clock=clock), "a", (Rate(2, MINUTE),))
    assert second.reserve() == pytest.approx(MINUTE)
    assert second.left() == {MINUTE: 0}
    second.close()


def test_threads_share_one_ledger(tmp_path: Path) -> None:
    ledger = Ledger(SqliteStore(tmp_path / "quota.sqlite"), "a", (Rate(50, MINUTE),))
    granted: list[Reservation | float] = []
    threads = [threading.Thread(target=lambda: granted.extend(ledger.reserve() for _ in range(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, Reservation) for outcome in granted) == 50
    ledger.close()


def test_processes_share_one_file(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import pathlib, sys
        from tap_defender_lr.quota.ledger import Ledger, Reservation
        from tap_defender_lr.quota import Rate
        from tap_defender_lr.quota.sqlite_store import SqliteStore
        ledger = Ledger(SqliteStore(pathlib.Path(sys.argv[1])), "a", (Rate(50, 3600.0),))
        print(sum(isinstance(ledger.reserve(), Reservation) for _ in range(40)))
    """)
    command = [sys.executable, "-c", program, str(tmp_path / "quota.sqlite")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert sum(int(process.communicate()[0]) for process in running) == 50


class TestGate:
    def test_a_429_closes_the_gate_for_everybody(self, tmp_path: Path, clock: Clock) -> None:
        file = tmp_path / "quota.sqlite"
        mine, theirs = (Ledger(SqliteStore(file, clock=clock), "a", RATES) for _ in range(2))
        mine.settle(mine.acquire(clock.wait), throttled_for=8.0)
        assert theirs.reserve() == pytest.approx(8.0)
        mine.close()
        theirs.close()

    def test_a_single_call_finds_out_whether_it_is_open_again(self, clock: Clock) -> None:
        ledger = Ledger(SqliteStore(None, clock=clock), "a", RATES)
        ledger.settle(ledger.acquire(clock.wait), throttled_for=8.0)
        clock.now += 8
        probe = ledger.reserve()
        assert isinstance(probe, Reservation)
        assert probe.probe
        assert isinstance(ledger.reserve(), float)  # the others wait for its answer
        ledger.settle(probe)
        assert isinstance(ledger.reserve(), Reservation)

    def test_a_call_that_was_under_way_before_does_not_open_it(self, clock: Clock) -> None:
        ledger = Ledger(SqliteStore(None, clock=clock), "a", RATES)
        earlier, throttled = ledger.acquire(clock.wait), ledger.acquire(clock.wait)
        ledger.settle(throttled, throttled_for=30.0)
        ledger.settle(earlier)
        assert ledger.reserve() == pytest.approx(30.0)

    def test_a_probe_that_is_throttled_closes_it_again(self, clock: Clock) -> None:
        ledger = Ledger(SqliteStore(None, clock=clock), "a", RATES)
        ledger.settle(ledger.acquire(clock.wait), throttled_for=8.0)
        ledger.settle(ledger.acquire(clock.wait), throttled_for=30.0)
        assert ledger.reserve() == pytest.approx(30.0)

    def test_a_probe_without_an_answer_leaves_the_next_one_to_find_out(self, clock: Clock) -> None:
        ledger = Ledger(SqliteStore(None, clock=clock), "a", RATES)
        ledger.settle(ledger.acquire(clock.wait), throttled_for=8.0)
        ledger.settle(ledger.acquire(clock.wait), answered=False)
        again = ledger.reserve()
        assert isinstance(again, Reservation)
        assert again.probe

    def test_a_probe_that_was_killed_is_replaced_in_the_end(self, clock: Clock) -> None:
        ledger = Ledger(SqliteStore(None, clock=clock), "a", RATES)
        ledger.settle(ledger.acquire(clock.wait), throttled_for=8.0)
        ledger.acquire(clock.wait)
        start = clock.now
        assert ledger.acquire(clock.wait).probe
        assert clock.now - start == pytest.approx(MAX_CALL_SECONDS, abs=1)


class TestBrokenLedger:
    def test_a_damaged_file_is_replaced_with_a_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        file = tmp_path / "quota.sqlite"
        file.write_bytes(b"this is no database, whatever its name says" * 100)
        ledger = Ledger(SqliteStore(file), "a", RATES)
        assert isinstance(ledger.reserve(), Reservation)
        assert "damaged" in caplog.text
        assert (tmp_path / "quota.sqlite.broken").exists()
        ledger.close()
        assert sqlite3.connect(file).execute("SELECT count(*) FROM tap_defender_lr_calls").fetchone() == (1,)

    def test_a_file_of_a_newer_version_is_replaced_with_a_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "quota.sqlite"
        database = sqlite3.connect(file)
        database.execute("PRAGMA user_version = 99")
        database.close()
        Ledger(SqliteStore(file), "a", RATES).close()
        assert "another version" in caplog.text

    def test_a_place_that_cannot_be_written_is_done_without(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("")
        ledger = Ledger(SqliteStore(tmp_path / "file" / "quota.sqlite"), "a", RATES)
        assert isinstance(ledger.reserve(), Reservation)
        assert "cannot be used" in caplog.text
        ledger.close()

    def test_a_file_that_fails_later_is_done_without_and_its_calls_are_kept(
        self, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = SqliteStore(tmp_path / "quota.sqlite", clock=clock)
        ledger = Ledger(store, "a", (Rate(3, MINUTE),))
        call(ledger, clock)
        reservation = ledger.acquire(clock.wait)
        with store._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only = ON")
        ledger.settle(reservation)
        assert "cannot be used" in caplog.text
        assert ledger.left() == {MINUTE: 1}
        ledger.close()

    @pytest.mark.parametrize("begin", [0, 4096])
    def test_a_file_that_is_damaged_later_is_done_without(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, begin: int
    ) -> None:
        file = tmp_path / "quota.sqlite"
        ledger = Ledger(SqliteStore(file), "a", RATES)
        content = bytearray(file.read_bytes())
        content[27] += 1  # so SQLite looks at the file again
        content[begin:] = b"\xff" * (len(content) - begin)
        file.write_bytes(content)
        assert isinstance(ledger.reserve(), Reservation)
        assert "cannot be used" in caplog.text
        assert (ledger.left() or {})[MINUTE] == 99
        ledger.close()

    @pytest.mark.parametrize("name", ["config.json", "inventory.sqlite"])
    def test_a_file_of_somebody_else_is_left_alone(self, tmp_path: Path, name: str) -> None:
        file = tmp_path / name
        if file.suffix == ".json":
            file.write_text('{"client_secret": "x"}', encoding="utf-8")
        else:
            with contextlib.closing(sqlite3.connect(file)) as database:
                database.execute("CREATE TABLE devices (id)")
                database.execute("PRAGMA user_version = 7")
        content = file.read_bytes()
        with pytest.raises(QuotaStoreError, match=rf"the file .*{name} is no ledger of calls\. It is left as it is"):
            SqliteStore(file)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert file.read_bytes() == content

    @pytest.mark.parametrize("jump", [-HOUR, -24 * HOUR, -30])
    def test_a_clock_that_is_set_back_costs_one_window_at_most(self, clock: Clock, jump: float) -> None:
        ledger = Ledger(SqliteStore(None, clock=clock), "a", (Rate(1, MINUTE),))
        call(ledger, clock)
        clock.now += jump
        start = clock.now
        ledger.acquire(clock.wait)
        assert clock.now - start <= MINUTE + MAX_CALL_SECONDS
        assert clock.now - start >= min(MINUTE, -jump)


@pytest.mark.parametrize(
    ("calls", "seconds"),
    [(0, 0), (1, 0), (100, 0), (101, 60), (1500, 840), (1501, 3600), (3000, 4440), (10_000, 22140)],
)
def test_forecast_is_the_optimum(calls: int, seconds: float) -> None:
    assert forecast([], calls, 1000.0, RATES) == seconds


def test_forecast_counts_what_is_already_spent(clock: Clock) -> None:
    ledger = Ledger(SqliteStore(None, clock=clock), "a", RATES)
    for _ in range(100):
        call(ledger, clock)
    clock.now += 20
    assert ledger.forecast(1) == pytest.approx(40)
    assert ledger.left() == {MINUTE: 0, HOUR: 1400}
