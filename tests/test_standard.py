"""The SDK's standard tests against the simulator, and a snapshot of the catalog that users select from."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from defender_simulator import Simulator
from defender_simulator.fleet import make_tenant
from tap_defender_lr.tap import TapDefenderLr
from tests.conftest import NOON

if TYPE_CHECKING:
    from collections.abc import Iterator


def _reserved(number: int) -> list[socket.socket]:
    """The suite's settings, and so its ports, are fixed when the tests are collected: they are held until then."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    return sockets


RESERVED = _reserved(3)
PORTS = (RESERVED[0].getsockname()[1], RESERVED[1].getsockname()[1], RESERVED[2].getsockname()[1])
TENANT = make_tenant(devices=10, now=NOON)
CONFIG = {
    "tenant_id": TENANT.tenant_id,
    "client_id": TENANT.apps[0].client_id,
    "client_secret": TENANT.apps[0].client_secret,
    "login_url": f"https://localhost:{PORTS[0]}",
    "api_url": f"https://localhost:{PORTS[1]}",
    "quota_store": ":memory:",
}
_Suite: Any = get_tap_test_class(TapDefenderLr, config=CONFIG, suite_config=SuiteConfig(max_records_limit=50))


@pytest.fixture(scope="module", autouse=True)
def simulator() -> Iterator[None]:
    for each in RESERVED:
        each.close()
    with Simulator(TENANT, ports=PORTS) as simulator, pytest.MonkeyPatch.context() as patch:
        for name, value in simulator.environment().items():
            patch.setenv(name, value)
        yield


class TestStandard(_Suite):  # type: ignore[misc]
    """Over loopback only, warnings are errors."""


SNAPSHOT = Path(__file__).parent / "snapshots" / "catalog.json"


def test_the_catalog_is_what_users_know() -> None:
    """A change here changes tables in people's warehouses: say so in the changelog, then write `--discover` to it."""
    assert json.loads(SNAPSHOT.read_text()) == json.loads(TapDefenderLr(config=CONFIG).catalog_json_text)


def test_discovery_needs_no_settings_and_no_network(capsys: pytest.CaptureFixture[str]) -> None:
    TapDefenderLr(validate_config=False, setup_mapper=False).run_discovery()
    assert {s["tap_stream_id"] for s in json.loads(capsys.readouterr().out)["streams"]} == {
        "live_response_results",
        "machine_actions",
    }
