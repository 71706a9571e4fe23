"""What orchestration/ understands of Meltano's log, and whether a failure needs a person."""

from __future__ import annotations

import json
from typing import Any

import pytest
from many_tenants import log

from tap_defender_lr import client
from tap_defender_lr.tap import TapDefenderLr
from tests.meltano_project import ROOT


def line(event: str = "", plugin: str = log.TAP, level: str = "info", **more: Any) -> str:
    return json.dumps({"event": event, "string_id": plugin, "level": level, **more})


def test_a_log_is_understood() -> None:
    summary = log.Summary()
    said = [
        summary.add(each)
        for each in (
            "no JSON",
            line("Beginning", plugin="target-postgres"),
            line(metric_info={"metric": "record_count", "value": 3, "tags": {"stream": "machine_actions"}}),
            line(metric_info={"metric": "record_count", "value": 2, "tags": {"stream": "machine_actions"}}),
            line("1,200 results left for the next run."),
            line("1,301 calls spent; 65 left this minute, 199 this hour."),
        )
    ]
    assert said == [
        *(None, None, None, None),
        "1,200 results left for the next run.",
        "1,301 calls spent; 65 left this minute, 199 this hour.",
    ]
    assert summary.records == {"machine_actions": 5}
    assert summary.results_left == 1200
    assert (summary.calls, summary.left_this_minute, summary.left_this_hour) == (1301, 65, 199)


REFUSED = "Sign-in to tenant 7c1a2f9e-0d5b-4a63-9a52-1f0c8d3e4b5a was refused. The client secret is wrong: set "
REASONS = {
    "a run that did well": ("Meltano gave no reason; its log has more.", False),
    "a wrong secret": (REFUSED, True),
    "a wrong secret, found by discovery": (REFUSED, True),
    "an unknown tenant": ("The sign-in host https://login.example does not know the tenant unknown.example: ", True),
    "a wrong password of the certificate": ("`certificate_path`: the private key in /run/secrets/contoso.pfx ", True),
    "a role that is missing": ("The API denies access: status 403 Forbidden: Missing application roles.", True),
    "wrong script streams": ("`script_streams[0].format` must be one of auto, json, jsonl or csv.", True),
    "settings that are missing": ("`client_id` is missing: write the Application (client) ID of the app ", True),
    "a table that the loader cannot use": ("NotImplementedError: Altering columns is not supported. Could ", False),
    "a sign-in host that is down": ("Cannot sign in: the sign-in host https://login.example cannot be used: ", False),
    "a service that is down": ("The list of machine actions cannot be read: status 500, 5 times in a row.", False),
}


@pytest.mark.parametrize("case", REASONS)
def test_why_a_real_run_failed(case: str) -> None:
    """The lines are those of Meltano 4.4.1 in which the case shows, without what is of no use here."""
    logs = json.loads((ROOT / "tests" / "snapshots" / "meltano_log.json").read_text(encoding="utf-8"))
    assert logs.keys() == REASONS.keys()
    summary = log.Summary()
    for each in logs[case]:
        summary.add(json.dumps(each))
    reason, needs_a_person = REASONS[case]
    assert summary.reason.startswith(reason)
    assert summary.needs_a_person == needs_a_person


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([line("Run failed", "", "error")], "Run failed"),
        ([line("Block run completed", "", "error", err="Cannot start.\nA log")], "Cannot start."),
        ([line("Gone.", level="error"), line("Broken pipe", "target-postgres", "error")], "Gone."),
    ],
)
def test_who_is_heard_first(lines: list[str], reason: str) -> None:
    summary = log.Summary()
    for each in lines:
        summary.add(each)
    assert summary.reason == reason


def test_sentences_of_the_tap_begin_as_they_did() -> None:
    config = {"tenant_id": "contoso.example", "client_id": "1", "client_secret": "x"}
    credential = TapDefenderLr(config=config).run.credential
    for sentence in (
        credential._refused("AADSTS7000215: Invalid client secret provided."),
        credential._refused("Unable to get authority configuration"),
        client._denied("status 403 Forbidden"),
    ):
        summary = log.Summary()
        summary.add(line(sentence, level="error"))
        assert summary.needs_a_person, sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "`actions` names 1, which could not be read: status 500.",
        "`files_url`: nothing can be stored there (no space), so files are left for the next run; check",
        "`max_run_minutes` ends before the service may be called again, so the columns of x cannot be inferred.",
        "This machine's managed identity cannot be used: it does not answer.",
    ],
)
def test_what_may_pass_needs_nobody(sentence: str) -> None:
    summary = log.Summary()
    summary.add(line(sentence, level="error"))
    assert (summary.reason, summary.needs_a_person) == (sentence, False)


def test_it_can_fail_before_there_is_a_log() -> None:
    summary = log.Summary()
    summary.fail("The file is empty.")
    assert (summary.reason, summary.needs_a_person) == ("The file is empty.", False)
