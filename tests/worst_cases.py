"""Two days of results with the worst values that a script can print, as the tap's command line brings them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from defender_simulator import App, Result, Rule, Simulator, Tenant
from defender_simulator.fleet import command, machine_action, make_tenant, next_day, result_body
from tests.conftest import CLIENT_ID, CLIENT_SECRET, NOON, TENANT_ID, Cli, action_id
from tests.library_pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Record = dict[str, Any]
UNLIMITED: dict[str, Any] = {"calls_per_minute": 10_000, "calls_per_hour": 10_000}
MAX_OUTPUT_BYTES = 10 * 2**20
"""The default of the tap's setting."""
DAY = 24 * 3600
_UNREADABLE = 900
"""The action whose result cannot be read on the first day."""

TEXTS: dict[str, str] = {
    "every control character": "".join(map(chr, [*range(1, 32), *range(127, 160)])),
    "every plane": "".join(chr(plane * 0x10000 + place) for plane in range(17) for place in (0x41, 0x1234, 0xFFFD)),
    "no characters": "".join(chr(plane * 0x10000 + 0xFFFE + odd) for plane in range(17) for odd in (0, 1)) + "\ufdd0",
    "private use": "\ue000\uf8ff\U000f0000\U0010fffd",
    # A family, the flag of England, two regional letters, a thumb with a skin tone.
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067"
    "\U000e007f\U0001f1e9\U0001f1ea\U0001f44d\U0001f3fd",
    "directions": "\u05e9\u05dc\u05d5\u05dd \u202elive\u202c",
    "accents": "e\u0301\u0323 \ufb01 \u0130\u0131\u017f\xdf \ufeff",
    "quotes": "'\"`''\"\"\"'''$$ $tag$ %s %(name)s :name {name} ?",
    "backslashes": "C:\\new\\table\\x41\\u0041\\N{DASH}\\\\\\",
    "line ends": "\r\na\rb\nc\u2028d\u2029e\x85f\x0bg\x0ch\r\n\r\n",
    "commands of COPY": "\\.\n\\N\n\\.\r\n\t\\.",
    "CSV": '=1+1,"a""b";\'c\'\t|,,\n"',
    "null": "NULL",
    "no number": "NaN",
    "a number": "007.10",
    "a JSON document": '{"a": [1, {"b": null}], "c": "\\u0000"}',
    "no time": "2024-02-30T25:61:61Z",
    "only spaces": " \t ",
    "dirt": "before\x00after \ud83d half",
    "empty": "",
}
_WHOLES = [0, 1, -1, 3221225477, 2**63 - 1, -(2**63)]
_SIZES = ["0.1", "-0.0", "12345678901234567890.123456789", "1e300", "1e-300", "100", "-1.10"]
_MOMENTS = [
    "0001-01-01T00:00:00Z",
    "1969-12-31T23:59:59.9999999Z",
    "2024-02-29T12:30:45.1234567+05:30",
    "9999-12-31T23:59:59.9999999Z",
]
_LONG_KEY = "Schlüssel " + "🔑" * 490
"""Nearly the 2,000 bytes that the tap lets into a key."""

WORST: dict[str, Any] = {
    "name": "worst_values",
    "script_name": "Get-Worst.ps1",
    "format": "jsonl",
    "key_properties": ["machine_id", "name"],
    "schema": {
        "properties": {
            "name": {"type": "string"},
            "text": {"type": "string"},
            "whole": {"type": "integer"},
            "size": {"type": "number"},
            "enabled": {"type": "boolean"},
            "seen": {"type": "string", "format": "date-time"},
            "details": {"type": "object"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "Select Order": {"type": "string"},
            # As long as a name may be: 63 bytes.
            "Größe" + "ä" * 28: {"type": "integer"},
        }
    },
}


def _printed(day: int) -> str:
    """JSON lines: the same keys on both days, but for one, with other values."""
    rows: list[dict[str, Any]] = [
        {"name": name, "text": text, "details": {text or "empty": [text, {"deep": text}]}, "tags": [text, f"{day}"]}
        for name, text in TEXTS.items()
    ]
    rows += [{"name": f"whole {value}", "whole": value, "enabled": value > day} for value in _WHOLES]
    rows += [{"name": f"seen {value}", "seen": value, "whole": day} for value in _MOMENTS]
    rows += [
        {"name": _LONG_KEY, "text": f"day {day}", "Select Order": "by"},
        {"name": "long name", "Größe" + "ä" * 28: day},
        {"name": "nothing"},
        {"name": "empty lists", "details": {}, "tags": []},
        {"name": "unknown column", "Etwas Neues": {"x": day}},
        {"name": f"only on day {day}", "whole": day},
    ]
    lines = [json.dumps(row) for row in rows]
    lines += [f'{{"name": "size {size}", "size": {size}, "whole": {day}}}' for size in _SIZES]
    return "\n".join(lines)


def _raw_body(output: str, errors: str) -> bytes:
    """A result whose texts are written raw, without any escapes: so the most of them fits into a result."""
    return f'{{"exit_code": 0, "script_output": "{output}", "script_errors": "{errors}"}}'.encode()


def _largest(max_bytes: int) -> list[bytes]:
    """Results that become the largest rows: as UTF-8, as JSON (also as ASCII), as CSV."""
    return [
        _raw_body("💥" * (max_bytes // 4 + 1), "🧨" * (max_bytes // 4)),
        _raw_body("\x01" * (max_bytes // 3 + 1), "\x02" * (max_bytes // 3)),
        result_body("Get-State.ps1", 0, '"' * max_bytes, '"' * (max_bytes // 2)),
    ]


def _add(tenant: Tenant, number: int, moment: float, body: bytes, script: str = "Get-State.ps1") -> None:
    ran = command(0, "RunScript", "Completed", {"ScriptName": script}, started=moment - 2, ended=moment - 1)
    action = machine_action(
        action_id=action_id(number),
        created=moment - 60,
        updated=moment,
        commands=[ran],
        machine_id=f"{7:040x}",
        computer_dns_name="wörst-💥.corp.example",
        requestor_comment=TEXTS["quotes"],
        troubleshoot_info={"nested": [{"text": TEXTS["line ends"]}, [[[]]], {}]},
    )
    tenant.actions.append(action)
    tenant.results[action["id"], 0] = Result(body)


def _first_day(tenant: Tenant, max_bytes: int) -> None:
    begin = NOON - 3600
    for number, text in enumerate(TEXTS.values()):
        exit_code = _WHOLES[number % len(_WHOLES)]
        _add(tenant, number, begin + number, result_body("Get-State.ps1", exit_code, text, text[::-1]))
    for number, body in enumerate(_largest(max_bytes), start=200):
        _add(tenant, number, begin + number, body)
    _add(tenant, 300, begin + 300, result_body("Get-Worst.ps1", 0, _printed(1)), "Get-Worst.ps1")
    _add(tenant, _UNREADABLE, begin + 400, result_body("Get-State.ps1", 0, "healed"))


def _second_day(tenant: Tenant) -> None:
    _add(tenant, 301, NOON + DAY - 60, result_body("Get-Worst.ps1", 0, _printed(2)), "Get-Worst.ps1")


@dataclass
class Stream:
    """One stream of the recording."""

    keys: list[str]
    columns: dict[str, dict[str, Any]]
    records: list[Record] = field(default_factory=list)

    def key(self, record: Record) -> tuple[Any, ...]:
        return tuple(record[name] for name in self.keys)

    @property
    def last(self) -> list[Record]:
        """The last record of each key: what a loader that upserts leaves."""
        return list({self.key(record): record for record in self.records}.values())


class Recording:
    """What the tap wrote on two days, a file of Singer messages for each.

    Args:
        fleet: With a whole fleet, its dirt and the script streams of the library, else the worst values alone.
        max_bytes: The setting `max_output_bytes`.
    """

    def __init__(self, folder: Path, *, fleet: bool = False, max_bytes: int = MAX_OUTPUT_BYTES) -> None:
        tenant = make_tenant(devices=40, now=NOON) if fleet else Tenant(TENANT_ID, [App(CLIENT_ID, CLIENT_SECRET)])
        self.days: list[Path] = []
        with Simulator(tenant, **UNLIMITED) as simulator:
            settings: dict[str, Any] = {**UNLIMITED, "max_output_bytes": max_bytes, "files_url": str(folder / "files")}
            entries = [*(page.entry for page in PAGES if fleet), WORST]
            cli = Cli(folder, simulator, script_streams=entries, **settings)
            _first_day(tenant, max_bytes)
            denied = {"x-ms-error-code": "AuthorizationFailure"}
            simulator.rules.append(Rule("blob", 403, action_id=action_id(_UNREADABLE), headers=denied))
            self._run(cli, folder / "day-1.singer")
            simulator.rules.clear()
            if fleet:
                next_day(tenant, devices=40, now=NOON + DAY)
            _second_day(tenant)
            self._run(cli, folder / "day-2.singer")

    def _run(self, cli: Cli, day: Path) -> None:
        state = [message["value"] for message in self.messages() if message["type"] == "STATE"][-1:]
        with day.open("wb") as out:
            subprocess.run(
                cli.command(state=state[0] if state else None),
                env=cli.environment,
                stdout=out,
                stderr=subprocess.DEVNULL,
                check=True,
                timeout=120,
            )
        self.days.append(day)

    def lines(self) -> Iterator[str]:
        for day in self.days:
            with day.open(encoding="utf-8", newline="\n") as lines:
                yield from lines

    def messages(self) -> Iterator[dict[str, Any]]:
        """All messages of all days; numbers keep every digit."""
        for line in self.lines():
            yield json.loads(line, parse_float=Decimal)

    @cached_property
    def streams(self) -> dict[str, Stream]:
        found: dict[str, Stream] = {}
        for message in self.messages():
            if message["type"] == "SCHEMA":
                columns = message["schema"]["properties"]
                stream = found.setdefault(message["stream"], Stream(message["key_properties"], columns))
                assert stream.columns == columns
            elif message["type"] == "RECORD":
                found[message["stream"]].records.append(message["record"])
        return found
