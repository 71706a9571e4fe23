"""The life of the server: it starts, logs calls and stops, from Python and from the command line."""

from __future__ import annotations

import json
import logging
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from defender_simulator import Rule, Simulator
from tests.simulator.small_tenant import download, make_tenant, serving

if TYPE_CHECKING:
    from tests.simulator.small_tenant import Client


def test_stops_at_once_with_requests_under_way(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    threads = threading.active_count()
    with ThreadPoolExecutor(1) as pool:
        with serving() as (sim, client):
            sim.rules.append(Rule("list", delay=60))
            waiting = pool.submit(client.list)
            while not sim.calls("list") and not waiting.done():
                time.sleep(0.001)
            started = time.monotonic()
        assert time.monotonic() - started < 10
        with pytest.raises(requests.ConnectionError):
            waiting.result(60)
    assert caplog.records == []
    assert threading.active_count() == threads
    assert not Path(sim.ca_file).exists()


def test_links_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("uvicorn.access")
    logger.setLevel(logging.INFO)
    with serving() as (sim, client):
        download(client)
        caught = [record for record in caplog.records if record.name.startswith("uvicorn")]
        assert not any(secret in record.getMessage() for record in caught for secret in sim.secrets())


def test_a_port_in_use_is_told_and_leaves_nothing_behind() -> None:
    with Simulator(make_tenant()) as first:
        port = int(first.api_url.rpartition(":")[2])
        second = Simulator(make_tenant(), ports=(0, port, 0))
        with pytest.raises(OSError, match="in use"):
            second.__enter__()
    with second:
        assert second.api_url == first.api_url


def test_log_of_what_is_unknown(client: Client) -> None:
    assert client.get("machines").status_code == 404
    assert client.session.post(f"{client.sim.api_url}/api/machineactions", timeout=10).status_code == 404
    assert [(call.endpoint, call.path) for call in client.sim.log[-2:]] == [
        ("unknown", "/api/machines"),
        ("unknown", "/api/machineactions"),
    ]


def test_command_line(tmp_path: Path) -> None:
    pytest.importorskip("defender_simulator.fleet")
    arguments = [sys.executable, "-m", "defender_simulator", "--ports", "0", "0", "0", "--devices", "3"]
    arguments += ["--calls-per-minute", "7", "--write-config", str(tmp_path / "demo")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        config_file = tmp_path / "demo" / "config.json"
        config = json.loads(config_file.read_text(encoding="utf-8"))
        discovery = f"{config['login_url']}/{config['tenant_id']}/v2.0/.well-known/openid-configuration"
        answer = requests.get(discovery, verify=str(tmp_path / "demo" / "ca.pem"), timeout=10)
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    assert answer.status_code == 200
    assert lines[1:3] == [
        f"export REQUESTS_CA_BUNDLE={tmp_path}/demo/ca.pem\n",
        f"tap-defender-lr --config {config_file}\n",
    ]
    assert config["calls_per_minute"] == 7
    assert stat.S_IMODE(config_file.stat().st_mode) == 0o600
    assert (process.returncode, rest, errors) == (0, "1 requests: 1 discovery\n", "")
