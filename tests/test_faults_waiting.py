"""What holds when the service makes the tap wait: it throttles, keeps silent, or sends drop by drop."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator, throttled
from tap_defender_lr.client import DefenderClient
from tap_defender_lr.downloads import BlobStore, Spool
from tap_defender_lr.errors import ReadFailedError, ServiceError
from tap_defender_lr.fetching import Fetched, ResultFetcher
from tap_defender_lr.machine_action import from_api
from tests.conftest import Cli, World, action_id
from tests.test_client import Side
from tests.watching import API, WatchedCli, fetched, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LATENCY = 0.3


@pytest.fixture
def make_cli(tmp_path: Path) -> Callable[..., Cli]:
    return lambda simulator, **settings: WatchedCli(tmp_path, simulator, **settings)


def by_date(seconds: int) -> dict[str, Any]:
    """A 429 whose `Retry-After` is a date of the service's own clock."""

    def headers(now: float) -> dict[str, str]:
        return {"Date": formatdate(now, usegmt=True), "Retry-After": formatdate(now + seconds, usegmt=True)}

    return {**throttled(seconds, None, in_text=False), "headers": headers}


@pytest.mark.parametrize(
    ("answer", "clock_ahead", "wait"),
    [
        pytest.param(throttled(3, in_text=False), 0, 3, id="seconds"),
        pytest.param(by_date(3), 0, 3, id="HTTP date", marks=pytest.mark.slow),
        pytest.param(by_date(3), 60, 3, id="HTTP date of a clock a minute ahead", marks=pytest.mark.slow),
        pytest.param(by_date(3), -60, 3, id="HTTP date of a clock a minute behind"),
        pytest.param(throttled(3, None), 0, 3, id="only in the text", marks=pytest.mark.slow),
        pytest.param(throttled(3, None, in_text=False), 0, 5, id="not told", marks=pytest.mark.slow),
        pytest.param(throttled(60), 0, 60, id="a minute", marks=pytest.mark.slow),
    ],
)
def test_one_gate_for_everybody_when_the_service_throttles(
    world: World, make_cli: Callable[..., Cli], answer: dict[str, Any], clock_ahead: float, wait: float
) -> None:
    for number in range(1, 41):
        world.add(number)
    with Simulator(world.tenant, api_latency=(LATENCY, LATENCY), clock=lambda: time.time() + clock_ahead) as simulator:
        simulator.rules.append(Rule("link", after=8, times=1, **answer))
        run = make_cli(simulator).run()
        calls = [call for call in simulator.log if call.endpoint in API]
    assert run.code == 0, run.stderr
    assert statuses(run) == fetched(range(1, 41))
    (refused,) = [call for call in calls if call.status == 429]
    # A timer may go off a little early; each of the other seven workers may have had a call on its way.
    answered = refused.arrived + LATENCY - 0.01
    arrived = sorted(call.arrived for call in calls)
    assert len([time for time in arrived if answered < time < answered + wait]) <= 7
    probe, *others = [time for time in arrived if time >= answered + wait]
    assert probe < answered + wait + 10
    assert others[0] >= probe + LATENCY - 0.01


def test_a_service_that_throttles_again_and_again(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in range(1, 9):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        simulator.rules += [Rule("list", times=1, **throttled(1)), Rule("link", times=3, **throttled(1))]
        run = make_cli(simulator).run()
        refused = [call.arrived for call in simulator.log if call.status == 429]
    assert statuses(run) == fetched(range(1, 9))
    assert len(refused) == 4


def test_an_hour_is_not_waited_when_the_run_ends_before(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in range(1, 25):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        simulator.rules.append(Rule("link", after=8, times=1, **throttled(3600)))
        cli = make_cli(simulator, max_run_minutes=1)
        began = time.monotonic()
        first = cli.run()
        assert time.monotonic() - began < 30
        assert first.code == 0
        assert first.messages[-1]["type"] == "STATE"
        assert "`max_run_minutes` is over" in first.stderr
        # The ledger remembers it: later runs, and other processes, do not even ask.
        simulator.clear_log()
        second = cli.run(state=first.states[-1])
        assert second.code == 0
        assert second.states[-1] == first.states[-1]
        assert simulator.log == []
        third = cli.run(state=second.states[-1], quota_store=str(cli.folder / "other.sqlite"))
    assert third.code == 0
    assert 8 <= len(statuses(first)) < 24
    assert statuses(first, third) == fetched(range(1, 25))


class TestSilence:
    """Bounded in time, with the bounds made small."""

    @pytest.fixture
    def side(self, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
        world.add(1)
        with Simulator(world.tenant) as simulator:
            yield Side(simulator, monkeypatch)

    def fetch(self, side: Side) -> Fetched:
        action = from_api(side.simulator.tenant.actions[0])
        assert action is not None
        fetcher = ResultFetcher(side.client, BlobStore(), side.lifetime, keep_bytes=1000)
        result = fetcher.fetch(action, action.commands[0])
        if result.download is not None:
            result.download.body.close()
        return result

    def limit(self, monkeypatch: pytest.MonkeyPatch, *, silence: float = 30, whole: float = 30) -> None:
        for module in ("client", "downloads"):
            monkeypatch.setattr(f"tap_defender_lr.{module}.READ_SECONDS", silence)
        monkeypatch.setattr("tap_defender_lr.client._PAGE_SECONDS", whole)
        monkeypatch.setattr("tap_defender_lr.fetching._DOWNLOAD_SECONDS", whole)
        # The default of a parameter, so that the constant itself has been read already.
        defaults = DefenderClient._get.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "seconds", whole)

    @pytest.mark.parametrize(
        ("rule", "limits", "words"),
        [
            pytest.param(Rule("link", delay=5), {"silence": 0.2}, "no answer in time, 5 times", id="no answer-link"),
            pytest.param(Rule("blob", delay=5), {"silence": 0.2}, "no answer in time, 4 times", id="no answer-blob"),
            pytest.param(Rule("link", drip=5), {"silence": 0.2}, "no answer in time, 5 times", id="silence-link"),
            pytest.param(Rule("blob", drip=5), {"silence": 0.2}, "no answer in time, 4 times", id="silence-blob"),
            pytest.param(Rule("link", drip=0.05), {"whole": 0.3}, "not complete after", id="slow drip-link"),
            # All tries to download it share one budget of time, so there is only one.
            pytest.param(Rule("blob", drip=0.05), {"whole": 0.3}, "not complete after", id="slow drip-blob"),
        ],
    )
    def test_a_result_for_ever(
        self, side: Side, monkeypatch: pytest.MonkeyPatch, rule: Rule, limits: dict[str, float], words: str
    ) -> None:
        self.limit(monkeypatch, **limits)
        side.simulator.rules[:] = [rule]
        began = time.monotonic()
        failed = self.fetch(side).failed
        assert time.monotonic() - began < 10
        assert failed is not None
        assert words in failed

    @pytest.mark.parametrize(
        ("rule", "limits"),
        [
            # The second answer has a second to come, however busy the machine is.
            pytest.param(Rule("link", delay=5, times=1), {"silence": 1.0}, id="no answer-link"),
            pytest.param(Rule("blob", delay=5, times=1), {"silence": 1.0}, id="no answer-blob"),
            pytest.param(Rule("blob", drip=5, times=1), {"silence": 1.0}, id="silence-blob"),
            pytest.param(Rule("link", drip=0.05, times=1), {"whole": 5.0}, id="slow drip-link", marks=pytest.mark.slow),
        ],
    )
    def test_a_result_once(
        self, side: Side, monkeypatch: pytest.MonkeyPatch, rule: Rule, limits: dict[str, float]
    ) -> None:
        self.limit(monkeypatch, **limits)
        side.simulator.rules[:] = [rule]
        assert self.fetch(side).failed is None
        assert len(side.simulator.calls(rule.endpoint)) >= 2
        assert rule.fired == 1

    @pytest.mark.parametrize(
        ("fault", "limits"),
        [
            pytest.param({"delay": 5}, {"silence": 0.2}, id="no answer"),
            pytest.param({"drip": 0.05}, {"whole": 0.3}, id="slow drip"),
        ],
    )
    def test_the_list(
        self, side: Side, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], limits: dict[str, float]
    ) -> None:
        self.limit(monkeypatch, **limits)
        side.simulator.rules[:] = [Rule("list", times=1, **fault)]
        assert [row["id"] for row in side.client.machine_actions(None)] == [action_id(1)]
        side.simulator.rules[:] = [Rule("list", **fault)]
        with pytest.raises(ServiceError, match="5 times in a row"):
            list(side.client.machine_actions(None))

    def test_a_list_larger_than_its_bound(self, side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tap_defender_lr.client._MAX_PAGE_BYTES", 100)
        with pytest.raises(ServiceError, match="larger than 100 bytes"):
            list(side.client.machine_actions(None))

    @pytest.mark.slow
    def test_a_refusal_that_drips(self, side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
        self.limit(monkeypatch, silence=4.0)
        link = side.link()
        side.simulator.rules.append(Rule("blob", 500, "busy" * 400, drip=0.05))
        began = time.monotonic()
        with pytest.raises(ReadFailedError, match="status 500"):
            BlobStore().transfer(Spool(1)).receive(link, lambda: None)
        assert time.monotonic() - began < 20
