"""docs/recipes.md: its commands as they stand there, with rows in a real PostgreSQL and calls at the service."""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from defender_simulator import Rule, Simulator
from defender_simulator.fleet import command
from tests.conftest import NOON, World, action_id
from tests.meltano_project import Database, blocks, checkout, new_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = blocks("docs/recipes.md")
RUN = "meltano run tap-defender-lr target-postgres"
STATE_ID = "prod:tap-defender-lr-to-target-postgres"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the page is written for a POSIX shell")]


def test_every_command_of_the_page_is_run_below() -> None:
    assert {heading: len(found) for heading, found in PAGE.items()} == {
        "Recipes": 1,
        "Read everything again": 2,
        "Read a period again (backfill)": 2,
        "Bring what a filter left out": 1,
        "Read certain actions again": 1,
        "A device answers after the look-back": 2,
        "Move to another machine": 3,
    }
    assert PAGE["Recipes"] == [f"export MELTANO_ENVIRONMENT=prod\n{RUN}\n"]


class Pipeline:
    """The pipeline of the page, between a tenant made by hand and a database of its own."""

    def __init__(self, directory: Path, simulator: Simulator, database: Database) -> None:
        self.project = checkout(directory)
        self.project.use(simulator)
        self.project.load_into(database)
        self.project.environment["MELTANO_ENVIRONMENT"] = "prod"
        self.simulator = simulator
        self.database = database

    def run(self, script: str, code: int = 0) -> dict[str, int]:
        """Types it, and counts the calls that it cost."""
        self.simulator.clear_log()
        self.project.run(script, code=code)
        return dict(Counter(call.endpoint for call in self.simulator.log if call.client_id))

    def results(self) -> int:
        return self.database.count("live_response_results")

    def statuses(self) -> dict[str, str]:
        """ID → status, of each row of machine_actions."""
        rows = self.database.query("select id, status from tap_defender_lr.machine_actions")
        return {str(key): str(status) for key, status in rows}

    def state(self) -> str:
        return self.project.meltano("state", "get", STATE_ID)

    def damage(self) -> None:
        """Changes every row, so that it can be seen which ones are written again."""
        self.database.query("update tap_defender_lr.live_response_results set exit_code = 99 returning 1")

    def written(self) -> int:
        """Rows that were written since."""
        return int(
            self.database.query("select count(*) from tap_defender_lr.live_response_results where exit_code = 0")[0][0]
        )


@pytest.fixture
def simulator(world: World) -> Iterator[Simulator]:
    with Simulator(world.tenant, calls_per_minute=1000) as simulator:
        yield simulator


@pytest.fixture
def pipeline(tmp_path: Path, simulator: Simulator) -> Pipeline:
    return Pipeline(tmp_path / "project", simulator, new_database())


def test_everything_again(world: World, pipeline: Pipeline) -> None:
    for number in range(1, 8):
        world.add(number)
    everything, one_stream = PAGE["Read everything again"]
    assert pipeline.run(RUN) == {"list": 1, "link": 7}
    # The service has forgotten the first one, and a role is taken away in the middle.
    del world.tenant.actions[0]
    pipeline.damage()
    refused = {"error": {"code": "Forbidden", "message": "Missing application roles."}}
    for number in range(4, 8):
        pipeline.simulator.rules.append(Rule("link", 403, refused, action_id=action_id(number)))
    pipeline.run(everything, code=1)
    pipeline.simulator.rules.clear()
    assert pipeline.written() == 2
    assert pipeline.run(RUN) == {"list": 1, "link": 4}
    assert (pipeline.results(), pipeline.written()) == (7, 6)
    assert pipeline.run(one_stream) == {"list": 1}
    assert pipeline.run(RUN) == {"list": 1}


def at(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=timezone.utc).timestamp()


def test_a_period_again(world: World, pipeline: Pipeline) -> None:
    days = [
        "2025-12-31T23:59:59",
        "2026-01-01T00:00:00",
        "2026-01-31T23:59:59",
        "2026-02-01T00:00:00",
        "2026-03-01T00:00:00",
    ]
    for number, day in enumerate(days, 1):
        world.add(number, created=at(day), updated=at(day) + 60)
    backfill, clear = PAGE["Read a period again (backfill)"]
    assert pipeline.run(RUN) == {"list": 1, "link": 5}
    before = pipeline.state()
    pipeline.damage()
    assert pipeline.run(backfill) == {"list": 1, "link": 2}
    assert (pipeline.results(), pipeline.written()) == (5, 2)
    assert pipeline.run(backfill) == {"list": 1}
    assert pipeline.state() == before
    pipeline.run(clear)
    assert pipeline.project.meltano("state", "list").split() == [STATE_ID]
    # What the page warns of.
    assert pipeline.run(backfill.replace("--state-id-suffix january ", "")) == {"list": 1}
    assert pipeline.written() == 2


def test_what_a_filter_left_out(world: World, pipeline: Pipeline) -> None:
    for number, script in enumerate(["Get-Software.ps1", "Get-Software.ps1", "Get-State.ps1"], 1):
        ended = NOON + number * 4 * 3600
        ran = command(0, "RunScript", "Completed", {"ScriptName": script}, started=ended - 1, ended=ended)
        world.add(number, updated=ended + 1, commands=[ran])
    (bring,) = PAGE["Bring what a filter left out"]
    narrow = """TAP_DEFENDER_LR_SCRIPT_NAMES='["Get-State.ps1"]' """
    assert pipeline.run(narrow + RUN) == {"list": 1, "link": 1}
    assert pipeline.run(RUN) == {"list": 1}  # what the page says about widening
    assert pipeline.results() == 1
    assert pipeline.run(bring) == {"list": 1, "link": 2}
    assert pipeline.results() == 3


def test_certain_actions_again(world: World, pipeline: Pipeline) -> None:
    for number in range(1, 6):
        world.add(number)
    (again,) = PAGE["Read certain actions again"]
    assert pipeline.run(RUN) == {"list": 1, "link": 5}
    pipeline.damage()
    assert pipeline.run(again) == {"get": 2, "link": 2}
    assert (pipeline.results(), pipeline.written()) == (5, 2)
    assert "link" not in pipeline.run(again)
    unknown = again.replace(action_id(1), action_id(99)).replace("suffix again", "suffix unknown")
    assert pipeline.run(unknown, code=1)["link"] == 1


def test_an_answer_after_the_look_back(world: World, pipeline: Pipeline) -> None:
    day = 24 * 3600
    world.add(1, status="Pending", created=NOON, updated=NOON)
    world.add(2, created=NOON, updated=NOON + 60)
    ask, raise_it = PAGE["A device answers after the look-back"]
    (statement,) = blocks("docs/recipes.md", "sql")["A device answers after the look-back"]
    assert pipeline.run(RUN) == {"list": 1, "link": 1}
    world.add(3, created=NOON + 6 * day, updated=NOON + 6 * day + 60)
    assert pipeline.run(RUN) == {"list": 1, "link": 1}
    world.finish(1, updated=NOON + 7 * day)
    assert pipeline.run(RUN) == {"list": 1}
    assert pipeline.statuses() == {action_id(1): "Pending", action_id(2): "Succeeded", action_id(3): "Succeeded"}

    ((actions,),) = pipeline.database.query(statement)
    assert json.loads(actions) == [{"id": action_id(1)}]
    (pipeline.project.directory / "actions.json").write_text(actions, encoding="utf-8")
    assert pipeline.run(ask) == {"get": 1, "link": 1}
    assert pipeline.results() == 3
    assert set(pipeline.statuses().values()) == {"Succeeded"}
    assert pipeline.database.query(statement) == [(None,)]
    pipeline.run(raise_it)
    assert json.loads(pipeline.project.meltano("config", "print", "tap-defender-lr"))["lookback_days"] == 10


def test_another_machine(world: World, pipeline: Pipeline, tmp_path: Path) -> None:
    for number in range(1, 4):
        world.add(number)
    save, go_on, rename = PAGE["Move to another machine"]
    assert pipeline.run(RUN) == {"list": 1, "link": 3}
    pipeline.run(save)
    state = (pipeline.project.directory / "state.json").read_text(encoding="utf-8")
    assert not [secret for secret in pipeline.simulator.secrets() if secret in state]
    world.add(4)
    other = Pipeline(tmp_path / "other", pipeline.simulator, pipeline.database)
    (other.project.directory / "state.json").write_text(state, encoding="utf-8")
    assert other.run(go_on) == {"list": 1, "link": 1}
    assert other.results() == 4
    before = other.state()
    other.run(rename)
    assert other.project.meltano("state", "get", STATE_ID.replace("postgres", "warehouse")) == before
