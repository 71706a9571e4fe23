"""The ledger in a real PostgreSQL: the same guarantees across hosts, whoever is killed and whatever is cut."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url

from defender_simulator import Rule, Simulator
from tap_defender_lr.errors import InterruptedRunError, QuotaStoreError
from tap_defender_lr.quota import HOUR, MINUTE, Rate, postgres_store
from tap_defender_lr.quota import ledger as ledger_module
from tap_defender_lr.quota.ledger import MAX_CALL_SECONDS, Ledger, Reservation
from tap_defender_lr.quota.postgres_store import PostgresStore
from tests.meltano_project import Database, new_database
from tests.relay import Relay
from tests.tap_process import Loader, drain, log_of, on_unix_only, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_defender_lr.quota.tables import Account
    from tests.conftest import Cli, World

pytestmark = [pytest.mark.slow, on_unix_only]
ACCOUNT = "tenant/app"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, figures are waited for."""
    monkeypatch.setattr(ledger_module, "_LOOK_SECONDS", 60.0)


@pytest.fixture(scope="module")
def database() -> Database:
    return new_database()


@pytest.fixture
def relay(database: Database) -> Iterator[Relay]:
    folder = make_url(database.uri).query["host"]
    with Relay(f"{folder}/.s.PGSQL.5432") as relay:
        yield relay


def through(relay: Relay, database: Database) -> str:
    """The URL of the database at the other end of the wire."""
    name = make_url(database.uri).database
    return f"postgresql://postgres@127.0.0.1:{relay.port}/{name}"


def fail(_seconds: float) -> None:
    raise AssertionError("nothing is there to wait for")


def store(url: str, pause: Callable[[float], None] = fail, patience: float = 60.0) -> PostgresStore:
    return PostgresStore(make_url(url).set(drivername="postgresql+psycopg"), pause=pause, patience=patience)


@pytest.fixture
def ledgers(database: Database) -> Iterator[Callable[..., Ledger]]:
    made: list[Ledger] = []

    def make(*rates: Rate, account: str = ACCOUNT) -> Ledger:
        made.append(Ledger(store(database.uri), account, rates or (Rate(100, MINUTE), Rate(1500, HOUR))))
        return made[-1]

    yield make
    for ledger in made:
        ledger.close()
    database.execute("TRUNCATE tap_defender_lr_calls, tap_defender_lr_gates")


class TestRules:
    """What `test_quota` shows of the rules holds here, too, where the clock is the database's."""

    def test_a_window_is_never_exceeded(self, database: Database, ledgers: Callable[..., Ledger]) -> None:
        ledger = ledgers(Rate(5, 0.5), Rate(8, 2.0))
        times = []
        for _ in range(12):
            ledger.settle(ledger.acquire(time.sleep))
            times += [last for (last,) in database.query("SELECT max(until) FROM tap_defender_lr_calls")]
        for calls, seconds in ((5, 0.5), (8, 2.0)):
            assert all(last - first >= seconds for first, last in zip(times, times[calls:], strict=False))

    def test_hosts_share_what_they_spend(self, ledgers: Callable[..., Ledger]) -> None:
        mine, theirs = ledgers(Rate(2, MINUTE)), ledgers(Rate(2, MINUTE))
        mine.settle(mine.acquire(fail))
        assert isinstance(theirs.reserve(), Reservation)
        assert mine.reserve() == pytest.approx(MINUTE, abs=5)
        assert mine.left() == theirs.left() == {MINUTE: 0}
        assert theirs.forecast(2) == pytest.approx(MINUTE, abs=5)

    def test_tenants_do_not_share_theirs(self, ledgers: Callable[..., Ledger]) -> None:
        one, other = ledgers(Rate(1, MINUTE)), ledgers(Rate(1, MINUTE), account="another")
        assert isinstance(one.reserve(), Reservation)
        assert isinstance(other.reserve(), Reservation)
        assert isinstance(one.reserve(), float)

    def test_a_tenant_whose_transaction_hangs_holds_up_no_other(
        self, database: Database, ledgers: Callable[..., Ledger]
    ) -> None:
        one, other = ledgers(), ledgers(account="another")
        one.reserve()
        hanging = store(database.uri)
        found = hanging.transact(ACCOUNT, lambda _: other.reserve())
        assert isinstance(found, Reservation)
        hanging.close()

    def test_a_429_closes_the_gate_for_everybody(self, ledgers: Callable[..., Ledger]) -> None:
        mine, theirs = ledgers(), ledgers()
        mine.settle(mine.acquire(fail), throttled_for=800.0)
        assert theirs.reserve() == pytest.approx(800.0, abs=100)
        assert mine.reserve() == pytest.approx(800.0, abs=100)

    def test_one_probe_opens_it_and_a_late_one_does_not(
        self, database: Database, ledgers: Callable[..., Ledger]
    ) -> None:
        mine, theirs = ledgers(), ledgers()
        mine.settle(mine.acquire(fail), throttled_for=0.0)
        late = mine.reserve()
        assert isinstance(late, Reservation)
        assert late.probe
        assert isinstance(theirs.reserve(), float)
        # It took so long that another one was sent, which the service throttled.
        database.execute("UPDATE tap_defender_lr_gates SET probe_until = 1")
        probe = theirs.reserve()
        assert isinstance(probe, Reservation)
        mine.settle(late)
        assert isinstance(mine.reserve(), float)
        theirs.settle(probe)
        assert isinstance(mine.reserve(), Reservation)

    def test_a_clock_that_is_set_back_costs_one_window_at_most(
        self, database: Database, ledgers: Callable[..., Ledger]
    ) -> None:
        ledger = ledgers(Rate(1, MINUTE))
        ledger.settle(ledger.acquire(fail))
        database.execute("UPDATE tap_defender_lr_calls SET until = until + 7200")
        outcome = ledgers(Rate(1, MINUTE)).reserve()
        assert isinstance(outcome, float)
        assert outcome <= MINUTE + MAX_CALL_SECONDS

    def test_two_that_meet_a_tenant_for_the_first_time(
        self, database: Database, ledgers: Callable[..., Ledger], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The second waits for the first, and then finds what the first has written."""
        other, first = ledgers(account="new"), store(database.uri)
        with ThreadPoolExecutor(1) as pool:

            def meanwhile(_account: Account) -> Future[Reservation | float]:
                found = pool.submit(other.reserve)
                while database.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == []:
                    assert not found.done()
                return found

            assert isinstance(first.transact("new", meanwhile).result(), Reservation)
        first.close()
        assert caplog.messages == []

    def test_processes_that_begin_together_make_the_tables_once(self) -> None:
        program = textwrap.dedent("""
            import sys, time
            from tap_defender_lr.quota import Rate
            from tap_defender_lr.quota.ledger import Ledger, Reservation
            from tap_defender_lr.quota.setting import open_store
            ledger = Ledger(open_store(sys.argv[1], pause=time.sleep), "a", (Rate(50, 3600.0),))
            print(sum(isinstance(ledger.reserve(), Reservation) for _ in range(40)))
        """)
        command = [sys.executable, "-c", program, new_database().uri]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        done = [process.communicate() for process in [subprocess.Popen(command, **pipes) for _ in range(4)]]
        assert [errors for _, errors in done] == [""] * 4
        assert sum(int(output) for output, _ in done) == 50


class TestAway:
    def test_it_is_waited_for(self, database: Database, relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
        relay.closed = True
        pauses = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            relay.closed = len(pauses) < 3

        caplog.set_level("INFO")
        ledger = Ledger(store(through(relay, database), pause), "waiting", (Rate(2, MINUTE),))
        reservation = ledger.acquire(fail)
        relay.closed = True
        ledger.settle(reservation)
        ledger.close()
        assert len(pauses) == 4
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2
        assert "No call is made without it" in caplog.messages[0]
        assert caplog.messages[1] == "The ledger of calls answers again."

    def test_in_the_end_the_run_stops(self, database: Database, relay: Relay) -> None:
        relay.closed = True
        ledger = Ledger(store(through(relay, database), patience=0.0), ACCOUNT, (Rate(2, MINUTE),))
        with pytest.raises(QuotaStoreError, match=r"^`quota_store`: the database cannot be reached \(.*\)\. Without"):
            ledger.acquire(fail)
        assert ledger.left() is None
        assert ledger.forecast(3) == MINUTE
        ledger.close()

    def test_nobody_waits_for_what_only_people_read(self, database: Database, relay: Relay) -> None:
        ledger = Ledger(store(through(relay, database)), "figures", (Rate(2, MINUTE),))
        ledger.settle(ledger.acquire(fail))
        assert ledger.left() == {MINUTE: 1}
        relay.closed = True
        assert ledger.left() == {MINUTE: 1}
        assert 0 < ledger.forecast(2) <= MINUTE
        ledger.close()

    def test_a_transaction_that_hangs_is_cut_off(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        """A frozen server whose host still answers ends no wait, nor does a pooler that is told to hold everybody."""
        monkeypatch.setattr(postgres_store, "HANGING_SECONDS", 1.0)
        naps, pauses = ["SELECT pg_sleep(12)"], list[float]()

        def nap(account: Account) -> None:
            if naps:
                account.database.exec_driver_sql(naps.pop())

        hanging = store(database.uri, pauses.append)
        hanging.transact("hanging", lambda _: None)
        pauses.clear()
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(hanging.transact, "hanging", nap)
            while not pauses:
                assert time.monotonic() - began < 10
                time.sleep(0.05)
            monkeypatch.undo()
            found.result()
        hanging.close()

    def test_a_figure_for_the_log_does_not_wait(
        self, ledgers: Callable[..., Ledger], database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The thread that writes the log is the one that hears signals."""
        monkeypatch.undo()
        ledger, hanging = ledgers(Rate(2, MINUTE)), store(database.uri)
        ledger.settle(ledger.acquire(fail))
        assert ledger.left() == {MINUTE: 1}

        def look(_account: Account) -> float:
            began = time.monotonic()
            assert ledger.left() == {MINUTE: 1}
            return time.monotonic() - began

        assert hanging.transact(ACCOUNT, look) < 9
        hanging.close()
        assert ledger.left() == {MINUTE: 1}

    def test_a_signal_ends_the_wait_for_another_thread(self, database: Database) -> None:
        def stop(_seconds: float) -> None:
            raise InterruptedRunError

        busy = store(database.uri, stop)
        with ThreadPoolExecutor(1) as pool:

            def wait(_account: Account) -> None:
                with pytest.raises(InterruptedRunError):
                    pool.submit(busy.transact, ACCOUNT, lambda _: None).result(9)

            busy.transact(ACCOUNT, wait)
        busy.close()

    def test_after_a_failover_another_connection_is_made(self) -> None:
        """The old one may still lead to a server that answers, but does not write any more."""
        database, pauses = new_database(), list[float]()

        def fail_over(seconds: float) -> None:
            assert not pauses
            pauses.append(seconds)
            database.execute(f"SET TRANSACTION READ WRITE; {read_only} = off")

        read_only = f"ALTER DATABASE {make_url(database.uri).database} SET default_transaction_read_only"
        moved = store(database.uri, fail_over)
        moved.transact(ACCOUNT, lambda _: None)
        moved.close()
        database.execute(f"{read_only} = on")
        moved.transact(ACCOUNT, lambda _: None)
        moved.close()
        assert pauses == [1.0]

    def test_a_role_without_rights_is_told_at_once(self, database: Database) -> None:
        database.execute("CREATE ROLE nobody LOGIN; CREATE SCHEMA closed")
        url = make_url(database.uri).set(username="nobody").render_as_string(hide_password=False)
        ledger = Ledger(store(f"{url}&options=-csearch_path%3Dclosed"), ACCOUNT, (Rate(2, MINUTE),))
        with pytest.raises(
            QuotaStoreError, match=r"refuses \(.*no schema has been selected to create in\)\. The role must be allowed"
        ):
            ledger.reserve()
        ledger.close()

    def test_tables_that_somebody_else_made_are_refused(self) -> None:
        """Restored without its defaults, say: each booking would be refused for ever."""
        database = new_database()
        ledger = Ledger(store(database.uri), ACCOUNT, [Rate(100, MINUTE)])
        assert isinstance(ledger.reserve(), Reservation)
        database.execute("ALTER TABLE tap_defender_lr_calls ALTER COLUMN id DROP DEFAULT")
        with pytest.raises(QuotaStoreError, match=r"refuses \(null value.*if others made them, drop them"):
            ledger.reserve()
        ledger.close()

    def test_a_run_that_never_reaches_it_says_so_without_the_password(
        self, world: World, make_cli: Callable[..., Cli], relay: Relay
    ) -> None:
        world.add(1)
        relay.closed = True
        with Simulator(world.tenant) as simulator:
            url = f"postgresql://tap:s3cret-of-the-ledger@127.0.0.1:{relay.port}/ledger"
            run = make_cli(simulator, quota_store=url).run()
            assert simulator.calls("list") == []
        assert run.code == 1
        assert "`quota_store`: the database cannot be reached (" in run.stderr.splitlines()[-1]
        assert "0 calls spent.\n" in run.stderr
        assert "Traceback" not in run.stderr
        assert "s3cret" not in run.stderr + run.stdout


class TestProcesses:
    """Four taps of one app, on hosts of their own as far as the ledger is concerned; the first is killed."""

    LIMIT = 25
    CUT_SECONDS = 10.0

    @pytest.mark.parametrize("cut", ["closed", "silent"])
    def test_no_window_is_exceeded(
        self, world: World, make_cli: Callable[..., Cli], database: Database, relay: Relay, cut: str
    ) -> None:
        for action in range(1, 10):
            world.add(action)
        processes: list[subprocess.Popen[bytes]] = []
        timers: list[threading.Timer] = []

        def kill(body: bytes) -> bytes:
            processes[0].kill()
            return body

        def cut_the_wire(body: bytes) -> bytes:
            setattr(relay, cut, True)
            timers.append(threading.Timer(self.CUT_SECONDS, setattr, (relay, cut, False)))
            timers[0].start()
            return body

        with Simulator(world.tenant, calls_per_minute=self.LIMIT) as simulator:
            cli = make_cli(
                simulator,
                calls_per_minute=self.LIMIT,
                max_concurrency=2,
                quota_store=through(relay, database),
            )
            cli.environment["PYTHONWARNINGS"] = "always::ResourceWarning"
            simulator.rules[:] = [
                Rule("link", after=5, times=1, transform=kill),
                Rule("link", after=9, times=1, transform=cut_the_wire),
                Rule("discovery", delay=2.0),  # so all have begun before any makes its first call
            ]
            processes += [start(cli, name=f"stderr-{n}") for n in range(4)]
            outputs = [drain(process) for process in processes]
            logs = [log_of(cli, f"stderr-{n}") for n in range(4)]
            assert [process.returncode for process in processes] == [-9, 0, 0, 0], logs
            assert simulator.worst_window(MINUTE) <= self.LIMIT
            assert [call for call in simulator.log if call.status == 429] == []
        assert timers
        for output in outputs[1:]:
            loader = Loader()
            loader.load(output)
            assert loader.results.keys() == set(range(1, 10))
        if cut == "closed":
            # 13 calls are made and at most 6 more booked when the wire is cut, so somebody needs the ledger at once.
            # Who is done, or waits for the next minute, may see nothing of it.
            cut_off = [log for log in logs[1:] if "No call is made without it" in log]
            assert cut_off, logs
            assert all("The ledger of calls answers again." in log for log in cut_off), logs
        assert all(re.search(r"\d+ calls spent; \d+ left this minute", log) for log in logs[1:])
        assert not [log for log in logs if "ResourceWarning" in log]
