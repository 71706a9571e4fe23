"""The command line at debug level, watched: after each run nothing that it wrote anywhere holds a secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tests.conftest import Cli, Run, action_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from defender_simulator import Simulator

API = frozenset({"list", "get", "link"})
FORGED_SIGNATURE = "Zm9yZ2VkLXNpZ25hdHVyZQ"
"""Stands in links that a test makes up; as secret as a real one."""


class WatchedCli(Cli):
    """Every run is made at debug level, in a world where each file that it leaves behind can be read."""

    def __init__(self, folder: Path, simulator: Simulator, **settings: Any) -> None:
        super().__init__(folder, simulator, **settings)
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        home = str(folder / "home")
        self.environment |= {
            "TAP_DEFENDER_LR_LOGLEVEL": "DEBUG",
            "TMPDIR": str(self.temporary),
            "HOME": home,
            "XDG_CACHE_HOME": home,
        }

    @override
    def run(self, *arguments: str, state: dict[str, Any] | None = None, **settings: Any) -> Run:
        run = super().run(*arguments, state=state, **settings)
        self._check_secrets(run, {**self.settings, **settings}["client_secret"])
        assert list(self.temporary.iterdir()) == []
        assert "Traceback" not in run.stderr
        keys = [(m["stream"], *key(m["record"])) for m in run.messages if m["type"] == "RECORD"]
        assert len(keys) == len(set(keys))
        return run

    def _check_secrets(self, run: Run, client_secret: str) -> None:
        assert "DEBUG" in run.stderr
        settings = self.folder / "config.json"
        files = [file for file in self.folder.rglob("*") if file.is_file() and file != settings]
        written = "".join(file.read_bytes().decode(errors="replace") for file in files)
        for secret in {*self.simulator.secrets(), client_secret, FORGED_SIGNATURE, "sig="}:
            assert secret not in run.stdout + run.stderr + written


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    return record.get("id"), record.get("machine_action_id"), record.get("command_index")


def statuses(*runs: Run) -> dict[int, str]:
    """`result_status` by number of the action; no result arrives twice, in all these runs together."""
    records = [record for run in runs for record in run.records()]
    found = {int(record["machine_action_id"][:8], 16): record["result_status"] for record in records}
    assert len(found) == len(records)
    return found


def reason(run: Run, number: int) -> str:
    """`result_error` of an action's only command."""
    (found,) = [r["result_error"] for r in run.records() if r["machine_action_id"] == action_id(number)]
    return str(found)


def check_sentence(run: Run, *words: str) -> None:
    """The run ended with exit code 1, STATE, and one sentence, which is the last line of the log.

    After it there may be debug lines, of workers that have not noticed yet.
    """
    assert run.code == 1, run.stderr
    lines = [line for line in run.stderr.splitlines() if re.search(r"\| (INFO|WARNING|ERROR|CRITICAL) +\|", line)]
    assert [line for line in lines if "| ERROR" in line] == lines[-1:]
    for word in words:
        assert word in lines[-1]
    assert [message["type"] for message in run.messages[-1:]] in (["STATE"], [])
    assert run.states or not run.records()


def fetched(numbers: Iterable[int]) -> dict[int, str]:
    return dict.fromkeys(numbers, "fetched")
