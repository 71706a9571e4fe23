"""Download links, and the blobs behind them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from defender_simulator import Result
from tests.simulator.small_tenant import APP, BODY, action, download, make_tenant, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulator.small_tenant import Client, Clock


@pytest.mark.parametrize(
    ("number", "index", "status"),
    [(1, 0, 200), (1, 1, 400), (1, 2, 404), (1, 3, 404), (1, "x", 400), (4, 0, 400), (3, 0, 404)],
)
def test_links(client: Client, number: int, index: int | str, status: int) -> None:
    assert client.link(str(uuid.UUID(int=number)), index).status_code == status


def test_a_link_leads_to_the_result() -> None:
    with serving() as (sim, client):
        first, second = (client.link(action()["id"]).json() for _ in range(2))
        assert first["@odata.context"].endswith("$metadata#Edm.String")
        assert first["value"] != second["value"]
        query = urlsplit(first["value"]).query
        assert all(escape in query.partition("&sig=")[2] for escape in ("%2B", "%2F", "%3D"))
        assert parse_qs(query)["rscd"] == [f"attachment;filename=output_{action()['id']}_0.json"]
        assert {"skoid", "sktid", "skt", "ske", "sks", "skv", "sv", "st", "se", "sr", "sp"} <= parse_qs(query).keys()
        assert {parse_qs(query)["sig"][0], query.partition("&sig=")[2], APP.client_secret} <= sim.secrets()

        answer = requests.get(first["value"], verify=sim.ca_file, timeout=10)
        assert (answer.status_code, answer.content) == (200, BODY)
        assert answer.headers["Content-Length"] == str(len(BODY))
        assert answer.headers["Content-Type"] == "application/octet-stream"
        [call] = sim.calls("blob")
        assert (call.status, call.action_id, call.index, call.query) == (200, action()["id"], 0, query)
        assert "authorization" not in call.headers


def test_headers_of_a_result_win() -> None:
    tenant = make_tenant()
    tenant.results[action()["id"], 0] = Result(b"<a/>", {"content-type": "text/xml", "X-More": "1"})
    with serving(tenant) as (sim, client):
        answer = requests.get(client.link(action()["id"]).json()["value"], verify=sim.ca_file, timeout=10)
        assert (answer.headers["Content-Type"], answer.headers["X-More"]) == ("text/xml", "1")


def blob_error(answer: requests.Response) -> tuple[int, str]:
    assert answer.content.startswith(b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?><Error><Code>')
    code = answer.headers["x-ms-error-code"]
    assert f"<Code>{code}</Code>" in answer.text
    return answer.status_code, code


def test_a_link_expires(clock: Clock) -> None:
    with serving(clock=clock, link_lifetime=600) as (sim, client):
        link = client.link(action()["id"]).json()["value"]
        clock.now += 599
        assert requests.get(link, verify=sim.ca_file, timeout=10).status_code == 200
        clock.now += 1
        answer = requests.get(link, verify=sim.ca_file, timeout=10)
        assert blob_error(answer) == (403, "AuthenticationFailed")
        assert (
            "Signature not valid in the specified time frame: Start [Tue, 14 Nov 2023 22:13:20 GMT] - "
            "Expiry [Tue, 14 Nov 2023 22:23:20 GMT] - Current [Tue, 14 Nov 2023 22:23:20 GMT]" in answer.text
        )
        clock.now -= 601
        assert blob_error(requests.get(link, verify=sim.ca_file, timeout=10)) == (403, "AuthenticationFailed")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda link: link[:-4] + ("B" if link[-4] == "A" else "A") + link[-3:], id="another signature"),
        pytest.param(lambda link: link.replace("%2F", "/"), id="a slash quoted anew"),
        pytest.param(lambda link: link.replace("%2B", "+"), id="a plus quoted anew"),
        pytest.param(lambda link: link.replace("sp=r", "sp=rw"), id="more rights"),
        pytest.param(lambda link: link.replace("Output/", "Output/0"), id="another blob"),
    ],
)
def test_a_link_works_only_byte_for_byte(client: Client, change: Callable[[str], str]) -> None:
    answer = download(client, change)
    assert blob_error(answer) == (403, "AuthenticationFailed")
    assert "Signature did not match" in answer.text


def test_other_blob_refusals(client: Client) -> None:
    assert blob_error(download(client, headers={"Authorization": "Bearer x"})) == (400, "InvalidAuthenticationInfo")
    assert blob_error(download(client, lambda link: link.partition("?")[0])) == (404, "ResourceNotFound")
    assert blob_error(download(client, headers={"Range": f"bytes={len(BODY)}-"})) == (416, "InvalidRange")
    assert blob_error(download(client, headers={"If-Match": '"0x1"'})) == (412, "ConditionNotMet")


def test_a_result_that_is_gone() -> None:
    with serving() as (sim, client):
        link = client.link(action()["id"]).json()["value"]
        sim.tenant.results.clear()
        assert blob_error(requests.get(link, verify=sim.ca_file, timeout=10)) == (404, "BlobNotFound")


@pytest.mark.parametrize(
    ("wanted", "part"), [("bytes=5-9", slice(5, 10)), ("bytes=5-", slice(5, None)), ("bytes=0-99999", slice(None))]
)
def test_ranges(client: Client, wanted: str, part: slice) -> None:
    etag = download(client).headers["ETag"]
    answer = download(client, headers={"Range": wanted, "If-Match": etag})
    assert (answer.status_code, answer.content) == (206, BODY[part])
    assert answer.headers["Content-Range"].endswith(f"/{len(BODY)}")
