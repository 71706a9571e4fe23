"""One measurement of `benchmarks.planning`, as a process of its own.

Usage: python -m benchmarks.planning_process ACTIONS (first | later | state) [SECONDS_BETWEEN]

Everything is the tap's own code, but for the answers of the service: they are made here, page after page, as text that
the client then reads, and kept by nobody. What making them costs is not counted.
"""

from __future__ import annotations

import hashlib
import json
import re
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from defender_simulator.fleet import CLIENT_ID, CLIENT_SECRET, TENANT_ID, command, machine_action
from defender_simulator.shapes import SECOND, timestamp
from tap_defender_lr import planning, timestamps
from tap_defender_lr.client import DefenderClient
from tap_defender_lr.fetching import Fetched
from tap_defender_lr.tap import TapDefenderLr
from tap_defender_lr.text import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tap_defender_lr.streams.planned import PlannedStream

_DAY = 86_400
_DEVICES = 20_000
_SCRIPTS = tuple(f"Get-{what}.ps1" for what in ("Software", "Ports", "Admins", "Tasks", "BitLocker", "Drivers"))
_STREAM: dict[str, Any] = {
    "name": "software",
    "script_name": _SCRIPTS[0],
    "key_properties": ["machine_id", "name"],
    "schema": {"properties": {"name": {"type": "string"}}},
}
_RESULTS_BETWEEN_STATES = 16


@dataclass(frozen=True)
class Listing:
    """Machine actions as a service lists them: the newest first, each with one to three commands.

    Attributes:
        actions: Number of them.
        between: Seconds between the creation of one and of the next.
    """

    actions: int
    between: float
    end: float

    def page(self, skip: int, top: int) -> str:
        numbers = range(self.actions - 1 - skip, max(self.actions - 1 - skip - top, -1), -1)
        return json.dumps({"value": [self._action(number) for number in numbers]})

    def last_update(self, number: int) -> float:
        return self.end - (self.actions - number) * self.between + 30 + number * 7919 % 600

    def stamp(self, number: int) -> str:
        """The last update as the tap writes it."""
        return timestamps.normalize(timestamp(round(self.last_update(number) * SECOND))) or ""

    def action_id(self, number: int) -> str:
        text = hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def commands(self, number: int) -> int:
        return 1 + number % 3

    def _action(self, number: int) -> dict[str, Any]:
        updated = self.last_update(number)
        waits = number % 1000 == 0
        device = number * 31 % _DEVICES
        ran = [
            command(
                index,
                status="Created" if waits else "Completed",
                params={"ScriptName": _SCRIPTS[(number // 3 + index) % len(_SCRIPTS)], "Args": f"-Depth {index}"},
                started=None if waits else updated - 25 + index * 5.1234567,
                ended=None if waits else updated - 21 + index * 5.1234567,
            )
            for index in range(self.commands(number))
        ]
        return machine_action(
            action_id=self.action_id(number),
            status="Pending" if waits else "Succeeded",
            machine_id=hashlib.blake2b(str(device).encode(), digest_size=20).hexdigest(),
            computer_dns_name=f"fra-lt-{device:05d}.corp.contoso.example",
            requestor="FleetInventory",
            requestor_comment=f"weekly inventory, wave {number // 5000}",
            created=updated - 30,
            updated=updated,
            commands=ran,
        )


class Service(DefenderClient):
    """The client, without the network.

    Attributes:
        seconds: CPU time that went into making answers.
    """

    listing: Listing
    seconds = 0.0

    @override
    def _get(self, path: str, query: Mapping[str, str] | None = None, **bounds: Any) -> dict[str, Any]:
        assert query is not None
        begun = time.process_time()
        text = self.listing.page(int(query["$skip"]), int(query["$top"]))
        self.seconds += time.process_time() - begun
        page: dict[str, Any] = parse_json(text)
        return page


class Nothing:
    """In place of the fetcher: the service has no result of anything."""

    def fetch(self, *_: object, **__: object) -> Fetched:
        return Fetched(absent="there is none")


def main() -> None:
    actions, kind = int(sys.argv[1]), sys.argv[2]
    between = float(sys.argv[3]) if len(sys.argv) > 3 else 180 * _DAY / actions
    listing = Listing(actions, between, time.time() - 3600)
    with tempfile.TemporaryDirectory(prefix="tap-defender-lr-benchmark-") as folder:
        tap = _tap(Path(folder), _state(listing) if kind == "later" else {}, listing)
        print(json.dumps(_measure_state(tap) if kind == "state" else _measure(tap)))


def _tap(folder: Path, state: dict[str, Any], listing: Listing) -> TapDefenderLr:
    settings = {
        "tenant_id": TENANT_ID,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "quota_store": str(folder / "quota.sqlite"),
        "script_streams": [_STREAM],
    }
    tap = TapDefenderLr(config=settings, state=state)
    run = tap.run
    run.client = Service("https://localhost", run.credential, run.ledger, run.lifetime)
    run.client.listing = listing
    run.fetcher = Nothing()  # type: ignore[assignment]
    return tap


def _state(listing: Listing) -> dict[str, Any]:
    """What a run leaves that has read everything."""
    end = max(range(listing.actions), key=listing.last_update)
    floor = listing.last_update(end) - planning.OVERLAP_SECONDS - 1
    near = [n for n in range(listing.actions) if listing.last_update(n) >= floor]
    bookmark = {"replication_key": "last_update_date_time_utc", "replication_key_value": listing.stamp(end)}
    results = sorted(
        planning.command_key(listing.action_id(n), index) for n in near for index in range(listing.commands(n))
    )
    done = _listed_actions(listing, near)
    open_actions = sorted(planning.action_key(listing.action_id(n)) for n in range(0, listing.actions, 1000))
    state = {**bookmark, "open": open_actions, "retry": []}
    return {
        "bookmarks": {
            "live_response_results": {**state, "done": results},
            "machine_actions": {**state, "done": done},
            _STREAM["name"]: {**state, "done": results, "reads": planning.fingerprint(_SCRIPTS[0].casefold())},
        }
    }


def _listed_actions(listing: Listing, near: Iterable[int]) -> list[str]:
    waiting = range(0, listing.actions, 1000)
    return sorted(
        planning.fingerprint(
            listing.action_id(n),
            listing.stamp(n),
            "Pending" if n % 1000 == 0 else "Succeeded",
        )
        for n in {*near, *waiting}
    )


def _groups(tap: TapDefenderLr) -> Iterator[PlannedStream]:
    """One stream of each group that is read in one pass, in the order of a run."""
    seen: set[PlannedStream] = set()
    for stream in tap.selected_streams():
        if stream not in seen:
            seen.update(stream.read_with)
            yield stream


def _measure(tap: TapDefenderLr) -> dict[str, Any]:
    """List, plan, and begin to emit, as a run does."""
    begun = time.process_time()
    service = tap.run.client
    assert isinstance(service, Service)
    items = 0
    list(tap.run.batches())  # kept for all streams
    listed = time.process_time() - begun - service.seconds
    for stream in _groups(tap):
        for actions in tap.run.batches():
            for planned in stream.read_with:
                planned.make_plan(actions)
            lines = list(stream.describe_plan())
            assert lines
            for emission in islice(stream.emit(), 100):
                records = list(emission.records)
                assert records or emission.parts
                for part in emission.parts:
                    part.stream.finish(part)
            for planned in stream.read_with:
                planned.state()
                items += len(planned.current_plan.items)
    used = _used(begun, service.seconds)
    left = sum(len(stream.current_plan.left) for stream in tap.selected_streams())
    return {**used, "listing_cpu_seconds": listed, "items": items, "left": left}


def _measure_state(tap: TapDefenderLr) -> dict[str, Any]:
    """Everything is emitted; what of it is remembered, and what remembering costs."""
    results = tap.streams["live_response_results"]
    for actions in tap.run.batches():
        results.make_plan(actions)  # type: ignore[attr-defined]
    plan = results.current_plan  # type: ignore[attr-defined]
    begun = time.process_time()
    largest = 0
    for number, item in enumerate(plan.items, 1):
        plan.emitted(item)
        if number % _RESULTS_BETWEEN_STATES == 0:
            largest = max(largest, len(plan.state()["done"]))
    state = json.dumps(plan.state())
    return {**_used(begun, 0.0), "items": len(plan.items), "state_bytes": len(state), "most_done": largest}


def _used(begun: float, elsewhere: float) -> dict[str, Any]:
    return {"cpu_seconds": time.process_time() - begun - elsewhere, "peak_bytes": _peak_bytes()}


def _peak_bytes() -> int:
    """Of this program alone: on Linux `ru_maxrss` is never less than that of the process which started it."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (kilobytes,) = re.findall(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024


if __name__ == "__main__":
    main()
