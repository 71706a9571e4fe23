"""Which results are read for several streams, and in which order."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator.fleet import command, machine_action
from tap_defender_lr.lifetime import Lifetime
from tap_defender_lr.machine_action import from_api
from tap_defender_lr.planning import Item, Retry, StreamState, make_plan
from tap_defender_lr.streams import reading
from tap_defender_lr.streams.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tap_defender_lr.machine_action import MachineAction

NOON = 1_790_000_000
RETRY_BEGAN = 1_790_000_500


def put_file(name: str, updated: float) -> MachineAction:
    sent = machine_action(action_id=name, created=updated, updated=updated, commands=[command(0, "PutFile")])
    action = from_api(sent)
    assert action is not None
    return action


def stream(name: str, actions: Sequence[MachineAction], *, wants: str, failed: str = "") -> Any:
    """One that wants the results of some actions for the first time, and of others again."""
    state = StreamState(
        retry=tuple(Retry(action.id, 0, RETRY_BEGAN, action.creation) for action in actions if action.id in failed)
    )
    chosen = [action for action in actions if action.id in wants + failed]
    plan = make_plan(chosen, state, lambda action: [Item(action, c) for c in action.commands], now=NOON + 1000.0)
    return SimpleNamespace(
        name=name, current_plan=plan, wants_files=False, records=lambda item, _: iter([(name, item.action.id)])
    )


def run() -> Any:
    settings = SimpleNamespace(max_concurrency=4, calls_per_minute=100, calls_per_hour=1500, max_output_bytes=1000)
    return SimpleNamespace(settings=settings, lifetime=Lifetime(), fetcher=None)


@pytest.mark.parametrize(
    ("wishes", "read", "plan"),
    [
        ({"a": ("abc", "")}, ["a: a", "b: a", "c: a"], "3 results"),
        ({"a": ("abc", ""), "b": ("bd", "")}, ["a: a", "b: a b", "c: a", "d: b"], "4 results"),
        ({"a": ("ab", "c"), "b": ("", "")}, ["c: a", "a: a", "b: a"], "3 results to read, 1 of them failed"),
        (
            {"a": ("a", "dc"), "b": ("b", "c")},
            ["c: a b", "d: a", "a: a", "b: b"],
            "4 results to read, 2 of them failed",
        ),
        # What has failed for one and is new to the other has its turn as a new one, and is fetched once.
        (
            {"a": ("ac", "d"), "b": ("b", "c")},
            ["d: a", "a: a", "b: b", "c: b a"],
            "4 results to read, 1 of them failed",
        ),
        ({"a": ("", ""), "b": ("", "")}, [], "no new results"),
    ],
)
def test_each_result_is_read_once_failed_ones_first_then_by_last_update(
    wishes: dict[str, tuple[str, str]], read: list[str], plan: str
) -> None:
    actions = [put_file(name, NOON + number) for number, name in enumerate("abcd")]
    streams = [stream(name, actions, wants=new, failed=old) for name, (new, old) in wishes.items()]
    together = Reading(run(), streams)
    assert f"Plan: {plan}" in next(together.describe())
    emitted = []
    for emission in together.emissions(None, lambda: None):
        records: Any = list(emission.records)
        emitted.append(f"{records[0][1]}: {' '.join(name for name, _ in records)}")
    assert emitted == read


def test_what_is_to_be_read_is_made_when_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first run has millions of results to read, and reads 1,500 an hour."""
    made: list[Any] = []

    def make(*parts: Any) -> Any:
        made.append(parts)
        return job(*parts)

    job = reading._Job
    monkeypatch.setattr(reading, "_Job", make)
    actions = [put_file(f"{number:03d}", NOON + number) for number in range(500)]
    emissions = Reading(run(), [stream("a", actions, wants=" ".join(a.id for a in actions))]).emissions(
        None, lambda: None
    )
    next(emissions)
    assert 1 <= len(made) <= 20


def test_one_that_has_failed_before_makes_nobody_remember_all_the_others() -> None:
    one = put_file("b", NOON)
    many = [replace(one, id=f"{number:05d}") for number in range(10_000)]
    state = StreamState(retry=(Retry("b", 0, RETRY_BEGAN, one.creation),))
    plan = make_plan([one, *many], state, lambda action: [Item(action, action.commands[0])], now=NOON + 1000.0)
    wanting = SimpleNamespace(name="a", current_plan=plan, wants_files=False)
    tracemalloc.start()
    first = next(Reading(run(), [wanting])._jobs())  # type: ignore[list-item]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert first.is_retry
    assert peak < 300_000
