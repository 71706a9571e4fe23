"""docs/many-tenants.md: twenty tenants in the hands of a real Dagster, a real Meltano and a real PostgreSQL.

Two of them fail at first: one has a wrong secret, the service of the other goes down in the middle of its first run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from many_tenants import turns

from defender_simulator import Rule, throttled
from tests.many_tenants import PASSWORD, Customers, Installation, wait_until
from tests.meltano_project import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = blocks("docs/many-tenants.md")
SQL = blocks("docs/many-tenants.md", "sql")
STATE_ID = "prod:tap-defender-lr-to-target-postgres"
COUNT, PARALLEL = 20, 4
DOWN, REFUSED, LATE = "customer_01", "customer_02", f"customer_{COUNT + 1:02}"
EXAMINED = "customer_04"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the page is written for a POSIX shell")]


def test_every_command_of_the_page_is_run_below() -> None:
    assert {heading: len(found) for heading, found in PAGE.items()} == {
        "From an empty folder to three tenants": 3,
        "Run it": 3,
        "How it stands": 2,
        "A tenant comes, a tenant goes": 2,
    }
    assert {heading: len(found) for heading, found in SQL.items()} == {
        "How it stands": 1,
        "A tenant comes, a tenant goes": 1,
    }


def for_customers(command: str, *names: str) -> str:
    """The page's command for other tenants than those of the page."""
    for name, written in zip(names, ("contoso", "fabrikam"), strict=False):
        command = command.replace(written, name)
    return command


def minutes_between_turns(names: Iterable[str]) -> int:
    """So many that no tenant has its second turn within the next hour."""
    now = datetime.now(timezone.utc)
    end = now.timestamp() + 3600
    return next(
        minutes
        for minutes in range(200, 24 * 60)
        if all(turns.newest_turn(name, now, minutes) + 60 * minutes > end for name in names)
    )


class Day:
    """What was seen at each step; the tests below look at it."""

    def __init__(self, installation: Installation, customers: Customers) -> None:
        self.installation = installation
        self.customers = customers
        self.all = customers.all
        down = customers.add(1, actions=8)
        # The newest six, so that there are five in a row whichever call is the first to arrive.
        for action in down.world.tenant.actions[2:]:
            down.simulator.rules.append(Rule("link", 500, action_id=action["id"]))
        for number in range(2, COUNT + 1):
            customers.add(number, actions=3)
        self.every_minutes = minutes_between_turns([*self.all, LATE])
        self.first_overview: dict[str, dict[str, Any]] = {}
        self.runs: list[dict[str, Any]] = []
        self.second_overview: dict[str, dict[str, Any]] = {}
        self.said: dict[str, str] = {}
        self.first_links = self.examination = 0
        self.checked: list[float] = []

    def list_tenants(self) -> None:
        self.installation.list_tenants(
            self.customers,
            wrong=REFUSED,
            every_minutes=self.every_minutes,
            stale_after_hours=24,
            retries=1,
            first_wait_seconds=1,
        )

    def overview(self) -> dict[str, dict[str, Any]]:
        statement = SQL["How it stands"][0]
        columns = re.sub(r"\s", "", statement[len("select ") : statement.index("from")]).split(",")
        rows = self.installation.data.query(statement)
        return {row[0]: dict(zip(columns, row, strict=True)) for row in rows}

    def begin(self) -> None:
        """From the empty folder to a daemon that can start."""
        install, export, prepare = PAGE["From an empty folder to three tenants"]
        lines = install.splitlines()
        assert lines[0].startswith("git clone ")
        assert lines[5].endswith(" -r ../tap-defender-lr/requirements/orchestration.txt")
        self.installation.install(lines[1])
        self.installation.run(f"UV_COMPILE_BYTECODE=1 {lines[6]}")
        self.list_tenants()
        names = re.findall(r"export (\w+)=", export)
        values = [str(self.installation.home), *map(self.installation.url, self.installation.databases), str(PARALLEL)]
        self.installation.environment |= dict(zip(names, values, strict=False))
        self.said["prepare"] = self.installation.run(prepare.splitlines()[0])
        self.said["doctor"] = self.installation.run(for_customers(prepare.splitlines()[1], EXAMINED))
        self.examination = len([call for call in self.all[EXAMINED].simulator.log if call.client_id])
        self.all[EXAMINED].simulator.clear_log()

    def read_all(self) -> None:
        """All take their turn in one minute; a second turn does not come."""
        run = self.installation.run
        wait_until(lambda: sum(self.installation.statuses("read_tenant").values()) >= COUNT, 900)
        stop, _ = PAGE["Run it"][1].splitlines()
        run(stop)
        # A tenant comes while the others are read.
        self.customers.add(COUNT + 1, actions=3)
        self.list_tenants()
        run(PAGE["A tenant comes, a tenant goes"][0])
        wait_until(lambda: self.ended("read_tenant") >= COUNT, 3000)
        self.checked.append(time.time())
        run(PAGE["How it stands"][1])
        wait_until(
            lambda: self.ended("check_tenants") == sum(self.installation.statuses("check_tenants").values()), 900
        )
        self.checked.append(time.time())
        self.said["status"] = run(PAGE["How it stands"][0])
        self.first_overview = self.overview()
        self.first_links = self.all[DOWN].calls("link")

    def mend(self) -> None:
        """The two are mended while the daemon goes on, and read again, and so is the new one."""
        self.all[DOWN].simulator.rules.clear()
        self.all[REFUSED].simulator.rules[:] = [Rule("list", **throttled(2))]
        # However long it took to count so few rows, they are counted again.
        self.installation.data.execute("update operations.counts set took = '0'")
        self.installation.list_tenants(self.customers, every_minutes=1)
        command = PAGE["Run it"][2].strip()
        # Somebody is impatient, and asks for one of them twice while the service makes it wait.
        twice = for_customers(command.replace(",fabrikam", ""), REFUSED)
        self.installation.run(f"{twice} & {for_customers(command, DOWN, f'{REFUSED},{LATE}')}; wait")
        wait_until(lambda: sum(self.installation.statuses("read_tenant").values()) >= COUNT + 4, 900)
        self.all[REFUSED].simulator.rules.clear()
        wait_until(lambda: self.ended("read_tenant") >= COUNT + 4, 900)
        self.second_overview = self.overview()
        # The schedule of the checks goes on: one of them may be in progress.
        ended = [run for run in self.installation.report() if run["end"] is not None]
        self.runs = sorted(ended, key=lambda run: float(run["begin"]))

    def ended(self, job: str) -> int:
        statuses = self.installation.statuses(job)
        return statuses.get("SUCCESS", 0) + statuses.get("FAILURE", 0)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    folder = tmp_path_factory.mktemp("provider")
    with contextlib.ExitStack() as stack:
        day = Day(Installation(folder / "installation"), Customers(folder, stack))
        day.begin()
        with day.installation.daemon(PAGE["Run it"][0].strip()):
            day.read_all()
            day.mend()
        yield day


def of_tenant(day: Day, name: str) -> list[dict[str, Any]]:
    """Its runs, the first one first."""
    return [run for run in day.runs if run["tenant"] == name]


def test_eighteen_finish_and_two_fail_with_the_taps_sentence(day: Day) -> None:
    first = [of_tenant(day, name)[0] for name in day.all if name != LATE]
    assert Counter(run["status"] for run in first) == {"SUCCESS": COUNT - 2, "FAILURE": 2}
    down, refused = (of_tenant(day, name)[0] for name in (DOWN, REFUSED))
    assert (down["status"], refused["status"]) == ("FAILURE", "FAILURE")
    assert "The service or the network seems to be down" in down["reason"]
    assert down["reason"] == day.first_overview[DOWN]["last_failure"]
    assert refused["reason"].startswith("Sign-in to tenant ")
    assert "The client secret is wrong" in refused["reason"]
    assert f"      {refused['reason']}\n" in day.said["status"]
    assert (down["retries"], refused["retries"]) == (1, 0)


def test_each_run_tells_what_it_did(day: Day) -> None:
    (run,) = of_tenant(day, "customer_03")
    assert run["metadata"].pop("seconds") > 0
    # Calls that are more than a minute old do not count any more.
    assert 96 <= run["metadata"].pop("calls left this minute") <= 100
    assert run["metadata"] == {
        "records/live_response_results": 3,
        "records/machine_actions": 3,
        "results left": 0,
        "calls": 4,
        "calls left this hour": 1496,
    }


def test_once_mended_they_go_on_where_they_stopped_and_all_have_every_row_once(day: Day) -> None:
    statuses = {name: [run["status"] for run in of_tenant(day, name)] for name in (DOWN, REFUSED, LATE)}
    assert statuses == {DOWN: ["FAILURE", "SUCCESS"], REFUSED: ["FAILURE", "SUCCESS", "SUCCESS"], LATE: ["SUCCESS"]}
    assert day.first_links == 2
    for customer in day.all.values():
        rows = day.installation.data.query(
            f"select machine_action_id, result_status from tenant_{customer.name}.live_response_results"
        )
        assert len(rows) == len(customer.action_ids)
        assert dict(rows) == dict.fromkeys(customer.action_ids, "fetched")
        actions = day.installation.data.query(f"select id from tenant_{customer.name}.machine_actions")
        assert sorted(identifier for (identifier,) in actions) == sorted(customer.action_ids)
        assert customer.calls("link") == len(customer.action_ids), "each result was asked for once"


def test_each_has_a_state_of_its_own(day: Day) -> None:
    states = day.installation.data.query("select state_id, completed_state::text from meltano.state")
    assert sorted(name for name, _ in states) == sorted(f"{STATE_ID}:{name}" for name in day.all)
    newest = {
        name: max(action["lastUpdateDateTimeUtc"] for action in customer.world.tenant.actions)
        for name, customer in day.all.items()
    }
    for name, state in states:
        assert newest[name.rpartition(":")[2]].rstrip("Z")[:19] in state


def test_never_more_runs_than_allowed_and_never_two_of_a_tenant(day: Day) -> None:
    runs = [run for run in day.runs if run["tenant"]]
    assert len(runs) == COUNT + 4
    assert max(sum(other["begin"] <= run["begin"] < other["end"] for other in runs) for run in runs) <= PARALLEL
    for name in day.all:
        in_turn = of_tenant(day, name)
        assert all(earlier["end"] <= later["begin"] for earlier, later in itertools.pairwise(in_turn))
    _, mended, impatient = of_tenant(day, REFUSED)
    assert impatient["asked"] < mended["end"], "it had to wait"


def test_who_was_not_read_fails_the_check(day: Day) -> None:
    begin, end = day.checked
    # The schedule of the checks may have looked at any time, too.
    checks = [run["checks"] for run in day.runs if run["checks"] and begin <= run["begin"] <= run["end"] <= end]
    assert checks
    for check in checks:
        assert len(check) == COUNT + 1
        failed = {name for name, passed in check.items() if not passed}
        assert failed == {f"{name}_is_fresh" for name in (DOWN, REFUSED, LATE)}


def test_the_view_tells_coverage_and_quota(day: Day) -> None:
    before, after = day.first_overview[DOWN], day.second_overview[DOWN]
    assert (before["stale"], after["stale"]) == (True, False)
    assert before["last_success"] is None
    # Its first run ended before the actions were loaded.
    assert (before["coverage_percent"], after["coverage_percent"]) == (None, 100)
    assert before["results_by_status"]["fetched"] == 2
    assert after["results_by_status"] == {"fetched": 8}
    assert after["last_failure"] is None
    assert (after["failed_results"], after["open_actions"], after["closed_until"]) == (0, 0, None)
    for name, row in day.second_overview.items():
        spent = len([call for call in day.all[name].simulator.log if call.client_id])
        spent += day.examination if name == EXAMINED else 0
        # Booked, and not made: by workers of a run that ended (8 of each try), or before a sign-in that was refused.
        booked = {DOWN: range(2 * 8 + 1), REFUSED: range(1, 2)}.get(name, range(1))
        assert 1500 - spent - row["calls_left_this_hour"] in booked


def test_no_secret_is_anywhere(day: Day) -> None:
    secrets = day.customers.secrets() | {PASSWORD}
    assert len(secrets) > 3 * COUNT
    texts = list(day.installation.texts())
    places = {place for place, _ in texts}
    assert {"public.event_logs", "public.runs", "meltano.state", "operations.runs"} <= places
    assert sum("compute_logs" in place and place.endswith(".err") for place in places) >= COUNT
    assert any("Plan: 3 results to read" in text for place, text in texts if "compute_logs" in place)
    found = {place for place, text in texts for secret in secrets if secret in text}
    assert found == set()
    assert not [secret for said in day.said.values() for secret in secrets if secret in said]


def test_a_recipe_for_one_tenant(day: Day) -> None:
    _, recipe = PAGE["A tenant comes, a tenant goes"]
    day.all["customer_05"].simulator.clear_log()
    said = day.installation.run(for_customers(recipe, "customer_05"))
    assert f"{STATE_ID}:customer_05" in said
    assert day.all["customer_05"].calls("link") == 3
    with psycopg.connect(day.installation.data.uri) as connection:
        connection.execute(SQL["A tenant comes, a tenant goes"][0].replace("fabrikam", "customer_05").encode())
    assert day.overview()["customer_05"]["results_by_status"] == {}


def test_the_schedule_goes_on(day: Day) -> None:
    _, go_on = PAGE["Run it"][1].splitlines()
    assert "Started schedule tenants_in_turn" in day.installation.run(go_on)


def test_the_page_shows_the_list_that_is_shipped() -> None:
    (shown,) = blocks("docs/many-tenants.md", "yaml")["From an empty folder to three tenants"]
    shipped = yaml.safe_load((ROOT / "orchestration" / "tenants.yaml").read_text(encoding="utf-8"))
    shipped["tenants"] = shipped["tenants"][:2]
    assert yaml.safe_load(shown) == shipped
