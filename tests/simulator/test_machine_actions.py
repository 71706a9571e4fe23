"""Listing and getting machine actions: filters, order, pages."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from defender_simulator.odata import ticks
from tests.simulator.small_tenant import STRANGER, TENANT, action, make_tenant, serving

if TYPE_CHECKING:
    import requests

    from tests.simulator.small_tenant import Client


def names(answer: requests.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [uuid.UUID(item["id"]).int for item in answer.json()["value"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type eq 'LiveResponse'", [4, 2, 1]),
        ("type ne 'LiveResponse'", [3]),
        ("type eq 'LiveResponse' and status eq 'Failed'", [1]),
        ("type eq 'LiveResponse' AND (status eq 'Failed' or status eq 'InProgress')", [4, 1]),
        ("status eq 'Failed' or status eq 'Succeeded' and type eq 'Isolate'", [3, 1]),
        ("creationDateTimeUtc ge 2026-01-01T00:00:00.1234567Z", [4, 2]),
        ("creationDateTimeUtc gt 2026-01-01T00:00:00.1234567Z", [4]),
        ("creationDateTimeUtc gt 2026-01-01T00:00:00.1234566Z", [4, 2]),
        ("creationDateTimeUtc le 2026-01-01T00:00:00.123456Z", [3, 1]),
        ("creationDateTimeUtc lt 2026-01-01T00:00:00.123456Z", [1]),
        ("creationDateTimeUtc eq 2026-01-01T02:00:00.0000000+02:00", [1]),
        ("startswith(requestor, 'O''B')", [4]),
        ("requestor eq null", [2]),
        ("requestor gt 'A'", [4, 3, 1]),
        (f"machineId eq '{3:040x}'", [3]),
        (f"id eq '{uuid.UUID(int=2)}'", [2]),
        ("status eq 'succeeded'", []),
    ],
)
def test_filters(client: Client, text: str, expected: list[int]) -> None:
    assert names(client.list(filter=text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.0000001Z", 1),
        ("1970-01-01T00:00:01.5Z", 15_000_000),
        ("1969-12-31T23:59:59.9999999Z", -1),
        ("1970-01-01T01:00+01:00", 0),
    ],
)
def test_ticks(text: str, expected: int) -> None:
    assert ticks(text) == expected


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"filter": "lastUpdateDateTimeUtc ge 2026-01-01T00:00:00Z"}, "ODataError"),
        ({"filter": "computerDnsName eq 'a'"}, "ODataError"),
        ({"filter": "creationDateTimeUtc ge '2026-01-01T00:00:00Z'"}, "ODataError"),
        ({"filter": "creationDateTimeUtc ge 2026-01-01"}, "ODataError"),
        ({"filter": "creationDateTimeUtc ge 2026-01-01T00:00:00"}, "BadRequest"),
        ({"filter": "creationDateTimeUtc gt null"}, "ODataError"),
        ({"filter": "status eq Failed"}, "ODataError"),
        ({"filter": "contains(status, 'F')"}, "ODataError"),
        ({"filter": "nonsense(status, 'F')"}, "ODataError"),
        ({"filter": "not (status eq 'Failed')"}, "ODataError"),
        ({"filter": "status eq"}, "BadRequest"),
        ({"filter": "status eq 'Failed"}, "BadRequest"),
        ({"filter": "status eq 'a' and"}, "BadRequest"),
        ({"filter": ""}, "BadRequest"),
        ({"filter": "'a'"}, "ODataError"),
        ({"top": "10001"}, "ODataError"),
        ({"top": "-1"}, "ODataError"),
        ({"skip": "x"}, "ODataError"),
        ({"orderby": "status"}, "ODataError"),
        ({"expand": "commands"}, "ODataError"),
    ],
)
def test_queries_refused(client: Client, options: dict[str, str], code: str) -> None:
    answer = client.list(**options)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert answer.json()["error"]["target"] == TENANT


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [4, 2, 3, 1]),
        ({"orderby": "creationDateTimeUtc"}, [1, 3, 2, 4]),
        ({"orderby": "lastUpdateDateTimeUtc desc"}, [4, 3, 2, 1]),
        ({"top": "2"}, [4, 2]),
        ({"top": "2", "skip": "1"}, [2, 3]),
        ({"top": "10000", "skip": "4"}, []),
        ({"top": "0"}, []),
    ],
)
def test_order_and_top(client: Client, options: dict[str, str], expected: list[int]) -> None:
    answer = client.list(**options)
    assert names(answer) == expected
    assert answer.json().keys() == {"@odata.context", "value"}
    assert answer.json()["@odata.context"].endswith("/api/$metadata#MachineActions")


def test_pages_without_top_have_a_next_link() -> None:
    tenant = make_tenant([action(number) for number in range(1, 6)])
    with serving(tenant, page_size=2) as (sim, client):
        url, seen = f"{sim.api_url}/api/machineactions?$filter=type+eq+'LiveResponse'", []
        while url:
            answer = client.session.get(url, timeout=10)
            seen.append(names(answer))
            url = answer.json().get("@odata.nextLink")
        assert seen == [[5, 4], [3, 2], [1]]
        assert names(client.list(top="4")) == [5, 4]


@pytest.mark.parametrize("base", ["machineactions", "v1.0/machineactions", "MachineActions"])
def test_get(client: Client, base: str) -> None:
    answer = client.get(f"{base}/{uuid.UUID(int=2)}").json()
    assert answer.pop("@odata.context").endswith("/api/$metadata#MachineActions/$entity")
    assert answer == client.sim.tenant.actions[1]


@pytest.mark.parametrize(
    ("action_id", "status", "code"), [(STRANGER, 404, "ResourceNotFound"), ("17", 400, "BadRequest")]
)
def test_get_what_is_not_there(client: Client, action_id: str, status: int, code: str) -> None:
    for answer in (client.get(f"machineactions/{action_id}"), client.link(action_id)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_the_tenant_is_live() -> None:
    with serving() as (sim, client):
        sim.tenant.actions.append(action(2))
        assert names(client.list()) == [2, 1]
