"""The doctor on the real command line: each step that can fail says what to do, and costs at most three calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator, throttled
from tests.conftest import CLIENT_SECRET, NOON, Cli, World, action_id
from tests.evidence import add_file
from tests.test_faults_service import with_next_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def simulator(world: World) -> Iterator[Simulator]:
    for number in range(1, 31):
        world.add(number)
    world.add(40, status="Pending", updated=NOON + 1000)
    with Simulator(world.tenant) as simulator:
        yield simulator


def examine(cli: Cli, **settings: Any) -> tuple[int, dict[str, dict[str, Any]], str]:
    run = cli.run("--doctor", "--format", "json", **settings)
    assert "Traceback" not in run.stderr
    assert CLIENT_SECRET not in run.stdout + run.stderr
    document = json.loads(run.stdout)
    assert document["works"] == (run.code == 0)
    calls = [call for call in cli.simulator.log if call.endpoint in {"list", "get", "link"}]
    assert len(calls) <= 3
    return run.code, {check["name"]: check for check in document["checks"]}, run.stdout


def test_all_is_well(simulator: Simulator, make_cli: Callable[..., Cli]) -> None:
    code, checks, _ = examine(make_cli(simulator))
    assert code == 0
    names = ("settings", "sign-in", "api", "token", "roles", "list", "result", "quota")
    assert {name: check["status"] for name, check in checks.items()} == dict.fromkeys(names, "ok")
    assert checks["list"]["detail"].startswith(
        "The service lists 31 Live Response actions, 0 of them in the last 4 days"
    )
    assert action_id(30) in checks["result"]["detail"]
    assert "98 calls are left this minute" in checks["quota"]["detail"]
    assert "A first run reads 30 results and takes less than a minute" in checks["quota"]["detail"]


def test_for_a_person(simulator: Simulator, make_cli: Callable[..., Cli]) -> None:
    simulator.tenant.apps[0].roles.append("Machine.LiveResponse")
    run = make_cli(simulator).run("--doctor")
    assert run.code == 0
    lines = run.stdout.splitlines()
    assert lines[0].startswith("ok       settings  Valid: sign-in with client_secret")
    assert lines[-1] == "A run would work."
    assert "→ Not needed, and better taken away: Machine.LiveResponse." in run.stdout


@pytest.mark.parametrize(
    ("settings", "failed", "words"),
    [
        ({"tenant_id": None, "start_date": "soon"}, "settings", "`start_date` is not a date"),
        ({"login_url": "https://localhost:1"}, "sign-in", "cannot be used: the connection failed"),
        ({"api_url": "https://localhost:1"}, "api", "Check the address"),
        ({"client_secret": "another-secret-than-the-right-one"}, "token", "The client secret is wrong"),
        ({"client_id": action_id(1)}, "token", "does not know this app"),
    ],
)
def test_what_fails_says_what_to_do(
    simulator: Simulator, make_cli: Callable[..., Cli], settings: dict[str, Any], failed: str, words: str
) -> None:
    code, checks, printed = examine(make_cli(simulator), **settings)
    assert code == 1
    assert checks[failed]["status"] == "failed"
    assert words in printed
    assert all(check["status"] != "failed" for name, check in checks.items() if name != failed)


def test_a_missing_role_is_told_with_the_place_to_grant_it(simulator: Simulator, make_cli: Callable[..., Cli]) -> None:
    simulator.tenant.apps[0].roles = ["Machine.LiveResponse"]
    code, checks, _ = examine(make_cli(simulator))
    assert code == 1
    assert checks["roles"]["status"] == "failed"
    assert "needs Machine.ReadWrite.All" in checks["roles"]["detail"]
    assert "API permissions" in checks["roles"]["advice"]
    assert checks["list"]["status"] == "failed"


def test_the_older_role_is_tried_with_a_warning(simulator: Simulator, make_cli: Callable[..., Cli]) -> None:
    simulator.tenant.apps[0].roles = ["Machine.Read.All"]
    code, checks, _ = examine(make_cli(simulator))
    assert code == 0
    assert checks["roles"]["status"] == "warning"


def test_an_empty_tenant(world: World, make_cli: Callable[..., Cli]) -> None:
    with Simulator(world.tenant) as simulator:
        code, checks, _ = examine(make_cli(simulator))
    assert code == 0
    assert checks["list"]["status"] == "warning"
    assert "opened by hand in the portal" in checks["list"]["advice"]
    assert checks["result"]["status"] == "skipped"


@pytest.mark.parametrize("code_of_store", ["AuthorizationFailure", "AuthenticationFailed"])
@pytest.mark.parametrize("failed_lists", [0, 1])
def test_a_blob_store_behind_a_firewall(
    simulator: Simulator, make_cli: Callable[..., Cli], *, code_of_store: str, failed_lists: int
) -> None:
    """Told even if there is no call left for a new link."""
    simulator.rules += [
        Rule("list", 503, times=failed_lists),
        Rule("blob", 403, headers={"x-ms-error-code": code_of_store}),
    ]
    code, checks, _ = examine(make_cli(simulator))
    assert code == 1
    assert f"status 403 {code_of_store}" in checks["result"]["detail"]
    assert "blob.core.windows.net" in checks["result"]["advice"]


@pytest.mark.parametrize(
    ("rule", "step", "status", "words"),
    [
        (Rule("list", **throttled(1)), "list", "failed", "status 429; the doctor has made the 2 calls that it may"),
        (Rule("link", **throttled(1)), "result", "failed", "status 429; the doctor has made the 3 calls that it may"),
        (Rule("list", 503), "list", "failed", "status 503; the doctor has made the 2 calls that it may"),
        (Rule("list", **throttled(600)), "list", "skipped", "The service asks to wait: the next call is possible in"),
    ],
    ids=["throttled list", "throttled link", "no list", "a long wait"],
)
def test_a_service_that_fails_costs_no_more_calls(
    simulator: Simulator, make_cli: Callable[..., Cli], *, rule: Rule, step: str, status: str, words: str
) -> None:
    simulator.rules.append(rule)
    code, checks, _ = examine(make_cli(simulator))
    assert code == (status == "failed")
    assert checks[step]["status"] == status
    assert words in checks[step]["detail"]


def test_small_pages_cost_no_more_calls(world: World, make_cli: Callable[..., Cli]) -> None:
    """They overlap. And a look-back that begins before the year 1 is none that fails."""
    for number in range(1, 251):
        world.add(number)
    with Simulator(world.tenant, page_size=100) as simulator:
        simulator.rules.append(Rule("list", transform=with_next_page("https://localhost/next")))
        code, checks, _ = examine(make_cli(simulator, lookback_days=1_000_000))
    assert code == 0
    assert checks["list"]["detail"].startswith("The service lists at least 199 Live Response actions, 199 of them in")
    assert checks["result"]["status"] == "ok"


def test_a_spent_quota_is_not_waited_for(simulator: Simulator, make_cli: Callable[..., Cli]) -> None:
    cli = make_cli(simulator, calls_per_hour=1)
    for step, max_run_minutes in (("result", 1), ("list", None)):
        code, checks, _ = examine(cli, max_run_minutes=max_run_minutes)
        assert code == 0
        assert checks[step]["status"] == "skipped"
        assert checks[step]["detail"] == "The quota is spent: the next call is possible in about 1 h."
        assert "0 this hour" in checks["quota"]["detail"]
    assert checks["result"]["detail"] == "An earlier step has to work first."


def test_a_certificate_that_nobody_trusts(simulator: Simulator, make_cli: Callable[..., Cli]) -> None:
    cli = make_cli(simulator)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        cli.environment.pop(name, None)
    code, checks, _ = examine(cli)
    assert code == 1
    assert "REQUESTS_CA_BUNDLE" in checks["sign-in"]["advice"]
    assert checks["token"]["status"] == "skipped"


def test_collected_files(simulator: Simulator, world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
    """Their store is tried, and none is fetched: it may have gigabytes."""
    add_file(world, 50, b"a memory dump", updated=NOON + 2000)
    code, checks, _ = examine(make_cli(simulator), files_url=str(tmp_path / "evidence"))
    assert code == 0
    assert checks["files"]["status"] == "ok"
    assert f"Collected files go to {tmp_path / 'evidence'}" in checks["files"]["detail"]
    assert list((tmp_path / "evidence").iterdir()) == []
    assert action_id(30) in checks["result"]["detail"]
    assert "A first run reads 31 results" in checks["quota"]["detail"]
