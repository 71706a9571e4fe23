"""What holds when several taps of one app run at once and one of them is killed: no window of the quota is exceeded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator
from tap_defender_lr.quota import MINUTE
from tests.tap_process import Loader, drain, log_of, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cli, World
    from tests.tap_process import Process


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
            Rule("discovery", delay=10.0),
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
            loaders, _ = self.run_together(cli, 3, kill_at_link=6)
            self.check(simulator, limit)
            arrived = [call.arrived for call in simulator.log if call.accepted]
            assert MINUTE <= arrived[-1] - arrived[0] < 2 * MINUTE
        for loader in loaders:
            assert loader.results.keys() == set(range(1, 15))

    def check(self, simulator: Simulator, limit: int) -> None:
        assert simulator.worst_window(MINUTE) <= limit
        assert [call for call in simulator.log if call.status == 429] == []
