"""What holds when the service answers badly: each row of the tables is a fault, over real sockets, through the CLI."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator
from defender_simulator.fleet import command
from tests.conftest import NOON, Cli, World, action_id
from tests.watching import FORGED_SIGNATURE, WatchedCli, check_sentence, fetched, reason, statuses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def make_cli(tmp_path: Path) -> Callable[..., Cli]:
    return lambda simulator, **settings: WatchedCli(tmp_path, simulator, **settings)


def bomb(head: bytes, filler: bytes, tail: bytes = b"") -> bytes:
    """100 MB inside 100 KB."""
    return gzip.compress(head + filler * 100_000_000 + tail)


ERROR = {"error": {"code": "InternalServerError", "message": "Something went wrong."}}
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "status 500": ({"status": 500, "body": ERROR}, "status 500"),
    "status 502 with an HTML page": ({"status": 502, "body": "<html><b>Bad gateway</b></html>"}, "status 502"),
    "status 503 with Retry-After": ({"status": 503, "headers": {"Retry-After": "1"}}, "status 503"),
    "connection reset": ({"drop": True}, "the connection failed"),
    "body cut off": ({"cut": 20}, "the answer was cut off"),
    "Content-Length too large": ({"headers": {"Content-Length": "100000"}}, "the answer was cut off"),
    "Content-Length too small": ({"headers": {"Content-Length": "9"}}, "the answer was cut off"),
    "wrong checksum": ({"headers": {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}}, "do not match their checksum"),
    "no JSON": ({"body": "All is well."}, "the answer is not JSON"),
    "JSON cut in half": ({"transform": lambda body: body[: len(body) // 2]}, "the answer is not JSON"),
}
API_FAULTS = {name: fault for name, fault in FAULTS.items() if name != "wrong checksum"}
BLOB_FAULTS = {name: fault for name, fault in FAULTS.items() if "JSON" not in name}
"""A result that is no JSON is no fault of the service: it becomes a row that is `unreadable`."""


@pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, (fault, _) in FAULTS.items()])
def test_a_fault_that_passes_is_not_seen_in_the_output(
    world: World, make_cli: Callable[..., Cli], fault: dict[str, Any]
) -> None:
    for number in range(1, 7):
        world.add(number)
    broken_blob = fault in [fault for fault, _ in BLOB_FAULTS.values()]
    with Simulator(world.tenant) as simulator:
        simulator.rules += [Rule("list", times=1, **fault), Rule("link", action_id=action_id(2), times=1, **fault)]
        if broken_blob:
            simulator.rules.append(Rule("blob", action_id=action_id(4), times=1, **fault))
        run = make_cli(simulator).run()
        counts = [len(simulator.calls(endpoint)) for endpoint in ("list", "link", "blob")]
    assert run.code == 0, run.stderr
    assert statuses(run) == fetched(range(1, 7))
    again = "Content-MD5" not in fault.get("headers", {})
    beyond_the_end = "Content-Length" in fault.get("headers", {}) and fault["headers"]["Content-Length"] == "100000"
    assert counts == [1 + again, 6 + again, 6 + broken_blob + beyond_the_end]


def fail_for_ever(world: World, simulator: Simulator, endpoint: str, faults: dict[str, Any]) -> dict[int, str]:
    """Every second action has a fault of its own for ever, so that none is taken for an outage."""
    reasons = {}
    for number, (fault, words) in enumerate(faults.values(), 1):
        world.add(2 * number)
        world.add(2 * number + 1)
        simulator.rules.append(Rule(endpoint, action_id=action_id(2 * number), **fault))
        reasons[2 * number] = words
    return reasons


@pytest.mark.parametrize(
    ("endpoint", "faults", "tries"),
    [
        pytest.param("link", API_FAULTS, 5, marks=pytest.mark.slow),
        pytest.param("blob", BLOB_FAULTS, 4),
    ],
)
def test_each_fault_for_ever_costs_only_its_own_result(
    world: World, make_cli: Callable[..., Cli], endpoint: str, faults: dict[str, Any], tries: int
) -> None:
    with Simulator(world.tenant) as simulator:
        reasons = fail_for_ever(world, simulator, endpoint, faults)
        cli = make_cli(simulator, max_concurrency=32)
        first = cli.run()
        calls = simulator.calls(endpoint)
        simulator.rules.clear()
        second = cli.run(state=first.states[-1])
    assert first.code == 0, first.stderr
    numbers = range(2, 2 * len(faults) + 2)
    assert statuses(first) == {n: "failed" if n in reasons else "fetched" for n in numbers}
    for number, words in reasons.items():
        assert words in reason(first, number)
        assert f"{tries} times in a row" in reason(first, number)
        # A download is asked to go on where it broke off; where nothing comes after that, it begins anew.
        tried = [call for call in calls if call.action_id == action_id(number) and call.status != 416]
        assert len(tried) == tries
    # Once the service is well, so is the next run.
    assert second.code == 0
    assert statuses(second) == fetched(reasons)


@pytest.mark.slow
def test_a_list_that_never_comes_ends_the_run(world: World, make_cli: Callable[..., Cli]) -> None:
    world.add(1)
    with Simulator(world.tenant) as simulator:
        simulator.rules.append(Rule("list", 502, "<html>Bad gateway</html>"))
        run = make_cli(simulator).run()
        assert len(simulator.calls("list")) == 5
    check_sentence(run, "The list of machine actions cannot be read: status 502, 5 times in a row")


def test_an_outage_is_seen_among_results_that_need_no_call(world: World, make_cli: Callable[..., Cli]) -> None:
    """A script often runs after a file was put: the file has no result, which tells nothing about the service."""
    for number in range(1, 31):
        commands = [command(0, "PutFile", params={"FileName": "a.exe"}), command(1, params={"ScriptName": "a.ps1"})]
        world.add(number, commands=commands)
    with Simulator(world.tenant) as simulator:
        simulator.rules.append(Rule("blob", 403, headers={"x-ms-error-code": "AccountIsDisabled"}))
        cli = make_cli(simulator)
        first = cli.run()
        assert len(simulator.calls("link")) <= 5 + 16
        simulator.rules.clear()
        second = cli.run(state=first.states[-1])
    check_sentence(first, "5 results in a row could not be read", "AccountIsDisabled")
    assert second.code == 0
    found = Counter((row["command_index"], row["result_status"]) for run in (first, second) for row in run.records())
    assert found == {(0, "no_result"): 30, (1, "fetched"): 30}


@pytest.mark.slow
@pytest.mark.parametrize("same_update_time", [False, True])
def test_an_outage_stops_the_run_within_seconds_and_the_next_one_continues(
    world: World, make_cli: Callable[..., Cli], same_update_time: bool
) -> None:
    for number in range(1, 61):
        world.add(number, updated=NOON if same_update_time else None)
    with Simulator(world.tenant, calls_per_minute=1000) as simulator:
        simulator.rules += [Rule("link", 500, ERROR, action_id=action_id(number)) for number in range(21, 61)]
        cli = make_cli(simulator, calls_per_minute=1000)
        began = time.monotonic()
        first = cli.run()
        assert time.monotonic() - began < 60
        # When the fifth one that fails has its turn, number 25, fifteen behind it are begun at most; five tries each.
        tries = Counter(call.action_id for call in simulator.calls("link"))
        assert tries.keys() <= set(map(action_id, range(1, 25 + 16)))
        assert max(tries.values()) == 5
        simulator.rules.clear()
        second = cli.run(state=first.states[-1])
    check_sentence(first, "5 results in a row could not be read", "status 500", "the next run continues here")
    assert statuses(first) == fetched(range(1, 21))
    assert second.code == 0
    assert statuses(first, second) == fetched(range(1, 61))


class TestLinks:
    def test_each_kind_of_answer_has_its_row(self, world: World, make_cli: Callable[..., Cli]) -> None:
        values: list[Any] = [None, "", ["https://localhost/"], {}, f"http://localhost/x?sig={FORGED_SIGNATURE}"]
        for number in range(1, 9):
            world.add(number)
        with Simulator(world.tenant) as simulator:
            simulator.rules += [Rule("link", action_id=action_id(n), value=v) for n, v in enumerate(values, 1)]
            simulator.rules += [
                Rule("link", action_id=action_id(6), transform=lambda body: body.replace(b"&", b"&amp;")),
                Rule("blob", 404, headers={"x-ms-error-code": "BlobNotFound"}, action_id=action_id(7)),
            ]
            run = make_cli(simulator).run()
            calls = [len([c for c in simulator.calls("link") if c.action_id == action_id(n)]) for n in range(1, 9)]
        assert run.code == 0, run.stderr
        assert statuses(run) == dict.fromkeys((1, 2, 3, 4, 5, 7), "unavailable") | fetched((6, 8))
        assert calls == [2, 2, 2, 2, 2, 1, 2, 1]
        for number, words in enumerate(("null", "an empty text", "a list", "an object", "https"), 1):
            assert words in reason(run, number)
        assert "download: status 404 BlobNotFound" in reason(run, 7)

    def test_one_new_link_for_one_that_expired_or_leads_elsewhere(
        self, world: World, make_cli: Callable[..., Cli]
    ) -> None:
        for number in range(1, 7):
            world.add(number)
        late = [0.0]
        seen: list[bytes] = []

        def skip(seconds: float) -> Callable[[float], dict[str, str]]:
            """The answer is on its way for so long: the blob store meets the link that much later."""

            def headers(_now: float) -> dict[str, str]:
                late[0] += seconds
                return {}

            return headers

        def remember(body: bytes) -> bytes:
            seen.append(body)
            return body

        refused: dict[str, Any] = {"status": 403, "headers": {"x-ms-error-code": "AuthenticationFailed"}}
        with Simulator(world.tenant, clock=lambda: time.time() + late[0], link_lifetime=20) as simulator:
            simulator.rules += [
                Rule("link", action_id=action_id(1), transform=remember),
                Rule("link", action_id=action_id(2), times=1, transform=lambda _body: seen[0]),
                Rule("link", action_id=action_id(3), headers=skip(30)),
                Rule("blob", action_id=action_id(4), times=1, **refused),
                Rule("link", action_id=action_id(5), times=1, headers=skip(30)),
            ]
            run = make_cli(simulator, max_concurrency=1).run()
            calls = [len([c for c in simulator.calls("link") if c.action_id == action_id(n)]) for n in range(1, 7)]
        assert run.code == 0, run.stderr
        assert statuses(run) == {**fetched((1, 2, 4, 5, 6)), 3: "failed"}
        assert calls == [1, 2, 2, 2, 2, 1]
        assert reason(run, 3) == "download: status 403 AuthenticationFailed, also with a new link"
        outputs = {r["machine_action_id"]: r["script_output"] for r in run.records()}
        assert outputs[action_id(2)] == "state of 2\n"

    @pytest.mark.slow
    def test_a_link_that_is_not_valid_yet_is_used_a_little_later(
        self, world: World, make_cli: Callable[..., Cli]
    ) -> None:
        """Two servers of the service whose clocks differ: a new link would not be valid any earlier."""
        world.add(1)
        early = [0.0]

        def headers(_now: float) -> dict[str, str]:
            early[0] = 5.0
            return {}

        with Simulator(world.tenant, clock=lambda: time.time() - early[0]) as simulator:
            simulator.rules.append(Rule("link", headers=headers))
            run = make_cli(simulator).run()
            assert (len(simulator.calls("link")), len(simulator.calls("blob"))) == (1, 2)
        assert statuses(run) == fetched([1])


class TestOtherHosts:
    """The token is for the API host only, whatever an answer says."""

    @pytest.mark.parametrize("endpoint", ["list", "link"])
    def test_a_redirect_of_the_api_is_not_followed(
        self, world: World, make_cli: Callable[..., Cli], endpoint: str
    ) -> None:
        world.add(1)
        with Simulator(world.tenant) as simulator:
            elsewhere = f"{simulator.blob_url}/api/machineactions"
            simulator.rules.append(Rule(endpoint, 307, headers={"Location": elsewhere}))
            run = make_cli(simulator).run()
            assert len(simulator.calls(endpoint)) == 1
            self.check_token_stayed(simulator)
        check_sentence(run, "status 307", "Is `api_url` right?")

    def test_a_redirect_of_a_download_is_not_followed(self, world: World, make_cli: Callable[..., Cli]) -> None:
        world.add(1)
        world.add(2)
        with Simulator(world.tenant) as simulator:
            elsewhere = f"{simulator.api_url}/steal?sig={FORGED_SIGNATURE}"
            simulator.rules.append(Rule("blob", 302, headers={"Location": elsewhere}, action_id=action_id(1)))
            run = make_cli(simulator).run()
            self.check_token_stayed(simulator)
        assert run.code == 0
        assert statuses(run) == {1: "failed", 2: "fetched"}
        assert "download: status 302" in reason(run, 1)

    def test_a_next_page_on_another_host_is_asked_for_at_the_right_one(
        self, world: World, make_cli: Callable[..., Cli]
    ) -> None:
        for number in range(1, 7):
            world.add(number)
        with Simulator(world.tenant, page_size=4) as simulator:
            simulator.rules.append(
                Rule("list", times=1, transform=with_next_page(f"{simulator.blob_url}/api/machineactions?$skip=4"))
            )
            run = make_cli(simulator).run()
            assert len(simulator.calls("list")) == 2
            self.check_token_stayed(simulator)
        assert run.code == 0
        assert statuses(run) == fetched(range(1, 7))

    def check_token_stayed(self, simulator: Simulator) -> None:
        assert simulator.calls("unknown") == []
        assert {c.endpoint for c in simulator.log if "authorization" in c.headers} <= {"list", "link"}


def with_next_page(url: str) -> Callable[[bytes], bytes]:
    return lambda body: json.dumps({**json.loads(body), "@odata.nextLink": url}).encode()


def test_a_gzip_bomb_is_read_up_to_the_limit(world: World, make_cli: Callable[..., Cli]) -> None:
    document = bomb(b'{"script_name":"a.ps1","exit_code":0,"script_output":"', b"0", b'"}')
    world.add(1, body=document)
    world.add(2, body=bomb(b"", b"\0"))
    world.add(3)
    world.add(4)
    with Simulator(world.tenant) as simulator:
        # As an encoding of the answer, too: the link, which is a few hundred bytes, would be 100 MB.
        packed: dict[str, Any] = {"body": document, "headers": {"Content-Encoding": "gzip"}}
        simulator.rules.append(Rule("link", action_id=action_id(3), times=1, **packed))
        run = make_cli(simulator, max_output_bytes=100_000).run()
    assert run.code == 0, run.stderr
    assert len(document) < 150_000
    assert statuses(run) == {**fetched((1, 3, 4)), 2: "unreadable"}
    first, second = run.records()[:2]
    assert first["script_output"] == "0" * 100_000
    assert first["script_output_truncated"] is True
    assert first["result_size"] == len(document)
    assert second["script_output_truncated"] is True


class TestListing:
    """Every result arrives, once, whatever happens to the list meanwhile."""

    def add(self, world: World, number: int, **properties: Any) -> None:
        """An action whose record costs no call."""
        put_file = [command(0, "PutFile", "Completed", {"FileName": "a.exe"}, ended=NOON)]
        world.add(number, commands=put_file, body=None, **properties)

    def appear(self, world: World) -> None:
        for number in range(1000, 1003):
            self.add(world, number)

    def vanish(self, world: World) -> None:
        """The newest one goes, so that all others move up."""
        del world.tenant.actions[-1:]

    def end(self, world: World) -> None:
        """Actions end that the first page told as waiting, and one that the last page is going to tell."""
        for number in (240, 3):
            old = next(entry for entry in world.tenant.actions if entry["id"] == action_id(number))
            old.update(status="Succeeded", lastUpdateDateTimeUtc="2026-09-21T14:20:00Z")
            old["commands"][0].update(commandStatus="Completed")

    @pytest.mark.parametrize("change", ["appear", "vanish", "end"])
    def test_actions_change_while_pages_are_read(self, world: World, make_cli: Callable[..., Cli], change: str) -> None:
        for number in range(1, 251):
            self.add(world, number, status="Pending" if number in {240, 3} else "Succeeded")
        page = with_next_page("https://localhost/next")

        def first_page(body: bytes) -> bytes:
            getattr(self, change)(world)
            return page(body)

        with Simulator(world.tenant, page_size=100) as simulator:
            simulator.rules += [Rule("list", times=1, transform=first_page), Rule("list", times=1, transform=page)]
            cli = make_cli(simulator)
            first = cli.run()
            assert len(simulator.calls("list")) == 3
            second = cli.run(state=first.states[-1])
        assert first.code == second.code == 0
        # The first run has all that was there from beginning to end; the second one brings what changed meanwhile.
        assert statuses(first).keys() >= set(range(1, 250)) - {240, 3}
        changed = {"appear": {1000, 1001, 1002}, "vanish": set[int](), "end": {240, 3}}
        assert statuses(first, second).keys() >= changed[change]

    def test_rows_that_show_up_late(self, world: World, make_cli: Callable[..., Cli]) -> None:
        for number in (10, 12):
            self.add(world, number, updated=NOON)
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            first = cli.run()
            self.add(world, 11, updated=NOON)  # the same time as the bookmark, between the others
            self.add(world, 13, updated=NOON)
            self.add(world, 14, updated=NOON - 59 * 60)
            second = cli.run(state=first.states[-1])
            third = cli.run(state=second.states[-1])
        assert statuses(first).keys() == {10, 12}
        assert statuses(second).keys() == {11, 13, 14}
        assert statuses(third) == {}
