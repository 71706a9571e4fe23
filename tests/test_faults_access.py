"""What holds when the tap is not let in: one sentence that names the thing to change, and no storm of calls."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator
from tests.conftest import CLIENT_ID, Cli, World, action_id
from tests.watching import WatchedCli, check_sentence, fetched, statuses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def make_cli(tmp_path: Path) -> Callable[..., Cli]:
    return lambda simulator, **settings: WatchedCli(tmp_path, simulator, **settings)


def entra(status: int, error: str, number: int, text: str) -> Rule:
    """A refusal as Entra writes it."""
    tail = f" Trace ID: {action_id(1)} Correlation ID: {action_id(2)} Timestamp: 2026-09-21 14:13:20Z"
    document = {"error": error, "error_description": f"AADSTS{number}: {text}{tail}", "error_codes": [number]}
    return Rule("token", status, document)


def refused(endpoint: str, status: int, code: str, message: str) -> Rule:
    return Rule(endpoint, status, {"error": {"code": code, "message": message, "target": action_id(3)}})


MISSING_ROLE = (
    "Missing application roles. API required roles: Machine.Read.All,Machine.ReadWrite.All, "
    "application roles: Machine.LiveResponse."
)
GRANT = ("application permission Machine.ReadWrite.All", "admin consent")


@pytest.mark.parametrize(
    ("rule", "settings", "words", "calls"),
    [
        pytest.param(
            entra(
                401, "invalid_client", 7000222, f"The provided client secret keys for app '{CLIENT_ID}' are expired."
            ),
            {},
            ("The client secret has expired", "set `client_secret`", "AADSTS7000222"),
            {"token": 1},
            id="secret expired",
        ),
        pytest.param(
            None,
            {"client_secret": "the-ID-of-a-secret-not-its-value"},
            ("The client secret is wrong", "`client_secret`", "AADSTS7000215"),
            {"token": 1},
            id="secret wrong",
        ),
        pytest.param(
            None,
            {"client_id": action_id(7)},
            ("check `client_id` and `tenant_id`", "AADSTS700016"),
            {"token": 1},
            id="app not found",
        ),
        pytest.param(
            None, {"tenant_id": action_id(8)}, ("does not know the tenant", "`tenant_id`"), {}, id="tenant unknown"
        ),
        pytest.param(
            entra(400, "invalid_grant", 53003, "Access has been blocked by Conditional Access policies."),
            {},
            ("Conditional access blocks the app", "exclude it from the policy", "AADSTS53003"),
            {"token": 1},
            id="conditional access",
        ),
        pytest.param(
            entra(400, "unauthorized_client", 7000112, f"Application '{CLIENT_ID}'(Backup) is disabled."),
            {},
            ("The app is disabled", "Enterprise applications", "AADSTS7000112"),
            {"token": 1},
            id="app disabled",
        ),
        pytest.param(
            entra(400, "invalid_request", 9999999, "Something new."),
            {},
            ("AADSTS9999999: Something new", "`client_id`"),
            {"token": 1},
            id="a refusal that is not known",
        ),
        pytest.param(
            None,
            {"token_scope": "https://elsewhere.example/.default"},
            ("`token_scope`", "AADSTS500011"),
            {"token": 1},
            id="scope of another resource",
        ),
        pytest.param(
            refused("list", 401, "Unauthorized", "No TVM license"),
            {},
            ("No TVM license", "active Defender for Endpoint licence"),
            {"token": 2, "list": 2},
            id="no licence",
        ),
        pytest.param(
            refused("list", 401, "Unauthorized", "Account mode is inactive"),
            {},
            ("Account mode is inactive", "active Defender for Endpoint licence"),
            {"token": 2, "list": 2},
            id="licence run out",
        ),
        pytest.param(
            refused("list", 403, "Forbidden", MISSING_ROLE), {}, GRANT, {"token": 1, "list": 1}, id="role for the list"
        ),
        pytest.param(
            refused("link", 403, "Forbidden", MISSING_ROLE),
            {},
            GRANT,
            {"token": 1, "list": 1, "link": 8},
            id="role for the link",
        ),
    ],
)
def test_one_sentence_and_few_calls(
    world: World,
    make_cli: Callable[..., Cli],
    *,
    rule: Rule | None,
    settings: dict[str, Any],
    words: tuple[str, ...],
    calls: dict[str, int],
) -> None:
    for number in range(1, 31):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        simulator.rules += [rule] if rule else []
        began = time.monotonic()
        run = make_cli(simulator).run(**settings)
        assert time.monotonic() - began < 30
        made = Counter(call.endpoint for call in simulator.log if call.endpoint != "discovery")
    check_sentence(run, *words)
    assert run.records() == []
    assert made.keys() == calls.keys()
    for endpoint, most in calls.items():
        assert made[endpoint] <= most
    assert "Trace ID" not in next(line for line in run.stderr.splitlines() if "| ERROR" in line)


def test_a_permission_that_is_taken_away_keeps_what_was_read(world: World, make_cli: Callable[..., Cli]) -> None:
    for number in range(1, 31):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator)
        for number in range(17, 31):
            simulator.rules.append(refused("link", 401, "Unauthorized", "Account mode is inactive"))
            simulator.rules[-1].action_id = action_id(number)
        first = cli.run()
        assert len(simulator.calls("link")) <= 16 + 2 * 8
        assert len(simulator.calls("token")) <= 2 + 8
        simulator.rules.clear()
        second = cli.run(state=first.states[-1])
    check_sentence(first, "Account mode is inactive")
    assert statuses(first) == fetched(range(1, 17))
    assert second.code == 0
    assert statuses(first, second) == fetched(range(1, 31))


@pytest.mark.parametrize("endpoint", ["list", "link"])
def test_a_token_refused_once_is_renewed_once(world: World, make_cli: Callable[..., Cli], endpoint: str) -> None:
    for number in range(1, 5):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        simulator.rules.append(Rule(endpoint, 401, times=1))
        run = make_cli(simulator).run()
        assert len(simulator.calls("token")) == 2
    assert run.code == 0
    assert statuses(run) == fetched(range(1, 5))
    assert "ERROR" not in run.stderr
    assert "WARNING" not in run.stderr


def test_a_token_that_expires_in_the_middle_is_renewed_once_for_all_workers(
    world: World, make_cli: Callable[..., Cli]
) -> None:
    for number in range(1, 31):
        world.add(number)
    ahead = [0.0]

    def an_hour_later(_now: float) -> dict[str, str]:
        ahead[0] = 3600.0
        return {}

    with Simulator(world.tenant, link_lifetime=10_000, clock=lambda: time.time() + ahead[0]) as simulator:
        simulator.rules.append(Rule("link", after=9, times=1, headers=an_hour_later))
        run = make_cli(simulator).run()
        assert len(simulator.calls("token")) == 2
        expired = [call for call in simulator.calls("link") if call.status == 401]
    assert run.code == 0, run.stderr
    assert statuses(run) == fetched(range(1, 31))
    assert 1 <= len(expired) <= 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("endpoint", "fault", "words"),
    [
        pytest.param("token", {"status": 503}, "it answers with status 503", id="status 503"),
        pytest.param("token", {"status": 502, "body": "<html>Bad</html>"}, "status 502", id="HTML page"),
        pytest.param("discovery", {"drop": True}, "the connection failed", id="connection reset"),
    ],
)
def test_a_sign_in_host_that_is_ill(
    world: World, make_cli: Callable[..., Cli], endpoint: str, fault: dict[str, Any], words: str
) -> None:
    world.add(1)
    with Simulator(world.tenant) as simulator:
        cli = make_cli(simulator)
        simulator.rules[:] = [Rule(endpoint, times=1, **fault)]
        assert statuses(cli.run()) == fetched([1])
        simulator.rules[:] = [Rule(endpoint, **fault)]
        simulator.clear_log()
        run = cli.run()
        assert len(simulator.calls(endpoint)) <= 6
    check_sentence(run, f"the sign-in host {simulator.login_url} cannot be used", words)
