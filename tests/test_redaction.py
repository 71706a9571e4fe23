from __future__ import annotations

import io
import json
import logging

import pytest
from singer_sdk import metrics
from singer_sdk.logging import ConsoleFormatter, StructuredFormatter

from tap_defender_lr import redaction

SIG = "1dYGe9rPvUlXBPvYSmr6%2FOLXPY98m8qWqfIQCBbyZTY%3D"
LINK = f"https://x.blob.core.windows.net/investigation-actions-data/1/2?se=2021-02-04T16%3A13%3A50Z&sp=r&sig={SIG}"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwcyJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("nothing to hide, 100 % sure?", "nothing to hide, 100 % sure?"),
        (f"GET {LINK} failed", "GET https://x.blob.core.windows.net/investigation-actions-data/1/2?*** failed"),
        (f'"GET /container/blob?se=1&sig={SIG} HTTP/1.1" 403', '"GET /container/blob?*** HTTP/1.1" 403'),
        (f"sig={SIG}&x=1", "sig=***&x=1"),
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer ***"),
        (f"token {TOKEN}!", "token ***!"),
        ("'Authorization': 'Bearer opaque-Token_1234.abc=='", "'Authorization': 'Bearer ***'"),
        ("client_secret=abc~d&grant_type=x", "client_secret=***&grant_type=x"),
        ("{'access_token': 'abc'}", "{'access_token': '***'}"),
    ],
)
def test_patterns(text: str, redacted: str) -> None:
    assert redaction.redact(text) == redacted


def test_a_remembered_secret_is_masked_wherever_it_stands() -> None:
    redaction.remember("s3cret~Value.of/an+app")
    assert redaction.redact("x s3cret~Value.of/an+app y") == "x *** y"


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.mark.parametrize("formatter", [ConsoleFormatter(), StructuredFormatter(), logging.Formatter("%(message)s")])
def test_no_formatter_can_leak_what_a_record_was_given(formatter: logging.Formatter, stream: io.StringIO) -> None:
    """Any logger, arguments, exceptions with their causes: all pass the one choke point."""
    before = logging.getLogRecordFactory()
    redaction.install()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("any.logger")
    logger.addHandler(handler)
    try:
        logger.warning("plain %s", LINK)
        logger.warning(LINK)
        logger.warning("wrong %d %s", LINK)  # noqa: PLE1206  on purpose
        try:
            try:
                raise ConnectionError(LINK)
            except ConnectionError as error:
                raise ValueError(f"Bearer {TOKEN}") from error
        except ValueError:
            logger.exception("failed with %s", TOKEN)
    finally:
        logger.removeHandler(handler)
        logging.setLogRecordFactory(before)
    printed = stream.getvalue()
    assert "failed with ***" in printed
    assert "ValueError" in printed
    for secret in (SIG, TOKEN, TOKEN.split(".")[1]):
        assert secret not in printed


def test_metrics_keep_their_structure(stream: io.StringIO) -> None:
    """Meltano reads metrics from structured logs; redaction must leave clean records alone."""
    before = logging.getLogRecordFactory()
    redaction.install()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(StructuredFormatter())
    logger = logging.getLogger("any.metrics")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        metrics.log(logger, metrics.Point("counter", metrics.Metric.RECORD_COUNT, 5, {"stream": "x"}))
    finally:
        logger.removeHandler(handler)
        logging.setLogRecordFactory(before)
    assert json.loads(stream.getvalue())["metric_info"]["value"] == 5
