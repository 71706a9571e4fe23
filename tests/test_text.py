from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_defender_lr.text import clean, clean_text, column_text, cut, parse_json, snake_case

ANY_TEXT = st.text(st.characters())  # surrogates included


@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [
        ("plain", "plain"),
        ("N\x00U\x00L\x00", "NUL"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("whole \U0001f600 pair", "whole \U0001f600 pair"),
        ("\x1b[31mred\x1b[0m \u202e bidi \r\n\t", "\x1b[31mred\x1b[0m \u202e bidi \r\n\t"),
    ],
)
def test_clean_text(dirty: str, cleaned: str) -> None:
    assert clean_text(dirty) == cleaned


def test_clean_reaches_every_depth_and_key() -> None:
    assert clean({"a\x00": [{"b": "c\x00\ud800"}, 1, None, True, 1.5]}) == {"a": [{"b": "c\ufffd"}, 1, None, True, 1.5]}


def test_clean_bounds_the_depth() -> None:
    bomb: list[object] = []
    for _ in range(900):
        bomb = [bomb]
    assert "nested more than" in json.dumps(clean(bomb))


def test_clean_leaves_no_number_that_is_none_for_everybody() -> None:
    assert clean([float("nan"), float("-inf"), 2**63 - 1, 2**63, -(2**70)]) == [
        None,
        None,
        2**63 - 1,
        str(2**63),
        str(-(2**70)),
    ]


@pytest.mark.parametrize("text", ['{"a": [1, "[{\\"", true, null, 1.5]}', "[]", '"\n"', "1"])
def test_parse_json_is_that_of_python(text: str) -> None:
    assert parse_json(text) == json.loads(text, strict=False)


@pytest.mark.parametrize("opening", ["[", '{"a": ', '[{"]": "\\"}", "a": ['])
def test_parse_json_takes_any_depth(opening: str) -> None:
    closing = "".join({"[": "]", "{": "}"}[c] for c in reversed(opening.replace('{"]": "\\"}"', "{")) if c in "[{")
    text = f'{{"before": 1, "deep": {opening * 20_000}1{closing * 20_000}, "after": ["]"]}}'
    parsed = clean(parse_json(text))
    assert (parsed["before"], parsed["after"]) == (1, ["]"])
    assert "nested more than" in json.dumps(parsed["deep"])


@pytest.mark.parametrize("text", ["", "[" * 20_000, "[" * 20_000 + "}" * 20_000 + "x", '{"a": ' * 20_000 + '"'])
def test_parse_json_refuses_what_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@given(ANY_TEXT)
def test_cleaned_text_is_valid_utf8_without_nul(text: str) -> None:
    cleaned = clean_text(text)
    assert "\x00" not in cleaned
    assert cleaned.encode().decode() == cleaned


@pytest.mark.parametrize(
    ("value", "column"),
    [
        ("", None),
        ("\x00", None),
        (None, None),
        (float("nan"), None),
        ("x", "x"),
        (5, "5"),
        (True, "True"),
        (["x"], None),
        ({}, None),
    ],
)
def test_column_text(value: object, column: str | None) -> None:
    assert column_text(value) == column


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\')), st.integers(0, 50))
def test_cut_is_between_characters_and_as_long_as_it_can_be(text: str, size: int) -> None:
    shortened, was_cut = cut(text, size)
    assert text.startswith(shortened)
    assert len(shortened.encode()) <= size
    assert was_cut == (shortened != text)
    if was_cut:
        assert len(text[: len(shortened) + 1].encode()) > size


@given(st.text(st.sampled_from('a\x01\x1b\n"\\é')), st.integers(0, 60))
def test_cut_bounds_the_length_as_json_too(text: str, size: int) -> None:
    """Control characters take 6 bytes there: a text of them must not make a line that Meltano refuses."""
    shortened, was_cut = cut(text, size)
    assert text.startswith(shortened)
    assert len(json.dumps(shortened, ensure_ascii=False).encode()) - 2 <= 2 * size
    assert was_cut == (shortened != text)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("lastUpdateDateTimeUtc", "last_update_date_time_utc"),
        ("errorHResult", "error_h_result"),
        ("computerDnsName", "computer_dns_name"),
        ("externalID", "external_id"),
        ("id", "id"),
        ("relatedFileInfo", "related_file_info"),
    ],
)
def test_snake_case(name: str, column: str) -> None:
    assert snake_case(name) == column
