"""The process: signals, a reader that goes away, bad input. Whole lines, one sentence, the documented exit code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from typing import IO, TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator, throttled
from defender_simulator.fleet import result_body
from tap_defender_lr import __version__
from tests.conftest import CLIENT_SECRET, Cli, World, action_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Process = subprocess.Popen[bytes]


@pytest.fixture
def simulator(world: World) -> Iterator[Simulator]:
    for number in range(1, 41):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        yield simulator


def start(cli: Cli, *arguments: str, unbuffered: bool = False, **settings: Any) -> Process:
    environment = {**cli.environment, **({"PYTHONUNBUFFERED": "1"} if unbuffered else {})}
    if not unbuffered:
        environment.pop("PYTHONUNBUFFERED", None)
    # Without a buffer here, since `communicate` would not see what it holds.
    return subprocess.Popen(
        cli.command(*arguments, **settings), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )


def read_records(stream: IO[bytes], number: int) -> bytes:
    """Read until so many RECORD lines have come."""
    text = b""
    while number:
        line = stream.readline()
        assert line, "the tap ended too early"
        text += line
        number -= line.startswith(b'{"type":"RECORD"')
    return text


def finish(process: Process, begun: bytes = b"") -> tuple[int, list[dict[str, Any]], str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, [json.loads(line) for line in (begun + out).splitlines()], err.decode()


@pytest.mark.parametrize(
    ("number", "code", "unbuffered"),
    [
        pytest.param(signal.SIGTERM, 143, True),
        pytest.param(signal.SIGINT, 130, False),
        pytest.param(signal.SIGTERM, 143, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("during", ["quota", "throttle", "backoff", "download"])
def test_a_signal_during_a_wait(
    simulator: Simulator,
    make_cli: Callable[..., Cli],
    *,
    during: str,
    number: int,
    code: int,
    unbuffered: bool,
) -> None:
    # The first 8 results, which are fetched at the same time, arrive; the next one begins the wait.
    for action in map(action_id, range(9, 41)):
        rules = {
            "throttle": Rule("link", action_id=action, times=1, **throttled(3000)),
            "backoff": Rule("link", 503, headers={"Retry-After": "100"}, action_id=action),
            "download": Rule("blob", action_id=action, delay=25),
        }
        simulator.rules += [rules[during]] if during in rules else []
    cli = make_cli(simulator)
    process = start(cli, unbuffered=unbuffered, **({"calls_per_minute": 9} if during == "quota" else {}))
    assert process.stdout is not None
    begun = read_records(process.stdout, 6)
    sent = time.monotonic()
    process.send_signal(number)
    returned, messages, stderr = finish(process, begun)
    assert (returned, time.monotonic() - sent < 20) == (code, True), stderr
    assert messages[-1]["type"] == "STATE"
    assert "Traceback" not in stderr
    assert "Stopped by a signal" in stderr
    # What is known to be done is exactly what came out: the rest arrives next run, nothing twice.
    simulator.rules.clear()
    records = [m["record"]["machine_action_id"] for m in messages if m["type"] == "RECORD"]
    later = cli.run(state=messages[-1]["value"], quota_store=str(cli.folder / "other.sqlite"), calls_per_minute=1000)
    rest = [record["machine_action_id"] for record in later.records()]
    assert sorted(records + rest) == [action_id(n) for n in range(1, 41)]


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_signal_during_the_write_of_a_long_record_to_a_slow_reader(
    world: World, simulator: Simulator, make_cli: Callable[..., Cli], unbuffered: bool
) -> None:
    world.give_result(2, 0, result_body("a.ps1", 0, "é" * 4_000_000))
    process = start(make_cli(simulator), unbuffered=unbuffered)
    assert process.stdout is not None
    begun = read_records(process.stdout, 1)
    begun += os.read(process.stdout.fileno(), 1000)  # it is in the middle of the long record, blocked
    process.send_signal(signal.SIGTERM)
    returned, messages, stderr = finish(process, begun)
    assert returned == 143, stderr
    assert len(messages[-2]["record"]["script_output"]) == 4_000_000
    assert messages[-1]["type"] == "STATE"


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_the_first_after_ten_seconds_if_nobody_reads(
    world: World, simulator: Simulator, make_cli: Callable[..., Cli]
) -> None:
    world.give_result(1, 0, result_body("a.ps1", 0, "x" * 4_000_000))
    twice, once = start(make_cli(simulator)), start(make_cli(simulator))
    for process in (twice, once):
        assert process.stdout is not None
        while b"RECORD" not in os.read(process.stdout.fileno(), 100_000):
            pass  # from here on it is blocked in the middle of a record
    sent = time.monotonic()
    once.send_signal(signal.SIGTERM)
    twice.send_signal(signal.SIGTERM)
    while twice.poll() is None and time.monotonic() - sent < 9:
        twice.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            twice.wait(timeout=0.1)
    assert twice.returncode == 143
    assert once.wait(timeout=60) == 143
    assert 9 < time.monotonic() - sent < 60
    for process in (twice, once):
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def test_a_reader_that_goes_away(simulator: Simulator, make_cli: Callable[..., Cli]) -> None:
    process = start(make_cli(simulator))
    assert process.stdout is not None
    assert process.stderr is not None
    read_records(process.stdout, 1)
    process.stdout.close()
    stderr = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=30) == 1
    assert "reader of the output has gone away" in stderr
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr


class TestBadInput:
    """One clear sentence, no traceback, no value of a secret, exit code 1, nothing on stdout."""

    def check(self, run: Any, *words: str) -> None:
        assert run.code == 1
        assert run.stdout == ""
        for word in words:
            assert word in run.stderr
        assert "Traceback" not in run.stderr
        assert CLIENT_SECRET not in run.stderr

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"tenant_id": None}, "`tenant_id` is missing"),
            ({"client_secret": 5}, "`client_secret` must be a text"),
            ({"api_url": "http://localhost"}, "`api_url` must begin with https://"),
            ({"start_date": "2026-02-30"}, "`start_date` is not a date that exists"),
            ({"actions": [{"id": "x"}]}, "`actions[0].id`"),
        ],
    )
    def test_settings(
        self, simulator: Simulator, make_cli: Callable[..., Cli], changes: dict[str, Any], words: str
    ) -> None:
        self.check(make_cli(simulator).run(**changes), words)
        assert simulator.log == []

    def test_files(self, simulator: Simulator, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
        cli = make_cli(simulator)
        broken = tmp_path / "broken.json"
        broken.write_text('{"client_secret": "' + CLIENT_SECRET)
        (tmp_path / "list.json").write_text("[]")
        (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
        (tmp_path / "utf16.json").write_text("{}", encoding="utf-16")
        self.check(cli.run("--config", str(tmp_path / "absent.json")), "absent.json cannot be read (No such file")
        self.check(cli.run("--config", str(tmp_path)), "cannot be read (Is a directory)")
        self.check(cli.run("--config", str(broken)), "broken.json is not valid JSON (line 1")
        self.check(cli.run("--config", str(tmp_path / "list.json")), "list.json must hold a JSON object")
        self.check(cli.run("--config", str(tmp_path / "binary.json")), "is not UTF-8 text")
        self.check(cli.run("--state", str(broken)), "--state", "is not valid JSON")
        self.check(cli.run("--state", str(tmp_path / "utf16.json")), "--state", "is not UTF-8 text")
        self.check(cli.run("--catalog", str(broken)), "--catalog", "is not valid JSON")
        self.check(cli.run("--catalog", str(tmp_path / "absent.json")), "absent.json")
        self.check(cli.run("--nonsense"), "No such option")
        assert simulator.log == []

    def test_no_settings_at_all(self, simulator: Simulator, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
        (tmp_path / "empty.json").write_text("{}")
        cli = make_cli(simulator)
        cli.settings.clear()
        self.check(cli.run(), "`tenant_id` is missing", "`client_id` is missing", "`client_secret` is missing")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"client_secret": "another-secret-than-the-right-one"}, "The client secret is wrong"),
            ({"client_id": action_id(1)}, "check `client_id` and `tenant_id`"),
            ({"tenant_id": action_id(1)}, "does not know the tenant"),
            pytest.param(
                {"login_url": "https://localhost:1"},
                "the sign-in host https://localhost:1 cannot be used",
                marks=pytest.mark.slow,  # it tries three times
            ),
        ],
    )
    def test_sign_in(
        self, simulator: Simulator, make_cli: Callable[..., Cli], changes: dict[str, Any], words: str
    ) -> None:
        run = make_cli(simulator).run(**changes)
        assert run.code == 1
        assert words in run.stderr
        assert len([line for line in run.stderr.splitlines() if "ERROR" in line]) == 1
        assert "Traceback" not in run.stderr
        assert run.records() == []

    def test_an_api_host_that_is_none(self, simulator: Simulator, make_cli: Callable[..., Cli]) -> None:
        run = make_cli(simulator).run(api_url=simulator.login_url)
        assert run.code == 1
        assert "The list of machine actions cannot be read: status 404" in run.stderr
        assert "Traceback" not in run.stderr


def test_version_about_and_help(simulator: Simulator, make_cli: Callable[..., Cli]) -> None:
    cli = make_cli(simulator)
    assert f"tap-defender-lr v{__version__}" in cli.run("--version").stdout
    about = json.loads(cli.run("--about", "--format", "json").stdout)
    assert "tenant_id" in about["settings"]["properties"]
    text = cli.run("--about").stdout
    assert text.startswith(f"tap-defender-lr {__version__}\nSinger tap for ")
    assert "\n  tenant_id (string, required)\n      Entra tenant " in text
    assert "\n  client_secret (string, secret)\n" in text
    assert "\n  calls_per_minute (integer, default 100)\n" in text
    assert re.findall(r"^  (\w+) \(", text, re.MULTILINE) == list(about["settings"]["properties"])
    assert cli.run("--help").code == 0
