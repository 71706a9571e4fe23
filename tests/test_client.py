"""The API client over real sockets: what each answer means, and what is done about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator, throttled
from tap_defender_lr.auth import Credential
from tap_defender_lr.client import DefenderClient
from tap_defender_lr.errors import (
    NotFoundError,
    PermissionDeniedError,
    ReadFailedError,
    ServiceError,
    SignInError,
    TimeIsUpError,
)
from tap_defender_lr.lifetime import Lifetime
from tap_defender_lr.quota import HOUR, MINUTE, Rate
from tap_defender_lr.quota.ledger import Ledger, Reservation
from tap_defender_lr.quota.sqlite_store import SqliteStore
from tap_defender_lr.settings import JSON_SCHEMA, Settings
from tests.conftest import NOON, World, action_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Clock:
    """Time passes only where somebody waits: ledger and waits share it."""

    def __init__(self) -> None:
        self.now = NOON
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Side:
    """A client and the simulator that it talks to."""

    def __init__(self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        defaults = {name: d.get("default") for name, d in JSON_SCHEMA["properties"].items()}
        self.settings = Settings.from_config({**defaults, **simulator.settings()})
        self.clock = Clock()
        self.ledger = Ledger(SqliteStore(None, clock=self.clock), "a", [Rate(100, MINUTE), Rate(1500, HOUR)])
        self.client = self.within(None)
        self.simulator = simulator

    def within(self, seconds: float | None) -> DefenderClient:
        """A client of a run that may last so long."""
        self.lifetime = Lifetime(seconds, clock=self.clock, sleep=self.clock.sleep)
        self.credential = Credential(self.settings, self.lifetime.wait)
        return DefenderClient(self.settings.api_url, self.credential, self.ledger, self.lifetime)

    def link(self, number: int = 1) -> str:
        return self.client.download_link(action_id(number), 0)


@pytest.fixture
def side(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    for number in range(1, 8):
        world.add(number)
    with Simulator(world.tenant, page_size=10_000) as simulator:
        yield Side(simulator, monkeypatch)


def test_list_with_documented_filter_fields_only(side: Side) -> None:
    listed = list(side.client.machine_actions("2020-01-01T00:00:00.1234567Z"))
    assert len(listed) == 7
    (call,) = side.simulator.calls("list")
    assert "lastUpdate" not in call.query
    assert "2020-01-01T00%3A00%3A00Z" in call.query


def test_a_call_that_is_not_sent_in_time_is_booked_again(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped, or waited long for its sign-in, would send it when its booking counts no more."""
    acquire, stopped_for = side.ledger.acquire, [200.0, 0.0]

    def stopped(wait: Callable[[float], None]) -> Reservation:
        reservation = acquire(wait)
        return replace(reservation, booked_at=reservation.booked_at - stopped_for.pop(0))

    monkeypatch.setattr(side.ledger, "acquire", stopped)
    assert side.link().startswith("https://")
    assert stopped_for == []
    assert len(side.simulator.calls("link")) == side.client.calls == 1
    assert side.ledger.left() == {MINUTE: 98, HOUR: 1498}


def test_what_has_begun_goes_on_when_the_time_is_up(side: Side) -> None:
    """A large file needs a new link after 30 minutes, `max_run_minutes` or not."""
    client = side.within(0.0)
    side.simulator.rules.append(Rule("link", 502, times=2))
    with pytest.raises(TimeIsUpError):
        client.download_link(action_id(1), 0)
    assert client.download_link(action_id(1), 0, begun=True).startswith("https://")
    for _ in range(97):
        side.ledger.settle(side.ledger.acquire(side.clock.sleep))
    began = side.clock.now
    assert client.download_link(action_id(1), 0, begun=True).startswith("https://")
    assert side.clock.now - began > 30


def test_pages_overlap_and_end_with_a_short_one(side: Side, monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr("tap_defender_lr.client.PAGE_SIZE", 100)
    for number in range(100, 350):
        world.add(number, body=None)
    rows = [row["id"] for row in side.client.machine_actions(None)]
    assert len(set(rows)) == 257
    assert [call.query.rpartition("=")[2] for call in side.simulator.calls("list")] == ["0", "99", "198"]


def test_a_full_page_with_an_odd_row_is_not_the_last_one(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tap_defender_lr.client.PAGE_SIZE", 3)
    side.simulator.rules.append(Rule("list", body={"value": [{"id": "a"}, None, {"id": "b"}]}, times=1))
    assert len(list(side.client.machine_actions(None))) == 2 + 7 - 3


def test_a_next_page_link_is_paged_on_but_never_followed(side: Side) -> None:
    """It may lead to another host, and the token must not go there."""
    page = {"value": [{"id": f"{n}"} for n in range(3)], "@odata.nextLink": f"{side.simulator.blob_url}/api/steal"}
    side.simulator.rules.append(Rule("list", body=page, times=1))
    assert len(list(side.client.machine_actions(None))) == 3 + 4
    assert [call.endpoint for call in side.simulator.log if call.endpoint not in ("discovery", "token")] == [
        "list",
        "list",
    ]
    assert "skip=3" in side.simulator.calls("list")[1].query.replace("%24", "")


def test_a_service_that_sends_the_same_page_for_ever(side: Side) -> None:
    page = {"value": [{"id": "1"}], "@odata.nextLink": "https://elsewhere.example/"}
    side.simulator.rules.append(Rule("list", body=page))
    with pytest.raises(ServiceError, match="same page"):
        list(side.client.machine_actions(None))


def test_a_list_that_is_refused(side: Side) -> None:
    side.simulator.rules.append(Rule("list", 400, {"error": {"code": "ODataError", "message": "no such field"}}))
    with pytest.raises(ServiceError, match="status 400 ODataError: no such field"):
        list(side.client.machine_actions(None))


def test_get_one(side: Side) -> None:
    assert side.client.machine_action(action_id(3))["status"] == "Succeeded"
    with pytest.raises(NotFoundError, match="status 404"):
        side.client.machine_action(action_id(99))


def test_link_path_has_literal_parentheses(side: Side) -> None:
    assert side.link().startswith(side.simulator.blob_url)
    (call,) = side.simulator.calls("link")
    assert call.path.endswith("GetLiveResponseResultDownloadLink(index=0)")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        ("", "an empty text"),
        (["https://x"], "a list"),
        ({}, "an object"),
        (5, "something else"),
        ("http://x/y", "not an https"),
        ("https://", "not an https"),
        ("https://h:99999/x", "not an https"),
        ("https://[x", "not an https"),
        ("https://a b/x", "not an https"),
    ],
)
def test_unusable_links(side: Side, value: Any, reason: str) -> None:
    side.simulator.rules.append(Rule("link", value=value))
    with pytest.raises(NotFoundError, match=reason):
        side.link()


def test_a_link_escaped_for_html(side: Side) -> None:
    side.simulator.rules.append(Rule("link", value="https://x/y?a=1&amp;sig=2"))
    assert side.link() == "https://x/y?a=1&sig=2"


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 500, "body": {"error": {"code": "InternalServerError", "message": ""}}},
        {"status": 502, "body": "<html>Bad gateway</html>"},
        {"status": 503, "headers": {"Retry-After": "20"}},
        {"status": 504},
        {"drop": True},
        {"cut": 10},
        {"body": "no json"},
        {"body": "[]"},
    ],
)
def test_what_may_pass_is_tried_again(side: Side, rule: dict[str, Any]) -> None:
    side.simulator.rules.append(Rule("link", times=2, **rule))
    assert side.link().startswith("https://")
    assert len(side.simulator.calls("link")) == 3
    assert side.clock.now - NOON >= (40 if "headers" in rule else 1)


def test_what_does_not_pass_fails_in_the_end_with_its_reason(side: Side) -> None:
    side.simulator.rules.append(Rule("link", 502, "<html>Bad gateway</html>"))
    with pytest.raises(ReadFailedError, match="status 502, 5 times in a row"):
        side.link()
    assert len(side.simulator.calls("link")) == 5
    assert side.clock.now - NOON < 120


@pytest.mark.parametrize(
    ("answer", "waited"),
    [
        (throttled(8), 8),
        (throttled(8, "date"), 8),
        (throttled(8, None), 8),
        (throttled(3600), 3600),
        (throttled(8, None, in_text=False), 5),
    ],
)
def test_throttled(side: Side, answer: dict[str, Any], waited: float) -> None:
    side.simulator.rules.append(Rule("link", times=1, **answer))
    assert side.link()
    assert side.clock.now - NOON == pytest.approx(waited, abs=1.1)


@pytest.mark.parametrize("status", [402, 409, 412, 422])
def test_what_the_service_answers_for_an_odd_command_concerns_only_that_command(side: Side, status: int) -> None:
    side.simulator.rules.append(Rule("link", status))
    with pytest.raises(NotFoundError, match=f"status {status}"):
        side.link()


def test_a_list_without_a_list(side: Side) -> None:
    side.simulator.rules.append(Rule("list", body={"@odata.context": "x"}))
    with pytest.raises(ServiceError, match="holds no list"):
        list(side.client.machine_actions(None))


def test_a_redirect_is_not_followed(side: Side) -> None:
    side.simulator.rules.append(Rule("link", 302, headers={"Location": f"{side.simulator.blob_url}/steal"}))
    with pytest.raises(ServiceError, match="status 302"):
        side.link()
    assert not side.simulator.calls("blob")
    assert not side.simulator.calls("unknown")


def test_a_token_refused_once_is_renewed_silently(side: Side) -> None:
    side.simulator.rules.append(Rule("link", 401, times=1))
    assert side.link()
    assert len(side.simulator.calls("token")) == 2


def test_a_token_refused_for_ever_is_one_sentence(side: Side) -> None:
    body = {"error": {"code": "Unauthorized", "message": "Account mode is inactive"}}
    side.simulator.rules.append(Rule("link", 401, body))
    with pytest.raises(SignInError, match=r"Account mode is inactive.*licence"):
        side.link()
    assert len(side.simulator.calls("link")) == 2


def test_a_missing_role_is_named(side: Side) -> None:
    side.simulator.tenant.apps[0].roles = ["Machine.LiveResponse"]
    with pytest.raises(PermissionDeniedError, match=r"Machine\.ReadWrite\.All.*consent"):
        side.link()
    assert len(side.simulator.calls("link")) == 1


def test_a_token_that_expires_is_renewed_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add(1)
    with Simulator(world.tenant, token_lifetime=60) as simulator:  # MSAL renews what has less than 5 minutes left
        side = Side(simulator, monkeypatch)
        side.link()
        side.link()
        assert len(simulator.calls("token")) == 2
        assert {call.status for call in simulator.calls("link")} == {200}


class TestSignIn:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"client_secret": "wrong-secret-value"}, r"AADSTS7000215|client secret is wrong"),
            ({"client_id": action_id(1)}, "does not know this app"),
            ({"tenant_id": action_id(1)}, "does not know the tenant"),
        ],
    )
    def test_refused(self, side: Side, change: dict[str, Any], words: str) -> None:
        for name, value in change.items():
            object.__setattr__(side.credential._settings, name, value)
        with pytest.raises(SignInError, match=words) as raised:
            side.link()
        assert "wrong-secret-value" not in str(raised.value)
        assert len(side.simulator.calls("link")) == 0

    def test_a_host_that_is_not_there(self, side: Side) -> None:
        object.__setattr__(side.credential._settings, "login_url", "https://localhost:1")
        with pytest.raises(SignInError, match="the connection failed"):
            side.link()

    def test_a_certificate_that_is_not_trusted(self, side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with pytest.raises(SignInError, match="REQUESTS_CA_BUNDLE"):
            side.link()

    def test_a_passing_failure_of_the_sign_in_host(self, side: Side) -> None:
        side.simulator.rules.append(Rule("discovery", 503, times=1))
        assert side.link()
