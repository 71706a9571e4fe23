"""Two days of a fleet in warehouses, for the tests of all SQL in the documentation.

A test module that wants them names this one in `pytest_plugins`: they are made once for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.postgres_server import new_server
from tests.warehouses import Fleet, install_loader, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(tmp_path_factory.mktemp("fleet"))


@pytest.fixture(scope="session")
def postgres(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real server into which the real loader has loaded both days: it updates rows by their key."""
    server, psycopg = new_server(), pytest.importorskip("psycopg")
    loader = install_loader(tmp_path_factory.mktemp("loader") / "venv", "target-postgres")
    try:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        settings = {"sqlalchemy_url": url, "default_target_schema": "public"}
        load(loader, tmp_path_factory.mktemp("config") / "config.json", settings, fleet.days)
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            yield connection
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def json_lines(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that the real `target-jsonl` has written on both days: it appends."""
    folder = tmp_path_factory.mktemp("json-lines")
    output = folder / "output"
    output.mkdir()
    loader = install_loader(folder / "venv", "target-jsonl")
    settings = {"destination_path": str(output), "do_timestamp_file": False}
    load(loader, folder / "config.json", settings, fleet.days)
    return output
