"""Rules: faults that a test orders."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests

from defender_simulator import Rule, throttled
from tests.simulator.small_tenant import BODY, STRANGER, action, download, make_tenant, serving, sign_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulator.small_tenant import Clock


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
        sim.rules.append(Rule("list", delay=60))
        with pytest.raises(requests.Timeout):
            client.session.get(f"{sim.api_url}/api/machineactions", timeout=0.5)
        sim.rules.clear()
        assert client.list().status_code == 200
