from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_defender_lr import timestamps


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        # The service cuts trailing zeros: 0 to 7 decimals.
        ("2023-03-18T21:04:01Z", "2023-03-18T21:04:01.0000000Z"),
        ("2023-03-18T21:04:01.9Z", "2023-03-18T21:04:01.9000000Z"),
        ("2023-03-18T21:04:01.92Z", "2023-03-18T21:04:01.9200000Z"),
        ("2023-03-18T21:04:04.693Z", "2023-03-18T21:04:04.6930000Z"),
        ("2023-03-18T21:04:04.1542Z", "2023-03-18T21:04:04.1542000Z"),
        ("2023-03-18T21:04:04.93163Z", "2023-03-18T21:04:04.9316300Z"),
        ("2023-03-18T21:04:04.186354Z", "2023-03-18T21:04:04.1863540Z"),
        ("2023-03-18T21:04:04.3538594Z", "2023-03-18T21:04:04.3538594Z"),
        # Nine decimals are cut, never rounded up into the future.
        ("2023-03-18T21:04:04.999999999Z", "2023-03-18T21:04:04.9999999Z"),
        ("2023-03-18T23:04:04.5+02:00", "2023-03-18T21:04:04.5000000Z"),
        ("2023-03-18T15:34:04-05:30", "2023-03-18T21:04:04.0000000Z"),
        ("2023-03-18T21:04:04", "2023-03-18T21:04:04.0000000Z"),
        (" 2023-03-18 21:04:04z ", "2023-03-18T21:04:04.0000000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.0000000Z"),
        # What is no time.
        ("", None),
        (None, None),
        (1700000000, None),
        ("2023-02-30T00:00:00Z", None),
        ("2023-03-18T25:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        ("2023-03-18T24:00:00Z", None),
        ("\uff12\uff10\uff12\uff13-03-18T21:04:04Z", None),
    ],
)
def test_normalize(sent: object, written: str | None) -> None:
    assert timestamps.normalize(sent) == written


@given(st.integers(0, 253402300799 * 10**7), st.integers(0, 253402300799 * 10**7))
def test_text_order_is_time_order(first: int, second: int) -> None:
    written = [
        timestamps.normalize(
            timestamps.from_unix(ticks // 10**7)[:19] + f".{ticks % 10**7:07d}".rstrip("0").rstrip(".")
        )
        for ticks in (first, second)
    ]
    assert None not in written
    assert (written[0] < written[1]) == (first < second)  # type: ignore[operator]


@given(st.text())
def test_any_text_is_a_time_or_none(text: str) -> None:
    written = timestamps.normalize(text)
    assert written is None or len(written) == len("2023-03-18T21:04:04.3538594Z")


def test_shift_keeps_the_last_decimal_and_stays_in_the_calendar() -> None:
    assert timestamps.shift("2024-03-01T00:00:00.0000001Z", -3600) == "2024-02-29T23:00:00.0000001Z"
    assert timestamps.shift("0001-01-01T00:00:00.5000000Z", -1) == "0001-01-01T00:00:00.0000000Z"
    assert timestamps.shift("9999-12-31T23:59:59.0000000Z", 1) == "9999-12-31T23:59:59.9999999Z"


def test_unix_seconds_there_and_back() -> None:
    assert timestamps.from_unix(1_700_000_000.25) == "2023-11-14T22:13:20.2500000Z"
    assert timestamps.to_unix("2023-11-14T22:13:20.2500000Z") == 1_700_000_000.25
