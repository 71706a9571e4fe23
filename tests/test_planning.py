"""The plan and the state it leaves: tables, and a model of a service that updates while runs come and die."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from tap_defender_lr import machine_action, timestamps
from tap_defender_lr.packing import BLOCK, Block
from tap_defender_lr.planning import (
    RETRY_SECONDS,
    Item,
    Plan,
    StreamState,
    action_key,
    fingerprint,
    make_plan,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tap_defender_lr.machine_action import MachineAction

NOON = 1_790_000_000
HOUR = 3600


def action(
    name: str, updated: float, *, status: str = "Succeeded", created: float | None = None, commands: int = 1
) -> MachineAction:
    decoded = machine_action.from_api(
        {
            "id": name,
            "type": "LiveResponse",
            "status": status,
            "creationDateTimeUtc": timestamps.from_unix(updated - 60 if created is None else created),
            "lastUpdateDateTimeUtc": timestamps.from_unix(updated),
            "commands": [{"index": index, "commandStatus": "Completed"} for index in range(commands)],
        }
    )
    assert decoded is not None
    return decoded


def items_of(action: MachineAction) -> Sequence[Item]:
    if not action.is_final:
        return ()
    return [Item(action, command) for command in action.commands]


def plan(
    actions: Iterable[MachineAction],
    state: Mapping[str, Any] | None = None,
    *,
    now: float = NOON,
    explicit: bool = False,
) -> Plan:
    # State goes through JSON, as it does between two runs.
    loaded = StreamState.from_state(json.loads(json.dumps(state or {})))
    return make_plan(actions, loaded, items_of, now=now, explicit=explicit)


def keys(plan: Plan) -> list[str]:
    return [f"{item.action.id}{item.command.index if item.command else ''}" for item in plan.items]


def read_all(plan: Plan) -> dict[str, Any]:
    for item in plan.items:
        plan.emitted(item)
    return plan.state()


def test_first_run_reads_every_command_of_every_final_action_in_order() -> None:
    listed = [
        action("b", NOON),
        action("a", NOON),
        action("c", NOON - 5, commands=2),
        action("w", NOON, status="Pending"),
    ]
    first = plan(listed)
    assert keys(first) == ["c0", "c1", "a0", "b0"]
    assert first.waiting == 1


def test_an_unchanged_second_run_has_nothing_to_do_and_the_same_state() -> None:
    listed = [action("a", NOON), action("b", NOON - 2 * HOUR, commands=2), action("w", NOON, status="InProgress")]
    state = read_all(plan(listed))
    second = plan(listed, state)
    assert keys(second) == []
    assert second.state() == state


@pytest.mark.parametrize(
    ("late", "found"), [(-10, True), (-HOUR + 1, True), (-HOUR, True), (-HOUR - 1, False), (0, True), (1, True)]
)
def test_a_row_that_shows_up_late_is_found_within_the_overlap(late: int, found: bool) -> None:
    state = read_all(plan([action("a", NOON)]))
    assert keys(plan([action("a", NOON), action("late", NOON + late)], state)) == (["late0"] if found else [])


def test_an_action_seen_open_is_read_whenever_it_ends_even_if_its_last_update_does_not_move() -> None:
    waiting = action("w", NOON - 3 * 24 * HOUR, status="Pending")
    state = read_all(plan([waiting, action("a", NOON)]))
    assert len(state["open"]) == 1
    ended = action("w", NOON - 3 * 24 * HOUR)
    later = plan([ended, action("a", NOON)], state)
    assert keys(later) == ["w0"]
    # If the run dies before it is read, it is still remembered; once it is read, no more.
    assert keys(plan([ended, action("a", NOON)], later.state())) == ["w0"]
    final = read_all(later)
    assert (final["open"], keys(plan([ended], final))) == ([], [])


def test_an_open_action_that_is_listed_late_is_remembered_like_any_other() -> None:
    """A stream that looks further back for another one, or a filter that was widened, finds it after the bookmark."""
    before = read_all(plan([action("a", NOON)]))
    late = plan([action("a", NOON), action("b", NOON - 2 * HOUR, status="Pending")], before)
    assert (keys(late), late.waiting) == ([], 1)
    ended = plan([action("a", NOON), action("b", NOON - 2 * HOUR)], late.state())
    assert keys(ended) == ["b0"]


def test_an_open_action_with_two_commands_that_is_interrupted_between_them() -> None:
    old = NOON - 3 * 24 * HOUR
    state = read_all(plan([action("w", old, status="Pending"), action("a", NOON)]))
    interrupted = plan([action("w", old, commands=2), action("a", NOON)], state)
    interrupted.emitted(interrupted.items[0])
    assert keys(plan([action("w", old, commands=2), action("a", NOON)], interrupted.state())) == ["w1"]


def test_the_bookmark_only_moves_forward() -> None:
    state = read_all(plan([action("a", NOON)]))
    later = plan([action("late", NOON - 10)], state)
    assert read_all(later)["replication_key_value"] == timestamps.from_unix(NOON)


def test_a_gap_holds_the_bookmark_back_but_what_came_after_it_is_not_paid_twice() -> None:
    listed = [action("a", NOON - 9000), action("gap", NOON - 8000), action("b", NOON)]
    first = plan(listed)
    first.emitted(first.items[0])
    first.emitted(first.items[2])
    state = first.state()
    assert state["replication_key_value"] == timestamps.from_unix(NOON - 9000)
    assert keys(plan(listed, state)) == ["gap0"]


def test_a_completed_run_moves_the_bookmark_to_the_last_action_that_ended_even_if_nothing_was_to_be_emitted() -> None:
    """Or a stream of a script that seldom runs would make every run list all that the service has."""
    others = [action("a", NOON - 50), action("b", NOON - 20), action("waits", NOON - 10, status="Pending")]
    current = make_plan(others, StreamState(), lambda _: None, now=float(NOON))
    assert "replication_key_value" not in current.state()
    current.completed()
    assert current.state() == {
        "done": [],
        "open": [],
        "retry": [],
        "replication_key_value": timestamps.from_unix(NOON - 20),
    }


def test_the_newest_result_that_was_read_before_is_known_for_each_device() -> None:
    """By when it ended on the device; those that are still to be read do not count."""

    def items(action: MachineAction) -> list[Item]:
        return [replace(item, replaces=(action.id[0], "script")) for item in items_of(action)]

    listed = [action("a1", NOON - 9000), action("a2", NOON - 8000), action("b1", NOON)]
    first = make_plan(listed, StreamState(), items, now=float(NOON), replaces=True)
    assert first.newest == {}
    for item in first.items:
        first.emitted(item)
    first.failed(first.items[2], NOON)
    again = make_plan(listed, StreamState.from_state(first.state()), items, now=float(NOON), replaces=True)
    assert keys(again) == ["b10"]
    assert again.newest == {("a", "script"): (timestamps.from_unix(NOON - 8000), "a2")}


def test_what_was_read_long_ago_is_unpacked_once_in_whatever_order_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices of a campaign answer in any order. To unpack a block for each of them would take longer than the run."""

    def items(action: MachineAction) -> Sequence[Item]:
        return [replace(item, replaces=(action.id, "script")) for item in items_of(action)]

    block, listed, unpacked = Block(), [], list[bytes]()
    for number in range(BLOCK * 100):
        block = Block() if block.is_full else block
        ended = timestamps.from_unix(NOON - 10**6 - number * 7919 % 99_991)
        sent = {"id": f"x{number}", "status": "Succeeded", "lastUpdateDateTimeUtc": ended, "commands": [{"index": 0}]}
        listed.append(machine_action.from_api(sent, block))
    decompress = zlib.decompress

    def counting(packed: bytes) -> bytes:
        unpacked.append(packed)
        return decompress(packed)

    monkeypatch.setattr(zlib, "decompress", counting)
    state = StreamState(bookmark=timestamps.from_unix(NOON))
    found = make_plan(filter(None, listed), state, items, now=float(NOON), replaces=True)
    assert len(found.newest) == len(listed)
    assert len(unpacked) == 100


def test_done_is_bounded_by_the_overlap() -> None:
    listed = [action(f"x{number}", NOON - 10 * number) for number in range(5000)]
    state = read_all(plan(listed))
    assert len(state["done"]) == 361
    assert len(json.dumps(state)) < 20_000


def test_writing_state_costs_no_more_with_more_to_come() -> None:
    """Only what lies within the overlap or waits is looked at: a long first run must not become quadratic."""
    waiting = [action(f"w{number}", NOON - 150_000 - number, status="Pending") for number in range(5)]
    current = plan([*waiting, *(action(f"x{number:05d}", NOON - 100 * number) for number in range(2000))])
    for item in current.items[:1000]:
        current.emitted(item)
    looked_at = 0

    class Counting(list):  # type: ignore[type-arg]
        @override
        def __getitem__(self, index: Any) -> Any:
            nonlocal looked_at
            found = super().__getitem__(index)
            looked_at += len(found) if isinstance(index, slice) else 1
            return found

        @override
        def __iter__(self) -> Any:
            nonlocal looked_at
            looked_at += len(self)
            return super().__iter__()

    for holder in (current, current._known):
        lists = {name: value for name, value in vars(holder).items() if isinstance(value, (list, tuple))}
        vars(holder).update({name: Counting(value) for name, value in lists.items()})
    state = current.state()
    assert (len(state["done"]), len(state["open"])) == (37, 5)
    assert 42 <= looked_at < 100


@pytest.mark.parametrize(
    ("replaces", "failed", "looked_at"), [(False, False, 38), (False, True, 39), (True, False, 500)]
)
def test_an_unchanged_run_looks_no_further_back_than_it_must(replaces: bool, failed: bool, looked_at: int) -> None:
    listed = [action(f"x{number:05d}", NOON - 100 * number) for number in range(499)]
    first = plan([*listed, action("w", NOON - 10**6, status="Pending")])
    for item in first.items:
        first.emitted(item)
    if failed:
        first.failed(first.items[0], NOON)
    seen = []

    def look(action: MachineAction) -> Sequence[Item]:
        seen.append(action.id)
        return items_of(action)

    state = StreamState.from_state(first.state())
    again = make_plan([*listed, action("w", NOON - 10**6)], state, look, now=float(NOON), replaces=replaces)
    assert keys(again) == (["x004980", "w0"] if failed else ["w0"])
    assert len(seen) == looked_at


def test_failed_items_come_first_and_start_the_listing_early_enough() -> None:
    listed = [action("a", NOON - 7000, created=NOON - 5 * 24 * HOUR), action("b", NOON)]
    first = plan(listed)
    first.emitted(first.items[0])
    first.failed(first.items[0], NOON)
    first.emitted(first.items[1])
    state = first.state()
    saved = StreamState.from_state(state)
    assert saved.list_from(4) == timestamps.from_unix(NOON - 5 * 24 * HOUR)
    second = plan([*listed, action("c", NOON - 100)], state, now=NOON + 60)
    assert keys(second) == ["a0", "c0"]
    assert second.items[0].retry is not None
    assert not second.items[0].retry.is_over(NOON + RETRY_SECONDS - 1)
    assert second.items[0].retry.is_over(NOON + RETRY_SECONDS)
    # It fails again: the date of its first failure stays.
    second.failed(second.items[0], NOON + 60)
    assert second.state()["retry"] == state["retry"]
    # It heals.
    assert read_all(plan(listed, state))["retry"] == []


def test_a_failed_item_that_is_not_listed_is_kept_for_three_days() -> None:
    first = plan([action("a", NOON)])
    first.emitted(first.items[0])
    first.failed(first.items[0], NOON)
    state = first.state()
    assert plan([], state, now=NOON + 60).state()["retry"] == state["retry"]
    given_up = plan([], state, now=NOON + RETRY_SECONDS)
    assert (len(given_up.lost), given_up.state()["retry"]) == (1, [])


def test_given_up_items_are_not_taken_for_new_ones_while_the_bookmark_stands_still() -> None:
    listed = [action("a", NOON)]
    first = plan(listed)
    first.emitted(first.items[0])
    first.failed(first.items[0], NOON)
    last = plan(listed, first.state(), now=NOON + RETRY_SECONDS)
    last.emitted(last.items[0])
    assert keys(plan(listed, last.state())) == []


class TestConfiguredActions:
    def test_bookmark_and_age_do_not_matter_and_the_bookmark_stays(self) -> None:
        state = read_all(plan([action("new", NOON)]))
        old = plan([action("old", NOON - 10**7)], state, explicit=True)
        assert keys(old) == ["old0"]
        after = read_all(old)
        assert after["replication_key_value"] == state["replication_key_value"]
        # Back to listing, what was read by name is not read again.
        assert keys(plan([action("new", NOON)], after)) == []

    def test_what_is_done_is_remembered_as_a_whole_action(self) -> None:
        state = read_all(plan([action("a", NOON, commands=2)], explicit=True))
        assert fingerprint("a") in state["done"]
        assert keys(plan([action("a", NOON, commands=2)], state, explicit=True)) == []
        assert "replication_key_value" not in state

    def test_a_failed_one_is_not_taken_for_done(self) -> None:
        first = plan([action("a", NOON)], explicit=True)
        first.emitted(first.items[0])
        first.failed(first.items[0], NOON)
        state = first.state()
        assert action_key("a") not in state["done"]
        again = plan([action("a", NOON)], state, explicit=True)
        assert keys(again) == ["a0"]
        assert action_key("a") in read_all(again)["done"]

    def test_what_waited_in_a_listing_is_still_open_afterwards(self) -> None:
        state = read_all(plan([action("w", NOON - 10**6, status="Pending"), action("a", NOON)]))
        after = read_all(plan([action("x", NOON)], state, explicit=True))
        assert keys(plan([action("w", NOON - 10**6), action("a", NOON)], after)) == ["w0"]

    def test_a_waiting_one_is_remembered_as_open(self) -> None:
        state = read_all(plan([action("a", NOON, status="Pending")], explicit=True))
        assert (state["open"], state["done"]) == ([fingerprint("a")], [])


@pytest.mark.parametrize(
    "state",
    [
        {"replication_key_value": 5, "done": "x", "open": None, "retry": {}},
        {"replication_key_value": "soon", "done": [1, None], "retry": [["a"], 5, ["a", 0, "x", "y"], None]},
        {"retry": [["a", 0, 1, "2020"], ["a", 0, 1, ""]]},
    ],
)
def test_odd_state_counts_as_none(state: dict[str, Any]) -> None:
    assert StreamState.from_state(state) == StreamState()


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.integers(1, 2)),
        st.tuples(st.just("finish"), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("pass"), st.integers(1, 5000)),
        # A run that is killed after so many items (or not), that sees the state of so many items earlier,
        # and that cannot read some of them.
        st.tuples(st.just("run"), st.integers(0, 12), st.integers(0, 3), st.sets(st.integers(0, 8), max_size=2)),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(EVENTS)
def test_whatever_happens_every_command_is_emitted_and_an_unchanged_run_does_nothing(
    events: list[tuple[Any, ...]],
) -> None:
    """A model of the service: actions are created, end with or without moving their last update, runs come and die."""
    service: dict[str, MachineAction] = {}
    clock, state, emitted = float(NOON), dict[str, Any](), list[str]()
    for event in events:
        clock += 1
        if event[0] == "create":
            name = f"n{len(service)}"
            service[name] = action(name, clock, status="Pending", created=clock, commands=event[1])
        elif event[0] == "finish":
            waiting = [entry for entry in service.values() if not entry.is_final]
            if waiting:
                old = waiting[event[1] % len(waiting)]
                updated = clock if event[2] else timestamps.to_unix(old.last_update)
                service[old.id] = action(
                    old.id, updated, created=timestamps.to_unix(old.creation), commands=len(old.commands)
                )
        elif event[0] == "pass":
            clock += event[1]
        else:
            _, budget, behind, failing = event
            state = run_once(service, state, emitted, clock, budget=budget, behind=behind, failing=failing)
    state = run_once(service, state, emitted, clock, budget=10**6, behind=0, failing=set())
    final = {
        f"{entry.id}.{command.index}" for entry in service.values() if entry.is_final for command in entry.commands
    }
    assert set(emitted) == final
    assert plan(service.values(), state, now=clock).items == ()


def run_once(
    service: Mapping[str, MachineAction],
    state: dict[str, Any],
    emitted: list[str],
    clock: float,
    *,
    budget: int,
    behind: int,
    failing: set[int],
) -> dict[str, Any]:
    current = plan(service.values(), state, now=clock)
    states = [current.state()]
    bookmark = state.get("replication_key_value", "")
    for number, item in enumerate(current.items[:budget]):
        assert item.command is not None
        if number in failing:
            if item.retry is None:
                current.emitted(item)
            current.failed(item, clock)
        else:
            emitted.append(f"{item.action.id}.{item.command.index}")
            current.emitted(item)
        states.append(current.state())
        assert states[-1].get("replication_key_value", "") >= bookmark
        bookmark = states[-1].get("replication_key_value", "")
    return states[max(len(states) - 1 - behind, 0)]
