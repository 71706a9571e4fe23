"""What holds when the data is dirty, in results and in machine actions: a loader can take every line."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator
from defender_simulator.fleet import command, result_body
from tests.conftest import NOON, Cli, World
from tests.tap_process import Loader, drain, log_of, start

if TYPE_CHECKING:
    from collections.abc import Callable

#: JSON that no loader and no parser of Python can follow to its end.
DEEP = "[" * 10_000 + "]" * 10_000
CONTROLS = "\u202egnp.exe\u202c \u2066x\u2069 \x1b[31mred\x1b[0m \x07\x08\x0b\x0c\x1f\x7f\x85\u2028\u2029\ufeff\ufffe"


class TestDirt:
    def run(self, world: World, make_cli: Callable[..., Cli], *rules: Rule, **settings: Any) -> Loader:
        with Simulator(world.tenant) as simulator:
            simulator.rules[:] = rules
            cli = make_cli(simulator, **settings)
            process = start(cli)
            loader = Loader()
            loader.load(drain(process))
            log = log_of(cli)
        assert process.returncode == 0, log
        assert "Traceback" not in log
        for stream in ("live_response_results", "machine_actions"):
            assert len(loader.rows[stream]) == len(world.tenant.actions)
        return loader

    def test_in_results(self, world: World, make_cli: Callable[..., Cli]) -> None:
        def document(output: str) -> bytes:
            return result_body("a.ps1", 0, output)

        cases: list[tuple[bytes, dict[str, Any]]] = [
            (document("a\x00b\x00\x00c"), {"script_output": "abc"}),
            (b'{"script_output": "a\x00b", "exit_code": 1}', {"script_output": "ab", "exit_code": 1}),
            (document("\ud83d x \ude00"), {"script_output": "\ufffd x \ufffd"}),
            (document("\U0001f600"), {"script_output": "\U0001f600"}),
            (document(CONTROLS), {"script_output": CONTROLS}),
            (b'{"script_output": "caf\xe9 \xff\xc3("}', {"script_output": "caf\ufffd \ufffd\ufffd("}),
            (b"\xf0\x28\x8c\x28 no JSON", {"result_status": "unreadable", "script_output": "\ufffd(\ufffd( no JSON"}),
            (DEEP.encode(), {"result_status": "unreadable", "script_output": DEEP}),
            (b'{"script_output": "still there", "other": ' + DEEP.encode() + b"}", {}),
            (b'{"script_output": ' + DEEP.encode() + b"}", {}),
            (b'{"script_output": ' + b"[" * 970 + b"]" * 970 + b"}", {}),
            (b'{"script_output": "x", "exit_code": 9223372036854775808}', {"exit_code": None, "script_output": "x"}),
            (b'{"script_output": "x", "exit_code": ' + b"9" * 5000 + b"}", {"exit_code": None}),
            (b'{"script_output": "x", "exit_code": NaN}', {"exit_code": None, "script_output": "x"}),
            (b'{"script_output": "x", "exit_code": -Infinity}', {"exit_code": None, "script_output": "x"}),
            (b'{"script_output": [NaN, 1e999, {"a": "\\u0000"}], "exit_code": 0}', {"exit_code": 0}),
            (gzip.compress(document("\x00" * 1_000 + "end")), {"script_output": "end"}),
            (document("é" * 6_000), {"script_output": "é" * 5_000, "script_output_truncated": True}),
            (document("é" * 5_000), {"script_output": "é" * 5_000, "script_output_truncated": False}),
            (b"{" * 50_000, {"result_status": "unreadable", "script_output_truncated": True}),
        ]
        for number, (body, _) in enumerate(cases, 1):
            world.add(number, body=body)
        # `max_output_bytes` is small, so some of them are cut.
        loader = self.run(world, make_cli, max_output_bytes=10_000)
        for number, (body, expected) in enumerate(cases, 1):
            record = loader.results[number]
            assert record["result_size"] == len(body)
            if expected.get("script_output") == DEEP:
                expected = {"script_output": DEEP[:10_000], "script_output_truncated": True}  # noqa: PLW2901
            assert {key: record[key] for key in expected} == expected, number
            if record["result_status"] == "unreadable" or record["exit_code"] is None:
                assert record["result_error"] or b"exit_code" not in body
        assert "still there" in loader.results[9]["script_output"]

    def test_in_actions(self, world: World, make_cli: Callable[..., Cli]) -> None:
        """The list is sent as raw text, since no JSON writer makes such a document."""
        numbers = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", str(2**63), str(-(2**70)), "9" * 3000, "1" * 5000]
        for n, raw in enumerate(numbers, 1):
            entry = command(0, "RunScript", "Completed", {}, ended=NOON)
            entry["command"]["params"] = [{"key": "ScriptName", "value": f"@{n}@"}, {"key": raw[:9], "value": f"@{n}@"}]
            nested = {"a": [f"@{n}@", {"b": f"@{n}@"}]}
            world.add(n, unknown=f"@{n}@", errorHResult=f"@{n}@", relatedFileInfo=nested, commands=[entry])
        world.add(21, unknown="@deep@", relatedFileInfo={"deep": ["@deep@"]}, troubleshootInfo="@deep@")
        odd: dict[str, Any] = {"requestorComment": f"a\x00b@half@{CONTROLS}", "\x00x@half@": ["\x00"]}
        world.add(22, computerDnsName="\x00", **odd)
        world.add(23, title=["a", {"b": 1}], scope=5, externalID=False, cancellationComment={}, errorHResult=True)
        world.add(24, requestor="@bytes@")

        def spoil(body: bytes) -> bytes:
            for n, raw in enumerate(numbers, 1):
                body = body.replace(b'"@%d@"' % n, raw.encode())
            body = body.replace(b'"@deep@"', DEEP.encode())
            return body.replace(b"@half@", b"\\ud83d").replace(b"@bytes@", b"caf\xe9")

        loader = self.run(world, make_cli, Rule("list", transform=spoil))
        others = {number: r["result_error"] for number, r in loader.results.items() if r["result_status"] != "fetched"}
        assert others == {}
        actions = {int(key[:8], 16): row for (key,), row in loader.rows["machine_actions"].items()}
        for n, raw in enumerate(numbers, 1):
            # What is no number for everybody is null, or its digits as text.
            value = raw if raw[-1].isdigit() and "e" not in raw else None
            assert actions[n]["extra"] == {"unknown": value}
            assert actions[n]["related_file_info"] == {"a": [value, {"b": value}]}
            assert actions[n]["error_h_result"] is None
            assert loader.results[n]["command_params"] == {"ScriptName": value, raw[:9]: value}
        assert "nested more than" in json.dumps(actions[21]["extra"])
        assert (actions[22]["requestor_comment"], actions[22]["computer_dns_name"]) == (f"ab\ufffd{CONTROLS}", None)
        assert actions[22]["extra"] == {"x\ufffd": [""]}
        assert (actions[23]["title"], actions[23]["scope"], actions[23]["error_h_result"]) == (None, "5", None)
        assert actions[24]["requestor"] == "caf\ufffd"

    def test_an_action_dated_into_the_future_does_not_hide_later_ones(
        self, world: World, make_cli: Callable[..., Cli]
    ) -> None:
        world.add(1, lastUpdateDateTimeUtc="9999-12-31T23:59:59.9999999Z")
        world.add(2, lastUpdateDateTimeUtc="0001-01-01T00:00:00Z", creationDateTimeUtc="0001-01-01T00:00:00Z")
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            first = cli.run()
            world.add(3, updated=time.time(), created=time.time())
            second = cli.run(state=first.states[-1])
        numbers = [{int(r["machine_action_id"][:8], 16) for r in run.records()} for run in (first, second)]
        assert numbers == [{1, 2}, {3}], first.stderr + second.stderr

    @pytest.mark.slow
    def test_output_of_200_mb(self, world: World, make_cli: Callable[..., Cli]) -> None:
        text = "line of output\n" * (200_000_000 // 15)
        world.add(1, body=result_body("a.ps1", 7, text))
        world.add(2)
        loader = self.run(world, make_cli)
        record = loader.results[1]
        assert (record["result_status"], record["exit_code"]) == ("fetched", 7)
        assert record["result_size"] > 200_000_000
        assert record["script_output"] == text[: 10 * 1024 * 1024]
        assert record["script_output_truncated"]
        assert loader.results[2]["script_output"] == "state of 2\n"
