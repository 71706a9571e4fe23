"""What holds when the tap is killed at any point: nothing is lost, and little is paid for again."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from defender_simulator import Rule, Simulator
from defender_simulator.fleet import result_body
from tests.conftest import NOON, Cli, World, action_id
from tests.tap_process import Loader, drain, log_of, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.tap_process import Process

UNLIMITED: dict[str, Any] = {"calls_per_minute": 100_000, "calls_per_hour": 100_000}


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
