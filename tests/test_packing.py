from __future__ import annotations

from typing import Any

import pytest

from tap_defender_lr.machine_action import from_api
from tap_defender_lr.packing import BLOCK, Block
from tap_defender_lr.text import TOO_DEEP


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("number", [1, BLOCK - 1, BLOCK])
def test_what_is_kept_comes_back(number: int) -> None:
    values = [
        {"id": place, "texts": ["\x00", "\ud800", "\N{SEEDLING}"], "none": None, "huge": 2**200}
        for place in range(number)
    ]
    block = Block()
    assert [block.add(value) for value in values] == list(range(number))
    assert block.is_full is (number == BLOCK)
    assert [block[place] for place in range(number)] == values


def test_the_same_hundred_times_takes_little_room() -> None:
    block = Block()
    for place in range(BLOCK):
        block.add({"place": place, "text": "x" * 10_000})
    assert len(block._packed) < 10_000


def test_what_is_nested_too_deeply_to_be_kept_is_cut_and_spoils_nothing_else() -> None:
    block = Block()
    for place in range(BLOCK):
        block.add({"place": place, "value": nested(100_000 if place == 7 else 50)})
    assert block[6] == {"place": 6, "value": nested(50)}
    assert TOO_DEEP in str(block[7])


def test_an_action_is_the_same_from_a_full_block() -> None:
    sent = {
        "id": "a",
        "title": "\x00nul",
        "commands": [
            {"index": 1, "errors": ["\ud800", ""], "command": {"params": [{"key": "Args", "value": "\x00"}]}},
            {"index": 0, "startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T00:00:01.5Z"},
        ],
    }
    alone, block = from_api(sent), Block()
    packed = [from_api(sent, block) for _ in range(BLOCK)]
    assert alone is not None
    for action in (packed[0], packed[-1]):
        assert action == alone
        assert action is not None
        assert action.raw == alone.raw == {**sent, "title": "nul", "commands": alone.raw["commands"]}
        assert [action.details(ran) for ran in action.commands] == [alone.details(ran) for ran in alone.commands]
    first, second = alone.commands
    assert alone.details(first).end_time == alone.end_time(first) == "2026-01-01T00:00:01.5000000Z"
    assert (alone.details(second).params, alone.details(second).errors) == ({"Args": ""}, ["\ufffd"])


def test_commands_that_are_alike_are_one_object() -> None:
    sent = {"id": "a", "commands": [{"index": 0, "command": {"type": "RunScript"}}]}
    one, other = from_api(sent), from_api({**sent, "id": "b"})
    assert one is not None
    assert other is not None
    assert one.commands is other.commands
