"""The simulator over real sockets and TLS, as a strict client meets it."""

from __future__ import annotations

import json
import logging
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import jwt
import msal
import pytest
import requests

from defender_simulator import App, Result, Rule, Simulator, Tenant, throttled
from defender_simulator.calls import Call, worst_window
from defender_simulator.odata import ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TENANT = "11111111-2222-3333-4444-555555555555"
APP = App("aaaaaaaa-0000-0000-0000-000000000001", "right-secret")
STRANGER = "99999999-9999-9999-9999-999999999999"
BODY = b'{"script_name":"Get-Software.ps1","exit_code":0,"script_output":"hello","script_errors":""}'


class Clock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A requests session that has signed in."""

    def __init__(self, sim: Simulator, session: requests.Session) -> None:
        self.sim = sim
        self.session = session
        session.headers["Authorization"] = f"Bearer {sign_in(sim).json()['access_token']}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(f"{self.sim.api_url}/api/{path}", timeout=10, **options)

    def list(self, **options: str) -> requests.Response:
        return self.get("machineactions", params={f"${name}": value for name, value in options.items()})

    def link(self, action_id: str, index: int | str = 0) -> requests.Response:
        return self.get(f"machineactions/{action_id}/GetLiveResponseResultDownloadLink(index={index})")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextmanager
def serving(tenant: Tenant | None = None, **options: Any) -> Iterator[tuple[Simulator, Client]]:
    with Simulator(tenant or make_tenant(), **options) as sim, requests.Session() as session:
        session.verify = sim.ca_file
        session.trust_env = False  # or REQUESTS_CA_BUNDLE wins over `verify`
        yield sim, Client(sim, session)


def action(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": str(uuid.UUID(int=number)),
        "type": "LiveResponse",
        "title": None,
        "requestor": "SOC scripts",
        "status": "Succeeded",
        "machineId": f"{number:040x}",
        "creationDateTimeUtc": f"2026-01-01T00:00:{number:02}.5Z",
        "lastUpdateDateTimeUtc": f"2026-01-01T01:00:{number:02}Z",
        "commands": [command(0, "RunScript"), command(1, "PutFile"), command(2, "RunScript")],
        **changes,
    }


def command(index: int, kind: str) -> dict[str, Any]:
    return {"index": index, "commandStatus": "Completed", "errors": [], "command": {"type": kind, "params": []}}


def make_tenant(actions: list[dict[str, Any]] | None = None, apps: list[App] | None = None) -> Tenant:
    actions = [action()] if actions is None else actions
    results = {(item["id"], 0): Result(BODY) for item in actions}
    return Tenant(TENANT, apps or [APP], actions, results)


def sign_in(sim: Simulator, tenant: str = TENANT, **changes: str) -> requests.Response:
    form = {
        "grant_type": "client_credentials",
        "client_id": sim.tenant.apps[0].client_id,
        "client_secret": sim.tenant.apps[0].client_secret,
        "scope": sim.token_scope,
        **changes,
    }
    return requests.post(f"{sim.login_url}/{tenant}/oauth2/v2.0/token", form, verify=sim.ca_file, timeout=10)


def names(answer: requests.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [uuid.UUID(item["id"]).int for item in answer.json()["value"]]


# Sign-in


def msal_result(sim: Simulator, monkeypatch: pytest.MonkeyPatch, secret: str) -> dict[str, Any]:
    for name, value in sim.environment().items():
        monkeypatch.setenv(name, value)
    with requests.Session() as session:  # MSAL would leave its own session open
        app = msal.ConfidentialClientApplication(
            APP.client_id,
            client_credential=secret,
            authority=f"{sim.login_url}/{TENANT}",
            instance_discovery=False,
            http_client=session,
        )
        result: dict[str, Any] = app.acquire_token_for_client([sim.token_scope])
    return result


def test_msal_signs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(make_tenant(), token_lifetime=1200) as sim:
        result = msal_result(sim, monkeypatch, APP.client_secret)
        assert result["expires_in"] == 1200
        claims = jwt.decode(result["access_token"], options={"verify_signature": False})
        assert claims["aud"] == "https://api.securitycenter.microsoft.com"
        assert (claims["tid"], claims["appid"], claims["roles"]) == (TENANT, APP.client_id, ["Machine.ReadWrite.All"])
        assert claims["exp"] - claims["iat"] == 1200
        assert [call.endpoint for call in sim.log] == ["discovery", "token"]
        assert result["access_token"] in sim.secrets()


def test_msal_is_told_of_a_wrong_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(make_tenant()) as sim:
        result = msal_result(sim, monkeypatch, "wrong-secret")
        assert result["error"] == "invalid_client"
        assert result["error_description"].startswith("AADSTS7000215: Invalid client secret provided.")
        assert [call.status for call in sim.calls("token")] == [401]


@pytest.mark.parametrize(
    ("changes", "status", "error", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": "rïght-secret"}, 401, "invalid_client", 7000215),
        ({"client_id": STRANGER}, 400, "unauthorized_client", 700016),
        ({"tenant": STRANGER}, 400, "invalid_tenant", 90002),
        ({"scope": "https://graph.microsoft.com/.default"}, 400, "invalid_resource", 500011),
        ({"scope": "Machine.Read.All"}, 400, "invalid_scope", 1002012),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
    ],
)
def test_sign_in_refuses(sim: Simulator, changes: dict[str, str], status: int, error: str, code: int) -> None:
    answer = sign_in(sim, **changes)
    document = answer.json()
    assert (answer.status_code, document["error"], document["error_codes"]) == (status, error, [code])
    assert document["error_description"].startswith(f"AADSTS{code}: ")
    assert {"timestamp", "trace_id", "correlation_id"} <= document.keys()


def test_discovery_of_an_unknown_tenant(sim: Simulator) -> None:
    url = f"{sim.login_url}/contoso.example/v2.0/.well-known/openid-configuration"
    answer = requests.get(url, verify=sim.ca_file, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_tenant")


# The API lets in who has a token


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Simulator, Client]]:
    """For tests that leave no trace in it."""
    actions = [
        action(1, creationDateTimeUtc="2026-01-01T00:00:00Z", status="Failed"),
        action(2, creationDateTimeUtc="2026-01-01T00:00:00.1234567Z", requestor=None),
        action(3, creationDateTimeUtc="2026-01-01T00:00:00.123456Z", type="Isolate", commands=[]),
        action(4, creationDateTimeUtc="2026-01-02T00:00:00.93Z", requestor="O'Brien", status="InProgress"),
    ]
    with serving(make_tenant(actions), calls_per_minute=10_000, calls_per_hour=10_000) as both:
        yield both


@pytest.fixture
def sim(shared: tuple[Simulator, Client]) -> Simulator:
    return shared[0]


@pytest.fixture
def client(shared: tuple[Simulator, Client]) -> Client:
    return shared[1]


def test_api_wants_its_own_valid_token(sim: Simulator, client: Client) -> None:
    good = client.session.headers["Authorization"]
    forged = jwt.encode({"aud": "https://api.securitycenter.microsoft.com"}, "x" * 32, "HS256")
    for header in (
        None,
        "Bearer",
        "Bearer nonsense",
        f"Bearer {forged}",
        str(good)[:-4],
        str(good).replace("Bearer", "B"),
    ):
        answer = client.get("machineactions", headers={"Authorization": header})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["target"]) == (401, "Unauthorized", TENANT), header


def test_a_token_expires_by_the_clock(clock: Clock) -> None:
    with serving(clock=clock, token_lifetime=100) as (_, client):
        clock.now += 99
        assert client.list().status_code == 200
        clock.now += 1
        assert client.list().status_code == 401


@pytest.mark.parametrize(
    ("roles", "status"),
    [(["Machine.Read.All"], 200), (["Machine.ReadWrite.All"], 200), (["Machine.LiveResponse"], 403)],
)
def test_roles(roles: list[str], status: int) -> None:
    with serving(make_tenant(apps=[App(APP.client_id, "s", roles)])) as (sim, client):
        answers = [client.list(), client.get(f"machineactions/{action()['id']}"), client.link(action()["id"])]
        assert [answer.status_code for answer in answers] == [status] * 3
        assert sim.worst_window(60) == 3  # refused for a role is still a call
        if status == 403:
            assert answers[0].json()["error"]["message"] == (
                "Missing application roles. API required roles: Machine.Read.All,Machine.ReadWrite.All, "
                "application roles: Machine.LiveResponse."
            )


# Listing and getting machine actions


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


# Links, and the blobs behind them


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


def download(
    client: Client, change: Callable[[str], str] = str, headers: dict[str, str] | None = None
) -> requests.Response:
    link = client.link(action()["id"]).json()["value"]
    return requests.get(change(link), headers=headers, verify=client.sim.ca_file, timeout=10)


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


# The quota


def statuses(client: Client, calls: int) -> list[int]:
    return [client.list(top="1").status_code for _ in range(calls)]


def test_quota_of_a_minute_is_exact(clock: Clock) -> None:
    with serving(clock=clock) as (sim, client):
        assert statuses(client, 50) == [200] * 50
        clock.now += 51.5
        assert statuses(client, 50) == [200] * 50
        refused = client.link(action()["id"])  # all endpoints share it
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "9")
        assert refused.json()["error"] == {
            "code": "429",
            "message": "API calls quota exceeded! Maximum allowed 100 per 00:01:00 for the key "
            "Destination+TenantID+AppID. You can send requests again in 9 seconds.",
            "target": TENANT,
        }
        clock.now += 8.25
        assert statuses(client, 1) == [429]
        clock.now += 0.25
        assert statuses(client, 51) == [200] * 50 + [429]
        assert sim.worst_window(60) == 100
        assert [call.status for call in sim.log].count(429) == 3


def test_quota_of_an_hour(clock: Clock) -> None:
    with serving(clock=clock, calls_per_minute=5, calls_per_hour=8) as (_, client):
        assert statuses(client, 5) == [200] * 5
        clock.now += 60
        assert statuses(client, 4) == [200] * 3 + [429]
        answer = client.list()
        assert "Maximum allowed 8 per 01:00:00" in answer.text
        assert answer.headers["Retry-After"] == "3540"


def test_rejected_calls_count_when_told_so(clock: Clock) -> None:
    with serving(clock=clock, calls_per_minute=2, count_rejected=True) as (_, client):
        assert statuses(client, 2) == [200] * 2
        clock.now += 59
        assert statuses(client, 2) == [429] * 2
        clock.now += 1
        assert statuses(client, 1) == [429]


def test_each_app_has_its_own_quota(clock: Clock) -> None:
    other = App("bbbbbbbb-0000-0000-0000-000000000002", "another-secret")
    with serving(make_tenant(apps=[APP, other]), clock=clock, calls_per_minute=2) as (sim, client):
        assert statuses(client, 3) == [200, 200, 429]
        settings = sim.settings(other)
        token = sign_in(sim, client_id=settings["client_id"], client_secret=settings["client_secret"]).json()
        client.session.headers["Authorization"] = f"Bearer {token['access_token']}"
        assert statuses(client, 3) == [200, 200, 429]
        assert sim.worst_window(60) == 2


def test_quota_holds_under_concurrency() -> None:
    with serving(calls_per_minute=10, api_latency=(0.0, 0.02)) as (sim, client), ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: statuses(client, 1)[0], range(24)))
        assert sorted(found) == [200] * 10 + [429] * 14
        assert sim.worst_window(60) == 10


def test_worst_window_is_half_open() -> None:
    calls = [
        Call("list", at, "/", "", {}, status, client_id="a")
        for at, status in [(0, 200), (1, 429), (9.9, 200), (10, 200)]
    ]
    assert worst_window(calls, 10) == 2
    assert worst_window(calls, 10.1) == 3
    assert worst_window([], 10) == 0


# Faults


def test_a_rule_fires_as_often_as_it_says() -> None:
    with serving() as (sim, client):
        rule = Rule("list", 503, "<html>Bad gateway</html>", {"X-Edge": "1"}, after=1, times=2)
        sim.rules.append(rule)
        answers = [client.list() for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
        assert answers[1].text == "<html>Bad gateway</html>"
        assert answers[1].headers["Content-Type"].startswith("text/html")
        assert answers[1].headers["X-Edge"] == "1"
        assert (rule.seen, rule.fired) == (4, 2)
        assert [call.status for call in sim.calls("list")] == [200, 503, 503, 200]
        assert client.get(f"machineactions/{action()['id']}").status_code == 200


def test_a_rule_is_about_one_command() -> None:
    with serving(make_tenant([action(1), action(2)])) as (sim, client):
        ids = [str(uuid.UUID(int=number)) for number in (1, 2)]
        sim.rules += [Rule("link", 500, action_id=ids[1], index=0), Rule("blob", 404, action_id=ids[0], index=0)]
        assert [client.link(action_id).status_code for action_id in ids] == [200, 500]
        assert download(client).status_code == 404


@pytest.mark.parametrize("endpoint", ["list", "blob", "token"])
def test_drop(endpoint: str) -> None:
    with serving() as (sim, client):
        calls: dict[str, Callable[[], requests.Response]] = {
            "list": client.list,
            "blob": lambda: download(client),
            "token": lambda: sign_in(sim),
        }
        sim.rules.append(Rule(endpoint, drop=True, times=1))
        with pytest.raises(requests.ConnectionError):
            calls[endpoint]()
        assert sim.calls(endpoint)[-1].status == 0
        assert calls[endpoint]().status_code == 200


@pytest.mark.parametrize("cut", [0, 10])
def test_cut(cut: int) -> None:
    with serving() as (sim, client):
        sim.rules.append(Rule("blob", cut=cut))
        link = client.link(action()["id"]).json()["value"]
        with requests.get(link, verify=sim.ca_file, timeout=10, stream=True) as answer:
            assert answer.headers["Content-Length"] == str(len(BODY))
            with pytest.raises(requests.exceptions.ChunkedEncodingError, match=rf"IncompleteRead\({cut} bytes read"):
                answer.content  # noqa: B018


def test_drip() -> None:
    with serving() as (sim, client):
        sim.rules.append(Rule("blob", drip=0.001))
        assert download(client).content == BODY


@pytest.mark.parametrize("value", [None, "", [], "http://example.com/", {"a": 1}])
def test_value(value: Any) -> None:
    with serving() as (sim, client):
        sim.rules.append(Rule("link", value=value))
        assert client.link(action()["id"]).json()["value"] == value
        assert client.link(STRANGER).status_code == 404


def test_transform() -> None:
    with serving() as (sim, client):
        sim.rules.append(Rule("blob", transform=lambda body: body * 3, headers={"Content-Encoding": "identity"}))
        answer = download(client)
        assert answer.content == BODY * 3
        assert answer.headers["Content-Encoding"] == "identity"


def test_throttled_does_not_fill_the_quota(clock: Clock) -> None:
    with serving(clock=clock, calls_per_minute=2) as (sim, client):
        sim.rules += [
            Rule("list", times=1, **throttled(8)),
            Rule("list", times=1, **throttled(8, "date", in_text=False)),
            Rule("list", times=1, **throttled(8, None)),
        ]
        answers = [client.list() for _ in range(6)]
        assert [answer.status_code for answer in answers] == [429, 429, 429, 200, 200, 429]
        waits = [answer.headers.get("Retry-After") for answer in answers[:3]]
        assert waits == ["8", "Tue, 14 Nov 2023 22:13:28 GMT", None]
        assert ["in 8 seconds." in answer.text for answer in answers[:3]] == [True, False, True]


def test_a_rule_with_a_wrong_endpoint_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no endpoint 'links'"):
        Rule("links")


def test_a_client_may_give_up_on_a_delay() -> None:
    with serving() as (sim, client):
        sim.rules.append(Rule("list", delay=60, times=1))
        with pytest.raises(requests.Timeout):
            client.session.get(f"{sim.api_url}/api/machineactions", timeout=0.1)
        assert client.list().status_code == 200


# The whole


def test_stops_at_once_with_requests_under_way(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    threads = threading.active_count()
    with ThreadPoolExecutor(1) as pool:
        with serving() as (sim, client):
            sim.rules.append(Rule("list", delay=60))
            waiting = pool.submit(client.list)
            while not sim.calls("list") and not waiting.done():
                time.sleep(0.001)
            started = time.monotonic()
        assert time.monotonic() - started < 2
        with pytest.raises(requests.ConnectionError):
            waiting.result(5)
    assert caplog.records == []
    assert threading.active_count() == threads
    assert not Path(sim.ca_file).exists()


def test_links_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("uvicorn.access")
    logger.setLevel(logging.INFO)
    with serving() as (sim, client):
        download(client)
        caught = [record for record in caplog.records if record.name.startswith("uvicorn")]
        assert not any(secret in record.getMessage() for record in caught for secret in sim.secrets())


def test_a_port_in_use_is_told_and_leaves_nothing_behind() -> None:
    with Simulator(make_tenant()) as first:
        port = int(first.api_url.rpartition(":")[2])
        second = Simulator(make_tenant(), ports=(0, port, 0))
        with pytest.raises(OSError, match="in use"):
            second.__enter__()
    with second:
        assert second.api_url == first.api_url


def test_log_of_what_is_unknown(client: Client) -> None:
    assert client.get("machines").status_code == 404
    assert client.session.post(f"{client.sim.api_url}/api/machineactions", timeout=10).status_code == 404
    assert [(call.endpoint, call.path) for call in client.sim.log[-2:]] == [
        ("unknown", "/api/machines"),
        ("unknown", "/api/machineactions"),
    ]


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


def test_command_line(tmp_path: Path) -> None:
    pytest.importorskip("defender_simulator.fleet")
    arguments = [sys.executable, "-m", "defender_simulator", "--ports", "0", "0", "0", "--devices", "3"]
    arguments += ["--calls-per-minute", "7", "--write-config", str(tmp_path / "demo")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        config_file = tmp_path / "demo" / "config.json"
        config = json.loads(config_file.read_text(encoding="utf-8"))
        discovery = f"{config['login_url']}/{config['tenant_id']}/v2.0/.well-known/openid-configuration"
        answer = requests.get(discovery, verify=str(tmp_path / "demo" / "ca.pem"), timeout=10)
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=10)
    assert answer.status_code == 200
    assert lines[1:3] == [
        f"export REQUESTS_CA_BUNDLE={tmp_path}/demo/ca.pem\n",
        f"tap-defender-lr --config {config_file}\n",
    ]
    assert config["calls_per_minute"] == 7
    assert stat.S_IMODE(config_file.stat().st_mode) == 0o600
    assert (process.returncode, rest, errors) == (0, "1 requests: 1 discovery\n", "")
