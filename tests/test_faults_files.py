"""The faults of a download once more, for files: what is stored is whole, or it is not there, and the row says why."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator
from tests.conftest import TENANT_ID, Cli, World, action_id
from tests.evidence import EVENT_LOG, add_file, files_in, pack, stored
from tests.test_faults_service import BLOB_FAULTS
from tests.watching import WatchedCli, check_sentence, fetched, reason, statuses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    **BLOB_FAULTS,
    "another byte": ({"cut": 1}, "the answer was cut off"),
    "cut off late": ({"cut": 2_500_000, "if_range": False}, "the answer was cut off"),
    "a redirect": ({"status": 302, "headers": {"Location": "https://elsewhere.example/"}}, "status 302"),
    "the firewall": ({"status": 403, "headers": {"x-ms-error-code": "AuthorizationFailure"}}, "AuthorizationFailure"),
}
PASSING = {name: fault for name, (fault, _) in FAULTS.items() if name != "the firewall"}


@pytest.fixture
def make_cli(tmp_path: Path) -> Callable[..., Cli]:
    return lambda simulator, **settings: WatchedCli(
        tmp_path, simulator, **{"files_url": str(tmp_path / "evidence"), **settings}
    )


@pytest.mark.slow
def test_faults_that_pass_are_not_seen_in_the_files(world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
    with Simulator(world.tenant) as simulator:
        for number, fault in enumerate(PASSING.values(), 1):
            add_file(world, number, pack(EVENT_LOG))
            simulator.rules.append(Rule("blob", action_id=action_id(number), times=1, **fault))
        run = make_cli(simulator).run()
        assert len(simulator.calls("link")) == len(PASSING)
    assert run.code == 0, run.stderr
    assert statuses(run) == fetched(range(1, len(PASSING) + 1))
    contents = files_in(tmp_path / "evidence")
    assert len(contents) == len(PASSING)
    assert set(contents.values()) == {EVENT_LOG}


@pytest.mark.slow
def test_faults_that_stay_cost_only_their_own_file(world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
    reasons = {}
    with Simulator(world.tenant) as simulator:
        for number, (fault, words) in enumerate(FAULTS.values(), 1):
            add_file(world, 2 * number, pack(EVENT_LOG))
            world.add(2 * number + 1)
            simulator.rules.append(Rule("blob", action_id=action_id(2 * number), **fault))
            reasons[2 * number] = words
        cli = make_cli(simulator, max_concurrency=64)
        first = cli.run()
        left = files_in(tmp_path / "evidence")
        simulator.rules.clear()
        second = cli.run(state=first.states[-1])
    assert first.code == 0, first.stderr
    late = 2 * (list(FAULTS).index("cut off late") + 1)  # it goes on where it broke off
    failing = reasons.keys() - {late}
    assert statuses(first) == {n: "failed" if n in failing else "fetched" for n in range(2, 2 * len(FAULTS) + 2)}
    for number in failing:
        assert reasons[number] in reason(first, number)
    assert list(left) == [f"{TENANT_ID}/{action_id(late)}/0/Security.evtx"]
    assert second.code == 0
    assert statuses(second) == fetched(failing)
    assert set(files_in(tmp_path / "evidence").values()) == {EVENT_LOG}


def test_five_files_that_fail_in_a_row_stop_the_run(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in range(1, 9):
        add_file(world, number, b"content")
    with Simulator(world.tenant) as simulator:
        simulator.rules.append(Rule("blob", 503, "busy"))
        run = make_cli(simulator, max_concurrency=32).run()
    check_sentence(run, "5 results in a row could not be read", "status 503")
    assert run.records() == []


def test_a_link_that_expires_on_the_way_is_renewed_and_the_file_goes_on(
    world: World, make_cli: Callable[..., Cli]
) -> None:
    add_file(world, 1, pack(EVENT_LOG))
    late = [0.0]

    def half_an_hour_later(_now: float) -> dict[str, str]:
        late[0] += 1801
        return {}

    with Simulator(world.tenant, clock=lambda: time.time() + late[0], token_lifetime=99_999) as simulator:
        simulator.rules += [
            Rule("blob", cut=1_200_000, times=1, headers=half_an_hour_later),
            Rule("blob", cut=1_100_000, times=1, headers=half_an_hour_later, if_range=True, after=1),
        ]
        run = make_cli(simulator).run()
        blobs = [(call.status, call.headers.get("range")) for call in simulator.calls("blob")]
        links = len(simulator.calls("link"))
    assert statuses(run) == {1: "fetched"}, run.stderr
    assert stored(run, 1).read_bytes() == EVENT_LOG
    assert links == 3
    assert blobs == [
        (200, None),
        (403, "bytes=1200000-"),
        (206, "bytes=1200000-"),
        (403, "bytes=2300000-"),
        (206, "bytes=2300000-"),
    ]


def test_nobody_waits_for_a_large_file(world: World, make_cli: Callable[..., Cli]) -> None:
    """What is behind it arrives meanwhile, and a run that is stopped has it in its state."""
    for number in (1, 2, 3, 4, 5):  # more than there are workers for
        add_file(world, number, b"x" * 200_000)
    for number in range(10, 50):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        simulator.rules += [Rule("blob", drip=0.01, action_id=action_id(number)) for number in range(1, 6)]
        cli = make_cli(simulator, max_concurrency=4)
        process = subprocess.Popen(cli.command(), env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline())]
        while lines[-1].get("record", {}).get("machine_action_id") != action_id(49):
            lines.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
        lines += [json.loads(line) for line in rest.splitlines()]
        simulator.rules.clear()
        simulator.clear_log()
        after = cli.run(state=lines[-1]["value"])
        links = len(simulator.calls("link"))
    results = [line["record"] for line in lines if line["type"] == "RECORD" and "command_index" in line["record"]]
    assert [record["machine_action_id"] for record in results] == [action_id(number) for number in range(10, 50)]
    assert process.returncode == 143
    assert len(json.dumps(lines[-1])) < 5_000
    assert statuses(after) == fetched(range(1, 6))
    assert links == 5


pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")]
